"""How long the stages of a turn took: marks in, `Timings` out."""

from __future__ import annotations

from ..base import Timings

__all__ = ["Stopwatch"]


class Stopwatch:
    """One turn's. Times are seconds of any clock that only goes forward.

    Args:
        speech_end: When the last speech was heard.
        turn_end: When it was sure that it was the last.
    """

    def __init__(self, speech_end: float, turn_end: float) -> None:
        self._marks = [speech_end, turn_end]

    def words(self, now: float) -> None:
        """The words are known; the answer is being thought of."""
        self._mark(now, 2)

    def sentence(self, now: float) -> None:
        """The first that can be spoken of the answer is there."""
        self._mark(now, 3)

    def sound(self, now: float) -> Timings | None:
        """The first sound of it is there; return what all that took, once."""
        if not self._mark(now, 4):
            return None
        names = ("vad", "stt", "text", "tts")
        spans = zip(self._marks, self._marks[1:], strict=False)
        seconds = {name: end - start for name, (start, end) in zip(names, spans, strict=True)}
        return Timings({**seconds, "total": self._marks[-1] - self._marks[0]})

    def _mark(self, now: float, place: int) -> bool:
        if len(self._marks) != place:
            return False
        self._marks.append(now)
        return True
