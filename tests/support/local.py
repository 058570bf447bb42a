"""Sessions with the local backend in conversations of a real gptme-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gptme_voice_plugin.channel import Gptme
from tests.support.conversation import Conversation
from tests.support.server import TOKEN, GptmeServer
from tests.support.speech import silence
from tests.support.talking import RATE, Talker, finals
from tests.support.voice import VoiceHost, voice_host
from tests.support.voices import said

__all__ = ["QUESTION", "World", "states", "talk"]

QUESTION = "What is the capital of France?"


class World:
    """One session and all that it touches."""

    def __init__(self, server: GptmeServer, client: Talker, host: VoiceHost) -> None:
        self.server = server
        self.client = client
        self.host = host

    async def say(self, text: str, pause: float = 1.0) -> None:
        """Say something, as fast as a person does, and stop."""
        await self.client.speak(said(text), RATE)
        await self.client.speak(silence(RATE, pause), RATE)

    async def answered(self, replies: int = 1) -> None:
        """Hear so many replies to their end."""
        await self.client.until(lambda _: len(finals(self.client)) >= replies, 120)
        await self.client.hear()


def talk(
    server: GptmeServer,
    scenario: Callable[[World], Any],
    conversation: Conversation | None = None,
    hello: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Run a scenario in a session with the local backend."""

    async def run() -> None:
        gptme = Gptme(server.url, f"127.0.0.1:{server.port}", TOKEN)
        fields = {"input_sample_rates": [RATE], **(hello or {})}
        if conversation is not None:
            fields["conversation_id"] = conversation.id
        async with (
            voice_host({}, gptme, backend="local", **settings) as host,
            Talker(host.ws_url, hello=fields) as client,
        ):
            await client.until(lambda c: c.ready.is_set(), 120)
            await scenario(World(server, client, host))

    asyncio.run(run())


def states(client: Talker) -> list[str]:
    """Return the states that the client was told."""
    return [message["state"] for message in client.of("state")]
