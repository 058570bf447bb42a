"""The two audio streams of a session, between the client's sample rates and the backend's."""

from __future__ import annotations

import asyncio
from collections import deque

import numpy as np

from ..audio.frames import FrameSplitter
from ..audio.resample import StreamResampler

__all__ = ["CaptureStream", "ReplyStream", "design_filter"]

IDS_KEPT = 64

_designed: set[tuple[int, int]] = set()


async def design_filter(input_rate: int, output_rate: int) -> None:
    """Design what resampling between two rates needs, off the event loop.

    The first time in a process it takes a second, because scipy is imported; streams that are made
    afterwards for these rates cost nothing.
    """
    rates = (input_rate, output_rate)
    if input_rate != output_rate and rates not in _designed:
        await asyncio.to_thread(StreamResampler, *rates)
        _designed.add(rates)


def _resample(resampler: StreamResampler | None, pcm: bytes) -> bytes:
    if resampler is None:
        return pcm
    return resampler.process(np.frombuffer(pcm, dtype="<i2")).astype("<i2").tobytes()


def _resampler(input_rate: int, output_rate: int) -> StreamResampler | None:
    return None if input_rate == output_rate else StreamResampler(input_rate, output_rate)


class CaptureStream:
    """Captured audio, cut in whatever way, to 20 ms frames at the backend's rate."""

    def __init__(self, client_rate: int, backend_rate: int) -> None:
        self._splitter = FrameSplitter(client_rate)
        self._resampler = _resampler(client_rate, backend_rate)

    def push(self, data: bytes) -> list[bytes]:
        """Take PCM16 bytes, an odd one included; return the frames they complete."""
        return [_resample(self._resampler, frame) for frame in self._splitter.push(data)]

    def rest(self) -> bytes:
        """Return what has not made a whole frame yet."""
        return _resample(self._resampler, self._splitter.flush())


class ReplyStream:
    """Reply audio at the backend's rate to the client's; replies do not run into each other."""

    def __init__(self, backend_rate: int, client_rate: int) -> None:
        self._resampler = _resampler(backend_rate, client_rate)
        self._item_id = ""
        self._ended: deque[str] = deque(maxlen=IDS_KEPT)

    def push(self, item_id: str, pcm: bytes) -> bytes:
        """Take a piece of the reply `item_id`; return what is ready at the client's rate.

        Nothing is, of a reply that has ended: it would cut into the one that came after it.
        """
        if item_id in self._ended:
            return b""
        if item_id != self._item_id:
            self.finish(self._item_id)
            self._item_id = item_id
        return _resample(self._resampler, pcm)

    def finish(self, item_id: str) -> bytes:
        """End the reply `item_id`; return its tail."""
        if item_id != self._item_id:
            return b""
        self._item_id = ""
        if item_id:
            self._ended.append(item_id)
        if self._resampler is None:
            return b""
        return self._resampler.flush().astype("<i2").tobytes()
