"""The protocol core: errors, and events that nobody expects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import Core, pcm

TRANSCRIPTION = "conversation.item.input_audio_transcription"


# Errors


def test_an_error_in_words_only() -> None:
    """Some servers send a text for an error."""
    (failed,) = Core().hear("error", error="Out of memory")
    assert failed == base.Failed(
        "provider_failed", "OpenAI reports a problem: Out of memory", False
    )


def test_a_final_error_is_fatal() -> None:
    """What will not get better ends the session."""
    (failed,) = Core().hear("error", error={"type": "x", "code": "insufficient_quota"})
    assert isinstance(failed, base.Failed)
    assert (failed.code, failed.fatal) == ("quota_exhausted", True)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "response_cancel_not_active", "message": "No active response."},
        {"code": "input_audio_buffer_commit_empty", "message": "Buffer too small."},
        {"code": "item_truncate_invalid_item_id", "message": "No such item."},
        {"code": "item_delete_invalid_item_id", "message": "No such item."},
        {"code": "unsupported_content_type", "message": "Only audio can be truncated."},
        {"code": "invalid_value", "message": "Audio content of 100ms is already shorter than 2ms."},
        {"code": "session_expired", "message": "60 minutes."},
        {"code": "max_duration", "message": "30 minutes."},
        {"code": "anything", "message": "Not here.", "event_id": "try_12345678"},
    ],
)
def test_errors_about_a_moment_gone_are_not_told(error: dict[str, str]) -> None:
    """Answers to something that the moment had overtaken are no problem of the user's."""
    assert Core().hear("error", error=error) == []


def test_a_failed_response_tells_why() -> None:
    """The reason of a failed response is in its details."""
    core = Core()
    core.begin()
    details = {"type": "failed", "error": {"code": "server_error", "message": "It broke."}}
    assert core.finish(status="failed", status_details=details) == [
        base.ReplyDone("a1"),
        base.Failed("provider_failed", "OpenAI reports a problem: It broke.", False),
    ]


@pytest.mark.parametrize("details", [None, "broken", {}, {"error": None}, ["x"], 5])
def test_a_failed_response_without_a_reason(details: Any) -> None:
    """It ends all the same, and is told."""
    core = Core()
    core.begin()
    done, failed = core.finish(status="failed", status_details=details)
    assert done == base.ReplyDone("a1")
    assert isinstance(failed, base.Failed)


def test_an_answer_that_came_too_soon_is_asked_for_again() -> None:
    """If another response is active when we ask, we ask again when it is done, once."""
    core = Core()
    core.text("Hello")
    core.sent()
    error = {"code": "conversation_already_has_active_response", "message": "Busy."}
    assert core.hear("error", error=error) == []
    assert core.sent() == []
    core.begin()
    core.finish()
    assert core.sent_types() == ["response.create"]
    core.begin("r2", "a2")
    core.finish("r2")
    assert core.sent() == []


def test_an_error_does_not_block_the_next_answer() -> None:
    """If the provider refuses to answer, the next thing said can be answered."""
    core = Core()
    core.text("One")
    core.sent()
    core.hear("error", error={"code": "server_error", "message": "No."})
    core.text("Two")
    assert core.sent_types() == ["conversation.item.create", "response.create"]


# Events that nobody expects

KINDS = [
    "session.created",
    "session.updated",
    "conversation.created",
    "conversation.item.added",
    "conversation.item.created",
    *(f"{TRANSCRIPTION}.{end}" for end in ("delta", "updated", "completed", "failed")),
    "input_audio_buffer.speech_started",
    "input_audio_buffer.committed",
    "response.created",
    *(f"response.output_item.{end}" for end in ("added", "done")),
    *(f"response.output_audio.{end}" for end in ("delta", "done")),
    *(f"response.output_audio_transcript.{end}" for end in ("delta", "done")),
    *(f"response.text.{end}" for end in ("delta", "done")),
    "response.function_call_arguments.done",
    "response.done",
    "error",
    "ping",
]
SCALARS = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**30, "", "AAAA", "a1", "r1", "c1", "{}", "[", "try_1", [], {}, [5]]
)


def shaped(also: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have some of the keys that count, with values that may be right."""
    keys = "id item_id call_id response_id previous_item_id delta transcript text name arguments"
    plain = {key: SCALARS for key in f"{keys} code message input_tokens usage".split()}
    return st.fixed_dictionaries({}, optional={**plain, **also})


STATUSES = st.sampled_from(["completed", "failed", "cancelled", "incomplete", 5])
CONTENT = SCALARS | st.lists(SCALARS | st.just({"type": "input_audio"}), max_size=2)
ITEM = SCALARS | shaped(
    {
        "type": st.sampled_from(["message", "function_call", 5]),
        "role": st.sampled_from(["user", "assistant", 5]),
        "content": CONTENT,
    }
)
ERROR = SCALARS | shaped({})
RESPONSE = SCALARS | shaped(
    {
        "status": STATUSES,
        "output": SCALARS | st.lists(ITEM, max_size=3),
        "status_details": SCALARS | st.fixed_dictionaries({"error": ERROR}),
        "usage": ERROR,
    }
)
EVENTS = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(KINDS),
    shaped(
        {
            "item": ITEM,
            "response": RESPONSE,
            "error": ERROR,
            "session": ERROR,
            "conversation": ERROR,
        }
    ),
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner)
)
ALLOWED = (base.BackendEvent).__args__  # type: ignore[attr-defined]


def check_types(event: object) -> None:
    assert isinstance(event, ALLOWED)
    for name, kind in {
        "item_id": str,
        "text": str,
        "pcm": bytes,
        "call_id": str,
        "name": str,
    }.items():
        assert isinstance(getattr(event, name, kind()), kind), event


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENTS | EVENTS | EVENTS | JSON, min_size=1, max_size=5))
def test_whatever_comes_is_survived(said: list[Any]) -> None:
    """No JSON value raises, or makes anything but events, or breaks what is sent later."""
    core = Core()
    for event in said:
        for made in core.receive(event):
            check_types(made)
        core.receive_binary(b"\1\2\3")
        core.sent()
    core.interrupt("a1", 1)
    core.interrupt(None, 0)
    core.lost()
    core.forget_unwritten()
    core.text("Still there?")
    core.connected()
    core.sent()
    core.take_up()
    core.sent()


@pytest.mark.parametrize("event", [None, 5, "text", [], {}, {"type": 5}, {"type": None}, True])
def test_what_is_no_event_is_counted(event: Any) -> None:
    """A message without a type is noted, and ignored."""
    core = Core()
    assert core.receive(event) == []
    assert core.unknown == {"(no type)": 1}


def test_unknown_events_are_counted() -> None:
    """A provider may add events."""
    core = Core()
    assert core.hear("ping", timestamp=1) == core.hear("ping", timestamp=2) == []
    assert core.unknown == {"ping": 2}


@pytest.mark.parametrize("kind", [k for k in KINDS if "." in k and "session" not in k])
def test_an_event_without_its_fields_does_no_harm(kind: str) -> None:
    """An event of a known type and nothing else is survived, and a turn works after it."""
    core = Core()
    core.hear(kind)
    core.sent()
    core.begin("r9", "a9")
    assert core.speak(10, "r9", "a9") == [base.Audio("a9", pcm(10))]
