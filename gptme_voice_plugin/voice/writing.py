"""What gptme writes in answers, read from its events: what of it is to be spoken; pure, no I/O.

An answer is written between `generation_started` and `generation_complete`, unless it is stopped.
What still comes of one that was stopped is spoken no more: gptme gives out up to twenty characters
that it has held back, and 0.34 also writes it into the log, with a mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..backends.base import Answer, AnswerEnded, AnswerPiece

__all__ = ["Writing", "Written"]

KEPT = 64
"""Answers that are remembered, to be cut in the log."""
_MARK = " [INTERRUPTED]"


@dataclass
class Written:
    """An answer, as gptme writes it."""

    id: str
    text: str = ""
    committed: bool = False
    """Whether it is in the log, as far as gptme has told."""
    over: bool = False
    """Whether gptme has stopped writing it."""
    stopped: bool = False
    """Whether that was before its end."""
    silenced: bool = False
    told: bool = False
    """Whether any of it was given out to be spoken."""
    gap: bool = False
    """Whether events of it were missed: the rest is told once all of it is known."""
    heard: int | None = None
    """Characters that were heard of it; None: all, or not known."""
    settled: bool = False
    """Whether the log says of it what was heard."""


class Writing:
    """The answers of one conversation, since the session began.

    Args:
        emit: Takes what is to be spoken.
    """

    def __init__(self, emit: Callable[[Answer], None]) -> None:
        self.silent = False
        """Whether what begins now is of a step that was stopped."""
        self._emit = emit
        self._answers: dict[str, Written] = {}
        self._current: Written | None = None
        self._numbers = 0
        self._unseen: list[Written] = []

    @property
    def begun(self) -> int:
        """How many answers were begun so far."""
        return self._numbers

    def find(self, answer_id: str) -> Written | None:
        """Return an answer."""
        return self._answers.get(answer_id)

    def take_unseen(self) -> list[Written]:
        """Return, once, the answers that were stopped before any of them was given out."""
        unseen, self._unseen = self._unseen, []
        return unseen

    def silence(self) -> None:
        """Give out nothing more of what is being written."""
        self.silent = True
        if self._current is not None:
            self._current.silenced = True

    def nothing(self) -> None:
        """There is no answer: whoever waits for one is to know."""
        self._begin()
        self._end()

    def handle(self, event: Mapping[str, Any]) -> None:
        """Take one event of gptme's stream."""
        match event["type"]:
            case "generation_started":
                self._end()
                self._begin()
            case "generation_progress":
                self._progress(str(event.get("token") or ""))
            case "generation_complete":
                self._complete(_content(event.get("message")))
            case "interrupted" | "error":
                self._end(stopped=True)
            case "step_complete":
                self._end()
            case "connected":
                self._connected(event.get("generating") is True)

    def _begin(self) -> Written:
        self._numbers += 1
        written = Written(f"answer-{self._numbers}", silenced=self.silent)
        self._answers[written.id] = self._current = written
        if len(self._answers) > KEPT:
            del self._answers[next(iter(self._answers))]
        return written

    def _end(self, stopped: bool = False) -> None:
        written, self._current = self._current, None
        if written is None:
            return
        written.over, written.stopped = True, stopped
        if stopped and not written.told:
            self._unseen.append(written)
        if written.told or not written.silenced:
            self._emit(AnswerEnded(written.id))

    def _progress(self, token: str) -> None:
        written = self._current
        if written is not None and not written.gap:  # else it is what a stopped one had left
            written.text += token
            self._tell(written, token)

    def _tell(self, written: Written, text: str) -> None:
        if text and not written.silenced:
            written.told = True
            self._emit(AnswerPiece(written.id, text))

    def _complete(self, content: str) -> None:
        current = self._current
        if content.endswith(_MARK) and not (current and current.text.endswith(_MARK)):
            self._stopped_is_there(content.removesuffix(_MARK).rstrip())
            return
        if current is None:
            # It was written in the very moment in which it was stopped, or begun before we came.
            if not content or self._stopped_is_there(content):
                return
            current = self._begin()
        elif content and not content.startswith(current.text):
            # The one that was being written has ended unnoticed; this is another.
            self._end(stopped=True)
            current = self._begin()
        rest = content[len(current.text) :]
        current.text, current.committed = content or current.text, True
        self._tell(current, rest)
        self._end()

    def _stopped_is_there(self, content: str) -> bool:
        """Take it that gptme has written the answer that was stopped last; whether it is that."""
        for written in reversed(self._answers.values()):
            if written.over and not written.committed:
                ours = written.stopped and content.startswith(written.text)
                if ours:
                    written.text, written.committed = content, True
                return ours
        return False

    def _connected(self, generating: bool) -> None:
        """Events are followed anew: some may have been missed."""
        if not generating:
            self._end(stopped=True)
        else:
            (self._current or self._begin()).gap = True


def _content(message: object) -> str:
    return str(message.get("content") or "") if isinstance(message, Mapping) else ""
