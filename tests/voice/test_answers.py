"""gptme's answers: what is spoken of them, what is written, and what becomes of interruptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from gptme_voice_plugin.backends.base import AnswerEnded, AnswerFailed, AnswerPiece
from gptme_voice_plugin.errors import (
    ConversationBusy,
    ConversationUnknown,
    GptmeFailed,
    GptmeUnreachable,
)
from gptme_voice_plugin.voice import answers, steps, wire
from gptme_voice_plugin.voice.answers import Answers
from gptme_voice_plugin.voice.conversation import GptmeClient
from gptme_voice_plugin.voice.transcript import SpokenTurn
from gptme_voice_plugin.voice.turn_writer import TurnWriter
from tests.fakes.gptme import COMPLETE, INTERRUPTED, STARTED, Running, answered, wrote
from tests.support.clock import run_by_clock


class World(Running):
    """One session's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.spoken: list[Any] = []
        self.answers = Answers(
            cast(GptmeClient, self.client),
            cast(TurnWriter, self.writer),
            self.posted.append,
            self.start,
        )
        for work in (self.answers.follow(), self.answers.settle(), self.answers.run()):
            self.start(work)
        self.start(self._listen())

    async def _listen(self) -> None:
        async for answer in self.answers.answers():
            self.spoken.append(answer)

    def say(self, *texts: str) -> None:
        """Let the user say something."""
        self.answers.write(tuple(SpokenTurn(1, "user", text, 0.0) for text in texts))

    def cut(self, id: str, heard: str, unheard: str, characters: int | None = None) -> None:
        """Let an answer be interrupted, as the backend and then the session tell it."""
        self.answers.heard(id, len(heard) if characters is None else characters)
        self.answers.stop()
        self.answers.write((SpokenTurn(1, "assistant", heard, 0.0, unheard, item_id=id),))

    async def ask(self, text: str = "Why?") -> None:
        """Say something, and let gptme begin."""
        before = self.steps
        self.say(text)
        await self.until(lambda: self.steps > before)

    @property
    def steps(self) -> int:
        return len([a for a in self.client.asked if a.startswith("step")])

    @property
    def texts(self) -> list[str]:
        """What is spoken, by answer; those that have ended end with a mark."""
        texts: dict[str, str] = {}
        for number, piece in enumerate(self.spoken):
            match piece:
                case AnswerPiece(id, text):
                    texts[id] = texts.get(id, "") + text
                case AnswerEnded(id):
                    texts[id] = texts.get(id, "") + "#"
                case AnswerFailed(sentence):
                    texts[f"{number}"] = f"! {sentence}"
        return list(texts.values())

    def messages(self, kind: type[Any]) -> list[Any]:
        """Return what the client was told."""
        return [e.message for e in self.posted if isinstance(e.message, kind)]


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario."""

    async def main() -> None:
        world = World()
        try:
            await scenario(world)
        finally:
            await world.end()

    run_by_clock(main)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(steps, "SETTLE_SECONDS", 0.05)


def stops_at_once(world: World) -> None:
    """Let gptme stop when it is told to."""

    async def stop() -> None:
        world.client.at_work = False
        world.hear(INTERRUPTED)

    world.client.on_interrupt = stop


# What is spoken


def test_in_its_order_and_once() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("One, "), wrote("two."), answered("One, two."), COMPLETE)
        await world.until(lambda: world.texts == ["One, two.#"])
        await asyncio.sleep(0.1)
        assert len(world.spoken) == 3 and not world.answers.unfinished

    run(scenario)


def test_what_was_missed_comes_with_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("One, "), answered("One, two."), COMPLETE)
        await world.until(lambda: world.texts == ["One, two.#"])

    run(scenario)


def test_several_with_tools_between() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        use = {"tool_id": "t", "tooluse": {"tool": "shell", "args": [], "content": "ls"}}
        world.hear(STARTED, wrote("I look."), answered("I look."))
        world.hear({"type": "tool_pending", "auto_confirm": True, **use})
        world.hear({"type": "tool_executing", "tool_id": "t"})
        world.hear({"type": "tool_complete", "tool_id": "t"})
        world.hear(STARTED, wrote("There is"), answered("There is one."), COMPLETE)
        await world.until(lambda: world.texts == ["I look.#", "There is one.#"])
        await world.until(lambda: not world.answers.unfinished)
        statuses = [m.status for m in world.messages(wire.ToolStatus)]
        assert statuses[0] == "working" and statuses[-1] == "done"

    run(scenario)


def test_what_was_typed_in_the_page_is_answered_aloud_too() -> None:
    async def scenario(world: World) -> None:
        world.hear(STARTED, wrote("Yes."), answered("Yes."), COMPLETE)
        await world.until(lambda: world.texts == ["Yes.#"])
        assert world.client.asked == []

    run(scenario)


def test_events_that_break_off_in_an_answer() -> None:
    """The rest is told as soon as all of it is known, and nothing twice."""

    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("One, "))
        world.client.generating = True
        world.hear(None)
        await world.until(lambda: world.client.streams == 2)
        world.hear(wrote("three."), answered("One, two, three."), COMPLETE)
        await world.until(lambda: world.texts == ["One, two, three.#"])

    run(scenario)


def test_events_that_break_off_over_the_end() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("One, "), None)
        await world.until(lambda: world.texts == ["One, #"])
        await world.until(lambda: not world.answers.unfinished)

    run(scenario)


def test_a_step_without_an_answer() -> None:
    """Nobody waits for one."""

    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(COMPLETE)
        await world.until(lambda: world.texts == ["#"])

    run(scenario)


def test_gptme_that_does_not_say_that_a_step_is_complete() -> None:
    """As 0.34: it is asked."""

    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, answered("Yes."))
        await world.until(lambda: not world.answers.unfinished)
        assert world.texts == ["Yes.#"]

    run(scenario)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            {
                "type": "tool_pending",
                "tool_id": "t",
                "auto_confirm": False,
                "tooluse": {"tool": "shell", "args": [], "content": "ls"},
            },
            "! gptme asks for permission to use shell; it waits on the screen.",
        ),
        (
            {"type": "elicit_pending", "request": {"prompt": "Which?"}},
            "! gptme has a question; it waits on the screen.",
        ),
    ],
)
def test_what_gptme_asks(event: dict[str, Any], sentence: str) -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, answered("I will."), event)
        await world.until(lambda: world.texts == ["I will.#", sentence])
        assert [m.status for m in world.messages(wire.ToolStatus)] == ["confirm"]

    run(scenario)


# What is written, and answered


def test_written_then_answered() -> None:
    async def scenario(world: World) -> None:
        world.writer.words.clear()
        world.say("Why?")
        await asyncio.sleep(0.05)
        assert world.client.asked == ["user: Why?"]
        world.writer.words.set()
        await world.until(lambda: world.client.asked == ["user: Why?", "step session-1"])
        await world.answers.settled()

    run(scenario)


@pytest.mark.parametrize("at_once", [True, False])
def test_two_things_said_are_answered_together(at_once: bool) -> None:
    async def scenario(world: World) -> None:
        if at_once:
            world.say("One.", "Two.")
        else:
            world.writer.words.clear()
            world.say("One.")
            await asyncio.sleep(0.02)
            world.say("Two.")
            world.writer.words.set()
        await world.until(lambda: world.steps)
        await asyncio.sleep(0.05)
        assert world.client.asked == ["user: One.", "user: Two.", "step session-1"]

    run(scenario)


def test_whoever_speaks_stops_gptme_first() -> None:
    """It is over before the words are written, and only then the next step begins."""

    async def scenario(world: World) -> None:
        async def slowly() -> None:
            world.hear(INTERRUPTED)
            await asyncio.sleep(0.05)
            asyncio.get_running_loop().call_later(0.05, setattr, world.client, "at_work", False)

        await world.ask("One.")
        world.hear(STARTED, wrote("Well, it is "))
        await world.until(lambda: world.texts)
        world.client.at_work, world.client.on_interrupt = True, slowly
        world.say("Two.")
        await asyncio.sleep(0.08)
        assert world.client.asked[2:] == ["interrupt"]
        await world.until(lambda: world.steps == 2)
        assert world.client.asked[2:] == ["interrupt", "user: Two.", "step session-1"]

    run(scenario)


def test_what_comes_of_a_stopped_step() -> None:
    """Is not spoken: neither what gptme had held back, nor an answer that was just complete."""

    async def scenario(world: World) -> None:
        stops_at_once(world)
        await world.ask("One.")
        world.hear(STARTED, wrote("Well, "))
        await world.until(lambda: world.texts)
        world.answers.stop()
        world.hear(wrote("it "), INTERRUPTED, wrote("is "), answered("Well, it is so."))
        await world.until(lambda: not world.answers.unfinished)
        await world.ask("Two.")
        world.hear(STARTED, wrote("Next."), answered("Next."), COMPLETE)
        await world.until(lambda: world.texts == ["Well, #", "Next.#"])

    run(scenario)


def test_word_of_an_interruption_that_comes_late() -> None:
    """It is not taken for one of the next step."""

    async def scenario(world: World) -> None:
        await world.ask("One.")
        world.hear(STARTED, wrote("Well, "))
        await world.until(lambda: world.texts)
        world.say("Two.")
        await asyncio.sleep(0.05)
        world.hear(INTERRUPTED)
        await world.until(lambda: world.steps == 2)
        await asyncio.sleep(0.05)
        assert world.answers.unfinished
        world.hear(STARTED, {"type": "error", "error": "Connection error."}, COMPLETE)
        await world.until(lambda: world.messages(wire.ErrorMessage))

    run(scenario)


def test_gptme_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and waited for: the words would not be in what the step reads."""
    monkeypatch.setattr(answers, "IDLE_SECONDS", 0.05)

    async def scenario(world: World) -> None:
        await world.ask("One.")
        world.client.at_work = True
        world.hear(STARTED)
        world.say("Two.")
        await world.until(lambda: world.client.asked.count("interrupt") >= 3)
        assert len([text for text in world.texts if "not stopped" in text]) == 1
        assert "user: Two." not in world.client.asked
        world.client.at_work = False
        await world.until(lambda: world.steps == 2)
        assert world.client.asked[-2] == "user: Two."

    run(scenario)


