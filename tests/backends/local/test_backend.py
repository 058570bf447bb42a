"""The local chain: what the user does to it, and what it does, with fakes for its stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from gptme_voice_plugin.backends.base import (
    AgentTranscript,
    Answer,
    AnswerEnded,
    AnswerFailed,
    AnswerPiece,
    Audio,
    BackendEvent,
    Briefing,
    Failed,
    Preparing,
    ReplyDone,
    SpeechStarted,
    SpeechStopped,
    TextModel,
    Timings,
    Told,
    Usage,
    UserTranscript,
)
from gptme_voice_plugin.backends.local import backend as local
from gptme_voice_plugin.backends.local import engines
from gptme_voice_plugin.backends.local.backend import NOBODY, LocalBackend
from gptme_voice_plugin.backends.local.stages import (
    Report,
    SpeechToText,
    TextToSpeech,
    Transcription,
)
from gptme_voice_plugin.config import Settings
from gptme_voice_plugin.errors import ModelMissing, SpeechFailed, VoiceError
from tests.support.clock import run_by_clock

LOUD = b"\0\x40" * 512
QUIET = bytes(1024)
_Event = TypeVar("_Event")


class Vad:
    """Takes what is loud for speech."""

    def probability(self, frame: bytes) -> float:
        return 1.0 if any(frame) else 0.0


class Ears(SpeechToText):
    """Hears what it is told to have heard; empty: nothing."""

    def __init__(self) -> None:
        self.name = "ears"
        self.text = ""
        self.fails = 0
        self.closed = 0
        self.lacks: VoiceError | None = None
        self.ready = asyncio.Event()
        self.ready.set()
        self.opening = 0

    async def open(self, report: Report) -> None:
        report(Preparing("Loading the ears"))
        self.opening += 1
        try:
            await self.ready.wait()
        finally:
            self.opening -= 1
        if self.lacks is not None:
            raise self.lacks

    @property
    def busy(self) -> bool:
        return False

    async def transcribe(self, pcm: bytes, language: str) -> Transcription:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise SpeechFailed("The ears have died.")
        return Transcription(self.text)

    async def close(self) -> None:
        self.closed += 1


class Mouth(TextToSpeech):
    """Says ten milliseconds a character."""

    def __init__(self) -> None:
        self.name, self.sample_rate = "mouth", 16_000
        self.closed = 0
        self.asked: list[str] = []
        self.may_speak = asyncio.Event()
        self.may_speak.set()

    async def open(self, report: Report) -> None:
        pass

    @property
    def busy(self) -> bool:
        return False

    async def synthesize(self, text: str, speed: float) -> bytes:
        self.asked.append(text)
        await self.may_speak.wait()
        return b"\1\1" * (160 * len(text))

    async def close(self) -> None:
        self.closed += 1


class Model(TextModel):
    """Answers what a test has it answer, and keeps what it is told."""

    def __init__(self) -> None:
        self.to_say: asyncio.Queue[Answer] = asyncio.Queue()
        self.stopped = 0
        self.told: list[tuple[str, int | None]] = []
        self.broken = False

    async def answers(self) -> AsyncIterator[Answer]:
        while True:
            answer = await self.to_say.get()
            if self.broken:
                raise RuntimeError("a defect")
            yield answer

    def stop(self) -> None:
        self.stopped += 1

    def heard(self, answer_id: str, characters: int | None) -> None:
        self.told.append((answer_id, characters))

    def say(self, answer_id: str, text: str, whole: bool = True) -> None:
        """Answer with a text."""
        self.to_say.put_nowait(AnswerPiece(answer_id, text))
        if whole:
            self.to_say.put_nowait(AnswerEnded(answer_id))


class Chain:
    """A backend with its stages and its model, and all that comes out of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, thinks: bool = True) -> None:
        self.ears, self.mouth, self.model = Ears(), Mouth(), Model()
        self.used = [engines.Shared(self.ears), engines.Shared(self.mouth)]
        for shared, name in zip(self.used, ("speech_to_text", "text_to_speech"), strict=True):
            monkeypatch.setattr(local, name, lambda _, __, shared=shared: _use(shared))
        monkeypatch.setattr(local, "SileroVad", Vad)
        self.backend = LocalBackend(Settings(backend="local"))
        self.told: list[Preparing] = []
        self.backend.on_preparing = self.told.append  # type: ignore[assignment]
        if thinks:
            self.backend.answer_with(self.model)
        self.events: list[BackendEvent] = []
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open it, and begin to take what comes out."""
        await self.backend.open()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.backend.events():
            self.events.append(event)

    async def close(self) -> None:
        """Close it; what comes out of it ends with that."""
        await self.backend.close()
        if self._reader is not None:
            await self._reader

    async def speak(self, text: str, end: bool = True) -> None:
        """Have the user say something, or cough."""
        self.ears.text = text
        for _ in range(20):
            await self.backend.send_audio(LOUD)
        if end:
            await self.stop_speaking()

    async def stop_speaking(self) -> None:
        """Have the user be silent."""
        for _ in range(20):
            await self.backend.send_audio(QUIET)
        await settle()

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def done(self) -> list[str]:
        """Return the replies that are done."""
        return [event.item_id for event in self.of(ReplyDone)]

    def spoken(self) -> list[str]:
        """Return the last captions of the replies."""
        return list({e.item_id: e.text for e in self.of(AgentTranscript)}.values())


def _use(shared: engines.Shared[Any]) -> engines.Shared[Any]:
    shared.use()
    return shared


async def settle() -> None:
    """Have all done that can be done at once."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Run a test with an open chain; afterwards nothing of it may be left."""

    def run(
        test: Callable[[Chain], Coroutine[Any, Any, None]], thinks: bool = True, opened: bool = True
    ) -> None:
        async def whole() -> None:
            chain = Chain(monkeypatch, thinks)
            if opened:
                await chain.open()
            await asyncio.wait_for(test(chain), 20)
            await chain.close()
            await chain.close()
            assert [shared.users for shared in chain.used] == [0, 0]
            await settle()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_by_clock(whole)

    return run


