"""A sound card to test with: a PulseAudio daemon of its own, with speakers and a microphone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import psutil

from tests.support.realtime import hurry, real_time
from tests.support.server import wait_until
from tests.support.speech import Samples

__all__ = ["PulseAudio", "Recorder", "write_wav"]

START_SECONDS = 20.0
_MODULES = (
    "module-native-protocol-unix socket={folder}/native auth-anonymous=1",
    "module-null-sink sink_name=spk",
    "module-null-sink sink_name=micin channels=1 channel_map=mono",
    # Browsers do not offer a sink's monitor as a microphone.
    "module-remap-source master=micin.monitor source_name=mic",
)


def write_wav(path: Path, samples: Samples, rate: int) -> Path:
    """Write int16 mono samples to a WAV file; return its path."""
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, rate, 0, "NONE", ""))
        out.writeframes(samples.astype("<i2").tobytes())
    return path


class PulseAudio:
    """A daemon that lives as long as a `with` block.

    Args:
        rate: The sample rate its devices say they have, in hertz; a browser takes it over.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._stack = ExitStack()
        self._folder = Path()

    def __enter__(self) -> PulseAudio:
        for program in ("pulseaudio", "pactl", "paplay", "parec"):
            if shutil.which(program) is None:
                raise RuntimeError(
                    f"{program} is missing: install Debian's pulseaudio and pulseaudio-utils."
                )
        with self._stack:
            # Not pytest's folder: the path of a Unix socket may have 107 characters only.
            made = tempfile.TemporaryDirectory(prefix="pulse-", ignore_cleanup_errors=True)
            self._folder = Path(self._stack.enter_context(made))
            (self._folder / "daemon.conf").write_text(f"default-sample-rate = {self.rate}\n")
            command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no"]
            command += ["--exit-idle-time=-1", "--disallow-exit=yes"]
            for module in _MODULES:
                command += ["-L", module.format(folder=self._folder)]
            log = self._stack.enter_context((self._folder / "log").open("wb"))
            with real_time():
                daemon = subprocess.Popen(
                    command,
                    env=self.env,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                )
            self._stack.callback(_end, daemon)
            if not wait_until(lambda: daemon.poll() is not None or self._up(), START_SECONDS):
                raise RuntimeError(f"PulseAudio did not start in time:\n{self._log()}")
            if daemon.poll() is not None:
                raise RuntimeError(f"PulseAudio ended at its start:\n{self._log()}")
            # It gives up what it was started with, but for the threads of its devices; what
            # programs play and record goes through the others.
            hurry(psutil.Process(daemon.pid))
            for command in (["set-default-sink", "spk"], ["set-default-source", "mic"]):
                subprocess.run(["pactl", *command], env=self.env, check=True)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def env(self) -> dict[str, str]:
        """The environment of a program that is to use these devices and no others."""
        folder = str(self._folder)
        return {
            **os.environ,
            "PULSE_SERVER": f"unix:{folder}/native",
            "PULSE_CONFIG": f"{folder}/daemon.conf",
            "PULSE_RUNTIME_PATH": folder,
            "PULSE_STATE_PATH": folder,
        }

    @contextmanager
    def speaking(self, samples: Samples) -> Iterator[None]:
        """Speak `samples`, of this rate, into the microphone while a block runs, and to the end."""
        # PulseAudio mixes a new sound into what its sink has ahead, but not into what the monitor
        # has been given of it already, so the first milliseconds do not reach the microphone.
        around = np.zeros(self.rate // 2, np.int16)
        padded = np.concatenate([around, samples, around])
        path = write_wav(self._folder / f"speech-{time.monotonic_ns()}.wav", padded, self.rate)
        # A long buffer, so that a busy machine leaves no holes in the speech itself.
        command = ["paplay", "--device=micin", "--latency-msec=500", str(path)]
        with real_time():
            player = subprocess.Popen(command, env=self.env)
        try:
            yield
            if player.wait(padded.size / self.rate + 20) != 0:
                raise RuntimeError("paplay could not play into the microphone.")
        finally:
            _end(player)

    def speak(self, samples: Samples) -> None:
        """Speak `samples`, of this rate, into the microphone; returns when they are spoken."""
        with self.speaking(samples):
            pass

    def unplug(self, module: str) -> None:
        """Take away what `module` has made: `module-remap-source` is the microphone."""
        subprocess.run(["pactl", "unload-module", module], env=self.env, check=True)

    @contextmanager
    def echo(self, decibels: float, seconds: float = 0.1) -> Iterator[None]:
        """Let the microphone hear the speakers while a block runs, as in a room.

        Args:
            decibels: How much weaker than played, negative.
            seconds: After how long; PulseAudio keeps to it roughly.
        """
        module = self._pactl(
            "load-module", "module-loopback", "source=spk.monitor", "sink=micin",
            f"latency_msec={seconds * 1000:.0f}", "adjust_time=0",
        )  # fmt: skip
        listed = self._pactl("list", "sink-inputs").split("Sink Input #")
        index = next(entry.split()[0] for entry in listed if f"Owner Module: {module}\n" in entry)
        self._pactl("set-sink-input-volume", index, f"{decibels}dB")
        try:
            yield
        finally:
            self._pactl("unload-module", module)

    def _pactl(self, *arguments: str) -> str:
        command = ["pactl", *arguments]
        done = subprocess.run(command, env=self.env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def record(self, device: str) -> Recorder:
        """Record what reaches the sink `device` (`spk` or `micin`) while a block runs."""
        return Recorder(device, self.rate, self.env)

    def _up(self) -> bool:
        command = ["pactl", "list", "short", "sources"]
        listed = subprocess.run(command, env=self.env, capture_output=True, text=True)
        return listed.returncode == 0 and "\tmic\t" in listed.stdout

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")


class Recorder:
    """Records a sink's monitor; what has come so far can be looked at any time.

    Args:
        device: The sink.
        rate: Sample rate in hertz.
        env: The environment that leads to the daemon.
    """

    def __init__(self, device: str, rate: int, env: dict[str, str]) -> None:
        self.rate = rate
        self.began = float("inf")
        """When the first sample was heard, by the monotonic clock."""
        self._command = ["parec", f"--device={device}.monitor", "--raw", "--format=s16le"]
        self._command += [f"--rate={rate}", "--channels=1", "--latency-msec=10"]
        self._env = env
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._process: subprocess.Popen[bytes]
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Recorder:
        with real_time():
            self._process = subprocess.Popen(self._command, env=self._env, stdout=subprocess.PIPE)
        self._thread.start()
        if not wait_until(lambda: self._bytes > 0, START_SECONDS):
            self._stop()
            raise RuntimeError("parec records nothing.")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def samples(self) -> Samples:
        """Return what has been recorded so far."""
        pcm = b"".join(self._chunks)
        return np.frombuffer(pcm[: len(pcm) // 2 * 2], dtype="<i2")

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            self._bytes += len(chunk)
            self._chunks.append(chunk)
            # A chunk may come late, but never early: the earliest one tells the clock.
            self.began = min(self.began, time.monotonic() - self._bytes / 2 / self.rate)

    def _stop(self) -> None:
        _end(self._process)
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
