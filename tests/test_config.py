"""Settings: where they come from, and what a wrong one is told."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from gptme.config import Config, ProjectConfig, UserConfig

from gptme_voice_plugin import NAME
from gptme_voice_plugin.config import Settings, enabled, load_settings, parse_settings
from gptme_voice_plugin.errors import ConfigError

# Key: its default, two other values, and what is said to a wrong one.
TEXT = "a text"
URL = "an http, https, ws or wss address without a user name or password in it"
SERVER = "http or https address without a user name or password in it"
STT = f"a model's name or path, or an {SERVER}"
TTS = f"one of piper, espeak-ng, or an {SERVER}"
ORIGINS = 'a list of origins such as "https://chat.example.org" (scheme, host and port only)'
KEYS: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "backend": ("auto", "echo", "xai", "alexa", "one of auto, openai, xai, local, echo"),
    "model": ("", "one", "two", 3, TEXT),
    "voice": ("", "one", "two", True, TEXT),
    "instructions": ("", "one", "two", ["x"], TEXT),
    "history_turns": (20, 0, 200, -1, "a whole number from 0 to 200"),
    "voice_confirm": (False, True, True, "perhaps", "true or false"),
    "record": (False, True, True, 2, "true or false"),
    "language": ("", "en", "de", 49, TEXT),
    "speed": (1.0, 1.25, 0.5, 9, "a number from 0.25 to 1.5"),
    "transcription_model": ("gpt-transcribe", "one", "two", 3, TEXT),
    "reasoning_effort": (
        "",
        "low",
        "high",
        "max",
        "one of empty, none, minimal, low, medium, high, xhigh",
    ),
    "noise_reduction": (
        "near_field",
        "far_field",
        "off",
        "on",
        "one of near_field, far_field, off",
    ),
    "turn_detection": (
        "server_vad",
        "semantic_vad",
        "server_vad",
        "vad",
        "one of server_vad, semantic_vad",
    ),
    "threshold": (None, 0.25, 0.75, 1.5, "a number from 0 to 1"),
    "eagerness": ("auto", "low", "high", "very", "one of auto, low, medium, high"),
    "openai_base_url": ("", "http://localhost:1234/v1", "wss://a.example/v1", "ftp://x", URL),
    "xai_base_url": ("", "http://localhost:1234/v1", "wss://a.example/v1", "a.example", URL),
    "stt": ("", "small.en", "http://localhost:8000/v1", "ws://a.example", STT),
    "stt_model": ("", "one", "two", 3, TEXT),
    "tts": ("", "piper", "https://a.example/v1", "festival", TTS),
    "tts_model": ("", "one", "two", 3, TEXT),
    "allowed_origins": (
        (),
        ("https://a.example",),
        ("http://localhost:8080",),
        ["https://a.example/path"],
        ORIGINS,
    ),
    "prefix_ms": (300, 100, 2000, 2001, "a whole number from 0 to 2000"),
    "silence_ms": (500, 100, 5000, 99, "a whole number from 100 to 5000"),
    "min_speech_ms": (100, 30, 2000, 29, "a whole number from 30 to 2000"),
    "isolation": ("auto", "thread", "process", "none", "one of auto, process, thread"),
}
ADDRESSES = ("openai_base_url", "xai_base_url", "stt", "tts")
"""What may hold a password by mistake, and is not repeated."""
each_key = pytest.mark.parametrize("key", KEYS)


def as_text(value: Any) -> str:
    """Return a value as an environment variable holds it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def config(user: dict[str, Any], project: dict[str, Any] | None = None) -> Config:
    """Return gptme's config with our table in its two files."""
    return Config(
        user=UserConfig(plugin={NAME: user}),
        project=None if project is None else ProjectConfig(plugin={NAME: project}),
    )


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(f"GPTME_VOICE_{key.upper()}", raising=False)


def test_every_key_is_tested_here() -> None:
    """The table above is complete."""
    assert {f.name for f in fields(Settings)} == set(KEYS)


def test_every_key_says_what_it_is_for() -> None:
    """Each setting carries a help text."""
    assert all(f.metadata["help"] for f in fields(Settings))


@each_key
def test_default(key: str) -> None:
    """Without any config the default holds."""
    assert getattr(load_settings(Config()), key) == KEYS[key][0]


