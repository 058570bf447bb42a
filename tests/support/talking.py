"""Voice sessions in conversations of a real gptme-server, as tests hold them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed

from gptme_voice_plugin.channel import Gptme
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import FunctionCall
from tests.fakes.xai import FakeXai
from tests.support.client import VoiceClient
from tests.support.conversation import Conversation, Page
from tests.support.server import TOKEN, GptmeServer
from tests.support.speech import silence, speech_like
from tests.support.voice import voice_host

__all__ = [
    "RATE",
    "Talker",
    "World",
    "call",
    "finals",
    "followed",
    "outputs",
    "progress",
    "session",
    "told",
    "until",
]

RATE = 16_000


class Talker(VoiceClient):
    """A client that plays what it gets, in no time, and says so."""

    async def hear(self) -> None:
        """Hear the reply to its end."""
        with contextlib.suppress(ConnectionClosed):  # its last words may be the call's
            await self.say("played", samples=len(self.audio) // 2)
            # Its words may be here before its sound is.
            while self.of("state")[-1]["state"] == "speaking":
                await asyncio.sleep(0.02)
                await self.say("played", samples=len(self.audio) // 2)

    async def ask(self, seconds: float = 0.8) -> None:
        """Say something and stop."""
        await self.speak(speech_like(RATE, seconds), RATE, speed=5)
        await self.speak(silence(RATE, 0.8), RATE, speed=5)

    async def turn(self) -> None:
        """Say something, and hear the whole reply."""
        before = len(self.messages)
        await self.ask()

        def answered(client: VoiceClient) -> bool:
            new = client.messages[before:]
            said = any(m.get("role") == "assistant" and m.get("final") for m in new)
            # What it has used comes last, and would count for the next one.
            return said and any(m["type"] == "usage" for m in new)

        await self.until(answered)
        await self.hear()


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until it holds."""
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it does not come to hold")


async def followed(talk: Conversation) -> None:
    """Wait until a session follows what gptme does in its conversation."""
    await until(talk.followers)

    def look() -> None:
        with Page(talk):
            pass  # whoever was there before hears what happens from now on

    await asyncio.to_thread(look)


class World:
    """One voice session and all that it touches."""

    def __init__(self, server: GptmeServer, fake: Any, client: Talker, url: str) -> None:
        self.server = server
        self.fake = fake
        self.client = client
        self.url = url

    def made(self) -> Conversation:
        """Return the conversation that was made for the session."""
        (message,) = self.client.of("conversation")
        return Conversation(self.server, message["conversation_id"])


def session(
    server: GptmeServer,
    scenario: Callable[[World], Any],
    replies: Any = (),
    hello: Mapping[str, Any] | None = None,
    user: Any = None,
    v1: bool = True,
    backend: str = "openai",
    reports: bool = True,
    **settings: Any,
) -> None:
    """Run a scenario in a voice session of `server`.

    Its client reports what it has played, which is nothing until it `hear`s: otherwise replies
    would be heard by the clock, however long the test takes. Without `reports` they are.
    """
    fakes: dict[str, Any] = {"openai": FakeOpenAI, "xai": FakeXai}

    async def run() -> None:
        gptme = Gptme(server.url, f"127.0.0.1:{server.port}", TOKEN)
        fields = {"input_sample_rates": [RATE], **(hello or {})}
        options = {} if user is None else {"user_texts": user}
        async with (
            fakes[backend](replies=replies, **options) as fake,
            voice_host(
                {"OPENAI_API_KEY": "test", "XAI_API_KEY": "test"},
                gptme,
                backend=backend,
                **{f"{backend}_base_url": fake.url},
                **settings,
            ) as host,
            Talker(host.ws_url, v1=v1, hello=fields) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            if reports and v1:
                await client.say("played", samples=0)
            await scenario(World(server, fake, client, host.ws_url))
            assert fake.problems == []

    asyncio.run(run())


def finals(client: VoiceClient, role: str = "assistant") -> list[str]:
    """Return what one side has said."""
    captions = [t for t in client.of("transcript") if t["role"] == role and t["final"]]
    return [t["text"] for t in captions]


def progress(client: VoiceClient) -> list[str]:
    """Return how the work went that gptme was given."""
    statuses = [m["status"] for m in client.of("tool")]
    return [s for i, s in enumerate(statuses) if i == 0 or statuses[i - 1] != s]


def call(name: str, **arguments: Any) -> FunctionCall:
    """Return a call of the voice model's."""
    return FunctionCall(name, json.dumps(arguments))


def outputs(world: World) -> list[dict[str, Any]]:
    """Return what the model's calls have returned."""
    items = world.fake.sessions[0].items
    return [json.loads(i.fields["output"]) for i in items if i.type == "function_call_output"]


def told(world: World) -> list[str]:
    """Return what the model was told that nobody has spoken, in this connection."""
    return [i.words for i in world.fake.sessions[-1].items if i.kind in ("input_text",)]
