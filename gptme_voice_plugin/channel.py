"""Messages, some with a descriptor, over the socket pairs between gptme-server and voice process.

Two pairs: `down` carries connections to the voice process, and its end is the voice process's
lifetime; `up` carries back what became of them. A message is four bytes of length, then JSON; a
descriptor rides on the length. Where descriptors cannot be passed both ends are in one process,
and its number is enough.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "CAN_PASS_SOCKETS",
    "Adopt",
    "Adopted",
    "Closed",
    "Ended",
    "Gptme",
    "Timed",
    "receive",
    "send",
]

CAN_PASS_SOCKETS = hasattr(socket, "send_fds")
"""Whether this system can hand a descriptor to another process."""

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True)
class Gptme:
    """How to reach the gptme-server that a connection came from."""

    url: str
    """`http://host:port`, or `unix:` and the path of its socket."""
    host: str
    """The `Host` the client has used: gptme-server has accepted it."""
    token: str | None = field(default=None, repr=False)
    """What authenticates; None if nothing needs to."""


@dataclass(frozen=True)
class Adopt:
    """Down: take over a connection whose handshake has been read."""

    id: int
    request: str
    """The handshake as HTTP/1.1, latin-1, without anything secret."""
    settings: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    """The API keys that are configured, by name."""
    error: tuple[str, str] | None = None
    """Code and message of what makes a session impossible; one that only tests sound needs none of
    what it is about."""
    gptme: Gptme | None = None
    """None: a session without a conversation."""
    fd: int = -1
    """Only within one process: the descriptor, now the receiver's."""


@dataclass(frozen=True)
class Adopted:
    """Up: the connection is served; the sender need not keep it for a second try."""

    id: int


@dataclass(frozen=True)
class Closed:
    """Up: the connection has ended."""

    id: int
    sessions: int = 0
    """Connections still open in the voice process."""
    tasks: int = 0
    """Tasks that run there; what it has when idle tells of leaks."""


@dataclass(frozen=True)
class Ended:
    """Up: a session is over; what it was, for the metrics."""

    backend: str
    """Empty if it had none yet."""
    reason: str
    """`ended`, `lost`, or the code of the error it ended with."""
    seconds: float
    user_turns: int = 0
    agent_turns: int = 0
    input_audio_ms: int = 0
    output_audio_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Timed:
    """Up: how long it took to answer a turn, for the metrics."""

    backend: str
    seconds: dict[str, float]
    """By stage: see `backends.base.Timings`."""


_KINDS = (Adopt, Adopted, Closed, Ended, Timed)
_Message = Adopt | Adopted | Closed | Ended | Timed
_TYPES: dict[str, type] = {kind.__name__: kind for kind in _KINDS}


def send(sock: socket.socket, message: _Message, fd: int | None = None) -> None:
    """Send `message`, and a copy of the descriptor `fd` with it.

    Raises:
        OSError: The other side is gone, or took longer than the socket's timeout.
    """
    data = json.dumps([type(message).__name__, asdict(message)]).encode()
    header = _LENGTH.pack(len(data))
    if fd is not None:
        sent = socket.send_fds(sock, [header], [fd])
        header = header[sent:]
    sock.sendall(header + data)


def receive(sock: socket.socket) -> tuple[_Message, int | None] | None:
    """Wait for the next message; return it with its descriptor, or None at the end."""
    try:
        fd: int | None = None
        if CAN_PASS_SOCKETS:
            header, fds, _, _ = socket.recv_fds(sock, _LENGTH.size, 1)
            if fds:
                fd = fds[0]
                # Received descriptors are inheritable, and a child would keep the client connected.
                os.set_inheritable(fd, False)
        else:
            header = sock.recv(_LENGTH.size)
        header += _receive_exactly(sock, _LENGTH.size - len(header)) if header else b""
        if not header:
            return None
        kind, values = json.loads(_receive_exactly(sock, _LENGTH.unpack(header)[0]))
    except (OSError, EOFError):
        return None
    if values.get("gptme") is not None:
        values["gptme"] = Gptme(**values["gptme"])
    return _TYPES[kind](**values), fd


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
