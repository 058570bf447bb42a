"""What leaves the provider: one writer per connection, which keeps the order and makes the faults.

The session never waits for a slow reader here; as with a real provider, what is not read yet piles
up on this side.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from .conversation import new_id
from .faults import Close, Faults

AUDIO_DELTA = "response.output_audio.delta"
_BETA_NAMES = {
    "response.output_audio.": "response.audio.",
    "response.output_audio_transcript.": "response.audio_transcript.",
    "response.output_text.": "response.text.",
}
_BETA_KINDS = {"output_audio": "audio", "output_text": "text"}


@dataclass(frozen=True)
class Sent:
    """Something that was written to the socket, `at` the monotonic clock in seconds.

    In `data` the audio is replaced by its number of bytes.
    """

    type: str
    data: dict[str, Any]
    at: float


class Outbox:
    """Sends events in order.

    Args:
        ws: The connection.
        faults: What goes wrong on it.
    """

    def __init__(self, ws: ServerConnection, faults: Faults) -> None:
        self._ws = ws
        self._faults = faults
        self._queue: asyncio.Queue[dict[str, Any] | str | bytes | Close] = asyncio.Queue()
        self._deltas = 0
        self._written = 0
        self.sent: list[Sent] = []
        self.on_delta: Callable[[int], None] = lambda count: None
        """Called after an audio delta was written, with how many there were."""

    def put(self, event: dict[str, Any]) -> None:
        """Send an event; its `event_id` is added."""
        faults = self._faults
        type = event["type"]
        if type in faults.drop:
            return
        event = {"event_id": new_id("event"), **copy.deepcopy(event)}
        if type == "error" and faults.string_errors:
            event["error"] = event["error"]["message"]
        delay = faults.delay_ms.get(type, 0)
        for _ in range(2 if type in faults.duplicate else 1):
            if delay:
                asyncio.get_running_loop().call_later(delay / 1000, self._queue.put_nowait, event)
            else:
                self._queue.put_nowait(event)

    def put_raw(self, frame: str | bytes) -> None:
        """Send a frame as it is; bytes are audio."""
        self._queue.put_nowait(frame)

    def put_close(self, close: Close) -> None:
        """End the connection after what was put before."""
        self._queue.put_nowait(close)

    async def run(self) -> None:
        """Write until the connection ends."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                out = await self._queue.get()
                if isinstance(out, Close):
                    await self.close(out)
                    return
                await self._write(out)

    async def close(self, close: Close) -> None:
        """End the connection now."""
        with contextlib.suppress(ConnectionClosed):
            if close.error is not None:
                await self._write(
                    {"type": "error", "event_id": new_id("event"), "error": dict(close.error)}
                )
            if close.code == 1006:
                self._ws.transport.abort()
            else:
                await self._ws.close(close.code, close.reason)

    async def _write(self, out: dict[str, Any] | str | bytes) -> None:
        delta = isinstance(out, bytes)
        if isinstance(out, dict):
            delta = out["type"] == AUDIO_DELTA
            event: dict[str, Any] | None = _as_beta(out) if self._faults.beta_names else out
            if event is None:
                return
            await self._ws.send(json.dumps(event))
            self.sent.append(Sent(event["type"], _without_audio(event), time.monotonic()))
        else:
            await self._ws.send(out)
            self.sent.append(Sent("", {"bytes": len(out)}, time.monotonic()))
        self._written += 1
        if self._faults.junk_every and self._written % self._faults.junk_every == 0:
            junk = self._faults.junk
            await self._ws.send(junk[self._written // self._faults.junk_every % len(junk)])
        if delta:
            self._deltas += 1
            self.on_delta(self._deltas)
            close = self._faults.close
            if close is not None and close.when.deltas == self._deltas:
                await self.close(close)


def _as_beta(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return the event under the names of the beta; None: it had none such."""
    event = copy.deepcopy(event)
    type: str = event["type"]
    if type == "conversation.item.done":
        return None
    if type == "conversation.item.added":
        type = "conversation.item.created"
    for name, beta in _BETA_NAMES.items():
        if type.startswith(name):
            type = beta + type[len(name) :]
    items = [event.get("item"), *(event.get("response") or {}).get("output", [])]
    for item in items:
        for part in (item or {}).get("content", []):
            part["type"] = _BETA_KINDS.get(part["type"], part["type"])
    return {**event, "type": type}


def _without_audio(event: dict[str, Any]) -> dict[str, Any]:
    if event["type"].endswith("audio.delta"):
        return {**event, "delta": f"<{len(event['delta'])} base64 characters>"}
    return event
