"""Records a session, if its user wants that: a WAV file, the user left, the replies right.

Time is that of the captured audio. A reply is put where it was heard, not where it was made: what
the playback head has passed since the last captured frame has just been heard, and what a clear
dropped is left out. Files are written by a thread: a slow disk must not be heard.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import wave
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..audio.resample import StreamResampler
from ..errors import RecordingFailed

__all__ = ["Recorder", "Timeline"]

logger = logging.getLogger(__name__)

_Samples = np.ndarray[tuple[int], np.dtype[np.int16]]

MUTED_SECONDS = 0.5
"""How far a reply must be ahead of what was captured for that to be silence, not delay."""
HELD_SECONDS = 2
"""How far back a reply can still be put."""
UNSAVED_SECONDS = 600
"""What is kept as long as it is not known where to save it."""
CLOSE_SECONDS = 5.0
MAX_FILE_BYTES = 2**31 - 2**20
"""Of a WAV file, which can tell no more than 4 GiB, and many a player no more than 2; then another
one goes on."""


class Timeline:
    """Two channels side by side.

    Args:
        sample_rate: Of both, in hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._left = np.zeros(0, np.int16)
        self._right = np.zeros(0, np.int16)
        self._right_end = 0  # where the next of the right channel goes at the earliest
        self._replies: deque[_Samples] = deque()  # sent, not heard yet
        self._head = 0  # position of their first sample

    def captured(self, samples: _Samples, position: int) -> None:
        """Take captured samples, and the position of the playback head at their end."""
        if self._left.size + self.sample_rate * MUTED_SECONDS < self._right_end:
            # Nothing was captured while a reply went on: the user was muted.
            self._left = _longer(self._left, self._right_end)
        self._left = np.concatenate([self._left, samples])
        self.heard(position)
        self._right = _longer(self._right, self._left.size)

    def sent(self, samples: _Samples) -> None:
        """Take reply audio in the order in which it was sent."""
        self._replies.append(samples)

    def cleared(self, position: int, at_sample: int) -> None:
        """Drop what will not be heard: all from `position` up to `at_sample`."""
        self.heard(position)
        self._replies.clear()
        self._head = at_sample

    def take(self, everything: bool = False) -> bytes:
        """Return, once, what can no longer change: PCM16 of two channels."""
        if everything:
            self._left = _longer(self._left, self._right.size)
            count = self._left.size
        else:
            count = max(0, self._left.size - HELD_SECONDS * self.sample_rate)
        both = np.stack([self._left[:count], self._right[:count]], axis=1)
        self._left, self._right = self._left[count:], self._right[count:]
        self._right_end = max(0, self._right_end - count)
        return both.astype("<i2").tobytes()

    def heard(self, position: int) -> None:
        """Take the position of the playback head, while nothing is captured."""
        while self._replies and position > self._head:
            piece = self._replies.popleft()
            count = min(position - self._head, piece.size)
            if count < piece.size:
                self._replies.appendleft(piece[count:])
            self._head += count
            behind = min(position - self._head, sum(map(len, self._replies)))
            start = max(self._left.size - count - behind, self._right_end)
            self._right_end = start + count
            self._right = _longer(self._right, self._right_end)
            self._right[start : self._right_end] = piece[:count]
        if self._right_end > self._left.size + HELD_SECONDS * self.sample_rate:
            # The user is muted, and memory is not to grow with that.
            self._left = _longer(self._left, self._right_end)


def _longer(samples: _Samples, size: int) -> _Samples:
    return np.pad(samples, (0, max(0, size - samples.size)))


class Recorder:
    """Records one session.

    Args:
        name: Of the file, without its ending.
        capture_rate: Of captured frames, in hertz.
        sample_rate: Of replies and of the file.
        on_problem: Called, once and on another thread, if it cannot be saved.
    """

    def __init__(
        self,
        name: str,
        capture_rate: int,
        sample_rate: int,
        on_problem: Callable[[RecordingFailed], None],
    ) -> None:
        self._name = name
        self._timeline = Timeline(sample_rate)
        self._resampler = (
            None if capture_rate == sample_rate else StreamResampler(capture_rate, sample_rate)
        )
        self._on_problem = on_problem
        self._folder: Path | None = None
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed = False

    def save_in(self, folder: str) -> None:
        """Tell where to save it."""
        if self._folder is None:
            self._folder = Path(folder)
            self._thread = threading.Thread(
                target=self._save, name="gptme-voice-recording", daemon=True
            )
            self._thread.start()
            for piece in self._kept:
                self._pieces.put(piece)
            self._kept.clear()

    def captured(self, pcm: bytes, position: int) -> None:
        """Take a captured frame; see `Timeline.captured`."""
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.int16)
        if self._resampler is not None:
            samples = self._resampler.process(samples)
        self._timeline.captured(samples, position)
        self._put(self._timeline.take())

    def sent(self, pcm: bytes) -> None:
        """Take reply audio that was sent."""
        self._timeline.sent(np.frombuffer(pcm, dtype="<i2").astype(np.int16))

    def heard(self, position: int) -> None:
        """Take the position of the playback head; see `Timeline.heard`."""
        self._timeline.heard(position)
        self._put(self._timeline.take())

    def cleared(self, position: int, at_sample: int) -> None:
        """Take a clear; see `Timeline.cleared`."""
        self._timeline.cleared(position, at_sample)

    def close(self) -> None:
        """Save the rest; waits for the disk, so not for an event loop."""
        self._put(self._timeline.take(everything=True))
        self._pieces.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        elif self._kept_bytes:
            logger.warning("A recording is dropped: nobody told where to save it.")

    def _put(self, piece: bytes) -> None:
        if not piece or self._failed:
            return
        if self._folder is not None:
            self._pieces.put(piece)
        elif self._kept_bytes < UNSAVED_SECONDS * self._timeline.sample_rate * 4:
            self._kept.append(piece)
            self._kept_bytes += len(piece)

    def _save(self) -> None:
        try:
            rest = self._save_file(self._name, b"")
            for number in itertools.count(2):
                if rest is None:
                    break
                rest = self._save_file(f"{self._name}-{number}", rest)
        except OSError as exc:
            self._failed = True  # nobody takes what comes now
            with suppress(queue.Empty):
                while self._pieces.get_nowait() is not None:
                    pass
            self._on_problem(
                RecordingFailed(
                    f"This session is not recorded: its file cannot be written ({exc.strerror})."
                )
            )

    def _save_file(self, name: str, piece: bytes | None) -> bytes | None:
        """Save a piece and what follows; return the next if the file is full, None at the end."""
        assert self._folder is not None
        path = self._folder / f"{name}.wav"
        # What was said is nobody else's business.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, wave.open(file, "wb") as wav:
            wav.setnchannels(2)
            wav.setsampwidth(2)
            wav.setframerate(self._timeline.sample_rate)
            while piece is not None and file.tell() < MAX_FILE_BYTES:
                # With its header up to date: a crash loses nothing that was written.
                wav.writeframes(piece)
                file.flush()
                piece = self._pieces.get()
        return piece
