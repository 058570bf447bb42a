"""How much of which reply has been sent, and how much of it has been heard.

Generation outruns playback: a reply of ten seconds arrives in one. What the listener has heard is
known from the client's `played` reports. A client that reports nothing (the stock one) is followed
by the clock: its player starts a chunk 10 ms after it arrives, plays no faster than real time, and
starts anew when its queue has run dry.

Positions count samples of the output stream since the session began. Times are seconds of any
clock that only goes forward; the caller gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Playback", "ReplyAudio"]

LOOKAHEAD = 0.010  # what the stock player adds to the arrival time of its first chunk


@dataclass
class ReplyAudio:
    """One reply's place in the output stream."""

    item_id: str
    from_sample: int
    """Position of its first sample."""
    samples: int = 0
    """How many samples of it were sent."""
    generating: bool = True
    """Whether more may come."""
    number: int = 0
    """Which reply of the stream it is, from 1."""

    @property
    def end_sample(self) -> int:
        """Position after its last sample sent so far."""
        return self.from_sample + self.samples


class Playback:
    """The output stream of one session.

    Args:
        sample_rate: Rate of the stream in hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.sent = 0
        """Position of the next sample to send."""
        self.begun = 0
        """How many replies have begun."""
        self.replies: list[ReplyAudio] = []
        """Replies not yet heard to their end, oldest first; only the last one can grow."""
        self._reports = False
        self._head = 0  # reported position, or the one a clear has frozen
        self._cleared: list[ReplyAudio] = []
        self._clear_at = 0
        self._clearing = False
        self._fell_silent = False
        self._run_from = 0
        self._run_start = 0.0

    @property
    def follows_reports(self) -> bool:
        """Whether the client reports what it plays; until it does, the clock is followed."""
        return self._reports

    @property
    def clearing(self) -> bool:
        """Whether a clear still waits for the client's word on where it fell silent."""
        return self._clearing

    def begin(self, item_id: str) -> ReplyAudio:
        """Start a reply; the one before it cannot grow any more."""
        if self.replies:
            self.replies[-1].generating = False
        self.begun += 1
        reply = ReplyAudio(item_id, self.sent, number=self.begun)
        self.replies.append(reply)
        return reply

    def add(self, samples: int, now: float) -> None:
        """Count `samples` more of the newest reply as sent at `now`."""
        run_end = self._run_start + (self.sent - self._run_from) / self.sample_rate
        if now + LOOKAHEAD > run_end:
            self._run_start = now + LOOKAHEAD
            self._run_from = self.sent
        self.replies[-1].samples += samples
        self.sent += samples

    def position(self, now: float) -> int:
        """Return the position of the playback head at `now`."""
        if self._reports:
            return self._head
        elapsed = max(0.0, now - self._run_start)
        return max(self._head, min(self.sent, self._run_from + round(elapsed * self.sample_rate)))

    def heard(self, reply: ReplyAudio, now: float) -> int:
        """Return how many samples of `reply` have been heard at `now`."""
        head = self._head if reply in self._cleared else self.position(now)
        return max(0, min(reply.samples, head - reply.from_sample))

    def remaining(self, now: float) -> float:
        """Return how many seconds of what was sent are still to be heard."""
        ends = self._run_start + (self.sent - self._run_from) / self.sample_rate
        return max(0.0, ends - now)

    def report(self, samples: int) -> bool:
        """Take a `played` report.

        Returns:
            True if it answers a clear: see `settle`.
        """
        self._reports = True
        if not self._clearing:
            self._head = max(self._head, min(samples, self.sent))
            return False
        if samples < self._clear_at:
            # Still about the audio that was cleared: where it fell silent.
            self._head = max(self._head, samples)
            self._fell_silent = True
            return False
        if not self._fell_silent:
            # A report that was on its way: all of it had been heard before the clear came.
            self._head = self._clear_at
        return True

    def take_heard(self, now: float) -> list[ReplyAudio]:
        """Remove and return the replies that have been heard to their end."""
        head = self.position(now)
        heard = [r for r in self.replies if not r.generating and head >= r.end_sample]
        self.replies = [r for r in self.replies if r not in heard]
        return heard

    def clear(self, now: float) -> int:
        """Drop everything that has not been heard; return the position playback goes on from.

        The replies concerned wait for `settle`: at once where the clock is followed, else when the
        client has said where it fell silent.
        """
        self._head = self.position(now)
        self._cleared = self.replies
        self.replies = []
        self._clear_at = self.sent
        self._clearing = True
        self._fell_silent = False
        return self.sent

    def settle(self, now: float) -> list[tuple[ReplyAudio, int]]:
        """End a clear; return each reply it hit with the number of its samples that were heard."""
        cleared = [(reply, self.heard(reply, now)) for reply in self._cleared]
        self._cleared = []
        self._clearing = False
        self._head = max(self._head, self._clear_at)
        self._run_from, self._run_start = self.sent, now
        return cleared
