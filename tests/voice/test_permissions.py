"""A spoken yes: for one command, once, for a while, and only if somebody has spoken."""

from __future__ import annotations

import pytest

from gptme_voice_plugin.voice.permissions import EXPIRE_SECONDS, Permissions, Refused
from gptme_voice_plugin.voice.work import Asks

ASKS = Asks("t1", "shell", "rm -r build")


class Clock:
    """A clock that tests set."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
def permissions(clock: Clock) -> Permissions:
    """Nothing was asked yet."""
    return Permissions(clock)


def test_a_yes(permissions: Permissions) -> None:
    """It is for what was asked, exactly; and used up."""
    permission = permissions.ask(ASKS, replies=3)
    assert permissions.answer(permission.id, answers=4) is ASKS
    with pytest.raises(Refused, match="answered already"):
        permissions.answer(permission.id, answers=5)


def test_one_yes_is_for_one_command(permissions: Permissions) -> None:
    """Of several that were asked for at once, the next needs words of its own."""
    first, second = permissions.ask(ASKS, replies=3), permissions.ask(ASKS, replies=3)
    permissions.answer(first.id, answers=4)
    with pytest.raises(Refused, match="has not answered yet"):
        permissions.answer(second.id, answers=4)
    assert permissions.answer(second.id, answers=5) is ASKS


@pytest.mark.parametrize("answers", [0, 2, 3])
def test_nobody_has_spoken_since(permissions: Permissions, answers: int) -> None:
    """The user last spoke before a reply could have read it out: it is not an answer to it."""
    permission = permissions.ask(ASKS, replies=3)
    with pytest.raises(Refused, match="has not answered yet"):
        permissions.answer(permission.id, answers)
    assert permissions.answer(permission.id, answers=4) is ASKS, "it can still be answered"


def test_expired(permissions: Permissions, clock: Clock) -> None:
    """A yes that comes late is none."""
    permission = permissions.ask(ASKS, replies=0)
    clock.now += EXPIRE_SECONDS + 0.1
    with pytest.raises(Refused, match="expired"):
        permissions.answer(permission.id, answers=1)
    clock.now -= 1
    with pytest.raises(Refused, match="no such permission"):
        permissions.answer(permission.id, answers=1)


def test_unknown(permissions: Permissions) -> None:
    """Ids cannot be guessed, and those of what no longer waits are unknown."""
    first, second = permissions.ask(ASKS, 0), permissions.ask(ASKS, 0)
    assert first.id != second.id and len(first.id) >= 8
    permissions.drop()
    for id in (first.id, second.id, "", "t1"):
        with pytest.raises(Refused, match="no such permission"):
            permissions.answer(id, answers=1)
