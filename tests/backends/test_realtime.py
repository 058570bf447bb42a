"""The protocol core: what a provider says, in the names and the order it says it."""

from __future__ import annotations

from typing import Any

import pytest

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import SESSION, Core, pcm

TRANSCRIPTION = "conversation.item.input_audio_transcription"


def user_item(item: str = "u1", kind: str = "input_audio") -> dict[str, Any]:
    return {"id": item, "type": "message", "role": "user", "content": [{"type": kind}]}


def turns(core: Core) -> list[tuple[str, str, str]]:
    return [(turn.item_id, turn.role, turn.text) for turn in core.history]


# The greeting


def test_the_settings_go_first() -> None:
    """A new connection is told the settings before anything else."""
    core = Core(ready=False)
    core.connected()
    assert core.sent() == [{"type": "session.update", "session": SESSION}]


def test_a_new_conversation_is_told_nothing_more() -> None:
    """Without a history there is nothing to tell."""
    assert Core().sent() == []


@pytest.mark.parametrize("kind", ["session.created", "conversation.created"])
def test_a_greeting_is_a_sign_of_life(kind: str) -> None:
    """Either greeting, or both, shows that the provider lives; our settings are not taken yet."""
    core = Core(ready=False)
    core.connected()
    assert not core.alive
    assert core.hear(kind, session={}, conversation={"id": "c"}) == []
    assert (core.alive, core.ready) == (True, False)


def test_accepted_settings_need_no_greeting() -> None:
    """`session.updated` alone makes it ready."""
    core = Core(ready=False)
    core.connected()
    core.hear("session.updated", session={"voice": "eve"})
    assert (core.alive, core.ready) == (True, True)


@pytest.mark.parametrize("session", [None, "set", [], {"audio": None}, {"audio": {"input": 5}}])
def test_settings_that_cannot_be_read(session: Any) -> None:
    """`session.updated` is one whatever it says."""
    core = Core(ready=False)
    core.connected()
    core.hear("session.updated", session=session)
    assert core.ready


def test_refused_settings_are_told_and_done_without() -> None:
    """A provider that refuses the settings is used with those it has."""
    core = Core(ready=False)
    core.connected()
    (failed,) = core.hear("error", error={"code": "unknown_parameter", "message": "No 'x'."})
    assert failed == base.Failed("provider_failed", "OpenAI reports a problem: No 'x'.", False)
    assert core.ready


def test_a_new_connection_is_not_ready() -> None:
    """What the last connection had agreed to does not hold for the next."""
    core = Core()
    core.hear("input_audio_buffer.speech_started", item_id="u1")
    core.connected()
    assert not any((core.alive, core.ready, core.user_speaking))


# A whole turn


def test_a_whole_turn() -> None:
    """The full ladder of events of one turn becomes these, in this order."""
    core = Core()
    heard: list[base.BackendEvent] = []
    heard += core.hear("input_audio_buffer.speech_started", item_id="u1", audio_start_ms=100)
    heard += core.hear("input_audio_buffer.speech_stopped", item_id="u1", audio_end_ms=900)
    heard += core.commit_turn()
    heard += core.hear("conversation.item.added", item=user_item(), previous_item_id=None)
    heard += core.hear("conversation.item.done", item=user_item(), previous_item_id=None)
    heard += core.hear(f"{TRANSCRIPTION}.delta", item_id="u1", content_index=0, delta="How ")
    heard += core.hear(f"{TRANSCRIPTION}.delta", item_id="u1", content_index=0, delta="are you")
    heard += core.heard(" How are you? ")
    core.begin()
    item = {"id": "a1", "type": "message", "role": "assistant", "content": []}
    heard += core.hear("conversation.item.added", item=item, previous_item_id="u1")
    part = {"type": "audio", "transcript": ""}
    heard += core.hear("response.content_part.added", response_id="r1", item_id="a1", part=part)
    heard += core.say("Fine, ")
    heard += core.speak(100)
    heard += core.say("thanks.")
    heard += core.speak(50)
    heard += core.spoken()
    heard += core.said("Fine, thanks.")
    heard += core.hear("response.content_part.done", response_id="r1", item_id="a1", part=part)
    heard += core.hear("conversation.item.done", item=item, previous_item_id="u1")
    heard += core.hear("response.output_item.done", response_id="r1", item=item)
    heard += core.finish(output=[item], usage={"input_tokens": 5, "output_tokens": 7})
    heard += core.hear("rate_limits.updated", rate_limits=[])
    assert heard == [
        base.SpeechStarted(),
        base.SpeechStopped(),
        base.UserTranscript("u1", "", False),
        base.UserTranscript("u1", "How ", False),
        base.UserTranscript("u1", "How are you", False),
        base.UserTranscript("u1", "How are you?", True),
        base.AgentTranscript("a1", "Fine, ", False),
        base.Audio("a1", pcm(100)),
        base.AgentTranscript("a1", "Fine, thanks.", False),
        base.Audio("a1", pcm(50)),
        base.ReplyDone("a1"),
        base.AgentTranscript("a1", "Fine, thanks.", True),
        base.Usage(input_tokens=5, output_tokens=7),
    ]
    assert turns(core) == [("u1", "user", "How are you?"), ("a1", "assistant", "Fine, thanks.")]
    assert core.sent() == []


