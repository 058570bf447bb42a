"""The session core, one behaviour at a time: what happens in, what is to be done out."""

from __future__ import annotations

import pytest

from gptme_voice_plugin.backends import base
from gptme_voice_plugin.errors import (
    BackendError,
    BackendUnavailable,
    BadMessage,
    InternalError,
    VoiceError,
)
from gptme_voice_plugin.voice import events as core
from gptme_voice_plugin.voice import wire
from gptme_voice_plugin.voice.session import (
    BACKEND_TIMEOUT,
    CLEAR_TIMEOUT,
    HELD_SECONDS,
    HELLO_TIMEOUT,
    MAX_ERRORS,
    PREPARING_SECONDS,
    SLOW_SECONDS,
    STOCK_INPUT_RATE,
    Session,
    State,
)
from gptme_voice_plugin.voice.wire import Dialect

RATE = 24_000
READY = core.BackendReady(16_000, RATE, "echo", "echo-1", ("interrupt",))
SECOND = bytes(2 * RATE)


class Harness:
    """A session, its time, and what it did."""

    def __init__(self, dialect: Dialect = Dialect.V1, ready: bool = True) -> None:
        self.session = Session("session-1", dialect)
        self.now = 50.0
        self.effects = self.session.start()
        if ready:
            if dialect is Dialect.V1:
                self.do(wire.Hello("test/1"))
            self.do(READY)
        self.effects.clear()

    def do(self, event: core.Event) -> list[core.Effect]:
        """Let one event happen; return its effects."""
        effects = self.session.handle(event, self.now)
        self.effects += effects
        return effects

    def at(self, seconds: float) -> Harness:
        """Set the time, in seconds since the beginning."""
        self.now = 50.0 + seconds
        return self

    def speaks(self, item_id: str = "a", seconds: float = 1.0, done: bool = False) -> None:
        """Let the backend generate a reply."""
        self.do(base.Audio(item_id, bytes(2 * int(RATE * seconds))))
        if done:
            self.do(base.ReplyDone(item_id))

    def of(self, kind: type) -> list[core.Effect]:
        """Return the effects of one kind so far."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def states(self) -> list[str]:
        """Return the states that were shown so far."""
        messages = [effect.message for effect in self.effects if isinstance(effect, core.Send)]
        return [message.state for message in messages if isinstance(message, wire.StateMessage)]


@pytest.fixture
def v1() -> Harness:
    """A v1 session that is ready."""
    return Harness()


@pytest.fixture
def stock() -> Harness:
    """A stock session that is ready."""
    return Harness(Dialect.STOCK)


def error(code: str, message: str, fatal: bool) -> core.Send:
    """Return the effect that tells the client of an error."""
    return core.Send(wire.ErrorMessage(code, message, fatal))


# Handshake


def test_v1_waits_for_hello() -> None:
    """A v1 session starts with the deadline for `hello`, and opens no backend."""
    assert Session("s", Dialect.V1).start() == [core.StartTimer("hello", HELLO_TIMEOUT)]


def test_stock_opens_the_backend_at_once() -> None:
    """A stock client says nothing, so its backend is opened without being asked."""
    assert Session("s", Dialect.STOCK).start() == [
        core.OpenBackend(None),
        core.StartTimer("backend", BACKEND_TIMEOUT),
        core.StartTimer("slow", SLOW_SECONDS),
    ]


def test_hello_opens_the_backend() -> None:
    """`hello` stops its deadline and opens the backend with what the client asked."""
    hello = wire.Hello("test/1", input_sample_rates=(48_000,))
    assert Harness(ready=False).do(hello) == [
        core.StopTimer("hello"),
        core.OpenBackend(hello),
        core.StartTimer("backend", BACKEND_TIMEOUT),
        core.StartTimer("slow", SLOW_SECONDS),
    ]


def test_no_hello_in_time() -> None:
    """Without `hello` the session ends with 1008 and says why."""
    message = "No 'hello' came; a session begins with it."
    assert Harness(ready=False).do(core.TimerFired("hello")) == [
        error("hello_required", message, True),
        core.Close(1008, message),
    ]


def test_a_backend_that_takes_its_time() -> None:
    """The client is told that it is waited for, once, unless it was told what is prepared."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    waiting = wire.Preparing("Connecting to the speech backend", None)
    assert harness.do(core.TimerFired("slow")) == [core.Send(waiting)]
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    harness.do(base.Preparing("Fetching it", 0.5))
    assert harness.do(core.TimerFired("slow")) == []
    assert core.StopTimer("slow") in harness.do(READY)


