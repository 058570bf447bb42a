"""A fake of OpenAI's realtime API (GA).

By hand: `python -m tests.fakes.openai_realtime --port 9100 [--reply-seconds 10] [--paced]
[--echo]`.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, get_args

from openai.types.realtime import AudioTranscription
from openai.types.realtime.realtime_audio_config_output import Voice
from openai.types.realtime.realtime_session_create_request import RealtimeSessionCreateRequest

from .dialect import Dialect, Event, Settings, merge
from .engine import FakeProvider
from .speech_clock import Vad
from .validate import Problem, check_event, invalid, missing, unknown

if TYPE_CHECKING:
    from .session import Session

RATE = 24_000
SESSION_SECONDS = 3600
EAGERNESS_MS = {"low": 1200, "medium": 600, "auto": 600, "high": 300}
"""Silence that ends a turn with semantic_vad; the real one looks at the words."""
_SERVER_VAD: Event = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD: Event = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
_VADS = {"server_vad": _SERVER_VAD, "semantic_vad": _SEMANTIC_VAD}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REASONING_MODEL = re.compile(r"gpt-realtime-2(\.\d+)?(-mini)?|fake")


def _literals(annotation: Any) -> tuple[str, ...]:
    """Return the names that a type of the package lists beside any other string."""
    found = [a for option in get_args(annotation) for a in get_args(option)]
    return tuple(a for a in found if isinstance(a, str))


MODELS = (*_literals(RealtimeSessionCreateRequest.model_fields["model"].annotation), "fake")
VOICES = _literals(Voice)
TRANSCRIBERS = _literals(AudioTranscription.model_fields["model"].annotation)


class OpenAIDialect(Dialect):
    """OpenAI, GA."""

    name = "openai"
    models = MODELS
    refuse_beta_header = True

    def defaults(self, model: str) -> Event:
        """Return a new session's configuration."""
        pcm = {"type": "audio/pcm", "rate": RATE}
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": "",
            "model": model,
            "expires_at": int(time.time()) + SESSION_SECONDS,
            "output_modalities": ["audio"],
            "instructions": "Your knowledge cutoff is 2023-10. You are a helpful assistant.",
            "audio": {
                "input": {
                    "format": pcm,
                    "noise_reduction": None,
                    "transcription": None,
                    "turn_detection": dict(_SERVER_VAD),
                },
                "output": {"format": dict(pcm), "voice": "marin", "speed": 1.0},
            },
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "truncation": "auto",
            "tracing": None,
            "prompt": None,
            "include": None,
        }

    def greeting(self, session: Session) -> list[Event]:
        """Return what is sent first."""
        return [{"type": "session.created", "session": session.config}]

    def check(self, event: Event) -> None:
        """Raise the `Problem` of a client event, if it has one."""
        if event.get("type") == "output_audio_buffer.clear":
            raise Problem("invalid_value", "Only WebRTC and SIP sessions have an output buffer.")
        check_event(event)

    def update(self, config: Event, change: Event, session: Session) -> Event:
        """Return `config` with a `session.update` merged in, or raise."""
        if change["type"] != "realtime":
            raise Problem(
                "invalid_value",
                "Passing a transcription session update event to a realtime session is not "
                "allowed.",
                "session.type",
            )
        _check_values(config, change)
        voice = change.get("audio", {}).get("output", {}).get("voice")
        spoken = session.conversation.audio_spoken
        if voice is not None and voice != config["audio"]["output"]["voice"] and spoken:
            raise Problem(
                "cannot_update_voice",
                "Cannot update a conversation's voice if assistant audio is present.",
                "session.audio.output.voice",
            )
        merged = merge(config, change, whole=("turn_detection", "voice", "tool_choice"))
        merged["audio"]["input"]["turn_detection"] = self._vad(config, change)
        return merged

    def _vad(self, config: Event, change: Event) -> Event | None:
        old: Event | None = config["audio"]["input"]["turn_detection"]
        wanted = change.get("audio", {}).get("input", {})
        if "turn_detection" not in wanted:
            return old
        new: Event | None = wanted["turn_detection"]
        if new is None:
            return None
        base = old if old and old["type"] == new["type"] else _VADS[new["type"]]
        return {**base, **new}

    def settings(self, config: Event) -> Settings:
        """Read what the engine needs."""
        source = config["audio"]["input"]
        turns = source["turn_detection"]
        vad = None
        if turns is not None and turns["type"] == "server_vad":
            vad = Vad(turns["threshold"], turns["prefix_padding_ms"], turns["silence_duration_ms"])
        elif turns is not None:
            vad = Vad(silence_ms=EAGERNESS_MS[turns["eagerness"] or "auto"])
        turns = turns or {}
        return Settings(
            vad=vad,
            create_response=turns.get("create_response", True) is not False,
            interrupt_response=turns.get("interrupt_response", True) is not False,
            idle_timeout_ms=turns.get("idle_timeout_ms"),
            transcription=bool(source["transcription"]),
            modalities=tuple(config["output_modalities"]),
        )


