"""What a user of the local backend hears and sees if gptme's model does not answer.

Speech, speech models and gptme are real; its provider refuses, or is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import pytest

from gptme_voice_plugin.voice import answers
from tests.fakes.chat_server import FakeChat, Reply
from tests.support.conversation import Conversation, serving
from tests.support.local import QUESTION, World, talk
from tests.support.ports import free_port
from tests.support.server import GptmeServer, wait_until
from tests.support.talking import finals

OLD = version("gptme").startswith("0.34.")
OTHER = "How high is the highest mountain?"


async def ask(world: World, question: str, replies: int) -> tuple[str, str]:
    """Ask something; return what is heard for an answer, and what is shown with it."""
    before = len(world.client.of("error"))
    await world.say(question)
    await world.answered(replies)
    (shown,) = world.client.of("error")[before:]
    assert not shown["fatal"]
    return finals(world.client)[-1], f"{shown['code']}: {shown['message']}"


def test_no_model_at_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    """gptme as it was installed, with no key and no model: how to get one is said."""
    with GptmeServer(tmp_path_factory.mktemp("server")) as server:
        conversation = Conversation(server)

        async def scenario(world: World) -> None:
            for number, (question, word) in enumerate([(QUESTION, "France"), (OTHER, "mountain")]):
                spoken, shown = await ask(world, question, number + 1)
                assert spoken.startswith("I heard: ") and word in spoken
                assert "gptme has no model" in spoken and "set an API key" in spoken
                assert shown.startswith("no_model: ") and word in shown
                assert "OPENAI_API_KEY" in shown and "--model" in shown

        talk(server, scenario, conversation)
        assert [role for role, _ in conversation.said()] == ["user", "user"]
        assert "France" in conversation.said()[0][1] and "mountain" in conversation.said()[1][1]


def test_a_key_that_is_refused(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> None:
    """Which part of it the provider has repeated is not shown."""
    wrong = replace(chat, key="sk-wrong-1234567890abcd")
    with serving(tmp_path_factory.mktemp("server"), wrong) as server:
        conversation = Conversation(server)

        async def scenario(world: World) -> None:
            for number in (1, 2):
                spoken, shown = await ask(world, QUESTION, number)
                assert "France" in spoken and "refuses the API key" in spoken
                assert shown.startswith("gptme_failed: ") and "set another one" in shown
                assert "abcd" not in shown and "401" not in shown

        talk(server, scenario, conversation)
        assert [role for role, _ in conversation.said()] == ["user", "user"]
    assert chat.requests == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A voice that soon says that it takes long."""
    monkeypatch.setattr(answers, "FIRST_WORD_SECONDS", 0.3)
    if OLD:  # which does not stop before its provider has answered
        monkeypatch.setattr(answers, "IDLE_SECONDS", 1.0)
    yield


@pytest.mark.usefixtures("impatient")
def test_a_provider_that_is_not_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    """gptme tries for minutes: that there is no answer yet is said, and speaking stops it."""
    nobody = FakeChat(port=free_port())
    with serving(tmp_path_factory.mktemp("server"), nobody) as server:
        conversation = Conversation(server)

        async def scenario(world: World) -> None:
            await world.say(QUESTION)
            await world.answered(1)
            assert "has not answered yet" in finals(world.client)[0]
            await world.say(OTHER)
            await world.answered(2)
            # gptme 0.34 does not stop before its provider has answered.
            notice = "has not stopped yet" if OLD else "has not answered yet"
            assert notice in finals(world.client)[1]

        talk(server, scenario, conversation)
        roles = [role for role, _ in conversation.said()]
        assert roles == ["user"] if OLD else ["user", "user"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.soak
def test_a_model_that_takes_long(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> None:
    """It is said; and whoever speaks then stops it, and is answered."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        conversation = Conversation(server)
        chat.replies += [Reply("Too late."), Reply("Fine.")]

        async def scenario(world: World) -> None:
            with chat.held():
                await world.say(QUESTION)
                await world.answered(1)
                assert "has not answered yet" in finals(world.client)[0]
                await world.say("Never mind that.")
            await world.client.until(lambda _: "Fine." in finals(world.client), 30)
            await asyncio.sleep(0.5)
            assert "Too late." not in finals(world.client)
            assert not world.client.of("error")

        talk(server, scenario, conversation)
        assert [role for role, _ in conversation.said()].count("user") == 2
        assert conversation.said()[-1] == ("assistant", "Fine.")
    assert wait_until(lambda: chat.waiting == 0)
