"""Whether what was written down was said at all: pure.

Speech to text finds words in noise, and in silence the farewells of the videos it has learnt from.
What it says of its own doubts is weighed against what voice activity detection has heard.
"""

from __future__ import annotations

import re

from .stages import Transcription

__all__ = ["DOUBT", "MAX_REPETITION", "NOISE", "was_said"]

MAX_REPETITION = 2.4
"""Whisper's own limit: above it, it has gone round in circles."""
NOISE = 0.6
"""Whisper's own limit for silence, if it doubts its words too. Measured: 0.17 to 0.95 where nobody
spoke, below 0.17 for single words."""
DOUBT = -0.8
"""Words that are not what was said begin here; so do many that are."""
_SPOKEN = 0.15
"""Below it somebody did speak, and single words may be a guess."""
_GUESS = -1.2
_SPOKEN_GUESS = -1.7
"""Measured: "Yes." and "So." down to -1.6, and nothing in noise above it with such certainty."""

# What it is known to find where nobody speaks (all languages' videos end alike), without marks.
_FAREWELLS = frozenset(
    {
        "you", "thank you", "thanks", "thank you very much", "thank you so much",
        "thanks for watching", "thank you for watching", "thank you for listening",
        "thanks for listening", "please subscribe", "see you next time", "bye", "bye bye", "okay",
        "oh", "hmm", "so", "the end", "the", "music", "applause", "silence", "foreign",
        "see you in the next video", "subtitles by the amara org community",
        "untertitel der amara org community", "untertitel im auftrag des zdf", "vielen dank",
        "sous titres realises par la communaute d amara org", "merci",
        "gracias", "ご視聴ありがとうございました",
    }
)  # fmt: skip
_SURE_MS = 200
"""Speech that such a word takes, when it is really said. Measured: from 256 for "Bye."."""
_SURE = 0.75
"""How certain voice activity detection is of it then. Measured: 0.81 to 0.92."""
_SURE_NO_SPEECH = 0.4
"""Measured: up to 0.1 if it is said, and from 0.7 where it is found in a quiet room."""
_TAGS = re.compile(r"[\[(*♪][^\])*♪]*[\])*♪]")


def was_said(heard: Transcription, speech_ms: int, certainty: float) -> bool:
    """Return whether a turn's words are to be believed.

    Args:
        heard: What speech to text has made of it.
        speech_ms: How much of it was speech.
        certainty: How likely that was speech, on average: 0 to 1.
    """
    words = " ".join(re.sub(r"[\W_]+", " ", _TAGS.sub(" ", heard.text)).lower().split())
    guess = _SPOKEN_GUESS if heard.no_speech < _SPOKEN else _GUESS
    if not words or heard.repetition > MAX_REPETITION or heard.log_probability < guess:
        return False
    if heard.no_speech > NOISE and heard.log_probability < DOUBT:
        return False
    if words in _FAREWELLS:
        sure = speech_ms >= _SURE_MS and certainty >= _SURE
        return sure and heard.no_speech < _SURE_NO_SPEECH
    return True
