"""A worker process that does what it is told: `python -m tests.fakes.worker_for_tests`."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptme_voice_plugin.backends.base import Preparing
from gptme_voice_plugin.backends.local.worker_process import serve
from gptme_voice_plugin.errors import ModelMissing


def handle(
    request: dict[str, Any], payload: bytes, report: Callable[[Preparing], None]
) -> tuple[dict[str, Any], bytes]:
    """Do what `request["do"]` says."""
    match request["do"]:
        case "open":
            return _open(request, report)
        case "echo":
            return {"said": request.get("say"), "pid": os.getpid()}, payload
        case "print":
            print("A library greets you.", flush=True)
            ctypes.CDLL(None).puts(b"And so does C.")
            os.write(1, b"\0\0\0\1")
            return {"said": "printed"}, b""
        case "wait":  # until there is such a file
            Path(request["begun"]).touch()
            while not Path(request["until"]).exists():
                time.sleep(0.005)
            return {"said": "waited"}, b""
        case "hang":
            Path(request["begun"]).touch()
            threading.Event().wait()
        case "die":
            os._exit(7)
        case "garble":
            report_to = [fd for fd in range(3, 20) if _is_pipe(fd)]
            os.write(report_to[0], b"Hello, world: this is not a packet.")
            os._exit(0)
        case "large":
            return {}, bytes(request["size"])
        case "fail":
            raise RuntimeError("a secret reason")
    raise AssertionError(request)


def _open(
    request: dict[str, Any], report: Callable[[Preparing], None]
) -> tuple[dict[str, Any], bytes]:
    if (log := request.get("log")) is not None:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
    for each in range(request.get("steps", 0)):
        report(Preparing("Getting ready", each / request["steps"]))
    if (until := request.get("until")) is not None:
        while not Path(until).exists():
            time.sleep(0.005)
    if (missing := request.get("unless")) is not None and not Path(missing).exists():
        raise ModelMissing("There is no model; fetch it.")
    return {"sample_rate": 16_000}, b""


def _is_pipe(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
    except OSError:
        return False


if __name__ == "__main__":
    serve(handle)
