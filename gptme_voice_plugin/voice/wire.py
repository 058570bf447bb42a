"""The browser protocol: one frozen dataclass a message, for both of its dialects.

A client that offers the WebSocket subprotocol `gptme.voice.v1` speaks all of it. One that offers
none is a stock client (the web UI's own voice button): it gets `ready` and, to interrupt its
playback, `audio_end`; from it, `commit` is understood. Binary frames are PCM16 little-endian mono
both ways. `docs/protocol.md` is the specification.

Positions (`samples`, `from_sample`, `at_sample`) count samples of the server's output stream since
the session began, at `output_sample_rate`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar, Literal, NoReturn

from ..characters import whole
from ..errors import BadMessage

__all__ = [
    "SUBPROTOCOL",
    "Clear",
    "ClientMessage",
    "Commit",
    "Conversation",
    "Dialect",
    "End",
    "ErrorMessage",
    "Hello",
    "Interrupt",
    "Mute",
    "Played",
    "Preparing",
    "Ready",
    "Reply",
    "ServerMessage",
    "SessionEnding",
    "SpeechStarted",
    "SpeechStopped",
    "StateMessage",
    "Text",
    "ToolStatus",
    "Transcript",
    "Usage",
    "encode",
    "parse_client_message",
    "parse_server_message",
]

SUBPROTOCOL = "gptme.voice.v1"

_MAX_POSITION = 2**53  # the largest count a JavaScript number holds exactly
_MAX_RATES = 16
_MAX_NAME = 200
_MAX_CONVERSATION_ID = 255  # gptme's: a folder's name
_MAX_TEXT = 100_000
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: JSON can spell it, UTF-8 cannot


class Dialect(Enum):
    """Which of the two protocols a client speaks."""

    STOCK = "stock"
    V1 = "v1"


# Client messages


@dataclass(frozen=True)
class Hello:
    """The first message of a v1 client."""

    type: ClassVar[str] = "hello"
    client: str
    """Name and version of the client, for logs."""
    conversation_id: str | None = None
    """The gptme conversation this call belongs to."""
    input_sample_rates: tuple[int, ...] = ()
    """Rates in hertz the client can capture at, best first; empty: any."""
    resume: str | None = None
    """The `session_id` of the session this one replaces, if its connection was lost."""
    test: bool = False
    """Answer with the echo backend, whatever is configured: the client tests its sound."""
    chat_model: str | None = None
    """The model that a conversation which is made for this call gets; none: gptme's default."""


@dataclass(frozen=True)
class Played:
    """How far playback has got."""

    type: ClassVar[str] = "played"
    samples: int
    """Position of the playback head: everything before it was played or cleared."""


@dataclass(frozen=True)
class Interrupt:
    """The user wants the reply to stop."""

    type: ClassVar[str] = "interrupt"


@dataclass(frozen=True)
class Mute:
    """The microphone is switched off or on again; what is captured while off is not used."""

    type: ClassVar[str] = "mute"
    on: bool


@dataclass(frozen=True)
class Commit:
    """The user's turn ends here, without waiting for silence."""

    type: ClassVar[str] = "commit"


@dataclass(frozen=True)
class Text:
    """The user typed instead of speaking."""

    type: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class End:
    """The user ends the session."""

    type: ClassVar[str] = "end"


ClientMessage = Hello | Played | Interrupt | Mute | Commit | Text | End


# Server messages


@dataclass(frozen=True)
class Preparing:
    """Something must be there before the session can begin, and takes its time."""

    type: ClassVar[str] = "preparing"
    what: str
    """For the user: what is done, as in "Fetching the speech model base"."""
    share: float | None = None
    """How much of it is done, from 0 to 1; none: not known."""


@dataclass(frozen=True)
class Ready:
    """The session can begin; audio may be sent from now on."""

    type: ClassVar[str] = "ready"
    session_id: str
    input_sample_rate: int
    """Rate in hertz of the binary frames the client sends."""
    output_sample_rate: int
    """Rate in hertz of the binary frames the client gets."""
    backend: str
    model: str
    features: tuple[str, ...] = ()
    """Which optional client messages have an effect with this backend."""
    recording: bool = False
    """Whether the session is recorded to a file beside the conversation."""
    hint: str | None = None
    """What the user should know of the backend, in a sentence; none: nothing."""


