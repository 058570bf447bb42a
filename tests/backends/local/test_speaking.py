"""Speaking: what comes out of an answer, when, and what is known to have been heard of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from gptme_voice_plugin.backends.base import (
    AgentTranscript,
    Audio,
    BackendEvent,
    Failed,
    Interrupted,
    Queued,
    ReplyDone,
    Timings,
)
from gptme_voice_plugin.backends.event_queue import EventQueue
from gptme_voice_plugin.backends.local.speaking import AHEAD_SECONDS, GAP_MS, Heard, Speaking
from gptme_voice_plugin.backends.local.stages import Report, TextToSpeech
from gptme_voice_plugin.backends.local.stopwatch import Stopwatch
from gptme_voice_plugin.errors import ModelMissing, SpeechFailed, VoiceError
from tests.support.clock import run_by_clock

RATE = 8000
MS_PER_CHARACTER = 10
_Event = TypeVar("_Event")


class Voice(TextToSpeech):
    """Speaks ten milliseconds a character, in no time unless it is told otherwise.

    Attributes:
        asked: What it was asked to say.
        fails: Raised by the next requests.
        takes: How long it takes, in seconds.
        mute: Whether what it says has no sound.
    """

    def __init__(self) -> None:
        self.name = "voice"
        self.sample_rate = RATE
        self.asked: list[str] = []
        self.fails: deque[Exception] = deque()
        self.takes = 0.0
        self.mute = False
        self.others = False

    async def open(self, report: Report) -> None:
        pass

    @property
    def busy(self) -> bool:
        return self.others

    async def synthesize(self, text: str, speed: float) -> bytes:
        self.asked.append(text)
        if self.takes:
            await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails.popleft()
        return b"" if self.mute else b"\1\1" * (RATE * MS_PER_CHARACTER // 1000 * len(text))

    async def close(self) -> None:
        pass


class Stage:
    """Speaking with such a voice, and all that comes out of it."""

    def __init__(self) -> None:
        self.voice = Voice()
        self.events: list[BackendEvent] = []
        self.room = asyncio.Event()
        self.room.set()
        self.speaking = Speaking(self.voice, 1.0, self.events.append, self._room)
        self.task = asyncio.create_task(self.speaking.run())

    async def _room(self) -> None:
        await self.room.wait()

    async def settle(self) -> None:
        """Have all done that can be done in no time."""
        for _ in range(500):
            await asyncio.sleep(0)

    def say(self, answer_id: str, text: str) -> None:
        """Have a whole answer spoken."""
        self.speaking.piece(answer_id, text)
        self.speaking.end(answer_id)

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def ms(self, item_id: str) -> float:
        """Return how much sound of a reply has come."""
        sound = sum(len(e.pcm) for e in self.of(Audio) if e.item_id == item_id)
        return sound / RATE / 2 * 1000

    def captions(self, item_id: str) -> list[tuple[str, bool]]:
        """Return the captions of a reply, and which were final."""
        return [(e.text, e.final) for e in self.of(AgentTranscript) if e.item_id == item_id]

    def done(self) -> list[str]:
        """Return the replies that are done."""
        return [event.item_id for event in self.of(ReplyDone)]


def run(test: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a test by the clock."""

    async def whole() -> None:
        stage = Stage()
        try:
            await test(stage)
        finally:
            assert not stage.task.done(), stage.task.exception()
            stage.task.cancel()
            await asyncio.wait([stage.task])

    run_by_clock(whole)


