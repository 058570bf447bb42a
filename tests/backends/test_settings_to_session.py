"""What the settings become: the session, the address and the headers of a provider."""

from __future__ import annotations

from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
from openai.types.realtime import RealtimeReasoningEffort

from gptme_voice_plugin.backends import KEYS, create
from gptme_voice_plugin.backends.openai_realtime import OpenAIBackend
from gptme_voice_plugin.backends.realtime_backend import INSTRUCTIONS, realtime_url
from gptme_voice_plugin.backends.xai import XaiBackend
from gptme_voice_plugin.config import EFFORTS, parse_settings
from tests.support.openai_types import assert_client_event

KEY = "sk-canary-0123456789"


def openai(**settings: Any) -> OpenAIBackend:
    return OpenAIBackend(parse_settings(settings), {"OPENAI_API_KEY": KEY})


def xai(**settings: Any) -> XaiBackend:
    return XaiBackend(parse_settings(settings), {"XAI_API_KEY": KEY})


def openai_session(**settings: Any) -> dict[str, Any]:
    """Return the session that settings give, after checking that OpenAI would take it."""
    session = openai(**settings).session_settings()
    assert_client_event({"type": "session.update", "session": session})
    return session


def at(session: dict[str, Any], path: str) -> Any:
    value: Any = session
    for key in path.split("."):
        value = value[key]
    return value


# OpenAI

FULL = {
    "model": "gpt-x",
    "voice": "cedar",
    "instructions": "Be brief.",
    "language": "de",
    "speed": 1.2,
    "transcription_model": "whisper-1",
    "reasoning_effort": "low",
    "noise_reduction": "far_field",
    "threshold": 0.7,
    "prefix_ms": 100,
    "silence_ms": 900,
}


def test_openai_defaults() -> None:
    """Without settings the session is this one."""
    audio_format = {"type": "audio/pcm", "rate": 24_000}
    assert openai_session() == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": INSTRUCTIONS,
        "audio": {
            "input": {
                "format": audio_format,
                "noise_reduction": {"type": "near_field"},
                "transcription": {"model": "gpt-transcribe"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 500,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": audio_format, "voice": "marin"},
        },
    }


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ({"voice": "cedar"}, "audio.output.voice", "cedar"),
        ({"voice": "one of tomorrow"}, "audio.output.voice", "one of tomorrow"),
        ({"instructions": "Be brief."}, "instructions", "Be brief."),
        ({"speed": 0.25}, "audio.output.speed", 0.25),
        ({"speed": "1.5"}, "audio.output.speed", 1.5),
        ({"language": "de"}, "audio.input.transcription.language", "de"),
        ({"language": "de_AT"}, "audio.input.transcription.language", "de"),
        ({"transcription_model": "whisper-1"}, "audio.input.transcription.model", "whisper-1"),
        ({"noise_reduction": "far_field"}, "audio.input.noise_reduction", {"type": "far_field"}),
        ({"noise_reduction": "off"}, "audio.input.noise_reduction", None),
        ({"threshold": 0.0}, "audio.input.turn_detection.threshold", 0.0),
        ({"threshold": "0.9"}, "audio.input.turn_detection.threshold", 0.9),
        ({"prefix_ms": 0}, "audio.input.turn_detection.prefix_padding_ms", 0),
        ({"silence_ms": 900}, "audio.input.turn_detection.silence_duration_ms", 900),
        *(
            ({"reasoning_effort": effort}, "reasoning", {"effort": effort})
            for effort in get_args(RealtimeReasoningEffort)
        ),
        *(
            (
                {"turn_detection": "semantic_vad", "eagerness": eagerness, "threshold": 0.9},
                "audio.input.turn_detection",
                {
                    "type": "semantic_vad",
                    "eagerness": eagerness,
                    "create_response": True,
                    "interrupt_response": True,
                },
            )
            for eagerness in ("auto", "low", "medium", "high")
        ),
    ],
)
def test_openai_settings(settings: dict[str, Any], path: str, value: Any) -> None:
    """Each setting arrives where OpenAI wants it."""
    assert at(openai_session(**settings), path) == value


