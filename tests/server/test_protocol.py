"""What a client may do wrong on the wire: each has a defined outcome, and none leaves anything.

All of it goes to the real endpoint, except for what the echo backend is too quick for (the time
between `hello` and `ready`) and what only the server sees (a client's close code): there the code
of the voice process runs here, on real sockets, so that a backend and a session can be looked into.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import websockets
from websockets.asyncio.client import connect

from gptme_voice_plugin import backends
from gptme_voice_plugin.backends import base
from gptme_voice_plugin.backends.echo import EchoBackend
from gptme_voice_plugin.channel import Adopt, send
from gptme_voice_plugin.config import Settings
from gptme_voice_plugin.voice import app, process
from gptme_voice_plugin.voice import session as core
from gptme_voice_plugin.voice.wire import Dialect
from tests.support.client import SUBPROTOCOL, VoiceClient
from tests.support.server import TOKEN, GptmeServer, wait_until
from tests.support.speech import best_match, resampled, silence, speech_like

MIB = 1 << 20
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@dataclass
class Baseline:
    """The voice process before the tests."""

    server: GptmeServer
    pid: int
    fds: int

    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)


@pytest.fixture(scope="module", autouse=True)
def voice(server: GptmeServer) -> Iterator[Baseline]:
    """The voice process, once a session of each kind has warmed it up."""

    async def warm_up() -> None:
        for v1 in (False, True):
            async with VoiceClient(server.ws_url, server.auth, v1=v1) as client:
                await client.until(lambda c: c.ready.is_set())

    asyncio.run(warm_up())
    assert wait_until(lambda: sessions(server) == 0)
    pid = server.voice_pid()
    assert pid is not None
    yield Baseline(server, pid, psutil.Process(pid).num_fds())


def sessions(server: GptmeServer) -> int:
    """Return how many sessions the voice process has."""
    count: int = server.status()["voice_process"]["sessions"]
    return count


@asynccontextmanager
async def ready(server: GptmeServer, v1: bool = True, **hello: Any) -> AsyncIterator[VoiceClient]:
    """A session that has begun."""
    async with VoiceClient(server.ws_url, server.auth, v1=v1, hello=hello) as client:
        await client.until(lambda c: c.ready.is_set())
        yield client


async def alive(client: VoiceClient) -> None:
    """Check that the session goes on: it still does what it is asked."""
    count = len(client.of("transcript"))
    await client.say("text", text="still there?")
    await client.until(lambda c: len(c.of("transcript")) > count)
    assert client.of("transcript")[-1]["text"] == "still there?"


async def error_after(client: VoiceClient, message: str | bytes, text: bool | None = None) -> Any:
    """Send a frame; return the error it gives."""
    count = len(client.of("error"))
    await client.ws.send(message, text=text)
    await client.until(lambda c: len(c.of("error")) > count)
    return client.of("error")[-1]


async def ends_with(client: VoiceClient, code: str, close_code: int) -> None:
    """Check that the session ends with a fatal error, and the same sentence as its reason."""
    closed, reason = await client.closed()
    assert closed == close_code
    error = client.messages[-1]
    assert error["type"] == "error"
    assert error["code"] == code
    assert error["fatal"] is True
    assert reason
    assert error["message"].startswith(reason.removesuffix("…"))


# Text frames


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "hello",
        '{"type": "commit"',
        '{"type": "commit"} {}',
        "[]",
        '["type", "commit"]',
        '"commit"',
        "1",
        "null",
        "NaN",
        "{}",
        '{"type": null}',
        '{"type": 1}',
        '{"type": ["commit"]}',
        '{"type": "played", "samples": NaN}',
        '{"type": "played", "samples": ' + "9" * 5000 + "}",
        "[" * 100_000,
        "\u0000",
        base64.b64encode(bytes(640)).decode(),
        '{"type": "played"}',
        '{"type": "played", "samples": "0"}',
        '{"type": "played", "samples": -1}',
        '{"type": "played", "samples": 0.5}',
        '{"type": "played", "samples": true}',
        '{"type": "played", "samples": 1e999}',
        '{"type": "mute"}',
        '{"type": "mute", "on": 1}',
        '{"type": "text"}',
        '{"type": "text", "text": ""}',
        '{"type": "text", "text": {"a": 1}}',
        '{"type": "text", "text": "' + "x" * 100_001 + '"}',
        '{"type": "hello"}',
        '{"type": "hello", "client": 1}',
        '{"type": "hello", "client": "x", "input_sample_rates": [0]}',
        # Not a character: nobody could be sent it.
        '{"type": "text", "text": "\\ud800"}',
    ],
    ids=lambda text: repr(text[:40]),
)
def test_bad_message(server: GptmeServer, text: str) -> None:
    """It is answered with an error, in a session and before it; the session goes on."""

    async def scenario() -> None:
        async with ready(server) as client:
            error = await error_after(client, text)
            assert error["code"] == "bad_message"
            assert error["fatal"] is False
            assert " " in error["message"]
            await alive(client)
        async with VoiceClient(server.ws_url, server.auth, hello=None) as client:
            error = await error_after(client, text)
            assert (error["code"], error["fatal"]) == ("bad_message", False)
            await client.say("hello", client="test")
            await client.until(lambda c: c.ready.is_set())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "text",
    ['{"type": "no_such_thing"}', '{"type": ""}', '{"type": "Commit"}', '{"type": "ready"}'],
)
def test_unknown_types_are_ignored(server: GptmeServer, text: str) -> None:
    async def scenario() -> None:
        async with ready(server) as client:
            await client.ws.send(text)
            await alive(client)
            assert not client.of("error")

    asyncio.run(scenario())


def test_unknown_fields_are_ignored(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with ready(server, no_such_thing={"a": [1]}) as client:
            await client.say("mute", on=True, since="now")
            await client.until(
                lambda c: c.of("state")[-1:] == [{"type": "state", "state": "muted"}]
            )
            assert not client.of("error")

    asyncio.run(scenario())


def test_base64_is_not_heard(server: GptmeServer) -> None:
    """Audio is binary; the same in a text frame is refused, and does not become speech."""
    spoken = speech_like(24_000, 1.0)

    async def scenario() -> None:
        async with ready(server) as client:
            for at in range(0, 24_000, 2400):
                pcm = base64.b64encode(spoken[at : at + 2400].tobytes()).decode()
                assert (await error_after(client, pcm))["code"] == "bad_message"
            await alive(client)
            assert not client.of("speech_started")

    asyncio.run(scenario())


def test_second_hello(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with ready(server) as client:
            error = await error_after(client, '{"type": "hello", "client": "again"}')
            assert (error["code"], error["fatal"]) == ("unexpected_hello", False)
            await alive(client)
            assert len(client.of("ready")) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("rates", [[], [16_000], [8000, 24_000], [22_050], [44_100], [192_000]])
def test_rates_a_client_may_offer(server: GptmeServer, rates: list[int]) -> None:
    async def scenario() -> None:
        async with ready(server, input_sample_rates=rates) as client:
            chosen = client.of("ready")[0]["input_sample_rate"]
            assert chosen in (rates or [24_000])

    asyncio.run(scenario())


@pytest.mark.parametrize("rate", [8001, 11_025, 191_999])
def test_odd_rates_do_no_harm(server: GptmeServer, rate: int) -> None:
    """A rate that no 20 ms frame fits is used or refused, in words; it is no defect of ours."""

    async def scenario() -> None:
        async with VoiceClient(
            server.ws_url, server.auth, hello={"input_sample_rates": [rate]}
        ) as client:
            await client.until(lambda c: c.ready.is_set() or c.of("error"))
            assert "internal_error" not in [error["code"] for error in client.of("error")]

    asyncio.run(scenario())


def test_played_more_than_was_sent(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with ready(server) as client:
            error = await error_after(client, '{"type": "played", "samples": 1}')
            assert (error["code"], error["fatal"]) == ("played_out_of_range", False)
            await client.say("played", samples=0)
            await alive(client)
            assert len(client.of("error")) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "message",
    [
        {"type": "played", "samples": 0},
        {"type": "interrupt"},
        {"type": "mute", "on": True},
        {"type": "commit"},
        {"type": "text", "text": "hi"},
    ],
    ids=lambda message: message["type"],
)
def test_hello_comes_first(server: GptmeServer, message: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with VoiceClient(server.ws_url, server.auth, hello=None) as client:
            await client.ws.send(json.dumps(message))
            await ends_with(client, "hello_required", 1008)

    asyncio.run(scenario())


def test_end_before_hello(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with VoiceClient(server.ws_url, server.auth, hello=None) as client:
            await client.say("end")
            assert await client.closed() == (1000, "")
            assert client.messages == []

    asyncio.run(scenario())


def test_too_many_errors(server: GptmeServer) -> None:
    """A hundred are forgiven; one more ends the session, however fast they come."""

    async def scenario() -> None:
        async with ready(server) as client:
            for _ in range(core.MAX_ERRORS):
                await client.ws.send("{")
            await client.until(lambda c: len(c.of("error")) == core.MAX_ERRORS)
            assert not any(error["fatal"] for error in client.of("error"))
            await alive(client)
            await client.ws.send("{")
            await ends_with(client, "too_many_errors", 1008)
        async with ready(server) as client:
            with suppress(websockets.ConnectionClosed):
                for _ in range(1000):
                    await client.ws.send("{")
            await ends_with(client, "too_many_errors", 1008)
            assert len(client.of("error")) == core.MAX_ERRORS + 1

    asyncio.run(scenario())


def test_end(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with ready(server) as client:
            await client.say("end")
            assert await client.closed() == (1000, "")

    asyncio.run(scenario())


def test_a_stock_client_may_send_anything(server: GptmeServer) -> None:
    """Its protocol has no errors, so whatever is not `commit` is ignored."""

    async def scenario() -> None:
        async with ready(server, v1=False) as client:
            for text in ("", "{", "[1]", "null", '{"type": 1}', '{"type": "end"}', "{}" * 50):
                for _ in range(50):
                    await client.ws.send(text)
            await client.ws.send('{"type": "commit"}')
            await client.speak(speech_like(16_000, 0.5), speed=10)
            await client.ws.send('{"type": "commit"}')
            await client.until(lambda c: len(c.audio) >= 0.45 * 24_000 * 2)
            assert [m["type"] for m in client.messages] == ["ready"]

    asyncio.run(scenario())


# Binary frames


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut `data` into pieces of `sizes`, over and over."""
    at = 0
    while at < len(data):
        for size in sizes:
            if piece := data[at : at + size]:
                yield piece
            at += size


