"""What a speech backend is: PCM in, typed events out.

A backend knows nothing of browsers. It declares the sample rates it works at, takes the user's
audio, and yields events until it is closed. Generation may outrun playback: `Audio` comes as fast
as the model makes it, and `ReplyDone` says that it was generated, not that it was heard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..errors import BackendError

__all__ = [
    "AgentTranscript",
    "Answer",
    "AnswerEnded",
    "AnswerFailed",
    "AnswerPiece",
    "Audio",
    "Backend",
    "BackendEvent",
    "Briefing",
    "Ending",
    "Failed",
    "Interrupted",
    "Preparing",
    "Queued",
    "Reconnecting",
    "ReplyDone",
    "Role",
    "SpeechStarted",
    "SpeechStopped",
    "TextModel",
    "Timings",
    "Told",
    "Tool",
    "ToolCall",
    "Usage",
    "UserTranscript",
]


@dataclass(frozen=True)
class SpeechStarted:
    """The user began to speak."""


@dataclass(frozen=True)
class SpeechStopped:
    """The user stopped speaking; a reply follows, or not."""

    reply_expected: bool = True
    """False where the turn was dropped, such as a cough."""


@dataclass(frozen=True)
class UserTranscript:
    """What the user said. A partial one replaces the earlier ones of its item."""

    item_id: str
    text: str
    final: bool


@dataclass(frozen=True)
class AgentTranscript:
    """What the model says. A partial one replaces the earlier ones of its item."""

    item_id: str
    text: str
    final: bool
    cut: bool = False
    """Whether the reply was interrupted, and this is the part that was heard."""


@dataclass(frozen=True)
class Audio:
    """A piece of the reply `item_id`; its first piece begins the reply."""

    item_id: str
    pcm: bytes
    """PCM16 little-endian mono at the backend's `output_sample_rate`, whole samples."""


@dataclass(frozen=True)
class ReplyDone:
    """The reply `item_id` has been generated to its end."""

    item_id: str


@dataclass(frozen=True)
class Interrupted:
    """The backend itself stopped the reply `item_id` before its end."""

    item_id: str


@dataclass(frozen=True)
class ToolCall:
    """The model calls a function."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """Totals of the session so far; what a backend does not know is 0."""

    input_audio_ms: int = 0
    output_audio_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    """In US dollars, where the provider itself says what it has cost."""


@dataclass(frozen=True)
class Reconnecting:
    """The connection to the model was lost and is being made again, or is there again."""

    lost: bool


@dataclass(frozen=True)
class Ending:
    """The backend will end the session by itself."""

    reason: str
    seconds: int


@dataclass(frozen=True)
class Failed:
    """Something went wrong; after a fatal one nothing more comes."""

    code: str
    message: str
    fatal: bool


@dataclass(frozen=True)
class Preparing:
    """Something must be there before the backend can begin, and takes time; from `open` only."""

    what: str
    """In words for the user, such as "Fetching the speech model base"."""
    share: float | None = None
    """How much of it is done, from 0 to 1; None: not known."""


@dataclass(frozen=True)
class Queued:
    """Whether what the user has said, or the reply to it, waits for other sessions' turns."""

    waits: bool


@dataclass(frozen=True)
class Timings:
    """How long the stages took, from the end of the user's speech to the reply's first sound."""

    seconds: Mapping[str, float]
    """By stage: `vad` (waiting to be sure that it is the end), `stt`, `text` (the first sentence of
    the answer), `tts`, and `total`."""


BackendEvent = (
    SpeechStarted
    | SpeechStopped
    | UserTranscript
    | AgentTranscript
    | Audio
    | ReplyDone
    | Interrupted
    | ToolCall
    | Usage
    | Reconnecting
    | Ending
    | Failed
    | Preparing
    | Queued
    | Timings
)


Role = Literal["user", "assistant", "system"]


@dataclass(frozen=True)
class Told:
    """Something the model is to know, as text."""

    role: Role
    """Who said it; `system` is neither of the two, but gptme or the plugin."""
    text: str


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str
    """For the model: what it does, and when to call it."""
    parameters: Mapping[str, Any]
    """JSON Schema of an object."""


