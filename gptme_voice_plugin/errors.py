"""Everything that can go wrong for a user, in one place.

    VoiceError
    ├── ConfigError            config_invalid        a setting has a wrong value
    ├── ConfigNotSaved         config_not_saved      the config file cannot be written
    ├── BackendError                                 the speech model's side
    │   ├── BackendUnavailable backend_unavailable   the chosen backend cannot be used here
    │   ├── BackendTimeout     backend_timeout       it did not get ready in time
    │   ├── BackendStalled     backend_stalled       it takes no more audio
    │   ├── KeyMissing         key_missing           its API key is not configured
    │   ├── KeyRefused         key_refused           it does not accept the key
    │   ├── ModelUnknown       model_unknown         it has no such model
    │   ├── QuotaExhausted     quota_exhausted       the account's credit or limit is used up
    │   ├── ProviderUnreachable provider_unreachable it cannot be connected to
    │   ├── ProviderFailed     provider_failed       it reports a failure of its own
    │   ├── ExtraMissing       extra_missing         packages that it needs are not installed
    │   ├── ModelMissing       model_missing         a speech model of its is not on this machine
    │   └── SpeechFailed       speech_failed         hearing or speaking on this machine failed
    ├── ProtocolError                                the client broke the wire protocol
    │   ├── BadMessage         bad_message           a JSON message that cannot be understood
    │   ├── HelloRequired      hello_required        something else came before `hello`
    │   ├── UnexpectedHello    unexpected_hello      a second `hello`
    │   ├── AudioBeforeReady   audio_before_ready    audio came before its rate was agreed
    │   ├── PlayedOutOfRange   played_out_of_range   more was reported played than was sent
    │   ├── NoUsableRate       no_usable_rate        it can send at no rate that can be used
    │   └── TooManyErrors      too_many_errors       a client that keeps on breaking it
    ├── TurnsError                                   spoken turns were not all written down
    │   ├── BadTurns           bad_turns             they cannot be understood
    │   ├── ConversationUnknown conversation_unknown there is no such conversation
    │   ├── ConversationBusy   conversation_busy     something else is writing to it
    │   └── TurnsNotSaved      turns_not_saved       its log cannot be written
    ├── ConversationInUse      conversation_in_use   another voice session runs in it
    ├── GptmeUnreachable       gptme_unreachable     gptme-server does not answer
    ├── GptmeFailed            gptme_failed          gptme-server refuses what it is asked
    ├── RecordingFailed        recording_failed      a session's recording cannot be written
    ├── ServerStopping         server_stopping       gptme-server is going down
    └── InternalError          internal_error        a defect of ours

Each class carries what a client needs: `code` (stable, for programs), `close_code` (RFC 6455
section 7.4, used when the error ends the session), `fatal`, and the message, which is one sentence
a user can act on and never holds a secret.
"""

from __future__ import annotations

__all__ = [
    "AudioBeforeReady",
    "BackendError",
    "BackendStalled",
    "BackendTimeout",
    "BackendUnavailable",
    "BadMessage",
    "BadTurns",
    "ConfigError",
    "ConfigNotSaved",
    "ConversationBusy",
    "ConversationInUse",
    "ConversationUnknown",
    "ExtraMissing",
    "GptmeFailed",
    "GptmeUnreachable",
    "HelloRequired",
    "InternalError",
    "KeyMissing",
    "KeyRefused",
    "ModelMissing",
    "ModelUnknown",
    "NoUsableRate",
    "PlayedOutOfRange",
    "ProtocolError",
    "ProviderFailed",
    "ProviderUnreachable",
    "QuotaExhausted",
    "RecordingFailed",
    "ServerStopping",
    "SpeechFailed",
    "TooManyErrors",
    "TurnsError",
    "TurnsNotSaved",
    "UnexpectedHello",
    "VoiceError",
    "close_reason",
]

_MAX_REASON_BYTES = 123  # RFC 6455 section 5.5: a control frame holds 125 bytes, two are the code


class VoiceError(Exception):
    """Base of all errors that reach a user.

    Attributes:
        code: Stable identifier, sent in the `error` message.
        close_code: WebSocket close code when the error ends a session.
        fatal: Whether the session ends.
        message: One readable sentence that says what to do.
    """

    code = "error"
    close_code = 1011
    fatal = True

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(VoiceError):
    """A setting has a wrong value; the message names key, value and what is allowed."""

    code = "config_invalid"


class ConfigNotSaved(VoiceError):
    """gptme's config file cannot be written; it is as it was."""

    code = "config_not_saved"


class BackendError(VoiceError):
    """The speech model, or the way to it, failed."""

    code = "backend_failed"


