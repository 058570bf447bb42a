"""An answer that gptme has written itself, of which only a part was heard: it ends there.

It is then written as a reply of a speech model would be, see `spoken.py`. But what was heard of it
stays word for word as it was: it is gptme's own Markdown, and is cut where nothing of that stays
open. All functions are pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import characters
from ..errors import BadTurns
from . import parsing
from .entry import key_of
from .spoken import MAX_TEXT, interrupted

if TYPE_CHECKING:
    from gptme.message import Message

__all__ = ["Heard", "parse_heard"]

_STOPPED = " [INTERRUPTED]"
"""What gptme 0.34 writes behind an answer that was interrupted while the model was at it."""

# What is not cut in two: the mark and the quotation behind it would become part of it, and half of
# it is of no use.
_UNITS = re.compile(
    "|".join(
        (
            r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*(?:\n.*?(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)|\Z)",
            r"^[ \t]*\|[^\n]*(?:\n[ \t]*\|[^\n]*)*",
            r"^@[^\s(]+\([\w\-:.]+\):.*\Z",
            r"<(?P<tag>think|thinking|tool-use|function_calls)>.*?(?:</(?P=tag)>|\Z)",
            r"(?P<ticks>`+)[^`\n]+(?P=ticks)",
            r"\$\$.*?(?:\$\$|\Z)",
            r"\\\[.*?(?:\\\]|\Z)",
            r"\\\([^\n]*?(?:\\\)|\Z)",
            r"\$[^\s$\d][^$\n]*\$",
            r"!?\[[^\]\n]*(?:\](?:\([^)\n]*(?:\)|\Z))?|\Z)",
        )
    ),
    re.MULTILINE | re.DOTALL,
)
# Thoughts in front of the words are never spoken, and so cannot be unheard.
_THOUGHTS = re.compile(
    r"(?:\s*(?:<(think|thinking)>.*?(?:</\1>|\Z)|<!--\s*think-sig:.*?(?:-->|\Z)))+\s*", re.DOTALL
)


@dataclass(frozen=True)
class Heard:
    """How much of an answer was heard.

    Attributes:
        answer: All of it, as the model has made it.
        heard: How many characters of that were heard.
        details: See `spoken.Turn`.
    """

    answer: str
    heard: int
    details: Mapping[str, Any]

    def find(self, messages: Sequence[Message]) -> int | None:
        """Return the place of the newest message that is the answer; None if it is not there."""
        for index in range(len(messages) - 1, -1, -1):
            message = messages[index]
            if message.role != "assistant":
                continue
            call = _call(message)
            chars = call.get("heard_chars")
            if isinstance(chars, int):
                if message.content == _cut(self.answer, chars):
                    return None  # it was cut already; an older one may have the same words
            elif key_of(call) is None and self._text(message.content) is not None:
                return index
        return None

    def cut(self, message: Message) -> Message | None:
        """Return the message without what was not heard; None if that is how it is."""
        text = self._text(message.content)
        assert text is not None
        end = _end(text, self.heard)
        whole = text and not text[end:].strip()
        content = text if whole else _cut(text, end)
        if content == message.content.rstrip():
            return None
        cut = {} if whole else {"heard_chars": len(text[:end].rstrip())}
        metadata: Any = {**(message.metadata or {}), "voice_call": {**self.details, **cut}}
        return replace(message, content=content, metadata=metadata)

    def _text(self, content: str) -> str | None:
        """Return what gptme has written of the answer; None if it is something else."""
        content, answer = content.rstrip(), self.answer.rstrip()
        if content.endswith(_STOPPED):
            text = content.removesuffix(_STOPPED).rstrip()
            answer = answer.removesuffix(_STOPPED).rstrip()
            # Its last characters may not have been told any more.
            same = text.startswith(answer) or answer.startswith(text)
            return text if same and bool(text) == bool(answer) else None
        return content if content == answer else None


def parse_heard(body: object) -> Heard:
    """Return what a request's JSON says.

    Raises:
        BadTurns: It is wrong.
    """
    if not isinstance(body, dict):
        raise BadTurns('The request must be JSON like {"answer": "…", "heard": 12}.')
    answer, heard = body.get("answer"), body.get("heard")
    # Not parsing.text: what surrounds it counts.
    if not isinstance(answer, str) or len(answer) > MAX_TEXT:
        raise BadTurns(f"answer must be a text of at most {MAX_TEXT} characters.")
    if type(heard) is not int or not 0 <= heard <= len(answer):  # a bool is an int, too
        raise BadTurns("heard must be a whole number, and not more than answer has characters.")
    return Heard(characters.whole(answer), heard, parsing.details("metadata", body.get("metadata")))


def _cut(text: str, end: int) -> str:
    """Return an answer of which what is behind `end` was not heard."""
    begin = _begin(text)
    thoughts = text[:begin]
    if thoughts and not thoughts[-1].isspace():
        thoughts += "\n\n"
    return thoughts + interrupted(text[begin:end], text[max(begin, end) :])


def _begin(text: str) -> int:
    """Return where an answer's words begin."""
    thoughts = _THOUGHTS.match(text)
    return thoughts.end() if thoughts else 0


def _end(text: str, heard: int) -> int:
    """Return where what was heard ends: behind a word, and not within a unit."""
    begin = _begin(text)
    end = min(max(heard, begin), len(text))
    while begin < end < len(text) and not _between_words(text[end - 1], text[end]):
        end -= 1
    units = (found.span() for found in _UNITS.finditer(text, begin))
    return next((start for start, stop in units if start < end < stop), end)


def _between_words(before: str, after: str) -> bool:
    if before.isspace() or after.isspace():
        return True
    # Scripts such as Chinese are written without spaces; but a character may have several parts.
    joined = after == "\u200d" or unicodedata.category(after).startswith("M")
    return unicodedata.east_asian_width(before) == "W" and not joined


def _call(message: Message) -> Mapping[str, Any]:
    metadata: dict[str, Any] = dict(message.metadata or {})
    call = metadata.get("voice_call")
    return call if isinstance(call, dict) else {}
