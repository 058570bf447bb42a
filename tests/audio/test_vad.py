"""Voice activity by energy: what starts a turn, what ends it, what is no speech at all."""

from __future__ import annotations

import numpy as np
import pytest

from gptme_voice_plugin.audio.vad import (
    BLOCK_FRAMES,
    BLOCKS,
    FRAME_MS,
    START_FRAMES,
    EnergyVad,
    VadEdge,
    level_dbfs,
)

SAMPLES = 480
SILENCE_MS = 500
QUIET = -75.0
SPEECH = -25.0


def tone(dbfs: float) -> bytes:
    """Return a frame of a sine at a level."""
    peak = 32768 * 10 ** (dbfs / 20) * 2**0.5
    wave = np.sin(np.arange(SAMPLES) * 2 * np.pi * 5 / SAMPLES) * peak
    return np.rint(wave).astype("<i2").tobytes()


def noise(dbfs: float, frames: int, seed: int = 1) -> list[bytes]:
    """Return frames of white noise at a level."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 32768 * 10 ** (dbfs / 20), (frames, SAMPLES))
    return [np.clip(np.rint(row), -32768, 32767).astype("<i2").tobytes() for row in wave]


def edges(vad: EnergyVad, frames: list[bytes]) -> list[tuple[int, VadEdge]]:
    """Return the edges that frames make, each with the index of its frame."""
    found = [(index, vad.push(frame)) for index, frame in enumerate(frames)]
    return [(index, edge) for index, edge in found if edge is not None]


@pytest.mark.parametrize("dbfs", [-6.0, -20.0, -60.0])
def test_level(dbfs: float) -> None:
    """The level is the RMS in dB of full scale."""
    assert level_dbfs(tone(dbfs)) == pytest.approx(dbfs, abs=0.1)


@pytest.mark.parametrize("frame", [b"", bytes(960), b"\0\0"])
def test_level_of_silence(frame: bytes) -> None:
    """Silence, and nothing at all, is -90 dB."""
    assert level_dbfs(frame) == -90.0


def test_full_scale() -> None:
    """The loudest frame there is is 0 dB."""
    assert level_dbfs(np.full(SAMPLES, -32768, "<i2").tobytes()) == 0.0


def test_silence_is_no_speech() -> None:
    """Digital silence and a quiet room make no edge."""
    assert edges(EnergyVad(SILENCE_MS), [bytes(960)] * 500) == []
    assert edges(EnergyVad(SILENCE_MS), noise(-60, 500)) == []


def test_speech_starts_with_its_third_frame() -> None:
    """Speech is noticed as soon as it cannot be a click any more."""
    frames = [tone(QUIET)] * 50 + [tone(SPEECH)] * 10
    assert edges(EnergyVad(SILENCE_MS), frames) == [(50 + START_FRAMES - 1, VadEdge.STARTED)]


@pytest.mark.parametrize("length", range(1, START_FRAMES))
def test_clicks_are_no_speech(length: int) -> None:
    """What is shorter than three frames is a click, however loud and often."""
    frames = ([tone(-3.0)] * length + [tone(QUIET)]) * 100
    assert edges(EnergyVad(SILENCE_MS), frames) == []


@pytest.mark.parametrize("silence_ms", [100, 500, 2000])
def test_speech_stops_after_the_silence(silence_ms: int) -> None:
    """A turn ends with the frame that completes the silence, not before."""
    frames = [tone(QUIET)] * 20 + [tone(SPEECH)] * 40 + [tone(QUIET)] * (silence_ms // FRAME_MS)
    found = edges(EnergyVad(silence_ms), frames)
    assert found[1:] == [(len(frames) - 1, VadEdge.STOPPED)]
    assert edges(EnergyVad(silence_ms), frames[:-1]) == found[:1]


def test_pause_within_speech() -> None:
    """A pause that is shorter than the silence does not end the turn, and does not add up."""
    pause = [tone(QUIET)] * (SILENCE_MS // FRAME_MS - 1)
    frames = ([tone(SPEECH)] * 5 + pause) * 5
    assert edges(EnergyVad(SILENCE_MS), frames) == [(START_FRAMES - 1, VadEdge.STARTED)]


def test_each_turn_has_its_own_edges() -> None:
    """Turns follow each other."""
    turn = [tone(SPEECH)] * 40 + [tone(QUIET)] * 50
    kinds = [edge for _, edge in edges(EnergyVad(SILENCE_MS), turn * 4)]
    assert kinds == [VadEdge.STARTED, VadEdge.STOPPED] * 4


def test_stop_ends_speech_once() -> None:
    """A turn can be ended from outside; without one there is nothing to end."""
    vad = EnergyVad(SILENCE_MS)
    assert vad.stop() is None
    edges(vad, [tone(SPEECH)] * 5)
    assert vad.speaking
    assert vad.stop() is VadEdge.STOPPED
    assert vad.stop() is None
    assert not vad.speaking


def test_loud_room() -> None:
    """In a loud room louder speech is noticed and its end too; the room itself is not speech."""
    vad = EnergyVad(SILENCE_MS)
    room = noise(-35, 400)
    edges(vad, room)
    assert not vad.speaking
    assert edges(vad, noise(-35, 400, seed=2)) == []
    found = edges(vad, [tone(-15.0)] * 40 + room[:60])
    assert [edge for _, edge in found] == [VadEdge.STARTED, VadEdge.STOPPED]
    assert found[0][0] == START_FRAMES - 1
    assert found[1][0] <= 40 + SILENCE_MS // FRAME_MS


def test_quiet_speech_in_a_quiet_room() -> None:
    """In a quiet room quiet speech is enough; what is below -50 dB never is."""
    assert edges(EnergyVad(SILENCE_MS), [tone(-80.0)] * 50 + [tone(-45.0)] * 10) != []
    assert edges(EnergyVad(SILENCE_MS), [tone(-80.0)] * 50 + [tone(-52.0)] * 10) == []


@pytest.mark.parametrize("before", [0, 10, 24, 25, 60])
def test_fan_that_is_switched_on_stops_counting(before: int) -> None:
    """Steady noise is taken for speech at first, and for the background after three seconds."""
    vad = EnergyVad(SILENCE_MS)
    window = BLOCK_FRAMES * (BLOCKS + 1)
    fan = noise(-30, window + SILENCE_MS // FRAME_MS + 500)
    found = edges(vad, [tone(QUIET)] * before + fan)
    assert [edge for _, edge in found] == [VadEdge.STARTED, VadEdge.STOPPED]
    assert found[1][0] <= before + window + SILENCE_MS // FRAME_MS
    assert found[1][0] >= BLOCK_FRAMES * BLOCKS
    assert edges(vad, [tone(-10.0)] * 5)[0] == (START_FRAMES - 1, VadEdge.STARTED)


def test_fan_that_is_switched_off_is_forgotten() -> None:
    """When it gets quiet again, quiet speech is noticed again, within a second."""
    vad = EnergyVad(SILENCE_MS)
    edges(vad, noise(-30, 600))
    edges(vad, [tone(QUIET)] * 50)
    assert [edge for _, edge in edges(vad, [tone(-40.0)] * 5)] == [VadEdge.STARTED]


def test_speech_with_pauses_is_no_background() -> None:
    """Long speech stays speech, because its pauses show the real background."""
    vad = EnergyVad(SILENCE_MS)
    speech = ([tone(SPEECH)] * 15 + [tone(QUIET)] * 8) * 60
    assert edges(vad, speech) == [(START_FRAMES - 1, VadEdge.STARTED)]


def test_loud_speech_without_a_pause_goes_on() -> None:
    """It does not become its own background."""
    vad = EnergyVad(500)
    tone = (8000 * np.sin(np.arange(480) * 0.1)).astype("<i2").tobytes()
    edges = [edge for _ in range(1000) if (edge := vad.push(tone))]
    assert edges == [VadEdge.STARTED]
