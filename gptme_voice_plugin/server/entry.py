"""What is written into a conversation, as it will be there: a turn, or the end of a session.

An entry can be told from all others of its conversation by what its message says of it, and so is
written once, however often it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

__all__ = ["Entry", "Key", "key_of"]

Key = tuple[str, str]
"""What an entry is, and its id among those."""


@dataclass(frozen=True)
class Entry:
    """One message to be.

    Attributes:
        role: Whose it is.
        content: Its text.
        at: Its time.
        call: What is known of it; becomes `voice_call` of its metadata.
        ui_only: Whether it is for pages only: no model reads it.
    """

    role: Literal["user", "assistant", "system"]
    content: str
    at: datetime
    call: Mapping[str, Any]
    ui_only: bool = False

    @property
    def key(self) -> Key:
        """What no other entry of the conversation has."""
        key = key_of(self.call)
        assert key is not None
        return key

    def to_json(self) -> str:
        """Return it as a line of ASCII, without its end."""
        return json.dumps({**vars(self), "at": self.at.isoformat()})

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """Return what `to_json` was called on.

        Raises:
            ValueError: The line is none of its.
        """
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError("no object")
        try:
            entry = cls(**{**values, "at": datetime.fromisoformat(values["at"])})
        except (KeyError, TypeError) as exc:
            raise ValueError("no entry") from exc
        if not isinstance(entry.call, dict) or key_of(entry.call) is None:
            raise ValueError("nothing tells it from others")
        return entry


def key_of(call: object) -> Key | None:
    """Return the key of a message by its `voice_call`; None if it has none of ours."""
    if not isinstance(call, Mapping):
        return None
    known = cast("Mapping[str, Any]", call)
    name = "session" if known.get("kind") == "session" else "turn"
    id = known.get(name)
    return (name, id) if isinstance(id, str) else None
