"""What our player plays, at the output of the page's audio graph and at the loudspeaker.

The graph's output must be right in every attempt. Between it and the loudspeaker is the browser,
and a machine that is too busy loses sound there; that is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext
from scipy.signal import correlate, firwin, lfilter, resample_poly
from scipy.signal.windows import tukey

from tests.browser.test_stock_button import attempts
from tests.support.audio_page import AudioPage
from tests.support.browser import Browser, chromium
from tests.support.pulse import PulseAudio, write_wav
from tests.support.speech import speech_like

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

MORE_SECONDS = 200.0
"""Of the timeout, in which there may be more attempts."""
STREAM = 24_000
WINDOW = 0.1
EDGE = 0.012
"""Around a gap: the fades, and what the filter smears, in seconds."""

Signal = NDArray[np.float64]


def speech(seconds: float) -> NDArray[np.int16]:
    """Speech without what no resampler has to keep: the last tenth below the Nyquist frequency."""
    taps = firwin(255, 0.8)
    said = lfilter(taps, 1, speech_like(STREAM, seconds).astype(np.float64))
    return np.rint(np.asarray(said)).astype(np.int16)


def resampled(pcm: NDArray[np.int16], rate: int) -> Signal:
    divisor = int(np.gcd(STREAM, rate))
    window = ("kaiser", 12.0)
    out = resample_poly(pcm.astype(np.float64), rate // divisor, STREAM // divisor, window=window)
    return np.asarray(out)


@dataclass
class Heard:
    """A recording beside what was to be played."""

    worst: float
    """SNR in dB of the worst window: where a sample is missing there is none."""
    inserted: list[int]
    """The silences in between, in samples of the recording."""
    total: int
    """How many samples later the end is than it would be without them."""
    steepest: float
    """The greatest step between two samples, in parts of the signal's own greatest one."""

    def __str__(self) -> str:
        return (
            f"worst window {self.worst:.1f} dB, {len(self.inserted)} gaps of together "
            f"{self.total} samples, steepest step {self.steepest:.3f}"
        )


