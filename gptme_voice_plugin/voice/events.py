"""What happens to a voice session, and what it wants done: the values `session.py` works on."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends import base
from ..errors import VoiceError
from . import wire
from .transcript import SpokenTurn

__all__ = [
    "AnswerTool",
    "BackendClosed",
    "BackendReady",
    "CallTool",
    "ClientAudio",
    "ClientGone",
    "Close",
    "CommitTurn",
    "Effect",
    "EndWhenHeard",
    "Event",
    "Fault",
    "Flush",
    "Forward",
    "InterruptReply",
    "Notice",
    "OpenBackend",
    "Replaced",
    "Send",
    "SendAudio",
    "StartTimer",
    "StopTimer",
    "Stopping",
    "TellModel",
    "TimerFired",
    "ToolDone",
    "TypeText",
    "WriteTurns",
    "News",
]

# Events, besides the client's messages (wire.py) and the backend's events (backends/base.py)


@dataclass(frozen=True)
class ClientAudio:
    """A binary frame came from the client."""

    pcm: bytes


@dataclass(frozen=True)
class ClientGone:
    """The client's side of the socket is closed."""

    code: int
    reason: str = ""


@dataclass(frozen=True)
class BackendReady:
    """The backend takes audio; how the session will run with it."""

    input_sample_rate: int
    output_sample_rate: int
    backend: str
    model: str
    features: tuple[str, ...] = ()
    recording: bool = False
    writes: bool = False
    """Whether what is said is written into a conversation."""
    hint: str = ""


@dataclass(frozen=True)
class BackendClosed:
    """The backend yields no more events, and did not say why."""


@dataclass(frozen=True)
class Fault:
    """Something went wrong outside of the core."""

    error: VoiceError


@dataclass(frozen=True)
class Stopping:
    """gptme-server is going down."""


@dataclass(frozen=True)
class Replaced:
    """The client has come back on another connection."""


@dataclass(frozen=True)
class ToolDone:
    """A function that the model called has its result."""

    call_id: str
    output: str


@dataclass(frozen=True)
class News:
    """The model is to know something that nobody has spoken; with `answer` it speaks of it."""

    told: base.Told
    answer: bool = False


@dataclass(frozen=True)
class Notice:
    """The client is to be told something that is none of the model's business."""

    message: wire.Conversation | wire.ToolStatus | wire.ErrorMessage


@dataclass(frozen=True)
class EndWhenHeard:
    """The session is to end once the reply that is being spoken has been heard."""


@dataclass(frozen=True)
class TimerFired:
    """A timer of `StartTimer` ran out."""

    name: str


Event = (
    wire.ClientMessage
    | base.BackendEvent
    | ClientAudio
    | ClientGone
    | BackendReady
    | BackendClosed
    | Fault
    | Stopping
    | Replaced
    | ToolDone
    | News
    | Notice
    | EndWhenHeard
    | TimerFired
)


# Effects


@dataclass(frozen=True)
class OpenBackend:
    """Open the backend, for what the client asked in `hello`, and report `BackendReady`."""

    hello: wire.Hello | None


@dataclass(frozen=True)
class Send:
    """Send a message to the client."""

    message: wire.ServerMessage


@dataclass(frozen=True)
class SendAudio:
    """Send a piece of a reply to the client."""

    item_id: str
    pcm: bytes


@dataclass(frozen=True)
class Flush:
    """Throw away all reply audio that has not been written to the client yet."""


@dataclass(frozen=True)
class Forward:
    """Give captured audio to the backend."""

    pcm: bytes


@dataclass(frozen=True)
class CommitTurn:
    """Tell the backend that the user's turn is over."""


@dataclass(frozen=True)
class TypeText:
    """Give typed text to the backend."""

    text: str


@dataclass(frozen=True)
class InterruptReply:
    """Tell the backend how much of a reply was heard; None: the one it is preparing."""

    item_id: str | None
    heard_ms: int


@dataclass(frozen=True)
class CallTool:
    """Call a function for the model; its `ToolDone` may come at any time, or never."""

    call: base.ToolCall
    answers: int
    """The number of the last reply that the user had heard when they last began to speak: what it
    may be an answer to."""


@dataclass(frozen=True)
class AnswerTool:
    """Give the backend the result of a function."""

    call_id: str
    output: str


@dataclass(frozen=True)
class TellModel:
    """Give the backend something to know (None: nothing new); with `answer` it speaks of it."""

    told: base.Told | None
    answer: bool


@dataclass(frozen=True)
class WriteTurns:
    """Write turns into the conversation."""

    turns: tuple[SpokenTurn, ...]


@dataclass(frozen=True)
class StartTimer:
    """Report `TimerFired(name)` in `seconds`; replaces a running timer of that name."""

    name: str
    seconds: float


@dataclass(frozen=True)
class StopTimer:
    """Forget the timer `name`."""

    name: str


@dataclass(frozen=True)
class Close:
    """End everything: backend, timers, socket."""

    code: int
    reason: str = ""


Effect = (
    OpenBackend
    | Send
    | SendAudio
    | Flush
    | Forward
    | CommitTurn
    | TypeText
    | InterruptReply
    | CallTool
    | AnswerTool
    | TellModel
    | WriteTurns
    | StartTimer
    | StopTimer
    | Close
)
