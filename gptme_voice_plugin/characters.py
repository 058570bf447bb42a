"""Text that others take: JSON can spell what UTF-8 cannot hold, and names can be of any length."""

from __future__ import annotations

__all__ = ["printable", "short_name", "whole"]

_SHORT = 200


def whole(text: str) -> str:
    """Return `text` with a question mark for each half of a surrogate pair that is in it."""
    return text.encode(errors="replace").decode()


def printable(text: str) -> str:
    """Return `text` on one line, without what could control a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def short_name(name: str) -> str:
    """Return `name` as one printable line of at most 200 characters: of a long one, both ends."""
    line = printable(name).strip()
    half = (_SHORT - 1) // 2
    return line if len(line) <= _SHORT else f"{line[:half]}…{line[-half:]}"
