"""What a worker process and its parent send each other: a JSON object, and bytes with it.

Four bytes of length, the object, which says how many bytes follow, and those. A worker answers one
request after the other; before the answer it may say how far it is.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

__all__ = ["LENGTH", "header_size", "pack", "parse", "read"]

LENGTH = struct.Struct("!I")
_MAX_HEADER = 1 << 20
"""More than any object that is sent; what is longer is something else, such as printed text."""


def pack(message: dict[str, Any], payload: bytes = b"") -> bytes:
    """Return a packet as it is sent."""
    header = json.dumps({**message, "bytes": len(payload)}).encode()
    return LENGTH.pack(len(header)) + header + payload


def header_size(length: bytes) -> int:
    """Return how long the object is that follows.

    Raises:
        ValueError: This is no packet.
    """
    size: int = LENGTH.unpack(length)[0]
    if size > _MAX_HEADER:
        raise ValueError("no packet")
    return size


def parse(header: bytes) -> tuple[dict[str, Any], int]:
    """Return a packet's object, and how many bytes follow it.

    Raises:
        ValueError: It is none.
    """
    message = json.loads(header)
    size = message.pop("bytes", None) if isinstance(message, dict) else None
    if not isinstance(size, int) or size < 0:
        raise ValueError("no packet")
    return message, size


def read(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """Wait for the next packet; None at the end of the stream, also in the middle of one."""
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    header = stream.read(size := header_size(length))
    if len(header) < size:
        return None
    message, size = parse(header)
    payload = stream.read(size)
    return (message, payload) if len(payload) == size else None
