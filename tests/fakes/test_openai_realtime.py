"""The OpenAI fake is honest: the official client holds whole turns with it."""

from __future__ import annotations

import asyncio
import base64
import time

import numpy as np
import pytest

from tests.support.speech import silence, speech_like

from .openai_realtime import FakeOpenAI
from .peer import a_turn, asynchronous, official
from .script import Reply, UserText
from .session_configs import SESSION, vad

FAST = 1000.0
TRANSCRIPT = "conversation.item.input_audio_transcription"


@asynchronous
async def test_a_spoken_turn_has_the_whole_ladder() -> None:
    says = speech_like(24_000, 3.0, seed=7)
    text = "It is sunny in Lisbon today."
    replies = [Reply(text=text, audio=says)]
    heard = UserText("How is the weather?", when="before")
    async with (
        FakeOpenAI(replies=replies, user_texts=heard, speed=FAST) as fake,
        official(fake) as peer,
    ):
        await peer.until("session.created")
        await peer.send("session.update", session=SESSION)
        session = (await peer.until("session.updated"))["session"]
        await peer.say(a_turn())
        done = await peer.until("response.done")
        await peer.until("rate_limits.updated")
        assert fake.problems == []

    assert session["audio"] == {**SESSION["audio"]}
    assert session["id"].startswith("sess_") and session["model"] == "gpt-realtime-2.1"
    audio = "response.output_audio"
    said = f"{audio}_transcript.delta"
    ladder = [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{TRANSCRIPT}.delta",
        f"{TRANSCRIPT}.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        f"{audio}.delta",
        f"{audio}.done",
        f"{audio}_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    got = [e["type"] for e in peer.events if e["type"] != said]
    assert [t for i, t in enumerate(got) if i == 0 or t != got[i - 1]] == ladder
    assert np.array_equal(peer.samples, says)
    assert "".join(e["delta"] for e in peer.of(said)) == text
    assert peer.of(f"{audio}_transcript.done")[0]["transcript"] == text
    assert peer.of(f"{TRANSCRIPT}.completed")[0]["transcript"] == heard.text
    assert "".join(e["delta"] for e in peer.of(f"{TRANSCRIPT}.delta")) == heard.text

    user, assistant = peer.of("conversation.item.added")
    for event in peer.events[2:9]:
        assert event.get("item_id", user["item"]["id"]) == user["item"]["id"]
    assert user["previous_item_id"] is None
    assert assistant["previous_item_id"] == user["item"]["id"]
    assert assistant["item"]["status"] == "in_progress" and assistant["item"]["content"] == []
    response = done["response"]
    for event in peer.events:
        if event["type"].startswith("response."):
            shown = event.get("response_id") or event["response"]["id"]
            assert shown == response["id"]
            assert event.get("item_id", assistant["item"]["id"]) == assistant["item"]["id"]
            assert event.get("output_index", 0) == event.get("content_index", 0) == 0
    assert len({e["event_id"] for e in peer.events}) == len(peer.events)

    assert response["status"] == "completed" and response["conversation_id"]
    assert response["output"][0]["content"][0]["transcript"] == text
    usage = response["usage"]
    assert usage["output_token_details"]["audio_tokens"] == 3000 / 50
    assert usage["input_token_details"]["audio_tokens"] > 10
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    [session_seen] = fake.sessions
    assert [i.role for i in session_seen.items] == ["user", "assistant"]
    assert session_seen.items[1].audio_ms == 3000 and session_seen.items[1].transcript == text
    assert np.array_equal(session_seen.heard, a_turn())


@asynchronous
async def test_speech_is_placed_by_the_audio_clock() -> None:
    async with FakeOpenAI(speed=FAST) as fake, official(fake) as peer:
        await peer.send(
            "session.update", session=vad(prefix_padding_ms=200, silence_duration_ms=400)
        )
        await peer.until("session.updated")
        await peer.say(silence(24_000, 2.0))
        await peer.say(a_turn(seconds=1.5))
        await peer.until("response.done")
    started, stopped = (
        peer.of(f"input_audio_buffer.speech_{what}")[0] for what in ("started", "stopped")
    )
    assert started["audio_start_ms"] == pytest.approx(1800, abs=40)
    assert stopped["audio_end_ms"] == pytest.approx(3900, abs=40)
    stored = fake.sessions[0].item(started["item_id"])
    assert stored.audio_ms == stopped["audio_end_ms"] - started["audio_start_ms"]


@asynchronous
async def test_bursts_are_ten_times_real_time_and_paced_is_real_time() -> None:
    for speed, seconds, length in ((10.0, 2.0, 20.0), (1.0, 0.5, 0.6)):
        async with FakeOpenAI(speed=speed, reply_seconds=length) as fake, official(fake) as peer:
            start = time.monotonic()
            await peer.say(a_turn())
            await peer.until("response.created")
            created = time.monotonic()
            await peer.until("response.done")
            done = time.monotonic()
            # A busy machine may be later, but never earlier; and a burst comes before it is played.
            assert seconds < done - start
            assert speed == 1.0 or done - created < length
            sizes = {
                len(base64.b64decode(e["delta"])) / 48
                for e in peer.of("response.output_audio.delta")[:-1]
            }
            assert sizes == {100, 150, 200}


@asynchronous
async def test_speech_cancels_a_response_that_is_running() -> None:
    async with FakeOpenAI(speed=1.0, reply_seconds=10) as fake, official(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.output_audio.delta", 3)
        await peer.say(a_turn(seed=2)[:12_000])
        done = (await peer.until("response.done"))["response"]
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert done["output"][0]["status"] == "incomplete"
        item_id = done["output"][0]["id"]
        got_ms = len(peer.audio) / 48
        tail = peer.types()[peer.types().index("input_audio_buffer.speech_started", 5) :]
        assert tail[:7] == [
            "input_audio_buffer.speech_started",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        await peer.send(
            "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=120
        )
        assert (await peer.until("conversation.item.truncated"))["audio_end_ms"] == 120
        item = fake.sessions[0].item(item_id)
        assert item.audio_ms == 120 and item.transcript == "" and item.truncated_ms == 120
        assert got_ms >= 300 and fake.problems == []
        await peer.say(a_turn(seed=2)[12_000:])
        await peer.until("response.created", 2)


@asynchronous
async def test_speech_after_the_response_is_done_cancels_nothing() -> None:
    async with FakeOpenAI(speed=FAST) as fake, official(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.done")
        await peer.until("rate_limits.updated")
        seen = len(peer.events)
        await peer.say(speech_like(24_000, 0.3))
        await peer.until("input_audio_buffer.speech_started", 2)
        await asyncio.sleep(0.05)
        assert [e["type"] for e in peer.events[seen:]] == ["input_audio_buffer.speech_started"]


@asynchronous
async def test_without_interrupt_response_speech_goes_over_the_reply() -> None:
    async with FakeOpenAI(speed=1.0, reply_seconds=4.0) as fake, official(fake) as peer:
        await peer.send("session.update", session=vad(interrupt_response=False))
        await peer.say(a_turn())
        await peer.until("response.created")
        await peer.say(a_turn())
        error = (await peer.until("error"))["error"]
        assert error["code"] == "conversation_already_has_active_response"
        assert (await peer.until("response.done"))["response"]["status"] == "completed"


@pytest.mark.parametrize(
    ("when", "first", "second"),
    [
        ("before", f"{TRANSCRIPT}.completed", "response.created"),
        ("during", "response.output_audio.delta", f"{TRANSCRIPT}.completed"),
        ("during", f"{TRANSCRIPT}.completed", "response.output_audio.done"),
        ("after", "response.done", f"{TRANSCRIPT}.completed"),
    ],
)
@asynchronous
async def test_the_users_transcript_comes_when_it_is_told_to(
    when: str, first: str, second: str
) -> None:
    texts = UserText(when=when)
    async with FakeOpenAI(user_texts=texts, speed=FAST) as fake, official(fake) as peer:
        await peer.send("session.update", session=SESSION)
        await peer.say(a_turn())
        await peer.until("response.done")
        await peer.until(f"{TRANSCRIPT}.completed")
        assert peer.types().index(first) < peer.types().index(second)


@asynchronous
async def test_the_users_transcript_can_fail_be_late_or_be_off() -> None:
    texts = [UserText(failed=True), UserText("late", delay_ms=3000)]
    async with FakeOpenAI(user_texts=texts, speed=FAST) as fake, official(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.done")
        await peer.send("session.update", session=SESSION)
        await peer.say(a_turn())
        failed = await peer.until(f"{TRANSCRIPT}.failed")
        assert failed["item_id"] == peer.of("input_audio_buffer.committed")[1]["item_id"]
        await peer.say(a_turn())
        await peer.until("response.done", 3)
        assert not peer.of(f"{TRANSCRIPT}.completed")
        assert (await peer.until(f"{TRANSCRIPT}.completed"))["transcript"] == "late"


@asynchronous
async def test_semantic_vad_and_idle_timeout() -> None:
    semantic = {"type": "semantic_vad", "eagerness": "high"}
    update = {"type": "realtime", "audio": {"input": {"turn_detection": semantic}}}
    async with FakeOpenAI(speed=FAST, reply_seconds=1.0) as fake, official(fake) as peer:
        await peer.send("session.update", session=update)
        shown = (await peer.until("session.updated"))["session"]["audio"]["input"]
        assert shown["turn_detection"] == {
            **semantic,
            "create_response": True,
            "interrupt_response": True,
        }
        await peer.say(a_turn(after=0.4))
        await peer.until("response.done")
        await peer.send("session.update", session=vad(idle_timeout_ms=5000))
        await peer.say(silence(24_000, 5.9))
        assert not peer.of("input_audio_buffer.timeout_triggered")
        await peer.say(silence(24_000, 0.3))
        idle = await peer.until("input_audio_buffer.timeout_triggered")
        assert idle["audio_end_ms"] - idle["audio_start_ms"] == pytest.approx(5000, abs=50)
        await peer.until("response.done", 2)