async def echo(client: VoiceClient, frames: Callable[[bytes], Iterator[bytes]]) -> float:
    """Speak at 16 kHz in frames of any kind; return how well the echo matches."""
    assert client.of("ready")[-1]["input_sample_rate"] == 16_000
    spoken = speech_like(16_000, 2.0)
    pcm = np.concatenate([spoken, silence(16_000, 1.0)]).tobytes()
    already = len(client.audio)
    for frame in frames(pcm):
        await client.ws.send(frame)
    await client.until(lambda c: len(c.audio) - already >= 2.45 * 24_000 * 2)
    heard = np.frombuffer(client.audio[already:], dtype="<i2")
    assert len(client.audio) % 2 == 0
    correlation, _ = best_match(resampled(spoken, 16_000, 24_000), heard)
    return correlation


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
@pytest.mark.parametrize(
    "sizes", [[84], [85], [84, 85], [3], [639, 0, 1], [65_537]], ids=lambda sizes: str(sizes)
)
def test_any_byte_counts(server: GptmeServer, v1: bool, sizes: list[int]) -> None:
    """The stream is what counts, not how it was cut: nothing of it is lost."""

    async def scenario() -> None:
        async with ready(server, v1=v1, input_sample_rates=[16_000]) as client:
            assert await echo(client, lambda pcm: cut(pcm, sizes)) > 0.99
            assert not client.of("error")

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_empty_frames(server: GptmeServer, v1: bool) -> None:
    async def scenario() -> None:
        async with ready(server, v1=v1, input_sample_rates=[16_000]) as client:
            for _ in range(200):
                await client.ws.send(b"")

            def frames(pcm: bytes) -> Iterator[bytes]:
                for piece in cut(pcm, [640]):
                    yield from (b"", piece)

            assert await echo(client, frames) > 0.99
            assert not client.of("error")

    asyncio.run(scenario())