def test_a_reply_is_spoken_sentence_by_sentence() -> None:
    """Captions grow, silence is between the sentences, and its end is told last."""

    async def test(stage: Stage) -> None:
        stage.say("a", "One is here. Two is there. Three!")
        await stage.settle()
        assert stage.voice.asked == ["One is here.", "Two is there.", "Three!"]
        texts = ["One is here.", "One is here. Two is there.", "One is here. Two is there. Three!"]
        assert stage.captions("a") == [*((t, False) for t in texts), (texts[-1], True)]
        assert stage.events[-1] == ReplyDone("a") and stage.done() == ["a"]
        assert stage.ms("a") == (12 + 13 + 6) * MS_PER_CHARACTER + 2 * GAP_MS
        assert stage.speaking.spoken_ms == stage.ms("a")
        assert all(len(e.pcm) % 2 == 0 and e.pcm for e in stage.of(Audio))
        # The caption is there before the sound.
        assert isinstance(stage.events[0], AgentTranscript)
        silence = bytes(RATE * GAP_MS // 1000 * 2)
        whole = b"".join(event.pcm for event in stage.of(Audio))
        assert whole.split(silence) == [b"\1\1" * (n * 80) for n in (12, 13, 6)]
        assert stage.speaking.silent

    run(test)


def test_the_first_clause_does_not_wait_for_the_rest() -> None:
    """It is spoken while the answer is being written."""

    async def test(stage: Stage) -> None:
        for word in ["Well,", "as", "far", "as", "I", "can", "see,", "this", ""]:
            stage.speaking.piece("a", word + " ")
        await stage.settle()
        assert stage.voice.asked == ["Well, as far as I can see,"]
        assert stage.ms("a") and not stage.done() and not stage.speaking.silent
        stage.speaking.piece("a", "works.")
        stage.speaking.end("a")
        await stage.settle()
        assert stage.captions("a")[-1] == ("Well, as far as I can see, this works.", True)

    run(test)


def test_replies_follow_each_other_and_notices_come_last() -> None:
    """However they are interleaved; a notice is no answer of anybody's."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", "First one. ")
        stage.speaking.notice("There is a problem.")
        stage.speaking.piece("b", "Second one. ")
        await stage.settle()
        assert stage.voice.asked == ["First one."]
        stage.speaking.end("a")
        await stage.settle()
        assert stage.voice.asked == ["First one.", "There is a problem.", "Second one."]
        assert stage.done() == ["a", "notice-1"]
        stage.speaking.end("b")
        await stage.settle()
        assert stage.done() == ["a", "notice-1", "b"]
        order = list(dict.fromkeys(event.item_id for event in stage.of(Audio)))
        assert order == ["a", "notice-1", "b"]

    run(test)


@pytest.mark.parametrize("text", ["", "   ", "***", "😀 🎉", "<think>A thought.</think>"])
def test_a_reply_without_anything_to_speak_is_done(text: str) -> None:
    """Whoever waits for it is told, and no caption stays open."""

    async def test(stage: Stage) -> None:
        stage.say("a", text)
        await stage.settle()
        assert stage.events == [ReplyDone("a")] and not stage.voice.asked

    run(test)


def test_a_sentence_without_sound_is_no_problem() -> None:
    """It is written, and the reply has not begun with it."""

    async def test(stage: Stage) -> None:
        stage.voice.mute = True
        stage.speaking.piece("a", "Nothing here. ")
        await stage.settle()
        assert not stage.of(Audio) and stage.captions("a") == [("Nothing here.", False)]
        assert stage.speaking.drop() == [Heard("a", 0)]
        stage.voice.mute = False
        stage.say("b", "Something here.")
        await stage.settle()
        assert stage.done() == ["b"]

    run(test)


# How fast


def test_it_waits_for_room() -> None:
    """No sound comes while there is none; a reply that is cut meanwhile stays cut."""

    async def test(stage: Stage) -> None:
        stage.room.clear()
        stage.say("a", "One is here.")
        await stage.settle()
        assert not stage.of(Audio)
        stage.room.set()
        await stage.settle()
        assert stage.done() == ["a"]
        stage.room.clear()
        stage.say("b", "Two is here.")
        await stage.settle()
        stage.speaking.cut("b", 0)
        stage.room.set()
        await stage.settle()
        assert not stage.ms("b") and stage.done() == ["a"]

    run(test)


def test_it_is_not_far_ahead_of_the_listener() -> None:
    """Sound is made as it is needed, whichever reply it is of."""

    async def test(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(20):
            stage.say(f"b{number}", ("yes " * 50).strip() + ".")  # 2 s each
        most = 0.0
        while len(stage.done()) < 20:
            await asyncio.sleep(0.1)
            made = sum(stage.ms(e) for e in dict.fromkeys(a.item_id for a in stage.of(Audio)))
            most = max(most, made / 1000 - (loop.time() - began))
        assert AHEAD_SECONDS - 1 < most < AHEAD_SECONDS + 4

    run(test)


def test_whoever_interrupts_does_not_wait_for_what_was_ahead() -> None:
    """The next reply is made at once, though the last one had 20 s in hand."""

    async def test(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        stage.say("a", ("yes " * 60).strip() + ". " + ("no " * 90 + "!. ") * 12)
        await stage.settle()
        assert stage.ms("a") > AHEAD_SECONDS * 1000 and not stage.done()
        await asyncio.sleep(1)
        began = loop.time()
        stage.speaking.cut("a", 1000)
        stage.say("b", "Yes?")
        await stage.settle()
        assert stage.done() == ["b"] and loop.time() == began

    run(test)


def test_waiting_for_others_is_told() -> None:
    """Of the first sentence only, and its end as well."""

    async def test(stage: Stage) -> None:
        stage.voice.others = True
        stage.say("a", "One is here. Two is here.")
        await stage.settle()
        assert stage.of(Queued) == [Queued(True), Queued(False)]
        assert stage.events[:2] == [Queued(True), Queued(False)]

    run(test)


def test_waiting_is_over_also_when_it_is_cancelled() -> None:
    """Nobody is left waiting for nothing."""

    async def test() -> None:
        stage = Stage()
        stage.voice.others, stage.voice.takes = True, 5.0
        stage.say("a", "One is here.")
        await stage.settle()
        stage.task.cancel()
        await asyncio.wait([stage.task])
        assert stage.events == [Queued(True), Queued(False)]

    run_by_clock(test)


# Dropped


def test_what_has_not_begun_can_be_dropped() -> None:
    """Also while its first sentence is being made; the rest of it is refused, the next is not."""

    async def test(stage: Stage) -> None:
        stage.voice.takes = 1.0
        stage.speaking.piece("a", "One is here. ")
        stage.speaking.piece("b", "Two is here. ")
        stage.speaking.notice("A notice.")
        await asyncio.sleep(0.5)
        assert stage.voice.asked == ["One is here."]
        assert stage.speaking.drop() == [Heard("a", 0), Heard("b", 0)]
        assert stage.speaking.silent and stage.speaking.drop() == []
        stage.speaking.piece("a", "Late. ")
        stage.speaking.end("a")
        stage.speaking.piece("b", "Late. ")
        stage.speaking.end("b")
        stage.say("c", "Three is here.")
        await asyncio.sleep(5)
        assert stage.voice.asked == ["One is here.", "Three is here."]
        assert stage.done() == ["c"] and not stage.ms("a") and not stage.of(Interrupted)

    run(test)


def test_what_has_begun_is_not_dropped() -> None:
    """It is cut by whoever knows how much of it was heard."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", "One is here. ")
        await stage.settle()
        assert stage.speaking.drop() == []
        stage.say("a", "Two is here.")
        await stage.settle()
        assert stage.done() == ["a"]

    run(test)


