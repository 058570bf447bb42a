"""gptme's own web UI, used as a person uses it."""

from __future__ import annotations

import json

import numpy as np
from playwright.sync_api import BrowserContext, WebSocket, expect

from tests.support.server import TOKEN, GptmeServer
from tests.support.speech import Samples
from tests.support.web_ui import SET_UP, WebUi

__all__ = ["StockUi", "Wire"]

# It only looks: every AudioContext is as the page made it.
_WATCH_CONTEXTS = """
window.audioContexts = [];
window.AudioContext = class extends window.AudioContext {
  constructor(...options) { super(...options); window.audioContexts.push(this); }
};
"""

# Noise suppression takes the steady tones out of synthetic speech, and gain control rides on it:
# then the browser changes what was said, before the page has it.
_PLAIN_MICROPHONE = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = (wanted) => open({ ...wanted, audio: {
  echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
"""


# With our button switched off: the stock one is in its place.
_OURS_OFF = """localStorage.setItem('gptme-voice', '{"showButton":false}');"""


class Wire:
    """What the page and the server have sent each other on one WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self.url = socket.url
        self.interruptions = 0
        """How often the server has told the page to fall silent."""
        self._sent: list[bytes] = []
        self._replies: list[list[bytes]] = [[]]
        socket.on("framesent", self._on_sent)
        socket.on("framereceived", self._on_received)

    def sent(self) -> Samples:
        """Return the audio the page has sent, 16 kHz."""
        return np.frombuffer(b"".join(self._sent), dtype="<i2")

    def reply(self) -> Samples:
        """Return the audio the server has sent since the last interruption, 24 kHz."""
        return np.frombuffer(b"".join(self._replies[-1]), dtype="<i2")

    def _on_sent(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._sent.append(payload)

    def _on_received(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._replies[-1].append(payload)
        elif json.loads(payload)["type"] == "audio_end":
            self.interruptions += 1
            self._replies.append([])


class StockUi(WebUi):
    """A page with the web UI of `server`, as after its setup wizard.

    Args:
        context: The browser.
        server: The server, whose token is in the address as gptme-server prints it.
        plain_microphone: Whether the browser is to leave what the microphone hears as it is.
    """

    def __init__(
        self, context: BrowserContext, server: GptmeServer, plain_microphone: bool = False
    ) -> None:
        self.page = context.new_page()
        self.wires: list[Wire] = []
        """The WebSockets the page has opened."""
        self.errors: list[str] = []
        """What the page has thrown and nobody caught."""
        self.page.on("websocket", lambda socket: self.wires.append(Wire(socket)))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.add_init_script(
            SET_UP + _OURS_OFF + _WATCH_CONTEXTS + _PLAIN_MICROPHONE * plain_microphone
        )
        with self.page.expect_response("**/api/v2/auth/cookie"):
            self.page.goto(f"{server.url}/#userToken={TOKEN}")
        self.dialog = self.page.get_by_role("dialog")
        expect(self.dialog).to_have_count(0)
        self.start = self.page.get_by_label("Start voice session")
        self.stop = self.page.get_by_label("Recording — click to stop")

    @property
    def wire(self) -> Wire:
        """The newest WebSocket."""
        return self.wires[-1]

    def open_audio_settings(self) -> None:
        """Open Settings > Audio."""
        self.page.get_by_label("Open settings").click()
        self.dialog.get_by_role("button", name="Audio").filter(visible=True).click()

    def type_voice_url(self, url: str) -> None:
        """Type the address into the field of the open settings."""
        field = self.dialog.locator("#voice-server-url")
        field.click()
        field.press_sequentially(url)
        expect(field).to_have_value(url)

    def close_settings(self) -> None:
        """Close the settings."""
        self.page.keyboard.press("Escape")
        expect(self.dialog).to_have_count(0)

    def begin_session(self) -> None:
        """Press the voice button, and wait until it records and sound runs."""
        before = self.page.evaluate("window.audioContexts.length")
        self.start.click()
        expect(self.stop).to_be_visible(timeout=30_000)
        # A browser's sound starts with a stutter; a person, too, takes a moment to begin.
        self.page.wait_for_function(
            """(before) => { const made = window.audioContexts.slice(before);
            return made.length >= 2 && made.every((c) => c.currentTime > 1); }""",
            arg=before,
        )

    def end_session(self) -> None:
        """Press the button again, and wait until it offers a new session."""
        self.stop.click()
        expect(self.start).to_be_visible(timeout=30_000)

    def sample_rates(self) -> set[float]:
        """Return the sample rates of the page's AudioContexts."""
        return set(self.page.evaluate("window.audioContexts.map((c) => c.sampleRate)"))
