"""Voice sessions in conversations of a real gptme-server, whose model and speech model are fakes.

What is written down, what the models are told, and what gptme does for a voice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from tests.fakes.chat_server import Call, FakeChat
from tests.fakes.chat_server import Reply as Answer
from tests.fakes.script import Reply, UserText
from tests.support.conversation import Conversation, Page, serving, turn
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import silence, speech_like
from tests.support.talking import (
    RATE,
    World,
    call,
    finals,
    followed,
    outputs,
    progress,
    session,
    told,
    until,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> Iterator[GptmeServer]:
    """gptme-server."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(chat: FakeChat, server: GptmeServer) -> None:
    (server.workspace / "hello.txt").unlink(missing_ok=True)
    assert wait_until(lambda: chat.waiting == 0), "a request of the test before is under way"
    chat.replies.clear()
    chat.requests.clear()


NATIVE = version("gptme") >= "0.35"
SAVE = "I will.\n\n```save hello.txt\nhello\n```\n"
TASK = "Write hello into hello.txt."


def test_the_first_turn_makes_a_conversation(server: GptmeServer) -> None:
    """From the welcome page: nothing at first, then one with what was said, named after it."""

    async def scenario(world: World) -> None:
        await asyncio.sleep(0.5)
        assert not world.client.of("conversation")
        await world.client.turn()
        await world.client.until(lambda c: c.of("conversation"))
        talk = world.made()
        await until(lambda: len(talk.said()) == 2)
        assert talk.said() == [("user", UserText().text), ("assistant", "It rains.")]
        assert world.client.of("conversation")[0]["name"] == UserText().text
        assert talk.name() == UserText().text
        call = talk.log()[1]["metadata"]["voice_call"]
        assert (call["backend"], call["model"]) == ("openai", "gpt-realtime-2.1")
        assert call["seconds"] == pytest.approx(2.0)
        assert call["usage"]["output_tokens"] > 0
        await world.client.turn()
        await until(lambda: len(talk.said()) == 4)
        assert len(world.client.of("conversation")) == 1

    session(server, scenario, [Reply(text="It rains."), Reply(text="Still.")])


def test_stock_clients_have_a_conversation_of_their_own(server: GptmeServer) -> None:
    """They name none and are told nothing; what is said is written all the same."""
    before = Conversation.all(server)

    async def scenario(world: World) -> None:
        await world.client.ask()
        await until(lambda: len(Conversation.all(server) - before) == 1)
        (id,) = Conversation.all(server) - before
        await until(lambda: len(Conversation(server, id).said()) == 2)

    session(server, scenario, [Reply(text="It rains.", seconds=0.5)], v1=False)


def test_gptme_writes_a_file(server: GptmeServer, chat: FakeChat) -> None:
    """The model asks gptme, gptme asks for permission, and what came of it is spoken."""
    chat.replies += [Answer(SAVE), Answer("I have written hello.txt.")]
    replies = [
        Reply(text="On it.", calls=(call("ask_gptme", task=TASK),)),
        Reply(text="I have asked gptme."),
        Reply(text="It asks for permission."),
        Reply(text="The file is written."),
    ]
    file = server.workspace / "hello.txt"

    async def scenario(world: World) -> None:
        client = world.client
        await client.ask()
        await client.until(lambda c: c.of("conversation"))
        talk = world.made()
        with Page(talk) as page:
            await client.until(lambda c: "confirm" in progress(c))
            await until(lambda: page.of("tool_pending"))
            # It may be told again to pages that come late.
            (tool_id,) = {event["tool_id"] for event in page.of("tool_pending")}
        await client.until(lambda c: len(finals(c)) == 3)
        assert not file.exists(), "nothing is done without permission"
        assert "waits in the chat" in told(world)[-1]
        talk.allow(tool_id)
        await client.until(lambda c: progress(c)[-1] == "done")
        assert file.read_text() == "hello\n"
        assert progress(client) == ["working", "confirm", "working", "done"]
        await client.until(lambda c: len(finals(c)) == 4)
        await client.hear()
        await until(lambda: len(talk.said()) == 8)
        assert [text for role, text in talk.said() if role == "user"] == [UserText().text, TASK]
        written = [SAVE, "I have written hello.txt."]
        spoken = [
            "On it.",
            "I have asked gptme.",
            "It asks for permission.",
            "The file is written.",
        ]
        replied = [text for role, text in talk.said() if role == "assistant"]
        # Each of the two in its own order; gptme does not wait for the voice.
        assert [text for text in replied if text in written] == written
        assert [text for text in replied if text in spoken] == spoken
        (task,) = [line for line in talk.log() if line["content"] == TASK]
        assert task["metadata"]["voice_call"]["kind"] == "task"
        assert outputs(world)[0]["status"] == "begun"
        assert told(world)[-1].startswith("[gptme] gptme is done with: Write hello")
        assert "I have written hello.txt." in told(world)[-1]

    session(server, scenario, replies)