@pytest.mark.parametrize("left_out", [None, *FULL])
@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
def test_openai_takes_any_mix_of_settings(left_out: str | None, detection: str) -> None:
    """With or without any of them the session is a valid one, and never carries the model."""
    mix = {key: value for key, value in FULL.items() if key != left_out}
    assert "model" not in openai_session(**mix, turn_detection=detection)


@pytest.mark.parametrize("effort", EFFORTS)
def test_openai_gets_no_effort_that_it_does_not_know(effort: str) -> None:
    """'none' is for other providers."""
    openai_session(reasoning_effort=effort)


# xAI


def test_xai_defaults() -> None:
    """Without settings the session is this one: voice and turn detection are at the top."""
    assert xai().session_settings() == {
        "type": "realtime",
        "instructions": INSTRUCTIONS,
        "voice": "eve",
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.85,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        },
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 16_000},
                "transport": "binary",
                "transcription": {"model": "grok-transcribe"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "transport": "binary"},
        },
        "resumption": {"enabled": True},
    }


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        ({"voice": "rex"}, "voice", "rex"),
        ({"instructions": "Be brief."}, "instructions", "Be brief."),
        ({"speed": 1.5}, "audio.output.speed", 1.5),
        ({"speed": 0.25}, "audio.output.speed", 0.7),
        ({"language": "de"}, "audio.input.transcription.language_hint", "de"),
        ({"language": "es_MX"}, "audio.input.transcription.language_hint", "es-MX"),
        ({"transcription_model": "x"}, "audio.input.transcription.model", "grok-transcribe"),
        ({"threshold": 0.0}, "turn_detection.threshold", 0.1),
        ({"threshold": 0.4}, "turn_detection.threshold", 0.4),
        ({"threshold": 1.0}, "turn_detection.threshold", 0.9),
        ({"prefix_ms": 0}, "turn_detection.prefix_padding_ms", 0),
        ({"silence_ms": 900}, "turn_detection.silence_duration_ms", 900),
        ({"turn_detection": "semantic_vad"}, "turn_detection.type", "server_vad"),
        ({"reasoning_effort": "none"}, "reasoning", {"effort": "none"}),
        ({"reasoning_effort": "minimal"}, "reasoning", {"effort": "none"}),
        ({"reasoning_effort": "low"}, "reasoning", {"effort": "high"}),
        ({"reasoning_effort": "xhigh"}, "reasoning", {"effort": "high"}),
    ],
)
def test_xai_settings(settings: dict[str, Any], path: str, value: Any) -> None:
    """Each setting arrives where xAI wants it, within its bounds."""
    assert at(xai(**settings).session_settings(), path) == value


def test_only_xai_speaks_binary() -> None:
    """Nobody else is asked for binary frames, so nobody else's are audio."""
    assert (openai().binary_output, xai().binary_output) == (False, True)


# The address


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://api.openai.com/v1", "wss://api.openai.com/v1/realtime?model=m"),
        ("https://api.openai.com/v1/", "wss://api.openai.com/v1/realtime?model=m"),
        ("http://127.0.0.1:8080/v1", "ws://127.0.0.1:8080/v1/realtime?model=m"),
        ("ws://localhost:1", "ws://localhost:1/realtime?model=m"),
        ("wss://host/v1/realtime", "wss://host/v1/realtime?model=m"),
        ("wss://host/v1/realtime/", "wss://host/v1/realtime?model=m"),
        ("http://[::1]:8080/v1", "ws://[::1]:8080/v1/realtime?model=m"),
        ("https://host/v1?a=b", "wss://host/v1/realtime?a=b&model=m"),
        (
            "https://r.openai.azure.com/openai/realtime?api-version=2&deployment=d",
            "wss://r.openai.azure.com/openai/realtime?api-version=2&deployment=d&model=m",
        ),
        ("https://host/realtime/v1", "wss://host/realtime/v1/realtime?model=m"),
        ("https://host/v1#part", "wss://host/v1/realtime?model=m"),
    ],
)
def test_the_address(base_url: str, address: str) -> None:
    """Scheme and `/realtime` are put right; port and query stay."""
    assert realtime_url(base_url, {"model": "m"}) == address


