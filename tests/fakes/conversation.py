"""The items of a conversation as the provider keeps them, and the rules for changing them."""

from __future__ import annotations

import base64
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.support.speech import Samples

from .validate import Problem, invalid, missing, unknown

MAX_ID_CHARS = 32
_TEXT_KINDS = {
    "user": ("input_text", "input_audio", "input_image"),
    "system": ("input_text",),
    "assistant": ("output_text",),
}
_counter = itertools.count(1)


def new_id(prefix: str) -> str:
    """Return an id that is unlike any other, also after a restart."""
    return f"{prefix}_{secrets.token_hex(4)}{next(_counter):05d}"


@dataclass
class Item:
    """One item.

    `audio` is what is stored of it, int16 as bytes at `rate`; truncation shortens it and empties
    `transcript`. `generated_ms` is how long it was before. `text` is for content that is not sound.
    """

    id: str
    type: str = "message"
    role: str | None = None
    status: str = "completed"
    kind: str = ""
    text: str = ""
    transcript: str | None = None
    audio: bytes = b""
    rate: int = 24_000
    truncated_ms: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def audio_ms(self) -> float:
        """How long the stored audio is."""
        return len(self.audio) / 2 * 1000 / self.rate

    @property
    def words(self) -> str:
        """What is said or written in it."""
        return self.transcript or self.text

    def public(self, with_audio: bool = False) -> dict[str, Any]:
        """Return it as in an event; audio only on `retrieve`."""
        shown: dict[str, Any] = {"id": self.id, "object": "realtime.item", "type": self.type}
        shown["status"] = self.status
        if self.type != "message":
            return {**shown, **self.fields}
        shown["role"] = self.role
        shown["content"] = []
        if self.kind in ("input_audio", "output_audio"):
            part: dict[str, Any] = {"type": self.kind, "transcript": self.transcript}
            if with_audio:
                part["audio"] = base64.b64encode(self.audio).decode()
            shown["content"] = [part]
        elif self.kind:
            shown["content"] = [{"type": self.kind, "text": self.text}]
        return shown


class Conversation:
    """All items in order, what was deleted, and which calls wait for their outputs."""

    def __init__(self) -> None:
        self.id = new_id("conv")
        self.items: list[Item] = []
        self.deleted: list[Item] = []
        self.audio_spoken = False
        """Whether the assistant has spoken; its voice is fixed from then on."""

    def find(self, item_id: str) -> Item | None:
        """Return the item with that id."""
        return next((i for i in self.items if i.id == item_id), None)

    def add(self, item: Item, previous_id: str | None = None) -> str | None:
        """Put an item in; return the id of the one before it.

        Args:
            item: The new item.
            previous_id: Where: `root` is the front, None the end.
        """
        at = len(self.items)
        if previous_id == "root":
            at = 0
        elif previous_id is not None:
            at = next((i + 1 for i, x in enumerate(self.items) if x.id == previous_id), -1)
            if at < 0:
                raise Problem(
                    "item_create_invalid_previous_item_id",
                    f"Error creating item: the previous item '{previous_id}' does not exist.",
                    "previous_item_id",
                )
        self.items.insert(at, item)
        return self.items[at - 1].id if at else None

    def create(self, data: dict[str, Any], rate: int) -> Item:
        """Make an item of what a client sent; it is not added yet. `rate` is the input's."""
        item_id = data.get("id") or new_id("item")
        if len(item_id) > MAX_ID_CHARS:
            raise Problem(
                "string_above_max_length",
                f"Invalid 'item.id': string too long. Expected at most {MAX_ID_CHARS} characters, "
                f"but got {len(item_id)}.",
                "item.id",
            )
        if self.find(item_id):
            raise Problem(
                "item_create_duplicate_item_id",
                f"Error creating item: an item with id '{item_id}' exists.",
                "item.id",
            )
        item = Item(item_id, data["type"], data.get("role"), rate=rate)
        if item.type == "message":
            self._fill(item, data["content"])
        elif item.type == "function_call_output":
            calls = {i.fields["call_id"] for i in self.items if i.type == "function_call"}
            if data["call_id"] not in calls:
                raise Problem(
                    "invalid_tool_call_id",
                    f"Tool call ID '{data['call_id']}' not found in conversation.",
                    "item.call_id",
                )
            item.fields = {k: data[k] for k in ("call_id", "output")}
        elif item.type == "function_call":
            item.fields = {k: data.get(k) for k in ("call_id", "name", "arguments")}
            item.fields["call_id"] = item.fields["call_id"] or new_id("call")
        else:
            raise invalid("item.type", item.type, "what this fake knows")
        return item

    def _fill(self, item: Item, content: list[dict[str, Any]]) -> None:
        allowed = _TEXT_KINDS[item.role or ""]
        for i, part in enumerate(content):
            path = f"item.content[{i}]"
            kind = part.get("type")
            if kind is None:
                raise missing(f"{path}.type")
            if kind not in allowed:
                raise invalid(f"{path}.type", kind, allowed)
            wanted = {"input_audio": "audio", "input_image": "image_url"}.get(kind, "text")
            if part.get(wanted) is None:
                raise missing(f"{path}.{wanted}")
            if wanted == "text" and "audio" in part:
                raise unknown(f"{path}.audio")
            item.kind = kind
            item.text += part.get("text") or ""
            if kind == "input_audio":
                item.audio += base64.b64decode(part["audio"])
                item.transcript = part.get("transcript")

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> Item:
        """Cut the audio of an assistant's item and forget its transcript."""
        item = self.find(item_id)
        if item is None:
            raise Problem(
                "item_truncate_invalid_item_id",
                f"Error truncating item: the item with id '{item_id}' does not exist.",
                "item_id",
            )
        if item.role != "assistant" or item.kind != "output_audio" or not item.audio:
            raise Problem(
                "unsupported_content_type",
                "Only model output audio messages can be truncated",
                "item_id",
            )
        if content_index != 0:
            raise invalid("content_index", content_index, [0])
        if audio_end_ms < 0:
            raise Problem(
                "integer_below_min_value",
                f"Invalid 'audio_end_ms': integer below minimum value. Got {audio_end_ms}.",
                "audio_end_ms",
            )
        if audio_end_ms > item.audio_ms:
            raise Problem(
                "invalid_value",
                f"Audio content of {int(item.audio_ms)}ms is already shorter than {audio_end_ms}ms",
                "audio_end_ms",
            )
        item.audio = item.audio[: int(audio_end_ms * item.rate / 1000) * 2]
        item.transcript = ""
        item.truncated_ms = audio_end_ms
        return item

    def delete(self, item_id: str) -> None:
        """Remove an item."""
        item = self.find(item_id)
        if item is None:
            raise Problem(
                "item_delete_invalid_item_id",
                f"Error deleting item: the item with id '{item_id}' does not exist.",
                "item_id",
            )
        self.items.remove(item)
        self.deleted.append(item)

    @property
    def unanswered_calls(self) -> list[str]:
        """Call ids for which no output has come."""
        outputs = {i.fields["call_id"] for i in self.items if i.type == "function_call_output"}
        return [
            i.fields["call_id"]
            for i in self.items
            if i.type == "function_call" and i.fields["call_id"] not in outputs
        ]

    def last_user(self) -> Item | None:
        """Return the newest item of the user."""
        return next((i for i in reversed(self.items) if i.role == "user"), None)


def to_bytes(samples: Samples) -> bytes:
    """Return int16 samples as little-endian bytes."""
    return samples.astype("<i2").tobytes()


def to_samples(pcm: bytes) -> Samples:
    """Return little-endian int16 bytes as samples."""
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.int16)