def test_a_page_that_comes_late(server: GptmeServer, chat: FakeChat) -> None:
    """It is told what waits for permission, though no page has begun the step."""
    chat.replies.append(Answer(SAVE))

    async def scenario(world: World) -> None:
        await world.client.ask()
        await world.client.until(lambda c: "confirm" in progress(c))
        with Page(world.made()) as page:
            await until(lambda: page.of("tool_pending"))
            assert page.of("tool_pending")[0]["tooluse"]["content"].strip() == "hello"
        assert progress(world.client).count("confirm") == 1

    session(server, scenario, [Reply(text=None, calls=(call("ask_gptme", task=TASK),))])


def permission_id(world: World) -> str:
    """Return the id of the permission that the model was told of last."""
    found = re.search(r"permission_id: (\w+)", "\n".join(told(world)))
    assert found
    return found[1]


def test_permission_by_voice(server: GptmeServer, chat: FakeChat) -> None:
    """A yes counts once the user has spoken after it was read out, and not before."""
    chat.replies += [Answer(SAVE), Answer("I have written hello.txt.")]
    file = server.workspace / "hello.txt"
    worlds: list[World] = []

    def answer(_: Any) -> Reply:
        return Reply(
            text="Well.",
            calls=(call("answer_permission", permission_id=permission_id(worlds[0]), allow=True),),
        )

    replies = [
        Reply(text=None, calls=(call("ask_gptme", task=TASK),)),
        Reply(text="I have asked gptme.", seconds=0.5),
        answer,  # by itself, when it is told of the permission
        Reply(text="May it?", seconds=0.5),
        answer,  # when the user has spoken
        Reply(text="Heard?", seconds=0.5),
        answer,  # when the user has spoken again
        Reply(text="It may."),
        Reply(text="The file is written."),
    ]
    scripted = iter(replies)

    def next_reply(turn: Any) -> Reply:
        reply = next(scripted)
        return reply(turn) if callable(reply) else reply

    async def scenario(world: World) -> None:
        worlds.append(world)
        client = world.client
        await client.ask()
        await until(lambda: len(outputs(world)) == 2)
        assert outputs(world)[1] == {
            "error": "The user has not answered yet: read it out, ask, and wait."
        }
        assert not file.exists()
        await client.until(lambda c: "May it?" in finals(c))
        await client.ask()
        await until(lambda: len(outputs(world)) == 3)
        assert "error" in outputs(world)[2], "it was made, but nobody has heard it"
        await client.until(lambda c: "Heard?" in finals(c))
        await client.hear()
        await client.ask()
        await client.until(lambda c: progress(c)[-1] == "done")
        assert outputs(world)[3]["status"] == "allowed"
        assert file.read_text() == "hello\n"
        await client.until(lambda c: "The file is written." in finals(c))

    session(server, scenario, next_reply, voice_confirm=True)


