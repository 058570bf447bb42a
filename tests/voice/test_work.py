"""What gptme does, as read from its events."""

from __future__ import annotations

from typing import Any

import pytest

from gptme_voice_plugin.voice.work import (
    MAX_ANSWER,
    Asks,
    Finished,
    News,
    Outcome,
    Progress,
    Typed,
    Work,
    gist,
    spoken_form,
)


def hear(work: Work, *events: dict[str, Any]) -> list[News]:
    """Let events happen; return what is new."""
    return [news for event in events for news in work.handle(event)]


def pending(id: str = "t1", auto: bool = False, content: str = "ls") -> dict[str, Any]:
    """Return the event of a tool that waits."""
    use = {"tool": "shell", "args": [], "content": content}
    return {"type": "tool_pending", "tool_id": id, "tooluse": use, "auto_confirm": auto}


def answered(content: str = "Done.") -> dict[str, Any]:
    """Return the event of an answer that is complete."""
    return {"type": "generation_complete", "message": {"role": "assistant", "content": content}}


STARTED = {"type": "generation_started"}
COMPLETE = {"type": "step_complete"}


def executing(id: str = "t1") -> dict[str, Any]:
    """Return the event of a tool that begins."""
    return {"type": "tool_executing", "tool_id": id}


def executed(id: str = "t1") -> dict[str, Any]:
    """Return the event of a tool that has its result."""
    return {"type": "tool_complete", "tool_id": id, "success": True}


def test_an_answer() -> None:
    """Without tools, work is over with the step."""
    work = Work()
    assert not work.active
    assert hear(work, STARTED) == [Progress("thinking")]
    assert work.active
    assert hear(work, answered(), COMPLETE) == [Finished(Outcome.DONE, "Done.")]
    assert not work.active


def test_a_tool_that_is_asked_for() -> None:
    """The step is complete, but the work is not: it waits, then goes on with the result."""
    work = Work()
    asks = Asks("t1", "shell", "ls")
    assert hear(work, STARTED, answered("I look."), pending(), COMPLETE)[1:] == [asks]
    assert work.active and work.asks == {"t1": asks}
    assert hear(work, executing()) == [Progress("shell: ls")]
    assert hear(work, executed()) == []
    assert work.active and not work.asks
    assert hear(work, STARTED, answered("Three files."), COMPLETE) == [
        Progress("thinking"),
        Finished(Outcome.DONE, "Three files."),
    ]


def test_a_tool_that_is_quick() -> None:
    """Its result may be there before the step that asked for it is complete."""
    work = Work()
    events = (STARTED, answered(), pending(auto=True), executing(), executed(), COMPLETE)
    assert not [n for n in hear(work, *events) if isinstance(n, Finished)]
    assert hear(work, STARTED, answered("So."), COMPLETE)[-1] == Finished(Outcome.DONE, "So.")


def test_tools_one_after_the_other() -> None:
    """As long as one waits or runs, it is not over."""
    work = Work()
    hear(work, STARTED, answered(), pending("a", auto=True), pending("b", auto=True), COMPLETE)
    hear(work, executing("a"), executed("a"))
    assert work.active
    hear(work, executing("b"), executed("b"))
    assert work.active, "the step with the results comes next"


def test_a_tool_that_is_skipped() -> None:
    """There is no event for it; the next step begins."""
    work = Work()
    hear(work, STARTED, answered(), pending(), COMPLETE)
    assert hear(work, STARTED, answered("Well."), COMPLETE)[-1] == Finished(Outcome.DONE, "Well.")
    assert not work.asks


def test_interrupted() -> None:
    """It was stopped, once; what comes late of it is not a second end."""
    work = Work()
    hear(work, STARTED, pending())
    assert hear(work, {"type": "interrupted"}) == [Finished(Outcome.CANCELLED, "")]
    assert hear(work, {"type": "interrupted"}, COMPLETE) == []


def test_a_tool_that_notices_late_that_it_was_stopped() -> None:
    """It cannot be killed; its end is not the beginning of a step."""
    work = Work()
    hear(work, STARTED, pending(auto=True), executing())
    assert hear(work, {"type": "interrupted"}) == [Finished(Outcome.CANCELLED, "")]
    assert hear(work, executed()) == []
    assert not work.active