@each_key
def test_order_of_sources(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's table beats the default, the project's the user's, the environment both."""
    _, one, two, _, _ = KEYS[key]
    assert getattr(load_settings(config({key: one})), key) == one
    assert getattr(load_settings(config({key: one}, {key: two})), key) == two
    assert getattr(load_settings(config({key: one}, {})), key) == one
    monkeypatch.setenv(f"GPTME_VOICE_{key.upper()}", as_text(one))
    assert getattr(load_settings(config({key: two}, {key: two})), key) == one


@each_key
def test_empty_variable_is_as_good_as_none(key: str) -> None:
    """A variable that is set to nothing does not hide the config."""
    one = KEYS[key][1]
    environ = {f"GPTME_VOICE_{key.upper()}": " "}
    assert getattr(parse_settings({key: one}, environ=environ), key) == one


@each_key
def test_wrong_value_in_the_config(key: str) -> None:
    """The message names the key, the value unless it may hold a secret, and what is allowed."""
    wrong, allowed = KEYS[key][3:]
    with pytest.raises(ConfigError) as caught:
        load_settings(config({key: wrong}))
    shown = "that value" if key in ADDRESSES else repr(wrong)
    assert caught.value.message == (
        f"[plugin.gptme_voice_plugin] {key} is {shown}, but must be {allowed}."
    )


@pytest.mark.parametrize("key", [key for key in KEYS if KEYS[key][4] != TEXT])
def test_wrong_value_in_the_environment(key: str) -> None:
    """The message names the variable instead."""
    wrong, allowed = KEYS[key][3:]
    text = wrong[0] if isinstance(wrong, list) else str(wrong)
    with pytest.raises(ConfigError) as caught:
        parse_settings(environ={f"GPTME_VOICE_{key.upper()}": text})
    shown = "that value" if key in ADDRESSES else repr(text)
    assert caught.value.message == f"GPTME_VOICE_{key.upper()} is {shown}, but must be {allowed}."


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("silence", "did you mean 'silence_ms'?"),
        ("backends", "did you mean 'backend'?"),
        ("zzz", "known: backend, model, voice,"),
    ],
)
def test_unknown_key(key: str, hint: str) -> None:
    """A key that does not exist is named, with the one that was meant."""
    with pytest.raises(ConfigError) as caught:
        load_settings(config({key: 1}))
    assert f"[plugin.gptme_voice_plugin] has no setting {key!r}; {hint}" in caught.value.message


def test_other_variables_are_left_alone() -> None:
    """GPTME_VOICE_ is used by others too: a variable that is no key of ours is no error."""
    assert parse_settings(environ={"GPTME_VOICE_SERVER": "x", "GPTME_VOICE": "1"}) == Settings()


@pytest.mark.parametrize("table", ["text", 3, ["list"]])
def test_table_that_is_none(table: Any) -> None:
    """`plugin.gptme_voice_plugin = "…"` is told to be a table."""
    with pytest.raises(ConfigError, match="must be a table"):
        load_settings(config(table))


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@api.example/v1",
        "https://hunter2@api.example",
        "ftp://me:hunter2@api.example",
        "me:hunter2@api.example",
        "http://[hunter2",
    ],
)
def test_password_in_an_address(text: str) -> None:
    """An address with a password is refused, and the password is not repeated."""
    for key in ADDRESSES:
        if key == "stt" and "://" not in text:
            continue  # a model may have any name
        with pytest.raises(ConfigError) as caught:
            parse_settings({key: text})
        assert "hunter2" not in str(caught.value)
    if "@" in text:
        with pytest.raises(ConfigError) as caught:
            parse_settings({"allowed_origins": [text]})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["https://host", "ws://127.0.0.1:8000/v1", "wss://[::1]:1/", ""])
def test_addresses(text: str) -> None:
    """Addresses of web and socket servers are taken as they are."""
    assert parse_settings({"openai_base_url": f" {text} "}).openai_base_url == text


@pytest.mark.parametrize(
    "text", ["small", "/models/x y", "c:\\models", "me@home", "https://[::1]:1/"]
)
def test_what_hears(text: str) -> None:
    """A model by its name or path, or a web server."""
    assert parse_settings({"stt": f" {text} "}).stt == text


