"""A fake of xAI's voice agent API.

By hand: `python -m tests.fakes.xai --port 9101 [--reply-seconds 10] [--paced] [--echo]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .dialect import Dialect, Event, Settings, merge
from .engine import FakeProvider
from .speech_clock import Vad
from .validate import check_event, invalid, missing, wrong_type

if TYPE_CHECKING:
    from .session import Session

MODELS = (
    "grok-voice-latest",
    "grok-voice-3.0",
    "grok-voice-think-fast-2.0",
    "grok-voice-think-fast-1.0",
    "grok-voice-fast-1.0",
    "fake",
)
PCM_RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
_KNOWN: dict[str, Any] = {
    "type": None,
    "model": None,
    "instructions": None,
    "voice": None,
    "turn_detection": {
        "type": None,
        "threshold": None,
        "prefix_padding_ms": None,
        "silence_duration_ms": None,
        "idle_timeout_ms": None,
        "create_response": None,
        "interrupt_response": None,
    },
    "audio": {
        "input": {
            "format": {"type": None, "rate": None},
            "transport": None,
            "transcription": {"model": None, "language_hint": None, "keyterms": None},
        },
        "output": {"format": {"type": None, "rate": None}, "transport": None, "speed": None},
    },
    "reasoning": {"effort": None},
    "resumption": {"enabled": None},
    "replace": None,
    "tools": None,
}
"""The session's keys; others are let pass without any effect."""


class XaiDialect(Dialect):
    """xAI.

    Args:
        greeting: Which events come first, in which order.
        ping_seconds: A `ping` event every so often; None: none.
        truncate: Whether `conversation.item.truncate` is supported.
        transcript_in_done: Whether `output_audio_transcript.done` has the transcript.
        usage_place: Where `usage` is: `top` (beside the response), `response` or `none`.
        bare_events: Leave out indexes, ids and positions that xAI does not always send.
    """

    name = "xai"
    models = MODELS
    item_done = False
    rate_limits = False
    cumulative_transcripts = True
    duplicate_text = True
    can_retrieve = False
    resumable = True

    def __init__(
        self,
        greeting: Sequence[str] = ("session.created", "conversation.created"),
        ping_seconds: float | None = 10.0,
        truncate: bool = True,
        transcript_in_done: bool = False,
        usage_place: str = "top",
        bare_events: bool = True,
    ) -> None:
        self._greeting = greeting
        self.ping_seconds = ping_seconds
        self.can_truncate = truncate
        self.transcript_in_done = transcript_in_done
        self.usage_place = usage_place
        self.bare_events = bare_events

    def defaults(self, model: str) -> Event:
        """Return a new session's configuration."""
        pcm = {"type": "audio/pcm", "rate": 24_000}
        return {
            "object": "realtime.session",
            "id": "",
            "model": model,
            "instructions": "",
            "voice": "eve",
            "turn_detection": _vad_defaults(),
            "audio": {
                "input": {"format": pcm, "transport": "json", "transcription": None},
                "output": {"format": dict(pcm), "transport": "json", "speed": 1.0},
            },
            "reasoning": {"effort": "high"},
            "resumption": {"enabled": False},
            "tools": [],
        }

    def greeting(self, session: Session) -> list[Event]:
        """Return what is sent first, with the turns of a resumed conversation."""
        conversation = session.conversation
        bodies: dict[str, Event] = {
            "session.created": {"session": session.config},
            "conversation.created": {
                "conversation": {"id": conversation.id, "object": "realtime.conversation"}
            },
        }
        events = [{"type": type, **bodies[type]} for type in self._greeting]
        previous = None
        for item in conversation.items if session.resumed else ():
            events.append(
                {
                    "type": "conversation.item.created",
                    "previous_item_id": previous,
                    "item": item.public(),
                }
            )
            previous = item.id
        return events

    def check(self, event: Event) -> None:
        """Raise the `Problem` of a client event, if it has one."""
        kind = event.get("type")
        if kind == "session.update":
            if not isinstance(event.get("session"), dict):
                raise missing("session")
            return
        if kind in ("conversation.item.retrieve", "output_audio_buffer.clear"):
            raise invalid("type", kind, "what xAI knows")
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") == "force_message":
            if item.get("role") != "assistant":
                raise invalid("item.role", item.get("role"), ["assistant"])
            for part in item.get("content") or [{}]:
                if part.get("type") != "output_text" or not part.get("text"):
                    raise invalid("item.content[0]", part, "an output_text with text")
            return
        check_event(event, allow_unknown=True)

    def update(self, config: Event, change: Event, session: Session) -> Event:
        """Return `config` with a `session.update` merged in, or raise."""
        _check_values(change)
        known, ignored = _split(change, _KNOWN, "")
        session.ignored += ignored
        merged = merge(config, known, whole=("turn_detection", "tools", "replace"))
        turns = known.get("turn_detection")
        if turns:
            base = config["turn_detection"] or _vad_defaults()
            merged["turn_detection"] = {**base, **turns}
        # Keyed by the conversation: xAI keeps its turns only for sessions that ask for it.
        kept = session.provider.conversations
        if merged["resumption"]["enabled"]:
            kept[session.conversation.id] = session.conversation
        else:
            kept.pop(session.conversation.id, None)
        return merged

    def settings(self, config: Event) -> Settings:
        """Read what the engine needs."""
        source, output = config["audio"]["input"], config["audio"]["output"]
        turns = config["turn_detection"]
        vad = None
        if turns is not None:
            vad = Vad(turns["threshold"], turns["prefix_padding_ms"], turns["silence_duration_ms"])
        model = (source["transcription"] or {}).get("model")
        return Settings(
            input_rate=source["format"]["rate"],
            output_rate=output["format"]["rate"],
            binary_in=source["transport"] == "binary",
            binary_out=output["transport"] == "binary",
            vad=vad,
            idle_timeout_ms=(turns or {}).get("idle_timeout_ms"),
            transcription=True,
            transcript_partials=model == "grok-transcribe",
        )