def test_backend_not_ready_in_time() -> None:
    """A backend that does not get ready ends the session with 1011 and says why."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    message = "The speech backend did not get ready in time; try again."
    assert harness.do(core.TimerFired("backend")) == [
        error("backend_timeout", message, True),
        core.Close(1011, message),
    ]


@pytest.mark.parametrize("name", ["hello", "backend", "slow", "clear", "drain"])
def test_stale_timers_do_nothing(v1: Harness, name: str) -> None:
    """A timer that fires after it was stopped has no effect."""
    assert v1.do(core.TimerFired(name)) == []


def test_ready_tells_how_the_session_runs() -> None:
    """`ready` carries the session's id, the rates and the backend, then the state is shown."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    assert harness.do(READY) == [
        core.StopTimer("backend"),
        core.StopTimer("slow"),
        core.Send(wire.Ready("session-1", 16_000, RATE, "echo", "echo-1", ("interrupt",))),
        core.Send(wire.StateMessage("listening")),
    ]


def test_ready_tells_what_the_user_should_know() -> None:
    """A hint of the backend is for the client; where there is none, nothing is said."""
    for hint, told in (("It is a parrot.", "It is a parrot."), ("", None)):
        harness = Harness(ready=False)
        harness.do(wire.Hello("test/1"))
        harness.do(core.BackendReady(16_000, RATE, "echo", "echo-1", hint=hint))
        (ready,) = (
            effect.message
            for effect in harness.effects
            if isinstance(effect, core.Send) and isinstance(effect.message, wire.Ready)
        )
        assert ready.hint == told


def preparing(harness: Harness, share: float | None, what: str = "Fetching it") -> list[object]:
    """Let the backend prepare; check that it gets more time, and return what is told of it."""
    timer, *sent = harness.do(base.Preparing(what, share))
    assert timer == core.StartTimer("backend", BACKEND_TIMEOUT)
    return [effect.message for effect in sent if isinstance(effect, core.Send)]


def test_a_backend_that_prepares() -> None:
    """It is waited for as long as it says something, and the client is told what it does."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    assert preparing(harness, None) == [wire.Preparing("Fetching it", None)]
    assert preparing(harness, 0.0) == [wire.Preparing("Fetching it", 0.0)]
    assert preparing(harness, 0.5) == [wire.Preparing("Fetching it", 0.5)]
    assert preparing(harness, 0.5, "Loading it") == [wire.Preparing("Loading it", 0.5)]
    assert harness.do(READY)[0] == core.StopTimer("backend")
    assert harness.do(base.Preparing("Fetching it", 0.6)) == []
    assert harness.do(core.TimerFired("backend")) == []


def test_preparing_does_not_flood() -> None:
    """A client is told of whole per cent, and now and then that it still goes on."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    told = [message for n in range(10_001) for message in preparing(harness, n / 10_000)]
    shares = [message.share for message in told if isinstance(message, wire.Preparing)]
    assert len(shares) == 101
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0.0, 1.0)
    assert preparing(harness.at(PREPARING_SECONDS - 0.1), 1.0) == []
    assert preparing(harness.at(PREPARING_SECONDS), 1.0) == [wire.Preparing("Fetching it", 1.0)]
    assert preparing(harness.at(PREPARING_SECONDS + 1), 1.0) == []


@pytest.mark.parametrize(("share", "shown"), [(-1.0, 0.0), (2.0, 1.0)])
def test_preparing_more_than_all(share: float, shown: float) -> None:
    """Whatever a backend counts, a client gets a share."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    assert preparing(harness, share) == [wire.Preparing("Fetching it", shown)]


def test_what_is_said_while_it_prepares() -> None:
    """The first of it is kept, as long as that may be, and the session goes on."""
    harness = Harness(Dialect.STOCK, ready=False)
    for second in range(2 * HELD_SECONDS):
        harness.at(second).do(core.ClientAudio(bytes([second]) * 2 * STOCK_INPUT_RATE))
        preparing(harness, None)
    harness.do(READY)
    forwarded = [
        effect.pcm[0] for effect in harness.of(core.Forward) if isinstance(effect, core.Forward)
    ]
    assert forwarded == list(range(HELD_SECONDS))


def test_second_hello() -> None:
    """A second `hello` is an error that does no harm."""
    (effect,) = Harness().do(wire.Hello("test/1"))
    assert isinstance(effect, core.Send) and isinstance(effect.message, wire.ErrorMessage)
    assert (effect.message.code, effect.message.fatal) == ("unexpected_hello", False)


@pytest.mark.parametrize(
    "event",
    [
        core.ClientAudio(b"\0\0"),
        wire.Played(0),
        wire.Interrupt(),
        wire.Mute(True),
        wire.Commit(),
        wire.Text("hi"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_anything_before_hello_ends_the_session(event: core.Event) -> None:
    """A v1 client that begins with something else is told, and closed with 1008."""
    effects = Harness(ready=False).do(event)
    message = "The first message of a session must be 'hello'."
    assert effects == [error("hello_required", message, True), core.Close(1008, message)]


@pytest.mark.parametrize("event", [wire.Played(0), wire.Interrupt(), wire.Commit(), wire.Text("a")])
def test_messages_before_ready(event: core.Event) -> None:
    """What needs a backend is an error before `ready`, and the session goes on."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    (effect,) = harness.do(event)
    assert isinstance(effect, core.Send) and isinstance(effect.message, wire.ErrorMessage)
    assert (effect.message.code, effect.message.fatal) == ("protocol_error", False)


