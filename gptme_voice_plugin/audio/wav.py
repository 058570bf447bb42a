"""WAV files: any kind in, PCM16 mono out."""

from __future__ import annotations

import math
import struct
import warnings
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import VoiceError

__all__ = ["Recording", "WavError", "check_writable", "parse_wav", "read_wav", "write_wav"]

MIN_RATE, MAX_RATE = 1_000, 384_000


class WavError(VoiceError):
    """A file that cannot be read or written."""

    code = "wav_failed"


@dataclass(frozen=True)
class Recording:
    """Mono audio; full scale is 1.0."""

    sample_rate: int
    samples: NDArray[np.float64]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples.size / self.sample_rate

    def pcm16(self, sample_rate: int) -> NDArray[np.int16]:
        """Return it as PCM16 at another rate."""
        from scipy.signal import resample_poly

        samples = self.samples
        if sample_rate != self.sample_rate:
            common = math.gcd(sample_rate, self.sample_rate)
            samples = resample_poly(samples, sample_rate // common, self.sample_rate // common)
        scaled: NDArray[np.int16] = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
        return scaled


def read_wav(path: Path) -> Recording:
    """Read a WAV file of any rate and number of channels, with integers of 8 to 64 bits or floats.

    Raises:
        WavError: There is no such file, it is no WAV file, or it holds no audio.
    """
    try:
        with path.open("rb") as file:
            recording = parse_wav(file)
    except FileNotFoundError:
        raise WavError(f"There is no file {path}.") from None
    except OSError as error:
        raise WavError(f"{path} cannot be read: {_reason(error)}.") from None
    except ValueError:
        raise WavError(
            f"{path} is not a WAV file that can be read; save it as PCM or float WAV."
        ) from None
    if recording.samples.size == 0:
        raise WavError(f"{path} holds no audio.")
    if not MIN_RATE <= recording.sample_rate <= MAX_RATE:
        raise WavError(
            f"{path} has a sample rate of {recording.sample_rate} Hz, which cannot be used."
        )
    return recording


def parse_wav(file: BinaryIO) -> Recording:
    """Parse a WAV file of any rate and number of channels, with integers of 8 to 64 bits or floats.

    Raises:
        ValueError: It is none that can be read.
        OSError: The file cannot be read.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # Unknown chunks and a cut-off end are common, and what can be read is good.
            warnings.simplefilter("ignore")
            sample_rate, data = wavfile.read(file)
    except (ValueError, ArithmeticError, LookupError, NameError, TypeError, EOFError, struct.error):
        # What scipy makes of broken headers.
        raise ValueError("no WAV file that can be read") from None
    return Recording(int(sample_rate), _mono(data))


def _mono(data: NDArray[Any]) -> NDArray[np.float64]:
    samples = data.astype(np.float64)
    if data.dtype == np.uint8:  # WAV's 8-bit samples are unsigned
        samples = (samples - 128) / 128
    elif np.issubdtype(data.dtype, np.integer):
        samples /= -float(np.iinfo(data.dtype).min)
    else:
        samples = np.nan_to_num(samples, posinf=1.0, neginf=-1.0)
    mono: NDArray[np.float64] = samples if samples.ndim == 1 else samples.mean(axis=1)
    return mono


def check_writable(path: Path) -> None:
    """Make sure `path` can be written, leaving what is there as it is.

    Raises:
        WavError: It cannot.
    """
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise WavError(f"{path} cannot be written: {_reason(error)}.") from None


def write_wav(path: Path, sample_rate: int, pcm: bytes) -> None:
    """Write PCM16 LE mono audio as a WAV file.

    Raises:
        WavError: It cannot be written.
    """
    try:
        with path.open("wb") as file, wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(sample_rate)
            wav.writeframes(pcm)
    except OSError as error:
        raise WavError(f"{path} cannot be written: {_reason(error)}.") from None


def _reason(error: OSError) -> str:
    return (error.strerror or "it failed").lower()
