"""What a listener can tell of two recordings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from tests.support.speech import Samples, best_match

__all__ = ["Match", "compare", "levels", "loud_stretches", "worklet_copy"]

WINDOW = 0.5
SLACK = 0.005
"""How far a window may be from where the whole puts it, in seconds: 5 ms of slip."""
LEVEL_WINDOW = 0.05
LOUD = 300.0
"""RMS from which a window is not silent: -41 dB of full scale, 25 dB under the speech."""

# The stock worklet takes whole samples out of each block of 128 (42 of 42.67 at 48 kHz, 46 of 46.44
# at 44.1 kHz) and calls the result 16 kHz. So all it captures is this much too short.
_WORKLET_SCALE = {48_000: (63, 64), 44_100: (10_143, 10_240)}


@lru_cache(maxsize=8)
def _scaled(samples: bytes, up: int, down: int) -> NDArray[np.float64]:
    return np.asarray(resample_poly(np.frombuffer(samples, np.int16).astype(np.float64), up, down))


def worklet_copy(samples: Samples, rate: int, to_rate: int | None = None) -> Samples:
    """Return `samples` as fast as the stock worklet makes them in an AudioContext of `rate`.

    It is not a model of the worklet: the jumps at its block edges and the aliases of its missing
    filter stay differences. They cost about 0.01 of correlation with speech, so nothing has to be
    filtered away before recordings are compared.
    """
    up, down = _WORKLET_SCALE[rate]
    if to_rate is not None:
        up, down = up * to_rate, down * rate
    divisor = int(np.gcd(up, down))
    scaled = _scaled(samples.tobytes(), up // divisor, down // divisor)
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)


@dataclass(frozen=True)
class Match:
    """Where a recording has the speech, and how well."""

    correlation: float
    """Of the whole, at its best place."""
    windows: tuple[float, ...]
    """Of each window of half a second, the first and the last included, at the same place."""
    quietest: float
    """Level of the quietest 50 ms against the speech's own there, 1 = what is usual."""
    start: int
    end: int

    @property
    def good(self) -> bool:
        """Whether it is all there."""
        return min(self.correlation, *self.windows) > 0.9 and self.quietest > 0.3

    def __str__(self) -> str:
        windows = " ".join(f"{w:.2f}" for w in self.windows)
        return f"{self.correlation:.3f}, windows {windows}, quietest 50 ms {self.quietest:.2f}"


def compare(speech: Samples, heard: Samples, rate: int) -> Match:
    """Look for `speech` in `heard`."""
    size, slack = int(WINDOW * rate), int(SLACK * rate)
    padded = np.pad(heard, (slack, max(0, speech.size - heard.size) + slack))
    correlation, start = best_match(speech, padded)
    windows = []
    for at in [*range(0, speech.size - size, size // 2), speech.size - size]:
        around = padded[max(0, start + at - slack) : start + at + size + slack]
        windows.append(best_match(speech[at : at + size], around)[0])
    whole = padded[start : start + speech.size]
    said = levels(speech, rate)
    ratios = (levels(whole, rate) / np.maximum(said, 1.0))[said > 3 * LOUD]
    quietest = float(ratios.min() / max(float(np.median(ratios)), 0.01))
    begin = start - slack
    return Match(correlation, tuple(windows), quietest, begin, begin + speech.size)


def levels(samples: Samples, rate: int, window: float = LEVEL_WINDOW) -> NDArray[np.float64]:
    """Return the RMS level of each stretch of `window` seconds."""
    size = int(window * rate)
    whole = samples[: samples.size // size * size].astype(np.float64).reshape(-1, size)
    return np.asarray(np.sqrt((whole**2).mean(axis=1)))


def loud_stretches(samples: Samples, rate: int, gap: float = 0.3) -> list[tuple[float, float]]:
    """Return where there is sound, in seconds; pauses shorter than `gap` seconds belong to it."""
    window = 0.01
    loud = np.flatnonzero(levels(samples, rate, window) > LOUD)
    if not loud.size:
        return []
    breaks = np.flatnonzero(np.diff(loud) * window > gap)
    starts = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    return [(float(a * window), float((b + 1) * window)) for a, b in zip(starts, ends, strict=True)]