def test_ten_thousand_tiny_messages_at_once(server: GptmeServer) -> None:
    """They are worked off in order, beside a session that is not held up."""

    async def scenario() -> None:
        async with (
            ready(server, input_sample_rates=[16_000]) as client,
            ready(server) as other,
        ):
            burst = asyncio.gather(
                *(client.ws.send('{"type": "played", "samples": 0}') for _ in range(10_000))
            )
            await alive(other)
            await burst
            await alive(client)
            assert await echo(client, lambda pcm: cut(pcm, [9])) > 0.99  # over ten thousand
            assert not client.of("error")

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_the_largest_frame(server: GptmeServer, v1: bool) -> None:
    """A frame of 1 MiB is taken, all of it: half a minute of silence, then speech."""

    async def scenario() -> None:
        async with ready(server, v1=v1, input_sample_rates=[16_000]) as client:
            await client.ws.send(bytes(MIB))
            assert await echo(client, lambda pcm: cut(pcm, [640])) > 0.99

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
@pytest.mark.parametrize(
    "message",
    [bytes(MIB + 1), "x" * (MIB + 1), [bytes(MIB // 2)] * 2 + [b"x"], bytes(8 * MIB)],
    ids=["binary", "text", "fragments", "8 MiB"],
)
def test_too_large(server: GptmeServer, v1: bool, message: Any) -> None:
    async def scenario() -> None:
        async with ready(server, v1=v1) as client:
            with suppress(websockets.ConnectionClosed):
                await client.ws.send(message)
            code, _ = await client.closed()
            assert code == 1009

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
@pytest.mark.parametrize(
    "message",
    [b"\xff", b'{"type": "\xc3"}', b"\xed\xa0\x80", [b'{"type": "', b"\xc3", b'"}']],
    ids=repr,
)
def test_invalid_utf8(server: GptmeServer, v1: bool, message: Any) -> None:
    async def scenario() -> None:
        async with ready(server, v1=v1) as client:
            await client.ws.send(message, text=True)
            code, _ = await client.closed()
            assert code == 1007

    asyncio.run(scenario())


def test_audio_before_hello(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with VoiceClient(server.ws_url, server.auth, hello=None) as client:
            await client.ws.send(bytes(640))
            await ends_with(client, "hello_required", 1008)

    asyncio.run(scenario())


# The WebSocket protocol itself


def test_fragmented_messages(server: GptmeServer) -> None:
    """Text and audio may come in fragments, pings between them, cut within a character."""

    async def scenario() -> None:
        async with ready(server, input_sample_rates=[16_000]) as client:
            await client.ws.send(['{"type": "te', 'xt", "text"', "", ': "in parts"}'])
            await client.until(lambda c: c.of("transcript"))
            euro = '{"type": "text", "text": "€"}'.encode()
            await client.ws.send([euro[:26], euro[26:]], text=True)
            await client.until(lambda c: len(c.of("transcript")) == 2)
            assert [t["text"] for t in client.of("transcript")] == ["in parts", "€"]

            async def with_pings(pcm: bytes) -> AsyncIterator[bytes]:
                for piece in cut(pcm, [3, 84]):
                    yield piece
                    await (await client.ws.ping())

            spoken = speech_like(16_000, 2.0)
            pcm = spoken.tobytes()
            for at in range(0, len(pcm), 6400):
                await client.ws.send(with_pings(pcm[at : at + 6400]))
            await client.ws.send([bytes(8000)] * 4)
            await client.until(lambda c: len(c.audio) >= 2.45 * 24_000 * 2)
            heard = np.frombuffer(client.audio, dtype="<i2")
            assert best_match(resampled(spoken, 16_000, 24_000), heard)[0] > 0.99

    asyncio.run(scenario())


def test_ping_pong(server: GptmeServer) -> None:
    async def scenario() -> None:
        async with ready(server) as client:
            for payload in (b"", b"x", b"y" * 125):
                await asyncio.wait_for(await client.ws.ping(payload), 60)
            await client.ws.pong(b"unasked for")
            await alive(client)

    asyncio.run(scenario())


def test_compression_is_not_negotiated(server: GptmeServer) -> None:
    """It would cost time, and PCM does not get smaller."""

    async def scenario() -> None:
        async with connect(
            server.ws_url, additional_headers=server.auth, compression="deflate"
        ) as ws:
            assert ws.request is not None and ws.response is not None
            assert "permessage-deflate" in ws.request.headers["Sec-WebSocket-Extensions"]
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            assert json.loads(await ws.recv())["type"] == "ready"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, None),
        (["other"], None),
        (["other", SUBPROTOCOL], SUBPROTOCOL),
        ([SUBPROTOCOL, "other"], SUBPROTOCOL),
        (["GPTME.voice.v1"], None),
        (["gptme.voice.v2"], None),
    ],
)
def test_subprotocols(server: GptmeServer, offered: Any, chosen: str | None) -> None:
    """Whoever does not offer ours is a stock client."""

    async def scenario() -> None:
        async with connect(
            server.ws_url, additional_headers=server.auth, subprotocols=offered
        ) as ws:
            assert ws.subprotocol == chosen
            if chosen is None:
                assert json.loads(await ws.recv())["type"] == "ready"

    asyncio.run(scenario())


def handshake(
    server: GptmeServer,
    changes: dict[str, str | None] | None = None,
    path: str = "/voice",
    method: str = "GET",
) -> bytes:
    """Return a handshake as bytes; a header that is changed to None is left out."""
    headers = {
        "Host": f"127.0.0.1:{server.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Authorization": f"Bearer {TOKEN}",
        **(changes or {}),
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def open_socket(server: GptmeServer) -> socket.socket:
    """Return a connection that waits a long while, but not for ever."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def read_to_end(sock: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    data = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65_536):
            data += piece
    return data


def frame(opcode: int, payload: bytes = b"", first: int = 0x80, masked: bool = True) -> bytes:
    """Return a frame of less than 126 bytes; `first` has the bits beside the opcode."""
    assert len(payload) < 126
    head = bytes([first | opcode, len(payload) | (0x80 if masked else 0)])
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def close_code(frames: bytes) -> int | None:
    """Return the code of the close frame that ends `frames` from a server."""
    code = None
    while len(frames) >= 2:
        opcode, size, start = frames[0] & 15, frames[1], 2
        if size == 126:
            size, start = struct.unpack("!H", frames[2:4])[0], 4
        if opcode == 8:
            code = struct.unpack("!H", frames[start : start + 2])[0]
        frames = frames[start + size :]
    return code


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": "x"},
        {"Sec-WebSocket-Version": None},
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "ü" * 24},
        {"Sec-WebSocket-Protocol": "a b, ,"},
        {"Sec-WebSocket-Extensions": "x; ="},
        {"Transfer-Encoding": "chunked"},
        {"X-Control": "a\x01b"},
        {"X-Long": "x" * 9000},
        {"Referer": "http://127.0.0.1/?" + "x" * 60_000},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_bad_handshake(server: GptmeServer, changes: dict[str, str | None]) -> None:
    """It is answered as HTTP, and the connection ends; or it is harmless, and is accepted."""
    with open_socket(server) as sock:
        sock.sendall(handshake(server, changes))
        status = sock.recv(12)
        assert status.startswith(b"HTTP/1.1 ")
        if status[9:] == b"101":
            sock.sendall(frame(8, struct.pack("!H", 1000)))
        else:
            assert status[9:10] == b"4"
        read_to_end(sock)


@pytest.mark.parametrize("length", [8000, 9000, 60_000])
def test_long_address(server: GptmeServer, length: int) -> None:
    with open_socket(server) as sock:
        sock.sendall(handshake(server, path="/voice?x=" + "x" * length))
        status = sock.recv(12)
        assert status[9:] == b"101" or status[9:10] == b"4"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
def test_only_get_upgrades(server: GptmeServer, method: str) -> None:
    with open_socket(server) as sock:
        sock.sendall(handshake(server, method=method))
        assert sock.recv(12)[9:] != b"101"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"{}", masked=False), 1002),
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(1, b"{}", first=0xC0), 1002),  # compressed, which was not agreed
        (frame(9, b"x", first=0x00), 1002),  # a control frame in fragments
        (frame(0, b"x"), 1002),  # a continuation of nothing
        (frame(1, b"x", first=0) + frame(1, b"y"), 1002),  # a message within a message
        (bytes([0x89, 0xFE, 0x00, 0x7E]) + bytes(130), 1002),  # a ping of 126 bytes
        (frame(8, b"x"), 1002),
        (frame(8, struct.pack("!H", 1005)), 1002),
        (frame(8, struct.pack("!H", 999)), 1002),
        (frame(8, struct.pack("!H", 1000) + b"\xff"), 1007),
        (bytes([0x82, 0xFF]) + struct.pack("!Q", 2**63) + bytes(20), 1009),
        (bytes([0x82, 0xFF]) + struct.pack("!Q", 2**62) + bytes(20), 1009),
        (frame(8), None),
        (frame(8, struct.pack("!H", 1000)), 1000),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
    ],
    ids=lambda value: repr(value[:8]) if isinstance(value, bytes) else str(value),
)
@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_bad_frames(server: GptmeServer, v1: bool, data: bytes, code: int | None) -> None:
    """The connection ends with the code that RFC 6455 has for it."""
    changes: dict[str, str | None] = {"Sec-WebSocket-Protocol": SUBPROTOCOL} if v1 else {}
    with open_socket(server) as sock:
        sock.sendall(handshake(server, changes))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 ")
        sock.sendall(data)
        rest = answer.partition(b"\r\n\r\n")[2] + read_to_end(sock)
        if code is None:
            assert rest[-2:] == b"\x88\x00"
        else:
            assert close_code(rest) == code


def test_clients_that_vanish_at_once(server: GptmeServer) -> None:
    """At any moment of the handshake, in order or by reset: nobody is left waiting for them."""
    request = handshake(server)
    reset = struct.pack("ii", 1, 0)
    for i in range(60):
        with open_socket(server) as sock:
            sock.sendall(request[: len(request) // 2] if i % 3 == 0 else request)
            if i % 3 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    asyncio.run(_one_session(server))
    assert wait_until(lambda: sessions(server) == 0)


def test_half_requests_disturb_nobody(server: GptmeServer) -> None:
    """They wait in gptme's own web server; sessions are made and run beside them."""
    slow = [open_socket(server) for _ in range(30)]
    try:
        for sock in slow:
            sock.sendall(handshake(server)[:100])
        asyncio.run(_one_session(server))
        assert httpx.get(
            f"{server.url}/api/v2/voice/status", headers=server.auth, timeout=60
        ).is_success
        # Frames can be just as slow.
        slow[0].sendall(handshake(server)[100:])
        assert slow[0].recv(12) == b"HTTP/1.1 101"
        for byte in frame(1, b"{}")[:-1]:
            slow[0].sendall(bytes([byte]))
        asyncio.run(_one_session(server))
    finally:
        for sock in slow:
            sock.close()


async def _one_session(server: GptmeServer) -> None:
    async with ready(server) as client:
        await alive(client)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4001, 4999])
