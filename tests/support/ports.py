"""TCP ports that stay free until a test's server takes them.

A port that the kernel has picked can be picked again, for any client or fake, before the server
that is to have it has started. These lie below what any kernel picks from, and no two test
processes share a block of them.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["free_port"]

_BLOCKS = [range(start, start + 500) for start in range(12_000, 32_000, 500)]


def free_port() -> int:
    """Return a TCP port that is free now, and that nobody takes who does not ask for it."""
    for port in itertools.islice(_own(), len(_BLOCKS[0])):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("every port of this test process is taken")


@functools.cache
def _own() -> Iterator[int]:
    """Return the ports of a block that is this process's as long as it lives, round and round."""
    for block in _BLOCKS:
        path = Path(tempfile.gettempdir(), f"gptme-voice-tests-{os.getuid()}-{block.start}.lock")
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return itertools.cycle(block)
    raise RuntimeError("too many test processes at once")