def test_what_it_says_of_itself(run: Callable[..., None]) -> None:
    """For the page, and for the relay."""

    async def test(chain: Chain) -> None:
        backend = chain.backend
        assert (backend.name, backend.thinks, backend.converses) == ("local", False, True)
        assert (backend.input_sample_rate, backend.output_sample_rate) == (16_000, 16_000)
        assert backend.model == "ears, mouth" and backend.hint == ""
        assert backend.features == ("interrupt", "mute", "commit", "text")
        assert chain.told == [Preparing("Loading the ears")]
        backend.brief(Briefing())
        await backend.instruct("Be brief.")
        await backend.tell(Told("system", "It is late."), True)

    run(test)


def test_a_turn(run: Callable[..., None]) -> None:
    """Heard, answered, spoken, counted and timed."""

    async def test(chain: Chain) -> None:
        await chain.speak("Does it work?")
        chain.model.say("a", "It does. All of it.")
        await settle()
        kinds = [type(e) for e in chain.events if not isinstance(e, (Audio, AgentTranscript))]
        assert kinds[0] is SpeechStarted and kinds.index(SpeechStopped) > 0
        said = chain.of(UserTranscript)[-1]
        assert (said.text, said.final) == ("Does it work?", True)
        assert chain.spoken() == ["It does. All of it."] and chain.done() == ["a"]
        [timings] = chain.of(Timings)
        assert set(timings.seconds) == {"vad", "stt", "text", "tts", "total"}
        usage = chain.of(Usage)[-1]
        assert usage.input_audio_ms == 40 * 32
        chain.model.say("b", "More.")
        await settle()
        usage = chain.of(Usage)[-1]
        assert usage.output_audio_ms == (8 + 10) * 10 + 140
        assert not chain.model.told and not chain.model.stopped

    run(test)


def test_how_long_the_stages_took(run: Callable[..., None]) -> None:
    """From the last loud frame on, by the clock, while frames come in real time."""

    async def test(chain: Chain) -> None:
        chain.ears.text = "Does it work?"
        for frame in [LOUD] * 20 + [QUIET] * 20:
            await chain.backend.send_audio(frame)
            await asyncio.sleep(0.032)
        chain.model.say("a", "It does.")
        await settle()
        (timings,) = chain.of(Timings)
        assert timings.seconds["vad"] == pytest.approx(0.5, abs=0.032)
        # The last loud frame came 21 frames before the answer did.
        assert timings.seconds["total"] == pytest.approx(21 * 0.032)

    run(test)


