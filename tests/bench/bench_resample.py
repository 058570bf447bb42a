"""Quality, delay and cost of StreamResampler next to soxr HQ and linear interpolation.

Run with the package installed: python tests/bench/bench_resample.py

All three are driven in the same way, in 20 ms frames, and measured from their output alone. The
exit status is 1 if StreamResampler misses one of its bars.
"""

from __future__ import annotations

import cmath
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soxr  # type: ignore[import-untyped]

from gptme_voice_plugin.audio.resample import StreamResampler

PAIRS = [(16000, 24000), (24000, 16000), (48000, 16000), (44100, 16000), (16000, 48000)]
TONES = [300, 1000, 3400, 6000, 7000]
STOP_TONES = [8300, 8500, 9000, 10000, 11500, 15000, 19000, 21500]
AMPLITUDE = 0.9 * 32767

SNR_BAR = 90.0
SPUR_BAR = -80.0
DELAY_BAR = 2.5
COST_BAR = 60.0

ROUNDS = 20
FRAMES_PER_ROUND = 250

Samples = npt.NDArray[np.int16]


class Converter(Protocol):
    """A streaming resampler."""

    def process(self, samples: Samples) -> Samples:
        """Take a chunk and return the output there is."""


class SoxrHQ:
    """soxr's own streaming interface at its quality HQ."""

    def __init__(self, input_rate: int, output_rate: int) -> None:
        self._stream = soxr.ResampleStream(input_rate, output_rate, 1, dtype="int16", quality="HQ")

    def process(self, samples: Samples) -> Samples:
        output: Samples = self._stream.resample_chunk(samples)
        return output


class Linear:
    """Linear interpolation between neighbouring samples, without a filter."""

    def __init__(self, input_rate: int, output_rate: int) -> None:
        self._input_rate, self._output_rate = input_rate, output_rate
        self._last = np.zeros(0, np.int16)
        self._received = self._returned = 0

    def process(self, samples: Samples) -> Samples:
        known = np.concatenate([self._last, samples])
        start = self._received - len(self._last)
        self._received += len(samples)
        end = (self._received - 1) * self._output_rate // self._input_rate + 1
        numerators = np.arange(self._returned, end) * self._input_rate
        positions = (numerators - start * self._output_rate) / self._output_rate
        self._returned = end
        self._last = known[-1:]
        values = np.interp(positions, np.arange(len(known)), known)
        output: Samples = np.rint(values).astype(np.int16)
        return output


CONVERTERS: dict[str, Callable[[int, int], Converter]] = {
    "ours": StreamResampler,
    "soxr HQ": SoxrHQ,
    "linear": Linear,
}


@dataclass
class Result:
    """What was measured for one converter and one pair of rates.

    Attributes:
        snr: dB per tone: power of the tone over that of everything else.
        gain: Largest deviation of a tone's gain from 1, in dB.
        spur: Largest image or alias in dB relative to the tone that caused it.
        delay: Delay in ms of a 50 Hz tone within the output samples.
        held_mean: Mean in ms of the output missing after each frame.
        held_worst: Maximum of the same.
        cost: Microseconds per 20 ms frame.
    """

    snr: dict[int, float] = field(default_factory=dict)
    gain: float = 0.0
    spur: float = -math.inf
    delay: float = 0.0
    held_mean: float = 0.0
    held_worst: float = 0.0
    cost: float = 0.0


