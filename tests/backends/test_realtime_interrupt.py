"""The protocol core: interruption, and that nothing stale is ever let through."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import Core, audio, pcm

TEXT = "one two three four"


def without_id(event: dict[str, Any]) -> dict[str, Any]:
    assert event["event_id"].startswith("try_")
    return {key: value for key, value in event.items() if key != "event_id"}


def truncate(ms: int) -> dict[str, Any]:
    return {
        "type": "conversation.item.truncate",
        "item_id": "a1",
        "content_index": 0,
        "audio_end_ms": ms,
    }


CANCEL = {"type": "response.cancel", "response_id": "r1"}
DELETE = {"type": "conversation.item.delete", "item_id": "a1"}


def speaking(ms: int = 1000) -> Core:
    """A core whose provider is in the middle of a reply."""
    core = Core()
    core.begin()
    core.speak(ms)
    core.say(TEXT)
    return core


def done(ms: int = 1000) -> Core:
    """A core whose provider has given a whole reply."""
    core = Core()
    core.reply(ms, TEXT)
    return core


def sent(core: Core) -> list[dict[str, Any]]:
    return [without_id(event) for event in core.sent()]


# What the provider and the user are told


def test_a_reply_that_is_being_generated_is_cancelled_and_cut() -> None:
    """It is stopped, cut where the listener stopped, and so is its caption."""
    core = speaking()
    assert core.interrupt("a1", 500) == [base.AgentTranscript("a1", "one two", True, cut=True)]
    assert sent(core) == [CANCEL, truncate(500)]


def test_a_reply_that_was_generated_long_ago_is_cut() -> None:
    """There is nothing to cancel, and the provider forgets what was not heard."""
    core = done()
    assert core.interrupt("a1", 500) == [base.AgentTranscript("a1", "one two", True, cut=True)]
    assert sent(core) == [truncate(500)]


def test_another_response_is_not_cancelled_with_an_old_reply() -> None:
    """Cutting an old reply leaves the one that is being generated alone."""
    core = done()
    core.begin("r2", "a2")
    core.interrupt("a1", 500)
    assert sent(core) == [truncate(500)]
    assert core.speak(10, "r2", "a2") == [base.Audio("a2", pcm(10))]


def test_the_response_that_follows_an_unended_one_is_not_cancelled() -> None:
    """Also where a server never says that the first was done."""
    core = speaking()
    core.hear("response.created", response={"id": "r2"})
    core.interrupt("a1", 500)
    assert sent(core) == [truncate(500)]
    assert core.speak(10, "r2", "a2") == [base.Audio("a2", pcm(10))]


@pytest.mark.parametrize("heard_ms", [0, -5])
def test_a_reply_of_which_nothing_was_heard_is_deleted(heard_ms: int) -> None:
    """The provider forgets it, and so do we."""
    core = done()
    assert core.interrupt("a1", heard_ms) == [base.AgentTranscript("a1", "", True, cut=True)]
    assert sent(core) == [DELETE]
    assert core.history.get("a1") is None


@pytest.mark.parametrize("heard_ms", [1000, 5000])
def test_a_reply_that_was_heard_whole_is_left_alone(heard_ms: int) -> None:
    """Truncating would lose its transcript."""
    core = done()
    assert core.interrupt("a1", heard_ms) == []
    assert core.sent() == []
    assert [turn.text for turn in core.history] == [TEXT]


def test_a_reply_heard_whole_gets_the_rest_of_its_transcript() -> None:
    """Where the text comes after the audio, the end of listening does not cut it."""
    core = speaking()
    core.spoken()
    assert core.interrupt("a1", 1000) == []
    assert core.said(f"{TEXT} five") == [base.AgentTranscript("a1", f"{TEXT} five", True)]
    core.finish()
    assert core.sent() == []


def test_a_reply_without_transcript_that_was_heard_whole_is_left_alone() -> None:
    """A server that writes nothing down is not told to truncate at the end."""
    core = Core()
    core.begin()
    core.speak(1000)
    core.spoken()
    core.finish()
    assert core.interrupt("a1", 1000) == []
    assert core.sent() == []


def test_all_heard_so_far_of_a_growing_reply_is_cut_there() -> None:
    """The listener is as far as the provider: it stops here."""
    core = speaking()
    core.said(TEXT)
    assert core.interrupt("a1", 1000) == [base.AgentTranscript("a1", TEXT, True, cut=True)]
    assert sent(core) == [CANCEL, truncate(1000)]


@given(st.integers(1, 3000), st.integers(1, 10_000), st.integers(0, 47))
@settings(deadline=None)
def test_a_truncation_is_never_beyond_what_was_received(ms: int, heard: int, more: int) -> None:
    """A clock that is ahead cannot ask for more than there is, which would be an error."""
    core = Core()
    core.begin()
    core.speak(pcm(ms) + bytes(more))
    core.interrupt("a1", heard)
    assert [e["audio_end_ms"] for e in core.sent() if "audio_end_ms" in e] == [min(heard, ms)]


def test_an_unknown_item_is_no_error() -> None:
    """There is nothing to cut."""
    core = Core()
    assert core.interrupt("never", 100) == []
    assert core.sent() == []


def test_a_reply_that_is_cut_twice_only_gets_shorter() -> None:
    """A second interruption of the same item never brings words back."""
    core = done()
    core.interrupt("a1", 500)
    (cut,) = core.interrupt("a1", 300)
    assert isinstance(cut, base.AgentTranscript)
    assert "one two".startswith(cut.text)


def test_the_history_ends_where_the_listening_ended() -> None:
    """A new connection is told what was heard."""
    core = done()
    core.interrupt("a1", 500)
    (event,) = core.history.replay()
    assert event["item"]["content"] == [{"type": "output_text", "text": "one two"}]


# Before there is audio


def test_a_response_without_audio_is_cancelled() -> None:
    """None stops what is being prepared."""
    core = Core()
    core.begin()
    assert core.interrupt(None, 0) == []
    assert sent(core) == [CANCEL]
    assert core.speak(10) == []
    assert core.receive_binary(pcm(10)) == []


@pytest.mark.parametrize("asked_by", ["us", "the provider"])
def test_a_response_that_has_not_begun_is_cancelled_when_it_does(asked_by: str) -> None:
    """Asked for, not yet begun, and no longer wanted: it is stopped as soon as it has an id."""
    core = Core()
    if asked_by == "us":
        core.text("Hello")
    else:
        core.commit_turn()
    core.sent()
    core.interrupt(None, 0)
    assert core.sent() == []
    core.begin()
    assert sent(core) == [CANCEL]
    assert core.speak(10) == []
    core.finish(status="cancelled")
    assert core.idle


@pytest.mark.parametrize("turn", ["text", "speech"])
def test_what_is_said_next_is_answered(turn: str) -> None:
    """An interruption of nothing never reaches into the next turn."""
    core = Core()
    core.commit_turn()
    core.interrupt(None, 0)
    if turn == "text":
        core.text("Hello")
    else:
        core.hear("input_audio_buffer.speech_started", item_id="u2")
        core.commit_turn("u2")
    core.sent()
    core.begin()
    assert core.speak(10) == [base.Audio("a1", pcm(10))]


def test_interrupting_nothing_does_nothing() -> None:
    """Where no reply is on its way there is none to stop."""
    core = Core()
    assert core.interrupt(None, 0) == []
    assert core.sent() == []
    core.begin()
    assert core.sent() == []
    assert core.speak(10) == [base.Audio("a1", pcm(10))]


def test_an_answer_that_was_to_be_asked_for_is_not() -> None:
    """What waits for the active response to end is dropped with it."""
    core = Core()
    core.begin()
    core.text("And this?")
    core.sent()
    core.interrupt(None, 0)
    core.sent()
    core.finish(status="cancelled")
    assert core.sent() == []
    assert core.idle


# Nothing stale


@pytest.mark.parametrize("status", ["cancelled", "completed", "incomplete"])
def test_nothing_late_of_a_cut_reply_comes_through(status: str) -> None:
    """Neither audio nor words, however long the provider goes on."""
    core = speaking()
    core.interrupt("a1", 500)
    late = core.speak(10) + core.say(" five") + core.said(f"{TEXT} five")
    late += core.spoken()
    late += core.finish(status=status, output=[{"type": "message", "id": "a1"}])
    late += core.speak(10) + core.receive_binary(pcm(10))
    assert audio(late) == b""
    assert not any(isinstance(event, base.AgentTranscript) for event in late)
    assert [turn.text for turn in core.history] == ["one two"]


def test_another_item_of_a_cancelled_response_does_not_play() -> None:
    """A response is cut as a whole."""
    core = speaking()
    core.interrupt("a1", 500)
    item = {"id": "a2", "type": "message", "role": "assistant"}
    core.hear("response.output_item.added", response_id="r1", item=item)
    assert core.speak(10, "r1", "a2") == []
    assert core.receive_binary(pcm(10)) == []


def test_late_audio_without_a_response_id_does_not_play() -> None:
    """The item is enough to know it."""
    core = speaking()
    core.interrupt("a1", 500)
    assert core.hear("response.output_audio.delta", item_id="a1", delta="AAAA") == []


def test_a_cut_reply_does_not_touch_the_next() -> None:
    """The flag of an interruption ends with its reply."""
    core = speaking()
    core.speak(b"\1")
    core.interrupt("a1", 500)
    core.finish(status="cancelled")
    core.begin("r2", "a2")
    heard = core.speak(10, "r2", "a2") + core.said("Next.", "r2", "a2") + core.finish("r2")
    assert heard == [
        base.Audio("a2", pcm(10)),
        base.AgentTranscript("a2", "Next.", True),
        base.ReplyDone("a2"),
    ]


def test_a_server_that_announces_no_responses_is_told_to_cancel() -> None:
    """Without an id, the active response is meant."""
    core = Core()
    core.speak(1000)
    core.say(TEXT)
    core.interrupt("a1", 500)
    assert sent(core) == [{"type": "response.cancel"}, truncate(500)]


def test_the_provider_stops_a_reply_by_itself() -> None:
    """A response that it cancels is told once, as an interruption of its item."""
    core = speaking()
    heard = core.finish(status="cancelled", status_details={"reason": "turn_detected"})
    assert heard == [base.Interrupted("a1")]
    assert core.speak(10) == []


def test_a_cancelled_reply_whose_audio_had_ended() -> None:
    """Its audio is whole, or was ended in due form: no second end is told."""
    core = speaking()
    assert core.spoken() == [base.ReplyDone("a1")]
    assert core.finish(status="cancelled") == []


@given(st.lists(st.sampled_from(["speak", "say", "cut", "cut none", "finish", "next", "binary"])))
@settings(deadline=None)
def test_no_order_lets_stale_audio_through(steps: list[str]) -> None:
    """Whatever happens when, audio is only ever of a reply that was not cut."""
    core = Core()
    number, cut = 0, {"a0"}
    for step in ["next", *steps]:
        item, response = f"a{number}", f"r{number}"
        heard: list[base.BackendEvent] = []
        if step == "next":
            heard += core.finish(response)
            number += 1
            core.hear("response.created", response={"id": f"r{number}"})
            message = {"id": f"a{number}", "type": "message", "role": "assistant"}
            core.hear("response.output_item.added", response_id=f"r{number}", item=message)
        elif step == "speak":
            heard += core.speak(10, response, item)
        elif step == "binary":
            heard += core.receive_binary(pcm(10))
        elif step == "say":
            heard += core.say("word ", response, item)
        elif step == "finish":
            heard += core.finish(response)
            cut.add(item)
        else:
            heard += core.interrupt(item if step == "cut" else None, 5)
            cut.add(item)
        core.sent()
        assert not {event.item_id for event in heard if isinstance(event, base.Audio)} & cut
