"""Whole spoken turns with the providers: what is said, what is heard, what is written down."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import FunctionCall, Reply, UserText
from tests.fakes.xai import FakeXai
from tests.support.client import VoiceClient
from tests.support.speech import best_match, resampled, silence, speech_like
from tests.support.voice import voice_host

KEYS = {"OPENAI_API_KEY": "test", "XAI_API_KEY": "test"}
FAKES: dict[str, Any] = {"openai": FakeOpenAI, "xai": FakeXai}
both = pytest.mark.parametrize("backend", ["openai", "xai"])


def settings(backend: str, fake: Any, **more: Any) -> dict[str, Any]:
    """Return the settings that lead to `fake`."""
    return {"backend": backend, f"{backend}_base_url": fake.url, **more}


async def ask(client: VoiceClient, seconds: float = 1.5, rate: int = 16_000) -> None:
    """Say something and wait, faster than real time: providers count samples, not seconds."""
    await client.speak(speech_like(rate, seconds), rate, speed=5)
    await client.speak(silence(rate, 1.0), rate, speed=5)


@both
@pytest.mark.parametrize("v1", [True, False], ids=["v1", "stock"])
def test_a_turn(backend: str, v1: bool) -> None:
    """The question arrives as it was spoken, the answer as it was made, both are captioned."""

    async def scenario() -> None:
        async with (
            FAKES[backend](replies=[Reply(text="It rains.", seconds=3.0)]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, v1=v1, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len(c.audio) >= 3.0 * 48_000)
            heard = np.frombuffer(client.audio, dtype="<i2")
            assert heard.size == 3 * 24_000
            correlation, at = best_match(Reply(seconds=3.0).samples(24_000), heard)
            assert (correlation, at) == (pytest.approx(1.0, abs=1e-6), 0)

            session = fake.sessions[0]
            question = session.heard
            rate = 24_000 if backend == "openai" else 16_000
            correlation, _ = (
                best_match(speech_like(16_000, 1.5), question)
                if rate == 16_000
                else (best_match(resampled(speech_like(16_000, 1.5), 16_000, 24_000), question))
            )
            assert correlation > 0.999
            assert fake.problems == []
            if v1:
                await client.until(
                    lambda c: len([t for t in c.of("transcript") if t["final"]]) == 2
                )
                finals = {t["role"]: t["text"] for t in client.of("transcript") if t["final"]}
                assert finals == {"user": UserText().text, "assistant": "It rains."}

    asyncio.run(scenario())


def test_xai_gets_the_very_samples() -> None:
    """16 kHz in, 16 kHz to xAI: nothing is resampled on the way."""

    async def scenario() -> None:
        async with (
            FakeXai() as fake,
            voice_host(KEYS, **settings("xai", fake)) as host,
            VoiceClient(host.ws_url, v1=False) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            spoken = speech_like(16_000, 1.0)
            await client.speak(spoken, frame=42, speed=20)
            await client.speak(silence(16_000, 1.0), speed=20)
            await client.until(lambda c: len(c.audio) > 0)
            assert np.array_equal(fake.sessions[0].heard[: spoken.size], spoken)

    asyncio.run(scenario())


def test_openai_gets_no_images() -> None:
    """16 kHz speech reaches OpenAI at 24 kHz with nothing above 8 kHz that was not said."""

    async def scenario() -> Any:
        async with (
            FakeOpenAI() as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client, 2.0)
            await client.until(lambda c: len(c.audio) > 0)
            return fake.sessions[0].heard[12_000:36_000]

    spectrum = np.abs(np.fft.rfft(asyncio.run(scenario()) * np.hanning(24_000))) ** 2
    images = spectrum[8_400:].sum() / spectrum[100:7_600].sum()
    assert 10 * np.log10(images) < -70


@both
def test_first_words_are_kept(backend: str) -> None:
    """Words spoken while the provider is still connecting are heard, in order."""

    async def scenario() -> None:
        from tests.fakes.faults import Faults

        spoken_to = asyncio.Event()
        async with (
            FAKES[backend](faults=Faults(handshake_after=spoken_to)) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, v1=False) as client,
        ):
            spoken = speech_like(16_000, 1.0)
            await client.speak(spoken, speed=4)
            assert not client.ready.is_set()
            spoken_to.set()
            await client.until(lambda c: c.ready.is_set())
            await client.speak(silence(16_000, 1.0), speed=4)
            await client.until(lambda c: len(c.audio) > 0)
            session = fake.sessions[0]
            rate = 24_000 if backend == "openai" else 16_000
            correlation, _ = best_match(resampled(spoken, 16_000, rate), session.heard)
            assert correlation > 0.999

    asyncio.run(scenario())


@both
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_captions_keep_their_place(backend: str, when: str) -> None:
    """Whenever the user's transcript comes, its item was announced before the reply's."""

    async def scenario() -> list[tuple[str, str]]:
        async with (
            FAKES[backend](user_texts=UserText("What is the time?", when=when)) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len([t for t in c.of("transcript") if t["final"]]) == 2)
            order = list(dict.fromkeys((t["role"], t["item_id"]) for t in client.of("transcript")))
            return order

    order = asyncio.run(scenario())
    assert [role for role, _ in order] == ["user", "assistant"]


@both
def test_commit_and_typed_text(backend: str) -> None:
    """A turn can be ended by hand, and be typed; both are answered."""

    async def scenario() -> None:
        async with (
            FAKES[backend]() as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await client.speak(speech_like(16_000, 1.0), speed=5)
            await client.say("commit")
            await client.until(lambda c: len(c.of("reply")) == 1)
            await client.until(lambda c: len(c.audio) == 2 * 48_000)
            await client.say("played", samples=48_000)
            await client.say("text", text="And tomorrow?")
            await client.until(lambda c: len(c.audio) == 4 * 48_000)
            assert len(client.of("reply")) == 2
            assert client.of("error") == []

    asyncio.run(scenario())


def test_function_calls_without_tools_do_no_harm() -> None:
    """A model that calls a tool it was never given is not answered, and the session goes on."""

    async def scenario() -> None:
        replies = [Reply(text=None, calls=(FunctionCall("rm", '{"path": "/'),)), Reply(seconds=1.0)]
        async with (
            FakeOpenAI(replies=replies) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello={"input_sample_rates": [16_000]}) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len(c.audio) == 48_000)
            assert client.ws.close_code is None

    asyncio.run(scenario())
