"""When a lost connection is tried again."""

from __future__ import annotations

import random

import pytest

from gptme_voice_plugin.backends.reconnect import FINAL_CLOSE_CODES, LONGEST, TOTAL, delays


@pytest.fixture(params=range(20))
def waits(request: pytest.FixtureRequest) -> list[float]:
    """The waits of one run of tries, with one of many jitters."""
    return list(delays(random.Random(request.param)))


def test_the_first_try_comes_at_once(waits: list[float]) -> None:
    """Nobody waits for the first new try."""
    assert waits[0] == 0.0


def test_the_second_try_comes_soon(waits: list[float]) -> None:
    """A short outage costs a fraction of a second."""
    assert 0.1 < waits[1] < 0.5


def test_all_tries_take_half_a_minute(waits: list[float]) -> None:
    """The waits add up to the total, not more."""
    assert sum(waits) == pytest.approx(TOTAL)


def test_no_wait_is_long(waits: list[float]) -> None:
    """A provider that is back is noticed within seconds."""
    assert max(waits) <= LONGEST * 1.2


def test_waits_grow(waits: list[float]) -> None:
    """A provider in trouble is asked less and less often, until the bound."""
    growing = [wait for wait in waits[1:-1] if wait < LONGEST * 0.8]
    assert growing == sorted(growing)
    assert len(waits) < 20


def test_waits_differ_between_clients() -> None:
    """Not all clients come back at the same moment."""
    runs = {tuple(delays(random.Random(seed))) for seed in range(5)}
    assert len(runs) == 5
    assert list(delays()) != list(delays())


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1015])
def test_passing_troubles_are_not_final(code: int) -> None:
    """After an expired session, a drop or a restart, a new connection helps."""
    assert code not in FINAL_CLOSE_CODES


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 4000])
def test_refusals_are_final(code: int) -> None:
    """What a provider refuses, it would refuse again."""
    assert code in FINAL_CLOSE_CODES
