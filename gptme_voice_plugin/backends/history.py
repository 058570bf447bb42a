"""What was said in a conversation with a realtime provider, in the order of its items.

Transcripts arrive in any order, the user's often after the reply it got; items have a place from
the moment they are announced. The history is what a new connection is told after the old one broke.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .base import Role

__all__ = ["History", "Turn", "heard_text"]

MAX_TURNS = 300
"""Older turns are forgotten, here and so in a conversation that is taken up again."""


@dataclass
class Turn:
    """One item of the conversation: what one side said, or what the model was told."""

    item_id: str
    role: Role
    text: str = ""
    final: bool = False
    """Whether the text is complete."""
    audio_bytes: int = 0
    """Reply audio that has come so far."""


def heard_text(text: str, heard_ms: int, total_ms: int) -> str:
    """Return the words of `text` that were heard, judged by the share of its audio that was."""
    if total_ms <= 0 or heard_ms <= 0:
        return ""
    if heard_ms >= total_ms:
        return text
    end = len(text) * heard_ms // total_ms
    # The word being spoken when it was cut was not heard as one.
    while end and not (text[end].isspace() or text[end - 1].isspace() or _is_word(text[end - 1])):
        end -= 1
    return text[:end].rstrip()


def _is_word(character: str) -> bool:
    """Whether it is of a script that is written without spaces, such as Chinese."""
    return unicodedata.east_asian_width(character) == "W"


class History:
    """The turns of a conversation, by item."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._turns)

    def get(self, item_id: str) -> Turn | None:
        """Return the turn of an item, if it has one."""
        return next((turn for turn in self._turns if turn.item_id == item_id), None)

    def place(self, item_id: str, role: Role, after: str | None = None) -> Turn:
        """Return the turn of an item; a new one comes after the item `after`, or last."""
        turn = self.get(item_id)
        if turn is None:
            turn = Turn(item_id, role)
            positions = [i for i, t in enumerate(self._turns) if after and t.item_id == after]
            self._turns.insert(positions[0] + 1 if positions else len(self._turns), turn)
            del self._turns[:-MAX_TURNS]
        return turn

    def remove(self, item_id: str) -> None:
        """Forget an item."""
        self._turns = [turn for turn in self._turns if turn.item_id != item_id]

    def replay(self) -> list[dict[str, Any]]:
        """Return the conversation as the client events that tell it to a new session, as text."""
        kinds = {"user": "input_text", "assistant": "output_text", "system": "input_text"}
        return [
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": turn.role,
                    "content": [{"type": kinds[turn.role], "text": turn.text}],
                },
            }
            for turn in self._turns
            if turn.text.strip()
        ]
