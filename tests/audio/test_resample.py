"""StreamResampler: exactness and lengths for any cut, and the quality and delay it promises."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptme_voice_plugin.audio import resample
from gptme_voice_plugin.audio.resample import StreamResampler

RATES = [8000, 16000, 22050, 24000, 44100, 48000]
PAIRS = [(a, b) for a in RATES for b in RATES if a != b]
SPEECH_PAIRS = [
    (16000, 24000),
    (24000, 16000),
    (48000, 16000),
    (44100, 16000),
    (16000, 48000),
    (22050, 24000),
]
AMPLITUDE = 0.9 * 32767

Samples = npt.NDArray[np.int16]


def tone(frequency: int, rate: int, seconds: float, amplitude: float = AMPLITUDE) -> Samples:
    phase = 2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate
    return np.rint(amplitude * np.sin(phase)).astype(np.int16)


def noise(length: int, seed: int = 1) -> Samples:
    return np.random.default_rng(seed).integers(-32768, 32768, length).astype(np.int16)


def steady_second(output: Samples, rate: int) -> npt.NDArray[np.float64]:
    """One second from 0.1 s on, so that bin f of its spectrum is exactly f Hz."""
    return output[rate // 10 : rate // 10 + rate].astype(np.float64)


def spectrum_db(second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Amplitude at each whole frequency in dB relative to the input tone."""
    level = np.abs(np.fft.rfft(second)) / (len(second) / 2) / AMPLITUDE
    return 20 * np.log10(level + 1e-12)


# Quality


