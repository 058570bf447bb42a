"""What gptme is doing in a conversation, read from its events: pure, no I/O.

gptme works in steps: it generates an answer, which may ask for tools; each tool is allowed by
somebody or by itself, is executed, and the next step begins. Work is over when a step is complete
and nothing waits or runs. gptme before 0.35 does not say that a step is complete: see
`may_be_over`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = [
    "Asks",
    "Finished",
    "News",
    "Outcome",
    "Progress",
    "Typed",
    "Work",
    "gist",
    "shortened",
    "spoken_form",
]

MAX_GIST = 160
MAX_ANSWER = 3000
"""Characters of an answer, or of what was typed, that the voice model gets."""

_THOUGHTS = re.compile(r"<(think|thinking)>.*?</\1>\s*", re.DOTALL)
_CODE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)(?:^\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_NATIVE_CALL = re.compile(
    r"^@\w+\([^)]*\):\s*\{.*?^\}?\s*$|^@\w+\([^)]*\):.*$", re.MULTILINE | re.S
)


class Outcome(Enum):
    """How work ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Progress:
    """What gptme is at now, in a line for the user."""

    text: str


@dataclass(frozen=True)
class Asks:
    """gptme waits for permission to use a tool."""

    tool_id: str
    tool: str
    content: str
    """Exactly what would be run."""

    @property
    def line(self) -> str:
        """The same in a line."""
        return gist(f"{self.tool}: {self.content}" if self.content else self.tool)


@dataclass(frozen=True)
class Typed:
    """Somebody has written into the conversation."""

    text: str


@dataclass(frozen=True)
class Finished:
    """gptme is done, one way or another."""

    outcome: Outcome
    answer: str
    """What it has answered last, without code; or what went wrong."""


News = Progress | Asks | Typed | Finished


