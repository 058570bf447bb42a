"""Which backend a session gets, and why."""

from __future__ import annotations

import pytest

from gptme_voice_plugin import backends
from gptme_voice_plugin.backends import FACTORIES, KEYS, OPTIONAL_KEYS, Choice, choose, create
from gptme_voice_plugin.backends.base import Backend
from gptme_voice_plugin.config import BACKENDS, Settings
from gptme_voice_plugin.errors import BackendUnavailable, ExtraMissing, KeyMissing

ALL_KEYS = tuple(KEYS.values())
EXTRA = {"onnxruntime", "faster_whisper", "piper"}
HEARS = {"stt": "http://localhost:8000/v1"}
SPEAKS = {"tts": "https://speech.example/v1"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What can be imported, to be changed: all that local needs."""
    there = set(EXTRA)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: object() if name in there else None
    )
    return there


@pytest.mark.parametrize("name", FACTORIES)
def test_a_backend_that_is_set_is_taken(name: str) -> None:
    """A backend that is named is used, whatever else could be."""
    assert choose(Settings(backend=name), ALL_KEYS) == Choice(name, "set in the config")


def test_a_backend_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that this version lacks is named, with those it has."""
    monkeypatch.delitem(FACTORIES, "xai")
    with pytest.raises(BackendUnavailable) as caught:
        choose(Settings(backend="xai"), ALL_KEYS)
    assert "'xai'" in caught.value.message
    assert all(other in caught.value.message for other in FACTORIES)


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_a_backend_without_its_key(name: str, key: str) -> None:
    """The key that is missing is named."""
    others = [other for other in ALL_KEYS if other != key]
    with pytest.raises(KeyMissing, match=f"'{name}' backend needs {key}"):
        choose(Settings(backend=name), others)


@pytest.mark.parametrize("name", KEYS)
def test_a_server_of_ones_own_needs_no_key(name: str) -> None:
    """With another address the key is that server's business."""
    address = {f"{name}_base_url": "http://localhost:1234/v1"}
    assert choose(Settings(backend=name, **address), ()).name == name


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_auto_follows_the_key(name: str, key: str) -> None:
    """`auto` takes the backend whose key is configured, and says so."""
    assert choose(Settings(), {key}) == Choice(name, f"{key} is configured")


def test_auto_with_all_keys_takes_the_first() -> None:
    """With several keys the order of the table decides."""
    assert choose(Settings(), ALL_KEYS).name == next(iter(KEYS))


def test_auto_without_keys_is_local() -> None:
    """What is installed here needs no key; one for its servers chooses nothing."""
    for keys in ((), tuple(OPTIONAL_KEYS.values())):
        choice = choose(Settings(), keys)
        assert choice.name == "local"
        assert all(key in choice.reason for key in ALL_KEYS)
        assert "gptme's own model answers" in choice.reason
        assert choice.hint == ""


def test_auto_with_nothing_is_echo(installed: set[str]) -> None:
    """There is always the echo, which says what there could be instead."""
    installed.clear()
    choice = choose(Settings(), ())
    assert choice.name == "echo"
    assert all(key in choice.reason for key in ALL_KEYS)
    assert "local is not installed" in choice.reason
    assert "gptme-voice-plugin[local]" in choice.hint
    assert choose(Settings(backend="echo"), ()).hint == ""


@pytest.mark.parametrize(
    ("packages", "settings", "there"),
    [
        (EXTRA, {}, True),
        (EXTRA - {"onnxruntime"}, {}, False),
        (EXTRA - {"faster_whisper"}, {}, False),
        (EXTRA - {"piper"}, {}, False),
        (EXTRA - {"piper"} | {"espeakng_loader"}, {}, True),
        ({"onnxruntime", "faster_whisper"}, HEARS | SPEAKS, True),
        ({"onnxruntime"}, HEARS | SPEAKS, False),
        ({"onnxruntime", "piper"}, HEARS, False),
        ({"onnxruntime", "faster_whisper"}, SPEAKS, True),
        ({"onnxruntime", "faster_whisper"}, HEARS, False),
    ],
)
def test_what_local_needs(
    installed: set[str], packages: set[str], settings: dict[str, str], there: bool
) -> None:
    """What notices speech, which comes with what hears; and what speaks, or a server for it."""
    installed.clear()
    installed.update(packages)
    assert choose(Settings(**settings), ()).name == ("local" if there else "echo")
    chosen = Settings(backend="local", **settings)
    if there:
        assert choose(chosen, ()) == Choice("local", "set in the config")
    else:
        with pytest.raises(ExtraMissing, match=r"pip install 'gptme-voice-plugin\[local\]'"):
            choose(chosen, ())


@pytest.mark.parametrize("name", FACTORIES)
def test_create(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backend of the table can be made, under its own name, with usable rates."""
    monkeypatch.undo()
    backend = create(name, Settings(), {key: "secret" for key in ALL_KEYS})
    assert isinstance(backend, Backend)
    assert backend.name == name
    assert backend.input_sample_rate >= 8_000
    if name != "local":  # whose voice decides, once it is open
        assert backend.output_sample_rate >= 8_000
    assert "secret" not in repr(backend)


def test_every_choice_can_be_configured() -> None:
    """Whatever can be chosen is a value of `backend`."""
    assert {*FACTORIES, *KEYS, *OPTIONAL_KEYS, "auto"} == set(BACKENDS)
    assert backends.__all__ == ["KEYS", "OPTIONAL_KEYS", "Choice", "choose", "create", "shut_down"]
