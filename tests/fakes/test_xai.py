"""The xAI fake: where it differs from OpenAI, over a plain WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.support.speech import resampled, speech_like

from .peer import a_turn, asynchronous, bare
from .script import FunctionCall, Reply, UserText, echo
from .xai import FakeXai, XaiDialect

FAST = 1000.0
TRANSCRIPT = "conversation.item.input_audio_transcription"


def session(input_rate: int = 24_000, output_rate: int = 24_000, **fields: Any) -> dict[str, Any]:
    """A configuration as a client of xAI sends it."""
    return {
        "instructions": "Be brief.",
        "voice": "Ara",
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": input_rate},
                "transcription": {"model": "grok-transcribe"},
            },
            "output": {"format": {"type": "audio/pcm", "rate": output_rate}},
        },
        **fields,
    }


def binary() -> dict[str, Any]:
    """The same with binary transport both ways, at 16 kHz."""
    config = session(16_000, 16_000)
    for half in config["audio"].values():
        half["transport"] = "binary"
    return config


@asynchronous
async def test_a_spoken_turn() -> None:
    texts = UserText("one two three", when="before")
    async with FakeXai(user_texts=texts, speed=FAST) as fake, bare(fake) as peer:
        await peer.send("session.update", session=session())
        shown = (await peer.until("session.updated"))["session"]
        assert shown["voice"] == "Ara" and shown["turn_detection"]["threshold"] == 0.85
        await peer.say(a_turn())
        done = await peer.until("response.done")
        await asyncio.sleep(0.05)
        assert fake.problems == [] and fake.sessions[0].ignored == []
    types = peer.types()
    assert types[:2] == ["session.created", "conversation.created"]
    assert types[-1] == "response.done"
    assert not {"conversation.item.done", "rate_limits.updated"} & set(types)
    told = [e["transcript"] for e in peer.of(f"{TRANSCRIPT}.updated")]
    assert told == ["one", "one two", "one two three"]
    assert peer.of(f"{TRANSCRIPT}.completed")[0]["transcript"] == "one two three"
    assert "transcript" not in peer.of("response.output_audio_transcript.done")[0]
    assert "audio_start_ms" not in peer.of("input_audio_buffer.speech_started")[0]
    assert done["response"]["usage"] is None and done["usage"]["total_tokens"] > 0
    assert np.array_equal(peer.samples, speech_like(24_000, 2.0))


@pytest.mark.parametrize(
    "greeting",
    [
        ("conversation.created",),
        ("session.created", "conversation.created"),
        ("conversation.created", "session.created"),
    ],
)
@asynchronous
async def test_greetings_and_what_comes_without_configuration(greeting: tuple[str, ...]) -> None:
    async with FakeXai(XaiDialect(greeting), speed=FAST) as fake, bare(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.done")
        assert tuple(peer.types()[: len(greeting)]) == greeting
        # The final transcript needs no configuration; partial ones do.
        assert peer.of(f"{TRANSCRIPT}.completed") and not peer.of(f"{TRANSCRIPT}.updated")


@pytest.mark.parametrize("rates", [(16_000, 24_000), (48_000, 8_000), (8_000, 44_100)])
@asynchronous
async def test_any_rate_each_way(rates: tuple[int, int]) -> None:
    said = a_turn(rates[0])
    async with FakeXai(replies=echo, speed=FAST) as fake, bare(fake) as peer:
        await peer.send("session.update", session=session(*rates))
        await peer.until("session.updated")
        await peer.say(said, rates[0])
        await peer.until("response.done")
        user, assistant = fake.sessions[0].items
        assert np.array_equal(fake.sessions[0].heard, said)
        assert user.rate == rates[0] and assistant.rate == rates[1]
        assert user.audio_ms == pytest.approx(1400, abs=60)
        assert assistant.audio_ms == pytest.approx(user.audio_ms, abs=1)
        heard = np.frombuffer(user.audio, np.int16)
        assert np.array_equal(peer.samples, resampled(heard, *rates))


@asynchronous
async def test_the_clock_goes_on_when_the_rate_changes() -> None:
    dialect = XaiDialect(bare_events=False)
    async with FakeXai(dialect, speed=FAST) as fake, bare(fake) as peer:
        await peer.say(np.zeros(24_000, np.int16))
        await peer.send("session.update", session=session(16_000))
        await peer.until("session.updated")
        await peer.say(a_turn(16_000), 16_000)
        await peer.until("response.done")
        start = peer.of("input_audio_buffer.speech_started")[0]["audio_start_ms"]
        assert start == pytest.approx(1000, abs=40)


@asynchronous
async def test_binary_transport_both_ways() -> None:
    said = a_turn(16_000)
    async with FakeXai(replies=echo, speed=FAST) as fake, bare(fake) as peer:
        await peer.ws.send(b"\0\0")
        await peer.until("error")
        await peer.send("session.update", session=binary())
        await peer.until("session.updated")
        for at in range(0, said.size, 320):
            await peer.ws.send(said[at : at + 320].tobytes())
        await peer.until("response.done")
        assert peer.of("(binary)") and not peer.of("response.output_audio.delta")
        assert peer.audio == fake.sessions[0].items[0].audio
        assert np.array_equal(fake.sessions[0].heard, said)
        await peer.say(said, 16_000)  # once set, both are taken
        await peer.until("response.done", 2)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"turn_detection": {"type": "semantic_vad"}}, "turn_detection.type"),
        ({"turn_detection": {"type": "server_vad", "threshold": 1.0}}, "turn_detection.threshold"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"audio": {"input": {"transport": "carrier pigeon"}}}, "audio.input.transport"),
        ({"audio": {"output": {"speed": 2}}}, "audio.output.speed"),
        (
            {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 12_345}}}},
            "audio.input.format.rate",
        ),
        ({"voice": {"id": "x"}}, "voice"),
        (
            {"audio": {"input": {"transcription": {"keyterms": ["x" * 51]}}}},
            "audio.input.transcription.keyterms",
        ),
    ],
)
@asynchronous
async def test_invalid_configuration_keeps_the_former(fields: dict[str, Any], param: str) -> None:
    async with FakeXai() as fake, bare(fake) as peer:
        await peer.send("session.update", event_id="c1", session={**fields, "instructions": "no"})
        error = (await peer.until("error"))["error"]
        assert error["param"] == f"session.{param}" and error["event_id"] == "c1"
        await peer.send("session.update", session={"voice": "rex"})
        shown = (await peer.until("session.updated"))["session"]
        assert shown["instructions"] == "" and shown["voice"] == "rex"


@asynchronous
async def test_keys_of_openai_have_no_effect() -> None:
    nested = {
        "type": "realtime",
        "modalities": ["audio"],
        "audio": {"input": {"turn_detection": None}, "output": {"voice": "marin"}},
    }
    async with FakeXai() as fake, bare(fake) as peer:
        await peer.send("session.update", session=nested)
        shown = (await peer.until("session.updated"))["session"]
        assert shown["voice"] == "eve" and shown["turn_detection"]["type"] == "server_vad"
        assert fake.problems == []
        assert fake.sessions[0].ignored == [
            "modalities",
            "audio.input.turn_detection",
            "audio.output.voice",
        ]


@asynchronous
async def test_manual_turns() -> None:
    async with FakeXai(speed=FAST) as fake, bare(fake) as peer:
        await peer.send("session.update", session={"turn_detection": None})
        await peer.say(a_turn())
        await peer.send("input_audio_buffer.commit")
        await peer.send("response.create")
        await peer.until("response.done")
        assert not peer.of("input_audio_buffer.speech_started") and fake.problems == []


@asynchronous
async def test_pings_and_text_deltas_under_both_names() -> None:
    dialect = XaiDialect(ping_seconds=0.02)
    async with FakeXai(dialect, speed=FAST) as fake, bare(fake) as peer:
        await peer.until("ping", 2)
        assert peer.of("ping")[0]["timestamp"] > 1e12
        await peer.send("response.create", response={"output_modalities": ["text"]})
        await peer.until("response.done")
        texts = [e["delta"] for e in peer.of("response.output_text.delta")]
        assert texts and texts == [e["delta"] for e in peer.of("response.text.delta")]


@asynchronous
async def test_barge_in_and_truncation() -> None:
    for truncates in (True, False):
        dialect = XaiDialect(truncate=truncates)
        async with FakeXai(dialect, speed=1.0, reply_seconds=10) as fake, bare(fake) as peer:
            await peer.say(a_turn())
            await peer.until("response.output_audio.delta", 2)
            await peer.say(speech_like(24_000, 0.3))
            response = (await peer.until("response.done"))["response"]
            assert response["status_details"]["reason"] == "turn_detected"
            await peer.send("response.cancel")
            assert (await peer.until("error"))["error"]["code"] == "response_cancel_not_active"
            item_id = response["output"][0]["id"]
            await peer.send(
                "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=50
            )
            if truncates:
                await peer.until("conversation.item.truncated")
            else:
                await peer.until("error", 2)
            assert (fake.sessions[0].item(item_id).truncated_ms == 50) is truncates
            await peer.send("conversation.item.retrieve", item_id=item_id)
            await peer.until("error", 2 if truncates else 3)


@asynchronous
async def test_calls_come_bare_and_before_any_audio() -> None:
    calls = (FunctionCall("a", "{}", "call_a"), FunctionCall("b", "{}", "call_b"))
    replies = [Reply(calls=calls, calls_first=True)]
    async with FakeXai(replies=replies, speed=FAST) as fake, bare(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.done")
        done = "response.function_call_arguments.done"
        assert [e["call_id"] for e in peer.of(done)] == ["call_a", "call_b"]
        assert all(not {"item_id", "response_id"} & e.keys() for e in peer.of(done))
        assert peer.types().index(done) < peer.types().index("response.output_audio.delta")
        assert fake.sessions[0].conversation.unanswered_calls == ["call_a", "call_b"]


@asynchronous
async def test_resumption() -> None:
    async with FakeXai(speed=FAST) as fake:
        ids = []
        for resumption in (True, False):
            async with bare(fake) as peer:
                await peer.send("session.update", session={"resumption": {"enabled": resumption}})
                await peer.say(a_turn())
                await peer.until("response.done")
                ids.append(peer.of("conversation.created")[0]["conversation"]["id"])
        for id, resumed in ((ids[0], True), (ids[1], False), ("conv_none", False)):
            async with bare(fake, f"?model=fake&conversation_id={id}") as peer:
                now = (await peer.until("conversation.created"))["conversation"]["id"]
                assert (now == id) is resumed
                await peer.send("session.update", session={"resumption": {"enabled": True}})
                await peer.until("session.updated")
                items = [e["item"] for e in peer.of("conversation.item.created")]
                roles = ["user", "assistant"] if resumed else []
                assert [i["role"] for i in items] == roles
                assert fake.sessions[-1].resumed is resumed


@asynchronous
async def test_forced_messages_are_spoken_in_order() -> None:
    def forced(text: str, **fields: Any) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text}]
        return {"type": "force_message", "role": "assistant", "content": content, **fields}

    async with FakeXai(speed=3.0) as fake, bare(fake) as peer:
        create = "conversation.item.create"
        await peer.send(create, item=forced("Hello, I am listening now.", interruptible=False))
        await peer.send(create, item=forced("And a second one."))
        await peer.until("response.output_audio.delta")
        await peer.say(speech_like(24_000, 0.3))  # dropped: it cannot be interrupted
        await peer.until("response.done", 2)
        assert [i.transcript for i in fake.sessions[0].items] == [
            "Hello, I am listening now.",
            "And a second one.",
        ]
        assert fake.sessions[0].audio_ms == 0 and fake.problems == []
        assert not peer.of("input_audio_buffer.speech_started")
        await peer.send(create, item=forced("x", role="user"))
        await peer.until("error")