# Captured audio


def test_v1_audio_before_ready() -> None:
    """v1 audio before `ready` has no known rate: it is refused."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    (effect,) = harness.do(core.ClientAudio(b"\0\0"))
    assert isinstance(effect, core.Send) and isinstance(effect.message, wire.ErrorMessage)
    assert (effect.message.code, effect.message.fatal) == ("audio_before_ready", False)


def test_v1_audio_before_ready_is_refused_once() -> None:
    """A client that goes on is not told with every frame, and is not closed for it."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1", input_sample_rates=(48_000, 16_000)))
    for _ in range(2 * MAX_ERRORS):
        harness.do(core.ClientAudio(b"\0\0"))
    assert len(harness.of(core.Send)) == 1 and harness.of(core.Close) == []


def test_v1_audio_of_a_known_rate_is_held() -> None:
    """If the client can capture at one rate only, its first words wait for the backend too."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1", input_sample_rates=(48_000,)))
    assert harness.do(core.ClientAudio(b"1")) == []
    assert core.Forward(b"1") in harness.do(READY)


def test_stock_audio_before_ready_is_held() -> None:
    """The first words of a stock client wait for the backend, and follow `ready` in order."""
    harness = Harness(Dialect.STOCK, ready=False)
    assert [harness.do(core.ClientAudio(pcm)) for pcm in (b"1", b"2", b"3")] == [[], [], []]
    effects = harness.do(READY)
    stopped, (ready, *forwarded) = effects[:2], effects[2:6]
    assert stopped == [core.StopTimer("backend"), core.StopTimer("slow")]
    assert isinstance(ready, core.Send) and isinstance(ready.message, wire.Ready)
    assert forwarded == [core.Forward(b"1"), core.Forward(b"2"), core.Forward(b"3")]


def test_held_audio_is_bounded() -> None:
    """What a stock client sends before `ready` can not fill the memory."""
    harness = Harness(Dialect.STOCK, ready=False)
    for _ in range(HELD_SECONDS + 5):
        harness.do(core.ClientAudio(bytes(2 * STOCK_INPUT_RATE)))
    harness.do(READY)
    assert len(harness.of(core.Forward)) == HELD_SECONDS > BACKEND_TIMEOUT


def test_audio_is_forwarded(v1: Harness) -> None:
    """Captured audio goes to the backend as it is."""
    assert v1.do(core.ClientAudio(b"abc")) == [core.Forward(b"abc")]


def test_muted_audio_is_not_used(v1: Harness) -> None:
    """While muted nothing is forwarded; afterwards it is again."""
    v1.do(wire.Mute(True))
    assert v1.do(core.ClientAudio(b"secret")) == []
    v1.do(wire.Mute(False))
    assert v1.do(core.ClientAudio(b"abc")) == [core.Forward(b"abc")]
    assert v1.states() == ["muted", "listening"]


def test_mute_in_mid_turn_commits(v1: Harness) -> None:
    """A turn that the switch cuts short ends there; no silence would ever end it."""
    v1.do(base.SpeechStarted())
    assert v1.do(wire.Mute(True))[0] == core.CommitTurn()
    v1.do(base.SpeechStopped())
    assert core.CommitTurn() not in v1.do(wire.Mute(True))


def test_speech_that_is_noticed_after_the_mute_commits(v1: Harness) -> None:
    """Word of a turn may come after the switch that cut it short; it ends at once."""
    v1.do(core.ClientAudio(b"words"))
    v1.do(wire.Mute(True))
    assert v1.do(base.SpeechStarted()) == [core.Send(wire.SpeechStarted()), core.CommitTurn()]


def test_muted_before_ready() -> None:
    """A client may be muted from the start."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    assert harness.do(wire.Mute(True)) == []
    harness.do(READY)
    assert harness.states() == ["muted"]


def test_commit_and_text_reach_the_backend(v1: Harness) -> None:
    """`commit` and `text` are handed on; an answer to the text is expected."""
    assert v1.do(wire.Commit()) == [core.CommitTurn()]
    assert v1.do(wire.Text("hi")) == [
        core.TypeText("hi"),
        core.Send(wire.StateMessage("thinking")),
    ]


