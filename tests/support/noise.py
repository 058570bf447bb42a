"""Sounds of rooms in which nobody speaks: music, keyboards, fans, breath.

All are int16 mono at 16 kHz, made from a seed, so that every run hears the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from tests.support.speech import Samples

__all__ = ["RATE", "SOUNDS", "breath", "fan", "keyboard", "mixed", "music", "pink"]

RATE = 16_000

_Signal = NDArray[np.float64]
_MAJOR, _MINOR = (0, 4, 7), (0, 3, 7)
_CHORDS = ((0, _MAJOR), (9, _MINOR), (5, _MAJOR), (7, _MAJOR), (2, _MINOR), (4, _MINOR))
_SCALE = (0, 2, 4, 7, 9, 12, 14, 16)
# How loud the harmonics of an instrument are, how soon it sounds, and how fast that dies away.
_INSTRUMENTS: dict[str, tuple[tuple[float, ...], float, float]] = {
    "piano": ((1, 0.6, 0.35, 0.2, 0.12, 0.08), 0.005, 2.5),
    "organ": ((1, 0.8, 0.6, 0.6, 0.3, 0.3, 0.2), 0.02, 0.1),
    "strings": ((1, 0.7, 0.5, 0.35, 0.3, 0.2, 0.15, 0.1), 0.15, 0.2),
    "flute": ((1, 0.25, 0.08), 0.06, 0.4),
    "brass": ((0.7, 1, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2), 0.04, 0.6),
}


def music(
    seconds: float, instrument: str, tempo: int, seed: int = 1, drums: bool = True
) -> Samples:
    """Return chords, a bass, a melody on top and drums.

    Args:
        seconds: How much of it.
        instrument: One of piano, organ, strings, flute and brass.
        tempo: Beats a minute.
        seed: Another one is another piece.
        drums: Whether there are any.
    """
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE))
    beat = 60 / tempo
    key = 48 + int(rng.integers(0, 12))
    root, chord = _CHORDS[0]
    for number in range(int(seconds / beat)):
        at = number * beat
        if number % 4 == 0:
            root, chord = _CHORDS[int(rng.integers(len(_CHORDS)))]
            for step in chord:
                _add(out, at, 0.22 * _note(instrument, key + root + step, 4 * beat))
        _add(out, at, 0.3 * _note("piano", key - 12 + root, beat))
        for half in range(2):
            if rng.random() < 0.7:
                pitch = key + 12 + int(rng.choice(_SCALE))
                length = beat * float(rng.choice((0.5, 1.0)))
                _add(out, at + half * beat / 2, 0.5 * _note(instrument, pitch, length))
        if drums:
            _add(out, at, (0.8 if number % 2 == 0 else 0.5) * _drum(rng, number % 2 == 0))
            _add(out, at + beat / 2, 0.15 * _hit(rng, 0.05, 90, 5000))
    return _levelled(out, 3000)


def keyboard(seconds: float, level: float = 1500, seed: int = 2) -> Samples:
    """Return typing: bursts of keys that go down and up, and pauses."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE))
    at = 0.2
    while at < seconds:
        for _ in range(int(rng.integers(3, 25))):
            loud = float(rng.uniform(0.4, 1))
            _add(out, at, loud * _hit(rng, 0.02, 300, 1500))
            _add(out, at, 0.5 * loud * _thump(rng, float(rng.uniform(180, 400))))
            _add(out, at + 0.07, 0.4 * loud * _hit(rng, 0.015, 400, 2000))
            at += float(rng.gamma(4, 0.035)) + 0.03
        at += float(rng.uniform(0.3, 2.5))
    return _levelled(out, level)


