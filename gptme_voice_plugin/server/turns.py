"""What was said gets into its conversation: at once, or as soon as it may be written to.

While gptme is at work in a conversation, or another gptme has it, what comes is kept beside its
log, and so is whatever comes later: the order is that in which it came. Nothing that was accepted
is lost, also if the server is, and nothing is written twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConversationBusy, ConversationUnknown, TurnsNotSaved
from . import gptme_log
from .entry import Entry
from .gptme_sessions import at_work, locked
from .heard import Heard
from .spool import Spool

__all__ = ["Outcome", "cut", "flush", "put"]

logger = logging.getLogger(__name__)

SOON = 0.25
"""Seconds until the next try, while gptme is at work."""
LATER = 5.0
"""The same, while it is not up to us."""

_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What has become of entries."""

    appended: list[Entry]
    kept: list[Entry]
    known: list[Entry]
    """Those that were there before, written or kept."""


def put(conversation_id: str, entries: Sequence[Entry], keep: bool = True) -> Outcome:
    """Write entries, after whatever waits for that already, or keep them.

    Args:
        conversation_id: The conversation.
        entries: In their order.
        keep: Whether they may wait.

    Raises:
        ConversationUnknown: There is no such conversation.
        ConversationBusy: They would have to wait, and may not.
        TurnsNotSaved: The disk fails; some may have been written.
    """
    spool = Spool(gptme_log.folder_of(conversation_id))
    with _order(conversation_id), locked(conversation_id) as ours:
        try:
            waiting = spool.read()
            try:
                _refuse_unless(ours)
                written = gptme_log.write(conversation_id, [*waiting, *entries], bool(waiting))
            except ConversationBusy:
                if not keep:
                    raise
                return _keep(conversation_id, spool, waiting, entries)
            spool.remove()
        except FileNotFoundError:
            gptme_log.folder_of(conversation_id)  # deleted meanwhile
            raise
        except OSError as exc:
            raise TurnsNotSaved(f"Turns cannot be kept ({exc.strerror or exc}).") from exc
    keys = {entry.key for entry in written} - {entry.key for entry in waiting}
    return Outcome(
        [entry for entry in entries if entry.key in keys],
        [],
        [entry for entry in entries if entry.key not in keys],
    )


def cut(conversation_id: str, heard: Heard) -> str:
    """Cut an answer of gptme's to what was heard of it; what waits goes on waiting.

    Returns:
        Why nothing was changed; empty if it was.

    Raises:
        VoiceError: `ConversationUnknown`, `ConversationBusy`, `TurnsNotSaved`; nothing was changed.
    """
    gptme_log.folder_of(conversation_id)
    with _order(conversation_id), locked(conversation_id) as ours:
        _refuse_unless(ours)
        return gptme_log.cut(conversation_id, heard)


def flush(conversation_id: str) -> float | None:
    """Write what waits, if it can be; return the seconds until another try, None if all is done."""
    try:
        spool = Spool(gptme_log.folder_of(conversation_id))
        with _order(conversation_id), locked(conversation_id) as ours:
            if not spool:
                return None
            if not ours or at_work(conversation_id):
                return SOON
            gptme_log.write(conversation_id, spool.read(), sync=True)
            spool.remove()
    except ConversationUnknown:
        return None  # what waited went with it
    except ConversationBusy as error:
        return SOON if error.soon else LATER
    except (TurnsNotSaved, OSError) as error:
        logger.warning("Spoken turns of %r have to wait: %s", conversation_id, error)
        return LATER
    return None


def _keep(
    conversation_id: str, spool: Spool, waiting: Sequence[Entry], entries: Sequence[Entry]
) -> Outcome:
    keys = {entry.key for entry in waiting} | gptme_log.known(gptme_log.load(conversation_id))
    kept = [entry for entry in entries if entry.key not in keys]
    if kept:
        spool.append(kept)
    return Outcome([], kept, [entry for entry in entries if entry.key in keys])


def _refuse_unless(ours: bool) -> None:
    if not ours:
        raise ConversationBusy("gptme is compacting this conversation; try again soon.")


def _order(conversation_id: str) -> threading.Lock:
    """Return the lock of a conversation's spool; always taken before gptme's."""
    with _locks_lock:
        return _locks.setdefault(conversation_id, threading.Lock())
