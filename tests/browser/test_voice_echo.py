"""The loudspeaker is heard by the microphone, as in a room: gptme must not interrupt itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts, phrases, silent_for
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply
from tests.support.hearing import LOUD, WINDOW, compare, levels
from tests.support.pulse import PulseAudio, Recorder, write_wav
from tests.support.server import GptmeServer
from tests.support.speech import Samples, best_match, resampled
from tests.support.voice_ui import VoiceUi, warm_up

pytestmark = pytest.mark.browser

RATE = 48_000
REPLY_SECONDS = 10.0
ASKED_SECONDS = 1.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    reply = Reply(seconds=REPLY_SECONDS)
    with ExitStack() as stack:
        fake = stack.enter_context(FakeOpenAI(replies=lambda turn: reply, speed=9).in_thread())
        running = stack.enter_context(
            GptmeServer(
                tmp_path_factory.mktemp("server"),
                # Sound that a busy browser leaves out is not the end of a turn.
                config=f'backend = "openai"\nopenai_base_url = "{fake.url}"\nsilence_ms = 1500',
                env={"OPENAI_API_KEY": "test"},
            )
        )
        warm_up(running)
        yield running
        assert not fake.problems


def ask(ui: VoiceUi, pulse: PulseAudio) -> None:
    """Ask something; returns when the reply begins, and nothing was cut by then."""
    ui.begin()
    with pulse.speaking(phrases(RATE, ASKED_SECONDS)):
        expect(ui.word).to_have_text("Speaking", timeout=20_000)


def whole(part: Samples, recorded: Samples) -> bool:
    """Whether a part of what was said is in a recording, and no 20 ms of it are missing."""
    if recorded.size < part.size:
        return False
    if part.size >= WINDOW * RATE and not compare(part, recorded, RATE).good:
        return False
    correlation, start = best_match(part, recorded)
    # But for the very beginning, which may be faded in.
    said = levels(part, RATE, 0.01)[2:]
    heard = levels(recorded[start : start + part.size], RATE, 0.01)[2:]
    ratios = (heard / np.maximum(said, 1.0))[said > LOUD]
    return bool(correlation > 0.9 and ratios.min() > 0.3 * np.median(ratios))


def undisturbed(heard: int, speakers: Samples, microphone: Samples) -> bool:
    """Whether `heard` samples of the reply were played, and the microphone got all there was."""
    # Earlier no echo can have come back: what is cut so soon was cut by what was asked.
    if heard < 0.3 * 24_000:
        return False
    reply = resampled(Reply(seconds=REPLY_SECONDS).samples(24_000), 24_000, RATE)
    # What is told of the end is some moments old, and the end itself fades out.
    part = reply[: heard * RATE // 24_000 - RATE // 5]
    asked = phrases(RATE, ASKED_SECONDS)
    return whole(part, speakers) and whole(part, microphone) and whole(asked, microphone)


@pytest.mark.parametrize("decibels", [-20, pytest.param(-30, marks=pytest.mark.soak)])
def test_a_long_reply_does_not_interrupt_itself(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio, artifacts: Path, decibels: int
) -> None:
    """It is spoken to its end, from the very first second, with the browser's own settings.

    Sound with holes in it is another echo than the browser has learned: then it is tried again.
    """
    for attempt in attempts():
        ui = VoiceUi(context, server)
        with (
            pulse.echo(decibels),
            pulse.record("spk") as speakers,
            pulse.record("micin") as microphone,
        ):
            ask(ui, pulse)
            spoken_to = len(ui.wire.of("speech_started"))
            heard = hear_to_the_end(ui, speakers)
            write_wav(artifacts / f"{attempt}-speakers.wav", speakers.samples(), RATE)
            write_wav(artifacts / f"{attempt}-microphone.wav", microphone.samples(), RATE)
            write_wav(artifacts / f"{attempt}-sent.wav", ui.wire.sent(), 24_000)
        voices = len(ui.wire.of("speech_started")) - spoken_to
        interrupted = bool(ui.wire.of("clear")) or voices > 0
        print(f"attempt {attempt}: {heard / 24_000:.2f} s heard, {spoken_to} + {voices} voices")
        received = ui.wire.received().size
        ui.end()
        ui.page.close()
        if not interrupted:
            assert received == REPLY_SECONDS * 24_000
            break
        good = undisturbed(heard, speakers.samples(), microphone.samples())
        assert not good, "it interrupts itself"
    assert not interrupted, "it is interrupted each time"


def hear_to_the_end(ui: VoiceUi, speakers: Recorder) -> int:
    """Hear the reply until it ends or is cut; return how much of it was heard, in samples."""
    everything = round(REPLY_SECONDS * 24_000)

    def over() -> bool:
        return bool(ui.wire.of("clear")) or ui.wire.played() >= everything

    ui.wait_until(over, REPLY_SECONDS + 20, "the end of the reply")
    heard = ui.wire.played()
    if not ui.wire.of("clear"):
        expect(ui.word).to_have_text("Listening", timeout=20_000)
        ui.wait_until(lambda: silent_for(speakers, 0.5), 20, "silence after the reply")
    return heard


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
