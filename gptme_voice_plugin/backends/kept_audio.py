"""Captured audio that a lost connection to a provider must not lose.

What is captured without a connection waits for the next. So does what went down with the last one:
the turn that was being spoken, and one that was taken but whose words had not come back yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

__all__ = ["KeptAudio"]


class _Bounded:
    """Pieces of audio up to a number of bytes; older ones make room."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def append(self, pcm: bytes, most: int) -> None:
        self._pieces.append(pcm)
        self._size += len(pcm)
        while self._size > most:
            self._size -= len(self._pieces.popleft())


class KeptAudio:
    """See the module.

    Args:
        bytes_per_second: Of the audio.
        kept_seconds: The most that is kept of each kind; what is older goes first.
        lead_seconds: Kept of the time before a turn is noticed.
    """

    def __init__(
        self, bytes_per_second: int, kept_seconds: float = 30.0, lead_seconds: float = 1.0
    ) -> None:
        self._most = int(bytes_per_second * kept_seconds)
        self._lead = int(bytes_per_second * lead_seconds)
        self._waiting, self._recent, self._taken = _Bounded(), _Bounded(), _Bounded()
        self._in_turn = False

    def wait(self, pcm: bytes) -> None:
        """Keep audio for which there is no connection."""
        self._waiting.append(pcm, self._most)

    def sent(self, pcm: bytes, speaking: bool) -> None:
        """Remember audio that is being sent; `speaking`: a turn is under way.

        A turn that has begun is kept whole until it is committed, pauses and all.
        """
        self._in_turn |= speaking
        self._recent.append(pcm, self._most if self._in_turn else self._lead)

    def committed(self) -> None:
        """Note that the provider has taken what was sent as a turn."""
        self._taken, self._recent = self._recent, _Bounded()
        self._in_turn = False

    def resend(self, taken: bool) -> list[bytes]:
        """Return, once, what a new connection has to get, in order.

        Args:
            taken: Include the turn that was taken last.
        """
        audio = [*(self._taken if taken else ()), *self._recent, *self._waiting]
        self._waiting, self._recent, self._taken = _Bounded(), _Bounded(), _Bounded()
        return audio
