"""Where models are kept that are fetched or put together: a folder in gptme's cache.

    stt/base/                   a folder for faster-whisper
    tts/en_US-joe-medium/       en_US-joe-medium.onnx and its .onnx.json
    partial/                    what is not complete yet, and a lock for each
    verified/                   what has been checked where it lies, so that it is checked once

A model comes into its place by renaming a folder that is complete, so what is there is whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .model_names import Kind, Model, Progress, Report

__all__ = [
    "cache_dir",
    "drop",
    "entries",
    "publish",
    "sha256_of",
    "stored",
    "usable",
    "verified",
    "workplace",
]

CHUNK = 1 << 20
LOCK_SECONDS = 0.1
"""How often a lock that another process has is tried."""


def cache_dir() -> Path:
    """Return the folder for models in gptme's cache; it may not be there yet."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("gptme")) / "voice" / "models"


def usable(kind: Kind, path: Path) -> bool:
    """Whether `path` is a folder for faster-whisper, or a voice of Piper's with its .json."""
    if kind == "stt":
        return (path / "model.bin").is_file()
    return path.is_file() and path.with_name(path.name + ".json").is_file()


def _place(model: Model) -> Path:
    return cache_dir() / model.kind / model.folder


def stored(model: Model) -> Path | None:
    """Return the model's folder, or a voice's file, if the cache has it."""
    folder = _place(model)
    main = folder / model.main
    path = folder if model.kind == "stt" else main
    if not usable(model.kind, path):
        return None
    if model.size is not None and main.stat().st_size != model.size:
        return None
    return path


def entries(kind: Kind) -> list[str]:
    """Return the names of what the cache may have."""
    try:
        folders = sorted(path.name for path in (cache_dir() / kind).iterdir() if path.is_dir())
    except OSError:
        return []
    return [folder.replace("--", "/") for folder in folders]


@contextmanager
def workplace(model: Model, report: Report) -> Iterator[Path]:
    """Give a folder to get the model ready in, to one process at a time.

    What an earlier one has left is still in it. It is removed once the model is in its place.
    """
    folder = cache_dir() / "partial" / f"{model.kind}-{model.folder}"
    folder.mkdir(parents=True, exist_ok=True)

    def waiting() -> None:
        report(Progress(f"Waiting for another process that gets the {model.noun}", 0, None))

    with _locked(folder.with_name(folder.name + ".lock"), waiting):
        # Whoever had the lock before may have finished, and removed it.
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            if stored(model):
                shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.rmdir()  # if nothing is in it


def publish(model: Model, ready: Path) -> Path:
    """Move the complete folder `ready` into the model's place, and return what `stored` would."""
    place = _place(model)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not stored(model):
        if place.exists():
            shutil.rmtree(place)
        try:
            os.replace(ready, place)
        except OSError:
            # On a file system that knows no locks, another process may have been first.
            if not stored(model):
                raise
    path = stored(model)
    assert path is not None, "a model was published that is not complete"
    return path


def drop(model: Model) -> int:
    """Remove the model from the cache, and return how many bytes that were."""
    with workplace(model, lambda _: None) as folder:
        gone = folder / "removed"
        shutil.rmtree(gone, ignore_errors=True)
        # Renamed first, so that no half of it can be found.
        with suppress(FileNotFoundError):
            os.replace(_place(model), gone)
        size = sum(path.stat().st_size for path in gone.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return size


# What has been checked


def sha256_of(path: Path, what: str, report: Report) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    total, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(Progress(what, done, total))
    return digest.hexdigest()


def verified(path: Path, sha256: str, what: str, report: Report) -> bool:
    """Whether a file has that SHA-256. The answer yes is remembered until the file changes."""
    state = path.stat()
    known = {"path": str(path), "size": state.st_size, "mtime": state.st_mtime_ns, "sha256": sha256}
    name = hashlib.sha256(str(path).encode(errors="surrogatepass")).hexdigest()[:32]
    note = cache_dir() / "verified" / f"{name}.json"
    with suppress(OSError, ValueError):
        if json.loads(note.read_text("utf-8")) == known:
            return True
    if sha256_of(path, what, report) != sha256:
        return False
    # Where nothing can be noted, it is checked again.
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        new = note.with_name(f"{name}.{os.getpid()}.new")
        new.write_text(json.dumps(known), "utf-8")
        os.replace(new, note)
    return True


# Locks


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that ends with the process, whatever ends it."""
    with path.open("ab") as file:
        if not _try_lock(file):
            waiting()
            while not _try_lock(file):
                time.sleep(LOCK_SECONDS)
        yield


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            return False
        return True
else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
