"""What waits to be written to one client, in order, with a bound on the audio."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Outbox"]


class Outbox:
    """A queue of text and audio frames, from which audio can be withdrawn.

    Args:
        max_audio_bytes: More than this makes `room` wait.
    """

    def __init__(self, max_audio_bytes: int) -> None:
        self._max_audio_bytes = max_audio_bytes
        self._frames: deque[str | bytes] = deque()
        self._audio_bytes = 0
        self._in_hand = False
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def __len__(self) -> int:
        return len(self._frames) + self._in_hand

    def put(self, frame: str | bytes) -> None:
        """Append a frame: text, or audio as bytes."""
        self._frames.append(frame)
        if isinstance(frame, bytes):
            self._count(len(frame))
        self._filled.set()

    def drop_audio(self) -> None:
        """Withdraw all audio that has not been taken yet."""
        self._frames = deque(frame for frame in self._frames if isinstance(frame, str))
        self._count(-self._audio_bytes)

    async def get(self) -> str | bytes:
        """Wait for the next frame and take it; it counts until it is `written`."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        if isinstance(frame, bytes):
            self._count(-len(frame))
        self._in_hand = True
        return frame

    def written(self) -> None:
        """Note that the frame taken last has been written."""
        self._in_hand = False

    async def room(self) -> None:
        """Wait until the audio in the queue is within its bound."""
        await self._has_room.wait()

    def _count(self, size: int) -> None:
        self._audio_bytes += size
        if self._audio_bytes > self._max_audio_bytes:
            self._has_room.clear()
        else:
            self._has_room.set()
