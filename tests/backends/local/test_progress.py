"""Progress in bytes, as it is told."""

from __future__ import annotations

from gptme_voice_plugin.backends.base import Preparing
from gptme_voice_plugin.backends.local.models import Progress
from gptme_voice_plugin.backends.local.progress import told


def test_it_is_told_by_whole_per_cents() -> None:
    """However often it is reported; never more than all; and also where the size is not known."""
    heard: list[Preparing] = []
    take = told(heard.append)
    for done in range(0, 100_001, 10):
        take(Progress("Fetching", done, 100_000))
    assert len(heard) == 101 and heard[0].share == 0 and heard[-1].share == 1
    heard.clear()
    for done in (120, 130):
        take(Progress("Checking", done, 100))
        take(Progress("Fetching it", done, None))
        take(Progress("Fetching it", done, 0))
    assert heard[:2] == [Preparing("Checking", 1.0), Preparing("Fetching it", None)]
    assert len(heard) == 4