def test_a_reply_that_nobody_has_heard_of_yet_can_be_stopped() -> None:
    """Its sound may be on the way: whoever gets it is told that it is over."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", "One is here. ")
        stage.speaking.piece("b", "Two is here. ")
        await stage.settle()
        assert stage.speaking.stop() == [Heard("b", 0)]
        assert stage.events[-1] == Interrupted("a")
        assert stage.speaking.cut("a", 60) == [Heard("a", 6)]
        stage.say("a", "More.")
        await stage.settle()
        assert not stage.done() and stage.speaking.silent

    run(test)


# While the user speaks


def test_a_reply_does_not_begin_while_the_user_speaks() -> None:
    """It waits for what they say, and is spoken if that was nothing; it is made once."""

    async def test(stage: Stage) -> None:
        stage.speaking.may_begin.clear()
        stage.say("a", "One is here.")
        await stage.settle()
        assert not stage.events
        stage.speaking.may_begin.set()
        await stage.settle()
        assert stage.done() == ["a"]
        stage.voice.takes = 1.0
        stage.say("b", "Two is here.")
        await asyncio.sleep(0.5)
        stage.speaking.may_begin.clear()
        await asyncio.sleep(5)
        assert not stage.ms("b")
        stage.speaking.may_begin.set()
        await stage.settle()
        assert stage.done() == ["a", "b"] and stage.voice.asked.count("Two is here.") == 1

    run(test)


def test_words_drop_the_reply_that_waits_for_them() -> None:
    """The next one is spoken in its place."""

    async def test(stage: Stage) -> None:
        stage.voice.takes = 1.0
        stage.say("a", "One is here.")
        await asyncio.sleep(0.5)
        stage.speaking.may_begin.clear()
        await asyncio.sleep(5)
        assert stage.speaking.drop() == [Heard("a", 0)]
        stage.speaking.may_begin.set()
        stage.say("b", "Two is here.")
        await asyncio.sleep(5)
        assert stage.done() == ["b"] and not stage.ms("a")

    run(test)


def test_a_reply_that_has_begun_goes_on() -> None:
    """Whether it ends is decided elsewhere."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", "One is here. ")
        await stage.settle()
        stage.speaking.may_begin.clear()
        stage.say("a", "Two is here.")
        await stage.settle()
        assert stage.done() == ["a"]

    run(test)


