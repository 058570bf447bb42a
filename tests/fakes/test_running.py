"""Running the fakes: in a thread, by hand, with the official client's own types; their ear."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import numpy as np
import pytest
from openai import AsyncOpenAI

from tests.support.speech import speech_like

from .engine import FakeProvider
from .openai_realtime import FakeOpenAI
from .peer import a_turn, official
from .speech_clock import SpeechClock, Started, Stopped, Vad

FAST = 1000.0


def test_in_a_thread_and_again_on_the_same_port() -> None:
    fake: FakeProvider = FakeOpenAI(speed=FAST)

    async def turn() -> None:
        async with official(fake) as peer:
            await peer.say(a_turn())
            await peer.until("response.done")
            fake.send_all({"type": "rate_limits.updated", "rate_limits": []})
            await peer.until("rate_limits.updated", 2)
            fake.close_sessions(1012, "restart")
            await peer.until("(close)")
            assert peer.close == (1012, "restart")

    urls = set()
    for _ in range(2):
        with fake.in_thread() as running:
            asyncio.run(turn())
            urls.add(running.url)
    assert len(urls) == 1 and len(fake.sessions) == 2
    assert fake.sessions[0].ended and fake.sessions[0].close_code == 1012


def test_the_official_client_itself_understands_the_events() -> None:
    async def turn(url: str) -> list[str]:
        client = AsyncOpenAI(api_key="test", base_url=url)
        got: list[str] = []
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session={"type": "realtime", "instructions": "x"})
            await connection.conversation.item.create(
                item={
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "hi"}],
                }
            )
            await connection.response.create()
            async for event in connection:
                got.append(event.type)
                if event.type == "response.done":
                    assert event.response.usage is not None and event.response.output
                    return got
        return got

    with FakeOpenAI(speed=FAST).in_thread() as fake:
        got = asyncio.run(turn(fake.url))
        assert got[0] == "session.created" and got[-1] == "response.done"
        assert fake.problems == []


@pytest.mark.parametrize(
    ("module", "variables"),
    [
        ("openai_realtime", "OPENAI_API_KEY=test GPTME_VOICE_BACKEND=openai "),
        ("xai", "XAI_API_KEY=test GPTME_VOICE_BACKEND=xai "),
    ],
)
def test_by_hand_it_says_how_to_use_it(module: str, variables: str) -> None:
    command = [sys.executable, "-m", f"tests.fakes.{module}", "--paced", "--echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    assert line.startswith(variables) and "BASE_URL=http://127.0.0.1:" in line
    assert line.endswith("/v1 gptme-voice serve\n")


def test_clicks_and_quiet_rooms_are_no_speech() -> None:
    clock = SpeechClock(24_000, Vad())
    room = np.random.default_rng(1).normal(0, 20, 48_000).astype(np.int16)
    click = np.concatenate([room, speech_like(24_000, 0.02), room])
    assert clock.feed(click.astype("<i2").tobytes()) == []
    noticed = clock.feed(a_turn().astype("<i2").tobytes())
    assert [type(n) for n in noticed] == [Started, Stopped]
    # However it is cut, it is noticed at the same places.
    pieces = SpeechClock(24_000, Vad())
    pcm = np.concatenate([click, a_turn()]).astype("<i2").tobytes()
    again = [n for at in range(0, len(pcm), 722) for n in pieces.feed(pcm[at : at + 722])]
    assert again == noticed