def fan(seconds: float, level: float = 600, seed: int = 3) -> Samples:
    """Return a fan: low noise, with the hum of its motor and blades."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    air = _filtered(rng.normal(0, 1, t.size), "lowpass", 900)
    hum = sum(np.sin(2 * np.pi * 97 * k * t + k) / k**1.5 for k in range(1, 6))
    return _levelled(air / air.std() + 0.4 * hum * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * t)), level)


def pink(seconds: float, level: float = 600, seed: int = 4) -> Samples:
    """Return noise as of rain or a street: as loud in every octave."""
    size = int(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, size))
    frequencies = np.fft.rfftfreq(size, 1 / RATE)
    spectrum /= np.sqrt(np.maximum(frequencies, 20))
    return _levelled(np.fft.irfft(spectrum, size), level)


def breath(seconds: float, level: float = 500, seed: int = 5) -> Samples:
    """Return breathing into a headset, and now and then a cough."""
    rng = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE))
    at = 0.5
    while at < seconds:
        length = float(rng.uniform(0.8, 1.6))
        air = _filtered(rng.normal(0, 1, int(length * RATE)), "bandpass", (400, 2500))
        _add(out, at, air / air.std() * np.hanning(air.size))
        at += length + float(rng.uniform(0.4, 1.2))
        if rng.random() < 0.15:
            _add(out, at, 4 * _cough(rng))
            at += 1.0
    return _levelled(out, level)


SOUNDS: dict[str, Callable[[float], Samples]] = {
    "piano": lambda seconds: music(seconds, "piano", 96, seed=11),
    "organ": lambda seconds: music(seconds, "organ", 72, seed=12, drums=False),
    "strings": lambda seconds: music(seconds, "strings", 60, seed=13, drums=False),
    "flute": lambda seconds: music(seconds, "flute", 110, seed=14),
    "brass": lambda seconds: music(seconds, "brass", 128, seed=15),
    "keyboard": keyboard,
    "loud keyboard": lambda seconds: keyboard(seconds, 4000, seed=22),
    "fan": fan,
    "loud fan": lambda seconds: fan(seconds, 3000, seed=23),
    "rain": pink,
    "loud rain": lambda seconds: pink(seconds, 3000, seed=24),
    "breath": breath,
    "close breath": lambda seconds: breath(seconds, 2000, seed=25),
    "quiet room": lambda seconds: pink(seconds, 10, seed=26),
    "silence": lambda seconds: np.zeros(int(seconds * RATE), np.int16),
}
"""By what they are; each takes how many seconds of it."""


def mixed(speech: Samples, noise: Samples, snr: float) -> Samples:
    """Return speech with noise of its length under it.

    Args:
        speech: What is to be heard.
        noise: At least as long.
        snr: How much louder the speech is, in dB of power while somebody speaks.
    """
    voice, under = speech.astype(np.float64), noise[: speech.size].astype(np.float64)
    loud = voice[np.abs(voice) > 0.05 * np.abs(voice).max()]
    gain = float(np.sqrt(np.mean(loud**2) / max(float(np.mean(under**2)), 1e-9)))
    return _int16(voice + under * gain * 10 ** (-snr / 20))


def _note(instrument: str, pitch: int, seconds: float) -> _Signal:
    harmonics, attack, decay = _INSTRUMENTS[instrument]
    t = np.arange(int(seconds * RATE)) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    wobble = 0.003 * np.sin(2 * np.pi * 5.5 * t) if instrument in ("strings", "flute") else 0.0
    phase = 2 * np.pi * frequency * t + wobble * frequency / 5.5
    tone = sum(
        loud * np.sin(k * phase)
        for k, loud in enumerate(harmonics, 1)
        if k * frequency < 0.45 * RATE
    )
    ends = np.minimum(1, np.minimum(t / attack, (seconds - t) / 0.03))
    shaped: _Signal = tone * np.exp(-decay * t) * ends
    return shaped


def _drum(rng: np.random.Generator, bass: bool) -> _Signal:
    if not bass:
        return _hit(rng, 0.15, 22, 1200)
    t = np.arange(int(0.2 * RATE)) / RATE
    struck: _Signal = np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-30 * t)))) * np.exp(-18 * t)
    return struck


def _hit(rng: np.random.Generator, seconds: float, decay: float, above: float) -> _Signal:
    t = np.arange(int(seconds * RATE)) / RATE
    struck: _Signal = _filtered(rng.normal(0, 1, t.size), "highpass", above) * np.exp(-decay * t)
    return struck


def _thump(rng: np.random.Generator, frequency: float) -> _Signal:
    t = np.arange(int(0.04 * RATE)) / RATE
    struck: _Signal = np.sin(2 * np.pi * frequency * t + rng.uniform(0, 6)) * np.exp(-80 * t)
    return struck


def _cough(rng: np.random.Generator) -> _Signal:
    t = np.arange(int(0.35 * RATE)) / RATE
    burst = _filtered(rng.normal(0, 1, t.size), "bandpass", (300, 3000))
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    voiced = buzz * np.exp(-(((t - 0.12) / 0.05) ** 2))
    cough: _Signal = (burst / burst.std() + 0.5 * voiced) * np.exp(-9 * t)
    return cough


def _filtered(signal: _Signal, kind: str, edge: float | tuple[float, float]) -> _Signal:
    sections = butter(2, edge, kind, fs=RATE, output="sos")
    out: _Signal = sosfilt(sections, signal)
    return out


def _add(out: _Signal, at: float, sound: _Signal) -> None:
    start = int(at * RATE)
    end = min(out.size, start + sound.size)
    if start < end:
        out[start:end] += sound[: end - start]


def _levelled(signal: _Signal, level: float) -> Samples:
    """Return it with this RMS, of 32768."""
    return _int16(signal * (level / np.sqrt(np.mean(signal**2))))


def _int16(signal: _Signal) -> Samples:
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)