# Cut off

ANSWER = "One is here. Two is **there**. Three."
"""12 characters, which sound for 120 ms, a gap, 13, a gap, 6."""
SECOND = 120 + GAP_MS
END = SECOND + 130 + GAP_MS + 60


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("heard_ms", "words", "characters"),
    [
        (0, "", 0),
        (1, "", 0),
        (60, "One is", 6),
        (119, "One is", 6),
        (120, "One is here.", 12),
        (SECOND - 1, "One is here.", 12),
        (SECOND + 40, "One is here. Two", 16),
        (SECOND + 130, "One is here. Two is there.", 30),
        (END - 1, "One is here. Two is there.", 30),
        (END, "One is here. Two is there. Three.", 37),
        (END + 5000, "One is here. Two is there. Three.", 37),
    ],
)
def test_it_is_known_what_was_heard(
    heard_ms: int, words: str, characters: int, whole: bool
) -> None:
    """In words and in characters of the answer, while it is made and long after."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", ANSWER + " ")
        if whole:
            stage.speaking.end("a")
        await stage.settle()
        if whole:
            for number in range(20):
                stage.say(f"b{number}", "Yes.")
            await stage.settle()
        [heard, *others] = stage.speaking.cut("a", heard_ms)
        assert heard.answer_id == "a" and not others
        assert abs(heard.characters - characters) <= 2
        [cut] = [e for e in stage.of(AgentTranscript) if e.cut]
        assert cut == AgentTranscript("a", words, True, cut=True)
        stage.say("c", "More is here.")
        await stage.settle()
        assert "c" in stage.done()

    run(test)


def test_nothing_more_comes_of_what_was_cut() -> None:
    """Neither sound nor captions nor its end, whatever is still written of it."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("a", "One is here. ")
        await stage.settle()
        stage.voice.takes = 1.0
        stage.speaking.piece("a", "Two is here. Three is here. ")
        await asyncio.sleep(0.5)
        stage.speaking.cut("a", 60)
        count = len(stage.events)
        stage.say("a", "Four.")
        await asyncio.sleep(5)
        assert len(stage.events) == count and stage.speaking.silent
        assert stage.voice.asked == ["One is here.", "Two is here."]

    run(test)


def test_what_follows_is_stopped_with_it() -> None:
    """What has no sound is dropped; whose sound may be on its way is stopped, once."""

    async def test(stage: Stage) -> None:
        stage.say("before", "Zero is here.")
        stage.say("a", "One is here.")
        stage.say("b", "Two is here.")
        stage.speaking.piece("c", "Three is here. ")
        stage.speaking.piece("d", "Four is here. ")
        await stage.settle()
        assert stage.done() == ["before", "a", "b"]
        assert stage.speaking.cut("a", 60) == [Heard("a", 6), Heard("d", 0)]
        assert stage.of(Interrupted) == [Interrupted("b"), Interrupted("c")]
        assert stage.speaking.silent
        # Whoever had the others already says so of each.
        assert stage.speaking.cut("b", 0) == [Heard("b", 0)]
        assert stage.speaking.cut("c", 0) == [Heard("c", 0)]
        assert len(stage.of(Interrupted)) == 2
        stage.say("e", "Five is here.")
        await stage.settle()
        assert stage.done()[-1] == "e"

    run(test)


def test_cutting_what_is_not_known_only_drops() -> None:
    """As one that was forgotten, or had no sound."""

    async def test(stage: Stage) -> None:
        stage.voice.takes = 1.0
        stage.say("a", "One is here.")
        await asyncio.sleep(0.5)
        assert stage.speaking.cut("nothing-1", 100) == [Heard("a", 0)]
        assert not stage.of(AgentTranscript)

    run(test)


