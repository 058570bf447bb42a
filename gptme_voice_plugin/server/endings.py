"""The end of a voice session, as a line in its conversation that pages show and no model reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import parsing
from .entry import Entry

__all__ = ["Ending", "duration", "parse_ending"]


@dataclass(frozen=True)
class Ending:
    """A session that is over, validated.

    Attributes:
        session: Its id, unique in the conversation.
        started_at: When it began.
        seconds: How long it was.
        user_turns: How often the user has spoken.
        agent_turns: How often the agent has.
        details: `backend`, `model`, `reason`, `usage`, as far as they are known.
        gptme_session: gptme's session of whoever tells it, who looks at the conversation too.
    """

    session: str
    started_at: datetime
    seconds: float
    user_turns: int
    agent_turns: int
    details: dict[str, Any]
    gptme_session: str | None

    @property
    def entry(self) -> Entry | None:
        """What is written of it; nothing, if nothing was said."""
        turns = self.user_turns + self.agent_turns
        if not turns:
            return None
        model = " ".join(self.details[key] for key in ("backend", "model") if key in self.details)
        said = [duration(self.seconds), f"{turns} turn{'s' * (turns != 1)}", model]
        call = {
            "kind": "session",
            "session": self.session,
            "started_at": self.started_at.isoformat(),
            "seconds": self.seconds,
            "turns": {"user": self.user_turns, "assistant": self.agent_turns},
            **self.details,
        }
        at = self.started_at + timedelta(seconds=self.seconds)
        return Entry("system", f"Voice session: {', '.join(filter(None, said))}.", at, call, True)


def parse_ending(body: object) -> Ending:
    """Return the ending in a request's JSON.

    Raises:
        BadTurns: It is none.
    """
    given = parsing.table("The request", body)
    turns = parsing.table("turns", given.get("turns"))
    user, agent = (parsing.number(f"turns.{role}", turns.get(role)) for role in _ROLES)
    details: dict[str, Any] = {
        key: parsing.name(key, given.get(key)) for key in ("backend", "model", "reason")
    }
    details["usage"] = parsing.usage("usage", given.get("usage"))
    return Ending(
        session=parsing.identifier("session", given.get("session")),
        started_at=parsing.moment("started_at", given.get("started_at")),
        seconds=min(parsing.number("seconds", given.get("seconds")), _MAX_SECONDS),
        user_turns=int(user),
        agent_turns=int(agent),
        details={key: value for key, value in details.items() if value not in ("", {})},
        gptme_session=parsing.name("gptme_session", given.get("gptme_session")) or None,
    )


_ROLES = ("user", "assistant")
_MAX_SECONDS = 366 * 86400  # a time can be added up with them


def duration(seconds: float) -> str:
    """Return a time as people say it, in two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
