"""A WAV file as a speech server sends it.

Servers that stream do not know the length that they write into the header: it is mended first.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from ...audio import wav

__all__ = ["parse_wav"]

_RATES = range(8000, 192_001)
_MAX_CHANNELS = 8
_EXTENSIBLE = 0xFFFE


def parse_wav(data: bytes) -> tuple[int, Any]:
    """Return the sample rate, and the sound as an array of int16.

    Raises:
        ValueError: It is no WAV file, or of a kind that is not read.
    """
    rate, mended = _mend(data)
    return rate, wav.parse_wav(io.BytesIO(mended)).pcm16(rate)


def _mend(data: bytes) -> tuple[int, bytearray]:
    """Return the sample rate, and the file with the length that its sound really has."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("no WAV file")
    mended = bytearray(data)
    at, rate, frame = 12, 0, 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        body = at + 8
        if name == b"fmt " and body + 16 <= len(data):
            kind, channels, rate, _, frame = struct.unpack_from("<HHIIH", data, body)
            if not 1 <= channels <= _MAX_CHANNELS or rate not in _RATES or not frame:
                raise ValueError("no usual kind")
            if kind == _EXTENSIBLE and size >= 26:
                # Its long id is not always the one of the standard; it begins with what it is.
                mended[body : body + 2] = data[body + 24 : body + 26]
        elif name == b"data" and frame:
            whole = min(size or len(data), len(data) - body) // frame * frame
            struct.pack_into("<I", mended, at + 4, whole)
            struct.pack_into("<I", mended, 4, body + whole - 8)
            return rate, mended[: body + whole]
        at = body + size + size % 2
    raise ValueError("no sound in it")
