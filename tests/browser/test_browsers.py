"""The browsers the other tests drive: stock ones, with real sound both ways."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.audio_page import AudioPage
from tests.support.browser import Browser
from tests.support.pulse import PulseAudio

pytestmark = pytest.mark.browser

RATE = 48_000
HEARD, PLAYED = 1000.0, 440.0

START = """async () => {
  window.context = new AudioContext();
  await context.resume();
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: helpers.PLAIN });
  window.taken = await helpers.tap(context.createMediaStreamSource(microphone));
  const tone = new OscillatorNode(context, { frequency: %d });
  tone.connect(new GainNode(context, { gain: 0.3 })).connect(context.destination);
  tone.start();
}"""


def pitch(sound: NDArray[np.floating], rate: float) -> float:
    """Return the strongest frequency of a sound, in hertz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 4 * sound.size))
    return float(np.argmax(spectrum) * rate / sound.size / 4)


def test_sound_both_ways(browser_kind: Browser) -> None:
    """What is said into the microphone is in the page, what the page plays at the loudspeaker."""
    tone = (8000 * np.sin(2 * np.pi * HEARD * np.arange(3 * RATE) / RATE)).astype(np.int16)
    with (
        PulseAudio(RATE) as pulse,
        browser_kind.open(pulse.env) as context,
        AudioPage.open(context) as sound,
    ):
        assert browser_kind.name in sound.page.evaluate("navigator.userAgent").lower().replace(
            "chrome/", "chromium/"
        )
        sound.page.evaluate(START % PLAYED)
        with pulse.record("spk") as speakers:
            pulse.speak(tone)
            time.sleep(0.5)
            played = speakers.samples()[-2 * RATE :].astype(float)
        taken = sound.take("helpers.joined(taken.parts, Float32Array)", "<f4").astype(float)
        rate = sound.page.evaluate("context.sampleRate")
        assert sound.errors == []
    loud = np.flatnonzero(np.abs(taken) > 0.1)
    assert loud.size > 0, "nothing was heard"
    assert pitch(taken[loud[0] : loud[-1]], rate) == pytest.approx(HEARD, abs=2)
    assert np.abs(taken).max() == pytest.approx(8000 / 32768, rel=0.05)
    assert pitch(played, RATE) == pytest.approx(PLAYED, abs=2)
    assert np.abs(played).max() == pytest.approx(0.3 * 32768, rel=0.05)
