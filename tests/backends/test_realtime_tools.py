"""The protocol core: function calls, and when their results are answered."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import Core, pcm

TWO = (("c1", "look", '{"at": 1}'), ("c2", "listen", "{}"))
REFUSED = '{"error": "the arguments are not a JSON object"}'


def output(call_id: str, text: str) -> dict[str, Any]:
    item = {"type": "function_call_output", "call_id": call_id, "output": text}
    return {"type": "conversation.item.create", "item": item}


CREATE = {"type": "response.create"}


def test_a_call_is_made_when_its_response_is_done() -> None:
    """Its arguments are read, and the calls of a response come together."""
    assert Core().call(*TWO) == [
        base.ReplyDone("r1"),
        base.ToolCall("c1", "look", {"at": 1}),
        base.ToolCall("c2", "listen", {}),
    ]


@pytest.mark.parametrize("source", ["arguments.done", "output_item.done", "response.done"])
def test_a_call_may_be_told_in_one_place_only(source: str) -> None:
    """Wherever a call stands, it is made; servers leave out one or another."""
    core = Core()
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"q": "x"}'}
    core.hear("response.created", response={"id": "r1"})
    if source == "arguments.done":
        core.receive({**call, "type": "response.function_call_arguments.done"})
    elif source == "output_item.done":
        core.hear("response.output_item.done", item=call)
    heard = core.finish(output=[call] if source == "response.done" else [])
    assert base.ToolCall("c1", "f", {"q": "x"}) in heard


def test_a_name_may_come_later_than_the_arguments() -> None:
    """What one event leaves out the other brings."""
    core = Core()
    kind = "response.function_call_arguments.done"
    core.hear(kind, call_id="c1", arguments='{"q": 1}')
    item = {"type": "function_call", "call_id": "c1", "name": "f"}
    heard = core.finish(output=[item])
    assert heard[-1] == base.ToolCall("c1", "f", {"q": 1})


@pytest.mark.parametrize("order", list(permutations(["c1", "c2", "c3"])))
def test_all_outputs_then_one_answer(order: tuple[str, ...]) -> None:
    """In whatever order the tools finish, nothing is sent before the last one has."""
    core = Core()
    core.call(("c1", "a", "{}"), ("c2", "b", "{}"), ("c3", "c", "{}"))
    for call_id in order[:-1]:
        core.tool_output(call_id, f"of {call_id}")
        assert core.sent() == []
    assert not core.idle
    core.tool_output(order[-1], f"of {order[-1]}")
    assert core.sent() == [output(c, f"of {c}") for c in ("c1", "c2", "c3")] + [CREATE]


def test_an_output_during_another_response_waits_with_the_answer() -> None:
    """Results go out at once, and are answered when the model has finished speaking."""
    core = Core()
    core.call(TWO[0])
    core.begin("r2", "a2")
    core.tool_output("c1", "done")
    assert core.sent() == [output("c1", "done")]
    core.speak(10, "r2", "a2")
    assert core.sent() == []
    core.finish("r2")
    assert core.sent() == [CREATE]


def test_a_slow_tool_outlives_another_turn() -> None:
    """A result that comes after a whole other response is still told and answered."""
    core = Core()
    core.call(TWO[0])
    core.reply(100, "Meanwhile", "r2", "a2")
    core.tool_output("c1", "done")
    assert core.sent() == [output("c1", "done"), CREATE]


def test_a_slow_tool_outlives_other_calls() -> None:
    """Calls of two responses are answered each by themselves."""
    core = Core()
    core.call(TWO[0])
    core.call(TWO[1], response="r2")
    core.tool_output("c2", "two")
    assert core.sent() == [output("c2", "two"), CREATE]
    core.begin("r3", "a3")
    core.tool_output("c1", "one")
    assert core.sent() == [output("c1", "one")]
    core.finish("r3")
    assert core.sent() == [CREATE]


def test_audio_goes_on_while_a_tool_runs() -> None:
    """A pending call holds up nothing."""
    core = Core()
    core.call(TWO[0])
    core.begin("r2", "a2")
    assert core.speak(10, "r2", "a2") == [base.Audio("a2", pcm(10))]


@pytest.mark.parametrize("call_id", ["c1", "c9"])
def test_an_output_nobody_waits_for_is_dropped(call_id: str) -> None:
    """A result that comes twice, or of an unknown call, is not told."""
    core = Core()
    core.call(TWO[0])
    core.tool_output("c1", "done")
    core.sent()
    core.tool_output(call_id, "again")
    assert core.sent() == []


@pytest.mark.parametrize(
    "arguments", ['{"q": "par', "[1]", '"text"', "null", "5", "{" * 5000, "[" * 100_000]
)
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    """The model is told, and may try again; nothing crashes and no tool is called."""
    core = Core()
    heard = core.call(("c1", "f", arguments))
    assert not any(isinstance(event, base.ToolCall) for event in heard)
    assert core.sent() == [output("c1", REFUSED), CREATE]


def test_one_bad_call_among_good_ones() -> None:
    """The bad one is answered by us, together with the others."""
    core = Core()
    heard = core.call(("c1", "f", '{"q'), TWO[1])
    assert base.ToolCall("c2", "listen", {}) in heard
    assert core.sent() == []
    core.tool_output("c2", "ok")
    assert core.sent() == [output("c1", REFUSED), output("c2", "ok"), CREATE]


@pytest.mark.parametrize("arguments", ["", None])
def test_no_arguments(arguments: str | None) -> None:
    """A call without arguments has none."""
    core = Core()
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": arguments}
    assert core.finish(output=[call])[-1] == base.ToolCall("c1", "f", {})


@pytest.mark.parametrize("status", ["cancelled", "incomplete", "failed"])
def test_calls_of_a_response_that_did_not_end_well_are_not_made(status: str) -> None:
    """Their arguments may be a part of what was meant."""
    core = Core()
    heard = core.call(("c1", "f", "{}"), status=status)
    assert not any(isinstance(event, base.ToolCall) for event in heard)
    core.tool_output("c1", "late")
    assert core.sent() == []


@pytest.mark.parametrize("status", ["cancelled", "completed"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_calls_of_an_interrupted_response_are_not_made(status: str, when: str) -> None:
    """Even where the response had been generated to its end when the cancel arrived."""
    core = Core()
    core.begin()
    core.speak(100)
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    if when == "after":
        core.interrupt("a1", 10)
    core.receive({**call, "type": "response.function_call_arguments.done", "response_id": "r1"})
    if when == "before":
        core.interrupt("a1", 10)
    heard = core.finish(status=status, output=[call])
    assert not any(isinstance(event, base.ToolCall) for event in heard)
    assert core.idle


def test_a_call_with_speech() -> None:
    """A response may speak and call; both are done, the speech first."""
    core = Core()
    core.begin()
    core.speak(10)
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    heard = core.finish(output=[{"type": "message", "id": "a1"}, call])
    assert heard == [base.ReplyDone("a1"), base.ToolCall("c1", "f", {})]


def test_calls_do_not_outlive_the_connection() -> None:
    """A new session knows nothing of the calls of the old one."""
    core = Core()
    core.call(TWO[0])
    core.lost()
    core.connect()
    core.sent()
    core.tool_output("c1", "late")
    assert core.sent() == []
