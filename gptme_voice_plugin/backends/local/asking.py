"""How a session asks a stage that others may be using."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...errors import SpeechFailed
from ..base import Queued

__all__ = ["ask"]

_T = TypeVar("_T")


async def ask(
    call: Callable[[], Awaitable[_T]],
    waits: bool,
    emit: Callable[[Queued], None],
    again: Callable[[], bool] = lambda: True,
) -> _T:
    """Return what `call` does; it is made once more if a stage fails.

    Args:
        call: Asks the stage.
        waits: Whether others are asked before; that is told.
        emit: Takes events.
        again: Whether it is still wanted after a failure.

    Raises:
        VoiceError: What `call` raises.
    """
    if waits:
        emit(Queued(True))
    try:
        try:
            return await call()
        except SpeechFailed:
            if not again():
                raise
            # A process that has died is started again; what it is asked is still here.
            return await call()
    finally:
        if waits:
            emit(Queued(False))