@dataclass(frozen=True)
class StateMessage:
    """The session's state changed."""

    type: ClassVar[str] = "state"
    state: str
    """`listening`, `thinking`, `waiting` (to think), `speaking`, `muted` or `reconnecting`."""


@dataclass(frozen=True)
class SpeechStarted:
    """The user began to speak."""

    type: ClassVar[str] = "speech_started"


@dataclass(frozen=True)
class SpeechStopped:
    """The user stopped speaking."""

    type: ClassVar[str] = "speech_stopped"


@dataclass(frozen=True)
class Transcript:
    """What was said, by whom. A partial one replaces the earlier ones of the same item."""

    type: ClassVar[str] = "transcript"
    role: Literal["user", "assistant"]
    item_id: str
    text: str
    final: bool


@dataclass(frozen=True)
class Reply:
    """The audio that follows belongs to the reply `item_id`."""

    type: ClassVar[str] = "reply"
    item_id: str
    from_sample: int
    """Position of the reply's first sample."""


@dataclass(frozen=True)
class Clear:
    """Playback must fall silent; all audio before `at_sample` is dropped."""

    type: ClassVar[str] = "clear"
    at_sample: int
    """Position of the next sample the client gets."""


@dataclass(frozen=True)
class Usage:
    """What the session has used up so far. Fields a backend does not know are 0."""

    type: ClassVar[str] = "usage"
    input_audio_ms: int = 0
    output_audio_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """What it has cost in US dollars, if the provider says so."""


@dataclass(frozen=True)
class Conversation:
    """The gptme conversation that the session is written into from now on; it was made for it."""

    type: ClassVar[str] = "conversation"
    conversation_id: str
    name: str
    """For people."""


@dataclass(frozen=True)
class ToolStatus:
    """How the work goes that the voice model has given to gptme."""

    type: ClassVar[str] = "tool"
    name: str
    """`ask_gptme`."""
    status: Literal["working", "confirm", "done", "failed", "cancelled"]
    """`confirm`: gptme waits for the user's permission."""
    text: str
    """One line for the user: what is done, or waits."""


@dataclass(frozen=True)
class SessionEnding:
    """The session will end by itself."""

    type: ClassVar[str] = "session_ending"
    reason: str
    seconds: int
    """Time left."""


@dataclass(frozen=True)
class ErrorMessage:
    """Something went wrong."""

    type: ClassVar[str] = "error"
    code: str
    """Stable identifier; `errors.py` lists them."""
    message: str
    """One sentence for the user."""
    fatal: bool
    """Whether the session ends with it."""


ServerMessage = (
    Preparing
    | Ready
    | StateMessage
    | SpeechStarted
    | SpeechStopped
    | Transcript
    | Reply
    | Clear
    | Usage
    | Conversation
    | ToolStatus
    | SessionEnding
    | ErrorMessage
)


def encode(message: ClientMessage | ServerMessage, dialect: Dialect = Dialect.V1) -> str | None:
    """Return the JSON text of `message`, or None if `dialect` has no such message."""
    if dialect is Dialect.V1:
        # Shallow on purpose: the fields are plain values, asdict would copy them recursively.
        data = {f.name: getattr(message, f.name) for f in fields(message)}
        return _dump({"type": message.type} | {k: v for k, v in data.items() if v is not None})
    if isinstance(message, Ready):
        return _dump(
            {
                "type": "ready",
                "input_sample_rate": message.input_sample_rate,
                "output_sample_rate": message.output_sample_rate,
            }
        )
    if isinstance(message, Clear):
        # The stock player empties itself on audio_end, whatever the name says.
        return _dump({"type": "audio_end"})
    return None


