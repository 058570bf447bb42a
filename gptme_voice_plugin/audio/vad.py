"""Voice activity detection by energy, for the echo backend.

Pure: frames in, edges out. A frame counts as voiced if it is louder than the background by a
margin; the background is the quietest stretch of the last seconds, so a fan that is switched on
stops counting as speech. Turn ends follow the defaults of OpenAI's server VAD.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum

import numpy as np

__all__ = ["FRAME_MS", "EnergyVad", "VadEdge", "level_dbfs"]

FRAME_MS = 20
FLOOR_DBFS = -90.0
LEAST_DBFS = -50.0  # quieter than this is never speech
MOST_DBFS = -25.0  # louder than this always is: who speaks without a pause is no background
MARGIN_DB = 9.0
HYSTERESIS_DB = 3.0
START_FRAMES = 3  # a click is shorter
BLOCK_FRAMES = 25
BLOCKS = 6  # the background is the quietest of the last three seconds


class VadEdge(Enum):
    """What a frame changed."""

    STARTED = "started"
    STOPPED = "stopped"


def level_dbfs(frame: bytes) -> float:
    """Return the RMS level of PCM16 LE audio in dB of full scale, at least -90."""
    samples = np.frombuffer(frame, dtype="<i2").astype(np.float64)
    power = float(samples @ samples) / max(1, samples.size)
    return max(FLOOR_DBFS, 10 * math.log10(power / 2.0**30)) if power else FLOOR_DBFS


class EnergyVad:
    """Tells where speech starts and stops.

    Args:
        silence_ms: How long silence must last to end speech.
    """

    def __init__(self, silence_ms: int) -> None:
        self.speaking = False
        self._silence_frames = max(1, silence_ms // FRAME_MS)
        self._run = 0
        self._minima: deque[float] = deque([FLOOR_DBFS], maxlen=BLOCKS)
        self._block_min = 0.0
        self._block_frames = 0
        self._smooth = FLOOR_DBFS

    def push(self, frame: bytes) -> VadEdge | None:
        """Take the next 20 ms frame of PCM16 LE mono; return the edge it makes, if any."""
        level = level_dbfs(frame)
        threshold = min(max(LEAST_DBFS, self._background(level) + MARGIN_DB), MOST_DBFS)
        if self.speaking:
            self._run = self._run + 1 if level < threshold - HYSTERESIS_DB else 0
            if self._run >= self._silence_frames:
                return self.stop()
        else:
            self._run = self._run + 1 if level >= threshold else 0
            if self._run >= START_FRAMES:
                self.speaking = True
                self._run = 0
                return VadEdge.STARTED
        return None

    def stop(self) -> VadEdge | None:
        """End speech now; None if there was none."""
        if not self.speaking:
            return None
        self.speaking = False
        self._run = 0
        return VadEdge.STOPPED

    def _background(self, level: float) -> float:
        self._smooth += (level - self._smooth) * 0.3
        self._block_min = min(self._block_min, self._smooth)
        self._block_frames += 1
        if self._block_frames == BLOCK_FRAMES:
            self._minima.append(self._block_min)
            self._block_min, self._block_frames = 0.0, 0
        return min(self._minima)