@pytest.mark.skipif(not NATIVE, reason="gptme-server before 0.35 runs no native calls")
def test_a_native_call_is_read_out_too(server: GptmeServer, chat: FakeChat) -> None:
    """gptme's event does not tell what it would run; the model and the strip are told it."""
    command = "echo hello > hello.txt"
    chat.replies += [Answer("", (Call("shell", {"command": command}),)), Answer("Written.")]
    replies = [Reply(text=None, calls=(call("ask_gptme", task=TASK),))]

    async def scenario(world: World) -> None:
        client = world.client
        await client.ask()
        await until(lambda: any(command in text for text in told(world)))
        assert re.search(r"permission_id: \w+", told(world)[-1])
        assert any(command in m["text"] for m in client.of("tool") if m["status"] == "confirm")

    config = {"chat": {"name": "Talk", "tool_format": "tool"}}
    talk = Conversation(server, config=config["chat"], prompt="none")
    session(server, scenario, replies, hello={"conversation_id": talk.id}, voice_confirm=True)


def test_without_the_setting_there_is_no_permission_by_voice(server: GptmeServer) -> None:
    """The function is not offered, and calling it all the same does nothing."""
    replies = [Reply(text=None, calls=(call("answer_permission", permission_id="x", allow=True),))]

    async def scenario(world: World) -> None:
        offered = world.fake.sessions[0].of("session.update")[0]["session"]["tools"]
        assert {tool["name"] for tool in offered} == {
            "ask_gptme",
            "gptme_status",
            "cancel_gptme",
            "end_call",
        }
        await world.client.ask()
        await until(lambda: outputs(world))
        assert outputs(world) == [{"error": "there is no such function"}]

    session(server, scenario, replies)


def test_end_call(server: GptmeServer) -> None:
    """The session ends by itself, once the goodbye has been heard."""
    replies = [Reply(text="Goodbye.", calls=(call("end_call"),))]

    async def scenario(world: World) -> None:
        await world.client.ask()
        await world.client.until(lambda c: "Goodbye." in finals(c))
        await asyncio.sleep(0.5)
        assert world.client.ws.close_code is None, "it has not been heard yet"
        await world.client.hear()
        assert (await world.client.closed())[0] == 1000

    session(server, scenario, replies)


def test_cancel_and_status(server: GptmeServer, chat: FakeChat) -> None:
    """What gptme is at can be asked, and stopped; what waits is dropped with it."""
    replies = [
        Reply(
            text=None,
            calls=(call("ask_gptme", task="One."), call("ask_gptme", task="Two.")),
        ),
        Reply(text="On it.", seconds=0.5),
        Reply(text=None, calls=(call("gptme_status"),)),
        Reply(text="It works.", seconds=0.5),
        Reply(text=None, calls=(call("cancel_gptme"),)),
        Reply(text="Stopped."),
    ]

    async def scenario(world: World) -> None:
        client = world.client
        await client.ask()
        await until(lambda: chat.waiting)
        await client.until(lambda c: "On it." in finals(c))
        assert [output["status"] for output in outputs(world)] == ["begun", "queued"]
        await client.ask()
        await client.until(lambda c: "It works." in finals(c))
        assert outputs(world)[2] == {"gptme": "working", "task": "One.", "queued": ["Two."]}
        await client.ask()
        await client.until(lambda c: progress(c)[-1] == "cancelled")
        await client.until(lambda c: "Stopped." in finals(c))
        assert outputs(world)[3] == {"status": "stopped"}

    with chat.held():
        session(server, scenario, replies)


def test_xai_has_gptme_work_too(server: GptmeServer, chat: FakeChat) -> None:
    """The same with the other provider: history, functions, news, and what is written."""
    chat.replies.append(Answer("It is 42."))
    talk = Conversation(server)
    talk.appended(turn("1", "Before."))
    replies = [
        Reply(text="On it.", calls=(call("ask_gptme", task="Compute."),), seconds=0.5),
        Reply(text="I have asked gptme.", seconds=0.5),
        Reply(text="It is forty two.", seconds=0.5),
    ]

    async def scenario(world: World) -> None:
        client = world.client
        await until(lambda: told(world) == ["Before."])
        await client.ask()
        await client.until(lambda c: "It is forty two." in finals(c))
        await client.hear()
        await until(lambda: len(talk.said()) == 7)
        texts = [text for _, text in talk.said()]
        assert texts[0] == "Before." and texts[-1] == "It is forty two."
        assert {"Compute.", "It is 42."} < set(texts)
        assert talk.log()[-1]["metadata"]["voice_call"]["backend"] == "xai"

    session(server, scenario, replies, hello={"conversation_id": talk.id}, backend="xai")


