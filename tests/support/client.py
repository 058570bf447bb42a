"""A voice client to test with: sends PCM, collects what comes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import websockets
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect

SUBPROTOCOL = "gptme.voice.v1"


class VoiceClient:
    """One voice session; use as `async with VoiceClient(server.ws_url, headers) as client`.

    Args:
        url: The WebSocket's address.
        headers: Sent with the handshake.
        v1: Speak `gptme.voice.v1`, and say `hello` at once; otherwise be a stock client.
        hello: More fields of `hello`; None: send none.
        origin: Sent as a browser would.
        open_timeout: How long the handshake may take, in seconds.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        v1: bool = True,
        hello: dict[str, Any] | None = {},  # noqa: B006 - never changed
        origin: str | None = None,
        open_timeout: float = 60.0,
    ) -> None:
        self._open_timeout = open_timeout
        self._url = url
        self._headers = headers or {}
        self._v1 = v1
        self._hello = hello
        self._origin = origin
        self.messages: list[dict[str, Any]] = []
        self.audio = b""
        self.arrivals: list[tuple[float, int]] = []
        """When audio came, by the monotonic clock, and how many bytes."""
        self.ready = asyncio.Event()
        self.changed = asyncio.Event()
        self.ws: ClientConnection
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> VoiceClient:
        self.ws = await connect(
            self._url,
            additional_headers=self._headers,
            origin=self._origin,  # type: ignore[arg-type]
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)] if self._v1 else None,
            open_timeout=self._open_timeout,
            compression=None,
            max_size=None,
        )
        self._reader = asyncio.create_task(self._read())
        if self._v1 and self._hello is not None:
            await self.say("hello", client="test", **self._hello)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ws.close()
        await self._reader

    async def _read(self) -> None:
        try:
            async for frame in self.ws:
                if isinstance(frame, bytes):
                    self.audio += frame
                    self.arrivals.append((time.monotonic(), len(frame)))
                else:
                    message = json.loads(frame)
                    self.messages.append(message)
                    if message["type"] == "ready":
                        self.ready.set()
                    await self.on_message(message)
                self.changed.set()
        except websockets.ConnectionClosed:
            pass
        self.changed.set()

    async def on_message(self, message: dict[str, Any]) -> None:
        """Do what a client does at once when a message comes; for subclasses."""

    async def say(self, type: str, **fields: Any) -> None:
        """Send a JSON message."""
        await self.ws.send(json.dumps({"type": type, **fields}))

    async def speak(
        self, samples: NDArray[np.int16], rate: int = 16_000, frame: int = 320, speed: float = 1.0
    ) -> None:
        """Send audio in frames of `frame` samples, `speed` times as fast as real time."""
        started = time.monotonic()
        for at in range(0, samples.size, frame):
            await self.ws.send(samples[at : at + frame].tobytes())
            ahead = (at + frame) / rate / speed - (time.monotonic() - started)
            if ahead > 0:
                await asyncio.sleep(ahead)

    def of(self, type: str) -> list[dict[str, Any]]:
        """Return the messages of a type so far."""
        return [m for m in self.messages if m["type"] == type]

    async def until(self, condition: Any, seconds: float = 60.0) -> None:
        """Wait until `condition(self)` holds, looking whenever something comes."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            self.changed.clear()
            left = deadline - time.monotonic()
            try:
                await asyncio.wait_for(self.changed.wait(), max(left, 0.01))
            except asyncio.TimeoutError:
                raise AssertionError(
                    f"not in {seconds} s; got {[m['type'] for m in self.messages]}, "
                    f"{len(self.audio)} bytes, close {self.ws.close_code}"
                ) from None

    async def closed(self, seconds: float = 60.0) -> tuple[int | None, str | None]:
        """Wait for the end; return close code and reason."""
        await asyncio.wait_for(asyncio.shield(self._reader), seconds)
        return self.ws.close_code, self.ws.close_reason
