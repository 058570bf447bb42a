"""A thread that tries again, for as long as something waits, what could not be done at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["Flusher"]

logger = logging.getLogger(__name__)


class Flusher:
    """Calls `flush` for each conversation until nothing waits for it any more.

    The thread runs only while there is something to do, and does not keep the process from ending:
    what waits is on the disk.

    Args:
        flush: Writes what waits for a conversation; returns after how many seconds it is worth
            trying again, or None if nothing is left.
    """

    def __init__(self, flush: Callable[[str], float | None]) -> None:
        self._flush = flush
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, conversation_id: str) -> None:
        """See to a conversation, at once."""
        with self._changed:
            self._due[conversation_id] = time.monotonic()
            # A process that was forked has the object of its parent's thread, but not the thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="gptme-voice-flush", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while (conversation_id := self._next()) is not None:
            try:
                seconds = self._flush(conversation_id)
            except Exception:
                # It stays on the disk for the next start, or whoever adds to it.
                logger.exception("Spoken turns of %r cannot be written.", conversation_id)
                seconds = None
            with self._changed:
                if seconds is not None:
                    self._due[conversation_id] = time.monotonic() + seconds

    def _next(self) -> str | None:
        """Wait for the next conversation that is due; None if there is none at all."""
        with self._changed:
            while self._due:
                conversation_id = min(self._due, key=self._due.__getitem__)
                seconds = self._due[conversation_id] - time.monotonic()
                if seconds <= 0:
                    del self._due[conversation_id]
                    return conversation_id
                self._changed.wait(seconds)
            self._thread = None
            return None
