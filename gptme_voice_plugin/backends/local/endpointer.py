"""Where a turn begins and ends, from how likely each frame is speech: pure.

A turn begins with enough speech, and some of what was before it; it ends with enough silence. The
first short pause is told too: it may be the end, and what was said can be worked on already.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from .vad import FRAME_MS

__all__ = ["Edge", "Endpointer", "Utterance"]

PAUSE_MS = 200
"""Silence that may be the end of a turn."""
MAX_TURN_MS = 120_000
"""A turn ends here even if the speaker goes on, so that memory stays bounded."""
_HYSTERESIS = 0.15


class Edge(Enum):
    """What a frame has changed."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"


class Utterance:
    """What was said in a turn, so far."""

    def __init__(self, frames: list[bytes], speech: list[float]) -> None:
        self._frames = frames
        self._to_last_speech = len(frames)
        self._speech = speech  # how likely, of the frames that are taken for it

    def add(self, frame: bytes, probability: float, speech: bool) -> None:
        """Take the next frame."""
        self._frames.append(frame)
        if speech:
            self._to_last_speech = len(self._frames)
            self._speech.append(probability)

    @property
    def ms(self) -> int:
        """How long it is, in milliseconds, with the silence at its end."""
        return len(self._frames) * FRAME_MS

    @property
    def speech_ms(self) -> int:
        """How much of it is speech."""
        return len(self._speech) * FRAME_MS

    @property
    def certainty(self) -> float:
        """How likely what is taken for speech is some, on average: 0 to 1."""
        return sum(self._speech) / max(1, len(self._speech))

    def audio(self) -> bytes:
        """Return it as PCM16, with no more silence at its end than a pause."""
        return b"".join(self._frames[: self._end])

    @property
    def rest(self) -> list[bytes]:
        """The frames after that."""
        return self._frames[self._end :]

    @property
    def _end(self) -> int:
        return self._to_last_speech + PAUSE_MS // FRAME_MS


class Endpointer:
    """Finds the turns in one stream.

    Args:
        prefix_ms: Audio from before speech was noticed that belongs to the turn.
        silence_ms: Silence that ends it.
        min_speech_ms: Speech that begins it.
        threshold: How likely speech must be, 0 to 1.
    """

    def __init__(
        self,
        prefix_ms: int,
        silence_ms: int,
        min_speech_ms: int,
        threshold: float,
    ) -> None:
        self._on, self._off = threshold, max(threshold - _HYSTERESIS, 0.01)
        self._silence_frames = max(1, round(silence_ms / FRAME_MS))
        self._pause_frames = min(round(PAUSE_MS / FRAME_MS), self._silence_frames)
        self._start_frames = max(1, round(min_speech_ms / FRAME_MS))
        window = self._start_frames + self._start_frames // 3
        self._recent: deque[float] = deque(maxlen=window)
        self._before: deque[bytes] = deque(maxlen=prefix_ms // FRAME_MS + window)
        self._quiet = 0
        self.utterance: Utterance | None = None
        """The turn that is being spoken; None: nobody speaks."""

    @property
    def quiet_ms(self) -> int:
        """How long the speaker has paused for, within the turn."""
        return self._quiet * FRAME_MS

    def push(self, frame: bytes, probability: float) -> tuple[Edge | None, Utterance | None]:
        """Take the next frame; return what it has changed, and with `STOPPED` what was said."""
        if self.utterance is None:
            return self._wait(frame, probability), None
        # Between the two thresholds it is whatever it was before.
        speech = probability >= (self._on if self._quiet else self._off)
        self.utterance.add(frame, probability, speech)
        if speech:
            resumed = self._quiet >= self._pause_frames
            self._quiet = 0
            if self.utterance.ms >= MAX_TURN_MS:
                return Edge.STOPPED, self._finish()
            return (Edge.RESUMED if resumed else None), None
        self._quiet += 1
        if self._quiet >= self._silence_frames or self.utterance.ms >= MAX_TURN_MS:
            return Edge.STOPPED, self._finish()
        return (Edge.PAUSED if self._quiet == self._pause_frames else None), None

    def stop(self) -> Utterance | None:
        """End the turn now, if there is one, and return what was said."""
        return None if self.utterance is None else self._finish()

    def _wait(self, frame: bytes, probability: float) -> Edge | None:
        self._before.append(frame)
        self._recent.append(probability)
        if sum(p >= self._on for p in self._recent) < self._start_frames:
            return None
        speech = [p for p in self._recent if p >= self._on]
        self.utterance = Utterance(list(self._before), speech)
        self._before.clear()
        self._recent.clear()
        self._quiet = 0
        return Edge.STARTED

    def _finish(self) -> Utterance:
        assert self.utterance is not None
        finished, self.utterance = self.utterance, None
        self._quiet = 0
        # Whoever goes on at once may have begun in the silence that was waited for.
        self._before.extend(finished.rest)
        return finished
