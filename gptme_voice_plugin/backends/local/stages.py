"""What the stages of the local chain are: hearing and speaking, behind small interfaces.

Whether a stage runs in a worker process of this machine or on a server somewhere, the chain in
`backend.py` knows these classes only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ..base import Preparing

__all__ = ["HEARING_RATE", "Report", "SpeechToText", "Stage", "TextToSpeech", "Transcription"]

HEARING_RATE = 16_000
"""Hertz of what voice activity detection and speech to text take."""

Report = Callable[[Preparing], None]
"""Takes what `open` waits for."""


@dataclass(frozen=True)
class Transcription:
    """What speech to text has made of a piece of audio."""

    text: str
    no_speech: float = 0.0
    """How likely it is, by the model, that nobody spoke: 0 to 1."""
    log_probability: float = 0.0
    """Mean per token: 0 is sure, below -1 is guesswork."""
    repetition: float = 1.0
    """How often the text repeats itself: its length by its length compressed."""


class Stage(ABC):
    """What all stages are. Several sessions may share one."""

    name: str
    """What does it, as the user may know it."""

    @abstractmethod
    async def open(self, report: Report) -> None:
        """Get ready; may be called again.

        Raises:
            VoiceError: `ModelMissing`, `SpeechFailed`.
        """

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether another one would have to wait."""

    @abstractmethod
    async def close(self) -> None:
        """Free everything."""


class SpeechToText(Stage):
    """Writes down what was said."""

    @abstractmethod
    async def transcribe(self, pcm: bytes, language: str) -> Transcription:
        """Return what was said in PCM16 LE mono at `HEARING_RATE`.

        Args:
            pcm: The audio.
            language: Such as "en"; empty: to be detected.

        Raises:
            VoiceError: `SpeechFailed`.
        """


class TextToSpeech(Stage):
    """Speaks sentences."""

    sample_rate: int
    """Hertz of what it makes; known once it is open."""

    @abstractmethod
    async def synthesize(self, text: str, speed: float) -> bytes:
        """Return a sentence as PCM16 LE mono at `sample_rate`.

        Args:
            text: What to say.
            speed: 1 is the voice's own.

        Raises:
            VoiceError: `SpeechFailed`.
        """
