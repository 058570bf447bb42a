"""gptme-server and a conversation of it, as far as the voice asks them something: no I/O."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from gptme_voice_plugin.errors import VoiceError
from gptme_voice_plugin.voice.transcript import SpokenTurn


class FakeClient:
    """Stands in for a `GptmeClient`.

    Attributes:
        asked: What was asked of it, in order.
        streams: How many streams of events were begun.
        at_work: Whether it says that gptme is at work.
        on_step: Called with every step; may raise.
        on_interrupt: The same.
        on_heard: The same, when an answer is to be cut; returns whether it was.
        queue: The events to come; None ends their stream.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.streams = 0
        self.generating = False
        self.at_work = False
        self.trouble: VoiceError | None = None
        self.on_step: Callable[[], Awaitable[None]] | None = None
        self.on_interrupt: Callable[[], Awaitable[None]] | None = None
        self.on_heard: Callable[[], bool] = lambda: True
        self.queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()

    async def events(self, id: str, session: str | None) -> AsyncIterator[Mapping[str, Any]]:
        self.streams += 1
        name = f"session-{self.streams}"
        yield {"type": "connected", "session_id": name, "generating": self.generating}
        while (event := await self.queue.get()) is not None:
            yield event

    async def append(self, id: str, turns: Any, keep: bool = True) -> None:
        self.asked.append(f"append {turns[0]['text']}")

    async def step(self, id: str, session: str) -> None:
        self.asked.append(f"step {session}")
        if self.on_step is not None:
            await self.on_step()

    async def working(self, id: str) -> bool:
        if self.trouble is not None:
            raise self.trouble
        return self.at_work

    async def interrupt(self, id: str, session: str) -> None:
        self.asked.append("interrupt")
        if self.on_interrupt is not None:
            await self.on_interrupt()

    async def heard(self, id: str, answer: str, heard: int, metadata: Mapping[str, Any]) -> bool:
        self.asked.append(f"heard {heard} of {answer}")
        return self.on_heard()


class FakeWriter:
    """Stands in for a `TurnWriter`, of a conversation that is there.

    Attributes:
        log: Where what is written is noted.
        words: Cleared while what was taken is not safe yet.
    """

    known_id = "chat-1"

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.counts = {"user": 0, "assistant": 0}
        self.there = asyncio.Event()
        self.there.set()
        self.words = asyncio.Event()
        self.words.set()

    def write(self, turns: tuple[SpokenTurn, ...], now: float) -> None:
        for turn in turns:
            self.counts[turn.role] += 1
            rest = f" | {turn.unheard}" if turn.unheard else ""
            self.log.append(f"{turn.role}: {turn.text}{rest}")

    async def settled(self) -> None:
        await self.words.wait()

    async def ensure(self, name: str) -> str:
        return self.known_id

    def announce(self) -> None:
        """Nothing is new."""

    def describe(self) -> dict[str, str]:
        return {}


class Running:
    """Runs a part of a session's link, and all that it begins."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.writer = FakeWriter(self.client.asked)
        self.posted: list[Any] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        return task

    def hear(self, *events: Mapping[str, Any] | None) -> None:
        """Let events come."""
        for event in events:
            self.client.queue.put_nowait(event)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until it holds."""
        for _ in range(400):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"it does not come to hold; {self.client.asked}, {self.posted}")

    async def end(self) -> None:
        """Stop everything; none of it has failed."""
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        assert not [r for r in results if isinstance(r, Exception)]


STARTED = {"type": "generation_started"}
COMPLETE = {"type": "step_complete"}
INTERRUPTED = {"type": "interrupted"}


def wrote(text: str) -> dict[str, Any]:
    """Return the event of a piece of an answer."""
    return {"type": "generation_progress", "token": text}


def answered(text: str) -> dict[str, Any]:
    """Return the event of an answer."""
    return {"type": "generation_complete", "message": {"content": text}}