class Work:
    """Follows the events of one conversation."""

    def __init__(self) -> None:
        self.asks: dict[str, Asks] = {}
        """What waits for permission, by tool id."""
        self._generating = False
        self._executing: set[str] = set()
        self._goes_on = False  # a tool has its result, and the step with it has not begun yet
        self._answer = ""
        self._error = ""
        self._unsure = False  # its end may have been missed
        self._answered = False  # the step has its answer, or has failed
        self._open = False  # something was begun, and its end not told yet

    @property
    def active(self) -> bool:
        """Whether gptme is at work, or waits for permission."""
        begun = self._generating or self._executing or self._goes_on or self.asks
        return bool(begun or self._unsure)

    @property
    def may_be_over(self) -> bool:
        """Whether all that is missing is word that the step is complete."""
        waits = self.asks or self._executing or self._goes_on
        return self._open and (self._answered or self._unsure) and not waits

    def over(self) -> list[News]:
        """It is known from elsewhere that gptme is at nothing."""
        if not self._open:
            return []
        return self._finish(Outcome.FAILED if self._error else Outcome.DONE)

    @property
    def state(self) -> str:
        """The same in words, for a model."""
        if self.asks:
            return "waits for the user's permission"
        return "working" if self.active else "idle"

    def expect(self) -> None:
        """A step was asked for: it is at work from now on, before its first event."""
        self._begin()
        self._generating = True

    def handle(self, event: Mapping[str, Any]) -> list[News]:
        """Take one event of gptme's stream; return what is new with it."""
        match event["type"]:
            case "connected":
                return self._on_connected(event)
            case "generation_started":
                self._begin()
                self._generating = True
                self._goes_on = self._answered = self._unsure = False
                # A tool that was skipped has no event of its own.
                self.asks.clear()
                return [Progress("thinking")]
            case "generation_complete":
                self._answered = True
                message = event.get("message")
                if isinstance(message, Mapping):
                    self._answer = str(message.get("content") or "")
            case "tool_pending":
                return self._on_pending(event)
            case "tool_executing":
                asked = self.asks.pop(str(event.get("tool_id")), None)
                self._executing.add(str(event.get("tool_id")))
                return [Progress(asked.line if asked else "using a tool")]
            case "tool_complete":
                id = str(event.get("tool_id"))
                if id in self._executing:  # else it was stopped, and only now has noticed
                    self._executing.discard(id)
                    self._goes_on = not self._executing and not self.asks
            case "elicit_pending":
                return [Asks("", "question", _question(event))]
            case "message_added":
                return self._on_message(event.get("message"))
            case "error":
                self._error = str(event.get("error") or "it failed")
                self._answered = True
            case "interrupted" if self._open:
                return self._finish(Outcome.CANCELLED)
            case "step_complete":
                self._generating = self._unsure = False
                if not self.active:
                    return self.over()
        return []

    def _on_connected(self, event: Mapping[str, Any]) -> list[News]:
        # A stream that begins anew knows nothing of what was missed.
        self._executing.clear()
        self.asks.clear()
        self._goes_on = False
        self._generating = False
        if event.get("generating") is True:
            self.expect()
        else:
            self._unsure = self._open
        news: list[News] = []
        for pending in event.get("pending_tools") or ():
            if isinstance(pending, Mapping):
                news += self._on_pending(pending)
        return news

    def _on_pending(self, event: Mapping[str, Any]) -> list[News]:
        use = event.get("tooluse")
        use = use if isinstance(use, Mapping) else {}
        tool = str(use.get("tool") or "a tool")
        arguments = " ".join(str(argument) for argument in use.get("args") or ())
        # Some come with the tool's name in front, as it was written.
        arguments = arguments.removeprefix(f"{tool} ")
        content = "\n".join(filter(None, (arguments, str(use.get("content") or ""))))
        asks = Asks(str(event.get("tool_id") or ""), tool, content)
        if asks.tool_id in self.asks or asks.tool_id in self._executing:
            return []  # told again, for a page that has just come
        if event.get("auto_confirm") is True:
            # It is executed by itself, one after the other.
            self._executing.add(asks.tool_id)
            return [Progress(asks.line)]
        self._begin()
        self.asks[asks.tool_id] = asks
        return [asks]

    def _on_message(self, message: object) -> list[News]:
        if not isinstance(message, Mapping) or message.get("hide"):
            return []
        if message.get("role") != "user" or _is_voice(message):
            return []
        return [Typed(str(message.get("content") or ""))]

    def forget(self) -> None:
        """What was expected does not happen."""
        self._finish(Outcome.CANCELLED)

    def _begin(self) -> None:
        if not self._open:
            self._answer = self._error = ""
        self._open = True

    def _finish(self, outcome: Outcome) -> list[News]:
        answer = self._error if outcome is Outcome.FAILED else spoken_form(self._answer)
        self._generating = self._goes_on = self._open = self._unsure = self._answered = False
        self._executing.clear()
        self.asks.clear()
        self._answer = self._error = ""
        return [Finished(outcome, answer)]


def spoken_form(text: str) -> str:
    """Return an answer of gptme's as a voice model is to know it: without its code."""
    text = _THOUGHTS.sub("", text)
    text = _CODE.sub(_without_code, text)
    text = _NATIVE_CALL.sub("", text).strip()
    return shortened(text)


def shortened(text: str) -> str:
    """Return a text of bounded length."""
    return text if len(text) <= MAX_ANSWER else text[:MAX_ANSWER].rstrip() + " …"


def _without_code(block: re.Match[str]) -> str:
    lines = len(block[3].splitlines())
    return f"[{lines} lines of {block[2].strip() or 'text'}, to be read in the chat]"


def gist(text: str) -> str:
    """Return a text as one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_GIST else line[: MAX_GIST - 1].rstrip() + "…"


def _question(event: Mapping[str, Any]) -> str:
    request = event.get("request")
    source = request if isinstance(request, Mapping) else event
    return str(source.get("prompt") or source.get("message") or "a question on the screen")


def _is_voice(message: Mapping[str, Any]) -> bool:
    metadata = message.get("metadata")
    return isinstance(metadata, Mapping) and isinstance(metadata.get("voice_call"), Mapping)