def test_stopped_before_the_step_begins() -> None:
    async def scenario(world: World) -> None:
        world.writer.words.clear()
        world.say("Why?")
        await asyncio.sleep(0.02)
        world.answers.stop()
        world.writer.words.set()
        await world.answers.settled()
        await asyncio.sleep(0.05)
        assert world.client.asked == ["user: Why?"]

    run(scenario)


def test_nothing_is_lost_while_gptme_server_does_not_answer() -> None:
    async def scenario(world: World) -> None:
        world.client.trouble = GptmeUnreachable("gptme-server does not answer.")
        world.say("Why?")
        await world.until(lambda: "user: Why?" in world.client.asked)

    run(scenario)


def test_a_busy_gptme_is_tried_again() -> None:
    async def scenario(world: World) -> None:
        async def busy() -> None:
            world.client.on_step = None
            raise ConversationBusy("It is at work.")

        world.client.on_step = busy
        world.say("Why?")
        await world.until(lambda: world.steps == 2)
        assert world.answers.unfinished and world.texts == []

    run(scenario)


def test_not_tried_again_once_it_was_stopped() -> None:
    async def scenario(world: World) -> None:
        async def busy() -> None:
            raise ConversationBusy("It is at work.")

        world.client.on_step = busy
        await world.ask()
        world.answers.stop()
        await world.until(lambda: not world.answers.unfinished)
        assert world.steps == 1 and world.texts == []

    run(scenario)


