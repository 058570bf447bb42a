"""Our own voice button, strip and settings, used as a person uses them in gptme's web UI."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import BrowserContext, Locator, WebSocket, expect

from tests.support.client import VoiceClient
from tests.support.server import TOKEN, GptmeServer, wait_until
from tests.support.speech import Samples
from tests.support.web_ui import SET_UP, WebUi

__all__ = ["VoiceUi", "VoiceWire", "patient", "warm_up"]

# What the page holds of the world, counted from outside: it only looks.
_WATCH = """
window.held = { tracks: [], contexts: [], sockets: [], timers: new Set() };
// All that the strip's word has been, in order: some of it is there for a second only.
window.voiceWords = [];
{
  new MutationObserver(() => {
    const word = document.querySelector('.gptme-voice-word')?.textContent ?? '';
    if (word !== voiceWords.at(-1)) voiceWords.push(word);
  }).observe(document, { subtree: true, childList: true, characterData: true });
  const media = navigator.mediaDevices;
  if (media) {
    const open = media.getUserMedia.bind(media);
    media.getUserMedia = async (wanted) => {
      const stream = await open(wanted);
      held.tracks.push(...stream.getTracks());
      return stream;
    };
  }
  window.AudioContext = class extends window.AudioContext {
    constructor(...options) { super(...options); held.contexts.push(this); }
  };
  window.WebSocket = class extends window.WebSocket {
    constructor(...options) { super(...options); held.sockets.push(this); }
  };
}
"""
_HELD = """() => ({
  tracks: held.tracks.filter((track) => track.readyState === 'live').length,
  contexts: held.contexts.filter((context) => context.state !== 'closed').length,
  running: held.contexts.filter((context) => context.state === 'running').length,
  sockets: held.sockets.filter((socket) => socket.readyState < 2).length,
})"""


def patient(milliseconds: int) -> str:
    """Return a script that makes the page's timers of just this length last a minute.

    For limits that are not what is tested, and that a busy machine passes.
    """
    return f"""{{
      const later = window.setTimeout;
      window.setTimeout = (run, after, ...given) =>
        later(run, after === {milliseconds} ? 60000 : after, ...given);
    }}
    """


def warm_up(server: GptmeServer, **hello: Any) -> None:
    """Hold a session, so that the next one finds a voice process: a page waits ten seconds only.

    Args:
        server: Whose.
        hello: More fields of its `hello`.
    """
    auth = {"Authorization": f"Bearer {server.env['GPTME_SERVER_TOKEN']}"}

    async def session() -> None:
        async with VoiceClient(server.ws_url, auth, hello=hello) as client:
            await client.until(lambda c: c.ready.is_set(), 120)

    def over() -> bool:
        answer = httpx.get(f"{server.url}/api/v2/voice/status", headers=auth, timeout=30)
        return bool(answer.json()["voice_process"]["sessions"] == 0)

    # Not in this thread: Playwright's loop runs in it.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, session()).result()
    assert wait_until(over)


class VoiceWire:
    """What our page and the server have sent each other on one WebSocket (Chromium only)."""

    def __init__(self, socket: WebSocket) -> None:
        self.url = socket.url
        self.audio_times: list[float] = []
        """When each frame of captured audio was sent, by the monotonic clock."""
        self.sent_messages: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self._sent: list[bytes] = []
        self._received: list[bytes] = []
        socket.on("framesent", self._on_sent)
        socket.on("framereceived", self._on_received)

    def sent(self) -> Samples:
        """Return the audio the page has sent."""
        return np.frombuffer(b"".join(self._sent), dtype="<i2")

    def received(self) -> Samples:
        """Return the audio the server has sent."""
        return np.frombuffer(b"".join(self._received), dtype="<i2")

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the server's messages of a type."""
        return [message for message in self.messages if message["type"] == kind]

    def told(self) -> list[str]:
        """Return the types of what the page has said, but for its counts of what was played."""
        return [kind for m in self.sent_messages if (kind := m["type"]) != "played"]

    def played(self) -> int:
        """Return how much of the server's audio the page says it has played, in samples."""
        counts = [m["samples"] for m in self.sent_messages if m["type"] == "played"]
        return int(counts[-1]) if counts else 0

    def _on_sent(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._sent.append(payload)
            self.audio_times.append(time.monotonic())
        else:
            self.sent_messages.append(json.loads(payload))

    def _on_received(self, payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            self._received.append(payload)
        else:
            self.messages.append(json.loads(payload))


class VoiceUi(WebUi):
    """A page with the web UI of `server`, as after its setup wizard.

    Args:
        context: The browser.
        server: The server, whose token is in the address as gptme-server prints it.
        preferences: What is stored of ours in this browser.
        path: The page that is opened.
        scripts: More scripts that run before the page's own.
    """

    def __init__(
        self,
        context: BrowserContext,
        server: GptmeServer,
        preferences: Mapping[str, Any] | None = None,
        path: str = "/",
        scripts: str = "",
    ) -> None:
        self.page = context.new_page()
        self.server = server
        self.wires: list[VoiceWire] = []
        """The WebSockets the page has opened."""
        self.errors: list[str] = []
        """What the page has thrown and nobody caught, and what it has written as an error."""
        self.warnings: list[str] = []
        """What our modules have warned of."""
        self.page.on("websocket", lambda socket: self.wires.append(VoiceWire(socket)))
        self.page.on("pageerror", self._on_error)
        self.page.on("console", self._on_console)
        stored = json.dumps(json.dumps(dict(preferences or {})))
        # Once a page: what it stores itself is there after a reload.
        store = f"""if (location.protocol !== 'about:' && !sessionStorage.getItem('stored')) {{
          sessionStorage.setItem('stored', 'yes');
          localStorage.setItem('gptme-voice', {stored});
        }}"""
        self.page.add_init_script(SET_UP + store + _WATCH + scripts)
        with self.page.expect_response("**/api/v2/auth/cookie"):
            self.page.goto(f"{server.url}{path}#userToken={TOKEN}")
        self.button = self.page.get_by_test_id("gptme-voice-button")
        self.strip = self.page.get_by_test_id("gptme-voice-strip")
        self.settings = self.page.get_by_test_id("gptme-voice-settings")
        self.word = self.strip.locator(".gptme-voice-word")
        self.problem = self.strip.locator(".gptme-voice-problem")
        self.captions = self.strip.locator(".gptme-voice-captions > li")
        self.dialog = self.page.get_by_role("dialog")

    @property
    def wire(self) -> VoiceWire:
        """The newest WebSocket."""
        return self.wires[-1]

    def control(self, name: str) -> Locator:
        """Return a control of the strip by its name."""
        return self.strip.get_by_role("button", name=name, exact=True)

    def begin(self) -> None:
        """Press the button, and wait until it listens and sound runs."""
        self.button.first.click()
        # A slow machine takes its time to load the local backend's models.
        expect(self.word).to_have_text("Listening", timeout=90_000)
        # A browser's sound starts with a stutter; a person, too, takes a moment to begin.
        began = self.page.evaluate("held.contexts[0].currentTime")
        self.page.wait_for_function(
            "(began) => held.contexts[0].currentTime > began + 1", arg=began
        )

    def end(self) -> None:
        """End the session, and wait until it is over."""
        self.control("End voice").click()
        expect(self.button.first).to_have_attribute("aria-pressed", "false")

    @contextmanager
    def showing(self, word: str) -> Iterator[None]:
        """Do something, and wait until the strip has shown `word` since, if for a moment only."""
        before = self.page.evaluate("voiceWords.length")
        yield
        self.page.wait_for_function(
            "([word, before]) => voiceWords.slice(before).includes(word)", arg=[word, before]
        )

    def held(self) -> dict[str, int]:
        """Return how many tracks, contexts (and running ones) and sockets the page holds."""
        counts: dict[str, int] = self.page.evaluate(_HELD)
        return counts

    def holds_nothing(self) -> bool:
        """Whether all that a session takes has been given back."""
        counts = self.held()
        return not (counts["tracks"] or counts["running"] or counts["sockets"])

    def go(self, path: str) -> None:
        """Go to another page of the web UI, without loading it anew."""
        self.page.evaluate(
            """(path) => { history.pushState({}, '', path);
            dispatchEvent(new PopStateEvent('popstate', { state: {} })); }""",
            path,
        )

    def open_audio_settings(self) -> None:
        """Open Settings > Audio in the dialog."""
        self.page.get_by_label("Open settings").click()
        self.choose_tab("Audio")

    def choose_tab(self, name: str) -> None:
        """Show a category in the open settings."""
        self.dialog.get_by_role("button", name=name).filter(visible=True).first.click()

    def close_settings(self) -> None:
        """Close the settings."""
        self.page.keyboard.press("Escape")
        expect(self.dialog).to_have_count(0)

    def _on_error(self, error: Any) -> None:
        # Firefox runs what is to come before the page in the empty one as well, where it may not.
        if self.page.url != "about:blank":
            self.errors.append(str(error))

    def _on_console(self, message: Any) -> None:
        if "gptme-voice-plugin" in message.text:
            (self.errors if message.type == "error" else self.warnings).append(message.text)