def test_a_models_name_is_quoted() -> None:
    """A name with odd letters in it is one value of the query."""
    query = parse_qs(urlsplit(realtime_url("http://h", {"model": "a/b&c=d é"})).query)
    assert query == {"model": ["a/b&c=d é"]}


@pytest.mark.parametrize(
    ("backend", "base_url", "model"),
    [
        (openai(), "https://api.openai.com/v1", "gpt-realtime-2.1"),
        (openai(openai_base_url="http://h/v1", model="x"), "http://h/v1", "x"),
        (openai(xai_base_url="http://h/v1"), "https://api.openai.com/v1", "gpt-realtime-2.1"),
        (xai(), "https://api.x.ai/v1", "grok-voice-latest"),
        (xai(xai_base_url="http://h/v1", model="x"), "http://h/v1", "x"),
        (xai(openai_base_url="http://h/v1"), "https://api.x.ai/v1", "grok-voice-latest"),
    ],
)
def test_where_a_backend_goes(backend: OpenAIBackend, base_url: str, model: str) -> None:
    """To its provider, or to the address that is set for it; any model name is passed on."""
    assert backend.base_url() == base_url
    assert backend.query() == {"model": model}
    assert backend.model == model


def test_xai_takes_up_a_conversation_that_is_known() -> None:
    """Its id is in the address of the next connection."""
    backend = xai()
    backend._protocol.receive({"type": "conversation.created", "conversation": {"id": "conv1"}})
    assert backend.query() == {"model": "grok-voice-latest", "conversation_id": "conv1"}


# Keys


@pytest.mark.parametrize("backend", [openai(), xai(), openai(openai_base_url="ws://h")])
def test_the_key_is_a_bearer_token(backend: OpenAIBackend) -> None:
    """And it is the only header: the one that asks for the beta protocol is refused nowadays."""
    assert backend.headers() == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "url",
    ["https://r.openai.azure.com/openai/v1", "wss://r.services.ai.azure.com/openai/v1/realtime"],
)
def test_azure_takes_its_own_header(url: str) -> None:
    """A key of Azure's is no bearer token."""
    assert openai(openai_base_url=url).headers() == {"api-key": KEY}


@pytest.mark.parametrize("url", ["https://azure.com.example.org", "https://notazure.com"])
def test_a_host_that_only_looks_like_azure(url: str) -> None:
    """It is like any other server."""
    assert "api-key" not in openai(openai_base_url=url).headers()


def test_without_a_key_there_is_no_header() -> None:
    """A server of one's own may need none."""
    backend = OpenAIBackend(parse_settings({"openai_base_url": "ws://h"}), {})
    assert backend.headers() == {}
    assert not backend.needs_key()
    assert OpenAIBackend(parse_settings({}), {}).needs_key()


@pytest.mark.parametrize("name", list(KEYS))
def test_a_key_shows_nowhere(name: str) -> None:
    """Neither the backend, nor its settings, nor its address, nor the session has it."""
    backend: Any = create(name, parse_settings({}), {KEYS[name]: KEY})
    shown = [
        repr(backend),
        str(backend),
        repr(backend.settings),
        str(backend.settings.to_wire()),
        realtime_url(backend.base_url(), backend.query()),
        str(backend.session_settings()),
        repr(backend._protocol),
    ]
    assert KEY in str(backend.headers())
    assert not [text for text in shown if KEY in text]


@pytest.mark.parametrize("name", list(KEYS))
def test_a_key_of_another_provider_is_not_used(name: str) -> None:
    """Each provider gets its own key only."""
    others = {key: KEY for other, key in KEYS.items() if other != name}
    backend: Any = create(name, parse_settings({}), others)
    assert backend.headers() == {}
