"""The session core under any order of events, watched from the outside.

A model client plays what it is sent and reports it, well or badly; a model backend sends what it
likes; timers fire when they are due, and sometimes when they no longer are. Everything is judged by
the effects alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gptme_voice_plugin.backends import base
from gptme_voice_plugin.errors import BackendError, BadMessage, InternalError
from gptme_voice_plugin.voice import events as core
from gptme_voice_plugin.voice import wire
from gptme_voice_plugin.voice.session import CLEAR_TIMEOUT, Session
from gptme_voice_plugin.voice.transcript import SpokenTurn
from gptme_voice_plugin.voice.wire import Dialect

RATE = 24_000
TIMERS = {"hello", "backend", "slow", "clear", "drain", "words"}
STATES = {"listening", "thinking", "waiting", "speaking", "muted", "reconnecting"}
CLOCK_ERROR = math.ceil(0.0105 * RATE)
"""Samples by which the clock may misjudge the stock player: its start-up, and rounding."""

SAMPLES = st.sampled_from([1, 240, 2_400, 24_000, 24_000])
CHUNKS = st.lists(SAMPLES, min_size=1, max_size=3)
SOME = st.sampled_from([0, 1, 2, 100, 100])
SECONDS = st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.1, 0.3, 1.0, 3.0])
KINDS = ["stock", "silent", "faithful", "faithful", "lazy", "liar"]


@dataclass
class Heard:
    """One reply as an observer knows it."""

    item_id: str
    from_sample: int
    samples: int = 0
    growing: bool = True
    grew_at_flush: bool = False
    flushed: bool = False
    heard: bool = False
    """Heard to its end, as far as the server can know."""
    settled: bool = False
    heard_at_flush: int | None = None
    """Samples of it that the client had played when it fell silent."""
    wants_exact: bool = False
    """The client has answered its clear, and nothing has come between."""

    @property
    def end(self) -> int:
        return self.from_sample + self.samples


@dataclass
class Player:
    """What a client does with the frames it gets: plays them, and can say how far it is."""

    position: int = 0
    """Position of the next sample to come, counted by the client itself."""
    head: int = 0
    reply: tuple[str, int] | None = None
    reply_samples: int = 0
    chunks: list[tuple[float, int, int]] = field(default_factory=list)
    """Start time, position and samples, as the stock player schedules them."""
    queue_end: float = 0.0

    def audio(self, samples: int, now: float) -> None:
        assert self.reply is not None, "audio came before any reply was announced"
        assert self.reply[1] + self.reply_samples == self.position
        start = max(now + 0.010, self.queue_end)
        self.chunks.append((start, self.position, samples))
        self.queue_end = start + samples / RATE
        self.position += samples
        self.reply_samples += samples

    def scheduled(self, now: float) -> int:
        """Where the stock player is at `now`."""
        at = 0
        for start, position, samples in self.chunks:
            if now >= start:
                at = position + min(samples, round((now - start) * RATE))
        return at

    def play(self, seconds: float) -> None:
        self.head = min(self.position, self.head + round(seconds * RATE))

    def clear(self, at_sample: int, now: float) -> None:
        self.position = self.head = at_sample
        self.chunks = []
        self.queue_end = now


class SessionMachine(RuleBasedStateMachine):
    """Events in any order, and what must hold whatever comes."""

    @initialize(
        kind=st.sampled_from(KINDS),
        begun=st.sampled_from([True, True, True, False]),
        early_frames=st.integers(0, 3),
        rates=st.sampled_from([(), (16_000,), (48_000, 16_000)]),
        reports_at_once=st.sampled_from([True, True, False]),
        least_steps=st.integers(0, 40),
        writes=st.booleans(),
    )
    def begin(
        self,
        kind: str,
        begun: bool,
        early_frames: int,
        rates: tuple[int, ...],
        reports_at_once: bool,
        least_steps: int,
        writes: bool,
    ) -> None:
        self.writes = writes
        self.turns: list[SpokenTurn] = []
        self.mentioned: set[str] = set()  # items of replies, also those that had no sound
        self.kind = kind
        self.v1 = kind != "stock"
        self.rates = rates
        self.session = Session("session", Dialect.V1 if self.v1 else Dialect.STOCK)
        self.now = 1000.0
        self.steps = 0
        self.least_steps = least_steps
        self.timers: dict[str, float] = {}
        self.started: set[str] = set()
        self.outbox: deque[wire.ServerMessage | int] = deque()
        self.inbox: deque[wire.Played] = deque()
        self.player = Player()
        self.replies: dict[str, Heard] = {}
        self.dead: set[str] = set()  # no audio of these may be sent any more
        self.uncaptioned: set[str] = set()
        self.just_heard: set[str] = set()  # cut when it had just been heard: captions may come
        self.reported_head = 0
        self.sent = 0
        self.shown: str | None = None
        self.opened = self.ready = self.closed = self.hello = False
        self.muted = self.reported = self.user_speaking = False
        self.captured = 0
        self.expected: list[bytes] = []
        self.forwarded: list[bytes] = []
        self.held: list[bytes] = []
        self.item_count = 0
        self.event: object = None
        self.observe(self.session.start())
        if begun:
            if self.v1:
                self.say_hello()
            for _ in range(early_frames):
                self.speak_into_microphone(160)
            self.backend_ready()
            if reports_at_once and kind in ("faithful", "lazy"):
                self.report(1)

    # The observer

    def feed(self, event: core.Event) -> list[core.Effect]:
        self.event = event
        effects = self.session.handle(event, self.now)
        self.observe(effects)
        return effects

    def observe(self, effects: list[core.Effect]) -> None:
        if self.closed:
            assert effects == [], "something happened after Close"
        flush_waits_for_clear = False
        for index, effect in enumerate(effects):
            assert not self.closed, "Close was not the last effect"
            if flush_waits_for_clear:
                assert isinstance(effect, core.Send) and isinstance(effect.message, wire.Clear)
                flush_waits_for_clear = False
            match effect:
                case core.OpenBackend():
                    assert not self.opened
                    self.opened = True
                case core.Send(message):
                    self.observe_message(message, effects, index)
                case core.SendAudio(item_id, pcm):
                    self.observe_audio(item_id, pcm)
                case core.Flush():
                    self.observe_flush()
                    flush_waits_for_clear = True
                case core.Forward(pcm):
                    assert self.ready
                    self.forwarded.append(pcm)
                case core.InterruptReply(item_id, heard_ms):
                    self.observe_interrupt(item_id, heard_ms)
                case core.StartTimer(name, seconds):
                    assert name in TIMERS
                    assert math.isfinite(seconds) and seconds >= 0
                    self.timers[name] = self.now + seconds
                    self.started.add(name)
                case core.StopTimer(name):
                    assert name in TIMERS
                    self.timers.pop(name, None)
                case core.WriteTurns(turns):
                    assert self.ready and self.writes and turns
                    self.turns += turns
                case core.CommitTurn() | core.TypeText():
                    assert self.ready
                case core.Close():
                    self.closed = True
                    self.timers.clear()
                case _:
                    raise AssertionError(f"unknown effect {effect}")
        assert not flush_waits_for_clear

    def observe_message(
        self, message: wire.ServerMessage, effects: list[core.Effect], index: int
    ) -> None:
        match message:
            case wire.Preparing():
                assert self.opened and not self.ready
            case wire.Ready():
                assert not self.ready
                self.ready = True
                self.expected += self.held
            case wire.Reply(item_id, from_sample):
                assert item_id not in self.replies, "a reply began twice"
                assert from_sample == self.sent
                for reply in self.replies.values():
                    if reply.growing:
                        self.dead.add(reply.item_id)
                        reply.growing = False
                self.replies[item_id] = Heard(item_id, from_sample)
            case wire.Clear(at_sample):
                assert isinstance(effects[index - 1], core.Flush)
                assert at_sample == self.sent
            case wire.StateMessage(state):
                assert self.ready and state in STATES
                assert state != self.shown, "a state was shown twice in a row"
                self.shown = state
            case wire.ErrorMessage(fatal=fatal):
                ends = any(isinstance(effect, core.Close) for effect in effects[index:])
                assert ends == fatal
        self.outbox.append(message)

    def observe_audio(self, item_id: str, pcm: bytes) -> None:
        assert isinstance(self.event, base.Audio)
        assert (item_id, pcm) == (self.event.item_id, self.event.pcm)
        assert item_id not in self.dead, "audio of a reply that has ended"
        assert item_id == list(self.replies)[-1], "two replies are speaking"
        self.replies[item_id].samples += len(pcm) // 2
        self.sent += len(pcm) // 2
        self.outbox.append(len(pcm) // 2)

    def observe_flush(self) -> None:
        newest = list(self.replies.values())[-1]
        assert isinstance(
            self.event, base.SpeechStarted | base.Interrupted | wire.Interrupt | wire.Text
        ), "a flush without a reason"
        if isinstance(self.event, base.Interrupted):
            assert self.event.item_id == newest.item_id, "a flush reached into the next reply"
        assert not newest.flushed, "a reply was cut twice"
        assert not newest.settled
        for reply in self.replies.values():
            # Another clear came before the answer to the last: its value is no longer exact.
            reply.wants_exact = False
            if reply.flushed or reply.heard:
                continue
            if not reply.growing and self.reported_head >= reply.end:
                reply.heard = True
                self.just_heard.add(reply.item_id)
            else:
                reply.flushed = True
                reply.grew_at_flush, reply.growing = reply.growing, False
                self.dead.add(reply.item_id)
                self.uncaptioned.add(reply.item_id)
        self.outbox = deque(frame for frame in self.outbox if not isinstance(frame, int))

    def observe_interrupt(self, item_id: str | None, heard_ms: int) -> None:
        if item_id is None:
            assert isinstance(self.event, wire.Interrupt)
            assert self.shown in ("thinking", "waiting", "reconnecting")
            assert heard_ms == 0
            return
        reply = self.replies[item_id]
        assert reply.flushed, "a reply was interrupted that nobody cut"
        assert not reply.settled, "a reply was interrupted twice"
        reply.settled = True
        assert 0 <= heard_ms <= reply.samples * 1000 // RATE
        if not reply.grew_at_flush and reply.samples % 24 == 0:
            assert heard_ms < reply.samples // 24, "what was heard whole is to be left alone"
        played = self.played_of(reply)
        if self.kind in ("faithful", "lazy") and self.reported:
            assert heard_ms <= played * 1000 // RATE, "more was heard than was played"
        if reply.wants_exact:
            assert heard_ms == played * 1000 // RATE
        if not self.reported:
            by_clock = max(
                0, min(reply.samples, self.player.scheduled(self.now) - reply.from_sample)
            )
            assert abs(heard_ms - by_clock * 1000 / RATE) <= CLOCK_ERROR * 1000 / RATE + 1

    def played_of(self, reply: Heard) -> int:
        if reply.heard_at_flush is not None:
            return reply.heard_at_flush
        return max(0, min(reply.samples, self.player.head - reply.from_sample))

    def heard_by_clock(self, reply: Heard) -> bool:
        return self.player.scheduled(self.now) >= reply.end - CLOCK_ERROR

    def living(self) -> list[Heard]:
        return [r for r in self.replies.values() if not r.flushed and not r.heard]

    def mark_heard(self, head: int) -> None:
        """The server has been told, or has counted, that playback is at `head`."""
        for reply in self.replies.values():
            if not reply.flushed and not reply.growing and head >= reply.end:
                reply.heard = True

    # Time and transport

    @property
    def by_clock(self) -> bool:
        return not self.reported

    def deliver(self, count: int) -> None:
        """Write `count` frames to the client, which takes them at once."""
        for _ in range(min(count, len(self.outbox))):
            frame = self.outbox.popleft()
            if isinstance(frame, int):
                self.player.audio(frame, self.now)
            elif isinstance(frame, wire.Reply):
                self.player.reply = (frame.item_id, frame.from_sample)
                self.player.reply_samples = 0
            elif isinstance(frame, wire.Clear):
                self.take_clear(frame.at_sample)

    def take_clear(self, at_sample: int) -> None:
        silent_at = self.player.head
        waiting = [r for r in self.replies.values() if r.flushed and r.end <= at_sample]
        for reply in waiting:
            if reply.heard_at_flush is None:
                reply.heard_at_flush = self.played_of(reply)
        self.player.clear(at_sample, self.now)
        if self.kind in ("faithful", "lazy"):
            self.inbox.append(wire.Played(silent_at))
        if self.kind == "faithful":  # a lazy one says the rest with its next report
            self.inbox.append(wire.Played(at_sample))

    def tell(self, played: wire.Played) -> None:
        """One report reaches the server."""
        pending = [r for r in self.replies.values() if r.flushed and not r.settled]
        if self.kind == "faithful" and pending and "clear" in self.timers:
            # The clear was answered by "where it fell silent"; what it says is the truth from here.
            for reply in pending:
                if reply.heard_at_flush is None or not self.answered(reply, played.samples):
                    continue
                reply.wants_exact = True
        self.reported = True
        was = self.sent
        self.feed(played)
        assert self.sent == was
        if not self.closed:
            self.reported_head = max(self.reported_head, played.samples)
            self.mark_heard(played.samples)

    def answered(self, reply: Heard, samples: int) -> bool:
        """Whether the report `samples` is where the player fell silent for `reply`."""
        assert reply.heard_at_flush is not None
        return reply.heard_at_flush < reply.samples and (
            samples == reply.from_sample + reply.heard_at_flush
        )

    def pass_time(self, until: float) -> None:
        while True:
            if self.by_clock:  # which supposes that what is sent arrives
                self.deliver(len(self.outbox))
            due = min(self.timers.items(), key=lambda timer: timer[1], default=("", math.inf))
            step_to = min(until, max(due[1], self.now))
            self.player.play(step_to - self.now)
            self.now = step_to
            if due[1] > until:
                return
            del self.timers[due[0]]
            before = self.shown
            self.feed(core.TimerFired(due[0]))
            if due[0] == "drain" and self.by_clock and "drain" not in self.timers:
                if before == "speaking" and self.shown != "speaking":
                    assert all(self.heard_by_clock(reply) for reply in self.living())
                self.mark_heard(self.sent)

    # The client

    def say_hello(self) -> None:
        effects = self.feed(wire.Hello("test/1", input_sample_rates=self.rates))
        if not self.closed:
            opens = [e for e in effects if isinstance(e, core.OpenBackend)]
            assert len(opens) == (not self.hello), "a second hello must not open a second backend"
        self.hello = True

    @rule(samples=st.sampled_from([0, 1, 160, 320]))
    def speak_into_microphone(self, samples: int) -> None:
        self.captured += 1
        pcm = self.captured.to_bytes(4, "little") + bytes(2 * samples)
        if not self.closed and not self.muted:
            if self.ready:
                self.expected.append(pcm)
            elif not self.v1 or (self.hello and len(self.rates) == 1):
                self.held.append(pcm)  # its rate is known, so it can wait
        self.feed(core.ClientAudio(pcm))

    @precondition(lambda self: self.v1 and self.hello)
    @rule(on=st.booleans())
    def mute(self, on: bool) -> None:
        effects = self.feed(wire.Mute(on))
        if not self.closed and on and self.user_speaking:
            assert core.CommitTurn() in effects
        self.muted = on

    @precondition(lambda self: self.v1 and self.hello)
    @rule()
    def interrupt(self) -> None:
        living = self.ready and bool(self.living())
        effects = self.feed(wire.Interrupt())
        if not self.closed and living:
            assert core.Flush() in effects

    @precondition(lambda self: self.v1)
    @rule(what=st.sampled_from(["hello", "commit", "text", "too much played"]))
    def client_says_something(self, what: str) -> None:
        if what == "hello" or not self.hello:
            self.say_hello()
        elif what == "commit":
            self.feed(wire.Commit())
        elif what == "text":
            self.feed(wire.Text("hello"))
        else:
            effects = self.feed(wire.Played(self.sent + 1))
            assert not [effect for effect in effects if not isinstance(effect, core.Send)]

    @precondition(lambda self: not self.v1)
    @rule()
    def stock_client_commits(self) -> None:
        self.feed(wire.Commit())

    @precondition(lambda self: self.ready and not self.by_clock)
    @rule(seconds=SECONDS, written=SOME, arriving=SOME)
    def play_and_report(self, seconds: float, written: int, arriving: int) -> None:
        self.deliver(written)
        self.pass_time(self.now + seconds)
        self.report(arriving)

    def report(self, arriving: int) -> None:
        if self.kind in ("faithful", "lazy"):
            self.inbox.append(wire.Played(self.player.head))
        for _ in range(min(arriving, len(self.inbox))):
            self.tell(self.inbox.popleft())

    @precondition(lambda self: self.kind in ("faithful", "lazy") and self.ready)
    @rule(arriving=SOME)
    def client_reports(self, arriving: int) -> None:
        self.report(arriving)

    @precondition(lambda self: self.kind == "liar" and self.ready)
    @rule(share=st.floats(0, 1))
    def client_lies(self, share: float) -> None:
        self.tell(wire.Played(int(self.sent * share)))

    # The backend

    @precondition(lambda self: self.opened)
    @rule(share=st.none() | st.floats(0, 1))
    def backend_prepares(self, share: float | None) -> None:
        effects = self.feed(base.Preparing("Fetching it", share))
        assert bool(effects) == (not self.ready and not self.closed)
        assert not effects or "backend" in self.timers

    @precondition(lambda self: self.opened and not self.ready)
    @rule()
    def backend_ready(self) -> None:
        self.feed(core.BackendReady(16_000, RATE, "model", "backend", writes=self.writes))

    def send_audio(self, item_id: str, samples: int) -> None:
        due = not self.closed and item_id not in self.dead
        self.mentioned.add(item_id)
        before = self.sent
        self.feed(base.Audio(item_id, bytes(2 * samples)))
        assert self.sent == before + samples * due, "reply audio was lost or sent twice"

    @precondition(lambda self: self.ready)
    @rule(chunks=CHUNKS, done=st.booleans(), late=st.booleans())
    def new_reply(self, chunks: list[int], done: bool, late: bool = False) -> None:
        self.item_count += 1
        for samples in chunks:
            self.send_audio(f"item-{self.item_count}", samples)
        if late and self.item_count > 1:
            self.send_audio(f"item-{self.item_count - 1}", 240)
        if done:
            self.done(f"item-{self.item_count}")

    @precondition(lambda self: self.ready and self.item_count)
    @rule(samples=SAMPLES, data=st.data())
    def more_or_late_audio(self, samples: int, data: st.DataObject) -> None:
        self.send_audio(self.any_item(data), samples)

    def any_item(self, data: st.DataObject) -> str:
        newest = self.item_count + 1
        return f"item-{data.draw(st.integers(max(1, newest - 3), newest))}"

    def known(self, item_id: str) -> None:
        self.item_count = max(self.item_count, int(item_id.removeprefix("item-")))

    def done(self, item_id: str) -> None:
        self.known(item_id)
        if item_id in self.replies:
            self.replies[item_id].growing = False
        self.dead.add(item_id)
        before = self.shown
        self.feed(base.ReplyDone(item_id))
        if before == "speaking" and self.shown != "speaking":
            # Decision 7: only what has been heard is over.
            assert all(self.looks_heard(reply) for reply in self.living())
            self.mark_heard(self.sent)

    def looks_heard(self, reply: Heard) -> bool:
        if self.by_clock:
            return self.heard_by_clock(reply)
        return self.kind == "liar" or self.player.head >= reply.end

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def any_done(self, data: st.DataObject) -> None:
        self.done(self.any_item(data))

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def backend_interrupts(self, data: st.DataObject) -> None:
        item_id = self.any_item(data)
        self.known(item_id)
        if item_id in self.replies and item_id != list(self.replies)[-1]:
            reply = self.replies[item_id]
            if reply in self.living():
                # Its successor is speaking: it is heard to the end of what was sent.
                assert not [e for e in self.feed(base.Interrupted(item_id)) if e == core.Flush()]
                return
        living = [reply.item_id for reply in self.living()]
        effects = self.feed(base.Interrupted(item_id))
        if not self.closed:
            assert (core.Flush() in effects) == (item_id in living)
        self.dead.add(item_id)
        self.uncaptioned.add(item_id)

    @precondition(lambda self: self.ready)
    @rule()
    def speech_starts(self) -> None:
        living = self.living()
        effects = self.feed(base.SpeechStarted())
        if not self.closed and living:
            assert core.Flush() in effects
            assert effects.index(core.Flush()) < effects.index(core.Send(wire.SpeechStarted()))
        if not self.closed:
            assert (core.CommitTurn() in effects) == self.muted
        self.user_speaking = True

    @precondition(lambda self: self.ready)
    @rule(reply_expected=st.booleans())
    def speech_stops(self, reply_expected: bool) -> None:
        effects = self.feed(base.SpeechStopped(reply_expected))
        if not self.closed:
            assert core.Send(wire.SpeechStopped()) in effects
        self.user_speaking = False

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), cut=st.booleans())
    def agent_transcript(self, data: st.DataObject, cut: bool) -> None:
        item_id = self.any_item(data)
        self.mentioned.add(item_id)
        effects = self.feed(base.AgentTranscript(item_id, "words", True, cut))
        # Of a cancelled reply only the caption of what was heard of it is shown.
        if not self.closed and item_id not in self.just_heard:
            assert bool(effects) == (cut or item_id not in self.uncaptioned)

    @precondition(lambda self: self.ready)
    @rule(
        event=st.sampled_from(
            [
                base.Usage(1, 2, 3, 4),
                base.Ending("time is up", 60),
                base.Failed("busy", "Busy.", False),
                base.UserTranscript("user", "words", True),
                base.Reconnecting(True),
                base.Reconnecting(False),
                base.Timings({"total": 0.5}),
                core.Fault(BadMessage("no")),
            ]
        )
    )
    def something_else(self, event: core.Event) -> None:
        effects = self.feed(event)
        silent = isinstance(event, base.Reconnecting | base.Timings)
        assert self.closed or effects or silent
        if event == base.Reconnecting(True):
            self.user_speaking = False

    @precondition(lambda self: self.ready)
    @rule(waits=st.booleans())
    def turn_waits_for_others(self, waits: bool) -> None:
        before = self.shown
        effects = self.feed(base.Queued(waits))
        assert len(effects) <= 1, "it is shown, and does nothing"
        shown = "waiting" if waits else "thinking"
        expected = shown if before in ("thinking", "waiting") else before
        assert self.closed or self.shown == expected

    @precondition(lambda self: self.kind in ("faithful", "lazy") and self.ready)
    @rule()
    def hear_everything_out(self) -> None:
        self.deliver(len(self.outbox))
        self.pass_time(self.now + 60)
        self.report(100)

    @precondition(lambda self: self.ready and self.living())
    @rule(
        before=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
        reported=st.booleans(),
        reaction=st.sampled_from([0.0, 0.02, 0.1, 0.5]),
        by_speech=st.booleans(),
        next_reply=st.booleans(),
    )
    def barge_in(
        self, before: float, reported: bool, reaction: float, by_speech: bool, next_reply: bool
    ) -> None:
        self.deliver(len(self.outbox))
        if reported and not self.by_clock:
            self.report(100)
        self.pass_time(self.now + before)
        if by_speech or not self.v1:
            self.speech_starts()
        else:
            self.interrupt()
        if next_reply:
            self.new_reply([2_400], False)
        self.pass_time(self.now + reaction)
        self.deliver(len(self.outbox))
        if not self.by_clock:
            self.report(100)

    # The session

    @precondition(lambda self: "drain" in self.timers)
    @rule()
    def timer_fires_a_little_early(self) -> None:
        due = self.timers.pop("drain")
        self.pass_time(max(self.now, due - 0.001))
        self.feed(core.TimerFired("drain"))

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.pass_time(self.now + seconds)

    @rule(name=st.sampled_from(sorted(TIMERS)))
    def stale_timer(self, name: str) -> None:
        if name in self.timers or name not in self.started:
            return
        assert self.feed(core.TimerFired(name)) == []

    @precondition(lambda self: self.steps > self.least_steps)
    @rule(
        event=st.sampled_from(
            [
                wire.End(),
                core.ClientGone(1001),
                core.Stopping(),
                core.BackendClosed(),
                core.Fault(InternalError()),
                core.Fault(BackendError("The backend failed.")),
                base.Failed("gone", "Gone.", True),
            ]
        )
    )
    def end(self, event: core.Event) -> None:
        effects = self.feed(event)
        assert self.closed
        assert not effects or isinstance(effects[-1], core.Close)

    @invariant()
    def each_turn_is_written_once_and_in_order(self) -> None:
        assert [turn.number for turn in self.turns] == list(range(1, len(self.turns) + 1))
        spoken = [t for t in self.turns if t.role == "user" and not t.typed]
        assert len(spoken) <= 1, "the same words were written twice"
        assert sum(t.role == "assistant" for t in self.turns) <= len(self.mentioned)

    @invariant()
    def captured_audio_is_forwarded_once_and_in_order(self) -> None:
        assert self.forwarded == self.expected

    @invariant()
    def state_tells_whether_a_reply_is_speaking(self) -> None:
        self.steps += 1
        if self.by_clock:  # which supposes that what is sent arrives
            self.deliver(len(self.outbox))
        if not self.ready or self.closed:
            return
        living = self.living()
        if living and self.kind != "liar":
            assert self.shown == "speaking", "a reply is speaking, and the state does not say so"
        if self.by_clock and "drain" not in self.timers and not any(r.growing for r in living):
            assert self.shown != "speaking", "everything was heard, and the state does not say so"
        if not living:
            assert self.shown != "speaking"

    def teardown(self) -> None:
        """Every reply that was cut is reported to the backend, if the session lasts."""
        if not hasattr(self, "session") or self.closed:
            return
        self.pass_time(self.now + CLEAR_TIMEOUT + 0.001)
        if self.closed:  # a handshake that never came
            return
        for reply in self.replies.values():
            if reply.flushed and not reply.settled:
                assert self.was_heard_whole(reply), "a reply was cut and the backend never told"

    def was_heard_whole(self, reply: Heard) -> bool:
        if self.kind == "liar" or self.by_clock:
            return True
        return self.played_of(reply) >= reply.samples


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
