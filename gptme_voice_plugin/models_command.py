"""What `gptme-voice models` does: shows, fetches and removes the models of the local backend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from .backends.local import models
from .backends.local.model_names import KINDS, NOUNS, as_path, named
from .backends.local.models import Found, Kind, Progress
from .backends.local.voices import PIPER, speaker
from .config import Settings, is_address, load_settings
from .errors import ModelMissing

__all__ = ["configured", "fetch", "parse_name", "read_settings", "remove", "show"]

Name = tuple[Kind, str]

_SOURCES = {"config": "your path", "package": "package", "cache": "cache"}


def read_settings() -> Settings:
    """Return the settings that hold in the current folder.

    Raises:
        ConfigError: A file is broken, or a setting has a wrong value.
    """
    from .server.gptme_config import read_config

    return load_settings(read_config(Path.cwd()))


def configured(settings: Settings) -> list[Name]:
    """Return the models that the local backend would use."""
    names: list[Name] = []
    if not is_address(settings.stt):
        names.append(("stt", settings.stt or models.DEFAULTS["stt"]))
    if not is_address(settings.tts) and (mouth := speaker(settings)).engine == PIPER:
        names.append(("tts", mouth.voice))
    return names


def parse_name(text: str) -> Name:
    """Return what a person means: `base`, `en_US-joe-medium`, `tts:…`, or a path."""
    for kind in KINDS:
        if text.startswith(f"{kind}:"):
            return kind, text.removeprefix(f"{kind}:")
    if path := as_path(text):
        return ("tts" if path.suffix == ".onnx" else "stt"), text
    try:
        return "tts", named("tts", text).name
    except ModelMissing:
        return "stt", text


# list


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    size: str
    source: str
    path: str


def show(settings: Settings) -> list[str]:
    """Return the lines of a table of what is there, and what is configured but is not."""
    wanted = configured(settings)
    found: list[Found] = [
        each for kind, name in wanted if as_path(name) and (each := models.find(kind, name))
    ]
    found += models.installed()
    used = {(each.kind, each.path) for name in wanted if (each := models.find(*name))}
    rows = [_Row("KIND", "NAME", "SIZE", "FROM", "PATH")]
    for each in found:
        mark = " *" if (each.kind, each.path) in used else ""
        rows.append(
            _Row(
                each.kind,
                each.name + mark,
                _megabytes(each.size),
                _SOURCES[each.source],
                str(each.path),
            )
        )
    rows += [
        _Row(kind, f"{name} *", "-", "not there", "-")
        for kind, name in wanted
        if models.find(kind, name) is None
    ]
    lines = list(_table(rows)) if len(rows) > 1 else ["No models are there, and none are needed."]
    if any(row.source == "not there" for row in rows):
        lines += ["", "* is configured. Fetch what is not there with: gptme-voice models fetch"]
    elif used:
        lines += ["", "* is configured."]
    return lines


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    widths = [max(len(row.__dict__[key]) for row in rows) for key in ("kind", "name", "size")]
    sources = max(len(row.source) for row in rows)
    for row in rows:
        yield (
            f"{row.kind:<{widths[0]}}  {row.name:<{widths[1]}}  {row.size:>{widths[2]}}  "
            f"{row.source:<{sources}}  {row.path}"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


# fetch, remove


def fetch(names: Sequence[Name], echo: Callable[[str], None] = click.echo) -> None:
    """See to it that the models are there and ready for use.

    Raises:
        ModelMissing: One is not to be had; those before it are there.
    """
    if not names:
        echo("The local backend needs no models as it is configured.")
    for kind, name in names:
        there = models.find(kind, name)
        with _progress_bar() as progress:
            path = models.obtain(kind, name, progress)
        now = models.find(kind, name)
        title = f"The {NOUNS[kind]} {now.name if now else name}"
        what = "is ready" if there is None or there.path != path else "is already there"
        echo(f"{title} {what}: {path}")


def remove(kind: Kind, name: str, echo: Callable[[str], None] = click.echo) -> None:
    """Remove a model from the cache.

    Raises:
        NotRemoved: It is not there, is carried by a package or is a path of the user's.
    """
    size = models.remove(kind, name)
    echo(f"Removed the {NOUNS[kind]} {name}: {_megabytes(size)}.")
    left = models.find(kind, name)
    if left is not None and left.source == "package":
        echo("A package carries it, too, and is used from now on.")


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not sys.stderr.isatty(),
    )
    tasks: dict[str, TaskID] = {}
    with bar:

        def show(progress: Progress) -> None:
            if progress.what not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[progress.what] = bar.add_task(progress.what, total=None)
            task = tasks[progress.what]
            bar.update(task, visible=True, completed=progress.done, total=progress.total)

        yield show