@pytest.mark.parametrize("frequency", [300, 1000, 3400, 6000, 7000])
@pytest.mark.parametrize(("input_rate", "output_rate"), SPEECH_PAIRS)
def test_passband_tone_is_the_delayed_ideal_tone(
    input_rate: int, output_rate: int, frequency: int
) -> None:
    resampler = StreamResampler(input_rate, output_rate)
    second = steady_second(resampler.process(tone(frequency, input_rate, 1.2)), output_rate)
    instants = np.arange(output_rate // 10, output_rate // 10 + output_rate) / output_rate
    # Against the exact tone: gain error, phase error and delay error all count as noise.
    ideal = AMPLITUDE * np.sin(2 * np.pi * frequency * (instants - resampler.delay))
    snr = 10 * math.log10(np.sum(ideal**2) / np.sum((second - ideal) ** 2))
    assert snr >= 90


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_images_and_aliases_of_passband_tones_are_gone(input_rate: int, output_rate: int) -> None:
    nyquist = min(input_rate, output_rate) / 2
    for frequency in (300, 1000, 3400, 6000, 7000, 9700):
        if frequency > min(0.885 * nyquist, nyquist - 600):
            continue
        output = StreamResampler(input_rate, output_rate).process(tone(frequency, input_rate, 1.2))
        level = spectrum_db(steady_second(output, output_rate))
        assert abs(level[frequency]) < 0.001
        level[frequency] = -math.inf
        assert level.max() < -80, f"{frequency} Hz leaves {level.argmax()} Hz"


@pytest.mark.parametrize(("input_rate", "output_rate"), [(a, b) for a, b in PAIRS if a > b])
def test_tones_above_the_new_nyquist_are_gone(input_rate: int, output_rate: int) -> None:
    stop = max(output_rate / 2, min(0.885 * output_rate / 2 + 1200, output_rate / 2 + 600))
    span = input_rate / 2 - stop
    for part in (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95):
        frequency = math.ceil(stop + part * span)
        output = StreamResampler(input_rate, output_rate).process(tone(frequency, input_rate, 1.2))
        level = spectrum_db(steady_second(output, output_rate))
        assert level.max() < -80, f"{frequency} Hz comes out at {level.argmax()} Hz"


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_constant_input_comes_out_exactly(input_rate: int, output_rate: int) -> None:
    resampler = StreamResampler(input_rate, output_rate)
    output = resampler.process(np.full(input_rate // 10, -12345, np.int16))
    settled = output[round(2 * resampler.delay * output_rate) + 1 :]
    assert len(settled) > 0
    assert np.all(settled == -12345)


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_silence_stays_silent(input_rate: int, output_rate: int) -> None:
    assert not StreamResampler(input_rate, output_rate).process(np.zeros(5000, np.int16)).any()


@pytest.mark.parametrize(("input_rate", "output_rate"), SPEECH_PAIRS)
def test_overshoot_saturates(input_rate: int, output_rate: int) -> None:
    square = np.repeat(np.array([32767, -32768] * 20, np.int16), input_rate // 200)
    output = StreamResampler(input_rate, output_rate).process(square).astype(np.int64)
    assert output.max() == 32767
    assert output.min() == -32768
    # A wrap would put the opposite extreme next to a saturated sample of a half wave.
    half = output_rate // 200
    delay = round(StreamResampler(input_rate, output_rate).delay * output_rate)
    for start in range(delay + half // 4, len(output) - half, half):
        middle = output[start : start + half // 2]
        assert np.ptp(middle) < 12000


# Exactness


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_matches_exact_integer_arithmetic(input_rate: int, output_rate: int) -> None:
    divisor = math.gcd(input_rate, output_rate)
    up, down = output_rate // divisor, input_rate // divisor
    phases, _ = resample._polyphase(input_rate, output_rate, up, down)
    scaled = phases * 2.0**30
    assert np.array_equal(scaled, np.rint(scaled))
    assert np.all(scaled.sum(axis=1) == 2**30)
    # Any partial sum of products fits the 53 bits of a float64.
    assert np.abs(scaled).sum(axis=1).max() * 32768 < 2**53

    samples = noise(700)
    output = StreamResampler(input_rate, output_rate).process(samples)
    exact = [[int(value) for value in phase] for phase in scaled]
    values = [int(value) for value in samples]
    for k in range(0, len(output), 7):
        newest, phase = divmod(k * down, up)
        total = sum(
            coefficient * values[newest - tap]
            for tap, coefficient in enumerate(exact[phase])
            if newest >= tap
        )
        assert output[k] == min(32767, max(-32768, round(Fraction(total, 2**30))))


@settings(deadline=None, max_examples=150)
@given(
    pair=st.sampled_from([*PAIRS, (16000, 16000), (11025, 48000), (96000, 44100), (8000, 8500)]),
    length=st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    singles=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_cuts_do_not_change_the_output(
    pair: tuple[int, int], length: int, cuts: list[int], singles: int, seed: int
) -> None:
    input_rate, output_rate = pair
    samples = noise(length, seed)
    whole = StreamResampler(input_rate, output_rate)
    expected = np.concatenate([whole.process(samples), whole.flush()])

    # Repeated cuts make empty chunks; a run of neighbouring cuts makes 1-sample chunks.
    run = range(length // 2, length // 2 + singles)
    edges = sorted(min(cut, length) for cut in [0, length, *cuts, *run])
    resampler = StreamResampler(input_rate, output_rate)
    parts = []
    returned = 0
    for start, stop in zip(edges, edges[1:], strict=False):
        parts.append(resampler.process(samples[start:stop]))
        returned += len(parts[-1])
        assert returned == math.ceil(Fraction(stop * output_rate, input_rate))
    parts.append(resampler.flush())
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize(("input_rate", "output_rate"), SPEECH_PAIRS)
def test_long_chunk_equals_single_samples(input_rate: int, output_rate: int) -> None:
    samples = noise(10000)
    whole = StreamResampler(input_rate, output_rate).process(samples)
    resampler = StreamResampler(input_rate, output_rate)
    singles = [resampler.process(samples[i : i + 1]) for i in range(len(samples))]
    assert np.array_equal(np.concatenate(singles), whole)


def test_non_contiguous_and_read_only_input() -> None:
    samples = noise(2000)
    expected = StreamResampler(16000, 24000).process(samples[::2].copy())
    samples.setflags(write=False)
    assert np.array_equal(StreamResampler(16000, 24000).process(samples[::2]), expected)


# Lengths and delay


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_delay_is_short_and_real(input_rate: int, output_rate: int) -> None:
    resampler = StreamResampler(input_rate, output_rate)
    assert 0 < resampler.delay <= 0.0025
    delay = resampler.delay * output_rate
    assert delay == pytest.approx(round(delay), abs=1e-9)
    samples = np.zeros(input_rate // 10, np.int16)
    samples[0] = 32767
    output = resampler.process(samples).astype(np.int64)
    peak = round(delay)
    assert np.abs(output).argmax() == peak
    # Linear phase: the response to a pulse is symmetric about the delay.
    assert np.array_equal(output[: 2 * peak + 1], output[2 * peak :: -1])
    assert not output[2 * peak + 1 :].any()


@pytest.mark.parametrize(("input_rate", "output_rate"), PAIRS)
def test_flush_completes_the_stream_and_resets(input_rate: int, output_rate: int) -> None:
    resampler = StreamResampler(input_rate, output_rate)
    delay = round(resampler.delay * output_rate)
    samples = noise(1234)
    assert len(resampler.flush()) == 0
    first = [resampler.process(samples), resampler.flush()]
    assert len(first[0]) == math.ceil(Fraction(1234 * output_rate, input_rate))
    assert len(first[1]) == delay
    padded = np.concatenate([samples, np.zeros(input_rate // 100, np.int16)])
    silence = StreamResampler(input_rate, output_rate).process(padded)
    assert np.array_equal(np.concatenate(first), silence[: len(first[0]) + delay])
    assert len(resampler.flush()) == 0
    second = [resampler.process(samples), resampler.flush()]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_frames_of_20_ms_stay_frames_of_20_ms() -> None:
    for input_rate, output_rate in PAIRS:
        resampler = StreamResampler(input_rate, output_rate)
        frame = noise(input_rate // 50)
        lengths = {len(resampler.process(frame)) for _ in range(20)}
        assert lengths == {output_rate // 50}


def test_equal_rates_pass_samples_through() -> None:
    resampler = StreamResampler(16000, 16000)
    samples = noise(100)
    output = resampler.process(samples)
    assert np.array_equal(output, samples)
    assert not np.shares_memory(output, samples)
    assert resampler.delay == 0
    assert len(resampler.flush()) == 0


def test_streams_do_not_share_state() -> None:
    one, other = StreamResampler(16000, 24000), StreamResampler(16000, 24000)
    expected = one.process(noise(500))
    one.process(noise(500, seed=2))
    assert np.array_equal(other.process(noise(500)), expected)


# Refusals


@pytest.mark.parametrize("rates", [(0, 16000), (16000, 0), (-16000, 24000), (16000, 3999)])
def test_refuses_rates_that_are_too_low(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 4000 Hz"):
        StreamResampler(*rates)


def test_refuses_rates_that_are_not_integers() -> None:
    for rate in (16000.0, "16000", None, True):
        with pytest.raises(TypeError, match="must be an int"):
            StreamResampler(rate, 24000)  # type: ignore[arg-type]


def test_refuses_unreasonable_ratios() -> None:
    with pytest.raises(ValueError, match="44100 Hz to 44101 Hz.*44101/44100.*1280"):
        StreamResampler(44100, 44101)


@pytest.mark.parametrize("pair", [(16000, 24000), (16000, 16000)])
def test_refuses_other_sample_types(pair: tuple[int, int]) -> None:
    resampler = StreamResampler(*pair)
    for wrong in (np.zeros(4, np.float32), np.zeros(4, ">i2"), np.zeros(4, np.uint16), [0], b"00"):
        with pytest.raises(TypeError, match="numpy array of int16"):
            resampler.process(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (4, 1), (1, 4)])
def test_refuses_other_dimensions(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one dimension"):
        StreamResampler(16000, 24000).process(np.zeros(shape, np.int16))


def test_refused_chunk_leaves_the_stream_intact() -> None:
    samples = noise(400)
    resampler = StreamResampler(16000, 24000)
    parts = [resampler.process(samples[:100])]
    with pytest.raises(TypeError):
        resampler.process(np.zeros(4))  # type: ignore[arg-type]
    parts.append(resampler.process(samples[100:]))
    expected = StreamResampler(16000, 24000).process(samples)
    assert np.array_equal(np.concatenate(parts), expected)


def test_scipy_is_imported_only_for_a_filter() -> None:
    code = (
        "import sys; from gptme_voice_plugin.audio.resample import StreamResampler as R;"
        "R(16000, 16000); assert 'scipy' not in sys.modules;"
        "R(16000, 24000); assert 'scipy.signal' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
