"""Clients for the tests of the fakes: the official one, and a bare WebSocket."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from openai import AsyncOpenAI
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.speech import Samples, silence, speech_like

from .conversation import to_samples
from .validate import check_server_event

CHUNK_MS = 40
SECONDS = 90.0


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let pytest run a coroutine function."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), SECONDS))

    return run


def a_turn(rate: int = 24_000, seconds: float = 1.0, after: float = 0.8, seed: int = 1) -> Samples:
    """Return something said and the silence that ends it."""
    return np.concatenate([speech_like(rate, seconds, seed), silence(rate, after)])


class Peer:
    """What a client has got; `send` takes any event, `receive` returns the next frame."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send = send
        self._receive = receive
        self.events: list[dict[str, Any]] = []
        self.audio = b""
        self.close: tuple[int | None, str] | None = None
        self._changed = asyncio.Event()

    async def send(self, type: str, **fields: Any) -> None:
        """Send an event."""
        await self._send({"type": type, **fields})

    async def read(self) -> None:
        """Collect until the connection ends."""
        try:
            while True:
                self._take(await self._receive())
                self._changed.set()
        except ConnectionClosed as ended:
            self.close = (ended.rcvd.code, ended.rcvd.reason) if ended.rcvd else (1006, "")
            self._changed.set()

    def _take(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self.audio += frame
            self.events.append({"type": "(binary)", "bytes": frame})
            return
        try:
            event = json.loads(frame)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"type": "(junk)", "frame": frame}
        self.events.append(event)
        if event.get("type") in ("response.output_audio.delta", "response.audio.delta"):
            self.audio += base64.b64decode(event["delta"])

    async def say(self, samples: Samples, rate: int = 24_000) -> None:
        """Append audio, much faster than real time."""
        step = rate * CHUNK_MS // 1000
        for at in range(0, samples.size, step):
            audio = base64.b64encode(samples[at : at + step].astype("<i2").tobytes()).decode()
            await self.send("input_audio_buffer.append", audio=audio)

    async def until(self, type: str, count: int = 1, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the `count`-th event of a type; `(close)` waits for the end."""
        try:
            return await asyncio.wait_for(self._until(type, count), seconds)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {type} number {count} in {self.types()}") from None

    async def _until(self, type: str, count: int) -> dict[str, Any]:
        while len(self.of(type)) < count and not (type == "(close)" and self.close):
            if self.close and type != "(close)":
                raise AssertionError(f"closed with {self.close} before {type}: {self.types()}")
            self._changed.clear()
            await self._changed.wait()
        return {} if type == "(close)" else self.of(type)[count - 1]

    def of(self, type: str) -> list[dict[str, Any]]:
        """Return the events of a type."""
        return [e for e in self.events if e.get("type") == type]

    def types(self, collapse: bool = True) -> list[Any]:
        """Return the types in order; `collapse` leaves out repetitions in a row."""
        types = [e.get("type") for e in self.events]
        return [t for i, t in enumerate(types) if not collapse or i == 0 or t != types[i - 1]]

    @property
    def samples(self) -> Samples:
        """The audio that has come."""
        return to_samples(self.audio)


@asynccontextmanager
async def official(fake: Any, model: str = "gpt-realtime-2.1", **options: Any) -> Any:
    """Connect with the official client; every event passes through its types, strictly."""
    client = AsyncOpenAI(api_key="test", websocket_base_url=fake.ws_url, base_url=fake.url)
    adapter: Any = TypeAdapter(RealtimeServerEvent)
    async with client, client.realtime.connect(model=model, **options) as connection:

        async def receive() -> str:
            text = (await connection.recv_bytes()).decode()
            event = json.loads(text)
            adapter.validate_python(event)
            check_server_event(event)
            return text

        peer = Peer(connection.send, receive)
        reading = asyncio.create_task(peer.read())
        try:
            yield peer
        finally:
            await connection.close()
            await reading


@asynccontextmanager
async def bare(
    fake: Any,
    query: str = "?model=fake",
    key: str = "test",
    path: str = "/realtime",
    **headers: str,
) -> Any:
    """Connect with a plain WebSocket."""
    auth = {"Authorization": f"Bearer {key}"} if key else {}
    async with connect(
        f"{fake.ws_url}{path}{query}",
        additional_headers={**auth, **{k.replace("_", "-"): v for k, v in headers.items()}},
        max_size=None,
        compression=None,
    ) as ws:

        async def send(event: dict[str, Any]) -> None:
            await ws.send(json.dumps(event))

        peer = Peer(send, ws.recv)
        peer.ws = ws  # type: ignore[attr-defined]
        reading = asyncio.create_task(peer.read())
        try:
            yield peer
        finally:
            await ws.close()
            await reading
