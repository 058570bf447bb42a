"""Regrouping of a PCM16 byte stream into frames of a fixed duration."""

from __future__ import annotations

__all__ = ["FrameSplitter"]

BYTES_PER_SAMPLE = 2


class FrameSplitter:
    """Cut a stream of 16-bit little-endian mono PCM into frames of equal length.

    The chunks that go in may have any length, odd ones included: the bytes are kept in order and
    half a sample waits for its other half.

    Args:
        sample_rate: Samples per second, positive.
        frame_ms: Frame duration in milliseconds, positive.

    Raises:
        ValueError: If either is not positive, or a frame is not a whole number of samples.
    """

    def __init__(self, sample_rate: int, frame_ms: int = 20) -> None:
        if sample_rate <= 0 or frame_ms <= 0:
            raise ValueError(
                f"sample rate and frame duration must be positive, not {sample_rate} Hz "
                f"and {frame_ms} ms"
            )
        frame_samples, remainder = divmod(sample_rate * frame_ms, 1000)
        if remainder:
            raise ValueError(
                f"a frame of {frame_ms} ms at {sample_rate} Hz is not a whole number of samples"
            )
        self._frame_bytes = frame_samples * BYTES_PER_SAMPLE
        self._pending = bytearray()

    @property
    def pending_samples(self) -> int:
        """Whole samples waiting for their frame to fill up."""
        return len(self._pending) // BYTES_PER_SAMPLE

    def push(self, data: bytes) -> list[bytes]:
        """Append `data` (any length) and return the frames it completes, oldest first."""
        pending = self._pending
        pending += data
        size = self._frame_bytes
        complete = len(pending) - len(pending) % size
        if not complete:
            return []
        frames = [bytes(pending[start : start + size]) for start in range(0, complete, size)]
        del pending[:complete]
        return frames

    def flush(self) -> bytes:
        """Return the incomplete last frame, possibly empty.

        Only whole samples are returned; a stray last byte is half of the next sample.
        """
        rest = bytes(self._pending[: self.pending_samples * BYTES_PER_SAMPLE])
        del self._pending[: len(rest)]
        return rest