def test_a_cough_does_not_stop_a_reply_that_is_being_prepared(run: Callable[..., None]) -> None:
    """It waits until it is known that it was none, and is spoken."""

    async def test(chain: Chain) -> None:
        await chain.speak("Does it work?")
        chain.mouth.may_speak.clear()
        chain.model.say("a", "It does.")
        await settle()
        await chain.speak("", end=False)
        chain.mouth.may_speak.set()
        await settle()
        assert not chain.of(Audio)
        await chain.stop_speaking()
        assert chain.done() == ["a"] and chain.of(Audio)
        assert chain.mouth.asked == ["It does."] and not chain.model.told

    run(test)


def test_words_take_the_place_of_a_reply_that_is_being_prepared(run: Callable[..., None]) -> None:
    """Nothing of it was heard, which gptme is told."""

    async def test(chain: Chain) -> None:
        await chain.speak("Does it work?")
        chain.mouth.may_speak.clear()
        chain.model.say("a", "It does.")
        await settle()
        await chain.speak("And is it fast?")
        chain.mouth.may_speak.set()
        chain.model.say("a", "Late.")
        chain.model.say("b", "It is.")
        await settle()
        assert chain.spoken() == ["It is."] and chain.done() == ["b"]
        assert chain.model.told == [("a", 0)]

    run(test)


def test_a_cough_is_answered_with_nothing(run: Callable[..., None]) -> None:
    """Each time; but not while gptme is still to answer what was said before."""

    async def test(chain: Chain) -> None:
        for _ in range(3):
            await chain.speak("")
        ids = chain.done()
        assert len(set(ids)) == len(ids) == 3
        await chain.speak("Does it work?")
        await chain.speak("")
        assert chain.done() == ids
        chain.model.say("a", "It does.")
        await settle()
        await chain.speak("")
        assert len(chain.done()) == 5 and "a" in chain.done()
        await chain.speak("Does it work?")
        await chain.backend.interrupt(None, 0)
        await chain.speak("")
        assert len(chain.done()) == 6

    run(test)


def test_interrupting_a_reply(run: Callable[..., None]) -> None:
    """gptme stops, and is told how much was heard."""

    async def test(chain: Chain) -> None:
        chain.model.say("a", "It does. All of it.", whole=False)
        await settle()
        await chain.backend.interrupt("a", 80)
        await settle()
        assert chain.model.told == [("a", 9)] and chain.model.stopped == 1
        assert AgentTranscript("a", "It does.", True, cut=True) in chain.events
        chain.model.say("a", "More of it. ")
        chain.model.say("b", "Yes?")
        await settle()
        assert chain.done() == ["b"]

    run(test)


def test_interrupting_what_is_being_prepared(run: Callable[..., None]) -> None:
    """Also before gptme has said anything."""

    async def test(chain: Chain) -> None:
        await chain.backend.interrupt(None, 0)
        assert chain.model.stopped == 1 and not chain.model.told
        chain.mouth.may_speak.clear()
        chain.model.say("a", "It does.")
        await settle()
        await chain.backend.interrupt(None, 0)
        chain.mouth.may_speak.set()
        await settle()
        assert chain.model.stopped == 2 and chain.model.told == [("a", 0)]
        assert not chain.of(Audio)

    run(test)


def test_what_is_typed(run: Callable[..., None]) -> None:
    """It takes the place of what was to be said, and is answered; nothing is timed."""

    async def test(chain: Chain) -> None:
        chain.mouth.may_speak.clear()
        chain.model.say("a", "It does.")
        await settle()
        await chain.backend.send_text("Never mind.")
        chain.mouth.may_speak.set()
        chain.model.say("b", "All right.")
        await settle()
        assert chain.spoken() == ["All right."] and chain.model.told == [("a", 0)]
        assert not chain.of(Timings) and not chain.of(UserTranscript)

    run(test)


def test_a_turn_that_is_committed(run: Callable[..., None]) -> None:
    """It ends at once; where nothing was said, nothing happens."""

    async def test(chain: Chain) -> None:
        await chain.backend.commit()
        await settle()
        assert not chain.events
        await chain.speak("Does it work?", end=False)
        await chain.backend.commit()
        await settle()
        assert chain.of(UserTranscript)[-1] == UserTranscript("user-1", "Does it work?", True)

    run(test)


