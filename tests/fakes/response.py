"""One response: the ladder of events from `response.created` to `response.done`."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .conversation import Item, new_id, to_bytes
from .script import FunctionCall, Reply, words
from .usage import usage_of
from .wire import AUDIO_DELTA

if TYPE_CHECKING:
    from .session import Session


class Response:
    """Speaks a `Reply` into a session.

    Args:
        session: Where it is spoken.
        reply: What is said.
        params: The `response` of the client's `response.create`.
    """

    def __init__(self, session: Session, reply: Reply, params: dict[str, Any]) -> None:
        self.id = new_id("resp")
        self.reply = reply
        self.status = "in_progress"
        self.reason: str | None = None
        self.items: list[Item] = []
        self.interruptible = True
        self.in_conversation = params.get("conversation", "auto") != "none"
        self._session = session
        self._params = params
        self._stop = asyncio.Event()
        self._settings = session.settings  # changes apply to the next response
        self._modalities = params.get("output_modalities") or list(self._settings.modalities)
        self._pending: Iterator[bytes] = iter(())

    def stop(self, reason: str) -> None:
        """Cancel it: `turn_detected` or `client_cancelled`."""
        if self.reason is None:
            self.reason = reason
            self._stop.set()

    @property
    def audio_ms(self) -> float:
        """How much audio it has made."""
        return sum(item.audio_ms for item in self.items)

    async def run(self) -> None:
        """Send everything."""
        session, reply = self._session, self.reply
        session.send({"type": "response.created", "response": self._public()})
        await self._pause(session.provider.latency_ms / 1000)
        if reply.status != "failed":
            steps: list[FunctionCall | str] = [*reply.calls]
            if reply.text is not None:
                steps.insert(0 if not reply.calls_first else len(steps), reply.text)
            for step in steps:
                if self._stop.is_set():
                    break
                if isinstance(step, FunctionCall):
                    await self._call(step)
                else:
                    await self._say(step)
        self._finish()

    def _finish(self) -> None:
        session = self._session
        self.status = "cancelled" if self.reason else self.reply.status
        session.response_ended(self)
        usage = usage_of(session.conversation, self)
        done: dict[str, Any] = {"type": "response.done", "response": self._public()}
        if session.dialect.usage_place == "response":
            done["response"]["usage"] = usage
        elif session.dialect.usage_place == "top":
            done["usage"] = usage
        session.send(done)
        if session.dialect.rate_limits:
            session.send_rate_limits(usage["total_tokens"])
        session.turns.tell("after")
        for _, chunk in zip(range(session.faults.late_deltas), self._pending, strict=False):
            if self.reason:
                self._send_audio(self.items[-1], chunk)
        session.next_announcement()

    def _public(self) -> dict[str, Any]:
        details: dict[str, Any] | None = None
        if self.status not in ("in_progress", "completed"):
            reason = self.reason or self.reply.reason
            details = {"type": self.status}
            if reason:
                details["reason"] = reason
            if self.reply.error and self.status == "failed":
                details["error"] = dict(self.reply.error)
        ended = self.status != "in_progress"
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": self.status,
            "status_details": details,
            "output": [item.public() for item in self.items] if ended else [],
            "conversation_id": self._session.conversation.id if self.in_conversation else None,
            "output_modalities": self._modalities,
            "max_output_tokens": self._params.get("max_output_tokens", "inf"),
            "metadata": self._params.get("metadata"),
            "usage": None,
        }

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until it is cancelled."""
        if seconds <= 0:
            await asyncio.sleep(0)  # so that others get their turn, also in the fastest mode
            return
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except asyncio.TimeoutError:
            return

    # The item's events -------------------------------------------------------------------------

    def _begin(self, item: Item) -> dict[str, Any]:
        session = self._session
        item.status = "in_progress"
        index = len(self.items)
        self.items.append(item)
        session.send(
            {
                "type": "response.output_item.added",
                "response_id": self.id,
                "output_index": index,
                "item": item.public() | ({"content": []} if item.type == "message" else {}),
            }
        )
        if self.in_conversation:
            session.add_item(item)
        return {"response_id": self.id, "item_id": item.id, "output_index": index}

    def _end(self, item: Item, ids: dict[str, Any]) -> None:
        session = self._session
        cut = self._stop.is_set() or self.reply.status == "incomplete"
        item.status = "incomplete" if cut else "completed"
        if self.in_conversation:
            session.item_done(item)
        session.send(
            {
                "type": "response.output_item.done",
                "response_id": self.id,
                "output_index": ids["output_index"],
                "item": item.public(),
            }
        )

    async def _say(self, text: str) -> None:
        session = self._session
        spoken = "audio" in self._modalities
        kind = "output_audio" if spoken else "output_text"
        rate = self._settings.output_rate
        item = Item(new_id("item"), role="assistant", kind=kind, rate=rate)
        if spoken:
            item.transcript = ""
        ids = self._begin(item)
        at = {**ids, "content_index": 0}
        part = {"type": "audio", "transcript": ""} if spoken else {"type": "text", "text": ""}
        session.send({"type": "response.content_part.added", **at, "part": part})
        if spoken:
            session.conversation.audio_spoken = True
            await self._stream_audio(item, at, text)
            session.send({"type": "response.output_audio.done", **at})
            done = {"type": "response.output_audio_transcript.done", **at}
            if session.dialect.transcript_in_done:
                done["transcript"] = item.transcript
            session.send(done)
            part = {"type": "audio", "transcript": item.transcript or ""}
        else:
            await self._stream_text(item, at, text)
            session.send({"type": "response.output_text.done", **at, "text": item.text})
            part = {"type": "text", "text": item.text}
        session.send({"type": "response.content_part.done", **at, "part": part})
        self._end(item, ids)

    async def _stream_audio(self, item: Item, at: dict[str, Any], text: str) -> None:
        session, speed = self._session, self._session.provider.speed
        pcm = to_bytes(self.reply.samples(item.rate))
        chunks = list(self._chunks(pcm, item.rate))
        pieces, told = words(text), 0
        started, sent = time.monotonic(), 0
        self._pending = iter(chunks)
        for number, chunk in enumerate(self._pending, 1):
            await self._pause(started + sent / 2 / item.rate / speed - time.monotonic())
            if self._stop.is_set():
                break
            # The transcript runs a little ahead of the sound, as it does in reality.
            upto = -(-number * len(pieces) // len(chunks))
            self._tell(item, at, "".join(pieces[told:upto]))
            told = upto
            item.audio += chunk
            sent += len(chunk)
            self._send_audio(item, chunk)
            if number == (len(chunks) + 1) // 2:
                session.turns.tell("during")
        if not chunks:
            self._tell(item, at, text)

    def _chunks(self, pcm: bytes, rate: int) -> Iterator[bytes]:
        faults = self._session.faults
        if faults.one_delta:
            yield pcm
            return
        lengths = self._session.provider.delta_ms
        start, number = 0, 0
        while start < len(pcm):
            end = start + int(lengths[number % len(lengths)] * rate / 1000) * 2
            end = end // 2 * 2 + (1 if faults.odd_audio and number % 2 == 0 else 0)
            yield pcm[start:end]
            start, number = end, number + 1

    def _send_audio(self, item: Item, chunk: bytes) -> None:
        if self._settings.binary_out:
            self._session.outbox.put_raw(chunk)
            return
        event = {
            "type": AUDIO_DELTA,
            "response_id": self.id,
            "item_id": item.id,
            "output_index": self.items.index(item),
            "content_index": 0,
            "delta": base64.b64encode(chunk).decode(),
        }
        if self._session.dialect.bare_events:
            del event["output_index"]
        self._session.send(event)

    def _tell(self, item: Item, at: dict[str, Any], piece: str) -> None:
        if piece:
            item.transcript = (item.transcript or "") + piece
            self._session.send(
                {"type": "response.output_audio_transcript.delta", **at, "delta": piece}
            )

    async def _stream_text(self, item: Item, at: dict[str, Any], text: str) -> None:
        for piece in words(text):
            await self._pause(0)
            if self._stop.is_set():
                return
            item.text += piece
            self._session.send({"type": "response.output_text.delta", **at, "delta": piece})
            if self._session.dialect.duplicate_text:
                self._session.send({"type": "response.text.delta", **at, "delta": piece})

    async def _call(self, call: FunctionCall) -> None:
        session = self._session
        fields = {"call_id": call.call_id or new_id("call"), "name": call.name, "arguments": ""}
        item = Item(new_id("item"), "function_call", fields=fields)
        ids = self._begin(item)
        for start in range(0, len(call.arguments), call.delta_chars):
            await self._pause(call.delay_ms / 1000)
            if self._stop.is_set():
                break
            piece = call.arguments[start : start + call.delta_chars]
            fields["arguments"] += piece
            session.send(
                {
                    "type": "response.function_call_arguments.delta",
                    **ids,
                    "call_id": fields["call_id"],
                    "delta": piece,
                }
            )
        shown = {} if session.dialect.bare_events else ids
        session.send({"type": "response.function_call_arguments.done", **shown, **fields})
        self._end(item, ids)
