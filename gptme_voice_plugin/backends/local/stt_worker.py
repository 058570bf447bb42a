"""The worker process that writes down what was said: `python -m …stt_worker`."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ..base import Preparing
from . import models
from .progress import told
from .stages import Report
from .whisper import Whisper
from .worker_process import serve

__all__ = ["main"]

NICENESS = 15
"""Speech that is being heard comes first."""
MAX_THREADS = 4


class _Transcriber:
    def __init__(self) -> None:
        self._whisper: Whisper | None = None

    def handle(
        self, request: dict[str, Any], payload: bytes, report: Report
    ) -> tuple[dict[str, Any], bytes]:
        """Answer a request: `{"model": name}` first, then `{"language": …}` with audio."""
        if "model" in request:
            path = models.obtain("stt", request["model"], told(report))
            report(Preparing("Loading the speech model"))
            self._whisper = Whisper(str(path), min(os.cpu_count() or 1, MAX_THREADS))
            self._whisper.transcribe(bytes(32_000), "en")  # the first one is slow
            return {}, b""
        assert self._whisper is not None
        return asdict(self._whisper.transcribe(payload, request["language"])), b""


def main() -> None:
    """Run until the parent closes the pipe."""
    if hasattr(os, "nice"):
        with suppress(OSError):
            os.nice(NICENESS)
    serve(_Transcriber().handle)


if __name__ == "__main__":
    main()