def compare(recording: NDArray[Any], expected: Signal, rate: int) -> Heard:
    """Follow `expected` through `recording`, window by window, over the gaps in between."""
    heard = recording.astype(np.float64)
    size = round(WINDOW * rate)
    edge = round(EDGE * rate)
    begin = place(heard, expected[edge : edge + size // 2], 0, heard.size) - edge
    gaps = silences(heard, begin)
    worst, total = np.inf, 0
    at = edge
    inserted = []
    while at + size <= expected.size - edge:
        before = total
        while gaps and begin + at + total + size + edge > gaps[0][0]:
            # The window would touch a gap: go on behind it.
            start, end = gaps.pop(0)
            at = max(at, start - begin - total + edge)
            if at + size > expected.size - edge:
                break
            near = begin + at + total + (end - start)
            total = place(heard, expected[at : at + size], near - edge, near + edge) - begin - at
            inserted.append(total - before)
            before = total
        if at + size > expected.size - edge:
            break
        part = heard[begin + at + total : begin + at + total + size]
        worst = min(worst, snr(part, expected, at))
        at += size
    step = np.abs(np.diff(heard)).max() / np.abs(np.diff(expected)).max()
    return Heard(float(worst), inserted, total, float(step))


def place(heard: Signal, part: Signal, low: int, high: int) -> int:
    """Return where `part` begins in `heard`, looking from `low` on to before `high`."""
    low = max(0, low)
    area = heard[low : high + part.size]
    dots = correlate(area, part, mode="valid", method="fft")
    energy = correlate(area**2, np.ones(part.size), mode="valid", method="fft")
    return low + int(np.argmax(dots / np.sqrt(np.maximum(energy, 1.0))))


def silences(heard: Signal, begin: int) -> list[tuple[int, int]]:
    """Return the stretches of at least 1 ms without any sound, between `begin` and the last one."""
    quiet = np.flatnonzero(np.diff(np.concatenate([[0], np.abs(heard) < 1.5, [0]]).astype(int)))
    pairs = quiet.reshape(-1, 2).tolist()
    return [(a, b) for a, b in pairs if b - a >= 48 and begin < a and b < heard.size]


def snr(part: Signal, expected: Signal, at: int) -> float:
    """Compare with `expected` from `at` on, shifted by up to a sample if that fits better.

    Between 24 and 44.1 kHz each new beginning falls between the samples of the old one, and a shift
    is a Taylor series of derivatives.
    """
    pad = 500
    around = expected[at - pad : at + part.size + pad]
    spectrum = np.fft.rfft(around * tukey(around.size, 2 * pad / around.size))
    turn = 2j * np.pi * np.fft.rfftfreq(around.size)
    base = [np.fft.irfft(spectrum * turn**n, around.size)[pad:-pad] for n in range(6)]
    matrix = np.stack(base, axis=1)
    matrix /= np.abs(matrix).max(axis=0)
    fitted = matrix @ np.linalg.lstsq(matrix, part, rcond=None)[0]
    return float(
        10 * np.log10(((fitted**2).mean() + 1e-9) / (((part - fitted) ** 2).mean() + 1e-9))
    )


def test_compare_finds_what_is_wrong() -> None:
    """The measure itself: a lost sample, a doubled one and a click do not escape it."""
    rng = np.random.default_rng(3)
    expected = resampled(speech(3.0), 48_000)
    around = np.zeros(4800)
    whole = np.concatenate([around, expected, around])
    whole = whole + rng.normal(0, 0.3, whole.size)
    assert compare(whole, expected, 48_000).worst > 60
    for broken in (np.delete(whole, 60_000), np.insert(whole, 60_000, whole[60_000])):
        assert compare(broken, expected, 48_000).worst < 40
    clicked = whole.copy()
    clicked[60_000] += 15_000
    assert compare(clicked, expected, 48_000).steepest > 1.5
    gap = np.zeros(4000)
    with_gap = np.concatenate([around, expected[:60_000], gap, expected[60_000:], around])
    assert compare(with_gap, expected, 48_000).inserted == [4000]


def jittered(samples: int) -> dict[str, list[Any]]:
    """Frames of random size, each up to 80 ms early or late."""
    rng = np.random.default_rng(11)
    frames: list[int] = []
    while samples > 0:
        frames.append(min(samples, int(rng.integers(1, round(0.06 * STREAM)))))
        samples -= frames[-1]
    return {"frames": frames, "late": rng.uniform(-80, 80, len(frames)).tolist()}


def regular(samples: int) -> dict[str, list[Any]]:
    """Frames of 20 ms, on time."""
    size = STREAM // 50
    return {"frames": [size] * (samples // size), "late": [0] * (samples // size)}


@pytest.mark.parametrize(
    ("rate", "seconds", "plan"),
    [
        pytest.param(48_000, 20.0, jittered, id="48000-jitter"),
        pytest.param(48_000, 60.0, jittered, id="48000-long", marks=pytest.mark.soak),
        pytest.param(44_100, 60.0, jittered, id="44100-long", marks=pytest.mark.soak),
        pytest.param(44_100, 15.0, regular, id="44100-20ms", marks=pytest.mark.soak),
    ],
)
def test_all_is_played(rate: int, seconds: float, plan: Any, artifacts: Path) -> None:
    """No sample is missing, silence is where the player says, and nothing clicks."""
    with PulseAudio(rate) as pulse, chromium(pulse.env) as context:
        assert_all_is_played(context, pulse, seconds, plan, artifacts)


@pytest.mark.soak
def test_all_is_played_in_firefox(firefox_kind: Browser, artifacts: Path) -> None:
    """As above."""
    with PulseAudio(48_000) as pulse, firefox_kind.open(pulse.env) as context:
        assert_all_is_played(context, pulse, 15.0, jittered, artifacts)


def assert_all_is_played(
    context: BrowserContext, pulse: PulseAudio, seconds: float, plan: Any, artifacts: Path
) -> None:
    rate = pulse.rate
    pcm = speech(seconds)
    expected = resampled(pcm, rate)
    with AudioPage.open(context) as page:
        page.give("/signal", pcm.astype("<i2").tobytes())
        for attempt in attempts(MORE_SECONDS):
            with pulse.record("spk") as speakers:
                result = play(page, plan(pcm.size))
                page.page.wait_for_timeout(700)
                recorded = speakers.samples()
            tapped = page.take("helpers.tapped(run)")
            write_wav(artifacts / f"{attempt}-graph.wav", tapped, rate)
            write_wav(artifacts / f"{attempt}-speakers.wav", recorded, rate)
            graph = compare(tapped, expected, rate)
            speaker = compare(recorded, expected, rate)
            print(f"attempt {attempt} at {rate} Hz: {result['stats']}, delay {result['delay']}")
            print(f"  graph    {graph}\n  speaker  {speaker}")
            check_reports(result, pcm.size)
            if result["skipped"]:
                continue  # The browser left out what the graph was to be looked at for.
            assert not faults(graph, result)
            if not faults(speaker, result):
                break
        assert not page.errors
    assert not result["skipped"], "the browser left frames out"
    assert not faults(speaker, result)


def play(page: AudioPage, plan: dict[str, list[Any]]) -> dict[str, Any]:
    """Play the signal to its end; return what the player told."""
    page.page.evaluate(f"helpers.playing({STREAM}).then((run) => {{ window.run = run; }})")
    page.page.wait_for_function("window.run")
    page.page.wait_for_timeout(500)
    page.page.evaluate("(plan) => helpers.feed(run, '/signal', plan)", plan)
    total = sum(plan["frames"])
    page.page.evaluate(f"helpers.heardAll(run, {total})")
    result: dict[str, Any] = page.page.evaluate(
        """async () => {
          const { designFilter } = await import("/dsp.js");
          const { progress, levels, player, context, rate } = run;
          const stats = player.stats;
          player.close();
          run.tap.node.disconnect();
          const { delay } = designFilter(rate, context.sampleRate);
          return { progress, levels, stats, delay, skipped: run.tap.skipped };
        }"""
    )
    return result


def check_reports(result: dict[str, Any], total: int) -> None:
    """What the player tells while it plays."""
    stats, progress = result["stats"], result["progress"]
    assert (stats["received"], stats["played"]) == (total, total)
    assert (stats["cleared"], stats["queued"], stats["lost"]) == (0, 0, 0)
    for name in ("position", "heard"):
        values = [one[name] for one in progress]
        assert values == sorted(values), f"{name} goes back"
    assert all(one["heard"] <= one["position"] for one in progress)
    # Nothing plays at the end, nor in an interruption that is longer than what is on its way.
    pauses = [n for n, one in enumerate(progress) if not one["playing"]]
    assert pauses[-1] == len(progress) - 1
    assert len(pauses) <= 1 + stats["underruns"]
    assert [one.get("firstSound", False) for one in progress].count(True) == 1
    assert progress[-1]["heard"] == total
    seconds = total / STREAM
    assert 9 * seconds < len(progress) < 11 * seconds + 20 + 3 * stats["underruns"]
    assert 45 * seconds < len(result["levels"]) < 52 * seconds + 60


def faults(heard: Heard, result: dict[str, Any]) -> list[str]:
    """What keeps a recording from being all of it, with the silence that the player has counted."""
    stats = result["stats"]
    # Each new beginning is late by the filter's delay, too, and rounded to a sample.
    silence = stats["silence"] + stats["underruns"] * result["delay"]
    found = {
        "damaged": not heard.worst > 40,
        "other gaps": len(heard.inserted) != stats["underruns"],
        f"not {silence} samples of silence": abs(heard.total - silence) > 1 + stats["underruns"],
        "a click": not heard.steepest < 1.02,
    }
    return [f"{fault}: {heard}" for fault, there in found.items() if there]


@pytest.mark.parametrize("rate", [pytest.param(44_100, marks=pytest.mark.soak), 48_000])
def test_clear_falls_silent_at_once(rate: int) -> None:
    """A few milliseconds of fade, then nothing, and the player knows where that was."""
    t = np.arange(10 * STREAM) / STREAM
    pcm = np.rint(12_000 * np.sin(2 * np.pi * 500 * t)).astype(np.int16)
    with PulseAudio(rate) as pulse, chromium(pulse.env) as context, AudioPage.open(context) as page:
        page.give("/signal", pcm.astype("<i2").tobytes())
        for attempt in attempts(MORE_SECONDS):
            with pulse.record("spk") as speakers:
                result = interrupt(page, pcm.size)
                page.page.wait_for_timeout(1000)
                recorded = speakers.samples()
            graph = fading(page.take("helpers.tapped(run)"), rate)
            speaker = fading(recorded, rate)
            print(f"attempt {attempt} at {rate} Hz: fell silent at {result['position']}")
            print(f"  graph {graph}, speaker {speaker}: sounding, fading in samples")
            stats = result["stats"]
            assert stats["played"] + stats["cleared"] == pcm.size and stats["lost"] == 0
            assert stats["played"] == result["position"]
            if result["skipped"]:
                continue
            assert falls_silent(graph, result, rate)
            if falls_silent(speaker, result, rate):
                break
        assert not page.errors
    assert not result["skipped"], "the browser left frames out"
    assert falls_silent(speaker, result, rate)


def interrupt(page: AudioPage, total: int) -> dict[str, Any]:
    page.page.evaluate(f"helpers.playing({STREAM}).then((run) => {{ window.run = run; }})")
    page.page.wait_for_function("window.run")
    plan = {"frames": [total], "late": [0]}
    page.page.evaluate("(plan) => helpers.feed(run, '/signal', plan)", plan)
    page.page.wait_for_function("run.progress.some(({ heard }) => heard > 24000)")
    result: dict[str, Any] = page.page.evaluate(
        f"""async () => {{
          const {{ player, progress }} = run;
          const position = await player.clear({total});
          const told = progress.at(-1);
          await new Promise((resolve) => setTimeout(resolve, 1000));
          const stats = player.stats;
          const after = progress.length - progress.indexOf(told) - 1;
          player.close();
          run.tap.node.disconnect();
          return {{ position, told, stats, after, skipped: run.tap.skipped }};
        }}"""
    )
    told = result["told"]
    assert (told["heard"], told["playing"]) == (result["position"], False)
    assert result["after"] == 0, "nothing is reported of what is cleared"
    return result


def fading(recording: NDArray[Any], rate: int) -> tuple[int, int]:
    """Return how many samples sound from the first to the last, and over how many they fade."""
    heard = np.abs(recording.astype(np.float64))
    sounding = np.flatnonzero(heard > 3)
    if not sounding.size:
        return 0, rate
    period = rate // 500
    peaks = np.array([heard[i : i + period].max() for i in range(0, heard.size - period, period)])
    full = np.flatnonzero(peaks > 0.98 * np.median(peaks[peaks > 100]))
    return int(np.ptp(sounding)) + 1, int(sounding[-1] - full[-1] * period)


def falls_silent(fade: tuple[int, int], result: dict[str, Any], rate: int) -> bool:
    sounding, fading = fade
    played = result["position"] * rate / STREAM
    return fading < 0.02 * rate and abs(sounding - played) < 0.002 * rate


def test_a_player_gives_everything_back() -> None:
    """Closing twice, while it plays and before it is open, is all the same."""
    with PulseAudio(48_000) as pulse, chromium(pulse.env) as context:
        check_closing(context)


def check_closing(context: BrowserContext) -> None:
    with AudioPage.open(context) as page:
        states = page.page.evaluate(
            """async () => {
              const { openContext, restContext } = await import("/audio-context.js");
              const { Player } = await import("/player.js");
              const { signal } = new AbortController();
              const context = await openContext(signal);
              const states = [context.state];
              const make = () => new Player({ context, onProgress() {} });
              make().close();
              const player = make();
              await player.open(24000, signal);
              player.push(new Int16Array(24000).fill(5000).buffer);
              const cleared = player.clear(5);
              player.close();
              player.close();
              player.push(new ArrayBuffer(8));
              player.begin(3);
              await cleared;
              await player.clear(7);
              await restContext();
              states.push(context.state);
              states.push((await openContext(signal)) === context, context.state);
              // A rest that is overtaken by a new session does not stop it.
              const resting = restContext();
              await openContext(signal);
              await resting;
              states.push(context.state);
              return states;
            }"""
        )
        assert states == ["running", "suspended", True, "running", "running"]
        assert not page.errors
