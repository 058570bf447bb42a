"""Real time for programs that play and record sound, on a machine that does other work as well.

Sound cards wait for nobody: who gets no processor for 50 ms loses what was said, and a test would
tell about the machine's load. Where the system does not allow this, nothing is done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

__all__ = ["hurry", "hurrying", "real_time"]

_PRIORITY = 10


@contextmanager
def real_time() -> Iterator[None]:
    """Start processes that come before all ordinary ones while a block runs."""
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))
    try:
        yield
    finally:
        with suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def hurry(process: psutil.Process) -> None:
    """Let a process that runs already, with all its threads, come before all ordinary ones."""
    for thread in process.threads():
        with suppress(OSError, AttributeError):
            os.sched_setscheduler(thread.id, os.SCHED_RR, os.sched_param(_PRIORITY))


@contextmanager
def hurrying(*names: str) -> Iterator[None]:
    """Let threads of child processes come before all ordinary ones while a block runs.

    For a program that starts them when it needs them, and has many others. `names` are what the
    threads' names begin with.
    """
    done: set[int] = set()
    over = threading.Event()

    def look() -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                for id in {thread.id for thread in process.threads()} - done:
                    with suppress(OSError, AttributeError):
                        name = Path(f"/proc/{process.pid}/task/{id}/comm").read_text()
                        if name.startswith(names):
                            done.add(id)
                            os.sched_setscheduler(id, os.SCHED_RR, os.sched_param(_PRIORITY))

    def watch() -> None:
        while not over.wait(0.2):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
