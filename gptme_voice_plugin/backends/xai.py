"""xAI's Grok voice agent: OpenAI's protocol with differences, which are all here."""

from __future__ import annotations

from typing import Any, ClassVar

from .openai_realtime import OpenAIBackend

__all__ = ["XaiBackend"]


class XaiBackend(OpenAIBackend):
    """Voice and turn detection at the top level of the session, any PCM rate, binary audio."""

    name: ClassVar[str] = "xai"
    title: ClassVar[str] = "xAI"
    key_name: ClassVar[str] = "XAI_API_KEY"
    default_url: ClassVar[str] = "https://api.x.ai/v1"
    default_model: ClassVar[str] = "grok-voice-latest"
    input_sample_rate = 16_000  # what browsers send: no resampling on the way
    renew_seconds: float = 25 * 60  # the shortest limit it has had was half an hour
    binary_output: ClassVar[bool] = True

    def base_url(self) -> str:
        """See `OpenAIBackend.base_url`."""
        return self.settings.xai_base_url or self.default_url

    def needs_key(self) -> bool:
        """See `OpenAIBackend.needs_key`."""
        return not self.settings.xai_base_url

    def query(self) -> dict[str, str]:
        """See `OpenAIBackend.query`; a known conversation is taken up again."""
        query = super().query()
        if self._protocol.conversation_id is not None:
            query["conversation_id"] = self._protocol.conversation_id
        return query

    def session_settings(self) -> dict[str, Any]:
        """See `OpenAIBackend.session_settings`."""
        s = self.settings
        transcription: dict[str, Any] = {"model": "grok-transcribe"}
        if s.language:
            transcription["language_hint"] = s.language
        output: dict[str, Any] = {
            "format": {"type": "audio/pcm", "rate": self.output_sample_rate},
            "transport": "binary",
        }
        if s.speed != 1.0:
            output["speed"] = max(0.7, s.speed)
        session: dict[str, Any] = {
            "type": "realtime",
            "instructions": self.instructions(),
            "voice": s.voice or "eve",
            "turn_detection": {
                "type": "server_vad",
                "threshold": min(max(s.threshold if s.threshold is not None else 0.85, 0.1), 0.9),
                "prefix_padding_ms": s.prefix_ms,
                "silence_duration_ms": s.silence_ms,
            },
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": self.input_sample_rate},
                    "transport": "binary",
                    "transcription": transcription,
                },
                "output": output,
            },
            "resumption": {"enabled": True},
        }
        if s.reasoning_effort:
            effort = "none" if s.reasoning_effort in ("none", "minimal") else "high"
            session["reasoning"] = {"effort": effort}
        return session | self.tools()

    async def announce(self, text: str) -> None:
        """Have `text` spoken word for word."""
        self._protocol.announce(text)
        self._flush()
