"""When to try a lost connection again."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["FINAL_CLOSE_CODES", "delays"]

FINAL_CLOSE_CODES = {1002, 1003, 1007, 1008, 1009, 1010, 4000, 4001, 4003}
"""Close codes after which a new connection would end the same way."""

FIRST = 0.2
FACTOR = 1.8
LONGEST = 4.0
TOTAL = 30.0


def delays(jitter: random.Random | None = None) -> Iterator[float]:
    """Yield the seconds to wait before each try, half a minute in all."""
    source = jitter or random.Random()
    step, spent = FIRST, 0.0
    yield 0.0
    while spent < TOTAL:
        wait = min(step * source.uniform(0.8, 1.2), TOTAL - spent)
        spent += wait
        step = min(step * FACTOR, LONGEST)
        yield wait
