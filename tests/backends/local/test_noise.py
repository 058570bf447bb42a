"""What the local backend hears where nobody speaks, and where somebody speaks all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from gptme_voice_plugin.backends.base import BackendEvent, SpeechStarted, UserTranscript
from gptme_voice_plugin.backends.local.hearing import Hearing
from gptme_voice_plugin.backends.local.processes import ProcessTranscriber
from gptme_voice_plugin.backends.local.vad import FRAME_MS, SileroVad
from gptme_voice_plugin.config import Settings
from tests.support.noise import RATE, SOUNDS, mixed
from tests.support.speech import Samples, silence
from tests.support.voices import said
from tests.support.word_errors import WordErrors, word_errors

SECONDS = 600
COMMANDS = (
    "Please open the configuration file and show me the first ten lines.",
    "What is the capital of France?",
    "Explain the difference between a thread and a process.",
    "Show me the weather in Berlin for tomorrow morning.",
)
LOUD = {"loud keyboard": 10.0, "loud fan": 10.0, "loud rain": 15.0, "close breath": 10.0}
MUSIC = {"piano": 12.0, "strings": 15.0, "flute": 12.0, "brass": 15.0}
"""How much louder than each of them somebody speaks, in dB."""


class Credulous:
    """Takes all for speech, but for the silence that ends a turn."""

    def __init__(self, seconds: float) -> None:
        self._frames = seconds * 1000 / FRAME_MS

    def probability(self, frame: bytes) -> float:
        """See `SileroVad.probability`."""
        self._frames -= 1
        return 0.95 if self._frames >= 0 else 0.0


class Room:
    """Where a session listens, with the real speech to text."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stt = ProcessTranscriber("base")
        self._run(self._stt.open(lambda _: None))

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def listen(
        self, sound: Samples, vad: Callable[[], Any] = SileroVad
    ) -> tuple[list[str], list[BackendEvent]]:
        """Return the turns of words in a sound, and all events; it goes in as fast as it can."""
        turns: list[str] = []
        events: list[BackendEvent] = []
        self._run(self._listen(sound, vad(), turns, events))
        return turns, events

    async def _listen(
        self, sound: Samples, vad: Any, turns: list[str], events: list[BackendEvent]
    ) -> None:
        quiet = asyncio.Event()
        quiet.set()

        def speaks(does: bool) -> None:
            (quiet.clear if does else quiet.set)()

        hearing = Hearing(
            Settings(language="en"),
            vad,
            self._stt,
            events.append,
            speaks,
            lambda text, _: turns.append(text),
            lambda: None,
        )
        size = 2 * RATE // 10
        pcm = sound.astype("<i2").tobytes() + bytes(2 * RATE)
        for at in range(0, len(pcm), size):
            hearing.push(pcm[at : at + size])
            await asyncio.sleep(0)
        await quiet.wait()
        await hearing.close()

    def close(self) -> None:
        """Leave it."""
        self._run(self._stt.close())
        self._loop.close()


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    """One for all."""
    room = Room()
    yield room
    room.close()


def finals(events: list[BackendEvent]) -> list[str]:
    """Return the words that were said, of all turns."""
    return [e.text for e in events if isinstance(e, UserTranscript) and e.final and e.text]


def test_ten_minutes_without_a_word(room: Room) -> None:
    """Music, typing, fans, rain, breath, coughs and silence: nobody is answered."""
    sounds = [sound(SECONDS / len(SOUNDS)) for sound in SOUNDS.values()]
    everything = np.concatenate(sounds)
    assert everything.size == SECONDS * RATE
    turns, events = room.listen(everything)
    assert turns == [] and finals(events) == []


def test_speech_over_noise(room: Room) -> None:
    """Who speaks over it is heard, and nothing else is."""
    total = WordErrors()
    for number, (name, snr) in enumerate((LOUD | MUSIC).items()):
        text = COMMANDS[number % len(COMMANDS)]
        speech = said(text)
        around = np.concatenate([silence(RATE, 1.5), speech, silence(RATE, 1.5)])
        turns, events = room.listen(mixed(around, SOUNDS[name](around.size / RATE + 1), snr))
        assert sum(isinstance(event, SpeechStarted) for event in events) >= 1, name
        assert turns == finals(events)
        found = word_errors(text, " ".join(turns))
        print(f"{name}: {turns} for {text!r}")
        assert found.rate <= 0.5, name
        total += found
    print(f"{total.errors} of {total.words} words: {total.rate:.1%}")
    assert total.rate <= 0.1


@pytest.mark.parametrize("name", SOUNDS)
def test_noise_that_is_taken_for_speech(room: Room, name: str) -> None:
    """Where all depends on what speech to text says of its own doubts."""
    sound = SOUNDS[name](4.0)
    for seconds in (0.6, 2.0):
        part = sound[RATE : RATE + int(seconds * RATE)]
        heard, events = room.listen(part, partial(Credulous, seconds))
        assert any(isinstance(event, SpeechStarted) for event in events)
        assert heard == [] and finals(events) == []


def test_a_farewell_that_is_said(room: Room) -> None:
    """What speech to text is known to find in silence may be said all the same."""
    for text in ("Thank you.", "Thank you very much.", "Okay.", "Bye bye."):
        turns, _ = room.listen(np.concatenate([silence(RATE, 1.0), said(text)]))
        assert len(turns) == 1
        assert word_errors(text, turns[0]).errors == 0