def test_client_closes(server: GptmeServer, code: int) -> None:
    """Its code comes back, and the session is gone."""

    async def scenario() -> None:
        async with ready(server) as client:
            await client.ws.close(code, "that's all")
            assert await client.closed() == (code, "that's all")

    asyncio.run(scenario())
    assert wait_until(lambda: sessions(server) == 0)


# What only the voice process sees


class SlowBackend(EchoBackend):
    """Gets ready when it is told to."""

    go: asyncio.Event

    async def open(self) -> None:
        """See `Backend.open`."""
        await self.go.wait()


@asynccontextmanager
async def voice_process() -> AsyncIterator[str]:
    """Run the code of the voice process here; yield its address.

    What gptme-server does is done here: accept, read the handshake, hand over.
    """
    loop = asyncio.get_running_loop()
    down, their_down = socket.socketpair()
    up, their_up = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    settings = Settings(backend="echo").to_wire()

    async def accept() -> None:
        for number in range(1, 100):
            sock, _ = await loop.sock_accept(listener)
            with sock:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += await loop.sock_recv(sock, 4096)
                offer = Adopt(number, request.decode("latin-1"), settings)
                send(down, offer, sock.fileno())

    with down, up, listener:
        serving = asyncio.create_task(process.serve(their_down, their_up))
        accepting = asyncio.create_task(accept())
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/voice"
        finally:
            accepting.cancel()
            down.shutdown(socket.SHUT_RDWR)
            await serving


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[core.Event]:
    """What the sessions of `voice_process` are told."""
    seen: list[core.Event] = []

    class Recorded(core.Session):
        def handle(self, event: core.Event, now: float) -> list[core.Effect]:
            seen.append(event)
            return super().handle(event, now)

    monkeypatch.setattr(app, "Session", Recorded)
    return seen