def _vad_defaults() -> Event:
    return {
        "type": "server_vad",
        "threshold": 0.85,
        "prefix_padding_ms": 333,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
    }


def _split(change: Event, known: dict[str, Any], path: str) -> tuple[Event, list[str]]:
    """Return what is known of `change`, and the paths of the rest."""
    kept: Event = {}
    ignored: list[str] = []
    for key, value in change.items():
        if key not in known:
            ignored.append(path + key)
        elif isinstance(value, dict) and known[key] is not None:
            kept[key], more = _split(value, known[key], f"{path}{key}.")
            ignored += more
        else:
            kept[key] = value
    return kept, ignored


def _check_values(change: Event) -> None:
    voice = change.get("voice", "eve")
    if not isinstance(voice, str) or not voice:
        raise wrong_type("session.voice", voice, "a string")
    turns = change.get("turn_detection")
    if turns is not None:
        if turns.get("type") != "server_vad":
            raise invalid("session.turn_detection.type", turns.get("type"), ["server_vad"])
        limits = {
            "threshold": (0.1, 0.9),
            "silence_duration_ms": (0, 10_000),
            "prefix_padding_ms": (0, 10_000),
        }
        for key, (low, high) in limits.items():
            _check_range(f"session.turn_detection.{key}", turns.get(key), low, high)
    effort = (change.get("reasoning") or {}).get("effort", "high")
    if effort not in ("high", "none"):
        raise invalid("session.reasoning.effort", effort, ["high", "none"])
    audio = change.get("audio") or {}
    for half in ("input", "output"):
        part, path = audio.get(half) or {}, f"session.audio.{half}"
        if part.get("transport", "json") not in ("json", "binary"):
            raise invalid(f"{path}.transport", part["transport"], ["json", "binary"])
        format = part.get("format") or {}
        if format.get("type", "audio/pcm") != "audio/pcm":
            raise invalid(f"{path}.format.type", format["type"], "audio/pcm (of this fake)")
        if format.get("rate", 24_000) not in PCM_RATES:
            raise invalid(f"{path}.format.rate", format["rate"], PCM_RATES)
        _check_range(f"{path}.speed", part.get("speed"), 0.7, 1.5)
    terms = ((audio.get("input") or {}).get("transcription") or {}).get("keyterms") or []
    if len(terms) > 100 or any(len(term) > 50 for term in terms):
        raise invalid("session.audio.input.transcription.keyterms", "...", "100 of 50 characters")


def _check_range(path: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise invalid(path, value, f"from {low} to {high}")


class FakeXai(FakeProvider):
    """xAI on loopback; for the arguments see `FakeProvider` and `XaiDialect`."""

    def __init__(self, dialect: XaiDialect | None = None, **options: Any) -> None:
        super().__init__(dialect or XaiDialect(), **options)


if __name__ == "__main__":
    from .by_hand import main

    main(
        FakeXai,
        "XAI_API_KEY=test GPTME_VOICE_BACKEND=xai GPTME_VOICE_XAI_BASE_URL={url}",
        "A fake of xAI's voice agent API.",
    )