def test_a_session_that_gptme_has_forgotten() -> None:
    async def scenario(world: World) -> None:
        async def forgotten() -> None:
            world.client.on_step = None
            raise ConversationUnknown("Session not found.")

        world.client.on_step = forgotten
        world.say("Why?")
        await world.until(lambda: "step session-2" in world.client.asked)
        world.hear(STARTED, answered("Because."), COMPLETE)
        await world.until(lambda: world.texts[-1:] == ["Because.#"])

    run(scenario)


# No answer


@pytest.mark.parametrize("first", ["event", "answer", "answer alone"])
def test_why_there_is_none_is_said_once(first: str) -> None:
    async def scenario(world: World) -> None:
        failed = ({"type": "error", "error": "Error code: 401 - {}"}, COMPLETE)

        async def fail() -> None:
            if first == "event":
                world.hear(STARTED, *failed)
                await asyncio.sleep(0.05)
            elif first == "answer":
                asyncio.get_running_loop().call_later(0.05, world.hear, STARTED, *failed)
            raise GptmeUnreachable("gptme-server cannot do it now: Error code: 401 - {}.")

        world.client.on_step = fail
        await world.ask("Why is it so?")
        await asyncio.sleep(0.2)
        said = [text for text in world.texts if text.startswith("!")]
        assert said == [
            "! I heard: Why is it so. But the provider of its model refuses the API key."
        ]
        (shown,) = world.messages(wire.ErrorMessage)
        assert shown.code == "gptme_failed" and "401" not in shown.message
        world.client.on_step = None
        await world.ask("Again?")
        world.hear(STARTED, answered("Yes."), COMPLETE)
        await world.until(lambda: world.texts[-1] == "Yes.#")

    run(scenario)


