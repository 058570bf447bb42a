"""Streaming sample rate conversion of 16-bit mono PCM at a fixed, short delay.

A polyphase FIR filter of linear phase: interpolation by L, a Kaiser windowed low pass and
decimation by M, evaluated only where an output sample falls (Crochiere and Rabiner, "Multirate
Digital Signal Processing", 1983, chapter 3). The filter is causal, so it never waits for future
samples: the price of its phase is a constant delay of at most 2.5 ms, and nothing is held back.

Arithmetic is exact up to the final rounding. The coefficients are multiples of 2**-30 in float64
and the samples are integers, so each partial sum is a multiple of 2**-30 below 2**20, which
float64 represents exactly. The order of summation therefore cannot change the result, and the
output has the same bits however the input is cut into chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["StreamResampler"]

MIN_RATE = 4000
"""Lowest sample rate in Hz: below it 2.5 ms hold too few samples for a useful filter."""

MAX_FACTOR = 1280
"""Largest term of the reduced ratio output_rate/input_rate."""

MAX_DELAY_MS = 2.5
"""Upper bound on the delay of the filter in milliseconds."""

STOPBAND_DB = 94.0
"""Attenuation the Kaiser window is designed for, which also fixes the passband ripple."""

PASSBAND = 0.885
"""Upper edge of the passband as a fraction of the lower of the two Nyquist frequencies."""

_COEFFICIENT_BITS = 30
# Inputs per round: 20 ms at 48 kHz, and products small enough for OpenBLAS to stay on one thread,
# which at these sizes is several times faster than two.
_BLOCK = 960
_FEW_PERIODS = 3


@dataclass(frozen=True)
class _Design:
    """A filter laid out for matrix products.

    Outputs are computed in groups of `size` consecutive ones. The pattern repeats every `count`
    groups (a period), which take `advance` inputs. Group j of period p reads the `window` inputs
    from rows[p, j] on, counted from the start of the stream (negative: before it), and multiplies
    them by matrices[j].

    Attributes:
        delay: Delay in output samples.
        size: Outputs per group.
        count: Groups per period.
        advance: Inputs per period.
        window: Inputs per group.
        rows: Shape (periods of the largest block, count).
        matrices: Shape (count, window, size).
    """

    delay: int
    size: int
    count: int
    advance: int
    window: int
    rows: npt.NDArray[np.int64]
    matrices: npt.NDArray[np.float64]


def _polyphase(
    input_rate: int, output_rate: int, up: int, down: int
) -> tuple[npt.NDArray[np.float64], int]:
    """Design the filter.

    Returns:
        The phases, shape (up, taps) with up = L, in multiples of 2**-30, and the delay in output
        samples.
    """
    # scipy.signal can take a second to import: only conversions that need a filter pay for it.
    from scipy.signal import firwin, kaiser_beta

    nyquist = min(input_rate, output_rate) / 2
    # Kaiser's estimate: transition width in Hz times filter length in seconds (Oppenheim and
    # Schafer, "Discrete-Time Signal Processing", section 7.5.3).
    width_times_length = (STOPBAND_DB - 7.95) / (2.285 * 2 * math.pi)
    wanted = width_times_length / ((1 - PASSBAND) * nyquist) / 2
    # A whole number of output samples, so that a caller can realign the output by dropping some.
    delay = min(math.ceil(wanted * output_rate), math.floor(MAX_DELAY_MS * output_rate / 1000))
    width = width_times_length / (2 * delay / output_rate)
    cutoff = min(PASSBAND * nyquist + width / 2, nyquist)

    length = 2 * delay * down + 1
    prototype = firwin(
        length, cutoff, window=("kaiser", kaiser_beta(STOPBAND_DB)), fs=input_rate * up
    )
    taps = -(-length // up)
    padded = np.zeros(taps * up)
    padded[:length] = prototype
    phases = np.ascontiguousarray(padded.reshape(taps, up).T)
    # Unit gain at 0 Hz for every phase by itself, or a constant input would come out with ripple.
    unit = 2.0**_COEFFICIENT_BITS
    phases = np.rint(phases * (unit / phases.sum(axis=1, keepdims=True)))
    largest = np.argmax(phases, axis=1)
    phases[np.arange(up), largest] += unit - phases.sum(axis=1)
    return phases / unit, delay


def _group_size(up: int) -> int:
    """Outputs per matrix product: enough to amortise a call, few enough to keep it dense."""
    if up <= 48:
        return up * max(1, round(16 / up))
    divisors = [size for size in range(8, 49) if up % size == 0]
    return min(divisors, key=lambda size: abs(size - 20), default=up)


@lru_cache(maxsize=32)
def _design(input_rate: int, output_rate: int) -> _Design:
    """Design and lay out the filter of a pair of rates."""
    # Cached by the rates and not by their ratio, as the length of the filter is in seconds.
    divisor = math.gcd(input_rate, output_rate)
    up, down = output_rate // divisor, input_rate // divisor
    phases, delay = _polyphase(input_rate, output_rate, up, down)
    taps = phases.shape[1]
    size = _group_size(up)
    period = math.lcm(size, up)
    count = period // size
    advance = period // up * down
    # The newest input that each output of the first period depends on.
    newest = np.arange(period) * down // up
    starts = newest[::size] - (taps - 1)
    window = taps + int(np.max(newest[size - 1 :: size] - newest[::size]))
    matrices = np.zeros((count, window, size))
    for output in range(period):
        group, column = divmod(output, size)
        first = newest[output] - (taps - 1) - starts[group]
        matrices[group, first : first + taps, column] = phases[output * down % up, ::-1]
    rows = advance * np.arange(_BLOCK // advance + 2)[:, None] + starts
    return _Design(delay, size, count, advance, window, rows, matrices)


class StreamResampler:
    """Converts one stream of 16-bit mono samples from one rate to another.

    After n input samples in total, `process` has returned exactly ceil(n * output_rate /
    input_rate) samples in total: every output whose instant is not later than the newest input.
    They are the input delayed by `delay` seconds, a whole number of output samples, preceded by
    silence. The output does not depend on how the input is cut into chunks.

    With f the lower of the two Nyquist frequencies, the passband reaches 0.885 f, or f - 600 Hz
    where that is less (f below 5.2 kHz). The stopband begins at f, or up to 600 Hz above it where
    2.5 ms do not allow a steeper filter (f below 10.4 kHz). Overshoot beyond full scale saturates.

    Equal rates return the samples unchanged, with no delay. Instances are not safe for use from
    several threads at once.

    Args:
        input_rate: Samples per second that go in, at least 4000.
        output_rate: Samples per second that come out, at least 4000.

    Raises:
        TypeError: If a rate is not an integer.
        ValueError: If a rate is too low, or the reduced ratio has a term above 1280.
    """

    def __init__(self, input_rate: int, output_rate: int) -> None:
        for rate in (input_rate, output_rate):
            if not isinstance(rate, int) or isinstance(rate, bool):
                raise TypeError(f"a sample rate must be an int, not {rate!r}")
            if rate < MIN_RATE:
                raise ValueError(f"a sample rate must be at least {MIN_RATE} Hz, not {rate}")
        divisor = math.gcd(input_rate, output_rate)
        self._up = output_rate // divisor
        self._down = input_rate // divisor
        if max(self._up, self._down) > MAX_FACTOR:
            raise ValueError(
                f"cannot resample {input_rate} Hz to {output_rate} Hz: the ratio reduces to "
                f"{self._up}/{self._down}, and neither term may exceed {MAX_FACTOR}"
            )
        self.input_rate = input_rate
        self.output_rate = output_rate
        self._received = 0
        self._returned = 0
        self._filter: _Design | None = None
        if input_rate != output_rate:
            self._filter = _design(input_rate, output_rate)
            self._history = self._filter.window - 1
            # The last group may reach beyond the newest input. Its coefficients there are zero
            # for every output that is used, so that slack must only be finite.
            self._buffer = np.zeros(self._history + _BLOCK + self._filter.window)
            self._windows = sliding_window_view(self._buffer, self._filter.window)

    @property
    def delay(self) -> float:
        """Seconds by which the output lags the input, between 0 and 0.0025."""
        return 0.0 if self._filter is None else self._filter.delay / self.output_rate

    def process(self, samples: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Take the next chunk and return all the output it determines.

        Args:
            samples: Shape (n,), int16 in native byte order, n >= 0.

        Returns:
            A new array of shape (m,), int16; see the class for m.

        Raises:
            TypeError: If `samples` is not an int16 array.
            ValueError: If `samples` has not exactly one dimension.
        """
        if not isinstance(samples, np.ndarray) or samples.dtype != np.int16:
            kind = getattr(samples, "dtype", type(samples).__name__)
            raise TypeError(f"samples must be a numpy array of int16, not {kind}")
        if samples.ndim != 1:
            raise ValueError(f"samples must have one dimension (mono), not shape {samples.shape}")
        if self._filter is None:
            return np.array(samples, np.int16)
        if len(samples) <= _BLOCK:
            return self._process_block(self._filter, samples)
        blocks = [samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK)]
        return np.concatenate([self._process_block(self._filter, block) for block in blocks])

    def flush(self) -> npt.NDArray[np.int16]:
        """End the stream and return its tail; the resampler is then ready for a new stream.

        The tail is what `delay` seconds of silence would have brought out: exactly `delay *
        output_rate` samples, so that a stream of n samples has given ceil(n * output_rate /
        input_rate) + delay * output_rate in total. Dropping the first delay * output_rate of
        them aligns the output with the input. Only the ringing of the filter after the last
        sample is lost. Without input since the last flush, and for equal rates, the tail is
        empty.

        Returns:
            Shape (delay * output_rate,) or (0,), int16.
        """
        design = self._filter
        if design is None or not self._received:
            return np.zeros(0, np.int16)
        silence = np.zeros(-(-design.delay * self._down // self._up), np.int16)
        tail = self.process(silence)[: design.delay]
        self._buffer.fill(0)
        self._received = 0
        self._returned = 0
        return tail

    def _process_block(
        self, design: _Design, samples: npt.NDArray[np.int16]
    ) -> npt.NDArray[np.int16]:
        """Resample at most _BLOCK samples."""
        buffer, history, length = self._buffer, self._history, len(samples)
        buffer[history : history + length] = samples
        oldest = self._received - history
        first = self._returned
        self._received += length
        self._returned = end = -(-self._received * self._up // self._down)
        if first == end:
            output = np.zeros(0)
        else:
            group = first // design.size
            sums = self._filter_groups(design, group, -(-end // design.size), oldest)
            output = sums[first - group * design.size : end - group * design.size]
        buffer[:history] = buffer[length : length + history]
        np.rint(output, out=output)
        np.minimum(output, 32767, out=output)
        np.maximum(output, -32768, out=output)
        # The cast truncates, but by now the values are integers within the range.
        result: npt.NDArray[np.int16] = output.astype(np.int16)
        return result

    def _filter_groups(
        self, design: _Design, group: int, end: int, oldest: int
    ) -> npt.NDArray[np.float64]:
        """Compute the groups from `group` to before `end`; input `oldest` is buffer[0]."""
        parts = []
        while group < end:
            # Either all the whole periods ahead at once, or a part of one period.
            period, start = divmod(group, design.count)
            periods = (end - group) // design.count if start == 0 else 0
            stop = design.count if periods else min(design.count, start + end - group)
            periods = periods or 1
            rows = design.rows[:periods, start:stop] + (design.advance * period - oldest)
            matrices = design.matrices[start:stop]
            # A product of matrices copies its operands into another layout first, which does not
            # pay when each matrix serves only a few windows.
            if periods > _FEW_PERIODS:
                sums = np.matmul(self._windows[rows.T], matrices).swapaxes(0, 1)
            else:
                sums = np.matmul(self._windows[rows][:, :, None, :], matrices)
            parts.append(sums.reshape(-1))
            group += periods * (stop - start)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
