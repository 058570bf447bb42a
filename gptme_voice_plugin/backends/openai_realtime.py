"""OpenAI's realtime API, and servers that speak it: Azure, LocalAI and others.

What is theirs; `realtime_backend.py` has the connection, `realtime.py` the protocol.
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from ..config import main_language
from .realtime_backend import RealtimeBackend

__all__ = ["OpenAIBackend"]


class OpenAIBackend(RealtimeBackend):
    """See `RealtimeBackend`."""

    name: ClassVar[str] = "openai"
    title: ClassVar[str] = "OpenAI"
    key_name: ClassVar[str] = "OPENAI_API_KEY"
    default_url: ClassVar[str] = "https://api.openai.com/v1"
    default_model: ClassVar[str] = "gpt-realtime-2.1"
    input_sample_rate = 24_000
    output_sample_rate = 24_000
    features = ("interrupt", "mute", "commit", "text")
    renew_seconds: float = 55 * 60  # its limit is an hour

    def base_url(self) -> str:
        """See `RealtimeBackend.base_url`."""
        return self.settings.openai_base_url or self.default_url

    def needs_key(self) -> bool:
        """See `RealtimeBackend.needs_key`."""
        return not self.settings.openai_base_url

    def query(self) -> dict[str, str]:
        """See `RealtimeBackend.query`; a model in the base address's own is the default."""
        if not self.settings.model and "model" in dict(parse_qsl(urlsplit(self.base_url()).query)):
            return {}
        return {"model": self.model}

    def headers(self) -> dict[str, str]:
        """See `RealtimeBackend.headers`; Azure takes only its own."""
        if not self._key:
            return {}
        host = urlsplit(self.base_url()).hostname or ""
        if host.endswith(".azure.com"):
            return {"api-key": self._key}
        return {"Authorization": f"Bearer {self._key}"}

    def session_settings(self) -> dict[str, Any]:
        """See `RealtimeBackend.session_settings`."""
        s = self.settings
        audio_format = {"type": "audio/pcm", "rate": self.input_sample_rate}
        transcription = {"model": s.transcription_model}
        if s.language:
            transcription["language"] = main_language(s.language)  # it takes ISO 639-1
        detection: dict[str, Any]
        if s.turn_detection == "semantic_vad":
            detection = {"type": "semantic_vad", "eagerness": s.eagerness}
        else:
            detection = {
                "type": "server_vad",
                "threshold": s.threshold if s.threshold is not None else 0.5,
                "prefix_padding_ms": s.prefix_ms,
                "silence_duration_ms": s.silence_ms,
            }
        detection |= {"create_response": True, "interrupt_response": True}
        noise = None if s.noise_reduction == "off" else {"type": s.noise_reduction}
        output: dict[str, Any] = {"format": audio_format, "voice": s.voice or "marin"}
        if s.speed != 1.0:
            output["speed"] = s.speed
        session: dict[str, Any] = {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": self.instructions(),
            "audio": {
                "input": {
                    "format": audio_format,
                    "noise_reduction": noise,
                    "transcription": transcription,
                    "turn_detection": detection,
                },
                "output": output,
            },
        }
        if s.reasoning_effort:
            effort = "minimal" if s.reasoning_effort == "none" else s.reasoning_effort
            session["reasoning"] = {"effort": effort}
        return session | self.tools()
