"""What the microphone hears, as our recorder gives it, and as the stock web UI's does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext
from scipy.signal import firwin, lfilter

from tests.browser.test_stock_button import attempts
from tests.support.audio_page import AudioPage
from tests.support.browser import Browser, chromium
from tests.support.pulse import PulseAudio

pytestmark = pytest.mark.browser

WANTED = 16_000
TONE, HIGH = 1_000.0, 10_000.0
SECONDS, GAP, HIGH_SECONDS = 10.0, 0.5, 3.0
BUFFER = 0.13
"""Of the browser's own buffer up to 0.1 s are on their way, and a flush takes a moment."""
SWITCH = 0.2
"""In which another way to listen may give nothing yet."""


def tones(rate: int) -> NDArray[np.int16]:
    """A tone that speech has, a pause, and one that 16 kHz cannot hold."""
    parts = []
    for hertz, seconds in ((TONE, SECONDS), (0.0, GAP), (HIGH, HIGH_SECONDS)):
        t = np.arange(round(seconds * rate)) / rate
        parts.append(np.sin(2 * np.pi * hertz * t) * 16_000)
    return np.rint(np.concatenate(parts)).astype(np.int16)


@dataclass
class Figures:
    """Of one recording of `tones`, at the rate it is said to have."""

    hertz: float
    """Where the tone is."""
    snr: float
    """Of the tone, in dB, over all its length: one sample lost anywhere in it costs 50 dB."""
    high: float
    """What the high tone left, in dB of the low one."""
    high_snr: float
    """Of what it left; it says something where the rate can hold that tone."""

    @property
    def whole(self) -> bool:
        """Whether both tones are there without a break.

        Of each by itself: a break in the high tone alone is a click, with sound at all frequencies,
        and so reaches a rate that cannot hold the tone.
        """
        return self.snr > 80 and self.high_snr > 80

    def __str__(self) -> str:
        return (
            f"1 kHz at {self.hertz:.3f} Hz, SNR {self.snr:.1f} dB, "
            f"10 kHz at {self.high:.1f} dB, SNR {self.high_snr:.1f} dB"
        )


