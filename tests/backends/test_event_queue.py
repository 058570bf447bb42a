"""The queue between a backend and the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from gptme_voice_plugin.backends.base import Audio, BackendEvent, ReplyDone, SpeechStarted
from gptme_voice_plugin.backends.event_queue import EventQueue

PIECE = Audio("item", bytes(100))


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test on a loop of its own."""

    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 5.0))

    return run


async def drain(queue: EventQueue) -> list[BackendEvent]:
    return [event async for event in queue]


async def settled(task: asyncio.Task[None]) -> bool:
    """Whether a task ends without anything else happening."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


@on_a_loop
async def test_events_come_out_in_order() -> None:
    """What is put is yielded, each once, in order, and closing ends it."""
    queue = EventQueue(1000)
    events: list[BackendEvent] = [SpeechStarted(), PIECE, ReplyDone("item")]
    for event in events:
        queue.put(event)
    queue.close()
    assert await drain(queue) == events


@on_a_loop
async def test_what_comes_after_closing_is_not_yielded() -> None:
    """A closed queue takes nothing more."""
    queue = EventQueue(1000)
    queue.close()
    queue.put(PIECE)
    assert await drain(queue) == []


@on_a_loop
async def test_a_reader_waits_for_events() -> None:
    """Iterating an empty queue waits, and gets what is put later."""
    queue = EventQueue(1000)
    reader = asyncio.create_task(drain(queue))
    await asyncio.sleep(0)
    queue.put(PIECE)
    queue.close()
    assert await reader == [PIECE]


@on_a_loop
async def test_there_is_room_up_to_the_bound() -> None:
    """Audio that just fits makes nobody wait."""
    queue = EventQueue(200)
    queue.put(PIECE)
    queue.put(PIECE)
    assert await settled(asyncio.create_task(queue.room()))


@on_a_loop
async def test_too_much_audio_waits_for_the_reader() -> None:
    """Beyond the bound there is no room, until enough was read."""
    queue = EventQueue(150)
    for _ in range(3):
        queue.put(PIECE)
    waiting = asyncio.create_task(queue.room())
    reader = aiter_of(queue)
    assert not await settled(waiting)
    await anext_of(reader)
    assert not await settled(waiting)
    await anext_of(reader)
    assert await settled(waiting)


@on_a_loop
async def test_only_audio_counts() -> None:
    """Events without audio never take up room."""
    queue = EventQueue(1)
    for _ in range(1000):
        queue.put(SpeechStarted())
    assert await settled(asyncio.create_task(queue.room()))


@on_a_loop
async def test_one_huge_piece_passes() -> None:
    """A piece larger than the bound is not lost, and makes room when it is read."""
    queue = EventQueue(10)
    queue.put(PIECE)
    waiting = asyncio.create_task(queue.room())
    assert not await settled(waiting)
    assert await anext_of(aiter_of(queue)) == PIECE
    assert await settled(waiting)


def aiter_of(queue: EventQueue) -> Any:
    return queue.__aiter__()


async def anext_of(reader: Any) -> BackendEvent:
    event: BackendEvent = await reader.__anext__()
    return event