def test_beta_names() -> None:
    """The names that servers used before mean the same."""
    core = Core()
    heard = core.hear("conversation.item.created", item=user_item(), previous_item_id=None)
    core.hear("response.created", response={"id": "r1"})
    heard += core.speak(10, name="audio")
    ids = {"response_id": "r1", "item_id": "a1"}
    heard += core.hear("response.audio_transcript.delta", **ids, delta="Hello")
    heard += core.hear("response.audio.done", **ids)
    heard += core.hear("response.audio_transcript.done", **ids, transcript="Hello.")
    assert heard == [
        base.UserTranscript("u1", "", False),
        base.Audio("a1", pcm(10)),
        base.AgentTranscript("a1", "Hello", False),
        base.ReplyDone("a1"),
        base.AgentTranscript("a1", "Hello.", True),
    ]


@pytest.mark.parametrize("name", ["output_text", "text"])
def test_a_reply_of_text_only(name: str) -> None:
    """A reply without audio is written, and ends."""
    core = Core()
    core.begin()
    ids = {"response_id": "r1", "item_id": "a1"}
    heard = core.hear(f"response.{name}.delta", **ids, delta="Hel")
    heard += core.hear(f"response.{name}.done", **ids, text="Hello")
    heard += core.finish()
    assert heard == [
        base.AgentTranscript("a1", "Hel", False),
        base.AgentTranscript("a1", "Hello", True),
        base.ReplyDone("a1"),
    ]


# What is left out


def test_audio_alone_is_a_reply() -> None:
    """Audio deltas are enough: no response, no item, no end of any kind is needed for them."""
    core = Core()
    heard = core.speak(10) + core.speak(10)
    assert heard == [base.Audio("a1", pcm(10)), base.Audio("a1", pcm(10))]
    assert core.finish(output=[]) == [base.ReplyDone("a1")]


def test_a_transcript_without_deltas() -> None:
    """Some servers give the text at once."""
    assert Core().said("Hello.") == [base.AgentTranscript("a1", "Hello.", True)]


@pytest.mark.parametrize("field", [{}, {"transcript": ""}, {"transcript": None}])
def test_a_transcript_of_deltas_only(field: dict[str, Any]) -> None:
    """Where the end brings no text, it is what the deltas gave."""
    core = Core()
    core.say("Hello")
    heard = core.hear("response.output_audio_transcript.done", item_id="a1", **field)
    assert heard == [base.AgentTranscript("a1", "Hello", True)]


def test_a_reply_ends_with_its_response() -> None:
    """Without `output_audio.done` the end of the response is the end of the reply."""
    core = Core()
    core.begin()
    core.speak(10)
    assert core.finish() == [base.ReplyDone("a1")]


