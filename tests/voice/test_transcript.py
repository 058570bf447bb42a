"""Who said what: complete turns, once each, in the order they were spoken."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from gptme_voice_plugin.backends.base import Usage
from gptme_voice_plugin.voice.transcript import (
    REPLY_SECONDS,
    WORDS_SECONDS,
    SpokenTurn,
    Transcript,
)


def texts(turns: list[SpokenTurn]) -> list[tuple[str, str]]:
    """Return who said what."""
    return [(turn.role, turn.text) for turn in turns]


def reply(transcript: Transcript, item: str, text: str, now: float) -> None:
    """Let a reply be made, with sound."""
    transcript.replying(item, text, True, False, now)
    transcript.sounding(item, now)
    transcript.generated(item, now)


def test_a_turn_of_each() -> None:
    """The user's words at once; the reply when it has been heard, not when it was made."""
    transcript = Transcript()
    transcript.speech_started(1.0)
    transcript.speech_stopped(3.5)
    transcript.said("u", "", False, 3.6)
    transcript.said("u", "Hello?", True, 4.0)
    (user,) = transcript.take(4.0)
    assert (user.number, user.role, user.text) == (1, "user", "Hello?")
    assert (user.began, user.seconds) == (1.0, 2.5)
    reply(transcript, "a", "Hello!", 4.5)
    assert transcript.take(5.0) == [] and transcript.next_due() is None
    transcript.heard("a", 2.0, 6.5)
    (agent,) = transcript.take(6.5)
    assert (agent.number, agent.role, agent.text, agent.unheard) == (2, "assistant", "Hello!", "")
    assert (agent.began, agent.seconds) == (4.5, 2.0)


def test_words_that_come_after_the_reply() -> None:
    """A reply waits for what it answers to be written down."""
    transcript = Transcript()
    transcript.said("u", "", False, 1.0)
    reply(transcript, "a", "Four.", 2.0)
    transcript.heard("a", 1.0, 3.0)
    assert transcript.awaits_words
    assert transcript.take(3.1) == []
    transcript.said("u", "Two and two?", True, 4.0)
    assert not transcript.awaits_words
    assert texts(transcript.take(4.0)) == [("user", "Two and two?"), ("assistant", "Four.")]


def test_words_that_stay_away() -> None:
    """They hold nobody up for ever; if they come after all they are not lost."""
    transcript = Transcript()
    transcript.said("u", "", False, 1.0)
    reply(transcript, "a", "Four.", 2.0)
    transcript.heard("a", 1.0, 3.0)
    due = transcript.next_due()
    assert due == 3.0 + WORDS_SECONDS
    assert transcript.take(due - 0.01) == []
    assert texts(transcript.take(due)) == [("assistant", "Four.")]
    transcript.said("u", "Two and two?", True, 60.0)
    assert texts(transcript.take(60.0)) == [("user", "Two and two?")]


def test_an_interrupted_reply() -> None:
    """It ends where the listener stopped it; the rest is kept apart."""
    transcript = Transcript()
    reply(transcript, "a", "One two three four.", 1.0)
    transcript.cut("a", 500, 2000, 1.6)
    assert transcript.take(1.7) == [], "the backend will say which words were heard"
    transcript.replying("a", "One two", True, True, 1.8)
    (turn,) = transcript.take(1.8)
    assert (turn.text, turn.unheard, turn.seconds) == ("One two", "three four.", 0.5)


def test_an_interrupted_reply_whose_heard_words_nobody_says() -> None:
    """Then they are judged by the share of the sound that was heard."""
    transcript = Transcript()
    reply(transcript, "a", "One two three four.", 1.0)
    transcript.cut("a", 1000, 2000, 2.0)
    assert transcript.next_due() == 2.0 + REPLY_SECONDS
    (turn,) = transcript.take(2.0 + REPLY_SECONDS)
    assert (turn.text, turn.unheard) == ("One two", "three four.")


def test_a_reply_that_nobody_heard() -> None:
    """It is kept as what it is: not heard."""
    transcript = Transcript()
    transcript.replying("a", "One two", False, False, 1.0)
    transcript.cut_unspoken(1.1)
    (turn,) = transcript.take(10.0)
    assert (turn.text, turn.unheard) == ("", "One two")


def test_nothing_late_makes_a_turn_anew() -> None:
    """What comes of an item that is a turn already changes nothing."""
    transcript = Transcript()
    reply(transcript, "a", "One.", 1.0)
    transcript.heard("a", 1.0, 2.0)
    transcript.said("u", "Hi.", True, 2.5)
    assert len(transcript.take(3.0)) == 2
    transcript.replying("a", "One.", True, True, 4.0)
    transcript.sounding("a", 4.0)
    transcript.said("u", "Hi.", True, 4.0)
    assert transcript.take(100.0) == transcript.finish() == []


def test_words_without_sound() -> None:
    """A reply that is only written is over when it was made."""
    transcript = Transcript()
    transcript.replying("a", "In writing.", True, False, 1.0)
    assert transcript.take(1.0) == []
    transcript.generated("a", 1.1)
    assert texts(transcript.take(1.1)) == [("assistant", "In writing.")]


def test_a_turn_without_words_is_none() -> None:
    """A cough is no turn, and its number is not used up."""
    transcript = Transcript()
    transcript.said("u", "", False, 1.0)
    transcript.said("u", " ", True, 1.5)
    transcript.said("v", "Yes.", True, 2.0)
    (turn,) = transcript.take(2.0)
    assert (turn.number, turn.text) == (1, "Yes.")


