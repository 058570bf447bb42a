"""Session configurations that the tests of the OpenAI fake send."""

from __future__ import annotations

from typing import Any

SESSION: dict[str, Any] = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "Be brief.",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "noise_reduction": {"type": "near_field"},
            "transcription": {"model": "gpt-4o-mini-transcribe", "language": "en"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "create_response": True,
                "interrupt_response": True,
                "idle_timeout_ms": None,
            },
        },
        "output": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "voice": "marin",
            "speed": 1.0,
        },
    },
    "tools": [
        {
            "type": "function",
            "name": "weather",
            "description": "d",
            "parameters": {"type": "object", "properties": {}},
        }
    ],
    "tool_choice": "auto",
    "reasoning": {"effort": "low"},
    "max_output_tokens": "inf",
    "truncation": "auto",
    "tracing": None,
    "include": ["item.input_audio_transcription.logprobs"],
}


def vad(**fields: Any) -> dict[str, Any]:
    """A session that changes nothing but the turn detection."""
    turns = {"type": "server_vad", **fields}
    return {"type": "realtime", "audio": {"input": {"turn_detection": turns}}}


MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
