"""The protocol core over several connections."""

from __future__ import annotations

import pytest

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import Core, pcm


def told(core: Core) -> list[str]:
    """Return, once, what the provider is told: texts of items, and other events' types."""
    return [
        event["item"]["content"][0]["text"] if "item" in event else event["type"]
        for event in core.sent()
    ]


def talk(core: Core) -> None:
    """Have a turn of both sides."""
    core.commit_turn("u1")
    core.heard("How are you?")
    core.reply(1000, "Fine.")
    core.sent()


# The end of a connection


def test_a_reply_that_was_on_its_way_ends() -> None:
    """What has come of it is all there is, and the rest never comes."""
    core = Core()
    core.begin()
    core.speak(100)
    assert core.lost() == [base.ReplyDone("a1")]
    assert core.lost() == []
    assert core.speak(100) == []


def test_nothing_was_on_its_way() -> None:
    """A connection that ends in silence ends in silence."""
    core = Core()
    talk(core)
    assert core.lost() == []


# The next connection


def test_the_conversation_is_told_again() -> None:
    """A new session hears both sides, in order; nothing is asked."""
    core = Core()
    talk(core)
    core.lost()
    core.connect()
    assert told(core) == ["How are you?", "Fine."]


def test_what_the_user_did_not_hear_is_not_told() -> None:
    """An interrupted reply is told as far as it was heard, one that was not heard not at all."""
    core = Core()
    core.reply(1000, "one two three four")
    core.reply(1000, "five six", "r2", "a2")
    core.interrupt("a1", 500)
    core.interrupt("a2", 0)
    core.sent()
    core.lost()
    core.connect()
    assert told(core) == ["one two"]


def test_nothing_is_left_over_for_the_new_connection() -> None:
    """What was to be sent on the old one is not sent on the new one."""
    core = Core()
    core.begin()
    core.interrupt(None, 0)
    core.commit()
    core.lost()
    core.connect()
    assert core.sent() == []
    core.commit_turn()
    assert core.sent() == []


def test_an_answer_that_is_still_due_is_asked_for() -> None:
    """The user asked, the connection broke before any answer: it is asked for again."""
    core = Core()
    core.commit_turn("u1")
    core.heard("How are you?")
    core.begin()
    core.lost()
    core.connect()
    assert told(core) == ["How are you?", "response.create"]
    assert not core.idle


def test_an_answer_that_was_begun_is_not_asked_for() -> None:
    """Part of it was heard; it is not begun anew."""
    core = Core()
    core.commit_turn("u1")
    core.heard("How are you?")
    core.begin()
    core.speak(100)
    core.say("Fi")
    core.lost()
    core.connect()
    assert told(core) == ["How are you?", "Fi"]


def test_an_answer_that_the_user_stopped_is_not_asked_for() -> None:
    """An interruption holds over the end of the connection."""
    core = Core()
    core.text("Hello")
    core.interrupt(None, 0)
    core.lost()
    core.connect()
    assert told(core) == ["Hello"]
    core.begin()
    assert core.speak(10) == [base.Audio("a1", pcm(10))]


def test_text_typed_without_a_connection_is_answered() -> None:
    """It is told with the rest, once, and an answer is asked for."""
    core = Core()
    talk(core)
    core.lost()
    core.text("Still there?")
    core.take_outgoing()  # there is nowhere to send it
    core.connect()
    assert told(core) == ["How are you?", "Fine.", "Still there?", "response.create"]


def test_text_typed_while_the_settings_are_under_way_is_answered() -> None:
    """A connection that is not ready yet takes nothing, and loses nothing."""
    core = Core()
    core.lost()
    core.connected()
    core.take_outgoing()
    core.text("Still there?")
    core.take_outgoing()
    core.hear("session.updated", session={})
    core.take_up()
    assert told(core) == ["Still there?", "response.create"]


# Resumption


def test_a_conversation_that_is_taken_up_is_not_told_again() -> None:
    """A provider that still has it, by its id, needs no replay."""
    core = Core(ready=False)
    core.connect(conversation={"id": "conv1"})
    talk(core)
    core.lost()
    core.connect(conversation={"id": "conv1"})
    assert told(core) == []


@pytest.mark.parametrize("second", ["conv2", None])
def test_another_conversation_is_told(second: str | None) -> None:
    """A provider that has forgotten it begins another, or names none."""
    core = Core(ready=False)
    core.connect(conversation={"id": "conv1"})
    talk(core)
    core.lost()
    if second is None:
        core.connect()
    else:
        core.connect(conversation={"id": second})
    assert told(core) == ["How are you?", "Fine."]
    assert core.conversation_id == second


def test_a_resumed_conversation_gets_the_answer_that_is_due() -> None:
    """The turn is there; only the answer is asked for."""
    core = Core(ready=False)
    core.connect(conversation={"id": "conv1"})
    core.commit_turn("u1")
    core.heard("How are you?")
    core.lost()
    core.connect(conversation={"id": "conv1"})
    assert told(core) == ["response.create"]


def test_a_resumed_conversation_gets_the_text_it_has_not_seen() -> None:
    """What was typed while the connection was gone is told, what had arrived is not."""
    core = Core(ready=False)
    core.connect(conversation={"id": "conv1"})
    core.text("Before")
    item = core.sent()[0]["item"]
    core.hear("conversation.item.added", item=item)
    core.reply(10, "Yes.")
    core.lost()
    core.text("Meanwhile")
    core.take_outgoing()
    core.connect(conversation={"id": "conv1"})
    assert told(core) == ["Meanwhile", "response.create"]


def test_resumed_items_make_no_new_turns() -> None:
    """A provider that tells the conversation back tells nothing new."""
    core = Core(ready=False)
    core.connect(conversation={"id": "conv1"})
    talk(core)
    core.lost()
    core.connect(conversation={"id": "conv1"})
    for item, role, kind in (("u1", "user", "input_audio"), ("a1", "assistant", "output_audio")):
        message = {"id": item, "type": "message", "role": role, "content": [{"type": kind}]}
        assert core.hear("conversation.item.created", item=message) == []
    assert [turn.text for turn in core.history] == ["How are you?", "Fine."]


# A turn whose words never came


def test_a_turn_without_words_is_forgotten() -> None:
    """Its audio is to be sent again, under another item."""
    core = Core()
    core.commit_turn("u1")
    core.hear("conversation.item.input_audio_transcription.delta", item_id="u1", delta="How")
    assert core.forget_unwritten() == "u1"
    assert core.forget_unwritten() is None
    core.lost()
    core.connect()
    assert told(core) == []


def test_a_turn_with_words_is_kept() -> None:
    """Words that are known are told as text."""
    core = Core()
    core.commit_turn("u1")
    core.heard("How are you?")
    assert core.forget_unwritten() is None


def test_a_turn_that_was_answered_is_kept() -> None:
    """It need not be said again, though its words are missing."""
    core = Core()
    core.commit_turn("u1")
    core.begin()
    core.speak(10)
    assert core.forget_unwritten() is None
    assert core.history.get("u1") is not None


def test_nothing_was_said() -> None:
    """Without a turn there is none to forget."""
    assert Core().forget_unwritten() is None


# Announcements


def test_an_announcement_is_spoken_word_for_word() -> None:
    """xAI's own item type, which answers by itself: no response is asked for."""
    core = Core()
    core.announce("Your build is done.")
    assert core.take_outgoing() == [
        {
            "type": "conversation.item.create",
            "item": {
                "type": "force_message",
                "role": "assistant",
                "interruptible": True,
                "content": [{"type": "output_text", "text": "Your build is done."}],
            },
        }
    ]
