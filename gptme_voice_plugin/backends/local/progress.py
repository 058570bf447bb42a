"""How far a model is on its way here, in words for whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable

from ..base import Preparing
from .models import Progress
from .stages import Report

__all__ = ["told"]


def told(report: Report) -> Callable[[Progress], None]:
    """Return what takes progress in bytes, and reports it by whole per cents."""
    last: tuple[str, int | None] | None = None

    def take(progress: Progress) -> None:
        nonlocal last
        share = min(1.0, progress.done / progress.total) if progress.total else None
        now = (progress.what, None if share is None else int(share * 100))
        if now != last:
            last = now
            report(Preparing(progress.what, share))

    return take
