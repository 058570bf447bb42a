"""The whole path once: a stock client and ours speak, and hear themselves."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.support.client import VoiceClient
from tests.support.server import GptmeServer
from tests.support.speech import best_match, resampled, silence, speech_like


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_echo(server: GptmeServer, v1: bool) -> None:
    """What goes in comes back whole, at 24 kHz."""
    spoken = speech_like(16_000, 2.0)

    async def talk() -> bytes:
        async with VoiceClient(server.ws_url, server.auth, v1=v1) as client:
            await client.until(lambda c: c.ready.is_set())
            rate = client.of("ready")[0]["input_sample_rate"]
            await client.speak(resampled(spoken, 16_000, rate), rate, speed=4)
            await client.speak(silence(rate, 1.0), rate, speed=4)
            await client.until(lambda c: len(c.audio) >= 2.45 * 24_000 * 2)
            return client.audio

    heard = np.frombuffer(asyncio.run(talk()), dtype="<i2")
    correlation, _ = best_match(resampled(spoken, 16_000, 24_000), heard)
    assert correlation > 0.99