def test_a_notice_that_is_cut_is_nobodys_answer() -> None:
    """What was heard of it is shown, and that is all."""

    async def test(stage: Stage) -> None:
        stage.speaking.notice("There is a problem with it.")
        await stage.settle()
        assert stage.speaking.cut("notice-1", 100) == []
        assert stage.captions("notice-1")[-1] == ("There is a", True)

    run(test)


# Failures


def test_a_voice_that_fails_once_is_asked_again() -> None:
    """A process that has died is another one by then."""

    async def test(stage: Stage) -> None:
        stage.voice.fails.append(SpeechFailed("It has died."))
        stage.say("a", "One is here.")
        await stage.settle()
        assert stage.done() == ["a"] and not stage.of(Failed)
        assert stage.voice.asked == ["One is here."] * 2

    run(test)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("errors", "asked"),
    [
        ([SpeechFailed("It has died."), SpeechFailed("It is dead.")], 2),
        ([ModelMissing("It is dead.")], 1),
    ],
)
def test_an_answer_that_cannot_be_spoken_is_there_in_writing(
    errors: list[VoiceError], asked: int, begun: bool
) -> None:
    """The user is told, what was spoken can be heard to its end, and the session goes on."""

    async def test(stage: Stage) -> None:
        if begun:
            stage.speaking.piece("a", "One is here. ")
            await stage.settle()
        stage.voice.asked.clear()
        stage.voice.fails.extend(errors)
        stage.speaking.piece("a", "Two is here. Three is here. ")
        await stage.settle()
        assert stage.voice.asked == ["Two is here."] * asked
        assert stage.of(Failed) == [Failed(errors[-1].code, "It is dead.", False)]
        assert stage.done() == ["a"] and not stage.of(Interrupted)
        if begun:
            assert stage.captions("a")[-1] == ("One is here.", True)
        stage.say("a", "Four is here.")  # the rest of it is not spoken
        stage.say("b", "Five is here.")
        await stage.settle()
        assert stage.done() == ["a", "b"]
        if begun:
            assert stage.speaking.cut("a", 60)[0] == Heard("a", 6)

    run(test)


def test_failing_for_a_reply_that_was_dropped_is_nobodys_business() -> None:
    """It is not tried again either."""

    async def test(stage: Stage) -> None:
        stage.voice.takes = 1.0
        stage.voice.fails.append(SpeechFailed("It has died."))
        stage.say("a", "One is here.")
        await asyncio.sleep(0.5)
        stage.speaking.drop()
        await asyncio.sleep(5)
        assert not stage.events and stage.voice.asked == ["One is here."]

    run(test)


# Timings


def test_timings_are_told_once_a_turn() -> None:
    """With the first sound of the turn's answer, and not of an older one's."""

    async def test(stage: Stage) -> None:
        stage.speaking.piece("old", "One is here. ")
        await stage.settle()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1)
        watch = stage.speaking.watch = Stopwatch(loop.time() - 0.5, loop.time())
        await asyncio.sleep(2)
        watch.words(loop.time())
        stage.speaking.piece("old", "Two is here. ")  # which nobody has interrupted
        stage.speaking.end("old")
        await stage.settle()
        assert not stage.of(Timings)
        stage.say("silent", "***")
        await asyncio.sleep(4)
        stage.voice.takes = 8.0
        stage.say("new", "Three is here. Four is here.")
        stage.say("newer", "Five is here.")
        await asyncio.sleep(60)
        [timings] = stage.of(Timings)
        seconds = {"vad": 0.5, "stt": 2.0, "text": 4.0, "tts": 8.0, "total": 14.5}
        assert {k: round(v, 3) for k, v in timings.seconds.items()} == seconds
        first = next(e for e in stage.of(Audio) if e.item_id == "new")
        assert stage.events[stage.events.index(first) + 1] == timings

    run(test)


def test_with_a_queue_that_is_bounded() -> None:
    """As in the backend: the queue's bound holds the sound back until it is read."""

    async def test() -> None:
        queue = EventQueue(4000)
        speaking = Speaking(Voice(), 1.0, queue.put, queue.room)
        task = asyncio.create_task(speaking.run())
        speaking.piece("a", ("yes " * 70).strip() + ".")
        speaking.end("a")
        for _ in range(100):
            await asyncio.sleep(0)
        assert speaking.spoken_ms <= 400
        async for event in queue:
            if event == ReplyDone("a"):
                break
        assert speaking.spoken_ms == 2800
        task.cancel()
        await asyncio.wait([task])

    run_by_clock(test)