def test_failed() -> None:
    """Why it failed is told with its end."""
    work = Work()
    hear(work, STARTED)
    assert hear(work, {"type": "error", "error": "no credit"}, COMPLETE) == [
        Finished(Outcome.FAILED, "no credit")
    ]


def test_a_gptme_that_does_not_tell_its_end() -> None:
    """Before 0.35 a step has no last event: then it is asked whether it is still at work."""
    work = Work()
    hear(work, STARTED)
    assert not work.may_be_over
    hear(work, answered("So."))
    assert work.may_be_over
    hear(work, pending())
    assert not work.may_be_over, "it waits"
    hear(work, executing(), executed(), STARTED)
    assert not work.may_be_over
    hear(work, answered("Done."))
    assert work.over() == [Finished(Outcome.DONE, "Done.")]
    assert work.over() == [] and not work.may_be_over
    assert hear(work, STARTED, {"type": "error", "error": "no credit"}) == [Progress("thinking")]
    assert work.over() == [Finished(Outcome.FAILED, "no credit")]


def test_expected() -> None:
    """What was asked for is work, before its first event; unless it does not happen."""
    work = Work()
    work.expect()
    assert work.active
    work.forget()
    assert not work.active
    assert hear(work, COMPLETE) == []


def test_a_stream_that_begins_in_the_middle() -> None:
    """It tells what goes on, and what waits."""
    work = Work()
    news = hear(work, {"type": "connected", "generating": True, "pending_tools": [pending()]})
    assert news == [Asks("t1", "shell", "ls")]
    assert work.state == "waits for the user's permission"
    hear(work, {"type": "connected", "generating": False, "pending_tools": []})
    assert work.active and work.may_be_over, "its end may have been missed: that can be asked"
    assert work.over() == [Finished(Outcome.DONE, "")]
    assert not work.active and work.state == "idle"
    hear(work, {"type": "connected", "generating": False, "pending_tools": []})
    assert not work.active and not work.may_be_over


@pytest.mark.parametrize(
    ("message", "news"),
    [
        ({"role": "user", "content": "Look here."}, [Typed("Look here.")]),
        ({"role": "user", "content": "Hi.", "metadata": {"voice_call": {"turn": "1"}}}, []),
        ({"role": "user", "content": "Hi.", "hide": True}, []),
        ({"role": "system", "content": "Ran."}, []),
        (None, []),
    ],
)
def test_what_was_typed(message: Any, news: list[News]) -> None:
    """Only what somebody has typed: what was spoken the model knows."""
    assert hear(Work(), {"type": "message_added", "message": message}) == news


def test_unknown_events() -> None:
    """They are for others."""
    assert hear(Work(), {"type": "ping"}, {"type": "watch_event"}) == []


def test_told_again() -> None:
    """What waits is told to every page that comes; it is asked for once."""
    work = Work()
    assert hear(work, pending(), pending()) == [Asks("t1", "shell", "ls")]


def test_arguments_are_part_of_what_would_be_run() -> None:
    """As gptme has them: the name of the file, then what is written into it."""
    event = pending(content="hello\n")
    event["tooluse"] |= {"tool": "save", "args": ["hello.txt"]}
    assert hear(Work(), event) == [Asks("t1", "save", "hello.txt\nhello\n")]
    event["tooluse"]["args"] = ["save hello.txt"]
    assert hear(Work(), event) == [Asks("t1", "save", "hello.txt\nhello\n")]


def test_spoken_form() -> None:
    """Code is to be read in the chat; thoughts are nobody's business."""
    text = "<think>hm</think>Here:\n\n```python\na = 1\nb = 2\n```\nThat is it."
    assert spoken_form(text) == "Here:\n\n[2 lines of python, to be read in the chat]\nThat is it."
    assert spoken_form("```\nnever closed") == "[1 lines of text, to be read in the chat]"
    assert spoken_form('Let me see.\n@shell(call_1): {"command": "ls"}') == "Let me see."
    assert len(spoken_form("word " * 10_000)) <= MAX_ANSWER + 2


def test_gist() -> None:
    """One line, of bounded length."""
    assert gist(" a\n b ") == "a b"
    assert len(gist("word " * 100)) <= 160
