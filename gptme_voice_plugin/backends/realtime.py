"""The realtime protocol that OpenAI defined and others speak, without I/O.

Events of the provider go in and come out as backend events; what the relay wants goes in and comes
out as client events to send. Names are those of the current (GA) protocol; the beta names that some
compatible servers still use are understood. Whatever a server leaves out is done without, and what
it adds is ignored.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import BackendError
from . import base
from .history import History, Turn, heard_text
from .tool_calls import ToolCalls

__all__ = ["RealtimeProtocol"]

logger = logging.getLogger(__name__)

IDS_KEPT = 64

_BETA_NAMES = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}

_TRY = "try_"

ENDING_CODES = {"session_expired", "max_duration"}

# Answers to something that the moment had overtaken; nothing is wrong.
_HARMLESS = {
    "response_cancel_not_active",
    "input_audio_buffer_commit_empty",
    "item_truncate_invalid_item_id",
    "item_delete_invalid_item_id",
    "unsupported_content_type",
}


class RealtimeProtocol:
    """One conversation, over any number of connections.

    Args:
        session: Returns the `session` of a `session.update`.
        output_sample_rate: Rate of reply audio in hertz.
        explain: Turns code and message of an error event into ours, and whether it is final.
        binary_output: Whether reply audio may come as binary frames.
    """

    def __init__(
        self,
        session: Callable[[], dict[str, Any]],
        output_sample_rate: int,
        explain: Callable[[str, str], tuple[BackendError, bool]],
        binary_output: bool = False,
    ) -> None:
        self.history = History()
        self.unknown: Counter[str] = Counter()
        """Event types that were not understood, and how often they came."""
        self.user_speaking = False
        self.alive = False
        """Whether the provider has greeted on this connection."""
        self.ready = False
        """Whether it has taken our settings, on this connection."""
        self.commits = 0
        """How many turns of captured audio the provider has taken."""
        self.conversation_id: str | None = None
        self._binary_input = False
        self._binary_output = binary_output
        self._settings = session
        self._explain = explain
        self._bytes_per_ms = output_sample_rate * 2 / 1000
        self._outgoing: list[dict[str, Any] | bytes] = []
        self._response: str | None = None
        self._taken_up: str | None = None
        self._audio_item = ""
        self._dropped: deque[str] = deque(maxlen=IDS_KEPT)  # responses that were cut off
        self._cut: deque[str] = deque(maxlen=IDS_KEPT)  # items that were cut off
        self._done: deque[str] = deque(maxlen=IDS_KEPT)  # items whose audio has ended
        self._odd: dict[str, bytes] = {}
        self._text_source: dict[str, str] = {}
        self._tools = ToolCalls()
        self._finished: deque[str] = deque(maxlen=IDS_KEPT)  # responses that are done
        self._untold: dict[str, dict[str, Any]] = {}  # typed items not seen to have arrived
        self._last_commit = ""
        # LocalAI gives a turn three ids: with its commit, its transcript and its item. The first is
        # the one that counts.
        self._itemless: deque[str] = deque(maxlen=IDS_KEPT)  # committed, and their items to come
        self._same: dict[str, str] = {}
        self._drop_next = False
        self._want_response = False
        self._create_sent = False
        self._commit_sent = False
        self._asked_for_commit = False
        self._answer_due = False
        self._usage = base.Usage()
        self._handlers: dict[str, Callable[[Mapping[str, Any]], list[base.BackendEvent]]] = {
            "session.created": self._on_greeting,
            "session.updated": self._on_session_updated,
            "conversation.created": self._on_greeting,
            "conversation.item.added": self._on_item,
            "conversation.item.done": self._on_item,
            "conversation.item.input_audio_transcription.delta": self._on_user_delta,
            "conversation.item.input_audio_transcription.updated": self._on_user_updated,
            "conversation.item.input_audio_transcription.completed": self._on_user_completed,
            "conversation.item.input_audio_transcription.failed": self._on_user_failed,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            "input_audio_buffer.committed": self._on_committed,
            "response.created": self._on_response_created,
            "response.content_part.added": self._on_part_added,
            "response.output_item.added": self._on_output_item_added,
            "response.output_item.done": self._on_output_item_done,
            "response.output_audio.delta": self._on_audio_delta,
            "response.output_audio.done": self._on_audio_done,
            "response.output_audio_transcript.delta": self._on_agent_delta,
            "response.output_audio_transcript.done": self._on_agent_done,
            "response.output_text.delta": self._on_agent_delta,
            "response.output_text.done": self._on_agent_done,
            "response.function_call_arguments.done": self._on_arguments_done,
            "response.done": self._on_response_done,
            "error": self._on_error,
        }

    # What the relay wants

    def take_outgoing(self) -> list[dict[str, Any] | bytes]:
        """Return, once, what is to be sent now, in order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def connected(self) -> None:
        """Begin a new connection: the settings go first."""
        self.alive = self.ready = self.user_speaking = False
        self._binary_input = False
        self._outgoing = []
        self._taken_up, self.conversation_id = self.conversation_id, None
        self._response = None
        self._want_response = self._create_sent = self._commit_sent = self._drop_next = False
        self._tools.forget()
        self._itemless.clear()
        self._send("session.update", session=self._settings())

    def lost(self) -> list[base.BackendEvent]:
        """End a connection; what was being said will not go on."""
        events: list[base.BackendEvent] = []
        if self._audio_item and self._audio_item not in self._done:
            events.append(base.ReplyDone(self._audio_item))
            self._done.append(self._audio_item)
        self._audio_item = ""
        return events

    @property
    def idle(self) -> bool:
        """Whether nobody would notice if the connection were made anew."""
        return not (
            self.user_speaking
            or self._response is not None
            or self._create_sent
            or self._tools.open
            or self._answer_due
        )

    def forget_unwritten(self) -> str | None:
        """Forget the user's last turn if its words are not known and it was not answered.

        Returns:
            Its item, if so: its audio has to be sent again.
        """
        if not self._answer_due:
            return None
        turns = [turn for turn in self.history if turn.role == "user"]
        if not turns or turns[-1].final:
            return None
        self._answer_due = False
        self.history.remove(turns[-1].item_id)
        return turns[-1].item_id

    def take_up(self) -> None:
        """Tell a new connection what was said before, and ask for the answer that is still due."""
        resumed = self._taken_up is not None and self.conversation_id == self._taken_up
        if resumed:
            for item in self._untold.values():
                self._try("conversation.item.create", item=item)
        else:
            self._outgoing += self.history.replay()
        self._untold.clear()
        # What was asked for while the settings were under way has not been sent.
        self._want_response = self._create_sent = False
        if self._answer_due:
            self._ask()

    def append(self, pcm: bytes) -> dict[str, Any] | bytes:
        """Return the message that carries captured audio."""
        if self._binary_input:
            return pcm
        audio = base64.b64encode(pcm).decode("ascii")
        return {"type": "input_audio_buffer.append", "audio": audio}

    def commit(self) -> None:
        """End the user's turn now, and have it answered."""
        self._commit_sent = True
        self._send("input_audio_buffer.commit")

    def remember(self, history: Iterable[base.Told]) -> None:
        """Take what was said before; before the first connection, which is told it."""
        for number, told in enumerate(history):
            turn = self.history.place(f"before_{number}", told.role)
            turn.text, turn.final = told.text, True

    def instruct(self, instructions: str) -> None:
        """Replace the instructions of the session; the next response follows them."""
        self._try("session.update", session={"type": "realtime", "instructions": instructions})

    def tell(self, told: base.Told) -> None:
        """Add something that nobody has spoken."""
        item_id = f"item_{secrets.token_hex(8)}"
        turn = self.history.place(item_id, told.role)
        turn.text, turn.final = told.text, True
        kind = "output_text" if told.role == "assistant" else "input_text"
        content = [{"type": kind, "text": told.text}]
        item = {"id": item_id, "type": "message", "role": told.role, "content": content}
        self._send("conversation.item.create", item=item)
        self._untold[item_id] = item
        for old in list(self._untold)[:-IDS_KEPT]:
            del self._untold[old]

    def answer(self) -> None:
        """Have what was said and told last answered, as soon as no other response is active."""
        self._answer_due = True
        self._ask()

    def announce(self, text: str) -> None:
        """Have `text` spoken word for word; an extension of xAI's."""
        content = [{"type": "output_text", "text": text}]
        item = {
            "type": "force_message",
            "role": "assistant",
            "interruptible": True,
            "content": content,
        }
        self._send("conversation.item.create", item=item)

    def tool_output(self, call_id: str, output: str) -> None:
        """Add the result of a function call; the last one of a response has it answered."""
        self._send_outputs(self._tools.answer(call_id, output))

    def interrupt(self, item_id: str | None, heard_ms: int) -> list[base.BackendEvent]:
        """Stop a reply, and make the provider remember only what was heard of it."""
        if item_id is None:
            self._drop_next = self._response is None and (self._create_sent or self._answer_due)
            self._cancel()
            self._want_response = self._answer_due = False
            return []
        turn = self.history.get(item_id)
        total_ms = int(turn.audio_bytes / self._bytes_per_ms) if turn is not None else 0
        if turn is not None and heard_ms >= total_ms > 0 and item_id in self._done:
            return []
        if item_id == self._audio_item:
            self._cancel()
        self._cut.append(item_id)
        if turn is None:
            return []
        turn.text, turn.final = heard_text(turn.text, heard_ms, total_ms), True
        if heard_ms <= 0:
            self.history.remove(item_id)
            self._try("conversation.item.delete", item_id=item_id)
        else:
            self._try(
                "conversation.item.truncate",
                item_id=item_id,
                content_index=0,
                audio_end_ms=min(heard_ms, total_ms),
            )
        return [base.AgentTranscript(item_id, turn.text, True, cut=True)]

    def _cancel(self) -> None:
        """Stop the response that is active, if any; nothing more of it is let through."""
        # With interrupt_response the provider may have done so itself; that is harmless.
        if self._response is not None:
            self._try("response.cancel", response_id=self._response)
            self._dropped.append(self._response)
        elif self._audio_item:  # of a server that does not announce responses
            self._try("response.cancel")
        if self._audio_item and self._audio_item not in self._done:
            self._cut.append(self._audio_item)

    def _send(self, type: str, **fields: Any) -> None:
        self._outgoing.append({"type": type, **fields})

    def _try(self, type: str, **fields: Any) -> None:
        """Send what need not succeed: the moment, or the server, may not allow it."""
        self._send(type, event_id=f"{_TRY}{secrets.token_hex(4)}", **fields)

    def _send_outputs(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            self._send("conversation.item.create", item=item)
        if items:
            self._ask()

    def _ask(self) -> None:
        """Ask for a response, now or as soon as none is active."""
        self._want_response = True
        self._drop_next = False
        if self._response is None and not self._create_sent:
            self._want_response = False
            self._create_sent = True
            self._send("response.create")

    # What the provider says

    def receive(self, event: object) -> list[base.BackendEvent]:
        """Take one event of the provider; never raises, whatever it is."""
        kind = event.get("type") if isinstance(event, Mapping) else None
        if not isinstance(event, Mapping) or not isinstance(kind, str):
            self.unknown["(no type)"] += 1
            return []
        name = _BETA_NAMES.get(kind, kind)
        handler = self._handlers.get(name)
        if handler is None:
            self.unknown[name] += 1
            return []
        try:
            return handler(event)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            logger.warning("The provider's %s event cannot be used: %r", name, exc)
            self.unknown[name] += 1
            return []

    def receive_binary(self, data: bytes) -> list[base.BackendEvent]:
        """Take reply audio that came as a binary frame: it belongs to the current item."""
        if not self._binary_output or not self._audio_item:
            self.unknown["(binary)"] += 1
            return []
        return self._audio(self._audio_item, data)

    def _on_greeting(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        self.alive = True
        conversation = event.get("conversation")
        if isinstance(conversation, Mapping) and isinstance(conversation.get("id"), str):
            self.conversation_id = conversation["id"]
        return []

    def _on_session_updated(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        self.alive = self.ready = True
        session = event.get("session")
        audio = session.get("audio") if isinstance(session, Mapping) else None
        given = audio.get("input") if isinstance(audio, Mapping) else None
        # Audio goes out as bytes once the provider says it takes them.
        self._binary_input = isinstance(given, Mapping) and given.get("transport") == "binary"
        return []

    def _on_item(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        item = event["item"]
        self._untold.pop(item.get("id"), None)
        if item.get("type") == "message" and item.get("role") in ("user", "assistant"):
            # Items of a replay come back under new ids, as text; they have their place already.
            spoken = any(part.get("type") == "input_audio" for part in item.get("content") or [])
            if item["role"] == "user" and spoken:
                return self._spoken_item(_string(item, "id"), event.get("previous_item_id"))
        return []

    def _spoken_item(self, item_id: str, after: str | None) -> list[base.BackendEvent]:
        if item_id in self._itemless:
            self._itemless.remove(item_id)
        elif self._itemless and self.history.get(item_id) is None and item_id not in self._same:
            self._note_same(item_id, self._itemless.popleft())
        return self._place_user(self._same.get(item_id, item_id), after)

    def _note_same(self, item_id: str, committed: str) -> None:
        if len(self._same) > IDS_KEPT:
            del self._same[next(iter(self._same))]
        self._same[item_id] = committed

    def _place_user(self, item_id: str, after: str | None) -> list[base.BackendEvent]:
        if self.history.get(item_id) is not None:
            return []
        self.history.place(item_id, "user", after)
        # Holds the caption's place: the reply may be spoken before its transcript comes.
        return [base.UserTranscript(item_id, "", False)]

    def _on_speech_started(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        self.user_speaking = True
        self._drop_next = False
        return [base.SpeechStarted()]

    def _on_speech_stopped(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._speech_stopped()

    def _speech_stopped(self) -> list[base.BackendEvent]:
        stopped = self.user_speaking
        self.user_speaking = False
        return [base.SpeechStopped()] if stopped else []

    def _on_committed(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        item_id = _string(event, "item_id")
        events = self._speech_stopped()
        if item_id == self._last_commit:
            return events
        self._last_commit = item_id
        self.commits += 1
        self._answer_due = True
        if self._commit_sent:
            self._commit_sent = False
            self._asked_for_commit = True
            self._ask()
        if self.history.get(item_id) is None:
            self._itemless.append(item_id)
        return [*events, *self._place_user(item_id, event.get("previous_item_id"))]

    def _user_text(
        self, event: Mapping[str, Any], text: str, final: bool
    ) -> list[base.BackendEvent]:
        turn = self.history.place(self._spoken_turn(event), "user")
        if turn.final and not final:
            return []
        turn.text, turn.final = text, final
        return [base.UserTranscript(turn.item_id, text, final)]

    def _spoken_turn(self, event: Mapping[str, Any]) -> str:
        """Return the item of the turn that a transcript is of."""
        item_id = _string(event, "item_id")
        if self.history.get(item_id) is None and item_id not in self._same:
            open_turns = (
                committed
                for committed in self._itemless
                if (turn := self.history.get(committed)) is not None and not turn.final
            )
            if (committed := next(open_turns, None)) is not None:
                self._note_same(item_id, committed)
        return self._same.get(item_id, item_id)

    def _on_user_delta(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        turn = self.history.get(self._spoken_turn(event))
        so_far = turn.text if turn is not None else ""
        return self._user_text(event, so_far + _string(event, "delta"), False)

    def _on_user_updated(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._user_text(event, _string(event, "transcript"), False)

    def _on_user_completed(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._user_text(event, _string(event, "transcript").strip(), True)

    def _on_user_failed(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._user_text(event, "", True)

    def _on_response_created(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        response_id = _string(event["response"], "id")
        if response_id == self._response or response_id in self._finished:
            return []
        # The one before is over, also where nothing said so.
        events = self._reply_done(self._audio_item) if self._audio_item else []
        self._response, self._audio_item = response_id, ""
        self._create_sent = self._asked_for_commit = False
        self._tools.forget_noted()
        if self._drop_next:
            self._drop_next = False
            self._cancel()
        return events

    def _agent_turn(self, event: Mapping[str, Any]) -> Turn | None:
        """Return the turn an event of a reply is about; None if it was cut off."""
        item_id = _string(event, "item_id")
        if item_id in self._cut or event.get("response_id") in self._dropped:
            return None
        return self.history.place(item_id, "assistant")

    def _on_part_added(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        turn = self._agent_turn(event)
        if turn is not None:
            self._audio_item = turn.item_id
        return []

    def _on_output_item_added(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        item = event["item"]
        if item.get("type") == "message" and event.get("response_id") not in self._dropped:
            self._audio_item = self.history.place(_string(item, "id"), "assistant").item_id
        return []

    def _on_audio_delta(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        turn = self._agent_turn(event)
        if turn is None:
            return []
        try:
            data = base64.b64decode(event["delta"], validate=True)
        except (binascii.Error, TypeError) as exc:
            raise ValueError("audio that is not base64") from exc
        return self._audio(turn.item_id, data)

    def _audio(self, item_id: str, data: bytes) -> list[base.BackendEvent]:
        if item_id in self._cut or item_id in self._done:
            return []
        data = self._odd.pop(item_id, b"") + data
        if len(data) % 2:
            self._odd[item_id] = data[-1:]
            data = data[:-1]
        self._audio_item = item_id
        self._answer_due = False
        self.history.place(item_id, "assistant").audio_bytes += len(data)
        return [base.Audio(item_id, data)] if data else []

    def _on_audio_done(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._reply_done(_string(event, "item_id"))

    def _reply_done(self, item_id: str) -> list[base.BackendEvent]:
        self._odd.pop(item_id, None)
        if item_id in self._done:
            return []
        self._done.append(item_id)
        return [base.ReplyDone(item_id)]

    def _on_agent_delta(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        turn = self._agent_turn(event)
        if turn is None or turn.final or not self._first_source(event):
            return []
        turn.text += _string(event, "delta")
        return [base.AgentTranscript(turn.item_id, turn.text, False)]

    def _on_agent_done(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        turn = self._agent_turn(event)
        if turn is None or turn.final or not self._first_source(event):
            return []
        # The whole text may be missing; then it is what the deltas gave.
        text = event.get("transcript") or event.get("text")
        turn.text = text if isinstance(text, str) else turn.text
        turn.final = True
        return [base.AgentTranscript(turn.item_id, turn.text, True)]

    def _first_source(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is of the kind an item's text came with first; some come twice."""
        kind: str = event["type"].rpartition(".")[0]
        if len(self._text_source) > IDS_KEPT:
            self._text_source.clear()
        return self._text_source.setdefault(event["item_id"], kind) == kind

    def _on_arguments_done(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        if event.get("response_id") not in self._dropped:
            self._tools.note({**event, "type": "function_call"})
        return []

    def _on_output_item_done(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        self._tools.note(event["item"])
        return []

    def _on_response_done(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        response = event["response"]
        status, response_id = response.get("status", "completed"), response.get("id")
        if response_id in self._finished:
            return []
        if isinstance(response_id, str):
            self._finished.append(response_id)
        self._response = None
        self._create_sent = False
        events: list[base.BackendEvent] = []
        output = response.get("output")
        items = [i for i in output if isinstance(i, Mapping)] if isinstance(output, list) else []
        for item in items:
            self._tools.note(item)
        ids = [item.get("id") for item in items if item.get("type") == "message"]
        spoken = [item_id for item_id in ids if isinstance(item_id, str)]
        if self._audio_item:
            spoken.append(self._audio_item)
        for item_id in dict.fromkeys(spoken):
            if status == "cancelled" and item_id not in self._done and item_id not in self._cut:
                self._done.append(item_id)
                events.append(base.Interrupted(item_id))
            events += self._reply_done(item_id)
        if not spoken:
            events.append(base.ReplyDone(str(response_id or "")))
        self._audio_item = ""
        if status == "completed":
            self._answer_due = False
            if response_id not in self._dropped:
                calls, outputs = self._tools.make()
                events += calls
                self._send_outputs(outputs)
        self._tools.forget_noted()
        if status == "failed":
            details = response.get("status_details")
            error = details.get("error") if isinstance(details, Mapping) else details
            events += self._provider_error(error)
        usage = response.get("usage") or event.get("usage")
        if isinstance(usage, Mapping):
            events.append(self._count(usage))
        if self._want_response:
            self._ask()
        return events

    def _count(self, usage: Mapping[str, Any]) -> base.Usage:
        def number(key: str) -> int:
            value = usage.get(key)
            return value if isinstance(value, int) else 0

        self._usage = base.Usage(
            self._usage.input_audio_ms,
            self._usage.output_audio_ms,
            self._usage.input_tokens + number("input_tokens"),
            self._usage.output_tokens + number("output_tokens"),
        )
        return self._usage

    def _on_error(self, event: Mapping[str, Any]) -> list[base.BackendEvent]:
        return self._provider_error(event.get("error"))

    def _provider_error(self, error: object) -> list[base.BackendEvent]:
        if isinstance(error, Mapping):
            code = str(error.get("code") or error.get("type") or "")
            message = str(error.get("message") or "")
        else:
            code, message = "", str(error or "")
        if code in ENDING_CODES:
            return []  # the connection closes next, and another takes its place
        if code == "conversation_already_has_active_response":
            # It answers with something else first; then it is asked again. But if the provider
            # saw the turn end as the commit did, that something is the answer.
            self._create_sent = False
            self._want_response = not self._asked_for_commit
            self._asked_for_commit = False
            return []
        if code == "input_audio_buffer_commit_empty":
            self._commit_sent = False
        tried = isinstance(error, Mapping) and str(error.get("event_id")).startswith(_TRY)
        if tried or code in _HARMLESS or "already shorter" in message or "runcat" in message:
            logger.debug("The provider says: %s", message)
            return []
        self._create_sent = False
        if not self.ready:
            self.ready = self.alive = True  # it lives, with settings of its own
        problem, final = self._explain(code, message)
        return [base.Failed(problem.code, problem.message, final)]


def _string(event: Mapping[str, Any], key: str) -> str:
    value = event[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is no string")
    return value
