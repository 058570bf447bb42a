"""An ear and a mouth to test with, each in one process per run: the local backend's own ear, and
Piper, without its dice."""

from __future__ import annotations

import atexit
import subprocess
import sys
from functools import lru_cache
from typing import Any

import numpy as np

from gptme_voice_plugin.backends.local import packets, stt_worker
from tests.support.speech import Samples, resampled

__all__ = ["said", "understood"]


class _Worker:
    def __init__(self, module: str, **opening: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(self._end)
        self.facts = self.ask(opening)[0]

    def ask(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Return the answer to a request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(packets.pack(request, payload))
        self._process.stdin.flush()
        while True:
            answer = packets.read(self._process.stdout)
            assert answer is not None, "the worker has ended"
            assert "error" not in answer[0], answer[0]
            if "preparing" not in answer[0]:
                return answer

    def _end(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@lru_cache(maxsize=1)
def _mouth() -> _Worker:
    return _Worker("tests.support.mouth")


@lru_cache(maxsize=1)
def _ear() -> _Worker:
    return _Worker(stt_worker.__name__, model="base")


@lru_cache(maxsize=64)
def said(text: str, sample_rate: int = 16_000, speed: float = 1.0) -> Samples:
    """Return what a person might say, int16 mono."""
    worker = _mouth()
    _, pcm = worker.ask({"text": text, "speed": speed})
    return resampled(np.frombuffer(pcm, "<i2"), worker.facts["sample_rate"], sample_rate)


def understood(samples: Samples, sample_rate: int) -> str:
    """Return what a listener would write down of it."""
    pcm = resampled(samples, sample_rate, 16_000).tobytes()
    return str(_ear().ask({"language": "en"}, pcm)[0]["text"])
