"""What the OpenAI fake refuses, and how."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.speech import speech_like

from .openai_realtime import FakeOpenAI
from .peer import Peer, a_turn, asynchronous, bare, official
from .script import Reply
from .session_configs import MANUAL, vad

FAST = 1000.0


async def refused(peer: Peer, type: str, **fields: Any) -> dict[str, Any]:
    """Send an event that must be refused; return the error."""
    count = len(peer.of("error")) + 1
    await peer.send(type, event_id=f"c{count}", **fields)
    error: dict[str, Any] = (await peer.until("error", count))["error"]
    assert error["event_id"] == f"c{count}"
    return error


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"instructions": "x"}, "missing_required_parameter", "session.type"),
        ({"voice": "alloy"}, "missing_required_parameter", "session.type"),
        ({"type": "realtime", "voice": "alloy"}, "unknown_parameter", "session.voice"),
        ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
        ({"type": "realtime", "modalities": ["audio"]}, "unknown_parameter", "session.modalities"),
        (
            {"type": "realtime", "audio": {"input": {"rate": 1}}},
            "unknown_parameter",
            "session.audio.input.rate",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "pcm16"}}}},
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            {"type": "realtime", "audio": {"output": {"voice": "nobody"}}},
            "invalid_value",
            "session.audio.output.voice",
        ),
        (
            {"type": "realtime", "audio": {"output": {"speed": 3}}},
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "output_modalities": ["audio", "text"]},
            "invalid_value",
            "session.output_modalities",
        ),
        (
            {"type": "realtime", "instructions": 5},
            "invalid_type",
            "session.instructions",
        ),
        (
            vad(eagerness="low"),
            "unknown_parameter",
            "session.audio.input.turn_detection.eagerness",
        ),
        (vad(threshold=2), "invalid_value", "session.audio.input.turn_detection.threshold"),
        (
            {"type": "realtime", "tools": [{"type": "function"}]},
            "missing_required_parameter",
            "session.tools[0].name",
        ),
        (
            {"type": "realtime", "model": "gpt-realtime"},
            "invalid_value",
            "session.model",
        ),
        ({"type": "transcription"}, "invalid_value", "session.type"),
    ],
)
@asynchronous
async def test_a_wrong_session_update_is_dropped(
    session: dict[str, Any], code: str, param: str
) -> None:
    async with FakeOpenAI() as fake, bare(fake) as peer:
        before = (await peer.until("session.created"))["session"]
        error = await refused(peer, "session.update", session=session)
        assert (error["code"], error["param"]) == (code, param)
        await peer.send("session.update", session={"type": "realtime"})
        assert (await peer.until("session.updated"))["session"] == before


@asynchronous
async def test_reasoning_only_with_models_that_reason() -> None:
    update = {"type": "realtime", "reasoning": {"effort": "low"}}
    async with FakeOpenAI() as fake:
        async with official(fake, "gpt-realtime-2025-08-28") as peer:
            error = await refused(peer, "session.update", session=update)
            assert error["param"] == "session.reasoning"
        async with official(fake, "gpt-realtime-2.1-mini") as peer:
            await peer.send("session.update", session=update)
            await peer.until("session.updated")


@asynchronous
async def test_the_voice_is_fixed_once_it_was_heard() -> None:
    async with FakeOpenAI(speed=FAST) as fake, official(fake) as peer:
        other = {"type": "realtime", "audio": {"output": {"voice": "cedar"}}}
        await peer.send("session.update", session=other)
        await peer.until("session.updated")
        await peer.send("response.create")
        await peer.until("response.done")
        await peer.send("session.update", session=other)
        await peer.until("session.updated", 2)
        another = {"type": "realtime", "audio": {"output": {"voice": "marin"}}}
        error = await refused(peer, "session.update", session=another)
        assert error["code"] == "cannot_update_voice"


@asynchronous
async def test_events_that_make_no_sense_are_refused_and_the_session_lives() -> None:
    async with FakeOpenAI() as fake, bare(fake) as peer:
        for type, fields, code, param in (
            ("input_audio_buffer.apend", {}, "invalid_value", "type"),
            ("output_audio_buffer.clear", {}, "invalid_value", None),
            ("input_audio_buffer.append", {}, "missing_required_parameter", "audio"),
            ("input_audio_buffer.append", {"audio": "AAA"}, "invalid_value", "audio"),
            ("input_audio_buffer.append", {"audio": "AA=="}, "invalid_value", "audio"),
            ("input_audio_buffer.append", {"audio": "", "x": 1}, "unknown_parameter", "x"),
            ("response.cancel", {}, "response_cancel_not_active", None),
            ("input_audio_buffer.commit", {}, "input_audio_buffer_commit_empty", None),
            (
                "response.create",
                {"response": {"modalities": ["text"]}},
                "unknown_parameter",
                "response.modalities",
            ),
        ):
            error = await refused(peer, type, **fields)
            assert (error["code"], error["param"]) == (code, param)
        await peer.ws.send("{")
        assert (await peer.until("error", 10))["error"]["code"] == "invalid_json"
        await peer.ws.send(b"\0\0")
        await peer.until("error", 11)
        await peer.send("session.update", session=MANUAL)
        await peer.say(speech_like(24_000, 0.09))
        error = await refused(peer, "input_audio_buffer.commit")
        assert "only has 90.00ms" in error["message"]
        await peer.say(speech_like(24_000, 0.01))
        await peer.send("input_audio_buffer.commit")
        await peer.until("input_audio_buffer.committed")
        assert len(fake.problems) == 12
        assert fake.of("input_audio_buffer.commit")[0]["event_id"] == "c8"


@asynchronous
async def test_one_response_at_a_time() -> None:
    async with FakeOpenAI(speed=1.0) as fake, official(fake) as peer:
        await peer.send("response.create")
        active = (await peer.until("response.created"))["response"]["id"]
        error = await refused(peer, "response.create")
        assert error["code"] == "conversation_already_has_active_response"
        assert active in error["message"]
        error = await refused(peer, "response.cancel", response_id="resp_other")
        assert error["code"] == "response_cancel_not_active"
        await peer.send("response.cancel", response_id=active)
        assert (await peer.until("response.done"))["response"]["status"] == "cancelled"
        # It may have ended on its own while a cancel was on the way; a second one is a mistake.
        before = len(fake.problems)
        error = await refused(peer, "response.cancel", response_id=active)
        assert error["code"] == "response_cancel_not_active"
        assert fake.sessions[0].late_cancels == [active] and len(fake.problems) == before
        await refused(peer, "response.cancel", response_id=active)
        assert len(fake.problems) == before + 1
        await peer.send("response.create")
        await peer.until("response.created", 2)


@asynchronous
async def test_truncate_and_delete_keep_their_rules() -> None:
    replies = [Reply(seconds=1.0), Reply(seconds=0, audio=np.zeros(0, np.int16))]
    async with FakeOpenAI(replies=replies, speed=FAST) as fake, official(fake) as peer:
        await peer.say(a_turn())
        item_id = (await peer.until("response.done"))["response"]["output"][0]["id"]
        user_id = fake.sessions[0].items[0].id
        await peer.send("response.create")
        silent_id = (await peer.until("response.done", 2))["response"]["output"][0]["id"]
        truncate = "conversation.item.truncate"
        for item, index, ms, code, words in (
            ("item_none", 0, 0, "item_truncate_invalid_item_id", "does not exist"),
            (user_id, 0, 0, "unsupported_content_type", "Only model output audio messages"),
            (silent_id, 0, 0, "unsupported_content_type", "Only model output audio messages"),
            (item_id, 1, 0, "invalid_value", "content_index"),
            (item_id, 0, -1, "integer_below_min_value", "below minimum"),
            (item_id, 0, 1001, "invalid_value", "of 1000ms is already shorter than 1001ms"),
        ):
            error = await refused(
                peer, truncate, item_id=item, content_index=index, audio_end_ms=ms
            )
            assert error["code"] == code
            assert words in error["message"] or words == error["param"]
        error = await refused(peer, truncate, item_id=item_id, content_index=0, audio_end_ms=0.5)
        assert error["code"] == "invalid_type"
        assert fake.sessions[0].item(item_id).transcript
        for ms in (1000, 500):
            await peer.send(truncate, item_id=item_id, content_index=0, audio_end_ms=ms)
        await peer.until("conversation.item.truncated", 2)
        assert fake.sessions[0].item(item_id).audio_ms == 500

        await peer.send("conversation.item.retrieve", item_id=item_id)
        part = (await peer.until("conversation.item.retrieved"))["item"]["content"][0]
        assert len(base64.b64decode(part["audio"])) == 24_000 and part["transcript"] == ""
        await peer.send("conversation.item.delete", item_id=item_id)
        await peer.until("conversation.item.deleted")
        assert [i.id for i in fake.sessions[0].items] == [user_id, silent_id]
        error = await refused(peer, "conversation.item.delete", item_id=item_id)
        assert error["code"] == "item_delete_invalid_item_id"


@asynchronous
async def test_items_are_put_where_they_belong() -> None:
    def text(id: str, role: str = "user", kind: str = "input_text") -> dict[str, Any]:
        content = [{"type": kind, "text": id}]
        return {"type": "message", "id": id, "role": role, "content": content}

    create = "conversation.item.create"
    async with FakeOpenAI() as fake, official(fake) as peer:
        await peer.send(create, item=text("b"))
        await peer.send(create, item=text("a"), previous_item_id="root")
        await peer.send(create, item=text("aa"), previous_item_id="a")
        assert [
            (await peer.until("conversation.item.added", n))["previous_item_id"] for n in (1, 2, 3)
        ] == [None, None, "a"]
        assert [i.id for i in fake.sessions[0].items] == ["a", "aa", "b"]
        output = {"type": "function_call_output", "call_id": "call_x", "output": ""}
        long = text("x" * 33)
        audio = {**text("c", "assistant"), "content": [{"type": "output_audio", "audio": "AAA="}]}
        for item, extra, code in (
            (text("c"), {"previous_item_id": "none"}, "item_create_invalid_previous_item_id"),
            (text("a"), {}, "item_create_duplicate_item_id"),
            (output, {}, "invalid_tool_call_id"),
            (long, {}, "string_above_max_length"),
            (text("c", "assistant", "input_text"), {}, "invalid_value"),
            (text("c", "user", "text"), {}, "invalid_value"),
            (audio, {}, "invalid_value"),
            (text("c", "nobody"), {}, "invalid_value"),
        ):
            assert (await refused(peer, create, item=item, **extra))["code"] == code
        assert len(fake.sessions[0].items) == 3


@pytest.mark.parametrize(
    ("options", "path", "query", "key", "status", "code"),
    [
        ({}, "/realtime", "?model=fake", "wrong-key-that-is-long", 401, "invalid_api_key"),
        ({}, "/realtime", "?model=fake", "", 401, None),
        ({}, "/realtime", "?model=gpt-9", "test", 404, "model_not_found"),
        ({"models": ("mine",)}, "/realtime", "?model=fake", "test", 404, "model_not_found"),
        ({}, "/realtime", "", "test", 400, "missing_model"),
        ({}, "/other", "?model=fake", "test", 404, None),
        ({"key_header": "api-key"}, "/realtime", "?model=fake", "test", 401, None),
    ],
)
@asynchronous
async def test_refused_handshakes(
    options: dict[str, Any], path: str, query: str, key: str, status: int, code: str | None
) -> None:
    async with FakeOpenAI(**options) as fake:
        with pytest.raises(InvalidStatus) as refusal:
            async with bare(fake, query, key, path):
                pass
        assert refusal.value.response.status_code == status
        error = json.loads(refusal.value.response.body)["error"]
        assert error["code"] == code
        assert not key or key == "test" or key not in error["message"]
        assert fake.attempts[0].status == status and not fake.sessions


@asynchronous
async def test_who_may_connect() -> None:
    async with FakeOpenAI(key_header="api-key") as fake, bare(fake, key="", api_key="test") as peer:
        await peer.until("session.created")
    async with FakeOpenAI(api_key=None, models=("mine",)) as fake:
        async with bare(fake, "?model=mine", key="") as peer:
            await peer.until("session.created")
        assert fake.attempts[0].query == {"model": "mine"} and fake.attempts[0].status == 101


@asynchronous
async def test_the_beta_header_is_refused() -> None:
    async with FakeOpenAI() as fake, bare(fake, OpenAI_Beta="realtime=v1") as peer:
        assert (await peer.until("error"))["error"]["code"] == "beta_api_shape_disabled"
        await peer.until("(close)")
        assert peer.close[0] == 4000 and not peer.of("session.created")