def test_no_model() -> None:
    async def scenario(world: World) -> None:
        async def fail() -> None:
            raise GptmeFailed(
                "gptme-server refuses it: No model specified and no default model set."
            )

        world.client.on_step = fail
        await world.ask()
        await world.until(lambda: world.texts)
        assert world.messages(wire.ErrorMessage)[0].code == "no_model"
        assert world.texts[0].startswith("! I heard: Why. But gptme has no model")

    run(scenario)


@pytest.mark.parametrize("by", ["word", "failure", "stop", "question", None])
def test_a_model_that_thinks_long(monkeypatch: pytest.MonkeyPatch, by: str | None) -> None:
    """That it does is said once; unless something else has happened first."""
    monkeypatch.setattr(answers, "FIRST_WORD_SECONDS", 0.2)

    async def scenario(world: World) -> None:
        stops_at_once(world)
        await world.ask()
        world.hear(STARTED)
        await asyncio.sleep(0.05)
        match by:
            case "word":
                world.hear(wrote("Well"))
            case "failure":
                world.hear({"type": "error", "error": "Connection error."}, COMPLETE)
            case "stop":
                world.answers.stop()
            case "question":
                world.hear({"type": "elicit_pending"})
        await asyncio.sleep(0.5)
        told = [text for text in world.texts if "not answered yet" in text]
        assert len(told) == (0 if by else 1)

    run(scenario)


# What was heard


def test_an_answer_is_cut_where_it_was_interrupted() -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("One **two** three."), answered("One **two** three."), COMPLETE)
        await world.until(lambda: world.texts == ["One **two** three.#"])
        world.cut("answer-1", "One two", "three.", 11)
        await world.answers.settled()
        assert world.client.asked[2:] == ["heard 11 of One **two** three."]
        assert world.writer.counts == {"user": 1, "assistant": 1}

    run(scenario)


def test_cut_as_soon_as_it_may_be() -> None:
    async def scenario(world: World) -> None:
        def busy() -> bool:
            world.client.on_heard = lambda: True
            raise ConversationBusy("It is at work.")

        world.client.on_heard = busy
        world.hear(STARTED, answered("One two."), COMPLETE)
        await world.until(lambda: world.texts == ["One two.#"])
        world.cut("answer-1", "One", "two.")
        await world.answers.settled()
        assert world.client.asked == ["heard 3 of One two."] * 2

    run(scenario)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("unheard", ["of sentence", ""])