@dataclass(frozen=True)
class Briefing:
    """What a model is told before it hears anything."""

    instructions: str = ""
    """Added to those that the settings give."""
    history: tuple[Told, ...] = ()
    """What was said in the conversation before, oldest first."""
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class AnswerPiece:
    """The next piece of the answer `answer_id`; its first piece begins it."""

    answer_id: str
    text: str


@dataclass(frozen=True)
class AnswerEnded:
    """The answer `answer_id` is complete."""

    answer_id: str


@dataclass(frozen=True)
class AnswerFailed:
    """What was asked is not answered, or something is to be said that no model has written."""

    sentence: str
    """Says what is wrong, and what to do about it, to be read out and shown."""


Answer = AnswerPiece | AnswerEnded | AnswerFailed


class TextModel(ABC):
    """What answers in writing: gptme, for backends that only hear and speak.

    What the user said reaches it by way of the conversation, and makes it begin.
    """

    @abstractmethod
    def answers(self) -> AsyncIterator[Answer]:
        """Yield what is to be spoken, asked for or not, for ever; one answer after the other."""

    @abstractmethod
    def stop(self) -> None:
        """Stop what it does."""

    @abstractmethod
    def heard(self, answer_id: str, characters: int) -> None:
        """Say how many characters of an answer were heard, if that was not all of it."""


class Backend(ABC):
    """One conversation with a speech model.

    Use: `await open()`, then `events()` in one task and the other methods in another, then
    `await close()`, also after a failure. All methods may raise `errors.BackendError`.
    """

    name: ClassVar[str]
    """The name it has in the config."""
    input_sample_rate: int
    """Rate in hertz that `send_audio` takes."""
    output_sample_rate: int
    """Rate in hertz of `Audio.pcm`."""
    model: str
    """What answers, as the user may know it."""
    features: tuple[str, ...] = ("interrupt", "mute", "commit")
    """Which of the client's optional messages have an effect."""
    hint: str = ""
    """What the user should know of it, in a sentence; empty: nothing."""
    converses: ClassVar[bool] = True
    """Whether what is said is a conversation: its transcripts are words, and it can be briefed."""

    thinks: ClassVar[bool] = True
    """Whether it finds its own answers; else a `TextModel` answers in its stead."""
    on_preparing: Callable[[Preparing], None] = staticmethod(lambda _: None)
    """Is told what `open` waits for."""

    def answer_with(self, model: TextModel) -> None:
        """Take what answers in its stead, if it does not think; before `open`."""
        raise BackendError(f"The {self.name} backend finds its own answers.")

    def brief(self, briefing: Briefing) -> None:
        """Tell the model what it is to know; before `open`."""
        raise BackendError(f"The {self.name} backend has no conversation.")

    async def instruct(self, instructions: str) -> None:
        """Replace the briefing's instructions, of which more is known by now."""
        raise BackendError(f"The {self.name} backend has no conversation.")

    @abstractmethod
    async def open(self) -> None:
        """Get ready to take audio."""

    @abstractmethod
    async def send_audio(self, pcm: bytes) -> None:
        """Take the next piece of the user's audio: PCM16 LE mono at `input_sample_rate`."""

    @abstractmethod
    async def commit(self) -> None:
        """End the user's turn now; nothing happens if nothing was said."""

    @abstractmethod
    async def send_text(self, text: str) -> None:
        """Take something the user typed."""

    @abstractmethod
    async def interrupt(self, item_id: str | None, heard_ms: int) -> None:
        """Stop the reply `item_id`, of which the first `heard_ms` milliseconds were heard; None
        stops the reply that is being prepared and has no audio yet.

        Called for every reply that was not heard whole, also one that was generated long ago.
        """

    async def tell(self, told: Told | None, answer: bool) -> None:
        """Add `told` to the conversation, if it is something.

        Args:
            told: What nobody has spoken.
            answer: Whether the model is to speak of it, as soon as it can.
        """
        raise BackendError(f"The {self.name} backend has no conversation.")

    async def send_tool_output(self, call_id: str, output: str) -> None:
        """Answer a `ToolCall`; only for backends that make them."""
        raise BackendError(f"The {self.name} backend calls no tools.")

    @abstractmethod
    def events(self) -> AsyncIterator[BackendEvent]:
        """Yield what happens, until the backend is closed."""

    @abstractmethod
    async def close(self) -> None:
        """Free everything; may be called more than once, and at any time."""
