"""Two sessions with the local backend at once: they share its models, and wait for each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psutil
import pytest

from gptme_voice_plugin.backends.local import stt_worker, tts_worker
from gptme_voice_plugin.backends.local.engines import speech_to_text
from gptme_voice_plugin.channel import Gptme
from gptme_voice_plugin.config import Settings
from tests.fakes.chat_server import FakeChat
from tests.support.conversation import serving
from tests.support.server import TOKEN, GptmeServer
from tests.support.speech import silence
from tests.support.talking import RATE, Talker, finals
from tests.support.voice import voice_host
from tests.support.voices import said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> Iterator[GptmeServer]:
    """gptme-server."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        yield server


async def ask(client: Talker, question: str) -> None:
    """Ask something, and hear the answer."""
    await client.speak(said(question), RATE)
    await client.speak(silence(RATE, 1.0), RATE)
    await client.until(lambda _: len(finals(client)) == 1, 60)


def workers() -> list[str]:
    """Return which workers of this process run, but for those that tests speak and hear with."""
    names = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that ends meanwhile
            names += {stt_worker.__name__, tts_worker.__name__} & {*child.cmdline()}
    return sorted(names)


def test_two_at_once(server: GptmeServer) -> None:
    """Both are heard and answered, by one ear and one mouth."""
    said("Hello.")  # the tests' own voice is there before
    before = workers()

    async def run() -> None:
        gptme = Gptme(server.url, f"127.0.0.1:{server.port}", TOKEN)
        hello = {"input_sample_rates": [RATE]}
        async with (
            voice_host({}, gptme, backend="local") as host,
            Talker(host.ws_url, hello=hello) as one,
            Talker(host.ws_url, hello=hello) as two,
        ):
            for client in (one, two):
                await client.until(lambda c: c.ready.is_set(), 60)
            assert len(workers()) == len(before) + 2
            await asyncio.gather(
                ask(one, "What is the capital of France?"),
                ask(two, "What is the highest mountain of Africa?"),
            )
            assert "France" in finals(one, "user")[0]
            assert "Africa" in finals(two, "user")[0]

    asyncio.run(run())
    assert workers() == before


def test_waiting_for_another_session_is_told(server: GptmeServer) -> None:
    """As long as the ear is at somebody else's words."""
    long = said("This takes a while, because it is long. " * 4).tobytes()

    async def run() -> None:
        gptme = Gptme(server.url, f"127.0.0.1:{server.port}", TOKEN)
        hello = {"input_sample_rates": [RATE]}
        async with (
            voice_host({}, gptme, backend="local") as host,
            Talker(host.ws_url, hello=hello) as client,
        ):
            await client.until(lambda c: c.ready.is_set(), 60)
            ear = speech_to_text(Settings(backend="local"), {})
            await client.speak(said("What is the capital of France?"), RATE)

            async def other() -> None:
                while "waiting" not in [m["state"] for m in client.of("state")]:
                    await ear.stage.transcribe(long, "en")

            others = [asyncio.create_task(other()) for _ in range(3)]
            await client.speak(silence(RATE, 1.0), RATE)
            await client.until(lambda _: finals(client), 120)
            await asyncio.wait_for(asyncio.gather(*others), 120)
            ear.release()
            states = [m["state"] for m in client.of("state")]
            assert [s for s in states if s != "listening"][:2] == ["thinking", "waiting"]
            assert states.index("waiting") < states.index("speaking")

    asyncio.run(run())
