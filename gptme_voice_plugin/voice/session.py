"""A voice session as a pure state machine: events in, effects out.

It knows no socket, no task and no clock: `handle` takes what happened and when, and returns what is
to be done, in order. `relay.py` is the only place that carries effects out. Invariants, which a
Hypothesis state machine holds it to:

- at most one reply is speaking: audio is sent for the newest reply only;
- each reply ends exactly once: heard to its end, interrupted, or with the session;
- nothing of a cancelled reply is sent after its flush, and a flush never reaches into the next;
- captured audio is forwarded once and in order, unless it was muted;
- each turn is written once, and turns are written in the order they were spoken;
- closing is idempotent: after `Close` nothing more happens.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

from ..backends import base
from ..errors import (
    AudioBeforeReady,
    BackendError,
    BackendTimeout,
    HelloRequired,
    PlayedOutOfRange,
    ProtocolError,
    ServerStopping,
    TooManyErrors,
    UnexpectedHello,
    VoiceError,
    close_reason,
)
from . import wire
from .events import (
    AnswerTool,
    BackendClosed,
    BackendReady,
    CallTool,
    ClientAudio,
    ClientGone,
    Close,
    CommitTurn,
    Effect,
    EndWhenHeard,
    Event,
    Fault,
    Flush,
    Forward,
    InterruptReply,
    News,
    Notice,
    OpenBackend,
    Replaced,
    Send,
    SendAudio,
    StartTimer,
    Stopping,
    StopTimer,
    TellModel,
    TimerFired,
    ToolDone,
    TypeText,
    WriteTurns,
)
from .playback import Playback, ReplyAudio
from .transcript import Transcript
from .wire import Dialect

__all__ = ["STOCK_INPUT_RATE", "STOCK_OUTPUT_RATE", "Session", "State"]

logger = logging.getLogger(__name__)

STOCK_INPUT_RATE = 16_000
STOCK_OUTPUT_RATE = 24_000

HELLO_TIMEOUT = 10.0
BACKEND_TIMEOUT = 25.0
CLEAR_TIMEOUT = 0.3
"""How long a client may take to say where its playback fell silent, in seconds."""
HELD_SECONDS = 30
"""Audio kept for a backend that is not ready yet; more than BACKEND_TIMEOUT, so none is lost unless
it has much to prepare."""
PREPARING_SECONDS = 5.0
"""How soon a client is told again what is prepared, if nothing of it has changed."""
SLOW_SECONDS = 5.0
"""When a client is told that the backend takes its time: it need not wait for it as long as we do,
and would say that the server is not there."""
UNDERSTOOD_SECONDS = 1.0
"""How much of a longer reply must have been heard for the user's next words to be an answer."""
GOODBYE_SECONDS = 20.0
"""How long a session that is to end waits for the rest of a reply."""
MAX_ERRORS = 100
IDS_KEPT = 64
"""Ids of ended replies that are remembered, to drop what still comes of them."""


class State(Enum):
    """Where a session stands. The values are what `state` messages carry."""

    CONNECTING = "connecting"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    ENDED = "ended"


