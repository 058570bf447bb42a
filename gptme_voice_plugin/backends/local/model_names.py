"""Speech models and voices by name: which files of which repository of the hub they are.

A model to hear with is named as faster-whisper names it: `base`, `small.en`, `large-v3`, or
`organisation/repository` for any other that is made for it. The short names are repositories called
`Systran/faster-whisper-<name>`, but for the few in `_ELSEWHERE`.

A voice is named as Piper names it: `en_US-lessac-medium`, of which the hub's repository
`rhasspy/piper-voices` has the files at `en/en_US/lessac/medium/en_US-lessac-medium.onnx` and
`….onnx.json`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ...errors import ModelMissing

__all__ = [
    "DEFAULTS",
    "KINDS",
    "NOUNS",
    "WHISPERS",
    "Kind",
    "Model",
    "Progress",
    "Report",
    "as_path",
    "named",
]

Kind = Literal["stt", "tts"]
KINDS: tuple[Kind, ...] = ("stt", "tts")
DEFAULTS: dict[Kind, str] = {"stt": "base", "tts": "en_US-joe-medium"}
NOUNS: dict[Kind, str] = {"stt": "speech model", "tts": "voice"}
"""What a user calls them."""

WHISPERS = "tiny, base, small, medium, large-v3, turbo"
"""Those of faster-whisper's names that are suggested; the English ones end in `.en`."""

_SYSTRAN = "Systran/faster-whisper-"
_ELSEWHERE = {
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
_ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}

# The main file of a model whose bytes are known, wherever they come from: SHA-256 and size.
_KNOWN: dict[tuple[Kind, str], tuple[str, int]] = {
    ("stt", "base"): (
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        145_217_532,
    ),
    ("tts", "en_US-joe-medium"): (
        "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
        63_201_294,
    ),
}

_SHORT = re.compile(r"\w[\w.-]*", re.ASCII)
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_VOICE = re.compile(r"([a-z]{2,3})_([A-Za-z0-9]+)-(\w+)-(x_low|low|medium|high)")


@dataclass(frozen=True)
class Progress:
    """How far something is that takes its time."""

    what: str
    """In words for the user, such as "Fetching the speech model base"."""
    done: int
    """Bytes."""
    total: int | None
    """Bytes; None if that is not known."""


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Model:
    """A model that has a name."""

    kind: Kind
    name: str
    """The one name of it, where it has several."""
    repository: str
    files: tuple[str, ...]
    """What it must have, as paths in the repository, the largest first."""
    optional: tuple[str, ...] = ()
    """What it may have."""
    sha256: str = ""
    """Of the first of `files`; empty if it is not known."""
    size: int | None = None
    """Of the first of `files`, in bytes; None if it is not known."""

    @property
    def noun(self) -> str:
        """What a user calls it, such as "speech model base"."""
        return f"{NOUNS[self.kind]} {self.name}"

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return self.name.replace("/", "--")

    @property
    def main(self) -> str:
        """The name of its largest file."""
        return PurePosixPath(self.files[0]).name


def as_path(name: str) -> Path | None:
    """Return the path that `name` is; None if it is a model's name.

    A plain word is always a name: a folder of the same name in the current one is not meant.
    """
    looks_like_one = (
        name.startswith(("~", "."))
        or name.endswith(".onnx")
        or name.count("/") > 1
        or bool({"\\", ":"} & set(name))
        or Path(name).is_absolute()
    )
    if looks_like_one or ("/" in name and Path(name).exists()):
        try:
            return Path(name).expanduser().absolute()
        except RuntimeError:  # ~somebody, whose home is not known
            return Path(name).absolute()
    return None


def named(kind: Kind, name: str) -> Model:
    """Return the model called `name`, whether or not there is one.

    Raises:
        ModelMissing: It cannot be the name of one.
    """
    return _whisper(name) if kind == "stt" else _voice(name)


def _whisper(name: str) -> Model:
    if _REPOSITORY.fullmatch(name) and "--" not in name:
        repository = name
        if name.startswith(_SYSTRAN):
            name = name.removeprefix(_SYSTRAN)
        else:
            name = next((short for short, full in _ELSEWHERE.items() if full == name), name)
    elif _SHORT.fullmatch(name):
        name = _ALIASES.get(name, name)
        repository = _ELSEWHERE.get(name, _SYSTRAN + name)
    else:
        raise ModelMissing(
            f"{name!r:.80} is no name of a speech model; take one of {WHISPERS}, "
            "a repository as in 'organisation/name', or the path of a folder."
        )
    sha256, size = _KNOWN.get(("stt", name), ("", None))
    return Model(
        kind="stt",
        name=name,
        repository=repository,
        files=("model.bin", "config.json"),
        optional=(
            "tokenizer.json",
            "preprocessor_config.json",
            "vocabulary.txt",
            "vocabulary.json",
        ),
        sha256=sha256,
        size=size,
    )


def _voice(name: str) -> Model:
    if not (parts := _VOICE.fullmatch(name)):
        raise ModelMissing(
            f"{name!r:.80} is no name of a Piper voice, which are such as {DEFAULTS['tts']!r}, "
            "nor the path of an .onnx file."
        )
    language, region, voice, quality = parts.groups()
    path = f"{language}/{language}_{region}/{voice}/{quality}/{name}.onnx"
    sha256, size = _KNOWN.get(("tts", name), ("", None))
    return Model(
        kind="tts",
        name=name,
        repository="rhasspy/piper-voices",
        files=(path, path + ".json"),
        sha256=sha256,
        size=size,
    )
