"""Recordings: who was heard when, on two channels."""

from __future__ import annotations

import stat
import wave
from pathlib import Path

import numpy as np
import pytest

from gptme_voice_plugin.errors import RecordingFailed
from gptme_voice_plugin.voice import recording
from gptme_voice_plugin.voice.recording import HELD_SECONDS, Recorder, Timeline
from tests.support.server import wait_until

RATE = 1000
FRAME = 20


def frame(value: int, size: int = FRAME) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return samples that can be told apart from others."""
    return np.full(size, value, np.int16)


def channels(data: bytes) -> tuple[list[int], list[int]]:
    """Return left and right."""
    both = np.frombuffer(data, "<i2").reshape(-1, 2)
    return both[:, 0].tolist(), both[:, 1].tolist()


def test_a_reply_is_where_it_was_heard() -> None:
    """It was sent at once, and is heard over the next three frames."""
    timeline = Timeline(RATE)
    timeline.captured(frame(1), 0)
    timeline.sent(np.arange(100, 160, dtype=np.int16))
    for position in (20, 40, 60):
        timeline.captured(frame(1), position)
    left, right = channels(timeline.take(everything=True))
    assert left == [1] * 80
    assert right == [0] * 20 + list(range(100, 160))


def test_reports_that_come_rarely() -> None:
    """What one report tells of was heard before it, back to the last one."""
    timeline = Timeline(RATE)
    timeline.sent(np.arange(100, 160, dtype=np.int16))
    for position in (0, 0, 0, 60):
        timeline.captured(frame(1), position)
    _, right = channels(timeline.take(everything=True))
    assert right == [0] * 20 + list(range(100, 160))


def test_what_was_cleared_is_not_heard() -> None:
    """The rest of an interrupted reply is left out; the next one follows where it was heard."""
    timeline = Timeline(RATE)
    timeline.sent(frame(7, 100))
    timeline.captured(frame(1), 20)
    timeline.cleared(20, 100)
    timeline.sent(frame(8))
    timeline.captured(frame(1), 100)
    timeline.captured(frame(1), 120)
    _, right = channels(timeline.take(everything=True))
    assert right == [7] * 20 + [0] * 20 + [8] * 20


def test_a_reply_while_muted() -> None:
    """Nothing is captured then: the left channel is silent, and both stay together."""
    timeline = Timeline(RATE)
    timeline.captured(frame(1), 0)
    timeline.sent(frame(7, 60))
    timeline.captured(frame(1), 60)  # after 60 samples of silence
    timeline.captured(frame(2), 60)
    left, right = channels(timeline.take(everything=True))
    assert len(left) == len(right)
    assert sum(value == 7 for value in right) == 60
    assert left[-FRAME:] == [2] * FRAME


def test_a_session_that_ends_muted() -> None:
    """What was heard while nothing was captured is there, and memory stays bounded meanwhile."""
    timeline = Timeline(RATE)
    timeline.captured(frame(1), 0)
    given = b""
    for position in range(100, 20_100, 100):
        timeline.sent(frame(7, 100))
        timeline.heard(position)
        given += timeline.take()
    assert len(given) // 4 > 15_000
    _, right = channels(given + timeline.take(everything=True))
    assert sum(value == 7 for value in right) == 20_000


def test_what_is_old_is_given_out() -> None:
    """Memory stays bounded, and nothing is given twice."""
    timeline = Timeline(RATE)
    given = b""
    for _ in range(500):
        timeline.captured(frame(3), 0)
        given += timeline.take()
    assert len(given) // 4 == 500 * FRAME - HELD_SECONDS * RATE
    given += timeline.take(everything=True)
    assert channels(given)[0] == [3] * 500 * FRAME


def problems() -> tuple[list[RecordingFailed], Recorder]:
    """Return a recorder, and what it complains of."""
    found: list[RecordingFailed] = []
    return found, Recorder("voice-1", 16_000, 24_000, found.append)


def test_the_file(tmp_path: Path) -> None:
    """Two channels at the reply's rate, readable by its owner alone; what came before is in it."""
    found, recorder = problems()
    tone = (np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000) * 10_000).astype("<i2")
    for at in range(0, 8000, 320):
        recorder.captured(tone[at : at + 320].tobytes(), 0)
    recorder.save_in(str(tmp_path))
    for at in range(8000, 16_000, 320):
        recorder.captured(tone[at : at + 320].tobytes(), 0)
    recorder.close()
    path = tmp_path / "voice-1.wav"
    with wave.open(str(path)) as wav:
        assert (wav.getnchannels(), wav.getframerate(), wav.getsampwidth()) == (2, 24_000, 2)
        assert wav.getnframes() == pytest.approx(24_000, abs=100)
        left, right = channels(wav.readframes(wav.getnframes()))
    spectrum = np.abs(np.fft.rfft(left))
    assert np.argmax(spectrum) * 24_000 / len(left) == pytest.approx(440, abs=1)
    assert not any(right)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not found


def test_without_a_place() -> None:
    """A session that never had a conversation leaves nothing behind."""
    found, recorder = problems()
    recorder.captured(bytes(640), 0)
    recorder.close()
    assert not found


def test_a_file_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one goes on where it ended: no WAV file can tell more than four gigabytes."""

    def record(folder: Path) -> list[bytes]:
        folder.mkdir()
        found, recorder = problems()
        recorder.save_in(str(folder))
        for at in range(0, 160_000, 320):
            recorder.captured((np.arange(at, at + 320) // 16).astype("<i2").tobytes(), 0)
        recorder.close()
        assert not found
        count = len(list(folder.iterdir()))
        data = []
        for name in ("voice-1", *(f"voice-1-{number}" for number in range(2, count + 1))):
            with wave.open(str(folder / f"{name}.wav")) as wav:
                data.append(wav.readframes(wav.getnframes()))
        return data

    (whole,) = record(tmp_path / "whole")
    monkeypatch.setattr(recording, "MAX_FILE_BYTES", 200_000)
    parts = record(tmp_path / "parts")
    # Until what was held back for the replies comes, all at once.
    assert len(parts) > 3 and all(200_000 <= len(part) < 210_000 for part in parts[:-1])
    assert b"".join(parts) == whole


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """It is told, once, in a sentence."""
    found, recorder = problems()
    recorder.save_in(str(tmp_path / "missing"))
    for _ in range(100):
        recorder.captured(bytes(640), 0)
    assert wait_until(lambda: found)
    for _ in range(100):
        recorder.captured(bytes(640), 0)
    assert recorder._pieces.empty(), "nobody will ever take it"
    recorder.close()
    (problem,) = found
    assert problem.message == (
        "This session is not recorded: its file cannot be written (No such file or directory)."
    )