def test_what_is_typed(server: GptmeServer, chat: FakeChat) -> None:
    """The voice knows it, and tells the gist of what gptme has answered."""
    chat.replies.append(Answer("It is 42.\n\n```python\nprint(42)\n```\n"))
    replies = [Reply(text="Hello.", seconds=0.5), Reply(text="gptme says it is 42.")]

    async def scenario(world: World) -> None:
        client = world.client
        await client.turn()
        await client.until(lambda c: c.of("conversation"))
        talk = world.made()
        await followed(talk)
        talk.open()
        talk.type("What is it?")
        talk.step()
        await client.until(lambda c: "gptme says it is 42." in finals(c))
        assert told(world)[0] == "[typed] What is it?"
        assert told(world)[1].startswith("[gptme] gptme is done. It says:\nIt is 42.")
        assert "[1 lines of python, to be read in the chat]" in told(world)[1]
        await client.hear()
        await until(lambda: len(talk.said()) == 5)
        assert talk.said()[2:4] == [("user", "What is it?"), ("assistant", chat_answer(talk))]

    session(server, scenario, replies)


def chat_answer(talk: Conversation) -> str:
    """Return what gptme has written."""
    return next(text for role, text in talk.said() if text.startswith("It is 42."))


def test_text_goes_to_the_voice_model(server: GptmeServer) -> None:
    """Text typed into the session itself is answered aloud, and is a turn."""

    async def scenario(world: World) -> None:
        await world.client.say("text", text="/help me")
        await world.client.until(lambda c: "Sure." in finals(c))
        await world.client.hear()
        await world.client.until(lambda c: c.of("conversation"))
        talk = world.made()
        await until(lambda: len(talk.said()) == 2)
        assert talk.said() == [("user", "\\/help me"), ("assistant", "Sure.")]
        assert talk.log()[0]["metadata"]["voice_call"]["kind"] == "typed"

    session(server, scenario, [Reply(text="Sure.", seconds=0.5)])


def test_an_interrupted_reply(server: GptmeServer) -> None:
    """Log, caption and the model's memory end where the listener stopped it."""
    words = "One two three four five six seven eight nine ten."

    async def scenario(world: World) -> None:
        client = world.client
        await client.ask()
        await client.until(lambda c: len(c.audio) >= 4 * 48_000)
        await client.say("played", samples=2 * 24_000)
        await client.speak(speech_like(RATE, 0.8), RATE, speed=5)
        await client.until(lambda c: c.of("clear"))
        await client.say("played", samples=2 * 24_000)
        await client.say("played", samples=client.of("clear")[0]["at_sample"])
        await client.speak(silence(RATE, 0.8), RATE, speed=5)
        await client.until(lambda c: "Yes?" in finals(c))
        await client.hear()
        talk = world.made()
        await until(lambda: len(talk.said()) == 4)
        heard = finals(client)[1] if finals(client)[0] == words else finals(client)[0]
        assert words.startswith(heard) and 0 < len(heard) < len(words)
        rest = words[len(heard) :].strip()
        assert talk.said()[1] == (
            "assistant",
            f"{heard} \u2014 *interrupted*\n\n> Not heard: {rest}",
        )
        call = talk.log()[1]["metadata"]["voice_call"]
        assert call["heard_chars"] == len(heard)
        assert call["seconds"] == pytest.approx(2.0, abs=0.01)
        items = world.fake.sessions[0].items
        assert items[1].truncated_ms == 2000

    session(server, scenario, [Reply(text=words, seconds=4.0), Reply(text="Yes?", seconds=0.5)])
