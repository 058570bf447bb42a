"""What the OpenAI fake can be told to answer: calls, text, echoes, failures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.speech import speech_like

from .openai_realtime import FakeOpenAI
from .peer import a_turn, asynchronous, official
from .script import FunctionCall, Reply, Turn, echo
from .session_configs import MANUAL, SESSION

FAST = 1000.0


@asynchronous
async def test_a_function_call_turn() -> None:
    replies = [
        Reply(
            text="Let me look.",
            calls=(FunctionCall("weather", '{"city": "Lis'), FunctionCall("time", "{}", "call_t")),
        ),
        lambda turn: Reply(text=f"It is {turn.outputs['call_t']}.", seconds=0.2),
    ]
    async with FakeOpenAI(replies=replies, speed=FAST) as fake, official(fake) as peer:
        await peer.send("session.update", session=SESSION)
        await peer.say(a_turn())
        output = (await peer.until("response.done"))["response"]["output"]
        assert [o["type"] for o in output] == ["message", "function_call", "function_call"]
        dones = peer.of("response.function_call_arguments.done")
        assert [d["output_index"] for d in dones] == [1, 2]
        assert [d["arguments"] for d in dones] == ['{"city": "Lis', "{}"]
        deltas = [
            e["delta"]
            for e in peer.of("response.function_call_arguments.delta")
            if e["call_id"] == dones[0]["call_id"]
        ]
        assert len(deltas) == 2 and "".join(deltas) == '{"city": "Lis'
        session = fake.sessions[0]
        assert session.conversation.unanswered_calls == [d["call_id"] for d in dones]

        first = {"type": "function_call_output", "call_id": dones[0]["call_id"], "output": "?"}
        await peer.send("conversation.item.create", item=first)
        await peer.send("response.create")
        await peer.until("response.done", 2)
        assert session.premature_creates == 1 and session.items[-1].transcript is not None
        assert "waiting" in session.items[-1].transcript

        second = {"type": "function_call_output", "call_id": "call_t", "output": "noon"}
        await peer.send("conversation.item.create", item=second)
        await peer.send("response.create")
        await peer.until("response.done", 3)
        assert session.items[-1].transcript == "It is noon."
        assert session.premature_creates == 1 and fake.problems == []


@asynchronous
async def test_an_interrupted_call_ends_with_partial_arguments() -> None:
    call = FunctionCall("weather", '{"city": "Lisbon, Portugal"}', delay_ms=100)
    replies = [Reply(text=None, calls=(call,))]
    async with FakeOpenAI(replies=replies, speed=FAST) as fake, official(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.function_call_arguments.delta")
        await peer.send("response.cancel")
        done = await peer.until("response.function_call_arguments.done")
        with pytest.raises(ValueError):
            json.loads(done["arguments"])
        response = (await peer.until("response.done"))["response"]
        assert response["status_details"]["reason"] == "client_cancelled"
        assert response["output"][0]["status"] == "incomplete"


@asynchronous
async def test_typed_text_is_answered_on_request_in_text_too() -> None:
    def answer(turn: Turn) -> Reply:
        return Reply(text=f"You wrote {turn.text}", seconds=0.3)

    async with FakeOpenAI(replies=answer, speed=FAST) as fake, official(fake) as peer:
        for role, kind, text in (
            ("system", "input_text", "a note"),
            ("assistant", "output_text", "earlier"),
            ("user", "input_text", "hello"),
        ):
            item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
            await peer.send("conversation.item.create", item=item)
        await peer.until("conversation.item.done", 3)
        assert not peer.of("response.created")
        await peer.send("response.create")
        await peer.until("response.done")
        assert fake.sessions[0].items[-1].transcript == "You wrote hello"
        await peer.send(
            "response.create",
            response={"output_modalities": ["text"], "metadata": {"a": "b"}},
        )
        done = (await peer.until("response.done", 2))["response"]
        assert done["metadata"] == {"a": "b"} and done["output_modalities"] == ["text"]
        assert "".join(e["delta"] for e in peer.of("response.output_text.delta")) == (
            "You wrote hello"
        )
        assert fake.problems == []


@asynchronous
async def test_a_response_out_of_band_leaves_the_conversation_alone() -> None:
    async with FakeOpenAI(speed=1.0, reply_seconds=0.5) as fake, official(fake) as peer:
        await peer.send("response.create")
        await peer.until("response.created")
        await peer.send("response.create", response={"conversation": "none"})
        await peer.until("response.done", 2)
        beside = [
            e["response"] for e in peer.of("response.done") if not e["response"]["conversation_id"]
        ]
        assert len(beside) == 1 and len(peer.of("conversation.item.added")) == 1
        assert len(fake.sessions[0].items) == 1 and not peer.of("error")


@asynchronous
async def test_manual_turns_and_echo() -> None:
    said = speech_like(24_000, 1.0, 5)
    async with FakeOpenAI(replies=echo, speed=FAST) as fake, official(fake) as peer:
        await peer.send("session.update", session=MANUAL)
        await peer.say(speech_like(24_000, 0.5))
        await peer.send("input_audio_buffer.clear")
        await peer.until("input_audio_buffer.cleared")
        await peer.say(said)
        await peer.send("input_audio_buffer.commit")
        await peer.until("conversation.item.done")
        assert not peer.of("input_audio_buffer.speech_started")
        await peer.send("response.create")
        await peer.until("response.done")
        assert np.array_equal(peer.samples, said)
        assert fake.problems == []


@asynchronous
async def test_replies_can_be_incomplete_or_failed() -> None:
    replies = [
        Reply(status="incomplete", reason="max_output_tokens"),
        Reply(status="failed", error={"type": "server_error", "code": "server_error"}),
    ]
    async with FakeOpenAI(replies=replies, speed=FAST) as fake, official(fake) as peer:
        for n, (status, output) in enumerate((("incomplete", 1), ("failed", 0)), 1):
            await peer.send("response.create")
            response = (await peer.until("response.done", n))["response"]
            assert response["status"] == response["status_details"]["type"] == status
            assert len(response["output"]) == output
        assert response["status_details"]["error"]["code"] == "server_error"
