"""The protocol core: the user's turns, and what they type."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from gptme_voice_plugin.backends import base
from tests.support.realtime_core import Core

TRANSCRIPTION = "conversation.item.input_audio_transcription"


def texts(core: Core) -> list[str]:
    return [turn.text for turn in core.history]


# The user's words


@pytest.mark.parametrize("moment", range(5))
def test_the_users_words_keep_their_place(moment: int) -> None:
    """Before, during or after the reply that they got: the place is that of the turn."""
    core = Core()
    core.commit_turn("u1")
    steps: list[Any] = [
        core.begin,
        lambda: core.speak(10),
        lambda: core.said("Fine."),
        core.finish,
    ]
    steps.insert(moment, lambda: core.heard("How are you?"))
    for step in steps:
        step()
    assert texts(core) == ["How are you?", "Fine."]


@pytest.mark.parametrize("order", list(permutations(["u1", "u2", "u3"])))
def test_words_of_several_turns_come_in_any_order(order: tuple[str, ...]) -> None:
    """The order of the transcripts is not that of the turns."""
    core = Core()
    for item, after in (("u1", None), ("u2", "u1"), ("u3", "u2")):
        core.commit_turn(item, after)
    for item in order:
        core.heard(item, item)
    assert texts(core) == ["u1", "u2", "u3"]


def test_a_turn_that_is_taken_late_comes_before_the_reply() -> None:
    """A commit that is told after the reply began names its place."""
    core = Core()
    core.commit_turn("u1")
    core.begin()
    core.say("Reply")
    core.commit_turn("u2", after="u1")
    assert [turn.item_id for turn in core.history] == ["u1", "u2", "a1"]


def test_words_of_a_turn_that_was_never_announced() -> None:
    """A transcript alone is a turn."""
    core = Core()
    assert core.heard("Hello") == [base.UserTranscript("u1", "Hello", True)]
    assert texts(core) == ["Hello"]


def test_a_server_that_gives_a_turn_three_ids() -> None:
    """As LocalAI does: with its commit, its words and its item. It is one turn all the same."""
    core = Core()
    heard: list[base.BackendEvent] = []
    for n in (1, 2):
        heard += core.commit_turn(f"commit{n}", "TODO")
        words = f"Turn {n}."
        heard += core.hear(f"{TRANSCRIPTION}.delta", item_id=f"words{n}", delta="Turn ")
        heard += core.hear(f"{TRANSCRIPTION}.delta", item_id=f"words{n}", delta=f"{n}.")
        heard += core.hear(f"{TRANSCRIPTION}.completed", item_id=f"words{n}", transcript=words)
        content = [{"type": "input_audio", "transcript": words}]
        item = {"type": "message", "role": "user", "id": f"item{n}", "content": content}
        heard += core.hear("conversation.item.added", item=item)
        heard += core.hear("conversation.item.done", item=item)
        core.begin(f"r{n}", f"a{n}")
        core.said("Fine.", f"r{n}", f"a{n}")
        core.finish(f"r{n}")
    captions = [event for event in heard if isinstance(event, base.UserTranscript)]
    assert captions == [
        base.UserTranscript(f"commit{n}", text, final)
        for n in (1, 2)
        for text, final in (
            ("", False),
            ("Turn ", False),
            (f"Turn {n}.", False),
            (f"Turn {n}.", True),
        )
    ]
    assert texts(core) == ["Turn 1.", "Fine.", "Turn 2.", "Fine."]


def test_a_turn_that_goes_on_before_the_words_of_the_last_are_known() -> None:
    """With three ids each, too: the first words are those of the first turn."""
    core = Core()
    core.commit_turn("commit1")
    core.commit_turn("commit2")
    for n in (1, 2):
        core.heard(f"Turn {n}.", f"words{n}")
        content = [{"type": "input_audio"}]
        item = {"type": "message", "role": "user", "id": f"item{n}", "content": content}
        core.hear("conversation.item.added", item=item)
    assert texts(core) == ["Turn 1.", "Turn 2."]


def test_cumulative_transcripts_replace_each_other() -> None:
    """Each `.updated` has the whole text so far, and may take words back."""
    core = Core()
    core.commit_turn()
    heard: list[base.BackendEvent] = []
    for text in ("How", "How our", "How are you"):
        heard += core.hear(f"{TRANSCRIPTION}.updated", item_id="u1", transcript=text)
    heard += core.heard("How are you?")
    assert heard == [
        base.UserTranscript("u1", "How", False),
        base.UserTranscript("u1", "How our", False),
        base.UserTranscript("u1", "How are you", False),
        base.UserTranscript("u1", "How are you?", True),
    ]


@pytest.mark.parametrize(
    ("kind", "field"), [("delta", {"delta": " more"}), ("updated", {"transcript": "Less"})]
)
def test_a_late_partial_transcript_changes_nothing(kind: str, field: dict[str, str]) -> None:
    """After the final words nothing partial counts."""
    core = Core()
    core.heard("All of it.")
    assert core.hear(f"{TRANSCRIPTION}.{kind}", item_id="u1", **field) == []
    assert texts(core) == ["All of it."]


def test_a_failed_transcription_ends_the_caption() -> None:
    """Words that cannot be written down leave nothing behind."""
    core = Core()
    core.commit_turn()
    core.hear(f"{TRANSCRIPTION}.delta", item_id="u1", delta="Ho")
    heard = core.hear(f"{TRANSCRIPTION}.failed", item_id="u1", error={"message": "too short"})
    assert heard == [base.UserTranscript("u1", "", True)]
    assert core.history.replay() == []


def test_only_spoken_items_are_turns() -> None:
    """Items that come back from a replay or from typing are known already."""
    core = Core()
    item = {"id": "x", "type": "message", "role": "user", "content": [{"type": "input_text"}]}
    assert core.hear("conversation.item.added", item=item) == []
    assert texts(core) == []


def test_speech_that_is_noticed() -> None:
    """Beginning and end of speech are told, an end without a beginning is not."""
    core = Core()
    assert core.hear("input_audio_buffer.speech_stopped", item_id="u1") == []
    assert core.hear("input_audio_buffer.speech_started", item_id="u1") == [base.SpeechStarted()]
    assert core.user_speaking
    assert not core.idle
    assert core.hear("input_audio_buffer.speech_stopped", item_id="u1") == [base.SpeechStopped()]
    assert not core.user_speaking


# Ending a turn by hand


def test_a_commit_is_answered() -> None:
    """A turn that the user ends is asked to be answered once it is taken."""
    core = Core()
    core.commit()
    assert core.sent_types() == ["input_audio_buffer.commit"]
    core.commit_turn()
    assert core.sent() == [{"type": "response.create"}]


def test_a_turn_that_the_provider_ends_is_not_asked_for() -> None:
    """The provider answers what it has ended itself."""
    core = Core()
    core.commit_turn()
    assert core.sent() == []


def test_an_empty_commit_is_forgotten() -> None:
    """If nothing was said nothing happens, and the next turn is the provider's own again."""
    core = Core()
    core.commit()
    core.sent()
    assert core.hear("error", error={"code": "input_audio_buffer_commit_empty"}) == []
    core.commit_turn()
    assert core.sent() == []


# Typed text


def test_typed_text_is_answered() -> None:
    """It goes out with an id of ours, takes its place, and an answer is asked for."""
    core = Core()
    core.commit_turn("u1")
    core.text("Hello")
    create, ask = core.sent()
    assert create["type"] == "conversation.item.create"
    assert create["item"]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert core.history.get(create["item"]["id"]) is not None
    assert ask == {"type": "response.create"}
    assert not core.idle


def test_typed_text_waits_for_the_response_before() -> None:
    """While the model answers, the text goes out, and the answer is asked for after."""
    core = Core()
    core.begin()
    core.text("And this?")
    assert core.sent_types() == ["conversation.item.create"]
    core.finish()
    assert core.sent_types() == ["response.create"]


def test_two_texts_at_once_get_one_answer() -> None:
    """A second response is not asked for before the first has begun, only after it."""
    core = Core()
    core.text("One")
    core.text("Two")
    assert core.sent_types() == [
        "conversation.item.create",
        "response.create",
        "conversation.item.create",
    ]
    core.begin()
    core.finish()
    assert core.sent_types() == ["response.create"]
    core.begin("r2", "a2")
    core.finish("r2")
    assert core.sent() == []