class Session:
    """One voice session.

    Args:
        session_id: Its public id.
        dialect: Which protocol the client speaks.
    """

    def __init__(self, session_id: str, dialect: Dialect) -> None:
        self.session_id = session_id
        self.dialect = dialect
        self.state = State.CONNECTING
        self.muted = False
        self.playback: Playback | None = None
        self.transcript = Transcript()
        self._writes = False
        self._write_at: float | None = None
        self._reply_due = False
        self._understood = 0  # the last reply that was heard far enough to be answered
        self._answers = 0
        self._owes_answer = False
        self._ending = False
        self.end_reason = ""
        """Why it has ended: `ended`, `lost`, or the code of an error."""
        self._hello: wire.Hello | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._told_early = False
        self._prepared: tuple[str, float | None] | None = None
        self._prepared_at = 0.0
        self._muted_half = False
        self._ended: deque[str] = deque(maxlen=IDS_KEPT)  # no more audio is taken for these
        self._cut: deque[str] = deque(maxlen=IDS_KEPT)  # nor captions for these
        self._user_speaking = False
        self._backend_lost = False
        self._queued = False
        self._errors = 0
        self._shown = State.CONNECTING.value
        self._handlers: dict[type, Callable[[Any, float], list[Effect]]] = {
            wire.Hello: self._on_hello,
            wire.Played: self._on_played,
            wire.Interrupt: self._on_interrupt,
            wire.Mute: self._on_mute,
            wire.Commit: self._on_commit,
            wire.Text: self._on_text,
            wire.End: self._on_end,
            ClientAudio: self._on_client_audio,
            ClientGone: self._on_client_gone,
            BackendReady: self._on_backend_ready,
            BackendClosed: self._on_backend_closed,
            base.Preparing: self._on_preparing,
            base.SpeechStarted: self._on_speech_started,
            base.SpeechStopped: self._on_speech_stopped,
            base.UserTranscript: self._on_user_transcript,
            base.AgentTranscript: self._on_agent_transcript,
            base.Audio: self._on_audio,
            base.ReplyDone: self._on_reply_done,
            base.Interrupted: self._on_interrupted,
            base.ToolCall: self._on_tool_call,
            base.Usage: self._on_usage,
            base.Reconnecting: self._on_reconnecting,
            base.Queued: self._on_queued,
            base.Timings: self._on_timings,
            base.Ending: self._on_ending,
            base.Failed: self._on_failed,
            Fault: self._on_fault,
            Stopping: self._on_stopping,
            Replaced: self._on_replaced,
            ToolDone: self._on_tool_done,
            News: self._on_news,
            Notice: self._on_notice,
            EndWhenHeard: self._on_end_when_heard,
            TimerFired: self._on_timer,
        }

    def start(self) -> list[Effect]:
        """Return what a new session does first; nothing if it has ended before it began."""
        if self.state is State.ENDED:
            return []
        if self.dialect is Dialect.STOCK:
            return self._open_backend(None)
        return [StartTimer("hello", HELLO_TIMEOUT)]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event at the time `now`, in seconds; return its effects in order."""
        if self.state is State.ENDED:
            return []
        try:
            effects = self._handlers[type(event)](event, now)
        except ProtocolError as error:
            effects = self._on_protocol_error(error)
        if self._ending and self._silent and not self.over:
            effects += self._close("ended", 1000)
        if not self.over:
            return [*effects, *self._write(now), *self._show_state()]
        if self._writes:  # before it is closed: afterwards nothing more happens
            effects[-1:] = [*self._write_last(now), effects[-1]]
        return effects

    def overhear(self, event: Event, now: float) -> None:
        """Take what the backend still says once the session is over: words that come late."""
        if isinstance(event, base.UserTranscript):
            self.transcript.said(event.item_id, event.text, event.final, now)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state is State.ENDED

    @property
    def replies(self) -> int:
        """How many replies there are that know nothing of what the model is told from now on."""
        begun = self.playback.begun if self.playback is not None else 0
        return begun + self._reply_due

    # The client

    def _on_hello(self, hello: wire.Hello, now: float) -> list[Effect]:
        if self._hello is not None:
            raise UnexpectedHello("This session has had its 'hello' already.")
        self._hello = hello
        return [StopTimer("hello"), *self._open_backend(hello)]

    def _open_backend(self, hello: wire.Hello | None) -> list[Effect]:
        return [
            OpenBackend(hello),
            StartTimer("backend", BACKEND_TIMEOUT),
            StartTimer("slow", SLOW_SECONDS),
        ]

    def _need_hello(self) -> None:
        if self.dialect is Dialect.V1 and self._hello is None:
            raise HelloRequired("The first message of a session must be 'hello'.")

    def _need_ready(self, what: str) -> Playback:
        self._need_hello()
        if self.playback is None:
            raise ProtocolError(f"{what} can be used after 'ready' only.")
        return self.playback

    def _on_client_audio(self, audio: ClientAudio, now: float) -> list[Effect]:
        self._need_hello()
        if self.muted:
            self._muted_half ^= bool(len(audio.pcm) % 2)
            return []
        if self.playback is not None:
            if self._muted_half and audio.pcm:
                # Half a sample was muted: the other half must not shift all that follows.
                self._muted_half = False
                return [Forward(b"\0" + audio.pcm)]
            return [Forward(audio.pcm)]
        rate = self._early_rate()
        if rate is None:
            if self._told_early:
                return []
            self._told_early = True
            raise AudioBeforeReady("Audio came before 'ready', which tells its sample rate.")
        # The first words wait for the backend.
        if self._held_bytes + len(audio.pcm) <= HELD_SECONDS * rate * 2:
            self._held.append(audio.pcm)
            self._held_bytes += len(audio.pcm)
        return []

    def _early_rate(self) -> int | None:
        """Return the rate of audio that comes before `ready`, if there is no choice of it."""
        if self._hello is None:
            return STOCK_INPUT_RATE
        rates = self._hello.input_sample_rates
        return rates[0] if len(rates) == 1 else None

    def _on_played(self, played: wire.Played, now: float) -> list[Effect]:
        playback = self._need_ready("'played'")
        if played.samples > playback.sent:
            raise PlayedOutOfRange(
                f"{played.samples} samples were reported played, but only {playback.sent} sent."
            )
        effects: list[Effect] = []
        if playback.report(played.samples):
            effects += self._settle(now)
            playback.report(played.samples)
        self._retire_heard(now)
        return [*effects, StopTimer("drain")]

    def _on_interrupt(self, _: wire.Interrupt, now: float) -> list[Effect]:
        playback = self._need_ready("'interrupt'")
        if playback.replies:
            effects = self._cut_off(now)
        elif self.state is State.THINKING:
            self.transcript.cut_unspoken(now)
            effects = [InterruptReply(None, 0)]
        else:
            effects = []
        self.state = State.LISTENING
        return effects

    def _on_mute(self, mute: wire.Mute, now: float) -> list[Effect]:
        self._need_hello()
        self.muted = mute.on
        # A turn that the switch cuts short would otherwise wait for a silence that never comes.
        return [CommitTurn()] if mute.on and self._user_speaking else []

    def _on_commit(self, _: wire.Commit, now: float) -> list[Effect]:
        if self.dialect is Dialect.STOCK and self.playback is None:
            return []
        self._need_ready("'commit'")
        return [CommitTurn()]

    def _on_text(self, text: wire.Text, now: float) -> list[Effect]:
        playback = self._need_ready("'text'")
        # Whoever types does not wait for the end of a reply, as whoever speaks does not.
        cut = self._cut_off(now) if playback.replies else []
        self.transcript.typed(text.text, now)
        self.state = State.THINKING
        self._reply_due = True
        return [*cut, *self._stay(), TypeText(text.text)]

    def _on_end(self, _: wire.End, now: float) -> list[Effect]:
        return self._close("ended", 1000)

    def _on_client_gone(self, gone: ClientGone, now: float) -> list[Effect]:
        # A page that is left says so, or nothing (RFC 6455, section 7.4.1); a network that fails
        # cannot.
        left = gone.code in (1000, 1001, 1005)
        return self._close("ended" if left else "lost", gone.code, gone.reason)

    # The backend

    def _on_preparing(self, preparing: base.Preparing, now: float) -> list[Effect]:
        if self.playback is not None:
            return []
        # It may take minutes, but not say nothing for long.
        effects: list[Effect] = [StartTimer("backend", BACKEND_TIMEOUT)]
        share = preparing.share
        if share is not None:
            share = int(100 * min(1.0, max(0.0, share))) / 100
        told = (preparing.what, share)
        if told != self._prepared or now >= self._prepared_at + PREPARING_SECONDS:
            self._prepared, self._prepared_at = told, now
            effects.append(Send(wire.Preparing(*told)))
        return effects

    def _on_backend_ready(self, ready: BackendReady, now: float) -> list[Effect]:
        self.playback = Playback(ready.output_sample_rate)
        self._writes = ready.writes
        self.state = State.LISTENING
        message = wire.Ready(
            session_id=self.session_id,
            input_sample_rate=ready.input_sample_rate,
            output_sample_rate=ready.output_sample_rate,
            backend=ready.backend,
            model=ready.model,
            features=ready.features,
            recording=ready.recording,
            hint=ready.hint or None,
        )
        held, self._held, self._held_bytes = self._held, [], 0
        return [StopTimer("backend"), StopTimer("slow"), Send(message), *map(Forward, held)]

    def _on_backend_closed(self, _: BackendClosed, now: float) -> list[Effect]:
        return self._fail(BackendError("The speech backend ended the session; start it again."))

    def _on_speech_started(self, _: base.SpeechStarted, now: float) -> list[Effect]:
        self._user_speaking = True
        self._understand(now)
        self._answers = self._understood
        self.transcript.speech_started(now)
        effects: list[Effect] = [Send(wire.SpeechStarted()), *self._stay()]
        if self.playback is not None and self.playback.replies:
            # Silence first: it is what the user waits for.
            effects = [*self._cut_off(now), *effects]
        if self.muted:  # since the words were said: no silence will end the turn
            effects.append(CommitTurn())
        self.state = State.LISTENING
        return effects

    def _on_speech_stopped(self, stopped: base.SpeechStopped, now: float) -> list[Effect]:
        self._user_speaking = False
        self.transcript.speech_stopped(now)
        effects: list[Effect] = [Send(wire.SpeechStopped())]
        if stopped.reply_expected and self.state is State.LISTENING:
            self.state = State.THINKING
            self._reply_due = True
        elif self._owes_answer and not stopped.reply_expected:
            effects.append(TellModel(None, answer=True))
        self._owes_answer = False
        return effects

    def _on_user_transcript(self, said: base.UserTranscript, now: float) -> list[Effect]:
        self.transcript.said(said.item_id, said.text, said.final, now)
        return [Send(wire.Transcript("user", said.item_id, said.text, said.final))]

    def _on_agent_transcript(self, said: base.AgentTranscript, now: float) -> list[Effect]:
        if said.item_id in self._cut and not said.cut:
            return []
        self.transcript.replying(said.item_id, said.text, said.final, said.cut, now)
        return [Send(wire.Transcript("assistant", said.item_id, said.text, said.final))]

    def _on_audio(self, audio: base.Audio, now: float) -> list[Effect]:
        playback = self.playback
        if playback is None or not audio.pcm or audio.item_id in self._ended:
            return []
        effects: list[Effect] = []
        current = playback.replies[-1] if playback.replies else None
        if current is None or current.item_id != audio.item_id:
            if current is not None:
                self._ended.append(current.item_id)  # nothing late of it may interleave
            reply = playback.begin(audio.item_id)
            self._reply_due = False
            effects.append(Send(wire.Reply(reply.item_id, reply.from_sample)))
        playback.add(len(audio.pcm) // 2, now)
        self.transcript.sounding(audio.item_id, now)
        self.state = State.SPEAKING
        effects.append(SendAudio(audio.item_id, audio.pcm))
        if not playback.follows_reports:
            effects.append(StartTimer("drain", playback.remaining(now)))
        return effects

    def _on_reply_done(self, done: base.ReplyDone, now: float) -> list[Effect]:
        playback = self.playback
        if playback is None or done.item_id in self._ended:
            return []
        self._ended.append(done.item_id)
        self._reply_due = False
        self.transcript.generated(done.item_id, now)
        for reply in playback.replies:
            if reply.item_id == done.item_id:
                reply.generating = False
                self._retire_heard(now)
                return []
        if self.state is State.THINKING:  # a reply without audio
            self.state = State.LISTENING
        return []

    def _on_interrupted(self, cut: base.Interrupted, now: float) -> list[Effect]:
        playback = self.playback
        if playback is None:
            return []
        if playback.replies and playback.replies[-1].item_id == cut.item_id:
            effects = self._cut_off(now)
            self.state = State.LISTENING
            return effects
        if any(reply.item_id == cut.item_id for reply in playback.replies):
            return []  # its successor is being sent already, and must not be cut with it
        self._cut.append(cut.item_id)
        self.transcript.cut(cut.item_id, 0, 0, now)
        if cut.item_id not in self._ended:
            self._ended.append(cut.item_id)
            if self.state is State.THINKING:  # stopped before it had audio
                self.state = State.LISTENING
        return []

    def _on_tool_call(self, call: base.ToolCall, now: float) -> list[Effect]:
        return [CallTool(call, self._answers)]

    def _on_usage(self, usage: base.Usage, now: float) -> list[Effect]:
        self.transcript.used(usage)
        return [
            Send(
                wire.Usage(
                    usage.input_audio_ms,
                    usage.output_audio_ms,
                    usage.input_tokens,
                    usage.output_tokens,
                    usage.cost_usd,
                )
            )
        ]

    def _on_reconnecting(self, reconnecting: base.Reconnecting, now: float) -> list[Effect]:
        self._backend_lost = reconnecting.lost
        if reconnecting.lost:
            self._user_speaking = False
        return []

    def _on_queued(self, queued: base.Queued, now: float) -> list[Effect]:
        self._queued = queued.waits
        return []

    def _on_timings(self, _: base.Timings, now: float) -> list[Effect]:
        return []  # for whoever measures; a client counts its own way

    def _on_ending(self, ending: base.Ending, now: float) -> list[Effect]:
        return [Send(wire.SessionEnding(ending.reason, ending.seconds))]

    def _on_failed(self, failed: base.Failed, now: float) -> list[Effect]:
        effects: list[Effect] = [
            Send(wire.ErrorMessage(failed.code, failed.message, failed.fatal)),
        ]
        if failed.fatal:
            effects += self._close(
                failed.code, BackendError.close_code, close_reason(failed.message)
            )
        return effects

    # The conversation

    def _on_tool_done(self, done: ToolDone, now: float) -> list[Effect]:
        if self.playback is None:
            return []
        self._reply_due = True
        return [AnswerTool(done.call_id, done.output)]

    def _on_news(self, news: News, now: float) -> list[Effect]:
        if self.playback is None:
            return []
        answer = news.answer and not self._ending
        if answer and self._user_speaking:
            # The answer to what is being said will know it.
            self._owes_answer, answer = True, False
        elif answer and self.state is State.LISTENING:
            self.state = State.THINKING
        self._reply_due = self._reply_due or answer
        return [TellModel(news.told, answer)]

    def _on_notice(self, notice: Notice, now: float) -> list[Effect]:
        return [Send(notice.message)]

    def _on_end_when_heard(self, _: EndWhenHeard, now: float) -> list[Effect]:
        self._ending = True
        return [StartTimer("goodbye", GOODBYE_SECONDS)]

    def _stay(self) -> list[Effect]:
        """Whoever speaks on does not want to be hung up on."""
        stays, self._ending = self._ending, False
        return [StopTimer("goodbye")] if stays else []

    @property
    def _silent(self) -> bool:
        """Whether nothing is left to be heard."""
        return self.playback is None or not self.playback.replies

    def _write(self, now: float) -> list[Effect]:
        """Return what writes down the turns that are complete, and looks again when others are."""
        if not self._writes:
            return []
        turns = self.transcript.take(now)
        effects: list[Effect] = [WriteTurns(tuple(turns))] if turns else []
        due = self.transcript.next_due()
        if due != self._write_at:
            self._write_at = due
            timer = StopTimer("words") if due is None else StartTimer("words", max(0.0, due - now))
            effects.append(timer)
        return effects

    def _write_last(self, now: float) -> list[Effect]:
        """End the replies that are being heard; return what writes down what is complete.

        What is left in the transcript may still wait for words: see `overhear`.
        """
        if self.playback is not None:
            for reply in self.playback.replies:
                self._cut_transcript(reply, self.playback.heard(reply, now), now)
            for reply, samples in self.playback.settle(now):
                self._cut_transcript(reply, samples, now)
        turns = self.transcript.take(now)
        return [WriteTurns(tuple(turns))] if turns else []

    def _cut_transcript(self, reply: ReplyAudio, samples: int, now: float) -> None:
        assert self.playback is not None
        per_ms = self.playback.sample_rate / 1000
        self.transcript.cut(reply.item_id, int(samples / per_ms), int(reply.samples / per_ms), now)

    # Replies

    def _cut_off(self, now: float) -> list[Effect]:
        playback = self.playback
        assert playback is not None
        # A clear that is still waiting for its answer will not get a better one than this.
        effects = self._settle(now) if playback.clearing else []
        for reply in playback.replies:
            self._ended.append(reply.item_id)
            self._cut.append(reply.item_id)
        at_sample = playback.clear(now)
        effects += [StopTimer("drain"), Flush(), Send(wire.Clear(at_sample))]
        if playback.follows_reports:
            return [*effects, StartTimer("clear", CLEAR_TIMEOUT)]
        return effects + self._settle(now)

    def _settle(self, now: float) -> list[Effect]:
        playback = self.playback
        assert playback is not None
        effects: list[Effect] = [StopTimer("clear")]
        for reply, samples in playback.settle(now):
            if reply.generating or samples < reply.samples:
                heard_ms = samples * 1000 // playback.sample_rate
                effects.append(InterruptReply(reply.item_id, heard_ms))
                self._cut_transcript(reply, samples, now)
            else:
                self._heard(reply, now)
        return effects

    def _retire_heard(self, now: float) -> None:
        assert self.playback is not None
        heard = self.playback.take_heard(now)
        for reply in heard:
            self._heard(reply, now)
        if heard and not self.playback.replies and self.state is State.SPEAKING:
            self.state = State.LISTENING

    def _understand(self, now: float) -> None:
        """Note which replies were heard far enough to be answered: to their end, or a second."""
        playback = self.playback
        for reply in playback.replies if playback is not None else ():
            assert playback is not None
            heard = playback.heard(reply, now)
            whole = not reply.generating and heard >= reply.samples
            if whole or heard >= UNDERSTOOD_SECONDS * playback.sample_rate:
                self._understood = max(self._understood, reply.number)

    def _heard(self, reply: ReplyAudio, now: float) -> None:
        assert self.playback is not None
        self._understood = max(self._understood, reply.number)
        self.transcript.heard(reply.item_id, reply.samples / self.playback.sample_rate, now)

    # The session

    def _on_timer(self, timer: TimerFired, now: float) -> list[Effect]:
        if timer.name == "hello" and self._hello is None:
            return self._fail(HelloRequired("No 'hello' came; a session begins with it."))
        if timer.name == "backend" and self.playback is None:
            return self._fail(
                BackendTimeout("The speech backend did not get ready in time; try again.")
            )
        if timer.name == "slow" and self.playback is None and self._prepared is None:
            self._prepared, self._prepared_at = ("Connecting to the speech backend", None), now
            return [Send(wire.Preparing(*self._prepared))]
        if timer.name == "clear" and self.playback is not None and self.playback.clearing:
            return self._settle(now)
        if timer.name == "goodbye":
            return self._close("ended", 1000)
        if timer.name == "words":
            self._write_at = None
        if timer.name == "drain" and self.playback is not None:
            left = self.playback.remaining(now)
            if left > 0 and not self.playback.follows_reports:
                return [StartTimer("drain", left)]
            self._retire_heard(now)
        return []

    def _on_fault(self, fault: Fault, now: float) -> list[Effect]:
        if isinstance(fault.error, ProtocolError):
            raise fault.error
        return self._fail(fault.error)

    def _on_stopping(self, _: Stopping, now: float) -> list[Effect]:
        error = ServerStopping("gptme-server is stopping; connect again when it is back.")
        return [
            Send(wire.SessionEnding(error.code, 0)),
            *self._close(error.code, error.close_code, close_reason(error.message)),
        ]

    def _on_replaced(self, _: Replaced, now: float) -> list[Effect]:
        return self._close("lost", 1000, "The session goes on over another connection.")

    def _on_protocol_error(self, error: ProtocolError) -> list[Effect]:
        self._errors += 1
        if error.fatal:
            return self._fail(error)
        if self._errors > MAX_ERRORS:
            return self._fail(
                TooManyErrors(f"The session ends after {MAX_ERRORS} errors; last: {error.message}")
            )
        return [Send(wire.ErrorMessage(error.code, error.message, False))]

    def _fail(self, error: VoiceError) -> list[Effect]:
        return [
            Send(wire.ErrorMessage(error.code, error.message, True)),
            *self._close(error.code, error.close_code, close_reason(error.message)),
        ]

    def _close(self, why: str, code: int, reason: str = "") -> list[Effect]:
        self.state = State.ENDED
        self.end_reason = why
        self._held = []
        return [Close(code, reason)]

    def _show_state(self) -> list[Effect]:
        shown = self.state.value
        if self.muted and self.state is State.LISTENING:
            shown = "muted"
        if self._queued and self.state is State.THINKING:
            shown = "waiting"
        if self._backend_lost and self.state is not State.SPEAKING:
            shown = "reconnecting"
        if shown == self._shown or self.playback is None or self.state is State.ENDED:
            return []
        self._shown = shown
        return [Send(wire.StateMessage(shown))]
