"""The worker process that speaks: `python -m …tts_worker`.

Piper and espeak-ng are under the GPL-3: they run in this process of their own, which is asked for
sound and gives it, and nowhere else.
"""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import ModelMissing, SpeechFailed
from ..base import Preparing
from . import models
from .progress import told
from .stages import Report
from .worker_process import serve

__all__ = ["main"]

_VOLUME = 0.8
"""Of full scale, up to which Piper raises every sentence: resampled, that would be clipped."""


class _Voice(Protocol):
    sample_rate: int

    def speak(self, text: str, speed: float) -> bytes: ...


class _Piper:
    def __init__(self, path: str) -> None:
        from piper import PiperVoice

        self._voice: Any = PiperVoice.load(path)
        self.sample_rate: int = self._voice.config.sample_rate

    def speak(self, text: str, speed: float) -> bytes:
        from piper import SynthesisConfig

        scale = (self._voice.config.length_scale or 1.0) / speed
        chunks = self._voice.synthesize(text, SynthesisConfig(length_scale=scale, volume=_VOLUME))
        return b"".join(chunk.audio_int16_bytes for chunk in chunks)


class _Speaker:
    def __init__(self) -> None:
        self._voice: _Voice | None = None

    def handle(
        self, request: dict[str, Any], payload: bytes, report: Report
    ) -> tuple[dict[str, Any], bytes]:
        """Answer a request: `{"engine": …, "voice": …}` first, then `{"text": …, "speed": …}`."""
        if "engine" in request:
            self._voice = _voice(request["engine"], request["voice"], report)
            self._voice.speak("Hello.", 1.0)  # the first one is slow
            return {"sample_rate": self._voice.sample_rate}, b""
        assert self._voice is not None
        # Neither engine takes half a surrogate pair, nor the end of a C string in the middle.
        text = request["text"].encode(errors="replace").replace(b"\0", b" ").decode()
        return {}, self._voice.speak(text, request["speed"])


def _voice(engine: str, voice: str, report: Report) -> _Voice:
    if engine == "piper":
        path = models.obtain("tts", voice, told(report))
        report(Preparing("Loading the voice"))
        try:
            return _Piper(str(path))
        except ImportError:
            raise ModelMissing(
                "Piper is not installed; pip install 'gptme-voice-plugin[local]', or set tts to "
                "'espeak-ng'."
            ) from None
    if engine == "espeak-ng":
        from .espeak import Espeak

        return Espeak(voice)
    raise SpeechFailed(f"There is no {engine!r} here.")


def main() -> None:
    """Run until the parent closes the pipe."""
    serve(_Speaker().handle)


if __name__ == "__main__":
    main()
