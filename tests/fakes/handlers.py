"""What a client may send, event by event."""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .dialect import Event
from .validate import Problem, invalid

if TYPE_CHECKING:
    from .session import Session

MAX_APPEND_BYTES = 15 * 2**20


@dataclass(frozen=True)
class ClientEvent:
    """What a client sent.

    `at` is the monotonic clock in seconds, `audio_ms` the session's audio clock. In appends the
    audio is replaced by its number of bytes: it is in `session.heard`.
    """

    type: str
    data: dict[str, Any] = field(repr=False)
    at: float
    audio_ms: float
    session: Session = field(repr=False)


class Handlers:
    """Takes the frames of a session's client."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def take(self, frame: str | bytes) -> None:
        """Take one frame; what is wrong with it is answered with an `error` event."""
        event: Any = None
        try:
            if isinstance(frame, bytes):
                self._record("", {"bytes": len(frame)})
                if not self._session.settings.binary_in:
                    raise Problem("invalid_value", "Binary frames are not accepted.")
                await self._hear(frame)
                return
            try:
                event = json.loads(frame)
            except ValueError:
                raise Problem("invalid_json", "The message is not valid JSON.") from None
            if not isinstance(event, dict):
                raise Problem("invalid_json", "The message is not a JSON object.")
            self._record(str(event.get("type")), event)
            self._session.dialect.check(event)
            handler = getattr(self, "_on_" + event["type"].replace(".", "_"), None)
            if handler is None:
                raise invalid("type", event["type"], "what a WebSocket session knows")
            await handler(event)
        except Problem as problem:
            self._session.problems.append(problem)
            event_id = event.get("event_id") if isinstance(event, dict) else None
            self._session.send({"type": "error", "error": problem.to_error(event_id)})

    def _record(self, type: str, data: dict[str, Any]) -> None:
        if isinstance(data.get("audio"), str):
            data = {**data, "audio": f"<{len(data['audio'])} base64 characters>"}
        event = ClientEvent(type, data, time.monotonic(), self._session.audio_ms, self._session)
        self._session.events.append(event)
        self._session.provider.record(event)

    async def _hear(self, pcm: bytes) -> None:
        if self._session.response is not None and not self._session.response.interruptible:
            return
        await self._session.turns.hear(pcm)
        now = self._session.audio_ms
        self._session.check_moments(lambda when: when.audio_ms is not None and now >= when.audio_ms)

    async def _on_session_update(self, event: Event) -> None:
        self._session.config = self._session.dialect.update(
            self._session.config, event["session"], self._session
        )
        self._session.settings = self._session.dialect.settings(self._session.config)
        self._session.turns.configure(self._session.settings)
        self._session.send({"type": "session.updated", "session": self._session.config})

    async def _on_input_audio_buffer_append(self, event: Event) -> None:
        try:
            pcm = base64.b64decode(event["audio"], validate=True)
        except (binascii.Error, ValueError):
            pcm = b"\0"
        if len(pcm) % 2 or len(pcm) > MAX_APPEND_BYTES:
            raise Problem(
                "invalid_value",
                "Invalid 'audio'. Expected base64-encoded audio bytes (mono PCM16) of at most "
                "15 MiB but got invalid bytes.",
                "audio",
            )
        await self._hear(pcm)

    async def _on_input_audio_buffer_commit(self, event: Event) -> None:
        self._session.turns.commit()

    async def _on_input_audio_buffer_clear(self, event: Event) -> None:
        self._session.turns.clear()

    async def _on_conversation_item_create(self, event: Event) -> None:
        if event["item"]["type"] == "force_message":
            content = event["item"]["content"]
            text = "".join(part.get("text", "") for part in content)
            self._session.announcements.append((text, event["item"].get("interruptible", True)))
            self._session.next_announcement()
            return
        item = self._session.conversation.create(event["item"], self._session.settings.input_rate)
        previous = self._session.conversation.add(item, event.get("previous_item_id"))
        if item.type == "function_call_output":
            self._session.outputs[item.fields["call_id"]] = item.fields["output"]
        self._session.item_added(item, previous)
        self._session.item_done(item)

    async def _on_conversation_item_retrieve(self, event: Event) -> None:
        item = self._session.conversation.find(event["item_id"])
        if item is None or not self._session.dialect.can_retrieve:
            raise Problem(
                "item_retrieve_invalid_item_id", f"No item '{event['item_id']}'.", "item_id"
            )
        self._session.send(
            {"type": "conversation.item.retrieved", "item": item.public(with_audio=True)}
        )

    async def _on_conversation_item_truncate(self, event: Event) -> None:
        if not self._session.dialect.can_truncate:
            raise invalid("type", event["type"], "what this provider knows")
        self._session.conversation.truncate(
            event["item_id"], event["content_index"], event["audio_end_ms"]
        )
        shown = {k: event[k] for k in ("type", "item_id", "content_index", "audio_end_ms")}
        self._session.send({**shown, "type": "conversation.item.truncated"})

    async def _on_conversation_item_delete(self, event: Event) -> None:
        self._session.conversation.delete(event["item_id"])
        self._session.send({"type": "conversation.item.deleted", "item_id": event["item_id"]})

    async def _on_response_create(self, event: Event) -> None:
        self._session.respond(event.get("response") or {}, by_client=True)

    async def _on_response_cancel(self, event: Event) -> None:
        wanted = event.get("response_id")
        if self._session.response is None or wanted not in (None, self._session.response.id):
            self._session.refuse_cancel(event)
            return
        await self._session.interrupt("client_cancelled")
