"""Tasks for gptme: given once, attributed rightly, stopped when they are not wanted any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from gptme_voice_plugin.backends.base import ToolCall
from gptme_voice_plugin.errors import (
    ConversationBusy,
    ConversationUnknown,
    GptmeFailed,
    GptmeUnreachable,
)
from gptme_voice_plugin.voice import events as core
from gptme_voice_plugin.voice import wire
from gptme_voice_plugin.voice.conversation import GptmeClient
from gptme_voice_plugin.voice.jobs import Jobs
from gptme_voice_plugin.voice.turn_writer import TurnWriter
from tests.fakes.gptme import COMPLETE, STARTED, Running, answered
from tests.support.clock import run_by_clock


class World(Running):
    """Jobs and what they do."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs(
            cast(GptmeClient, self.client),
            cast(TurnWriter, self.writer),
            True,
            self.posted.append,
            lambda: 0,
            lambda: False,
            self.start,
        )
        for work in (self.jobs.follow(), self.jobs.settle(), self.jobs.run()):
            self.start(work)

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Call a function as the model does; return its result."""
        before = len(self.posted)
        await self.jobs.call(ToolCall("1", name, arguments), 0)
        (done,) = [e for e in self.posted[before:] if isinstance(e, core.ToolDone)]
        result: dict[str, Any] = json.loads(done.output)
        return result

    def ends(self) -> list[tuple[str, str]]:
        """Return how tasks have ended, and which."""
        messages = [e.message for e in self.posted if isinstance(e, core.Notice)]
        return [
            (m.status, m.text)
            for m in messages
            if isinstance(m, wire.ToolStatus) and m.status not in ("working", "confirm")
        ]


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario."""

    async def main() -> None:
        world = World()
        try:
            await scenario(world)
        finally:
            await world.end()

    run_by_clock(main)


def test_one_after_the_other() -> None:
    """Each is written, stepped, and told when it is done."""

    async def scenario(world: World) -> None:
        assert (await world.call("ask_gptme", task="One."))["status"] == "begun"
        assert (await world.call("ask_gptme", task="Two."))["status"] == "queued"
        await world.until(lambda: len(world.client.asked) == 2)
        world.hear(STARTED, answered("1"), COMPLETE)
        await world.until(lambda: world.ends() == [("done", "One.")])
        await world.until(lambda: len(world.client.asked) == 4)
        assert world.client.asked[2] == "append Two."

    run(scenario)


def test_cancelled_before_gptme_had_it() -> None:
    """While the words it came from are still being written, it can be taken back."""

    async def scenario(world: World) -> None:
        world.writer.words.clear()
        await world.call("ask_gptme", task="Delete everything.")
        await asyncio.sleep(0.05)
        status = await world.call("gptme_status")
        assert (status["gptme"], status["task"]) == ("working", "Delete everything.")
        assert (await world.call("cancel_gptme")) == {"status": "stopped"}
        world.writer.words.set()
        await world.until(lambda: world.ends() == [("cancelled", "Delete everything.")])
        assert world.client.asked == []
        await world.call("ask_gptme", task="Other.")
        await world.until(lambda: "append Other." in world.client.asked)

    run(scenario)


def test_overtaken_by_somebody_elses_step() -> None:
    """Its end is not ours: the task is begun when that is over."""

    async def scenario(world: World) -> None:
        async def busy() -> None:
            world.client.on_step = None
            world.hear(STARTED, answered("theirs"), COMPLETE)
            await asyncio.sleep(0.05)
            raise ConversationBusy("It is at work.")

        world.client.on_step = busy
        await world.call("ask_gptme", task="Ours.")
        await world.until(lambda: world.client.asked.count("step session-1") == 2)
        assert ("done", "Ours.") not in world.ends()
        world.hear(STARTED, answered("ours"), COMPLETE)
        await world.until(lambda: world.ends()[-1] == ("done", "Ours."))

    run(scenario)


def test_an_end_that_comes_before_the_answer() -> None:
    """A quick model is done before gptme-server has said that the step was begun."""

    async def scenario(world: World) -> None:
        async def quick() -> None:
            world.hear(STARTED, answered("done"), COMPLETE)
            await asyncio.sleep(0.05)

        world.client.on_step = quick
        await world.call("ask_gptme", task="Quick.")
        await world.until(lambda: world.ends() == [("done", "Quick.")])
        assert not world.jobs.unfinished

    run(scenario)


@pytest.mark.parametrize("begun", [True, False])
def test_no_answer_in_time(begun: bool) -> None:
    """gptme-server is asked whether it has begun all the same, before it counts as failed."""

    async def scenario(world: World) -> None:
        async def late() -> None:
            raise GptmeUnreachable("gptme-server does not answer.")

        world.client.on_step, world.client.at_work = late, begun
        await world.call("ask_gptme", task="Slow.")
        if not begun:
            await world.until(lambda: world.ends() == [("failed", "Slow.")])
            return
        await world.until(lambda: world.jobs.unfinished)
        world.hear(STARTED, answered("done"), COMPLETE)
        await world.until(lambda: world.ends() == [("done", "Slow.")])

    run(scenario)


def test_refused() -> None:
    """Why is told to the model, and the next task is tried."""

    async def scenario(world: World) -> None:
        async def refuse() -> None:
            world.client.on_step = None
            raise GptmeFailed("gptme-server refuses it: No model specified.")

        world.client.on_step = refuse
        await world.call("ask_gptme", task="One.")
        await world.until(lambda: world.ends() == [("failed", "One.")])
        told = [e.told.text for e in world.posted if isinstance(e, core.News)]
        assert "No model specified." in told[-1]
        await world.call("ask_gptme", task="Two.")
        await world.until(lambda: world.jobs.unfinished)

    run(scenario)


def test_a_session_that_gptme_has_forgotten() -> None:
    """The stream of events is begun anew, and the step is asked for in its session."""

    async def scenario(world: World) -> None:
        async def forgotten() -> None:
            world.client.on_step = None
            raise ConversationUnknown("Session not found.")

        world.client.on_step = forgotten
        await world.call("ask_gptme", task="One.")
        await world.until(lambda: "step session-2" in world.client.asked)
        await world.until(lambda: world.jobs.unfinished)

    run(scenario)


@pytest.mark.parametrize("task", ["", "  ", 7, None, "x" * 8001])
def test_no_task(task: Any) -> None:
    """What is none is refused in words."""

    async def scenario(world: World) -> None:
        assert "1 to 8000 characters" in (await world.call("ask_gptme", task=task))["error"]

    run(scenario)


def test_half_a_character() -> None:
    """A model's JSON can spell what no file can hold; it ends nothing."""

    async def scenario(world: World) -> None:
        await world.call("ask_gptme", task="One \ud83d two.")
        await world.until(lambda: "append One ? two." in world.client.asked)

    run(scenario)
