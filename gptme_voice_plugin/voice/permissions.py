"""Permission by voice: one spoken yes for one exact command, once, and not for long."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from .work import Asks

__all__ = ["EXPIRE_SECONDS", "Permission", "Permissions", "Refused"]

EXPIRE_SECONDS = 120.0
"""How long an answer may take, in seconds."""


class Refused(Exception):
    """The answer does not count; the text tells the model why."""


@dataclass(frozen=True)
class Permission:
    """What the user was asked."""

    id: str
    asks: Asks
    replies: int
    """The number of the last reply that knows nothing of it."""
    expires: float


class Permissions:
    """What waits for an answer.

    Args:
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: dict[str, Permission] = {}
        self._answered = 0  # the last reply that an answer was accepted to

    def ask(self, asks: Asks, replies: int) -> Permission:
        """Note that the user is asked now; see `Permission`."""
        permission = Permission(secrets.token_hex(4), asks, replies, self._clock() + EXPIRE_SECONDS)
        self._asked[permission.id] = permission
        return permission

    def answer(self, id: str, answers: int) -> Asks:
        """Use up a permission.

        Args:
            id: Which one.
            answers: The number of the last reply that was heard when the user last began to speak.

        Raises:
            Refused: It is unknown, used, expired, or the user has not spoken since it was read out,
                or what they have said was the answer to another one.
        """
        permission = self._asked.get(id)
        if permission is None:
            raise Refused("There is no such permission, or it was answered already.")
        if self._clock() > permission.expires:
            del self._asked[id]
            raise Refused("It has expired; the user has to answer in the chat now.")
        if answers <= max(permission.replies, self._answered):
            raise Refused("The user has not answered yet: read it out, ask, and wait.")
        del self._asked[id]
        self._answered = answers
        return permission.asks

    def drop(self) -> None:
        """Forget all: gptme goes on without."""
        self._asked.clear()
