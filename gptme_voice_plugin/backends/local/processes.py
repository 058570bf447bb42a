"""Hearing and speaking in worker processes of this machine."""

from __future__ import annotations

from .stages import Report, SpeechToText, Stage, TextToSpeech, Transcription
from .worker import Worker

__all__ = ["ProcessSpeech", "ProcessTranscriber"]

_PACKAGE = __package__ or ""


class _Process(Stage):
    worker: Worker

    async def open(self, report: Report) -> None:
        """See `Stage.open`."""
        await self.worker.open(report)

    @property
    def busy(self) -> bool:
        """See `Stage.busy`."""
        return self.worker.busy

    async def close(self) -> None:
        """See `Stage.close`."""
        await self.worker.close()


class ProcessTranscriber(_Process, SpeechToText):
    """faster-whisper in a process.

    Args:
        model: A model's name, or its folder.
    """

    def __init__(self, model: str) -> None:
        self.name = f"whisper {model}"
        self.worker = Worker(f"{_PACKAGE}.stt_worker", {"model": model})

    async def transcribe(self, pcm: bytes, language: str) -> Transcription:
        """See `SpeechToText.transcribe`."""
        heard, _ = await self.worker.ask({"language": language}, pcm)
        return Transcription(**heard)


class ProcessSpeech(_Process, TextToSpeech):
    """Piper or espeak-ng in a process of their own, which their licence wants.

    Args:
        engine: `piper` or `espeak-ng`.
        voice: As the engine names it.
    """

    def __init__(self, engine: str, voice: str) -> None:
        self.name = f"{engine} {voice}"
        self.worker = Worker(f"{_PACKAGE}.tts_worker", {"engine": engine, "voice": voice})

    async def open(self, report: Report) -> None:
        """See `Stage.open`."""
        facts = await self.worker.open(report)
        self.sample_rate = int(facts["sample_rate"])

    async def synthesize(self, text: str, speed: float) -> bytes:
        """See `TextToSpeech.synthesize`."""
        _, pcm = await self.worker.ask({"text": text, "speed": speed})
        return pcm
