"""Barge-in: what the provider is told was heard is what was heard."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.fakes.faults import Faults
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply
from tests.fakes.xai import FakeXai, XaiDialect
from tests.providers.test_turns import FAKES, KEYS, ask, both, settings
from tests.support.client import VoiceClient
from tests.support.listener import RATE, Listener
from tests.support.speech import best_match, silence, speech_like
from tests.support.voice import voice_host

TEXT = "one two three four five six seven eight nine ten"
TOLERANCE_MS = {True: 50, False: 150}


async def _barge_in(client: Listener, after_seconds: float) -> None:
    await client.until(lambda c: c.ready.is_set())
    await ask(client)
    await client.until(lambda c: c.arrivals)
    while client.position() < after_seconds * RATE:
        await asyncio.sleep(0.01)
    await client.speak(speech_like(16_000, 1.0, seed=2))
    await client.until(lambda c: c.heard_at_clear)


@both
@pytest.mark.parametrize("v1", [True, False], ids=["v1", "stock"])
@pytest.mark.parametrize("speed", [10, 1], ids=["generated long ago", "still generating"])
def test_the_provider_is_told_what_was_heard(backend: str, v1: bool, speed: float) -> None:
    """The truncation is where the listener fell silent, give or take 50 ms (stock: 150).

    And what the machine had both of them wait: provider, plugin and listener run in one loop.
    """

    async def scenario() -> tuple[float, float, float, list[dict[str, Any]]]:
        async with (
            FAKES[backend](replies=[Reply(text=TEXT, seconds=10.0)], speed=speed) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            Listener(host.ws_url, v1=v1, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await _barge_in(client, 2.0)
            await fake.until(lambda: fake.of("conversation.item.truncate"))
            assert not fake.problems
            told = fake.of("conversation.item.truncate")[0]["audio_end_ms"]
            if v1:
                await client.until(
                    lambda c: any(
                        t["role"] == "assistant" and t["final"] for t in c.of("transcript")
                    )
                )
            heard = client.heard_at_clear[0] * 1000 / RATE
            return told, heard, client.stolen * 1000, client.of("transcript")

    told, heard, stolen, transcripts = asyncio.run(scenario())
    assert abs(told - heard) <= TOLERANCE_MS[v1] + stolen
    if v1:
        text = [t["text"] for t in transcripts if t["role"] == "assistant"][-1]
        assert TEXT.startswith(text)
        assert len(text) <= len(TEXT) * (heard + 500 + stolen) / 10_000


@both
def test_nothing_heard_is_deleted(backend: str) -> None:
    """A reply that was stopped before its first sample never happened."""

    async def scenario() -> None:
        async with (
            FAKES[backend](replies=[Reply(seconds=10.0)]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await client.say("played", samples=0)
            await ask(client)
            await client.until(lambda c: len(c.audio) > 0)
            await client.say("interrupt")
            await client.until(lambda c: c.of("clear"))
            await client.say("played", samples=0)
            await client.say("played", samples=client.of("clear")[0]["at_sample"])
            await fake.until(lambda: fake.of("conversation.item.delete"))
            assert fake.of("conversation.item.truncate") == []

    asyncio.run(scenario())


@both
def test_everything_heard_is_left_alone(backend: str) -> None:
    """Speaking after a reply has been heard to its end changes nothing of it."""

    async def scenario() -> None:
        async with (
            FAKES[backend](replies=[Reply(seconds=1.0)] * 2) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            Listener(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len(c.audio) == 48_000)
            await client.until(lambda c: c.of("state")[-1]["state"] == "listening")
            await ask(client)
            await client.until(lambda c: len(c.audio) == 2 * 48_000)
            assert client.of("clear") == []
            assert fake.of("conversation.item.truncate") == []
            assert fake.of("conversation.item.delete") == []

    asyncio.run(scenario())


@pytest.mark.parametrize("v1", [True, False], ids=["v1", "stock"])
def test_nothing_stale_is_played(v1: bool) -> None:
    """Late audio of a cancelled reply is dropped, and the next reply is heard whole."""

    async def scenario() -> None:
        replies = [Reply(seconds=10.0), Reply(seconds=2.0, audio=speech_like(24_000, 2.0, seed=9))]
        async with (
            FakeOpenAI(replies=replies, speed=1, faults=Faults(late_deltas=3)) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            Listener(host.ws_url, v1=v1, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await _barge_in(client, 1.0)
            fake.speed = 10.0
            first = len(client.audio)
            await client.speak(silence(16_000, 1.0), speed=5)
            await client.until(lambda c: len(c.audio) >= first + 2 * 48_000)
            await asyncio.sleep(0.3)
            after = np.frombuffer(client.audio[first:], dtype="<i2")
            correlation, at = best_match(speech_like(24_000, 2.0, seed=9), after)
            assert (correlation, at, after.size) == (pytest.approx(1.0, abs=1e-6), 0, 48_000)
            if v1:
                # The next reply begins where the flush left off.
                assert client.of("reply")[1]["from_sample"] == client.of("clear")[0]["at_sample"]

    asyncio.run(scenario())


def test_xai_without_truncate() -> None:
    """A provider that cannot truncate says so; the user does not notice."""
    replies = [Reply(seconds=10.0), Reply(seconds=1.0)]

    async def scenario() -> None:
        async with (
            FakeXai(XaiDialect(truncate=False), replies=replies) as fake,
            voice_host(KEYS, **settings("xai", fake)) as host,
            Listener(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await _barge_in(client, 1.0)
            await client.speak(silence(16_000, 1.0), speed=5)
            await client.until(lambda c: len(c.of("reply")) == 2)
            assert client.of("error") == []

    asyncio.run(scenario())
