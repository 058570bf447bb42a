"""A person talks through the web UI that gptme ships, with the voice button it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.support.browser import chromium
from tests.support.hearing import (
    LEVEL_WINDOW,
    LOUD,
    Match,
    compare,
    levels,
    loud_stretches,
    worklet_copy,
)
from tests.support.pulse import PulseAudio, Recorder, write_wav
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import Samples, speech_like
from tests.support.stock_ui import StockUi, Wire

pytestmark = pytest.mark.browser

ATTEMPTS = 4
"""A machine that is too busy loses sound outside of what is tested; that is tried again."""
MORE_SECONDS = 100.0
"""As long as less has passed there may be more attempts, twice as many at most."""
INTERRUPT_SECONDS = 0.7
"""From the first sound of a voice to silence, both sound cards and a busy machine included."""


def attempts(seconds: float = MORE_SECONDS) -> Iterator[int]:
    """Count attempts, from 1; more than `ATTEMPTS` only while fewer than `seconds` have passed."""
    began = time.monotonic()
    for attempt in range(1, 2 * ATTEMPTS + 1):
        if attempt > ATTEMPTS and time.monotonic() - began > seconds:
            return
        yield attempt


def phrases(rate: int, seconds: float, seed: int = 1) -> Samples:
    """Speech with the pauses of speech: a sound that goes on is background to the echo backend."""
    speech = speech_like(rate, seconds, seed)
    t = np.arange(speech.size) / rate
    sounding = (t % 1.3 < 1.1) | (t > seconds - 0.5)
    return np.where(sounding, speech, 0).astype(np.int16)


def ready_to_talk(ui: StockUi, server: GptmeServer, artifacts: Path) -> None:
    ui.open_audio_settings()
    ui.type_voice_url(server.ws_url)
    ui.page.screenshot(path=artifacts / "settings.png")
    ui.close_settings()
    ui.page.screenshot(path=artifacts / "ready.png")


def no_session(server: GptmeServer) -> bool:
    return server.status()["voice_process"]["sessions"] == 0


def silent_for(recorder: Recorder, seconds: float) -> bool:
    recent = levels(recorder.samples(), recorder.rate)[-round(seconds / LEVEL_WINDOW) :]
    return bool((recent < LOUD).all())


@pytest.mark.parametrize("rate", [pytest.param(44_100, marks=pytest.mark.soak), 48_000])
def test_the_reply_is_what_was_said(server: GptmeServer, artifacts: Path, rate: int) -> None:
    """What comes out of the speakers is what went into the microphone, from end to end."""
    speech = phrases(rate, 7.0)
    with PulseAudio(rate) as pulse, chromium(pulse.env) as context:
        ui = StockUi(context, server, plain_microphone=True)
        ready_to_talk(ui, server, artifacts)
        for attempt in attempts():
            heard = talk(ui, pulse, speech, artifacts)
            ui.end_session()
            assert wait_until(lambda: no_session(server)), "the session outlives the button"
            write_wav(artifacts / f"{attempt}-speakers.wav", heard, rate)
            write_wav(artifacts / f"{attempt}-sent.wav", ui.wire.sent(), 16_000)
            write_wav(artifacts / f"{attempt}-reply.wav", ui.wire.reply(), 24_000)
            captured, match = judge(ui.wire, speech, heard, rate)
            print(f"attempt {attempt}: speakers {match}; captured {captured}")
            if captured.good and match.good:
                break
        assert ui.sample_rates() == {rate}
        assert [wire.url for wire in ui.wires] == [server.ws_url] * attempt
        assert not urlsplit(ui.wire.url).query, "the cookie alone must be enough"
        assert not ui.errors
    assert ui.wire.interruptions == 0
    assert captured.good, f"the browser lost what was said: {captured}"
    assert match.good, f"the speakers: {match}"
    assert_silent_around(heard, match, rate)


def talk(ui: StockUi, pulse: PulseAudio, speech: Samples, artifacts: Path) -> Samples:
    """Say `speech` in a new session; return what the speakers play until they are silent.

    Nobody can answer what the page did not get: that may go without an answer.
    """
    with pulse.record("spk") as speakers:
        ui.begin_session()
        ui.page.screenshot(path=artifacts / "recording.png")
        with pulse.speaking(speech):
            ui.page.wait_for_timeout(speech.size / pulse.rate * 1000)
        try:
            ui.wait_until(
                lambda: not silent_for(speakers, 60) and silent_for(speakers, 1.5),
                40,
                "an answer, and silence after it",
            )
        except AssertionError:
            if compare(worklet_copy(speech, pulse.rate, 16_000), ui.wire.sent(), 16_000).good:
                raise
        heard = speakers.samples()
    return heard


def judge(wire: Wire, speech: Samples, heard: Samples, rate: int) -> tuple[Match, Match]:
    """Return how well the page captured `speech`, and how well the speakers played the reply.

    In between is the server, and it may spoil nothing, however busy the machine is: if the page
    sent it the speech, it has sent the speech back. What the page loses before and after that is
    not the server's, and another attempt may tell more.
    """
    captured = compare(worklet_copy(speech, rate, 16_000), wire.sent(), 16_000)
    if captured.good:
        replied = compare(worklet_copy(speech, rate, 24_000), wire.reply(), 24_000)
        assert replied.good, f"the server's reply ({wire.interruptions=}): {replied}"
    return captured, compare(worklet_copy(speech, rate), heard, rate)


def assert_silent_around(heard: Samples, match: Match, rate: int) -> None:
    """Nothing was played but the speech."""
    margin = rate // 5
    for rest in (heard[: max(0, match.start - margin)], heard[match.end + margin :]):
        assert not (levels(rest, rate) > LOUD).any()


@pytest.mark.soak
def test_speaking_over_the_reply_silences_it(server: GptmeServer, artifacts: Path) -> None:
    """The reply stops at once, its rest never comes, and the new words are answered whole."""
    rate = 48_000
    first, second = phrases(rate, 6.0), phrases(rate, 2.5, seed=2)
    with PulseAudio(rate) as pulse, chromium(pulse.env) as context:
        # Echo cancellation takes its time to believe in a second voice, which is not ours to test.
        ui = StockUi(context, server, plain_microphone=True)
        ready_to_talk(ui, server, artifacts)
        for attempt in attempts():
            with pulse.record("spk") as speakers, pulse.record("micin") as microphone:
                ui.begin_session()
                with pulse.speaking(first):
                    ui.page.wait_for_timeout(6000)
                ui.wait_until(
                    lambda: bool((levels(speakers.samples(), rate)[-15:] > LOUD).all()),
                    30,
                    "most of a second of reply",
                )
                with pulse.speaking(second):
                    ui.page.wait_for_timeout(2500)
                ui.wait_until(
                    lambda: ui.wire.interruptions > 0 and ui.wire.reply().size > 24_000,
                    20,
                    "the second answer",
                )
                ui.wait_until(lambda: not silent_for(speakers, 0.5), 20, "the sound of it")
                ui.wait_until(lambda: silent_for(speakers, 1.5), 20, "silence after it")
            ui.end_session()
            assert wait_until(lambda: no_session(server))
            write_wav(artifacts / f"{attempt}-speakers.wav", speakers.samples(), rate)
            write_wav(artifacts / f"{attempt}-microphone.wav", microphone.samples(), rate)
            before = compare(worklet_copy(first, rate, 16_000), ui.wire.sent(), 16_000)
            captured, match = judge(ui.wire, second, speakers.samples(), rate)
            heard = loud_stretches(speakers.samples(), rate, 1.0)
            print(f"attempt {attempt}: speakers {match}, {heard}; captured {captured}")
            if before.good and captured.good:
                # A hole in the first speech is a pause, after which its rest interrupts as well.
                assert ui.wire.interruptions == 1
                if match.good and len(heard) == 2:
                    break
    assert before.good and captured.good, f"the browser lost what was said: {before}, {captured}"
    assert match.good, f"the second answer: {match}"
    assert len(heard) == 2, "the first reply up to the interruption, and the second"
    spoken = loud_stretches(microphone.samples(), rate)
    seconds = (speakers.began + heard[0][1]) - (microphone.began + spoken[1][0])
    print(f"silent {seconds * 1000:.0f} ms after the second voice began")
    assert 0 < seconds < INTERRUPT_SECONDS
    assert heard[1][1] - heard[1][0] < 3.0, "the rest of the first reply came as well"


def test_pressing_again_ends_the_session(server: GptmeServer, artifacts: Path) -> None:
    """The voice process has one session while the button is red, and none afterwards."""
    with PulseAudio(48_000) as pulse, chromium(pulse.env) as context:
        ui = StockUi(context, server)
        ready_to_talk(ui, server, artifacts)
        ui.begin_session()
        assert wait_until(lambda: server.status()["voice_process"]["sessions"] == 1)
        ui.end_session()
        assert wait_until(lambda: no_session(server))
        assert not ui.errors
