"""The events of a backend on their way to the relay, with a bound on the audio among them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .base import Audio, BackendEvent

__all__ = ["EventQueue"]


class EventQueue:
    """A queue that is iterated until it is closed.

    Args:
        max_audio_bytes: More reply audio than this makes `room` wait.
    """

    def __init__(self, max_audio_bytes: int) -> None:
        self._max_audio_bytes = max_audio_bytes
        self._queue: asyncio.Queue[BackendEvent | None] = asyncio.Queue()
        self._audio_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, event: BackendEvent) -> None:
        """Append an event."""
        if isinstance(event, Audio):
            self._audio_bytes += len(event.pcm)
            if self._audio_bytes > self._max_audio_bytes:
                self._has_room.clear()
        self._queue.put_nowait(event)

    def close(self) -> None:
        """End the iteration after what is queued."""
        self._queue.put_nowait(None)

    async def room(self) -> None:
        """Wait until the audio in the queue is within its bound."""
        await self._has_room.wait()

    async def __aiter__(self) -> AsyncIterator[BackendEvent]:
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Audio):
                self._audio_bytes -= len(event.pcm)
                if self._audio_bytes <= self._max_audio_bytes:
                    self._has_room.set()
            yield event
