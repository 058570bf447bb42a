"""What gptme-server does in a conversation right now, and who looks at it.

gptme has no public word for most of this: it is all in here, and held by tests/contract.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptme.tools import ToolUse

__all__ = [
    "asks",
    "at_work",
    "generating",
    "locked",
    "tell",
    "tell_pending",
    "waits_elsewhere",
    "watched",
]

LOCK_SECONDS = 2.0
"""gptme holds a conversation's lock for moments; only compacting may take long."""
NOTICE_SECONDS = (0.2, 0.2)
"""How long a stream of events has, each time, to notice that nobody reads it."""


@contextmanager
def locked(conversation_id: str) -> Iterator[bool]:
    """Hold the lock of a conversation; yields whether we got it.

    Whoever starts a generation or a command takes it to do so, and deletes under it.
    """
    from gptme.server.session_models import SessionManager

    lock = SessionManager.conversation_lock(conversation_id)
    acquired = lock.acquire(timeout=LOCK_SECONDS)
    try:
        yield acquired
    finally:
        if acquired:
            lock.release()


def at_work(conversation_id: str) -> bool:
    """Whether gptme is at something whose messages must stay together.

    A generation writes back what it has read at its start. A tool that was called natively owes its
    result: providers refuse a log where a message stands between the two.
    """
    from gptme.server.session_models import SessionManager

    if generating(conversation_id):
        return True
    if SessionManager.command_is_active(conversation_id):
        return True
    return any(
        _still_writes(session)
        or session._executing_tools
        # A copy: other threads take from it.
        or any(tool.tooluse.call_id for tool in list(session.pending_tools.values()))
        for session in SessionManager.get_sessions_for_conversation(conversation_id)
    )


def _still_writes(session: Any) -> bool:
    """Whether an answer that was stopped is yet to be written.

    gptme 0.34 ends a generation that was interrupted with the provider's next word, and only then
    writes it, with the log as it was when it began. From 0.35 on, which also says when a step is
    complete, such an answer is dropped.
    """
    from gptme.server import api_v2_common

    if hasattr(api_v2_common, "StepCompleteEvent"):
        return False
    for event in reversed(list(session.events)):
        if event["type"] in ("generation_complete", "error"):
            return False
        if event["type"] in ("generation_started", "generation_progress"):
            return True
    return False


def generating(conversation_id: str) -> bool:
    """Whether gptme's model is answering in the conversation."""
    from gptme.server.session_models import SessionManager

    return bool(SessionManager.conversation_generating(conversation_id))


def watched(conversation_id: str, but: str | None) -> bool:
    """Whether somebody listens to the conversation's events, other than gptme's session `but`.

    Takes a moment if it seems so: gptme notices that a page was closed when it next writes to it,
    which may be in 15 seconds. So all are written to; twice, because the first write to a closed
    connection succeeds.
    """
    for seconds in NOTICE_SECONDS:
        if not _listened_to(conversation_id, but):
            return False
        tell(conversation_id, {"type": "ping"})  # as gptme sends them; pages pass over it
        time.sleep(seconds)
    return _listened_to(conversation_id, but)


def _listened_to(conversation_id: str, but: str | None) -> bool:
    from gptme.server.session_models import SessionManager

    sessions = SessionManager.get_sessions_for_conversation(conversation_id)
    return any(session.clients for session in sessions if session.id != but)


def tell(conversation_id: str, event: Any) -> None:
    """Send an event to all who listen."""
    from gptme.server.session_models import SessionManager

    SessionManager.add_event(conversation_id, event)


def tell_pending(conversation_id: str) -> None:
    """Say once more which tools wait for permission, as gptme says it when they begin to.

    But with what would be run also of native calls, of which gptme itself says only the tool.
    """
    for id, use in _pending(conversation_id):
        told = {"tool": use.tool, "args": use.args, "content": _given(use) or use.content}
        tell(
            conversation_id,
            {"type": "tool_pending", "tool_id": id, "tooluse": told, "auto_confirm": False},
        )


def asks(conversation_id: str) -> list[dict[str, str]]:
    """Return which tools wait for permission, and what exactly each would run."""
    return [
        {"tool_id": id, "tool": use.tool, "content": "\n".join(filter(None, _parts(use)))}
        for id, use in _pending(conversation_id)
    ]


def _pending(conversation_id: str) -> Iterator[tuple[str, ToolUse]]:
    from gptme.server.session_models import SessionManager, ToolStatus

    for session in SessionManager.get_sessions_for_conversation(conversation_id):
        for id, tool in list(session.pending_tools.items()):
            if tool.status is ToolStatus.PENDING and not tool.auto_confirm:
                yield id, tool.tooluse


def _parts(use: ToolUse) -> tuple[str, str]:
    # Some come with the tool's name in front, as it was written.
    return " ".join(use.args or ()).removeprefix(f"{use.tool} "), _given(use) or use.content or ""


def _given(use: ToolUse) -> str:
    """Return the content of a native call, with all its arguments; gptme's preview shows one."""
    given: Mapping[str, object] = use.kwargs or {}  # whatever a model has written
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in given.items()
    ]
    return "\n".join(lines if use.content is None else [use.content, *lines])


def waits_elsewhere(conversation_id: str, tool_id: str, session_id: str) -> bool:
    """Whether a tool waits in a session of the conversation, which is not the one that is named."""
    from gptme.server.session_models import SessionManager

    sessions = SessionManager.get_sessions_for_conversation(conversation_id)
    owners = {session.id for session in sessions if tool_id in session.pending_tools}
    return bool(owners) and session_id not in owners