def test_typed() -> None:
    """What was typed has its place among what was said."""
    transcript = Transcript()
    transcript.said("u", "", False, 1.0)
    transcript.typed("src/main.py", 2.0)
    transcript.said("u", "This file:", True, 3.0)
    first, second = transcript.take(3.0)
    assert (first.typed, second.typed, second.text) == (False, True, "src/main.py")


def test_usage_belongs_to_replies() -> None:
    """Each reply has what was used up since the one before."""
    transcript = Transcript()
    transcript.used(Usage(1000, 2000, 30, 40, 0.5))
    reply(transcript, "a", "One.", 1.0)
    transcript.heard("a", 1.0, 2.0)
    transcript.used(Usage(1500, 2500, 35, 45, 0.75))
    (first,) = transcript.take(2.0)
    assert first.usage == Usage(1500, 2500, 35, 45, 0.75)
    reply(transcript, "b", "Two.", 3.0)
    transcript.heard("b", 1.0, 4.0)
    transcript.used(Usage(1600, 2500, 36, 45, 1.0))
    (second,) = transcript.take(4.0)
    assert second.usage == Usage(100, 0, 1, 0, 0.25)


def test_the_end() -> None:
    """All that is left is told, as far as it is known, in its order."""
    transcript = Transcript()
    transcript.said("u", "Tell me", False, 1.0)
    reply(transcript, "a", "One two three four.", 2.0)
    transcript.cut("a", 1000, 2000, 3.0)
    first, second = transcript.finish()
    assert (first.role, first.text) == ("user", "Tell me")
    assert (second.text, second.unheard) == ("One two", "three four.")
    assert transcript.finish() == []


@dataclass
class Said:
    """What a turn must say in the end."""

    role: str
    text: str
    heard: str = ""
    unheard: str = ""
    ended: bool = False
    ended_at: float = 0.0


class TranscriptMachine(RuleBasedStateMachine):
    """Items in order, their words in any order and at any time: nothing is lost or told twice."""

    def __init__(self) -> None:
        super().__init__()
        self.transcript = Transcript()
        self.now = 100.0
        self.items: dict[str, Said] = {}
        self.turns: list[SpokenTurn] = []
        self.overdue = False

    def new(self, role: str) -> str:
        name = f"{role}-{len(self.items)}"
        self.items[name] = Said(role, f"words of {name} are these")
        return name

    def open_items(self, role: str) -> list[str]:
        return [n for n, said in self.items.items() if said.role == role and not said.ended]

    def names(self) -> list[str]:
        """Return the items that were told, in that order."""
        texts = [f"{turn.text} {turn.unheard} " for turn in self.turns]
        return [next(name for name in self.items if f"of {name} " in text) for text in texts]

    @rule()
    def user_speaks(self) -> None:
        self.transcript.said(self.new("user"), "", False, self.now)

    @precondition(lambda self: self.open_items("user"))
    @rule(data=st.data())
    def words_come(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.open_items("user")))
        self.items[name].ended = True
        self.transcript.said(name, self.items[name].text, True, self.now)

    @rule(sound=st.booleans())
    def model_replies(self, sound: bool) -> None:
        name = self.new("assistant")
        self.transcript.replying(name, self.items[name].text, True, False, self.now)
        if sound:
            self.transcript.sounding(name, self.now)
        self.transcript.generated(name, self.now)
        self.items[name].ended, self.items[name].ended_at = not sound, self.now

    @precondition(lambda self: self.open_items("assistant"))
    @rule(cut=st.booleans(), told=st.booleans())
    def reply_ends(self, cut: bool, told: bool) -> None:
        name = self.open_items("assistant")[0]
        said = self.items[name]
        said.ended, said.ended_at = True, self.now
        if not cut:
            self.transcript.heard(name, 1.0, self.now)
            return
        self.transcript.cut(name, 1000, 2000, self.now)
        if told:
            heard, _, said.unheard = said.text.partition(" are ")
            said.unheard = f"are {said.unheard}"
            self.transcript.replying(name, heard, True, True, self.now)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, REPLY_SECONDS, WORDS_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        due = self.transcript.next_due()
        self.now += seconds
        told = self.names()
        behind = [
            said.ended_at
            for name, said in self.items.items()
            if said.role == "assistant" and said.ended and name not in told
        ]
        if self.open_items("user") and behind and self.now - min(behind) >= WORDS_SECONDS:
            self.overdue = True  # whatever was behind those words does not wait any more
        turns = self.transcript.take(self.now)
        if turns:
            assert due is not None and due <= self.now
        self.turns += turns
        after = self.transcript.next_due()
        assert after is None or after > self.now, "what is due was left"

    def teardown(self) -> None:
        self.turns += self.transcript.finish()
        assert [turn.number for turn in self.turns] == list(range(1, len(self.turns) + 1))
        told = [turn.text + turn.unheard for turn in self.turns]
        assert len(told) == len(set(told)), "something was told twice"
        names = self.names()
        with_words = [n for n, said in self.items.items() if said.role == "assistant" or said.ended]
        assert sorted(names) == sorted(with_words), "something was lost"
        if not self.overdue:
            assert names == with_words, "told in another order than it was said"


TestTranscriptMachine = TranscriptMachine.TestCase
TestTranscriptMachine.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
