"""Where a connection has reached this server: the voice process comes in by the same door."""

from __future__ import annotations

import os
import socket
from urllib.parse import quote

from gptme.server import auth

from ..channel import Gptme

__all__ = ["address_of", "reach"]


def reach(sock: socket.socket, host: str) -> Gptme:
    """Return how the voice process reaches the server that has accepted `sock`.

    Args:
        sock: The connection of a client.
        host: The `Host` that it has sent, and that gptme has let in.
    """
    token = auth.get_server_token() if auth._auth_enabled else None
    return Gptme(address_of(sock), host, token)


def address_of(sock: socket.socket) -> str:
    """Return the address that `sock` was accepted at, as a URL or `unix:` and a path.

    It is one of a machine's own, also where the server listens to all of them.
    """
    name = sock.getsockname()
    if isinstance(name, tuple):
        address, port = name[:2]
        if sock.family == socket.AF_INET6:
            # The zone of a link-local address has a percent sign, which a URL wants quoted.
            address = f"[{quote(address, safe=':.')}]"
        return f"http://{address}:{port}"
    path = name if isinstance(name, str) else name.decode()
    # The voice process is in another folder. One that begins with a NUL is in none.
    return f"unix:{path if path.startswith(chr(0)) else os.path.abspath(path)}"
