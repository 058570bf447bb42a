"""One voice session for each conversation."""

from __future__ import annotations

import asyncio

import pytest

from gptme_voice_plugin.errors import ConversationInUse
from gptme_voice_plugin.voice import events as core
from gptme_voice_plugin.voice.claims import Claims
from gptme_voice_plugin.voice.session import Session
from gptme_voice_plugin.voice.wire import Dialect

HERE = "chat-1"


class Holder:
    """A session that ends at once when it is replaced, and takes a moment to be over."""

    def __init__(self, name: str) -> None:
        self.session = Session(name, Dialect.V1)
        self.over = asyncio.Event()

    def post(self, event: core.Event) -> None:
        self.session.handle(event, 0.0)
        asyncio.get_running_loop().call_later(0.05, self.over.set)


def test_one_at_a_time() -> None:
    """A second one is refused, in this conversation only, until the first has given it back."""

    async def scenario() -> None:
        claims, first, second = Claims(), Holder("first"), Holder("second")
        await claims.take(HERE, first, None)
        with pytest.raises(ConversationInUse):
            await claims.take(HERE, second, None)
        with pytest.raises(ConversationInUse):
            await claims.take(HERE, second, "of another")
        await claims.take("chat-2", second, None)
        claims.drop(first)
        await claims.take(HERE, second, None)
        assert not first.session.over

    asyncio.run(scenario())


def test_one_that_is_ending_is_waited_for() -> None:
    """What it writes at last belongs to what the next one is told."""

    async def scenario() -> None:
        claims, first, second = Claims(), Holder("first"), Holder("second")
        await claims.take(HERE, first, None)
        first.post(core.Stopping())
        await claims.take(HERE, second, None)
        assert first.over.is_set()

    asyncio.run(scenario())


def test_a_client_that_comes_back() -> None:
    """It takes the place of the session it has lost."""

    async def scenario() -> None:
        claims, first, second = Claims(), Holder("first"), Holder("second")
        await claims.take(HERE, first, None)
        await claims.take(HERE, second, "first")
        assert first.session.over and first.over.is_set()
        claims.drop(first)
        with pytest.raises(ConversationInUse):
            await claims.take(HERE, Holder("third"), "first-of-all")

    asyncio.run(scenario())


def test_a_client_that_comes_back_twice() -> None:
    """The second connection was lost before it told its name: the first one's is still good."""

    async def scenario() -> None:
        claims, second, third = Claims(), Holder("second"), Holder("third")
        await claims.take(HERE, Holder("first"), None)
        await claims.take(HERE, second, "first")
        await claims.take(HERE, third, "first")
        assert second.session.over and not third.session.over

    asyncio.run(scenario())


def test_two_that_wait_for_the_same() -> None:
    """One of them gets it, and the other is refused."""

    async def scenario() -> None:
        claims, first = Claims(), Holder("first")
        await claims.take(HERE, first, None)
        first.post(core.Stopping())
        results = await asyncio.gather(
            claims.take(HERE, Holder("second"), None),
            claims.take(HERE, Holder("third"), None),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), ConversationInUse]

    asyncio.run(scenario())
