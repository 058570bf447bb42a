"""The provider's ear: a clock that counts the audio it got, and speech found by its energy.

Time here is the position in the audio of a session, in milliseconds, never the wall clock: a test
may send ten seconds of audio at once and gets the same positions as in real time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tests.support.speech import Samples

HOP_MS = 20
"""Speech is looked for in steps of this many ms."""
ONSET_HOPS = 2
"""So many steps in a row must be loud before speech starts; one is a click."""
KEEP_SECONDS = 600
"""Older audio is forgotten, so that a session by hand does not grow for hours."""


@dataclass(frozen=True)
class Vad:
    """How speech is found. Times in ms; threshold from 0 to 1."""

    threshold: float = 0.5
    prefix_ms: int = 300
    silence_ms: int = 500


@dataclass(frozen=True)
class Started:
    """Speech has started; `at_ms` includes the prefix, `heard_ms` is where it was loud first."""

    at_ms: int
    heard_ms: int


@dataclass(frozen=True)
class Stopped:
    """Speech has stopped; `at_ms` is after the silence that told so."""

    at_ms: int


def loudness(samples: Samples) -> float:
    """Return 0 for anything below -70 dB of full scale, 1 above -20 dB, in between linear in dB."""
    if not samples.size:
        return 0.0
    power = float(np.mean(samples.astype(np.float64) ** 2)) / 32768.0**2
    return min(max((10 * math.log10(power + 1e-12) + 70) / 50, 0.0), 1.0)


class SpeechClock:
    """Counts the ms of input audio, keeps it, and finds the turns in it.

    Args:
        rate: Samples per second of the input.
        vad: How to find speech; None: not at all.
        base_ms: What was counted already, at another rate.
    """

    def __init__(self, rate: int, vad: Vad | None, base_ms: int = 0) -> None:
        self.rate = rate
        self.vad = vad
        self._base_ms = base_ms
        self.speaking = False
        self.start_ms = 0
        """Where the turn that is spoken now begins, prefix included."""
        self._kept = bytearray()
        self._dropped = 0  # bytes forgotten from the front
        self._done = 0  # samples that have been looked at
        self._loud = 0
        self._quiet = 0
        self._floor_ms = base_ms

    @property
    def now_ms(self) -> float:
        """How much audio has come, in ms."""
        return self._base_ms + self._samples * 1000 / self.rate

    @property
    def _samples(self) -> int:
        return (self._dropped + len(self._kept)) // 2

    def feed(self, pcm: bytes) -> list[Started | Stopped]:
        """Take int16 samples as bytes; return what was noticed in them, in order."""
        self._kept += pcm
        hop = self.rate * HOP_MS // 1000
        noticed: list[Started | Stopped] = []
        while self._done + hop <= self._samples:
            first = self._done * 2 - self._dropped
            block = np.frombuffer(bytes(self._kept[first : first + hop * 2]), "<i2")
            self._done += hop
            event = self._look(block)
            if event is not None:
                noticed.append(event)
        excess = len(self._kept) - KEEP_SECONDS * self.rate * 2
        if excess > self.rate * 2:  # a second at a time: deleting from the front copies all
            excess -= excess % 2
            del self._kept[:excess]
            self._dropped += excess
        return noticed

    def _look(self, block: Samples) -> Started | Stopped | None:
        if self.vad is None:
            return None
        loud = loudness(block) >= self.vad.threshold
        self._loud = self._loud + 1 if loud else 0
        self._quiet = 0 if loud else self._quiet + 1
        now = self._base_ms + self._done * 1000 // self.rate
        if not self.speaking and self._loud >= ONSET_HOPS:
            self.speaking = True
            heard = now - ONSET_HOPS * HOP_MS
            # The prefix never reaches into audio that was already committed.
            self.start_ms = max(heard - self.vad.prefix_ms, self._floor_ms)
            return Started(self.start_ms, heard)
        if self.speaking and self._quiet * HOP_MS >= self.vad.silence_ms:
            self.speaking = False
            self._floor_ms = now
            return Stopped(now)
        return None

    def end_turn(self) -> None:
        """Forget that somebody speaks: the turn was committed or cleared by hand."""
        self.speaking = False
        self._loud = 0
        self._floor_ms = int(self.now_ms)

    def between(self, start_ms: float, end_ms: float | None = None) -> Samples:
        """Return the audio from `start_ms` to `end_ms` (None: to its end)."""
        first = max(self._offset(start_ms), 0)
        last = len(self._kept) if end_ms is None else min(self._offset(end_ms), len(self._kept))
        data = bytes(self._kept[first : max(first, last)])
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int16)

    def _offset(self, ms: float) -> int:
        return int((ms - self._base_ms) * self.rate / 1000) * 2 - self._dropped
