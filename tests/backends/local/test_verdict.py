"""Whether what was written down was said."""

from __future__ import annotations

import pytest

from gptme_voice_plugin.backends.local.stages import Transcription
from gptme_voice_plugin.backends.local.verdict import was_said

FAREWELLS = ["Thank you.", "Thanks for watching!", "you", "Bye.", "Vielen Dank.", "Merci."]


def believed(
    text: str,
    no_speech: float = 0.01,
    log_probability: float = -0.2,
    repetition: float = 1.0,
    speech_ms: int = 1000,
    certainty: float = 0.9,
) -> bool:
    """Return the verdict."""
    heard = Transcription(text, no_speech, log_probability, repetition)
    return was_said(heard, speech_ms, certainty)


def test_words() -> None:
    """Words that everything speaks for."""
    assert believed("What is the capital of France?")


@pytest.mark.parametrize("text", ["", " ", "...", "[Music]", "(applause)", "♪ ♪", "*coughs*"])
def test_no_words(text: str) -> None:
    """Marks, and names of sounds."""
    assert not believed(text)


def test_words_beside_the_name_of_a_sound() -> None:
    """They were said all the same."""
    assert believed("[Music] Open the file.")


# As whisper-base writes down what is in tests/support/noise.py.
@pytest.mark.parametrize(
    ("text", "no_speech", "log_probability"),
    [
        ("I'm gonna go to the next one.", 0.42, -2.26),
        ("I'm going to play the guitar.", 0.83, -2.11),
        ("I'm going to put the sauce on the side.", 0.89, -1.77),
        ("I'm going to go to the next one.", 0.27, -1.96),
        ("The", 0.17, -6.55),
        ("Oh", 0.6, -3.13),
    ],
)
def test_words_found_in_noise(text: str, no_speech: float, log_probability: float) -> None:
    """They are guesses, and it knows."""
    assert not believed(text, no_speech, log_probability)


# As it writes down what a voice says.
@pytest.mark.parametrize(
    ("text", "no_speech", "log_probability", "speech_ms", "certainty"),
    [
        ("Yes.", 0.07, -0.75, 448, 0.88),
        ("yes", 0.04, -1.28, 448, 0.90),
        ("Stop.", 0.02, -0.89, 352, 0.87),
        ("No.", 0.05, -0.53, 320, 0.89),
        ("Silence", 0.02, -1.26, 608, 0.87),
        ("Thank you.", 0.001, -0.12, 480, 0.87),
        ("Bye.", 0.04, -0.42, 256, 0.90),
        ("Okay.", 0.05, -0.82, 416, 0.82),
        ("Thanks for watching.", 0.002, -0.16, 832, 0.90),
    ],
)
def test_single_words(
    text: str, no_speech: float, log_probability: float, speech_ms: int, certainty: float
) -> None:
    """A short answer is one, also if the network is not sure how to write it."""
    assert believed(text, no_speech, log_probability, 1.0, speech_ms, certainty)


@pytest.mark.parametrize("text", FAREWELLS)
def test_farewells(text: str) -> None:
    """They are believed if all agrees that somebody spoke, and not otherwise."""
    assert believed(text)
    assert not believed(text, no_speech=0.72, log_probability=-0.75)
    assert not believed(text, no_speech=0.5)
    assert not believed(text, no_speech=0.3, log_probability=-1.3)
    assert not believed(text, speech_ms=96)
    assert not believed(text, certainty=0.6)


def test_circles() -> None:
    """What was said once is not written down ten times."""
    assert not believed("hey, hey, hey, hey", repetition=4.0)