def tone(frequency: int, rate: int) -> Samples:
    """1.4 s of a sine at 0.9 of full scale."""
    instants = np.arange(rate * 7 // 5) / rate
    return np.rint(AMPLITUDE * np.sin(2 * np.pi * frequency * instants)).astype(np.int16)


def stream(converter: Converter, samples: Samples, rate: int) -> list[Samples]:
    """Feed `samples` in 20 ms frames and return what came out of each."""
    frame = rate // 50
    return [converter.process(samples[i : i + frame]) for i in range(0, len(samples), frame)]


def steady_second(
    name: str, input_rate: int, output_rate: int, frequency: int
) -> npt.NDArray[np.float64]:
    """The second of output from 0.2 s on, for a tone of a whole frequency."""
    converter = CONVERTERS[name](input_rate, output_rate)
    output = np.concatenate(stream(converter, tone(frequency, input_rate), input_rate))
    return output[output_rate // 5 : output_rate // 5 + output_rate].astype(np.float64)


def measure_quality(name: str, input_rate: int, output_rate: int, result: Result) -> None:
    """Fill in delay, SNR, gain and spur."""

    def amplitude(second: npt.NDArray[np.float64], frequency: int) -> complex:
        """Complex amplitude relative to the input tone: the best fit of that frequency."""
        instants = np.arange(output_rate) / output_rate + 0.2
        rotation = np.exp(-2j * np.pi * frequency * instants)
        return complex(np.sum(second * rotation) * 2j / output_rate / AMPLITUDE)

    low = amplitude(steady_second(name, input_rate, output_rate, 50), 50)
    result.delay = -cmath.phase(low) / (2 * math.pi * 50) * 1e3
    stop_tones = [f for f in STOP_TONES if output_rate < input_rate and f < 0.98 * input_rate / 2]
    for frequency in TONES + stop_tones:
        second = steady_second(name, input_rate, output_rate, frequency)
        level = np.abs(np.fft.rfft(second)) / (output_rate / 2) / AMPLITUDE
        if frequency in TONES:
            level[frequency] = 0
            gain = abs(amplitude(second, frequency))
            power = (gain * AMPLITUDE) ** 2 / 2
            # The floor stands for the accuracy of the fit: a tone whose period is a few samples
            # may fit without any error.
            noise = max(float(np.mean(second**2)) - power, 1e-3)
            result.snr[frequency] = 10 * math.log10(power / noise)
            result.gain = max(result.gain, abs(20 * math.log10(gain)))
        result.spur = max(result.spur, 20 * math.log10(level.max() + 1e-12))


def measure_held_back(name: str, input_rate: int, output_rate: int, result: Result) -> None:
    """Fill in by how much the output lags behind the input in number of samples."""
    converter = CONVERTERS[name](input_rate, output_rate)
    samples = np.zeros(10 * input_rate, np.int16)
    received = returned = 0
    held = []
    for output in stream(converter, samples, input_rate):
        received += input_rate // 50
        returned += len(output)
        held.append((received / input_rate - returned / output_rate) * 1e3)
    result.held_mean = statistics.fmean(held)
    result.held_worst = max(held)


def measure_cost(results: dict[tuple[int, int], dict[str, Result]]) -> None:
    """Fill in the cost: median of a round, lowest of several rounds.

    A round goes through all pairs and converters, so that a busy moment of the machine does not
    hit all the rounds of one of them.
    """
    generator = np.random.default_rng(1)
    runs: list[tuple[Result, Converter, Samples]] = []
    for (input_rate, output_rate), row in results.items():
        frame = generator.integers(-20000, 20000, input_rate // 50).astype(np.int16)
        for name, result in row.items():
            result.cost = math.inf
            runs.append((result, CONVERTERS[name](input_rate, output_rate), frame))
    for _ in range(ROUNDS):
        for result, converter, frame in runs:
            times = []
            for _ in range(FRAMES_PER_ROUND):
                start = time.perf_counter()
                converter.process(frame)
                times.append(time.perf_counter() - start)
            result.cost = min(result.cost, statistics.median(times) * 1e6)


def check(result: Result) -> list[tuple[str, bool]]:
    """The bars of StreamResampler and whether each is met."""
    tolerance = 1e-3  # ms, for a delay that was measured and not read
    return [
        (f"SNR >= {SNR_BAR:.0f} dB", min(result.snr.values()) >= SNR_BAR),
        (f"spurs < {SPUR_BAR:.0f} dB", result.spur < SPUR_BAR),
        (f"delay <= {DELAY_BAR} ms", result.delay <= DELAY_BAR + tolerance),
        ("nothing held back", result.held_worst <= 0),
        (f"<= {COST_BAR:.0f} us", result.cost <= COST_BAR),
    ]


def main() -> int:
    """Print the table; return 1 if a bar is missed."""
    print(f"Python {platform.python_version()}, numpy {np.__version__}, soxr {soxr.__version__}")
    print(f"Tones at 0.9 of full scale, int16 in and out; SNR in dB at {TONES} Hz.")
    print("gain: largest deviation of these tones.")
    print(f"spur: worst image or alias, also of tones at {STOP_TONES} Hz when decimating.")
    print("delay: within the output. held: output missing after a 20 ms frame, mean/worst.")
    print(f"us: per 20 ms frame, median; the lowest of {ROUNDS} rounds of {FRAMES_PER_ROUND}.\n")
    header = " ".join(f"{frequency:>6}" for frequency in TONES)
    print(
        f"{'rates':<14} {'':<8}{header} {'gain dB':>8} {'spur dB':>8} "
        f"{'delay ms':>9} {'held ms':>14} {'us':>6}"
    )

    cpu, own = time.process_time(), time.thread_time()
    missed = 0
    results = {pair: {name: Result() for name in CONVERTERS} for pair in PAIRS}
    measure_cost(results)
    for (input_rate, output_rate), row in results.items():
        for name, result in row.items():
            measure_quality(name, input_rate, output_rate, result)
            measure_held_back(name, input_rate, output_rate, result)
            rates = f"{input_rate}->{output_rate}" if name == "ours" else ""
            snr = " ".join(f"{value:6.1f}" for value in result.snr.values())
            held = f"{result.held_mean:.2f}/{result.held_worst:.2f}"
            print(
                f"{rates:<14} {name:<8}{snr} {result.gain:8.4f} {result.spur:8.1f} "
                f"{abs(result.delay):9.3f} {held:>14} {result.cost:6.1f}"
            )
        bars = check(row["ours"])
        missed += sum(not met for _, met in bars)
        print("  " + ", ".join(f"{text}: {'met' if met else 'MISSED'}" for text, met in bars))
    others = (time.process_time() - cpu) / (time.thread_time() - own) - 1
    print(f"\nCPU time of other threads, all included: {others:.1%} of this thread's.")
    print(f"{missed} bars missed." if missed else "All bars met.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
