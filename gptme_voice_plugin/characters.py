"""Text that UTF-8 can hold: JSON can spell what is none."""

from __future__ import annotations

__all__ = ["whole"]


def whole(text: str) -> str:
    """Return `text` with a question mark for each half of a surrogate pair that is in it."""
    return text.encode(errors="replace").decode()
