"""Which conversations have a voice session: one each, so that two do not talk into each other."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..errors import ConversationInUse
from . import events as core
from .session import Session

__all__ = ["Claims", "Holder"]

END_SECONDS = 8.0
"""How long a session that has ended may take to write its last turns."""


class Holder(Protocol):
    """What has a conversation: a relay."""

    session: Session
    over: asyncio.Event

    def post(self, event: core.Event) -> None:
        """Let an event happen to its session."""


class Claims:
    """The conversations in use, each with the session that has it."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Holder, str | None]] = {}

    async def take(self, conversation_id: str, relay: Holder, resume: str | None) -> None:
        """Take a conversation for a session.

        One that is ending is waited for: its last turns belong to what the next one is told. One
        whose client comes back on a new connection is ended: `resume` names it, or the one that it
        had itself come back for, if it was lost before its client knew its name.

        Raises:
            ConversationInUse: Another session has it.
        """
        while (held := self._held.get(conversation_id)) is not None:
            holder, resumed = held
            if not holder.session.over:
                if resume is None or resume not in (holder.session.session_id, resumed):
                    raise ConversationInUse(
                        "A voice session is already running in this conversation; end it there "
                        "first."
                    )
                holder.post(core.Replaced())
            try:
                await asyncio.wait_for(holder.over.wait(), END_SECONDS)
            except asyncio.TimeoutError:
                break
            # Somebody else may have waited too, and been quicker: then it is asked again.
            if self._held.get(conversation_id) is held:
                break
        self._held[conversation_id] = (relay, resume)

    def add(self, conversation_id: str, relay: Holder) -> None:
        """Note that a session has a conversation, which was made for it."""
        self._held[conversation_id] = (relay, None)

    def drop(self, relay: Holder) -> None:
        """Give back what a session has."""
        self._held = {cid: held for cid, held in self._held.items() if held[0] is not relay}
