"""How many words are written down wrongly: a voice's commands, and people's recordings."""

from __future__ import annotations

import asyncio
import re
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gptme_voice_plugin.backends.local.endpointer import Edge, Endpointer
from gptme_voice_plugin.backends.local.processes import ProcessTranscriber
from gptme_voice_plugin.backends.local.stages import Transcription
from gptme_voice_plugin.backends.local.vad import FRAME_BYTES, SileroVad
from gptme_voice_plugin.config import Settings
from tests.support.speech import Samples
from tests.support.voices import said
from tests.support.word_errors import WordErrors, word_errors, words_of

COMMANDS = """
Please open the configuration file and show me the first ten lines.
What is the capital of France?
Run all the tests in this folder and tell me which of them fail.
Write a short function that returns the largest number in a list.
How much free space is left on the disk?
Read the error message to me and explain what it means.
Search the web for the newest release of this library.
Create a new branch, commit the changes and push it.
Stop that, please.
Which files have I changed since yesterday?
Rename the variable in the second paragraph and save the file.
Can you summarize this conversation in three sentences?
Delete the temporary folder, but keep the log files.
Thank you, that is all for today.
Install the missing package and try again.
Remind me what we decided about the database last week.
Show me the weather in Berlin for tomorrow morning.
Translate the last answer into German.
How many lines of code are there in the main module?
Yes, go ahead.
Replace every tab with four spaces and format the document.
Explain the difference between a thread and a process.
Start the server on port eight thousand and open the page.
What time is it in New York right now?
Undo the last change and read the function to me again.
Compare these two pictures and describe what is different.
Plot the temperatures of the last twelve months.
Why does this loop never end?
""".strip().splitlines()

RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
"""Of Debian's package pocketsphinx-testdata."""


class Ear:
    """The real worker, behind the real detector of turns."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stt = ProcessTranscriber("base")
        self._loop.run_until_complete(self._stt.open(lambda _: None))

    def hear(self, speech: Samples, language: str = "en") -> str:
        """Return what is understood of speech in a quiet room."""
        turns = [self.transcribe(turn, language).text for turn in turns_of(speech)]
        return " ".join(turns)

    def transcribe(self, pcm: bytes, language: str = "en") -> Transcription:
        """Return what is made of a turn."""
        return self._loop.run_until_complete(self._stt.transcribe(pcm, language))

    def close(self) -> None:
        """End it."""
        self._loop.run_until_complete(self._stt.close())
        self._loop.close()


@pytest.fixture(scope="module")
def ear() -> Iterator[Ear]:
    """One for all."""
    ear = Ear()
    yield ear
    ear.close()


def turns_of(speech: Samples) -> list[bytes]:
    """Cut speech as a session does, with the default settings."""
    hiss = np.random.default_rng(1).normal(0, 8, speech.size + 32_000)
    hiss[12_800 : 12_800 + speech.size] += speech
    pcm = np.clip(hiss, -32768, 32767).astype("<i2").tobytes()
    settings, vad, turns = Settings(), SileroVad(), []
    endpointer = Endpointer(settings.prefix_ms, settings.silence_ms, settings.min_speech_ms, 0.5)
    for at in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
        frame = pcm[at : at + FRAME_BYTES]
        edge, utterance = endpointer.push(frame, vad.probability(frame))
        if edge is Edge.STOPPED and utterance is not None:
            turns.append(utterance.audio())
    return turns


def recordings() -> list[tuple[str, Samples]]:
    """Return what people said, and how it sounds."""
    found = []
    for folder, name in (("librivox", "transcription"), ("cards", "cards.transcription")):
        for line in (RECORDINGS / folder / name).read_text().splitlines():
            match = re.fullmatch(r"<s> (.*?) +</s> \((.*)\)", line)
            assert match is not None
            # The transcript's one typo: reader and book say "a more amiable woman".
            text = match[1].replace("a more a amiable", "a more amiable")
            with wave.open(str(RECORDINGS / folder / f"{match[2]}.wav")) as file:
                assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
                found.append((text, np.frombuffer(file.readframes(file.getnframes()), np.int16)))
    for name, text in (
        ("goforward", "go forward ten meters"),
        ("something", "go somewhere and do something"),
        ("tidigits/dhd.2934z", "two nine three four zero"),
    ):
        data = (RECORDINGS / f"{name}.raw").read_bytes()
        found.append((text, np.frombuffer(data, np.int16)))
    return found


def errors_in(ear: Ear, samples: list[tuple[str, Samples]]) -> WordErrors:
    """Have all of them heard; what was not understood is printed."""
    total = WordErrors()
    for text, speech in samples:
        heard = ear.hear(speech)
        found = word_errors(text, heard)
        if found.errors:
            print(f"{text!r} was heard as {heard!r}")
        total += found
    print(f"{total.errors} of {total.words} words: {total.rate:.1%}")
    return total


def test_commands(ear: Ear) -> None:
    """As they are said to gptme, by a voice that is never twice the same."""
    total = errors_in(ear, [(text, said(text)) for text in COMMANDS])
    assert total.words >= 150
    assert total.rate <= 0.05


def test_people(ear: Ear) -> None:
    """Recordings of several speakers: chapters of a book, commands, playing cards, digits."""
    total = errors_in(ear, recordings())
    assert total.words >= 100
    assert total.rate <= 0.06


def test_english_is_detected(ear: Ear) -> None:
    """Where the settings name no language, also of short turns."""
    for text in ("What is the capital of France?", "Stop that, please.", "Show me the log files."):
        assert word_errors(text, ear.hear(said(text), language="")).errors <= 1


def test_a_turn_longer_than_a_window(ear: Ear) -> None:
    """Nothing of it is left out."""
    text = " ".join(COMMANDS[:12])
    speech = said(text)
    assert speech.size > 26 * 16_000
    heard = ear.transcribe(speech.tobytes())
    assert word_errors(text, heard.text).rate <= 0.05


@pytest.mark.parametrize(
    ("said_so", "heard", "errors"),
    [
        ("What is it?", "what's it", 0),
        ("ten of clubs", "10 of clubs.", 0),
        ("port eight thousand", "Port 8,000", 0),
        ("two nine three four zero", "29340", 0),
        ("twenty-one lines", "21 lines", 0),
        ("one two", "one", 1),
        ("one", "one two", 1),
        ("open the file", "open a file", 1),
        ("the user's file", "the user's file", 0),
        ("do not", "don\N{RIGHT SINGLE QUOTATION MARK}t", 0),
        ("", "word", 1),
    ],
)
def test_what_counts(said_so: str, heard: str, errors: int) -> None:
    """Words, not how they are written."""
    assert word_errors(said_so, heard) == WordErrors(errors, len(words_of(said_so)))
