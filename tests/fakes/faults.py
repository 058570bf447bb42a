"""How a fake provider misbehaves, on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SESSION_CAP_REASON = "Your session hit the maximum duration of 60 minutes."
SESSION_CAP_ERROR = {
    "type": "invalid_request_error",
    "code": "session_expired",
    "message": SESSION_CAP_REASON,
}


@dataclass(frozen=True)
class After:
    """A moment: so many ms of input audio, or so many audio deltas out; neither: at connect.

    "At connect" is after the provider's greeting (`session.created` and the like).
    """

    audio_ms: float | None = None
    deltas: int | None = None

    @property
    def at_connect(self) -> bool:
        """Whether it is right after the greeting."""
        return self.audio_ms is None and self.deltas is None


@dataclass(frozen=True)
class Close:
    """The end of a connection.

    Code 1006 drops the TCP connection without a word. `error` is sent as an event before.
    """

    code: int = 1001
    reason: str = ""
    when: After = After()
    error: Mapping[str, Any] | None = None


def session_cap(when: After = After(), error_first: bool = False) -> Close:  # noqa: B008 - frozen
    """Return the end that comes after 60 minutes; older builds sent an error event before it."""
    return Close(1001, SESSION_CAP_REASON, when, SESSION_CAP_ERROR if error_first else None)


@dataclass(frozen=True)
class Reject:
    """A refused handshake: HTTP status and error body.

    With `on_socket` the handshake succeeds, then the error comes as an event and the socket is
    closed with 4000.
    """

    status: int
    code: str | None
    message: str
    type: str = "invalid_request_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    on_socket: bool = False

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object."""
        return {"message": self.message, "type": self.type, "param": None, "code": self.code}


FORBIDDEN = Reject(
    403, "unsupported_country_region_territory", "Country, region, or territory not supported"
)
QUOTA = Reject(
    429,
    "insufficient_quota",
    "You exceeded your current quota, please check your plan and billing details.",
    "insufficient_quota",
)
RATE_LIMITED = Reject(
    429,
    "rate_limit_exceeded",
    "Rate limit reached for requests. Please try again in 1s.",
    "requests",
    {"retry-after": "1"},
)
OVERLOADED = Reject(503, None, "The engine is currently overloaded.", "server_error")

JUNK: tuple[str | bytes, ...] = (
    "this is not JSON {",
    '{"type":"future.event.of.some.kind","event_id":"event_junk","field":{"a":[1]}}',
    b"\x00\x01\x02",
    "[]",
    "null",
    '{"no_type":true}',
    '{"type":5}',
)


@dataclass(frozen=True)
class Faults:
    """What goes wrong on a connection; by default nothing.

    Args:
        reject: Refuse the handshake.
        handshake_ms: Answer the handshake late.
        handshake_after: Do not answer it before this is set.
        handshake_hang: Never answer the handshake.
        hang: Accept the socket, then neither send nor read anything.
        drop: Event types that are never sent.
        delay_ms: Event types that are sent late, by so many ms; others overtake them.
        duplicate: Event types that are sent twice, with the same `event_id`.
        beta_names: Send the names of the retired beta, and no `conversation.item.done`.
        string_errors: `error` is a string, not an object.
        error: An `error` event at `error_when`; the session goes on.
        close: The connection ends.
        one_delta: A whole reply comes as one delta.
        junk_every: After every so many events, something that is no event of the protocol.
        junk: Such things, in turn.
        late_deltas: So many audio deltas of a cancelled response after its `response.done`.
        odd_audio: Deltas end in the middle of a sample.
        stall_ms: Stop reading the socket for so long, when `stall_when` comes.
    """

    reject: Reject | None = None
    handshake_ms: float = 0
    handshake_after: asyncio.Event | None = None
    handshake_hang: bool = False
    hang: bool = False
    drop: Collection[str] = ()
    delay_ms: Mapping[str, float] = field(default_factory=dict)
    duplicate: Collection[str] = ()
    beta_names: bool = False
    string_errors: bool = False
    error: Mapping[str, Any] | None = None
    error_when: After = After()
    close: Close | None = None
    one_delta: bool = False
    junk_every: int = 0
    junk: Sequence[str | bytes] = JUNK
    late_deltas: int = 0
    odd_audio: bool = False
    stall_ms: float = 0
    stall_when: After = After()


NO_FAULTS = Faults()

PerConnection = Faults | Sequence[Faults]
"""The same for all connections, or one for each in order (none for those after the last)."""


def faults_of(faults: PerConnection, number: int) -> Faults:
    """Return the faults of the connection `number`, counted from 1, refused ones included."""
    if isinstance(faults, Faults):
        return faults
    return faults[number - 1] if number <= len(faults) else NO_FAULTS