def test_stock_commit_before_ready_is_ignored() -> None:
    """A stock client cannot know that its backend is not ready; it is told nothing."""
    assert Harness(Dialect.STOCK, ready=False).do(wire.Commit()) == []


# States


def test_a_turn_goes_through_the_states(v1: Harness) -> None:
    """Listening, thinking when the user stops, speaking with audio, listening when heard."""
    v1.do(base.SpeechStarted())
    v1.do(base.SpeechStopped())
    v1.speaks(done=True)
    v1.do(wire.Played(RATE))
    assert v1.states() == ["thinking", "speaking", "listening"]


def test_dropped_turn(v1: Harness) -> None:
    """Where no reply is expected, nobody thinks."""
    v1.do(base.SpeechStarted())
    v1.do(base.SpeechStopped(reply_expected=False))
    assert v1.states() == []


def test_reply_without_audio(v1: Harness) -> None:
    """A reply that has no audio ends with its generation."""
    v1.do(base.SpeechStopped())
    v1.do(base.ReplyDone("a"))
    assert v1.states() == ["thinking", "listening"]


def test_reconnecting_is_shown_but_not_over_a_reply(v1: Harness) -> None:
    """A lost backend is shown, unless the user still hears a reply."""
    v1.speaks(done=True)
    v1.do(base.Reconnecting(True))
    v1.do(wire.Played(RATE))
    v1.do(base.Reconnecting(False))
    assert v1.states() == ["speaking", "reconnecting", "listening"]


def test_generated_is_not_heard(stock: Harness) -> None:
    """A reply of ten seconds that is generated in one is being spoken for ten."""
    stock.speaks(seconds=10.0)
    stock.at(1.0).do(base.ReplyDone("a"))
    assert stock.states() == ["speaking"]
    stock.at(9.9).do(core.TimerFired("drain"))
    assert stock.states() == ["speaking"]
    stock.at(10.02).do(core.TimerFired("drain"))
    assert stock.states() == ["speaking", "listening"]


def test_drain_timer_follows_the_clock(stock: Harness) -> None:
    """The timer asks when all of it should be heard; if fired early, it asks again."""
    effects = stock.do(base.Audio("a", SECOND))
    (timer,) = [effect for effect in effects if isinstance(effect, core.StartTimer)]
    assert (timer.name, timer.seconds) == ("drain", pytest.approx(1.01))
    (timer,) = stock.at(1.0).do(core.TimerFired("drain"))  # type: ignore[assignment]
    assert (timer.name, timer.seconds) == ("drain", pytest.approx(0.01))


def test_reports_are_believed_over_the_clock(v1: Harness) -> None:
    """A client whose playback stalls is still hearing the reply, however late it is."""
    v1.speaks(done=True)
    assert core.StopTimer("drain") in v1.do(wire.Played(100))
    v1.at(60.0).do(core.TimerFired("drain"))
    assert v1.states() == ["speaking"]
    v1.do(wire.Played(RATE))
    assert v1.states() == ["speaking", "listening"]


def test_reply_that_is_heard_before_it_is_done(v1: Harness) -> None:
    """Where playback is faster than generation, the reply ends when it is done."""
    v1.speaks()
    v1.do(wire.Played(RATE))
    assert v1.states() == ["speaking"]
    v1.do(base.ReplyDone("a"))
    assert v1.states() == ["speaking", "listening"]


# Replies


def test_reply_is_announced_once_with_its_position(v1: Harness) -> None:
    """`reply` comes before a reply's first audio and tells where it begins."""
    v1.do(base.Audio("a", SECOND))
    v1.do(base.Audio("a", SECOND))
    v1.do(base.Audio("b", SECOND))
    assert [e for e in v1.effects if isinstance(e, core.Send) and e.message.type == "reply"] == [
        core.Send(wire.Reply("a", 0)),
        core.Send(wire.Reply("b", 2 * RATE)),
    ]


def test_nothing_late_of_a_replaced_reply(v1: Harness) -> None:
    """Once another reply has begun, the first is over: the two never interleave."""
    v1.speaks("a")
    v1.speaks("b")
    assert v1.do(base.Audio("a", SECOND)) == []


def test_nothing_after_done(v1: Harness) -> None:
    """Audio after a reply's end is not sent, and a second end changes nothing."""
    v1.speaks(done=True)
    assert v1.do(base.Audio("a", SECOND)) == []
    assert v1.do(base.ReplyDone("a")) == []


def test_empty_audio_begins_no_reply(v1: Harness) -> None:
    """A piece without samples is not a beginning."""
    assert v1.do(base.Audio("a", b"")) == []


def test_transcripts_are_sent(v1: Harness) -> None:
    """Captions of both sides go to the client."""
    assert v1.do(base.UserTranscript("u", "hi", False)) == [
        core.Send(wire.Transcript("user", "u", "hi", False))
    ]
    assert v1.do(base.AgentTranscript("a", "hello", True)) == [
        core.Send(wire.Transcript("assistant", "a", "hello", True))
    ]