def figures(samples: NDArray[Any], rate: int) -> Figures:
    signal = samples.astype(np.float64)
    size = rate // 100
    levels = np.sqrt((signal[: signal.size // size * size].reshape(-1, size) ** 2).mean(axis=1))
    begin = int(np.argmax(levels > levels.max() / 2)) * size
    low = signal[begin + rate // 10 : begin + round((SECONDS - 0.4) * rate)]
    hertz, snr = fit(low, rate)
    after = begin + round((SECONDS + GAP + 0.4) * rate)
    high = signal[after : after + round((HIGH_SECONDS - 0.8) * rate)]
    if high.size < round((HIGH_SECONDS - 0.8) * rate):
        return Figures(hertz, snr, 0.0, -np.inf)
    left = float(10 * np.log10((high**2).mean() / (low**2).mean() + 1e-12))
    return Figures(hertz, snr, left, fit(high, rate)[1])


def fit(signal: NDArray[np.float64], rate: int) -> tuple[float, float]:
    """Return the frequency of the one tone in `signal`, and its SNR in dB."""
    t = np.arange(signal.size) / rate
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size)))
    hertz = float(np.argmax(spectrum)) * rate / signal.size
    for _ in range(5):
        # The phase against the fit, along the way, tells how far off its frequency is.
        turned = signal * np.exp(-2j * np.pi * hertz * t)
        parts = turned[: signal.size // 50 * 50].reshape(50, -1).mean(axis=1)
        slope = np.polyfit(np.arange(50), np.unwrap(np.angle(parts)), 1)[0]
        hertz += float(slope) / (2 * np.pi) / (signal.size // 50 / rate)
    angle = 2 * np.pi * hertz * t
    base = np.stack([np.sin(angle), np.cos(angle), np.ones_like(t)], axis=1)
    fitted = base @ np.linalg.lstsq(base, signal, rcond=None)[0]
    noise = ((signal - fitted) ** 2).mean() + 1e-12
    return hertz, float(10 * np.log10((fitted**2).mean() / noise + 1e-12))


@pytest.mark.parametrize("at", [5.0, 12.0], ids=["1 kHz", "10 kHz"])
def test_figures_find_what_is_lost(at: float) -> None:
    """The measure itself: a millisecond that a browser loses in either tone does not escape it."""
    rate = 48_000
    around = np.zeros(rate // 2, np.int16)
    played = np.concatenate([around, tones(rate), around])
    assert figures(played, rate).whole
    place = round((0.5 + at) * rate)
    # As many as do not make whole periods of either.
    broken = np.delete(played, slice(place, place + rate // 1000 + 3))
    assert not figures(broken, rate).whole
    # Also after a filter that no 10 kHz passes there is sound, where there was the break.
    taps = firwin(511, 7000, fs=rate, window=("kaiser", 12.0))
    ours = [figures(np.asarray(lfilter(taps, 1, one))[::3], WANTED) for one in (played, broken)]
    print(*ours, sep="\n")
    assert ours[0].high < -60
    assert (ours[0].high < ours[1].high - 10) is (at > SECONDS)


@pytest.mark.parametrize("rate", [pytest.param(44_100, marks=pytest.mark.soak), 48_000])
def test_tones(rate: int) -> None:
    """Nothing is lost, shifted or folded back on the way from the microphone to PCM16."""
    with PulseAudio(rate) as pulse, chromium(pulse.env) as context:
        assert_tones_arrive(context, pulse)


@pytest.mark.soak
def test_tones_in_firefox(firefox_kind: Browser) -> None:
    """As above; its contexts have 48 kHz, whatever the sound card has."""
    with PulseAudio(48_000) as pulse, firefox_kind.open(pulse.env) as context:
        assert_tones_arrive(context, pulse)


def assert_tones_arrive(context: BrowserContext, pulse: PulseAudio) -> None:
    rate = pulse.rate
    with AudioPage.open(context) as page:
        for attempt in attempts():
            raw, ours, stock, counted = record(page, pulse)
            print(f"attempt {attempt} at {rate} Hz, {counted}")
            print(f"  microphone  {raw}\n  ours        {ours}\n  stock       {stock}")
            assert counted["lost"] == 0 or counted["skipped"] > 0
            assert counted["unlike"] == [], "frames of other lengths"
            assert counted["open"] == 0, "the microphone is still open"
            # What the page gets is whole, or else this says nothing of the page.
            steady = counted["rate"] == pytest.approx(50, rel=0.01)
            if raw.whole and counted["skipped"] == 0 and steady:
                break
        assert not page.errors
    assert raw.whole, f"the browser lost what was played: {raw}"
    assert counted["skipped"] == 0, "the browser left frames out"
    assert steady, "50 frames a second"
    assert abs(ours.hertz / TONE - 1) < 1e-4, "the effective rate is 16 000 Hz within 0.01 %"
    assert ours.snr > 65
    assert ours.high < -60


def record(page: AudioPage, pulse: PulseAudio) -> tuple[Figures, Figures, Figures, dict[str, Any]]:
    """Play the tones into the microphone; return what tap, recorder and stock worklet make."""
    page.page.evaluate(f"helpers.capture({WANTED}).then((run) => {{ window.run = run; }})")
    page.page.wait_for_function("run.frames.length > 75")
    pulse.speak(tones(pulse.rate))
    counted = page.page.evaluate(
        """async () => {
          const { recorder, frames, times, problems, device } = run;
          const stats = recorder.stats;
          const result = {
            context: run.context.sampleRate,
            times,
            unlike: frames.map((frame) => frame.length).filter((length) => length !== 320),
            stock: run.stock.length / (times.at(-1) - times[0]),
            skipped: run.tap.skipped,
            lost: stats.lost,
            problems,
            settings: [device.settings.echoCancellation, device.settings.noiseSuppression],
          };
          await recorder.flush();
          const { captured, delivered } = recorder.stats;
          result.behind = captured - delivered;
          recorder.close();
          for (const node of [...run.sources, run.tap.node]) node.disconnect();
          result.open = helpers.openTracks();
          return result;
        }"""
    )
    # A line through all of them: a browser that is busy hands over several at once.
    times = counted.pop("times")
    counted["rate"] = 1 / float(np.polyfit(np.arange(len(times)), times, 1)[0])
    assert counted["context"] == pulse.rate
    assert counted["problems"] == []
    assert counted["settings"] == [False, False]
    # The flush has brought out everything but what the filter would ring on with.
    assert abs(counted["behind"]) < 0.02 * WANTED
    return (
        figures(page.take("helpers.joined(run.tap.parts, Float32Array)", "<f4"), pulse.rate),
        figures(page.take("helpers.joined(run.frames, Int16Array)"), WANTED),
        figures(page.take("helpers.joined(run.stock, Int16Array)"), WANTED),
        counted,
    )


def test_the_microphone_is_given_back() -> None:
    """Wherever the opening is stopped, no track stays open; what is not there is told."""
    with (
        PulseAudio(48_000) as pulse,
        chromium(pulse.env) as context,
        AudioPage.open(context) as page,
    ):
        told = page.page.evaluate(
            """async () => {
              const { openContext } = await import("/audio-context.js");
              const { Recorder, listDevices } = await import("/recorder.js");
              const context = await openContext(new AbortController().signal);
              const make = () => new Recorder({ context, onFrame() {}, onProblem() {} });
              const outcomes = [];
              const attempt = async (stop, options = {}) => {
                const control = new AbortController();
                const recorder = make();
                const opening = recorder.open(options, control.signal);
                await stop?.(control, recorder);
                outcomes.push(await opening.then(() => "open", (error) => error.code ?? error));
                recorder.close();
                recorder.close();
                await recorder.flush();
              };
              await attempt();
              await attempt((control) => control.abort("stopped"));
              await attempt(async (control) => {
                await new Promise((resolve) => setTimeout(resolve, 1));
                control.abort("stopped");
              });
              await attempt((control, recorder) => recorder.close());
              await attempt(null, { deviceId: "there is none" });
              // What was asked for has come by then, and gone.
              await (await navigator.mediaDevices.getUserMedia({ audio: true }));
              const probe = helpers.streams.pop();
              for (const track of probe.getTracks()) track.stop();
              const { microphones } = await listDevices();
              return {
                outcomes, open: helpers.openTracks(), asked: helpers.streams.length,
                names: microphones.map(({ label }) => label),
              };
            }"""
        )
        print(told)
        assert told["open"] == 0
        outcomes = told["outcomes"]
        assert outcomes[:3] == ["open", "stopped", "stopped"]
        assert outcomes[3:] == [20, "microphone_gone_chosen"], "20 is AbortError"
        assert len(told["names"]) >= 1 and all(told["names"])
        assert not page.errors


def test_muting_and_switching() -> None:
    """While muted no frame comes; another way to listen goes on in the same stream of frames."""
    with (
        PulseAudio(48_000) as pulse,
        chromium(pulse.env) as context,
        AudioPage.open(context) as page,
    ):
        page.page.evaluate(f"helpers.capture({WANTED}).then((run) => {{ window.run = run; }})")
        page.page.wait_for_function("window.run && run.frames.length > 50")
        with pulse.speaking(tones(48_000)[: 6 * 48_000]):
            told = page.page.evaluate(
                """async () => {
                  const { recorder, frames, context } = run;
                  const { elapsed } = await import("/audio-context.js");
                  // All that has come, and what is told to be missing in it, in seconds.
                  const heard = () => (frames.reduce((sum, frame) => sum + frame.length, 0)
                    + recorder.stats.lost) / 16000;
                  // Flush, which is done somewhere between `from` and `to` of the context's clock:
                  // a page that is kept from its work learns of it late.
                  const flush = async () => {
                    const from = context.currentTime;
                    await recorder.flush();
                    return { from, to: context.currentTime, heard: heard() };
                  };
                  recorder.muted = true;
                  // What was captured before still comes.
                  await recorder.flush();
                  const before = frames.length;
                  const silent = heard();
                  await elapsed(context, 1);
                  const during = frames.length - before;
                  const unmuted = context.currentTime;
                  recorder.muted = false;
                  await elapsed(context, 1);
                  const first = await flush();
                  const after = {
                    heard: first.heard - silent,
                    least: first.from - unmuted, most: first.to - unmuted,
                  };
                  const { signal } = new AbortController();
                  const failed = await recorder
                    .switchTo({ ...helpers.PLAIN, deviceId: "there is none" }, signal)
                    .catch((error) => error.code);
                  const kept = helpers.openTracks();
                  await recorder.switchTo({ ...helpers.PLAIN, echoCancellation: true }, signal);
                  const tracks = helpers.openTracks();
                  // What was heard before may be on its way to the page.
                  const then = await flush();
                  await elapsed(context, 1);
                  const last = await flush();
                  const later = {
                    heard: last.heard - then.heard,
                    least: last.from - then.to, most: last.to - then.from,
                  };
                  return {
                    during, after, failed, kept, tracks, later,
                    echo: run.device.settings.echoCancellation,
                    lost: recorder.stats.lost, skipped: run.tap.skipped,
                    problems: run.problems,
                  };
                }"""
            )
        print(told)
        assert told["during"] == 0
        after, later = told["after"], told["later"]
        assert after["least"] - BUFFER <= after["heard"] <= after["most"] + BUFFER
        assert (told["failed"], told["kept"], told["tracks"]) == ("microphone_gone_chosen", 1, 1)
        assert later["least"] - SWITCH <= later["heard"] <= later["most"] + BUFFER
        assert told["echo"] is True
        assert told["lost"] == 0 or told["skipped"] > 0
        assert told["problems"] == []
        assert not page.errors


def test_an_unplugged_microphone_is_told() -> None:
    """Once, with what to do."""
    with (
        PulseAudio(48_000) as pulse,
        chromium(pulse.env) as context,
        AudioPage.open(context) as page,
    ):
        page.page.evaluate(f"helpers.capture({WANTED}).then((run) => {{ window.run = run; }})")
        page.page.wait_for_function("window.run && run.frames.length > 50")
        pulse.unplug("module-remap-source")
        page.page.wait_for_function("run.problems.length > 0")
        page.page.wait_for_timeout(500)
        assert page.page.evaluate("run.problems") == ["microphone_unplugged"]