def slow_backend(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let sessions have a backend that gets ready when the event is set."""
    backend = SlowBackend(Settings())
    backend.go = asyncio.Event()

    def create(*_: object) -> base.Backend:
        return backend

    monkeypatch.setattr(backends, "create", create)
    return backend.go


def test_audio_before_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """v1 is told that it was too early, and the session goes on."""

    async def scenario() -> None:
        go = slow_backend(monkeypatch)
        async with voice_process() as url, VoiceClient(url) as client:
            error = await error_after(client, bytes(640))
            assert (error["code"], error["fatal"]) == ("audio_before_ready", False)
            for message in ({"type": "played", "samples": 0}, {"type": "text", "text": "hi"}):
                error = await error_after(client, json.dumps(message))
                assert (error["code"], error["fatal"]) == ("protocol_error", False)
            go.set()
            await client.until(lambda c: c.ready.is_set())
            await alive(client)

    asyncio.run(scenario())


def test_a_stock_client_may_speak_before_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rate is known, so nothing it says is lost, odd byte counts included."""

    async def scenario() -> None:
        go = slow_backend(monkeypatch)
        spoken = speech_like(16_000, 2.0)
        pcm = np.concatenate([spoken, silence(16_000, 1.0)]).tobytes()
        async with voice_process() as url, VoiceClient(url, v1=False) as client:
            pieces = list(cut(pcm, [85]))
            for piece in pieces[:500]:
                await client.ws.send(piece)
            await (await client.ws.ping())  # they have arrived
            go.set()
            for piece in pieces[500:]:
                await client.ws.send(piece)
            await client.until(lambda c: len(c.audio) >= 2.45 * 24_000 * 2)
            heard = np.frombuffer(client.audio, dtype="<i2")
            assert best_match(resampled(spoken, 16_000, 24_000), heard)[0] > 0.99

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_client_leaves_before_ready(
    monkeypatch: pytest.MonkeyPatch, events: list[core.Event], v1: bool
) -> None:
    async def scenario() -> None:
        slow_backend(monkeypatch)  # never
        async with voice_process() as url:
            async with VoiceClient(url, v1=v1) as client:
                await (await client.ws.ping())
            while core.ClientGone(1000, "") not in events:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(scenario(), 30))


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_close_code_is_carried_to_the_session(events: list[core.Event], v1: bool) -> None:
    async def scenario() -> None:
        async with voice_process() as url:
            async with VoiceClient(url, v1=v1) as client:
                await client.until(lambda c: c.ready.is_set())
                await client.ws.close(4001, "off to lunch")
            while not any(isinstance(event, core.ClientGone) for event in events):
                await asyncio.sleep(0.01)
            assert events[-1] == core.ClientGone(4001, "off to lunch")

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_no_hello_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told, and closed with 1008; talking nonsense does not win it time."""
    monkeypatch.setattr(core, "HELLO_TIMEOUT", 0.2)

    async def scenario() -> None:
        async with voice_process() as url, VoiceClient(url, hello=None) as client:
            await ends_with(client, "hello_required", 1008)
        async with voice_process() as url, VoiceClient(url, hello=None) as client:
            for _ in range(20):
                with suppress(websockets.ConnectionClosed):
                    await client.ws.send("{")
                await asyncio.sleep(0.02)
            await ends_with(client, "hello_required", 1008)

    asyncio.run(scenario())


def test_the_hello_timer() -> None:
    """It runs from the start, `hello` stops it, and running out is the end. No clock needed."""
    session = core.Session("id", Dialect.V1)
    assert session.start() == [core.StartTimer("hello", core.HELLO_TIMEOUT)]
    effects = session.handle(core.TimerFired("hello"), core.HELLO_TIMEOUT)
    assert [type(effect) for effect in effects] == [core.Send, core.Close]
    close = effects[-1]
    assert isinstance(close, core.Close)
    assert close.code == 1008
    assert session.handle(core.TimerFired("hello"), 99.0) == []

    session = core.Session("id", Dialect.V1)
    session.start()
    hello = core.wire.Hello("test")
    assert session.handle(hello, 1.0)[0] == core.StopTimer("hello")
    assert core.Session("id", Dialect.STOCK).start()[0] == core.OpenBackend(None)


def test_a_backend_that_never_gets_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "BACKEND_TIMEOUT", 0.2)

    async def scenario() -> None:
        slow_backend(monkeypatch)
        async with voice_process() as url, VoiceClient(url) as client:
            await ends_with(client, "backend_timeout", 1011)
        async with voice_process() as url, VoiceClient(url, v1=False) as client:
            code, reason = await client.closed()
            assert code == 1011
            assert reason

    asyncio.run(scenario())


def test_a_backend_with_a_defect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told without details, which go to the log."""

    async def fail(self: SlowBackend) -> None:
        raise RuntimeError("secret detail")

    async def scenario() -> None:
        monkeypatch.setattr(SlowBackend, "open", fail)
        slow_backend(monkeypatch)
        async with voice_process() as url, VoiceClient(url) as client:
            await ends_with(client, "internal_error", 1011)
            assert "secret" not in json.dumps(client.messages)

    asyncio.run(scenario())
    assert "secret detail" in caplog.text


# Last: after all of the above


def test_nothing_is_left(server: GptmeServer, voice: Baseline) -> None:
    """It is still the first voice process; it has no sessions, and no descriptor more than before.

    Nothing a client did made a stack trace.
    """
    assert wait_until(lambda: sessions(server) == 0)
    assert server.voice_pid() == voice.pid
    assert wait_until(lambda: voice.process().num_fds() <= voice.fds), [
        f"{fd} {os.readlink(f'/proc/{voice.pid}/fd/{fd}')}"
        for fd in os.listdir(f"/proc/{voice.pid}/fd")
    ]
    assert "Traceback" not in server.log()