class BackendUnavailable(BackendError):
    """The configured backend cannot be used on this installation."""

    code = "backend_unavailable"


class BackendTimeout(BackendError):
    """The backend did not get ready within its deadline."""

    code = "backend_timeout"


class BackendStalled(BackendError):
    """The backend has stopped taking audio."""

    code = "backend_stalled"


class KeyMissing(BackendError):
    """The API key that the backend needs is not configured."""

    code = "key_missing"


class KeyRefused(BackendError):
    """The provider does not accept the API key."""

    code = "key_refused"


class ModelUnknown(BackendError):
    """The provider has no model of the configured name, or not for this key."""

    code = "model_unknown"


class QuotaExhausted(BackendError):
    """The provider's account has no credit, or its limit is reached."""

    code = "quota_exhausted"


class ProviderUnreachable(BackendError):
    """The provider cannot be connected to."""

    code = "provider_unreachable"


class ProviderFailed(BackendError):
    """The provider reports a failure of its own."""

    code = "provider_failed"


class ExtraMissing(BackendError):
    """Packages that the local backend needs are not installed."""

    code = "extra_missing"


class ModelMissing(BackendError):
    """A speech model or voice is not on this machine and was not fetched; it will not come."""

    code = "model_missing"


class SpeechFailed(BackendError):
    """A stage of the local backend failed, as when the process that speaks has died."""

    code = "speech_failed"


class ProtocolError(VoiceError):
    """The client sent something the wire protocol does not allow; the session goes on."""

    code = "protocol_error"
    close_code = 1008
    fatal = False


class BadMessage(ProtocolError):
    """A text frame that is no JSON object of a known shape."""

    code = "bad_message"


class HelloRequired(ProtocolError):
    """A `gptme.voice.v1` client sent something before `hello`, or no `hello` in time."""

    code = "hello_required"
    fatal = True


class UnexpectedHello(ProtocolError):
    """`hello` was sent twice."""

    code = "unexpected_hello"


class AudioBeforeReady(ProtocolError):
    """Audio came before `ready` told its sample rate; it could not be used."""

    code = "audio_before_ready"


class PlayedOutOfRange(ProtocolError):
    """`played` named a position that was never sent."""

    code = "played_out_of_range"


class NoUsableRate(ProtocolError):
    """The client can capture at no sample rate that can be resampled."""

    code = "no_usable_rate"
    fatal = True


class TooManyErrors(ProtocolError):
    """The client went on breaking the protocol; the session ends."""

    code = "too_many_errors"
    fatal = True


class TurnsError(VoiceError):
    """Spoken turns were not all written into the conversation."""

    code = "turns_refused"


class BadTurns(TurnsError):
    """They are no turns, or not as they must be; none was written."""

    code = "bad_turns"


class ConversationUnknown(TurnsError):
    """There is no such conversation."""

    code = "conversation_unknown"


class ConversationBusy(TurnsError):
    """Something else is writing to the conversation; nothing was written, and may be later.

    Attributes:
        soon: Whether it is gptme-server itself, which will be done soon.
    """

    code = "conversation_busy"

    def __init__(self, message: str, soon: bool = True) -> None:
        super().__init__(message)
        self.soon = soon


class TurnsNotSaved(TurnsError):
    """The conversation's log cannot be written; what is in it is known by the turns' ids."""

    code = "turns_not_saved"


class ConversationInUse(VoiceError):
    """Another voice session runs in the conversation."""

    code = "conversation_in_use"
    close_code = 1008


class GptmeUnreachable(VoiceError):
    """gptme-server does not answer the voice process; it may later."""

    code = "gptme_unreachable"


class GptmeFailed(VoiceError):
    """gptme-server refuses what the voice process asks, and always will."""

    code = "gptme_failed"


class RecordingFailed(VoiceError):
    """The recording of a session cannot be written; the session goes on."""

    code = "recording_failed"
    fatal = False


class ServerStopping(VoiceError):
    """gptme-server is going down; the client may come back."""

    code = "server_stopping"
    close_code = 1012


class InternalError(VoiceError):
    """A defect of ours; details are in the server's log."""

    code = "internal_error"

    def __init__(self, message: str = "The voice session failed; see the server's log.") -> None:
        super().__init__(message)


def close_reason(message: str) -> str:
    """Return `message` cut to what fits a WebSocket close frame (123 bytes of UTF-8)."""
    raw = message.encode(errors="replace")
    if len(raw) <= _MAX_REASON_BYTES:
        return raw.decode()
    return raw[: _MAX_REASON_BYTES - 3].decode(errors="ignore") + "…"