def test_an_answer_that_was_stopped(there: bool, unheard: str) -> None:
    """What was heard is written by us, unless gptme has written it, as 0.34 does."""

    async def scenario(world: World) -> None:
        stops_at_once(world)
        world.client.on_heard = lambda: there
        await world.ask()
        world.hear(STARTED, wrote("A long kind of sentence"))
        await world.until(lambda: world.texts)
        world.cut("answer-1", "A long kind", unheard)
        world.say("Stop.")
        await world.until(lambda: world.steps == 2)
        rest = f" | {unheard}" if unheard else ""
        ours = [] if there else [f"assistant: A long kind{rest}"]
        assert world.client.asked[2:] == [
            "interrupt",
            "heard 11 of A long kind of sentence",
            *ours,
            "user: Stop.",
            "step session-1",
        ]
        assert world.writer.counts == {"user": 2, "assistant": 1}

    run(scenario)


def test_the_mark_of_gptme_0_34() -> None:
    """What it writes of an answer that was stopped is no new answer, and is known as that one."""

    async def scenario(world: World) -> None:
        await world.ask()
        world.hear(STARTED, wrote("A long"), INTERRUPTED, answered("A long kind [INTERRUPTED]"))
        await world.until(lambda: not world.answers.unfinished)
        await asyncio.sleep(0.05)
        assert world.texts == ["A long#"]
        world.cut("answer-1", "A", "long")
        await world.answers.settled()
        assert world.client.asked[2:] == ["heard 1 of A long kind"]

    run(scenario)


def test_an_answer_that_was_stopped_before_its_first_word() -> None:
    """gptme 0.34 writes that, too; before the next words it is put right."""

    async def scenario(world: World) -> None:
        stops_at_once(world)
        await world.ask("One.")
        world.hear(STARTED)
        await asyncio.sleep(0.05)
        await world.ask("Two.")
        heard = ["interrupt", "heard 0 of ", "user: Two.", "step session-1"]
        assert world.client.asked[2:] == heard

    run(scenario)


def test_heard_whole() -> None:
    async def scenario(world: World) -> None:
        world.hear(STARTED, answered("One."), COMPLETE)
        await world.until(lambda: world.texts == ["One.#"])
        world.answers.write((SpokenTurn(1, "assistant", "One.", 0.0, item_id="answer-1"),))
        await world.answers.settled()
        assert world.client.asked == [] and world.writer.counts["assistant"] == 1

    run(scenario)


def test_dropped_before_it_began() -> None:
    async def scenario(world: World) -> None:
        world.hear(STARTED, answered("One."), COMPLETE)
        await world.until(lambda: world.texts == ["One.#"])
        world.answers.heard("answer-1", 0)
        await world.answers.settled()
        assert world.client.asked == ["heard 0 of One."]
        assert world.writer.counts["assistant"] == 0

    run(scenario)


def test_what_nobody_has_written_is_not_cut() -> None:
    """A notice of ours, or an answer that is not known."""

    async def scenario(world: World) -> None:
        world.cut("notice-1", "I heard", "you.")
        await world.answers.settled()
        assert world.client.asked == []

    run(scenario)


# The end


def test_the_session_ends_while_something_is_to_be_written() -> None:
    """It is written, as the server keeps it until gptme is done; and nobody answers any more."""

    async def scenario(world: World) -> None:
        await world.ask("One.")
        world.client.at_work = True
        world.hear(STARTED, wrote("Well"))
        world.say("Two.", "Three.")
        await asyncio.sleep(0.05)
        assert "user: Two." not in world.client.asked
        world.answers.drop_waiting()
        await asyncio.wait_for(world.answers.settled(), 2)
        assert world.client.asked[2:] == ["interrupt", "user: Two.", "user: Three."]

    run(scenario)
