"""The history of a conversation, and how much of a reply was heard."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptme_voice_plugin.backends.history import MAX_TURNS, History, heard_text
from tests.support.openai_types import assert_client_event

SENTENCE = "The quick brown fox"


def ids(history: History) -> list[str]:
    return [turn.item_id for turn in history]


# Places


def test_items_come_in_the_order_they_were_announced() -> None:
    """A new item without a known predecessor comes last."""
    history = History()
    for item_id in ("a", "b", "c"):
        history.place(item_id, "user")
    assert ids(history) == ["a", "b", "c"]


def test_an_item_comes_after_its_predecessor() -> None:
    """An item that is announced late takes the place that it names."""
    history = History()
    history.place("user1", "user")
    history.place("reply", "assistant")
    history.place("user2", "user", after="user1")
    assert ids(history) == ["user1", "user2", "reply"]


@pytest.mark.parametrize("after", [None, "", "root", "unknown"])
def test_an_item_without_known_predecessor_comes_last(after: str | None) -> None:
    """A predecessor that is not known, as after a reconnection, changes nothing."""
    history = History()
    history.place("a", "user")
    history.place("b", "assistant", after=after)
    assert ids(history) == ["a", "b"]


def test_a_known_item_keeps_its_place() -> None:
    """Announcing an item again returns its turn as it is, where it is."""
    history = History()
    first = history.place("a", "user")
    history.place("b", "assistant")
    first.text = "hello"
    assert history.place("a", "user", after="b") is first
    assert ids(history) == ["a", "b"]


@settings(deadline=None)
@given(st.permutations(list(range(5))))
def test_texts_may_arrive_in_any_order(order: list[int]) -> None:
    """The order in which texts come has no influence on the order of the turns."""
    history = History()
    for i in range(5):
        history.place(f"item{i}", "user", after=f"item{i - 1}")
    for i in order:
        history.place(f"item{i}", "user").text = f"text {i}"
    assert [turn.text for turn in history] == [f"text {i}" for i in range(5)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 9)))))
def test_every_item_has_one_place(announced: list[tuple[int, int | None]]) -> None:
    """Whatever is announced, however often, no item is there twice and none is missing."""
    history = History()
    for item, after in announced:
        history.place(str(item), "user", None if after is None else str(after))
    assert sorted(ids(history)) == sorted({str(item) for item, _ in announced})


def test_an_item_is_removed() -> None:
    """Only the removed item is gone; an unknown one is no error."""
    history = History()
    history.place("a", "user")
    history.place("b", "assistant")
    history.remove("a")
    history.remove("never")
    assert ids(history) == ["b"]
    assert history.get("a") is None


def test_old_turns_are_forgotten() -> None:
    """The history has a bound, and it is the oldest turns that go."""
    history = History()
    for i in range(MAX_TURNS + 10):
        history.place(str(i), "user")
    assert ids(history) == [str(i) for i in range(10, MAX_TURNS + 10)]


def test_a_late_item_is_not_the_one_forgotten() -> None:
    """A new item near the front of a full history stays."""
    history = History()
    for i in range(MAX_TURNS):
        history.place(str(i), "user")
    history.place("late", "user", after="0")
    assert ids(history)[0] == "late"
    assert len(ids(history)) == MAX_TURNS


# Replay


def test_a_replay_tells_both_sides_as_text() -> None:
    """The user's words are `input_text`, the model's `output_text`, in order, without audio."""
    history = History()
    history.place("u", "user").text = "How are you?"
    history.place("a", "assistant").text = "Fine."
    events = history.replay()
    assert [event["item"] for event in events] == [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "How are you?"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Fine."}],
        },
    ]
    for event in events:
        assert_client_event(event)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_replay_leaves_out_what_has_no_words(text: str) -> None:
    """A turn whose words never came, or were none, is not told."""
    history = History()
    history.place("u", "user").text = text
    assert history.replay() == []


def test_a_replay_is_bounded() -> None:
    """No more than the newest turns are told."""
    history = History()
    for i in range(MAX_TURNS + 1):
        history.place(str(i), "user").text = str(i)
    events = history.replay()
    assert len(events) == MAX_TURNS
    assert events[-1]["item"]["content"][0]["text"] == str(MAX_TURNS)


# What was heard


@pytest.mark.parametrize("heard_ms", [0, -1])
def test_nothing_was_heard(heard_ms: int) -> None:
    """No time heard, no words."""
    assert heard_text(SENTENCE, heard_ms, 1000) == ""


def test_no_audio_was_heard() -> None:
    """Of a reply that has no audio nothing was heard."""
    assert heard_text(SENTENCE, 1000, 0) == ""


@pytest.mark.parametrize("heard_ms", [1000, 5000])
def test_all_was_heard(heard_ms: int) -> None:
    """The whole time, or more by a wrong clock, is the whole text."""
    assert heard_text(SENTENCE, heard_ms, 1000) == SENTENCE


@pytest.mark.parametrize(
    ("heard_ms", "text"),
    [
        (100, ""),
        (157, ""),
        (158, "The"),
        (473, "The"),
        (474, "The quick"),
        (500, "The quick"),
        (789, "The quick"),
        (790, "The quick brown"),
        (999, "The quick brown"),
    ],
)
def test_a_cut_falls_between_words(heard_ms: int, text: str) -> None:
    """The word that was being spoken does not count, and no space is left at the end."""
    assert heard_text(SENTENCE, heard_ms, 1000) == text


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0"])
def test_any_space_parts_words(space: str) -> None:
    """Line breaks and the like part words as spaces do."""
    assert heard_text(f"one{space}twooo", 700, 1000) == "one"


def test_a_script_without_spaces_is_cut_between_characters() -> None:
    """Chinese and Japanese have no spaces; half a reply heard is not nothing heard."""
    assert heard_text("今日は天気がいい", 500, 1000) == "今日は天"


@settings(deadline=None)
@given(st.text("ab \n\t\u00a0.é今🙂"), st.integers(-10, 3000), st.integers(0, 2000))
def test_what_was_heard_is_a_beginning(text: str, heard_ms: int, total_ms: int) -> None:
    """Whatever was heard of a text, the text begins with it."""
    assert text.startswith(heard_text(text, heard_ms, total_ms))


@settings(deadline=None)
@given(st.text("a \n今"))
def test_who_listens_longer_hears_more(text: str) -> None:
    """What was heard after a longer time begins with what was heard before."""
    heard = [heard_text(text, ms, len(text)) for ms in range(len(text) + 1)]
    assert all(
        longer.startswith(shorter) for shorter, longer in zip(heard, heard[1:], strict=False)
    )


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1), min_size=1), st.integers(0, 999))
def test_only_whole_words_are_heard(words: list[str], heard_ms: int) -> None:
    """What was heard consists of the first words of the text, whole."""
    heard = heard_text(" ".join(words), heard_ms, 1000).split()
    assert heard == words[: len(heard)]
