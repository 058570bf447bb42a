"""The plugin's settings: `[plugin.gptme_voice_plugin]` and `GPTME_VOICE_*`, as one object.

Order, later wins: defaults, the table in gptme's user config, the one in the project config
(gptme.toml), the environment. A wrong value raises `ConfigError`, which names the key, the value
and what is allowed. API keys are not settings: they come from gptme's own config.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import NAME
from .errors import ConfigError

if TYPE_CHECKING:
    from gptme.config import Config

__all__ = [
    "BACKENDS",
    "ENV_PREFIX",
    "Settings",
    "enabled",
    "is_address",
    "load_settings",
    "parse_settings",
]

ENV_PREFIX = "GPTME_VOICE_"
BACKENDS = ("auto", "openai", "xai", "local", "echo")
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
SPEAKERS = ("piper", "espeak-ng")
ISOLATIONS = ("auto", "process", "thread")

_OFF = {"0", "false", "no", "off"}


def _choice(*allowed: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError(f"one of {', '.join(choice or 'empty' for choice in allowed)}")

    return parse


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    raise ValueError("a text")


def _language(value: object) -> str:
    return _text(value).replace("_", "-")


def main_language(language: str) -> str:
    """Return a language without its region: "de" of "de-AT"."""
    return language.split("-")[0].lower()


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "on": True} | dict.fromkeys(_OFF, False)
    if isinstance(value, str) and value.strip().lower() in known:
        return known[value.strip().lower()]
    raise ValueError("true or false")


def _number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, bool):
            try:
                number = int(value) if isinstance(value, str) else value
            except ValueError:
                number = None
            if isinstance(number, int) and low <= number <= high:
                return number
        raise ValueError(f"a whole number from {low} to {high}")

    return parse


def _decimal(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        if not isinstance(value, bool) and isinstance(value, (int, float, str)):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if low <= number <= high:
                return number
        raise ValueError(f"a number from {low:g} to {high:g}")

    return parse


_ADDRESS = "address without a user name or password in it"


def _usable(address: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        return False
    return usable and not parts.username and not parts.password


def _url(value: object) -> str:
    if isinstance(value, str):
        address = value.strip()
        if not address or _usable(address, "http", "https", "ws", "wss"):
            return address
    raise ValueError(f"an http, https, ws or wss {_ADDRESS}")


def is_address(value: str) -> bool:
    """Whether a setting that may name a model or a server names a server."""
    return "://" in value


def _model_or_server(value: object) -> str:
    if isinstance(value, str):
        text = value.strip()
        if not is_address(text) or _usable(text, "http", "https"):
            return text
    raise ValueError(f"a model's name or path, or an http or https {_ADDRESS}")


def _speaker(value: object) -> str:
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ("", *SPEAKERS):
            return text.lower()
        if _usable(text, "http", "https"):
            return text
    raise ValueError(f"one of {', '.join(SPEAKERS)}, or an http or https {_ADDRESS}")


def _origins(value: object) -> tuple[str, ...]:
    allowed = 'a list of origins such as "https://chat.example.org" (scheme, host and port only)'
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)):
        raise ValueError(allowed)
    origins = []
    for entry in entries:
        if not isinstance(entry, str):
            raise ValueError(allowed)
        origin = entry.strip().rstrip("/").lower()
        if not origin:
            continue
        try:
            parts = urlsplit(origin)
            parts.port  # noqa: B018 - raises if it is none
            usable = bool(parts.scheme and parts.hostname) and not {"*", "@"} & set(origin)
        except ValueError:
            usable = False
        if not usable or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(allowed)
        origins.append(origin)
    return tuple(origins)


def _setting(default: object, parse: Callable[[object], Any], help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help, "choices": ()})


def _selection(default: str, choices: tuple[str, ...], help: str) -> Any:
    metadata = {"parse": _choice(*choices), "help": help, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """All settings, validated. Times are in milliseconds. Nothing in here is secret."""

    backend: str = _selection("auto", BACKENDS, "which speech backend answers")
    model: str = _setting("", _text, "the backend's model; empty: its default")
    voice: str = _setting("", _text, "the voice that speaks; empty: the backend's default")
    instructions: str = _setting("", _text, "what the model is told to be; empty: a default")
    history_turns: int = _setting(
        20, _number(0, 200), "how many turns of the conversation the model is told"
    )
    voice_confirm: bool = _setting(
        False, _flag, "whether what gptme asks permission for can be allowed by voice"
    )
    record: bool = _setting(
        False, _flag, "whether sessions are recorded to a file beside the conversation"
    )
    language: str = _setting("", _language, "the language spoken, as in 'en'; empty: detected")
    speed: float = _setting(1.0, _decimal(0.25, 1.5), "how fast the voice speaks")
    transcription_model: str = _setting(
        "gpt-transcribe", _text, "what writes down the user's words, with openai"
    )
    reasoning_effort: str = _selection(
        "", ("", *EFFORTS), "how long reasoning models think; empty: their default"
    )
    noise_reduction: str = _selection(
        "near_field", ("near_field", "far_field", "off"), "for headsets, for rooms, or none"
    )
    turn_detection: str = _selection(
        "server_vad", ("server_vad", "semantic_vad"), "turns end by silence, or by sense"
    )
    threshold: float | None = _setting(
        None, _decimal(0.0, 1.0), "how sure of speech server_vad must be; unset: the default"
    )
    eagerness: str = _selection(
        "auto", ("auto", "low", "medium", "high"), "how soon semantic_vad ends a turn"
    )
    openai_base_url: str = _setting("", _url, "an OpenAI-compatible server instead of OpenAI")
    xai_base_url: str = _setting("", _url, "another address for xAI's API")
    stt: str = _setting(
        "",
        _model_or_server,
        "speech to text with local: a faster-whisper model's name or path, or the address of an "
        "OpenAI-compatible server; empty: its default",
    )
    stt_model: str = _setting(
        "", _text, "the model of the server that stt is the address of; empty: whisper-1"
    )
    tts: str = _setting(
        "",
        _speaker,
        "what speaks with local: piper, espeak-ng, or the address of an OpenAI-compatible server; "
        "empty: Piper if there is one",
    )
    tts_model: str = _setting(
        "", _text, "the model of the server that tts is the address of; empty: tts-1"
    )
    allowed_origins: tuple[str, ...] = _setting(
        (), _origins, "web pages, besides the server's own, that may open a voice session"
    )
    prefix_ms: int = _setting(300, _number(0, 2000), "audio kept from before speech was noticed")
    silence_ms: int = _setting(500, _number(100, 5000), "silence that ends a turn")
    min_speech_ms: int = _setting(
        100, _number(30, 2000), "speech that is shorter than this is no turn, with local"
    )
    isolation: str = _selection(
        "auto", ISOLATIONS, "where sessions run: a process of their own, or a thread"
    )

    def to_wire(self) -> dict[str, Any]:
        """Return the settings as JSON-ready data, for the voice process."""
        # Another process, with another folder: what is relative would mean something else there.
        # But a server's voices are names, whatever they look like.
        ours = self.backend in ("auto", "local") and not is_address(self.tts)
        voice = _absolute(self.voice) if ours else self.voice
        return {**asdict(self), "stt": _absolute(self.stt), "voice": voice}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Settings:
        """Rebuild settings from `to_wire`."""
        return parse_settings({key: value for key, value in data.items() if value is not None})


def _absolute(value: str) -> str:
    """Return a setting that is a relative path as an absolute one.

    Names and addresses have slashes, too: what has one is a path if something is there.
    """
    looks_like_one = (
        value.startswith(("./", "../", ".\\", "..\\"))
        or value.endswith(".onnx")
        or value.count("/") > 1
        or ("/" in value and os.path.exists(value))
    )
    if not looks_like_one or "://" in value or value.startswith("~"):
        return value
    return os.path.abspath(value)


_PARSERS: dict[str, Callable[[object], Any]] = {
    f.name: f.metadata["parse"] for f in fields(Settings)
}


def parse_settings(
    *tables: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> Settings:
    """Merge `tables`, later ones winning, then `environ`, into `Settings`.

    Raises:
        ConfigError: A key is unknown or a value is not allowed.
    """
    values: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            if key not in _PARSERS:
                close = difflib.get_close_matches(key, _PARSERS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_PARSERS)}."
                raise ConfigError(f"[plugin.{NAME}] has no setting {key!r}; {hint}")
            values[key] = _parse(f"[plugin.{NAME}] {key}", key, value)
    # Other GPTME_VOICE_ variables belong to another package, so only our own names are looked up.
    for key in _PARSERS:
        variable = ENV_PREFIX + key.upper()
        value = (environ or {}).get(variable, "")
        if value.strip():
            values[key] = _parse(variable, key, value)
    return Settings(**values)


def _parse(name: str, key: str, value: object) -> Any:
    try:
        return _PARSERS[key](value)
    except ValueError as exc:
        # An address may hold a password by mistake: it is named, not repeated.
        secret = key.endswith("_url") or key in ("stt", "tts") or "@" in str(value)
        shown = "that value" if secret else f"{value!r:.80}"
        raise ConfigError(f"{name} is {shown}, but must be {exc}.") from None


def load_settings(config: Config) -> Settings:
    """Return the settings that `config` (gptme's) and the environment give.

    Raises:
        ConfigError: See `parse_settings`.
    """
    tables = []
    for layer in (config.user, config.project):
        table = layer.plugin.get(NAME, {}) if layer is not None else {}
        if not isinstance(table, Mapping):
            raise ConfigError(f"[plugin.{NAME}] must be a table.")
        tables.append(table)
    return parse_settings(*tables, environ=os.environ)


def enabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the plugin is on; `GPTME_VOICE=0` switches it off."""
    return environ.get("GPTME_VOICE", "").strip().lower() not in _OFF