def test_captions_of_a_cancelled_reply(v1: Harness) -> None:
    """After a cut only the caption of what was heard of the reply is shown."""
    v1.speaks()
    v1.do(wire.Interrupt())
    assert v1.do(base.AgentTranscript("a", "all of it", True)) == []
    assert v1.do(base.AgentTranscript("a", "all", True, cut=True)) == [
        core.Send(wire.Transcript("assistant", "a", "all", True))
    ]


# Barge-in


def test_stock_barge_in(stock: Harness) -> None:
    """The stock client is silenced first, and the clock says how much it has played."""
    stock.speaks(seconds=10.0)
    assert stock.at(2.01).do(base.SpeechStarted()) == [
        core.StopTimer("drain"),
        core.Flush(),
        core.Send(wire.Clear(10 * RATE)),
        core.StopTimer("clear"),
        core.InterruptReply("a", 2000),
        core.Send(wire.SpeechStarted()),
        core.Send(wire.StateMessage("listening")),
    ]


def test_nothing_heard(stock: Harness) -> None:
    """A reply that is cut before the player starts was heard for 0 ms."""
    stock.speaks()
    stock.do(base.SpeechStarted())
    assert stock.of(core.InterruptReply) == [core.InterruptReply("a", 0)]


def test_v1_barge_in_waits_for_the_answer(v1: Harness) -> None:
    """The client says where it fell silent, and only then the backend is told."""
    v1.speaks(seconds=10.0)
    v1.do(wire.Played(RATE))
    effects = v1.do(base.SpeechStarted())
    assert effects[1:4] == [
        core.Flush(),
        core.Send(wire.Clear(10 * RATE)),
        core.StartTimer("clear", CLEAR_TIMEOUT),
    ]
    v1.do(wire.Played(RATE * 3 // 2))
    assert v1.of(core.InterruptReply) == []
    effects = v1.do(wire.Played(10 * RATE))
    assert effects[:2] == [core.StopTimer("clear"), core.InterruptReply("a", 1500)]


def test_v1_barge_in_without_an_answer(v1: Harness) -> None:
    """If the client says nothing in 0.3 s, its last report counts; later ones change nothing."""
    v1.speaks(seconds=10.0)
    v1.do(wire.Played(RATE))
    v1.do(base.SpeechStarted())
    assert v1.at(0.3).do(core.TimerFired("clear")) == [
        core.StopTimer("clear"),
        core.InterruptReply("a", 1000),
    ]
    v1.do(wire.Played(RATE * 3 // 2))
    v1.do(wire.Played(10 * RATE))
    assert len(v1.of(core.InterruptReply)) == 1


def test_silent_v1_client_is_followed_by_the_clock(v1: Harness) -> None:
    """A v1 client that never reports is treated as a stock client is."""
    v1.speaks(seconds=10.0)
    v1.at(2.01).do(wire.Interrupt())
    assert v1.of(core.InterruptReply) == [core.InterruptReply("a", 2000)]


def test_answer_does_not_reach_into_the_next_reply(v1: Harness) -> None:
    """A reply that begins while a clear is unanswered has not been heard by the answer."""
    v1.speaks("a", 2.0)
    v1.do(wire.Played(RATE))
    v1.do(wire.Interrupt())
    v1.speaks("b", 2.0, done=True)
    v1.do(wire.Played(RATE))
    v1.do(wire.Played(2 * RATE))
    v1.do(wire.Interrupt())
    v1.do(wire.Played(2 * RATE))
    v1.do(wire.Played(4 * RATE))
    assert v1.of(core.InterruptReply) == [
        core.InterruptReply("a", 1000),
        core.InterruptReply("b", 0),
    ]


def test_second_barge_in_settles_the_first(v1: Harness) -> None:
    """A clear that is still unanswered when the next one comes gets no better answer."""
    v1.speaks("a", 2.0)
    v1.do(wire.Played(RATE))
    v1.do(wire.Interrupt())
    v1.speaks("b", 2.0)
    effects = v1.do(wire.Interrupt())
    assert effects[:2] == [core.StopTimer("clear"), core.InterruptReply("a", 1000)]
    assert core.Send(wire.Clear(4 * RATE)) in effects


def test_heard_whole_is_left_alone(v1: Harness) -> None:
    """A reply that was heard to its end is not interrupted, nor cleared."""
    v1.speaks(done=True)
    v1.do(wire.Played(RATE))
    v1.effects.clear()
    v1.do(base.SpeechStarted())
    assert v1.of(core.Flush) == [] and v1.of(core.InterruptReply) == []


def test_heard_whole_by_the_clock_is_not_interrupted(stock: Harness) -> None:
    """Silence is cheap, truncation is not: what the clock says was heard is not reported cut."""
    stock.speaks(done=True)
    stock.at(1.01).do(base.SpeechStarted())
    assert stock.of(core.InterruptReply) == []


def test_still_generating_is_interrupted_even_if_all_was_heard(v1: Harness) -> None:
    """The backend must stop generating, though nothing of what was sent is taken back."""
    v1.speaks()
    v1.do(wire.Played(RATE))
    v1.do(wire.Interrupt())
    v1.at(0.3).do(core.TimerFired("clear"))
    assert v1.of(core.InterruptReply) == [core.InterruptReply("a", 1000)]


def test_two_replies_are_cut_together(v1: Harness) -> None:
    """Of two queued replies each is reported with its own share."""
    v1.speaks("a", done=True)
    v1.speaks("b", done=True)
    v1.do(wire.Played(RATE // 2))
    v1.do(wire.Interrupt())
    v1.do(wire.Played(RATE // 2))
    v1.do(wire.Played(2 * RATE))
    assert v1.of(core.InterruptReply) == [
        core.InterruptReply("a", 500),
        core.InterruptReply("b", 0),
    ]


def test_audio_after_a_cut_is_dropped(v1: Harness) -> None:
    """What the backend had already made of a cancelled reply is not sent."""
    v1.speaks()
    v1.do(wire.Interrupt())
    assert v1.do(base.Audio("a", SECOND)) == []
    assert v1.do(base.ReplyDone("a")) == []


def test_interrupt_while_thinking(v1: Harness) -> None:
    """The reply that is being prepared is stopped; there is nothing to silence."""
    v1.do(base.SpeechStopped())
    assert v1.do(wire.Interrupt()) == [
        core.InterruptReply(None, 0),
        core.Send(wire.StateMessage("listening")),
    ]


def test_interrupt_with_nothing_to_stop(v1: Harness) -> None:
    """An interrupt while listening is harmless."""
    assert v1.do(wire.Interrupt()) == []


def test_backend_interrupts_its_own_reply(v1: Harness) -> None:
    """A reply that the backend stopped is silenced at the client too."""
    v1.speaks()
    effects = v1.do(base.Interrupted("a"))
    assert core.Flush() in effects
    assert v1.states() == ["speaking", "listening"]


def test_backend_interrupts_a_reply_without_audio(v1: Harness) -> None:
    """A reply that is stopped before its audio ends the thinking, and its audio is not awaited."""
    v1.do(base.SpeechStopped())
    assert v1.do(base.Interrupted("a")) == [core.Send(wire.StateMessage("listening"))]
    assert v1.do(base.Audio("a", SECOND)) == []


def test_late_interrupted_leaves_the_next_reply_alone(v1: Harness) -> None:
    """Word of a reply that has ended touches neither its successor nor the state."""
    v1.speaks("a")
    v1.speaks("b")
    assert v1.do(base.Interrupted("a")) == []
    v1.do(wire.Interrupt())
    v1.do(base.SpeechStopped())
    assert v1.do(base.Interrupted("b")) == []
    assert v1.states()[-1] == "thinking"


# Faults


def test_played_beyond_what_was_sent(v1: Harness) -> None:
    """An impossible report is an error and is not believed."""
    v1.speaks()
    message = f"{RATE + 1} samples were reported played, but only {RATE} sent."
    assert v1.do(wire.Played(RATE + 1)) == [error("played_out_of_range", message, False)]


def test_protocol_errors_are_counted(v1: Harness) -> None:
    """A client that goes on breaking the protocol is closed with 1008."""
    fault = core.Fault(BadMessage("No JSON."))
    for _ in range(MAX_ERRORS):
        assert v1.do(fault) == [error("bad_message", "No JSON.", False)]
    message = f"The session ends after {MAX_ERRORS} errors; last: No JSON."
    assert v1.do(fault) == [error("too_many_errors", message, True), core.Close(1008, message)]


@pytest.mark.parametrize("fault", [InternalError(), BackendUnavailable("No such backend.")])
def test_faults_end_the_session(v1: Harness, fault: VoiceError) -> None:
    """Anything but a protocol error ends the session, with its code and reason."""
    assert v1.do(core.Fault(fault)) == [
        error(fault.code, fault.message, True),
        core.Close(fault.close_code, fault.message),
    ]


def test_backend_ends_without_a_word(v1: Harness) -> None:
    """A backend that just ends is reported as a failure."""
    effects = v1.do(core.BackendClosed())
    assert effects[-1] == core.Close(
        BackendError.close_code, "The speech backend ended the session; start it again."
    )


def test_backend_failures(v1: Harness) -> None:
    """A failure is passed on; only a fatal one closes."""
    assert v1.do(base.Failed("busy", "Busy.", False)) == [error("busy", "Busy.", False)]
    assert v1.do(base.Failed("gone", "Gone.", True)) == [
        error("gone", "Gone.", True),
        core.Close(1011, "Gone."),
    ]


def test_usage_and_ending_are_passed_on(v1: Harness) -> None:
    """Totals and announced ends reach the client."""
    assert v1.do(base.Usage(1, 2, 3, 4)) == [core.Send(wire.Usage(1, 2, 3, 4))]
    cost = base.Usage(1, 2, 3, 4, 0.05)
    assert v1.do(cost) == [core.Send(wire.Usage(1, 2, 3, 4, cost_usd=0.05))]
    assert v1.do(base.Ending("limit", 60)) == [core.Send(wire.SessionEnding("limit", 60))]


def test_tool_calls(v1: Harness) -> None:
    """A call is handed on, and its result goes back."""
    call = base.ToolCall("1", "ask_gptme", {"task": "x"})
    assert v1.do(call) == [core.CallTool(call, 0)]
    assert v1.do(core.ToolDone("1", "ok")) == [core.AnswerTool("1", "ok")]


@pytest.mark.parametrize(("heard", "answers"), [(0.0, 0), (0.9, 0), (1.1, 1), (3.0, 1), (4.5, 2)])
def test_what_the_users_words_can_be_an_answer_to(v1: Harness, heard: float, answers: int) -> None:
    """To what was heard before they began: a second of a reply at least, and not what was sent."""
    v1.speaks("a", 3.0, done=True)
    v1.speaks("b", 3.0, done=True)
    v1.do(wire.Played(int(heard * RATE)))
    v1.do(base.SpeechStarted())
    call = base.ToolCall("1", "answer_permission", {})
    assert v1.do(call) == [core.CallTool(call, answers)]


def test_a_short_reply_that_was_heard_whole_can_be_answered(v1: Harness) -> None:
    """Also when it has been over for long."""
    v1.speaks("a", 0.4, done=True)
    v1.do(wire.Played(int(0.4 * RATE)))
    v1.at(20.0).do(base.SpeechStarted())
    call = base.ToolCall("1", "answer_permission", {})
    assert v1.do(call) == [core.CallTool(call, 1)]


def test_a_reply_that_is_being_prepared_knows_nothing_of_what_is_told_now(v1: Harness) -> None:
    """So it cannot be what the user answers."""
    assert v1.session.replies == 0
    v1.do(core.ToolDone("1", "ok"))
    assert v1.session.replies == 1
    v1.speaks("a", 1.0, done=True)
    assert v1.session.replies == 1
    v1.do(base.SpeechStarted())
    v1.do(base.SpeechStopped())
    assert v1.session.replies == 2
    v1.do(base.ReplyDone(""))  # without sound
    assert v1.session.replies == 1


NEWS = core.News(base.Told("user", "[gptme] gptme is done."), answer=True)


def test_news_are_spoken_of(v1: Harness) -> None:
    """At once, or by the answer to what the user is saying; if there is none, afterwards."""
    assert v1.do(NEWS)[0] == core.TellModel(NEWS.told, answer=True)
    v1.do(base.SpeechStarted())
    assert v1.do(NEWS) == [core.TellModel(NEWS.told, answer=False)]
    assert core.TellModel(None, True) not in v1.do(base.SpeechStopped())
    v1.do(base.SpeechStarted())
    v1.do(NEWS)
    assert core.TellModel(None, True) in v1.do(base.SpeechStopped(reply_expected=False))


def test_the_end_that_the_model_wants(v1: Harness) -> None:
    """Once the goodbye was heard; not if the user has something to say."""
    v1.speaks("a", 1.0, done=True)
    assert not v1.of(core.Close)
    v1.do(core.EndWhenHeard())
    assert not v1.of(core.Close)
    v1.do(base.SpeechStarted())
    assert not v1.of(core.Close) and core.StopTimer("goodbye") in v1.effects
    v1.do(base.SpeechStopped())
    v1.speaks("b", 1.0, done=True)
    v1.do(core.EndWhenHeard())
    v1.do(wire.Played(3 * RATE - RATE))
    assert v1.of(core.Close) == [core.Close(1000)]
    assert v1.session.end_reason == "ended"


def test_turns_are_written() -> None:
    """The user's when the words are known, a reply when it was heard; the rest at the end."""
    harness = Harness(ready=False)
    harness.do(wire.Hello("test/1"))
    harness.do(core.BackendReady(16_000, RATE, "openai", "m", writes=True))
    harness.do(base.UserTranscript("u", "Hi.", True))
    harness.do(base.AgentTranscript("a", "Hello there, you.", True))
    harness.speaks("a", 1.0, done=True)
    assert [t.text for e in harness.of(core.WriteTurns) for t in e.turns] == ["Hi."]  # type: ignore[attr-defined]
    harness.do(wire.Played(RATE // 2))
    harness.do(wire.End())
    assert isinstance(harness.effects[-1], core.Close)
    (turn,) = harness.session.transcript.finish()
    assert (turn.text, turn.unheard) == ("Hello", "there, you.")


def test_last_words(v1: Harness) -> None:
    """What was said before the end is written down after it."""
    v1.do(base.UserTranscript("u", "", False))
    v1.do(wire.End())
    assert v1.session.transcript.awaits_words
    assert v1.do(base.UserTranscript("u", "Bye.", True)) == []
    v1.session.overhear(base.UserTranscript("u", "Bye.", True), 60.0)
    assert [turn.text for turn in v1.session.transcript.finish()] == ["Bye."]


def test_a_client_that_comes_back(v1: Harness) -> None:
    """The old connection is told so, and not as a failure."""
    (close,) = v1.do(core.Replaced())
    assert close == core.Close(1000, "The session goes on over another connection.")
    assert v1.session.end_reason == "lost"


# The end


def test_end(v1: Harness) -> None:
    """`end` closes with 1000."""
    assert v1.do(wire.End()) == [core.Close(1000)]


def test_client_gone(v1: Harness) -> None:
    """A client that is gone ends the session with its own code."""
    assert v1.do(core.ClientGone(1001, "away")) == [core.Close(1001, "away")]


def test_server_stopping(v1: Harness) -> None:
    """A server that stops says so and closes with 1012."""
    message = "gptme-server is stopping; connect again when it is back."
    assert v1.do(core.Stopping()) == [
        core.Send(wire.SessionEnding("server_stopping", 0)),
        core.Close(1012, message),
    ]


@pytest.mark.parametrize(
    "event",
    [wire.End(), core.Stopping(), core.ClientGone(1006), core.ClientAudio(b"ab"), READY]
    + [base.Audio("a", SECOND), core.TimerFired("hello"), core.Fault(InternalError())],
    ids=lambda event: type(event).__name__,
)
def test_nothing_after_close(v1: Harness, event: core.Event) -> None:
    """After `Close` nothing has any effect."""
    v1.do(wire.End())
    assert v1.do(event) == []
    assert v1.session.state is State.ENDED


@pytest.mark.parametrize("dialect", Dialect)
def test_session_that_ended_before_it_began(dialect: Dialect) -> None:
    """A session that is told of a fault before it starts opens no backend."""
    session = Session("s", dialect)
    assert isinstance(session.handle(core.Fault(InternalError()), 0.0)[-1], core.Close)
    assert session.start() == []


def test_close_reason_fits_its_frame(v1: Harness) -> None:
    """A long message is cut for the close frame, not for the error."""
    effects = v1.do(core.Fault(BackendError("ü" * 200)))
    assert effects[0] == error("backend_failed", "ü" * 200, True)
    assert isinstance(effects[1], core.Close)
    assert len(effects[1].reason.encode()) <= 123


# Waiting for others


def test_a_turn_that_waits_for_others(v1: Harness) -> None:
    """It is shown from the end of the turn until it is its turn, or the reply begins."""
    v1.do(base.SpeechStarted())
    v1.do(base.SpeechStopped())
    v1.do(base.Queued(True))
    v1.do(base.Queued(True))
    v1.do(base.Queued(False))
    assert v1.states() == ["thinking", "waiting", "thinking"]
    v1.do(base.Queued(True))
    v1.speaks(done=True)
    assert v1.states()[3:] == ["waiting", "speaking"]


def test_waiting_is_shown_instead_of_thinking_only(v1: Harness) -> None:
    """A backend may say so before the turn has ended; who speaks again is listened to."""
    v1.do(base.SpeechStarted())
    v1.do(base.Queued(True))
    assert v1.states() == []
    v1.do(base.SpeechStopped())
    assert v1.states() == ["waiting"]
    v1.do(base.SpeechStarted())
    assert v1.states() == ["waiting", "listening"]
    v1.do(base.Reconnecting(True))
    v1.do(base.SpeechStopped())
    assert v1.states() == ["waiting", "listening", "reconnecting"]


def test_what_waits_can_be_stopped(v1: Harness) -> None:
    """As what is being prepared can."""
    v1.do(base.SpeechStarted())
    v1.do(base.SpeechStopped())
    v1.do(base.Queued(True))
    assert v1.do(wire.Interrupt()) == [
        core.InterruptReply(None, 0),
        core.Send(wire.StateMessage("listening")),
    ]


def test_timings_are_nothing_to_a_client(v1: Harness) -> None:
    assert v1.do(base.Timings({"total": 0.7})) == []
