"""What waits for being written into a conversation: a file beside its log, one entry a line.

An entry that was accepted is on the disk, whatever becomes of the server. The file goes after its
entries are in the log, so a crash in between leaves entries that the log has already: whoever reads
it must be prepared for that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from .entry import Entry

__all__ = ["NAME", "Spool", "left_in"]

logger = logging.getLogger(__name__)

NAME = "voice-turns.jsonl"


class Spool:
    """The file of one conversation. Whoever uses it sees to it that nobody else does.

    Args:
        folder: Of the conversation; it is never made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def __bool__(self) -> bool:
        return self._path.exists()

    def read(self) -> list[Entry]:
        """Return what waits, oldest first.

        Raises:
            OSError: It cannot be read.
        """
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        entries = []
        for line in filter(None, lines):
            try:
                entries.append(Entry.from_json(line))
            except ValueError:
                # A crash cut it off, before it was accepted: it will be sent again.
                logger.warning("Passed over a broken line of %s.", self._path)
        return entries

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; they are on the disk when it returns.

        Raises:
            OSError: They are not, or not all.
        """
        new = not self
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # what a crash cut off must not take these with it
            file.write(b"".join(entry.to_json().encode() + b"\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self._path.parent)

    def remove(self) -> None:
        """Forget what waits."""
        self._path.unlink(missing_ok=True)


def left_in(logs: Path) -> Iterator[str]:
    """Yield the ids of the conversations in gptme's folder `logs` for which something waits."""
    for path in logs.glob(f"*/{NAME}"):
        yield path.parent.name


def _sync_folder(folder: Path) -> None:
    # Without it the file's name may be lost where its content is not. Windows opens no folders.
    with suppress(PermissionError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
