"""The voice process: takes over connections from gptme-server and serves them.

Each accepted socket arrives with its rebuilt handshake and is given to a uvicorn WebSocket protocol
object, as if uvicorn had accepted it itself; no byte is proxied. The process lives as long as the
`down` channel is open, so whatever ends gptme-server ends it too.

uvicorn's protocol class is not documented API. What is used of it is in this file alone: its
constructor, that it reads the handshake from `data_received`, and `shutdown`; `tests/contract`
holds it to that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from .. import backends
from ..channel import Adopt, Adopted, Closed, Ended, Timed, receive, send
from .app import VoiceApp
from .session import STOCK_INPUT_RATE, STOCK_OUTPUT_RATE
from .streams import design_filter

__all__ = ["VoiceServer", "main", "serve"]

logger = logging.getLogger(__name__)

MAX_FRAME_BYTES = 1 << 20
PING_SECONDS = 20.0
PARENT_SECONDS = 0.5
FAREWELL_SECONDS = 1.0
"""How long a client may take to read its last bytes after the connection has been given up."""
STOP_SECONDS = 1.5
"""How long connections may take to end once the server is going down."""
TIDY_SECONDS = 2.0
"""How long what they have used may take after that; gptme-server waits for four in all."""


class VoiceServer:
    """Serves the connections that arrive on `down`, and says on `up` what became of them.

    Must be made within a running event loop.
    """

    def __init__(self, down: socket.socket, up: socket.socket) -> None:
        self._down = down
        self._up = up
        self._loop = asyncio.get_running_loop()
        self._app = VoiceApp(self._report)
        self._stopped = asyncio.Event()
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._app.asgi(),
            ws="websockets-sansio",
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_per_message_deflate=False,
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            # Below this it logs addresses, and tracebacks of what clients do wrong. Failures of
            # our own are caught, and logged, before they reach it.
            log_level="critical",
        )
        self._config.load()

    async def run(self) -> None:
        """Serve until `down` ends, then end all sessions."""
        reader = threading.Thread(target=self._read, name="gptme-voice-channel", daemon=True)
        reader.start()
        # Better now than when somebody waits for the first session.
        warm_up = asyncio.create_task(design_filter(STOCK_INPUT_RATE, STOCK_OUTPUT_RATE))
        try:
            await self._stopped.wait()
            await self._end_sessions()
        finally:
            if self._state.connections:
                logger.warning("%d sessions did not end in time.", len(self._state.connections))
            await warm_up
            await backends.shut_down()
            self._up.close()
            self._down.close()

    def _read(self) -> None:
        try:
            while (received := receive(self._down)) is not None:
                message, fd = received
                if isinstance(message, Adopt):
                    self._receive(message, message.fd if fd is None else fd)
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)

    def _receive(self, offer: Adopt, fd: int) -> None:
        if fd < 0:
            # The system drops a descriptor for which there is no room.
            logger.error("Too many files are open for another voice session; see 'ulimit -n'.")
            self._loop.call_soon_threadsafe(self.closed, offer)
            return
        connection = socket.socket(fileno=fd)
        connection.setblocking(False)
        self._loop.call_soon_threadsafe(self._adopt_soon, offer, connection)

    def _adopt_soon(self, offer: Adopt, connection: socket.socket) -> None:
        task = self._loop.create_task(self._adopt(offer, connection))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _adopt(self, offer: Adopt, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Adopted(self, offer, self._config, self._state), connection
            )
        except OSError:  # the client was gone before we came to it
            connection.close()
            self.closed(offer)

    def adopted(self, offer: Adopt) -> None:
        """Report that the connection of `offer` is served."""
        self._report(Adopted(offer.id))

    def closed(self, offer: Adopt) -> None:
        """Report that the connection of `offer` has ended."""
        self._report(Closed(offer.id, len(self._state.connections), len(asyncio.all_tasks())))

    def _report(self, message: Adopted | Closed | Ended | Timed) -> None:
        try:
            send(self._up, message)
        except OSError:
            logger.debug("gptme-server no longer listens.")

    async def _end_sessions(self) -> None:
        self._app.stop()
        deadline = self._loop.time() + STOP_SECONDS
        while self._state.connections and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=TIDY_SECONDS)


_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Adopted(WebSocketsSansIOProtocol):
    """uvicorn's protocol on a connection whose handshake somebody else has read."""

    def __init__(
        self,
        server: VoiceServer,
        offer: Adopt,
        config: uvicorn.Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config, server_state, {"offer": offer})
        self._server = server
        self._offer = offer
        self._abort: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.adopted(self._offer)
        try:
            self.data_received(self._offer.request.encode("latin-1"))
        except Exception:
            logger.debug("A handshake could not be parsed.", exc_info=True)
        if not self.handshake_initiated:  # uvicorn would wait for the rest of it for ever
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_in(FAREWELL_SECONDS)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._abort_in(self.close_timeout + FAREWELL_SECONDS)

    def _abort_in(self, seconds: float) -> None:
        # A transport that is closed waits, without end, for a client that reads nothing.
        if not self.disconnected:
            if self._abort is not None:
                self._abort.cancel()
            self._abort = self.loop.call_later(seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort is not None:
            self._abort.cancel()
        super().connection_lost(exc)
        # gptme-server holds a copy of the descriptor, so closing ours would not end the connection.
        connection: Any = self.transport.get_extra_info("socket")
        with suppress(OSError):  # the client may have ended it first
            connection.shutdown(socket.SHUT_RDWR)
        self._server.closed(self._offer)


async def serve(down: socket.socket, up: socket.socket) -> None:
    """Serve the connections that arrive on `down` until it ends."""
    await VoiceServer(down, up).run()


async def _serve_child(down: socket.socket, up: socket.socket) -> None:
    watch = asyncio.create_task(_watch_parent(os.getppid(), down))
    try:
        await serve(down, up)
    finally:
        watch.cancel()


async def _watch_parent(parent: int, down: socket.socket) -> None:
    # A process that gptme-server forked holds the channel open beyond the server's own end.
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_SECONDS)
    down.shutdown(socket.SHUT_RD)


def main() -> None:
    """Run as a process: the two channels are the descriptors named by the arguments."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    down, up = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    for channel in (down, up):
        channel.set_inheritable(False)
    # Ctrl-C reaches the whole terminal; gptme-server decides, and then the channel ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: down.shutdown(socket.SHUT_RD))
    asyncio.run(_serve_child(down, up))


if __name__ == "__main__":
    main()
