"""Speech to test with, and how to compare it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate, resample_poly

Samples = NDArray[np.int16]


@lru_cache(maxsize=8)
def speech_like(sample_rate: int, seconds: float = 2.0, seed: int = 1) -> Samples:
    """Return a loud signal with the spectrum and rhythm of speech, int16 mono.

    It is made of harmonics of a gliding pitch under syllables; no two stretches of it are alike, so
    correlation finds its place to the sample.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    pitch = 120 + 40 * np.interp(t, np.linspace(0, seconds, 12), rng.uniform(-1, 1, 12))
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**0.8 for k in range(1, 24))
    syllables = 0.25 + 0.75 * np.abs(np.sin(2 * np.pi * 2.2 * t + rng.uniform(0, 6)))
    signal = voice * syllables + rng.normal(0, 0.05, t.size)
    return (signal / np.abs(signal).max() * 20_000).astype(np.int16)


def silence(sample_rate: int, seconds: float) -> Samples:
    """Return silence, int16 mono."""
    return np.zeros(int(seconds * sample_rate), np.int16)


def best_match(part: NDArray[np.int16], whole: NDArray[np.int16]) -> tuple[float, int]:
    """Find `part` in `whole`, both of one rate; return correlation (0 to 1) and its offset."""
    a, b = part.astype(np.float64), whole.astype(np.float64)
    if a.size > b.size:
        b = np.pad(b, (0, a.size - b.size))
    dots = correlate(b, a, mode="valid", method="fft")
    energy = np.sqrt(np.maximum(correlate(b**2, np.ones(a.size), mode="valid", method="fft"), 1.0))
    scores = dots / (energy * max(float(np.linalg.norm(a)), 1.0))
    at = int(scores.argmax())
    return float(scores[at]), at


def resampled(samples: Samples, input_rate: int, output_rate: int) -> Samples:
    """Return `samples` at another rate, by scipy's offline resampler."""
    out = resample_poly(samples.astype(np.float64), output_rate, input_rate)
    return np.clip(np.rint(out), -32768, 32767).astype(np.int16)