def _dump(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # A model's partial text may end in the middle of a surrogate pair, which UTF-8 cannot hold.
    return whole(text)


def parse_client_message(text: str, dialect: Dialect = Dialect.V1) -> ClientMessage | None:
    """Parse a text frame from a client.

    Returns:
        The message, or None where the rule is to ignore it: types that are not known, and with a
        stock client everything but `commit`.

    Raises:
        BadMessage: Not JSON, not an object with a `type`, or fields of a wrong type or range. A
            stock client raises nothing: it has no message to be told so.
    """
    if dialect is Dialect.STOCK:
        try:
            known = _load(text).get("type") == "commit"
        except BadMessage:
            known = False
        return Commit() if known else None
    data = _load(text)
    parser = _CLIENT_PARSERS.get(data["type"])
    return parser(data) if parser is not None else None


def parse_server_message(text: str) -> ServerMessage | None:
    """Parse a text frame from a v1 server; None for types that are not known.

    Raises:
        BadMessage: Not JSON, not an object with a `type`, or without a field it must have.
    """
    data = _load(text)
    kind = _SERVER_TYPES.get(data["type"])
    if kind is None:
        return None
    names = {f.name for f in fields(kind)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in data.items()
        if key in names
    }
    try:
        return kind(**values)
    except TypeError as exc:
        raise BadMessage(f"The server's {kind.type!r} message is incomplete: {exc}.") from None


_SERVER_TYPES: dict[str, type[ServerMessage]] = {
    kind.type: kind
    for kind in (
        Preparing,
        Ready,
        StateMessage,
        SpeechStarted,
        SpeechStopped,
        Transcript,
        Reply,
        Clear,
        Usage,
        Conversation,
        ToolStatus,
        SessionEnding,
        ErrorMessage,
    )
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _load(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadMessage("A text frame must hold one JSON object; this one is not JSON.") from None
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise BadMessage("A text frame must hold one JSON object with a text named 'type'.")
    return data


class _Fields:
    """Reads the fields of one message, refusing in words what does not fit."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def _bad(self, name: str, expected: str) -> BadMessage:
        return BadMessage(f"{name!r} of {self._data['type']!r} must be {expected}.")

    def text(self, name: str, limit: int) -> str:
        value = self._data.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= limit or _SURROGATE.search(value):
            raise self._bad(name, f"a text of 1 to {limit} characters")
        return value

    def optional_text(self, name: str, limit: int) -> str | None:
        return None if self._data.get(name) is None else self.text(name, limit)

    def count(self, name: str) -> int:
        value = self._data.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_POSITION:
            raise self._bad(name, "a whole number that is not negative")
        return value

    def flag(self, name: str) -> bool:
        value = self._data.get(name)
        if not isinstance(value, bool):
            raise self._bad(name, "true or false")
        return value

    def optional_flag(self, name: str) -> bool:
        return False if self._data.get(name) is None else self.flag(name)

    def rates(self, name: str) -> tuple[int, ...]:
        value = self._data.get(name)
        if value is None:
            return ()
        if (
            not isinstance(value, list)
            or len(value) > _MAX_RATES
            or not all(
                isinstance(rate, int) and not isinstance(rate, bool) and 8000 <= rate <= 192_000
                for rate in value
            )
        ):
            raise self._bad(name, f"a list of at most {_MAX_RATES} rates from 8000 to 192000 Hz")
        return tuple(value)


def _parse_hello(data: Mapping[str, Any]) -> Hello:
    read = _Fields(data)
    return Hello(
        client=read.text("client", _MAX_NAME),
        conversation_id=read.optional_text("conversation_id", _MAX_CONVERSATION_ID),
        input_sample_rates=read.rates("input_sample_rates"),
        resume=read.optional_text("resume", _MAX_NAME),
        test=read.optional_flag("test"),
        chat_model=read.optional_text("chat_model", _MAX_NAME),
    )


_CLIENT_PARSERS: dict[str, Callable[[Mapping[str, Any]], ClientMessage]] = {
    "hello": _parse_hello,
    "played": lambda data: Played(_Fields(data).count("samples")),
    "interrupt": lambda data: Interrupt(),
    "mute": lambda data: Mute(_Fields(data).flag("on")),
    "commit": lambda data: Commit(),
    "text": lambda data: Text(_Fields(data).text("text", _MAX_TEXT)),
    "end": lambda data: End(),
}
