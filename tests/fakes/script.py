"""What a fake provider says: replies, function calls and transcripts of the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.speech import Samples, resampled, speech_like

if TYPE_CHECKING:
    from .session import Session

DEFAULT_TEXT = "This is a reply made for testing and it goes on for a little while."
DEFAULT_USER_TEXT = "Hello there, how are you?"

T = TypeVar("T")


@dataclass(frozen=True)
class FunctionCall:
    """A call that the model makes.

    `arguments` is sent as it is, so it may be broken JSON. `delay_ms` is the pause before each of
    its deltas of `delta_chars` characters. An empty `call_id` means a generated one.
    """

    name: str
    arguments: str = "{}"
    call_id: str = ""
    delta_chars: int = 8
    delay_ms: float = 0


@dataclass(frozen=True)
class Reply:
    """One response.

    Args:
        text: Its transcript; None: says nothing, it only calls.
        audio: At the output rate; None: `seconds` of speech-like sound.
        seconds: How long the sound is when `audio` is None.
        calls: Function calls, after what is said.
        calls_first: Call before speaking.
        status: How it ends by itself: completed, incomplete (with `reason`) or failed (with
            `error`: nothing is said then).
    """

    text: str | None = DEFAULT_TEXT
    audio: Samples | None = None
    seconds: float = 2.0
    calls: tuple[FunctionCall, ...] = ()
    calls_first: bool = False
    status: str = "completed"
    reason: str | None = None
    error: Mapping[str, Any] | None = None

    def samples(self, rate: int) -> Samples:
        """Return what is heard, at the output rate."""
        return speech_like(rate, self.seconds) if self.audio is None else self.audio


@dataclass(frozen=True)
class Turn:
    """What a reply answers: handed to a callable that makes replies or transcripts.

    `audio` is the user's, at `input_rate`; empty when the turn was typed. `text` is what was typed,
    and `outputs` maps call ids to the function outputs that came since the last reply.
    """

    number: int
    audio: Samples
    input_rate: int
    output_rate: int
    text: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    session: Session | None = None


@dataclass(frozen=True)
class UserText:
    """How the user's speech is transcribed.

    Args:
        text: What was understood.
        when: Before, during (at half of) or after the reply.
        delay_ms: More delay on top, by the wall clock.
        failed: Send `transcription.failed` instead.
        partials: Send deltas (or cumulative updates) first.
    """

    text: str = DEFAULT_USER_TEXT
    when: str = "during"
    delay_ms: float = 0
    failed: bool = False
    partials: bool = True


Replies = Reply | Callable[[Turn], Reply] | Sequence[Reply | Callable[[Turn], Reply]]
UserTexts = UserText | Callable[[Turn], UserText] | Sequence[UserText | Callable[[Turn], UserText]]


def echo(turn: Turn) -> Reply:
    """Reply with the user's own words."""
    audio = turn.audio
    if turn.input_rate != turn.output_rate and audio.size:
        audio = resampled(audio, turn.input_rate, turn.output_rate)
    return Reply(text=turn.text or "You said this.", audio=audio)


def pick(script: Any, turn: Turn, default: T) -> T:
    """Return the entry of `script` for `turn`; past its end, `default`."""
    if isinstance(script, Sequence):
        if turn.number >= len(script):
            return default
        script = script[turn.number]
    chosen: T = script(turn) if callable(script) else script
    return chosen


def words(text: str) -> list[str]:
    """Split `text` as it is streamed: each piece but the first starts with a space."""
    return [word if i == 0 else f" {word}" for i, word in enumerate(text.split())]
