"""A client that plays what it gets in real time, and knows what was heard of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.support.client import VoiceClient

RATE = 24_000
REPORT_SECONDS = 0.05
LOOKAHEAD = 0.010
TICK = 0.010


class Listener(VoiceClient):
    """Plays as the stock player does; a v1 listener reports what it has played, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard_at_clear: list[int] = []
        """Position of the playback head, in samples of the stream, at each clear."""
        self.cleared_at: list[float] = []
        self._base = 0  # position of the first sample of what is queued now
        self._base_bytes = 0
        self.stolen = 0.0
        """Seconds in which nothing ran here, nor in what it talks with, though it was time to."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Listener:
        await super().__aenter__()
        self._tasks.append(asyncio.create_task(self._watch()))
        if self._v1:
            self._tasks.append(asyncio.create_task(self._report()))
        return self

    async def __aexit__(self, *args: object) -> None:
        for task in self._tasks:
            task.cancel()
        await super().__aexit__(*args)

    def position(self) -> int:
        """Return the position of the playback head now."""
        now = time.monotonic()
        played, ends, received = 0.0, 0.0, 0
        for arrived, size in self.arrivals:
            received += size
            if received <= self._base_bytes:
                continue
            starts = max(ends, arrived + LOOKAHEAD)
            seconds = size / 2 / RATE
            ends = starts + seconds
            played += min(max(0.0, now - starts), seconds)
        return self._base + round(played * RATE)

    def drained(self) -> bool:
        """Whether all that came has been played."""
        return self.position() >= self._base + (len(self.audio) - self._base_bytes) // 2

    async def on_message(self, message: dict[str, Any]) -> None:
        """Fall silent at a clear, and say where."""
        if message["type"] not in ("clear", "audio_end"):
            return
        heard = self.position()
        self.heard_at_clear.append(heard)
        self.cleared_at.append(time.monotonic())
        self._base = message.get("at_sample", self._base)
        if message["type"] == "audio_end":
            self._base += (len(self.audio) - self._base_bytes) // 2
        self._base_bytes = len(self.audio)
        if self._v1:
            await self.say("played", samples=heard)
            await self.say("played", samples=self._base)

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK)
            late = time.monotonic() - before - TICK
            self.stolen += late if late > TICK else 0.0

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if self.ready.is_set():
                await self.say("played", samples=self.position())
