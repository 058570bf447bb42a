"""The realtime protocol core, with a provider's events written by hand."""

from __future__ import annotations

import base64
from typing import Any

from gptme_voice_plugin.backends import base
from gptme_voice_plugin.backends.provider_errors import from_error
from gptme_voice_plugin.backends.realtime import RealtimeProtocol
from tests.support.openai_types import assert_client_event

__all__ = ["Core", "audio", "pcm"]

SESSION = {"type": "realtime", "output_modalities": ["audio"]}
BYTES_PER_MS = 48


def pcm(ms: int) -> bytes:
    """Return so much reply audio."""
    return b"\x01\x02" * (ms * BYTES_PER_MS // 2)


def audio(events: list[base.BackendEvent]) -> bytes:
    """Return the audio of some events."""
    return b"".join(event.pcm for event in events if isinstance(event, base.Audio))


class Core(RealtimeProtocol):
    """A core, connected and ready unless told otherwise; all that it sends is checked.

    Args:
        ready: Connect at once.
        binary_output: Take binary frames as reply audio.
    """

    def __init__(self, ready: bool = True, binary_output: bool = True) -> None:
        super().__init__(
            lambda: SESSION,
            24_000,
            lambda code, message: from_error("OpenAI", "OPENAI_API_KEY", "gpt-x", code, message),
            binary_output,
        )
        if ready:
            self.connect()

    def connect(self, **greeting: Any) -> None:
        """Make a connection; what it is told after the settings is left in `sent`."""
        self.connected()
        assert [event["type"] for event in self.sent()] == ["session.update"]
        if greeting:
            self.hear("conversation.created", **greeting)
        self.hear("session.updated", session=SESSION)
        self.take_up()

    def text(self, text: str) -> None:
        """Tell what the user typed, and have it answered."""
        self.tell(base.Told("user", text))
        self.answer()

    def sent(self) -> list[dict[str, Any]]:
        """Return, once, the events that the core sends."""
        events = []
        for event in self.take_outgoing():
            assert isinstance(event, dict)
            assert_client_event(event)
            events.append(event)
        return events

    def sent_types(self) -> list[str]:
        """Return, once, the types of the events that the core sends."""
        return [event["type"] for event in self.sent()]

    def hear(self, kind: str, **fields: Any) -> list[base.BackendEvent]:
        """Have the provider say something."""
        return self.receive({"type": kind, "event_id": "event_1", **fields})

    # The usual events, shortened

    def begin(self, response: str = "r1", item: str = "a1") -> None:
        """Begin a response with a spoken item."""
        assert self.hear(
            "response.created", response={"id": response, "status": "in_progress"}
        ) in (
            [],
            [base.ReplyDone(item)],
        )
        message = {"id": item, "type": "message", "role": "assistant", "content": []}
        assert not self.hear("response.output_item.added", response_id=response, item=message)

    def speak(
        self, data: bytes | int, response: str = "r1", item: str = "a1", name: str = "output_audio"
    ) -> list[base.BackendEvent]:
        """Send reply audio: bytes, or so many ms."""
        raw = pcm(data) if isinstance(data, int) else data
        delta = base64.b64encode(raw).decode()
        return self.hear(f"response.{name}.delta", response_id=response, item_id=item, delta=delta)

    def say(self, text: str, response: str = "r1", item: str = "a1") -> list[base.BackendEvent]:
        """Send a piece of the reply's transcript."""
        kind = "response.output_audio_transcript.delta"
        return self.hear(kind, response_id=response, item_id=item, delta=text)

    def said(self, text: str, response: str = "r1", item: str = "a1") -> list[base.BackendEvent]:
        """Send the whole transcript of the reply."""
        kind = "response.output_audio_transcript.done"
        return self.hear(kind, response_id=response, item_id=item, transcript=text)

    def spoken(self, response: str = "r1", item: str = "a1") -> list[base.BackendEvent]:
        """End the reply's audio."""
        return self.hear("response.output_audio.done", response_id=response, item_id=item)

    def finish(
        self,
        response: str = "r1",
        status: str = "completed",
        output: list[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> list[base.BackendEvent]:
        """End the response."""
        done = {"id": response, "status": status, "output": output or [], **fields}
        return self.hear("response.done", response=done)

    def commit_turn(self, item: str = "u1", after: str | None = None) -> list[base.BackendEvent]:
        """Take a turn of the user's."""
        return self.hear("input_audio_buffer.committed", item_id=item, previous_item_id=after)

    def heard(self, text: str, item: str = "u1") -> list[base.BackendEvent]:
        """Send the user's words."""
        kind = "conversation.item.input_audio_transcription.completed"
        return self.hear(kind, item_id=item, content_index=0, transcript=text)

    def reply(self, ms: int, text: str, response: str = "r1", item: str = "a1") -> None:
        """Give a whole reply."""
        self.begin(response, item)
        self.speak(ms, response, item)
        self.say(text, response, item)
        self.spoken(response, item)
        self.said(text, response, item)
        self.finish(response, output=[{"id": item, "type": "message"}])

    def call(
        self,
        *calls: tuple[str, str, str],
        response: str = "r1",
        status: str = "completed",
    ) -> list[base.BackendEvent]:
        """Give a response that calls functions: call id, name and arguments of each."""
        self.hear("response.created", response={"id": response})
        output = []
        for call_id, name, arguments in calls:
            fields = {"call_id": call_id, "name": name, "arguments": arguments}
            kind = "response.function_call_arguments.done"
            assert not self.hear(kind, response_id=response, item_id=f"item_{call_id}", **fields)
            output.append({"type": "function_call", "id": f"item_{call_id}", **fields})
        return self.finish(response, status, output)
