"""The voice server on a port of its own, without gptme-server in front of it.

Everything behind the hand-off is the real thing: sockets are adopted as in the voice process, on
the event loop of the test. It is what most tests of sessions need, and starts at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from gptme_voice_plugin.channel import Adopt, Adopted, Closed, Ended, Gptme, Timed, receive, send
from gptme_voice_plugin.config import parse_settings
from gptme_voice_plugin.voice.process import VoiceServer


@dataclass(frozen=True)
class VoiceHost:
    """Where it serves."""

    ws_url: str
    reports: list[Adopted | Closed | Ended | Timed] = field(default_factory=list)
    """What it has said of its connections, in order."""


@contextlib.asynccontextmanager
async def voice_host(
    keys: dict[str, str] | None = None, gptme: Gptme | None = None, **settings: Any
) -> AsyncIterator[VoiceHost]:
    """Serve voice sessions with these API keys and settings, and conversations of `gptme`."""
    parsed = parse_settings(settings).to_wire()
    loop = asyncio.get_running_loop()
    down, their_down = socket.socketpair()
    up, their_up = socket.socketpair()
    server = asyncio.create_task(VoiceServer(their_down, their_up).run())
    reports: list[Adopted | Closed | Ended | Timed] = []
    drain = loop.run_in_executor(None, _drain, up, reports)
    ids = iter(range(1, 1_000_000))

    async def accept(listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = await loop.sock_recv(connection, 4096)
                    if not piece:
                        break
                    request += piece
                else:
                    offer = Adopt(
                        next(ids), request.decode("latin-1"), parsed, keys or {}, gptme=gptme
                    )
                    send(down, offer, connection.fileno())

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(accept(listener))
        try:
            yield VoiceHost(f"ws://127.0.0.1:{listener.getsockname()[1]}/voice", reports)
        finally:
            accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await accepting
            down.close()
            await server
            await drain
            up.close()


def _drain(up: socket.socket, reports: list[Adopted | Closed | Ended | Timed]) -> None:
    while (received := receive(up)) is not None:
        message, _ = received
        assert not isinstance(message, Adopt)
        reports.append(message)
