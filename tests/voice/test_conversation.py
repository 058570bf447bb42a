"""The client of gptme's HTTP API; most of it is tested against a real gptme-server."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from gptme_voice_plugin.channel import Gptme
from gptme_voice_plugin.voice import conversation
from gptme_voice_plugin.voice.conversation import GptmeClient


def test_an_answer_that_was_stopped_in_the_middle_of_a_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of a surrogate pair is a character of the answer's, which the request can hold."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json={"cut": True})

    monkeypatch.setattr(
        conversation.httpx, "AsyncHTTPTransport", lambda uds: httpx.MockTransport(answer)
    )

    async def cut() -> bool:
        client = GptmeClient(Gptme("http://gptme.invalid", "gptme.invalid", None))
        try:
            return await client.heard("chat-1", "Yes \ud83d", 5, {})
        finally:
            await client.close()

    assert asyncio.run(cut())
    assert asked == [{"answer": "Yes ?", "heard": 5, "metadata": {}}]