@pytest.mark.parametrize(
    ("text", "tts"),
    [("Piper", "piper"), (" espeak-ng ", "espeak-ng"), ("http://A.example/v1", None), ("", "")],
)
def test_what_speaks(text: str, tts: str | None) -> None:
    """One of two, in any case, or a web server."""
    assert parse_settings({"tts": text}).tts == (text if tts is None else tts)


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("https://A.example/", ("https://a.example",)),
        ("https://a.example, http://b:80 ,", ("https://a.example", "http://b:80")),
        (["tauri://localhost"], ("tauri://localhost",)),
        ([], ()),
        ("", ()),
    ],
)
def test_origins(value: Any, origins: tuple[str, ...]) -> None:
    """Origins are compared as browsers send them: in lower case and without a path."""
    assert parse_settings({"allowed_origins": value}).allowed_origins == origins


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.example", "a.example", "null", "https://", "https://a/x", "https://a?q"]
    + ["https://a#f", "https://u:p@a", "https://u@a", "https://a:port", "http://[", 7],
)
def test_what_is_no_origin(origin: Any) -> None:
    """Patterns, paths, and anything but scheme, host and port are refused."""
    with pytest.raises(ConfigError, match="must be a list of origins"):
        parse_settings({"allowed_origins": [origin]})


@pytest.mark.parametrize("value", [True, 1.5, "many", "9" * 5000, None, [300], -1])
def test_what_is_no_number(value: Any) -> None:
    """Numbers are whole, and true is none."""
    with pytest.raises(ConfigError, match="must be a whole number from 0 to 2000"):
        parse_settings({"prefix_ms": value})


@pytest.mark.parametrize("value", [True, "fast", "nan", "inf", float("nan"), None, [1]])
def test_what_is_no_decimal(value: Any) -> None:
    """Decimals are finite numbers in their range."""
    with pytest.raises(ConfigError, match="must be a number from"):
        parse_settings({"speed": value})


def test_choices_are_not_case_sensitive() -> None:
    """`Echo` is `echo`."""
    assert parse_settings({"backend": " Echo "}).backend == "echo"


def test_long_values_are_cut_in_the_message() -> None:
    """A message stays one readable sentence."""
    with pytest.raises(ConfigError) as caught:
        parse_settings({"backend": "x" * 10_000})
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("values", [{}, {key: KEYS[key][1] for key in KEYS}], ids=["none", "all"])
def test_wire_round_trip(values: dict[str, Any]) -> None:
    """Settings survive the way to the voice process, as JSON."""
    settings = parse_settings(values)
    assert Settings.from_wire(json.loads(json.dumps(settings.to_wire()))) == settings


@pytest.mark.parametrize(
    ("value", "on"),
    [(None, True), ("", True), ("1", True), ("yes", True)]
    + [("0", False), ("false", False), (" OFF ", False), ("No", False)],
)
def test_switch(value: str | None, on: bool) -> None:
    """`GPTME_VOICE=0` switches the plugin off."""
    assert enabled({} if value is None else {"GPTME_VOICE": value}) is on


@pytest.mark.parametrize(
    "path", ["./model", "../model", "model.onnx", "models/whisper/base", "there/model"]
)
def test_relative_paths_mean_the_folder_where_they_are_read(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The voice process has another one."""
    (tmp_path / "there" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    wire = parse_settings({"stt": path, "voice": path}).to_wire()
    assert wire["stt"] == wire["voice"] == os.path.abspath(path)


@pytest.mark.parametrize(
    "settings", [{"backend": "openai"}, {"backend": "xai"}, {"tts": "http://127.0.0.1:8880/v1"}]
)
def test_voices_of_servers_are_names(settings: dict[str, str]) -> None:
    """However they look."""
    voice = "ears/p003/freeform.wav"
    assert parse_settings({**settings, "voice": voice}).to_wire()["voice"] == voice


@pytest.mark.parametrize(
    "name",
    ["base", "organisation/name", "en_US-joe-medium", "~/voices/x.onnx", "http://127.0.0.1/v1/x"],
)
def test_names_and_addresses_stay(name: str) -> None:
    wire = parse_settings({"stt": name, "voice": name}).to_wire()
    assert wire["stt"] == wire["voice"] == name