def test_the_next_response_ends_the_one_before() -> None:
    """Without `response.done` the beginning of the next is the end."""
    core = Core()
    core.begin()
    core.speak(10)
    assert core.hear("response.created", response={"id": "r2"}) == [base.ReplyDone("a1")]
    assert core.speak(10, "r2", "a2") == [base.Audio("a2", pcm(10))]


def test_a_response_without_items_ends() -> None:
    """A response that gave nothing still tells that nothing more comes."""
    core = Core()
    core.hear("response.created", response={"id": "r1"})
    assert core.finish() == [base.ReplyDone("r1")]


def test_a_turn_without_a_stop_is_stopped_by_its_commit() -> None:
    """Where `speech_stopped` is missing the commit ends the turn."""
    core = Core()
    core.hear("input_audio_buffer.speech_started", item_id="u1")
    assert core.commit_turn() == [base.SpeechStopped(), base.UserTranscript("u1", "", False)]


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("response.output_audio.delta", {"item_id": "a1", "delta": "AAAA"}),
        ("response.output_audio.done", {"item_id": "a1"}),
        ("response.function_call_arguments.done", {"call_id": "c", "name": "f", "arguments": "{}"}),
        ("response.done", {"response": {}}),
    ],
)
def test_ids_may_be_missing(kind: str, rest: dict[str, Any]) -> None:
    """xAI leaves out ids in places; the events are understood."""
    core = Core()
    core.hear(kind, **rest)
    assert not core.unknown


# What comes twice


def test_a_duplicated_ladder_changes_nothing() -> None:
    """Every event that ends or announces something may come twice."""
    once, twice = Core(), Core()
    for core, times in ((once, 1), (twice, 2)):
        heard: list[base.BackendEvent] = []
        item = {"id": "a1", "type": "message", "role": "assistant"}
        call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
        done = {"id": "r1", "output": [item, call], "usage": {"input_tokens": 3}}
        for kind, fields in (
            ("input_audio_buffer.committed", {"item_id": "u1"}),
            ("conversation.item.added", {"item": user_item()}),
            ("response.created", {"response": {"id": "r1"}}),
            ("response.output_item.added", {"response_id": "r1", "item": item}),
            ("response.output_audio.done", {"response_id": "r1", "item_id": "a1"}),
            ("response.output_audio_transcript.done", {"item_id": "a1", "transcript": "Hi"}),
            ("response.function_call_arguments.done", {"response_id": "r1", **call}),
            ("response.output_item.done", {"response_id": "r1", "item": call}),
            ("response.done", {"response": done}),
        ):
            for _ in range(times):
                heard += core.receive({**fields, "type": kind})
        core.tool_output("c1", "{}")
        assert heard == [
            base.UserTranscript("u1", "", False),
            base.ReplyDone("a1"),
            base.AgentTranscript("a1", "Hi", True),
            base.ToolCall("c1", "f", {}),
            base.Usage(input_tokens=3),
        ]
    assert once.commits == twice.commits == 1
    assert once.sent() == twice.sent()
    assert turns(once) == turns(twice)


def test_a_late_duplicate_of_a_response_s_end_does_not_end_the_next() -> None:
    """The next response goes on."""
    core = Core()
    core.reply(10, "One.")
    core.begin("r2", "a2")
    assert core.finish("r1") == []
    assert core.speak(10, "r2", "a2") == [base.Audio("a2", pcm(10))]
    assert not core.idle


def test_text_that_comes_under_two_names_counts_once() -> None:
    """xAI sends the same text as `output_text` and as `text`, and as transcript."""
    core = Core()
    core.begin()
    for word in ("one ", "two"):
        core.say(word)
        core.hear("response.output_text.delta", response_id="r1", item_id="a1", delta=word)
    assert turns(core) == [("a1", "assistant", "one two")]


def test_audio_after_the_end_of_its_reply_is_dropped() -> None:
    """A reply that has ended does not begin again."""
    core = Core()
    core.begin()
    core.speak(10)
    core.spoken()
    assert core.speak(10) == []