def test_why_there_is_no_answer_is_spoken(run: Callable[..., None]) -> None:
    """As gptme says it."""

    async def test(chain: Chain) -> None:
        await chain.speak("Does it work?")
        chain.model.to_say.put_nowait(AnswerFailed("gptme has no model."))
        await settle()
        assert chain.spoken() == ["gptme has no model."] and not chain.of(Failed)

    run(test)


def test_without_gptme(run: Callable[..., None]) -> None:
    """It says what it has heard, and what is missing."""

    async def test(chain: Chain) -> None:
        await chain.speak("Does it work.")
        assert chain.spoken() == [f"I heard: Does it work. {NOBODY}"]
        await chain.backend.interrupt("notice-1", 100)
        await chain.speak("")
        assert len(chain.done()) == 2

    run(test, thinks=False)


def test_ears_that_fail_do_not_end_the_session(run: Callable[..., None]) -> None:
    """The user is told, and the next turn is heard."""

    async def test(chain: Chain) -> None:
        chain.ears.fails = 1
        await chain.speak("Does it work?")
        assert not chain.of(Failed) and chain.of(UserTranscript)[-1].text == "Does it work?"
        chain.ears.fails = 100
        await chain.speak("Does it work?")
        assert chain.of(Failed) == [Failed("speech_failed", "The ears have died.", False)]
        assert chain.of(UserTranscript)[-1].text == ""
        chain.ears.fails = 0
        await chain.speak("Does it?")
        chain.model.say("a", "It does.")
        await settle()
        assert chain.done()[-1] == "a"

    run(test)


def test_a_defect_ends_the_session_with_a_sentence(
    run: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """And the log has the rest."""

    async def test(chain: Chain) -> None:
        chain.model.broken = True
        chain.model.say("a", "It does.")
        await settle()
        [failed] = chain.of(Failed)
        assert failed.fatal and failed.code == "speech_failed" and failed.message.endswith(".")

    run(test)
    assert "a defect" in caplog.text


# Opening and closing


def test_an_opening_that_fails_leaves_nothing(run: Callable[..., None]) -> None:
    """What else was being opened is not waited for."""

    async def test(chain: Chain) -> None:
        chain.ears.lacks = ModelMissing("There is no model.")
        with pytest.raises(ModelMissing):
            await chain.open()

    run(test, opened=False)


def test_a_voice_detector_that_is_missing(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages that still load are left alone."""

    async def test(chain: Chain) -> None:
        def missing() -> Vad:
            raise ModelMissing("There is no detector.")

        monkeypatch.setattr(local, "SileroVad", missing)
        chain.ears.ready.clear()
        with pytest.raises(ModelMissing):
            await asyncio.wait_for(chain.open(), 10)
        assert not chain.ears.opening

    run(test, opened=False)


@pytest.mark.parametrize("cancelled", [False, True])
def test_closing_while_it_opens(run: Callable[..., None], cancelled: bool) -> None:
    """Whether or not somebody still waits for it."""

    async def test(chain: Chain) -> None:
        chain.ears.ready.clear()
        opening = asyncio.create_task(chain.open())
        while not chain.ears.opening:
            await asyncio.sleep(0)
        if cancelled:
            opening.cancel()
            await asyncio.wait([opening])
        await chain.close()
        chain.ears.ready.set()
        await asyncio.wait([opening])
        assert opening.cancelled() or isinstance(opening.exception(), SpeechFailed)
        with pytest.raises(SpeechFailed):
            await chain.open()

    run(test, opened=False)


def test_closing_in_the_middle(run: Callable[..., None]) -> None:
    """While somebody speaks, and while it does."""

    async def test(chain: Chain) -> None:
        chain.mouth.may_speak.clear()
        chain.model.say("a", "It does.")
        await settle()
        await chain.speak("Does it work?", end=False)
        await asyncio.gather(chain.backend.close(), chain.backend.close())

    run(test)


def test_closing_what_was_never_opened(run: Callable[..., None]) -> None:
    """Which is nothing."""

    async def test(chain: Chain) -> None:
        await chain.close()

    run(test, opened=False)
