"""The playback clock: what was sent, and how much of it has been heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.voice.playback import LOOKAHEAD, Playback

RATE = 24_000


def playing(samples: int = RATE, now: float = 0.0) -> Playback:
    """Return a playback with one reply of which `samples` were sent at `now`."""
    playback = Playback(RATE)
    playback.begin("a")
    playback.add(samples, now)
    return playback


def test_positions_are_running_totals() -> None:
    """Each reply begins where the one before it ended."""
    playback = playing(100)
    playback.add(50, 0.0)
    assert playback.begin("b").from_sample == 150
    playback.add(10, 0.0)
    assert playback.sent == 160
    assert [(r.from_sample, r.samples, r.end_sample) for r in playback.replies] == [
        (0, 150, 150),
        (150, 10, 160),
    ]


def test_a_new_reply_ends_the_growth_of_the_last() -> None:
    """Only the newest reply can grow."""
    playback = playing()
    playback.begin("b")
    assert [reply.generating for reply in playback.replies] == [False, True]


@pytest.mark.parametrize(
    ("now", "position"),
    [(0.0, 0), (LOOKAHEAD, 0), (0.51, RATE // 2), (1.01, RATE), (99.0, RATE)],
)
def test_clock_starts_after_the_look_ahead(now: float, position: int) -> None:
    """The stock player starts 10 ms after arrival, plays in real time, and not beyond the end."""
    assert playing().position(now) == position


def test_clock_plays_no_faster_than_real_time() -> None:
    """What comes in a burst is played one after the other."""
    playback = playing()
    playback.add(RATE, 0.001)
    assert playback.position(1.51) == RATE * 3 // 2
    assert playback.remaining(1.51) == pytest.approx(0.5)


def test_clock_restarts_when_the_queue_ran_dry() -> None:
    """After a gap the player starts anew, 10 ms after the next arrival."""
    playback = playing()
    playback.add(RATE, 5.0)
    assert playback.position(5.0) == RATE
    assert playback.position(5.51) == RATE * 3 // 2
    assert playback.remaining(5.0) == pytest.approx(1.01)


def test_nothing_remains_before_anything_was_sent() -> None:
    """A fresh stream is silent."""
    playback = Playback(RATE)
    assert (playback.remaining(1e6), playback.position(1e6)) == (0.0, 0)


def test_first_report_replaces_the_clock() -> None:
    """From the first report on only reports move the head."""
    playback = playing()
    assert not playback.follows_reports
    assert not playback.report(100)
    assert playback.follows_reports
    assert playback.position(99.0) == 100


def test_reports_never_move_back_nor_beyond_what_was_sent() -> None:
    """Reports that come out of order, or too high, do no harm."""
    playback = playing()
    for report, head in [(500, 500), (300, 500), (10**9, RATE)]:
        playback.report(report)
        assert playback.position(0.0) == head


def test_heard_is_counted_within_each_reply() -> None:
    """The head is split among the replies it passes."""
    playback = playing(100)
    playback.begin("b")
    playback.add(100, 0.0)
    playback.report(150)
    assert [playback.heard(reply, 0.0) for reply in playback.replies] == [100, 50]


def test_take_heard_takes_whole_replies_only() -> None:
    """A reply is over when it is generated and heard to its end, not before."""
    playback = playing(100)
    playback.begin("b")
    playback.add(100, 0.0)
    playback.report(199)
    assert [reply.item_id for reply in playback.take_heard(0.0)] == ["a"]
    playback.report(200)
    assert playback.take_heard(0.0) == []
    playback.replies[0].generating = False
    assert [reply.item_id for reply in playback.take_heard(0.0)] == ["b"]
    assert playback.replies == []


def test_clear_by_the_clock() -> None:
    """A clear freezes the clock; playback goes on at the end of what was sent."""
    playback = playing()
    assert playback.clear(0.51) == RATE
    assert playback.clearing
    ((reply, heard),) = playback.settle(0.51)
    assert (reply.item_id, heard) == ("a", RATE // 2)
    assert not playback.clearing
    assert playback.position(0.6) == RATE
    assert playback.remaining(0.6) == 0


def test_clear_is_answered_by_reports() -> None:
    """Reports below the clear say where it fell silent; the first at or above it is the end."""
    playback = playing()
    playback.report(1000)
    assert playback.clear(0.0) == RATE
    assert not playback.report(1500)
    assert playback.report(RATE)
    assert [heard for _, heard in playback.settle(0.0)] == [1500]


def test_everything_was_heard_before_the_clear_came() -> None:
    """A report of the end that was on its way when the clear was sent is the truth."""
    playback = playing()
    playback.report(1000)
    playback.clear(0.0)
    assert playback.report(RATE)
    assert [heard for _, heard in playback.settle(0.0)] == [RATE]


def test_clear_without_answer_uses_the_last_report() -> None:
    """Without an answer the last report before the clear counts."""
    playback = playing()
    playback.report(1000)
    playback.clear(0.0)
    assert [heard for _, heard in playback.settle(0.3)] == [1000]


def test_late_answer_does_not_count_for_the_next_reply() -> None:
    """Where the last reply fell silent says nothing about the next."""
    playback = playing()
    playback.report(1000)
    playback.clear(0.0)
    reply = playback.begin("b")
    playback.add(RATE, 0.0)
    playback.settle(0.3)
    playback.report(1500)
    assert playback.heard(reply, 0.3) == 0
    playback.report(RATE + 10)
    assert playback.heard(reply, 0.3) == 10


@given(
    chunks=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3 * RATE)), min_size=1, max_size=20),
    looks=st.lists(st.floats(0, 3), min_size=1, max_size=20),
)
def test_clock_follows_the_stock_player(
    chunks: list[tuple[float, int]], looks: list[float]
) -> None:
    """For any arrivals the clock is within 10 ms of the player's own schedule, and monotonic."""
    playback = Playback(RATE)
    playback.begin("a")
    scheduled: list[tuple[float, int, int]] = []
    now = queue_end = 1000.0
    sent = head = 0
    for (gap, samples), look in zip(chunks, looks * len(chunks), strict=False):
        now += gap
        playback.add(samples, now)
        start = max(now + LOOKAHEAD, queue_end)
        scheduled.append((start, sent, samples))
        queue_end = start + samples / RATE
        sent += samples
        assert playback.remaining(now) == pytest.approx(queue_end - now, abs=1e-6)
        now += look
        assert playback.position(now) >= head
        head = playback.position(now)
        player = max(
            (at + min(n, (now - t) * RATE) for t, at, n in scheduled if now >= t), default=0
        )
        assert abs(head - player) <= LOOKAHEAD * RATE + 1
