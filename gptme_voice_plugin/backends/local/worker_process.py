"""The inside of a worker process: reads requests, has them done, answers.

It lives as long as its parent holds the pipe open, and no longer, whatever it is at. What libraries
print goes to the log, not into the packets.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from ...errors import VoiceError
from ..base import Preparing
from . import packets
from .stages import Report

__all__ = ["Handler", "serve"]

Handler = Callable[[dict[str, Any], bytes, Report], tuple[dict[str, Any], bytes]]
"""Takes a request, its bytes, and a function that tells how far it is; returns the answer."""


def serve(handle: Handler) -> None:
    """Answer requests from standard input; when that ends, so does the process."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Ctrl-C reaches the whole terminal; when this one ends is its parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sending = threading.Lock()  # progress may come from threads of a library's
    requests: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), name="requests", daemon=True).start()

    def send(message: dict[str, Any], payload: bytes = b"") -> None:
        try:
            with sending:
                answers.write(packets.pack(message, payload))
                answers.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody waits for the answer

    def report(progress: Preparing) -> None:
        send({"preparing": progress.what, "share": progress.share})

    while True:
        try:
            answer = handle(*requests.get(), report)
        except VoiceError as error:
            answer = {"error": type(error).__name__, "message": error.message}, b""
        except Exception as exc:
            logging.getLogger(__name__).exception("A request could not be answered.")
            answer = {"error": "SpeechFailed", "message": _sentence(exc)}, b""
        send(*answer)


def _read(requests: queue.SimpleQueue[tuple[dict[str, Any], bytes]]) -> None:
    # On a thread of its own, to notice the end while a request is at work, which may take long: a
    # model is fetched, say. Nothing needs tidying: what is fetched comes into its place when whole.
    try:
        while (request := packets.read(sys.stdin.buffer)) is not None:
            requests.put(request)
    finally:
        os._exit(0)


def _sentence(exc: Exception) -> str:
    return f"A part of the local backend failed ({type(exc).__name__}); see the server's log."