def _check_values(config: Event, change: Event) -> None:
    """Raise what the package's types do not say about a session."""
    audio = change.get("audio") or {}
    source, output = audio.get("input") or {}, audio.get("output") or {}
    if change.get("model") not in (None, config["model"]):
        raise Problem("invalid_value", "The model cannot be changed.", "session.model")
    if sorted(change.get("output_modalities") or ["audio"]) not in (["audio"], ["text"]):
        raise invalid("session.output_modalities", "text, audio", "['audio'] or ['text']")
    for where, half in (("input", source), ("output", output)):
        kind = (half.get("format") or {}).get("type", "audio/pcm")
        if kind != "audio/pcm":
            raise invalid(f"session.audio.{where}.format.type", kind, "audio/pcm (of this fake)")
    voice = output.get("voice")
    if isinstance(voice, str) and voice not in VOICES:
        raise invalid("session.audio.output.voice", voice, VOICES)
    _check_range("session.audio.output.speed", output.get("speed"), 0.25, 1.5)
    turns = source.get("turn_detection") or {}
    path = "session.audio.input.turn_detection"
    _check_range(f"{path}.threshold", turns.get("threshold"), 0, 1)
    for key in ("prefix_padding_ms", "silence_duration_ms"):
        _check_range(f"{path}.{key}", turns.get(key), 0, 10_000)
    model = (source.get("transcription") or {}).get("model")
    if model is not None and model not in TRANSCRIBERS:
        raise invalid("session.audio.input.transcription.model", model, TRANSCRIBERS)
    if change.get("max_output_tokens") != "inf":
        _check_range("session.max_output_tokens", change.get("max_output_tokens"), 1, 4096)
    for key in ("reasoning", "parallel_tool_calls"):
        if change.get(key) is not None and not _REASONING_MODEL.fullmatch(config["model"]):
            raise unknown(f"session.{key}")
    for i, tool in enumerate(change.get("tools") or []):
        if tool.get("type") == "mcp":
            continue
        for key in ("type", "name"):
            if tool.get(key) is None:
                raise missing(f"session.tools[{i}].{key}")
        if not _TOOL_NAME.fullmatch(tool["name"]):
            raise invalid(f"session.tools[{i}].name", tool["name"], _TOOL_NAME.pattern)


def _check_range(path: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise invalid(path, value, f"from {low} to {high}")


class FakeOpenAI(FakeProvider):
    """OpenAI on loopback; for the arguments see `FakeProvider`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(OpenAIDialect(), **options)


if __name__ == "__main__":
    from .by_hand import main

    main(
        FakeOpenAI,
        "OPENAI_API_KEY=test GPTME_VOICE_BACKEND=openai GPTME_VOICE_OPENAI_BASE_URL={url}",
        "A fake of OpenAI's realtime API.",
    )
