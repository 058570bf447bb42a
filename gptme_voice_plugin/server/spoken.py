"""What a spoken turn is, and what it looks like in a conversation's log.

It is written as gptme's own parts, a page's markdown and a text model will read it later: as plain
words. What only looks like a tool call, a block of code or hidden thoughts was said, not meant, and
must neither be run nor swallow what stands behind it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..errors import BadTurns
from . import parsing
from .entry import Entry

__all__ = ["MAX_TEXT", "MAX_TURNS", "Turn", "interrupted", "parse_turns"]

MAX_TURNS = 100
MAX_TEXT = 100_000
"""Characters of a turn, whether heard or not."""

_KINDS = ("spoken", "typed", "task")

_INTERRUPTED = " \u2014 *interrupted*"
_NOTHING_HEARD = "*interrupted before any of it was heard*"
_NOT_HEARD = "Not heard: "

# What gptme's parsers or the web UI's renderer take for more than words: fences and formulas, which
# run on until they are closed; gptme's native call at the start of a line; its tags.
_FENCE = re.compile(r"`{3,}|~{3,}|\${2,}")
_CALL = re.compile(r"^@", re.MULTILINE)
_TAG = re.compile(r"<(?=\s*/?\s*(?:think|tool-use|function_calls|invoke))", re.IGNORECASE)
_UNFINISHED = re.compile(r"[\\\[]|\$(?!\d)")
_INSTEAD = {"`": "'", "~": "-", "$": "$ "}
# What gptme takes for a command, if it answers through an agent of its own (`use_acp`).
_COMMAND = re.compile(r"\A/")
_BLOCK_ENDS = re.compile(r"(?:`{3}|~{3}|\||\${2}|\\\]|</\w+>|-->)\Z")
_LINE_END = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")


@dataclass(frozen=True)
class Turn:
    """One turn, validated.

    Attributes:
        id: Unique in its conversation.
        role: Who spoke.
        text: What was said, or of an interrupted reply what of it was heard.
        unheard: The rest of an interrupted reply.
        spoken_at: When it began.
        kind: How it came: spoken, typed, or a task that the voice model gave to gptme.
        details: `session`, `backend`, `model`, `seconds`, `usage`, as far as they are known.
    """

    id: str
    role: Literal["user", "assistant"]
    text: str
    unheard: str
    spoken_at: datetime
    kind: str = "spoken"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """The text of its message."""
        return interrupted(self._heard, self.unheard) if self.unheard else self._heard

    @property
    def metadata(self) -> dict[str, Any]:
        """What its message's `voice_call` says: texts, numbers and tables, never null or a bool.

        `gptme edit` writes metadata as TOML, and could write neither. `model` and `usage` are in
        here because beside it gptme would take them for the conversation's own.
        """
        said = {"turn": self.id, "spoken_at": self.spoken_at.isoformat(), **self.details}
        if self.kind != "spoken":
            said["kind"] = self.kind
        return {**said, "heard_chars": len(self._heard)} if self.unheard else said

    @property
    def entry(self) -> Entry:
        """What is written of it."""
        return Entry(self.role, self.content, self.spoken_at, self.metadata)

    @property
    def _heard(self) -> str:
        words = _words(self.text)
        # What was cut off in the middle of a link or a formula would never be closed.
        words = _UNFINISHED.sub(r"\\\g<0>", words) if self.unheard else words
        return _COMMAND.sub(r"\/", words)


def interrupted(heard: str, unheard: str) -> str:
    """Return the text of a reply that the listener has stopped.

    It ends there, with a mark. The rest follows as a quotation: a page sets it apart, a text model
    reads what it is, and it ends with the message.

    Args:
        heard: The first part, as it is to be written.
        unheard: The rest, as it was made.
    """
    heard = heard.rstrip()
    # Behind a block of code, say, the mark would be part of it.
    mark = f"\n\n{_INTERRUPTED.strip()}" if _BLOCK_ENDS.search(heard) else _INTERRUPTED
    text = heard + mark if heard else _NOTHING_HEARD
    rest = _words(unheard)
    if not rest:
        return text
    quotation = "\n".join(f"> {line}".rstrip() for line in (_NOT_HEARD + rest).split("\n"))
    return f"{text}\n\n{quotation}"


def parse_turns(body: object) -> list[Turn]:
    """Return the turns of a request's JSON.

    Raises:
        BadTurns: One of them, or the request, is wrong.
    """
    turns = body.get("turns") if isinstance(body, dict) else None
    if not isinstance(turns, list) or not 1 <= len(turns) <= MAX_TURNS:
        raise BadTurns(f'The request must be JSON like {{"turns": […]}}, with 1 to {MAX_TURNS}.')
    parsed = [_turn(f"turns[{index}]", turn) for index, turn in enumerate(turns)]
    if len({turn.id for turn in parsed}) < len(parsed):
        raise BadTurns("Two turns have the same id.")
    return parsed


def _turn(at: str, turn: object) -> Turn:
    if not isinstance(turn, dict):
        raise BadTurns(f"{at} must be an object.")
    id = parsing.identifier(f"{at}.id", turn.get("id"))
    role = turn.get("role")
    if role != "user" and role != "assistant":
        raise BadTurns(f"{at}.role must be user or assistant.")
    text = parsing.text(f"{at}.text", turn.get("text"))
    unheard = turn.get("unheard")
    unheard = "" if unheard is None else parsing.text(f"{at}.unheard", unheard)
    if len(text) + len(unheard) > MAX_TEXT:
        raise BadTurns(f"{at} must not have more than {MAX_TEXT} characters.")
    if unheard and role == "user":
        raise BadTurns(f"{at}.unheard is for replies only.")
    if not text and not unheard:
        raise BadTurns(f"{at}.text must have words in it.")
    kind = turn.get("kind")
    if kind is not None and kind not in _KINDS:
        raise BadTurns(f"{at}.kind must be one of {', '.join(_KINDS)}.")
    return Turn(
        id=id,
        role=role,
        text=text,
        unheard=unheard,
        spoken_at=parsing.moment(f"{at}.spoken_at", turn.get("spoken_at")),
        kind=kind or "spoken",
        details=parsing.details(f"{at}.metadata", turn.get("metadata")),
    )


def _words(text: str) -> str:
    """Return `text` such that nothing in it is more than words to whoever reads the log."""
    text = _LINE_END.sub("\n", text)
    text = _FENCE.sub(lambda found: _INSTEAD[found[0][0]] * len(found[0]), text)
    return _TAG.sub("\u2039", _CALL.sub(r"\\@", text)).strip()
