"""The loudspeaker is heard by the microphone, as in a room: gptme must not interrupt itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import phrases, silent_for
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply
from tests.support.pulse import PulseAudio, write_wav
from tests.support.server import GptmeServer
from tests.support.voice_ui import VoiceUi

pytestmark = pytest.mark.browser

RATE = 48_000
REPLY_SECONDS = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    reply = Reply(seconds=REPLY_SECONDS)
    with ExitStack() as stack:
        fake = stack.enter_context(FakeOpenAI(replies=lambda turn: reply, speed=9).in_thread())
        yield stack.enter_context(
            GptmeServer(
                tmp_path_factory.mktemp("server"),
                config=f'backend = "openai"\nopenai_base_url = "{fake.url}"',
                env={"OPENAI_API_KEY": "test"},
            )
        )
        assert not fake.problems


def ask(ui: VoiceUi, pulse: PulseAudio) -> None:
    """Ask something; returns when the reply begins, and nothing was cut by then."""
    ui.begin()
    with pulse.speaking(phrases(RATE, 1.5)):
        expect(ui.word).to_have_text("Speaking", timeout=20_000)


@pytest.mark.parametrize("decibels", [-20, pytest.param(-30, marks=pytest.mark.soak)])
def test_a_long_reply_does_not_interrupt_itself(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio, artifacts: Path, decibels: int
) -> None:
    """It is spoken to its end, from the very first second, with the browser's own settings."""
    ui = VoiceUi(context, server)
    with (
        pulse.echo(decibels),
        pulse.record("spk") as speakers,
        pulse.record("micin") as microphone,
    ):
        ask(ui, pulse)
        spoken_to = len(ui.wire.of("speech_started"))
        ui.page.wait_for_timeout(REPLY_SECONDS * 1000)
        expect(ui.word).to_have_text("Listening", timeout=10_000)
        ui.wait_until(lambda: silent_for(speakers, 0.5), 10, "silence after the reply")
        write_wav(artifacts / "speakers.wav", speakers.samples(), RATE)
        write_wav(artifacts / "microphone.wav", microphone.samples(), RATE)
        write_wav(artifacts / "sent.wav", ui.wire.sent(), 24_000)
    assert len(ui.wire.of("speech_started")) == spoken_to
    assert not ui.wire.of("clear")
    assert ui.wire.received().size == REPLY_SECONDS * 24_000
    ui.end()


def test_without_protection_the_echo_is_a_voice(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio
) -> None:
    """The other side of the test above: the same echo does interrupt, if nothing is done."""
    ui = VoiceUi(context, server, {"echoCancellation": False, "noiseSuppression": False})
    with pulse.echo(-20):
        ask(ui, pulse)
        ui.wait_until(lambda: bool(ui.wire.of("clear")), 10, "gptme interrupts itself")
    ui.end()


@pytest.mark.parametrize(
    "after",
    [pytest.param(0.7, id="early"), pytest.param(4.0, id="settled", marks=pytest.mark.soak)],
)
def test_a_real_voice_interrupts(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio, artifacts: Path, after: float
) -> None:
    """While echo cancellation is still learning, and afterwards."""
    ui = VoiceUi(context, server)
    with pulse.echo(-25), pulse.record("spk") as speakers:
        ask(ui, pulse)
        ui.page.wait_for_timeout(after * 1000)
        assert not ui.wire.of("clear"), "it has interrupted itself"
        with pulse.speaking(phrases(RATE, 2.5, seed=2)):
            ui.wait_until(lambda: bool(ui.wire.of("clear")), 20, "the voice interrupts")
            expect(ui.word).to_have_text("Listening")
        write_wav(artifacts / "speakers.wav", speakers.samples(), RATE)
        write_wav(artifacts / "sent.wav", ui.wire.sent(), 24_000)
    ui.end()
