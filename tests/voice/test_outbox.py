"""The outbox: frames in order, audio that can be withdrawn, and a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.voice.outbox import Outbox


def is_waiting(work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, bool]:
    """Whether `work` would wait now."""

    async def look() -> bool:
        task = asyncio.ensure_future(work)
        for _ in range(3):
            await asyncio.sleep(0)
        waiting = not task.done()
        task.cancel()
        await asyncio.wait([task])
        return waiting

    return look()


def test_frames_leave_in_order() -> None:
    """Text and audio keep their order."""

    async def run() -> list[str | bytes]:
        outbox = Outbox(100)
        for frame in ("a", b"12", "b", b"34"):
            outbox.put(frame)
        assert len(outbox) == 4
        return [await outbox.get() for _ in range(4)]

    assert asyncio.run(run()) == ["a", b"12", "b", b"34"]


def test_get_waits_for_a_frame() -> None:
    """A reader of an empty outbox sleeps until something comes."""

    async def run() -> None:
        outbox = Outbox(100)
        assert await is_waiting(outbox.get())
        reader = asyncio.ensure_future(outbox.get())
        await asyncio.sleep(0)
        outbox.put("late")
        assert await reader == "late"

    asyncio.run(run())


def test_cancelled_get_loses_nothing() -> None:
    """A reader that is cancelled while it waits takes no frame with it."""

    async def run() -> None:
        outbox = Outbox(100)
        assert await is_waiting(outbox.get())
        outbox.put("kept")
        assert await outbox.get() == "kept"

    asyncio.run(run())


def test_drop_audio_leaves_text() -> None:
    """Only audio is withdrawn."""

    async def run() -> list[str | bytes]:
        outbox = Outbox(100)
        for frame in ("a", b"12", "b", b"34"):
            outbox.put(frame)
        outbox.drop_audio()
        outbox.put(b"56")
        return [await outbox.get() for _ in range(len(outbox))]

    assert asyncio.run(run()) == ["a", "b", b"56"]


def test_room_waits_for_the_bound() -> None:
    """More audio than the bound makes the producer wait until some of it has left."""

    async def run() -> None:
        outbox = Outbox(4)
        outbox.put("text is not counted")
        outbox.put(b"1234")
        assert not await is_waiting(outbox.room())
        outbox.put(b"5")
        assert await is_waiting(outbox.room())
        await outbox.get()
        assert await is_waiting(outbox.room())
        await outbox.get()
        assert not await is_waiting(outbox.room())

    asyncio.run(run())


def test_drop_audio_makes_room() -> None:
    """A flush lets a waiting producer go on."""

    async def run() -> None:
        outbox = Outbox(4)
        outbox.put(b"123456")
        waiting = asyncio.ensure_future(outbox.room())
        await asyncio.sleep(0)
        outbox.drop_audio()
        await waiting

    asyncio.run(run())


@given(
    st.lists(
        st.one_of(st.text(max_size=3), st.binary(max_size=3), st.sampled_from([True, False])),
        max_size=40,
    )
)
def test_any_order_of_calls(calls: list[str | bytes | bool]) -> None:
    """For any calls (True: take, False: drop) the outbox is a queue with a count of its audio."""

    async def run() -> None:
        outbox = Outbox(5)
        model: list[str | bytes] = []
        for call in calls:
            if call is True:
                if model:
                    assert await outbox.get() == model.pop(0)
                    assert len(outbox) == len(model) + 1, "it counts until it is written"
                    outbox.written()
            elif call is False:
                outbox.drop_audio()
                model = [frame for frame in model if isinstance(frame, str)]
            else:
                outbox.put(call)
                model.append(call)
            audio = sum(len(frame) for frame in model if isinstance(frame, bytes))
            assert len(outbox) == len(model)
            assert await is_waiting(outbox.room()) == (audio > 5)

    asyncio.run(run())
