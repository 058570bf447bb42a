"""What voice/process.py uses of uvicorn's WebSocket protocol class, which is not documented API.

If one of these fails with a newer uvicorn, so would every session: adapt `voice/process.py`, then
move the bound in pyproject.toml.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

HANDSHAKE = (
    b"GET /voice?a=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: one, two\r\n\r\n"
)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """An ASGI application that accepts, and notes what it is told."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []
        self.send: Send
        self.accepted = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self.scope, self.send = scope, send
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": "two"})
        self.accepted.set()
        while not self.told or self.told[-1]["type"] != "websocket.disconnect":
            self.told.append(await receive())
        self.ended.set()


class Connection:
    """A protocol object that was given an open connection, and the client's end of it."""

    def __init__(self, app: App, state: ServerState, config: uvicorn.Config) -> None:
        self.app = app
        self.state = state
        self.protocol = WebSocketsSansIOProtocol(config, state, {"offer": "of ours"})
        self.client, server = socket.socketpair()
        self.client.setblocking(False)
        server.setblocking(False)
        self.server = server

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes that the client gets; fewer at the end."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            piece = await asyncio.wait_for(loop.sock_recv(self.client, size - len(data)), 10)
            if not piece:
                break
            data += piece
        return data

    async def write(self, opcode: int, payload: bytes) -> None:
        """Send a frame as a client does, masked with zeros."""
        head = bytes([0x80 | opcode, 0x80 | len(payload)])
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.client, head + bytes(4) + payload)


@asynccontextmanager
async def connection(handshake: bytes = HANDSHAKE, **options: Any) -> AsyncIterator[Connection]:
    """Give a connection to the protocol the way the voice process does."""
    app, state = App(), ServerState()
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        ws="websockets-sansio",
        ws_max_size=options.pop("ws_max_size", 1 << 20),
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        log_level="critical",
    )
    config.load()
    assert config.ws_protocol_class is WebSocketsSansIOProtocol
    made = Connection(app, state, config)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(lambda: made.protocol, made.server)
    assert protocol is made.protocol
    protocol.data_received(handshake)
    try:
        yield made
    finally:
        made.client.close()
        transport.close()
        while state.connections or state.tasks:
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it, but not for ever."""

    async def limited() -> None:
        await asyncio.wait_for(scenario(), 30)  # type: ignore[arg-type]

    asyncio.run(limited())


async def accepted(made: Connection) -> str:
    """Wait for the answer to the handshake; return it."""
    await asyncio.wait_for(made.app.accepted.wait(), 10)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await made.read(1)
    return answer.decode()


def test_signatures() -> None:
    parameters = inspect.signature(WebSocketsSansIOProtocol.__init__).parameters
    assert list(parameters)[1:4] == ["config", "server_state", "app_state"]
    assert all(
        p.default is not p.empty for name, p in list(parameters.items())[4:] if name != "self"
    )
    for name, count in (
        ("connection_made", 1),
        ("connection_lost", 1),
        ("data_received", 1),
        ("shutdown", 0),
    ):
        method = getattr(WebSocketsSansIOProtocol, name)
        assert len(inspect.signature(method).parameters) == count + 1, name
        assert not inspect.iscoroutinefunction(method), name
    assert issubclass(WebSocketsSansIOProtocol, asyncio.Protocol)


def test_server_state() -> None:
    state = ServerState()
    assert isinstance(state.connections, set)
    assert isinstance(state.tasks, set)


def test_it_reads_the_handshake_from_data_received() -> None:
    """And it runs the application, which finds the state of the connection in its scope."""

    async def scenario() -> None:
        async with connection() as made:
            answer = await accepted(made)
            assert answer.startswith("HTTP/1.1 101 ")
            assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
            assert "Sec-WebSocket-Protocol: two" in answer
            assert "Sec-WebSocket-Extensions" not in answer
            scope = made.app.scope
            assert scope["type"] == "websocket"
            assert scope["path"] == "/voice"
            assert scope["state"] == {"offer": "of ours"}
            assert scope["subprotocols"] == ["one", "two"]
            assert made.protocol in made.state.connections
            assert len(made.state.tasks) == 1
            assert made.protocol.transport.get_extra_info("socket") is not None

    run(scenario)


def test_messages_reach_the_application() -> None:
    async def scenario() -> None:
        async with connection() as made:
            await accepted(made)
            await made.write(2, b"\x01\x02")
            await made.write(1, b"text")
            await made.write(8, struct.pack("!H", 4001) + b"bye")
            await asyncio.wait_for(made.app.ended.wait(), 10)
            audio, text, gone = made.app.told
            assert audio["bytes"] == b"\x01\x02"
            assert text["text"] == "text"
            assert (gone["code"], gone["reason"]) == (4001, "bye")
            # The code is echoed, and then the connection ends.
            assert await made.read(100) == b"\x88\x05" + struct.pack("!H", 4001) + b"bye"

    run(scenario)


def test_shutdown_tells_1012() -> None:
    async def scenario() -> None:
        async with connection() as made:
            await accepted(made)
            for open_one in list(made.state.connections):
                open_one.shutdown()
            await asyncio.wait_for(made.app.ended.wait(), 10)
            assert made.app.told[-1]["code"] == 1012
            assert await made.read(100) == b"\x88\x02" + struct.pack("!H", 1012)
            while made.state.connections or made.state.tasks:
                await asyncio.sleep(0.01)

    run(scenario)


def test_closing_carries_code_and_reason() -> None:
    async def scenario() -> None:
        async with connection() as made:
            await accepted(made)
            await made.app.send({"type": "websocket.close", "code": 1011, "reason": "why"})
            assert await made.read(7) == b"\x88\x05" + struct.pack("!H", 1011) + b"why"

    run(scenario)


def test_a_lost_connection_is_forgotten() -> None:
    async def scenario() -> None:
        async with connection() as made:
            await accepted(made)
            made.client.close()
            await asyncio.wait_for(made.app.ended.wait(), 10)
            assert made.app.told[-1]["code"] in (1005, 1006)
            while made.state.connections or made.state.tasks:
                await asyncio.sleep(0.01)

    run(scenario)


def test_too_large_a_message() -> None:
    async def scenario() -> None:
        async with connection(ws_max_size=100) as made:
            await accepted(made)
            await made.write(2, bytes(101))
            await asyncio.wait_for(made.app.ended.wait(), 10)
            assert made.app.told[-1]["code"] == 1009
            assert (await made.read(4))[2:] == struct.pack("!H", 1009)

    run(scenario)


def test_a_bad_handshake_is_answered() -> None:
    async def scenario() -> None:
        bad = HANDSHAKE.replace(b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 8\r\n")
        async with connection(bad) as made:
            assert (await made.read(4000)).startswith(b"HTTP/1.1 4")
            assert made.app.scope == {}

    run(scenario)
