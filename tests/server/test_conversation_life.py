"""Voice sessions and the life of a conversation: history, other sessions, restarts, ends."""

from __future__ import annotations

import asyncio
import signal
import wave
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptme_voice_plugin.server import spool
from tests.fakes.chat_server import FakeChat
from tests.fakes.chat_server import Reply as Answer
from tests.fakes.faults import Close
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply, UserText
from tests.support.conversation import Conversation, Page, serving, turn
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import best_match, silence
from tests.support.talking import (
    RATE,
    Talker,
    World,
    call,
    finals,
    followed,
    outputs,
    session,
    told,
    until,
)

OLD = version("gptme").startswith("0.34.")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> Iterator[GptmeServer]:
    """gptme-server, with a user that it knows."""
    about = '\n[prompt]\nabout_user = "My name is Zelda and I keep bees."\n'
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, chat, config=about) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(chat: FakeChat) -> None:
    assert wait_until(lambda: chat.waiting == 0), "a request of the test before is under way"
    chat.replies.clear()
    chat.requests.clear()


def test_what_the_voice_knows(server: GptmeServer) -> None:
    """The user, from gptme's own prompt; what was typed, written, said and heard before."""
    talk = Conversation(server, prompt="full")
    talk.type("What is in the file?")
    talk.appended(
        turn("1", "What is it?"),
        turn("2", "It is a list", "assistant", unheard="of names."),
        turn("3", "Thanks."),
    )

    async def scenario(world: World) -> None:
        instructions = world.fake.sessions[0].of("session.update")[0]["session"]["instructions"]
        assert "Zelda" in instructions
        assert "ask_gptme" in instructions
        items = world.fake.sessions[0].items
        await until(lambda: len(items) == 4)
        assert [(i.role, i.words) for i in items] == [
            ("user", "What is in the file?"),
            ("user", "What is it?"),
            ("assistant", "It is a list"),
            ("user", "Thanks."),
        ]
        assert not world.client.of("conversation"), "it knows where it is"
        await world.client.turn()
        await until(lambda: len(talk.said()) == 6)

    session(server, scenario, hello={"conversation_id": talk.id})


def test_history_has_a_limit(server: GptmeServer) -> None:
    """`history_turns` of them; with 0 none."""
    talk = Conversation(server)
    talk.appended(*(turn(str(n), f"This is {n}.") for n in range(5)))

    async def scenario(world: World) -> None:
        await until(lambda: told(world) == ["This is 3.", "This is 4."])

    session(server, scenario, hello={"conversation_id": talk.id}, history_turns=2)

    async def nothing(world: World) -> None:
        await world.client.turn()
        assert told(world) == []

    session(server, nothing, hello={"conversation_id": talk.id}, history_turns=0)


def test_a_new_conversation_has_its_prompt(server: GptmeServer) -> None:
    """It is made with the first turn; from then on the voice knows what gptme's prompt says."""

    async def scenario(world: World) -> None:
        updates = world.fake.sessions[0]
        assert "Zelda" not in updates.of("session.update")[0]["session"]["instructions"]
        await world.client.turn()
        await until(lambda: len(updates.of("session.update")) == 2)
        assert "Zelda" in updates.of("session.update")[1]["session"]["instructions"]

    session(server, scenario)


def test_an_unknown_conversation(server: GptmeServer) -> None:
    """The session does not begin, and says why."""

    async def scenario(world: World) -> None:
        async with Talker(world.url, hello={"conversation_id": "chat-gone"}) as other:
            await other.until(lambda c: c.of("error"))
            (error,) = other.of("error")
            assert (error["code"], error["fatal"]) == ("conversation_unknown", True)
            await other.closed()

    session(server, scenario)


def test_two_sessions_in_one_conversation(server: GptmeServer) -> None:
    """The second is refused, with a reason; when the first has ended it is not."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        async with Talker(world.url, hello={"conversation_id": talk.id}) as other:
            await other.until(lambda c: c.of("error"))
            (error,) = other.of("error")
            assert (error["code"], error["fatal"]) == ("conversation_in_use", True)
            assert error["message"] == (
                "A voice session is already running in this conversation; end it there first."
            )
            assert (await other.closed())[0] == 1008
        await world.client.turn()
        await world.client.say("end")
        async with Talker(world.url, hello={"conversation_id": talk.id}) as next_one:
            await next_one.until(lambda c: c.ready.is_set())
            # It is told what the one before has said, to the end.
            words = [UserText().text, "It rains."]
            await until(lambda: [i.words for i in world.fake.sessions[-1].items] == words)

    session(server, scenario, [Reply(text="It rains.")], hello={"conversation_id": talk.id})


def test_a_client_that_comes_back(server: GptmeServer) -> None:
    """It takes the place of the session whose connection it has lost."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        await world.client.ask()
        await world.client.until(lambda c: len(c.audio) > 48_000)
        await world.client.say("played", samples=24_000)
        (ready,) = world.client.of("ready")
        hello = {"conversation_id": talk.id, "resume": ready["session_id"]}
        async with Talker(world.url, hello=hello) as again:
            await again.until(lambda c: c.ready.is_set())
            await world.client.closed()
            items = world.fake.sessions[-1].items
            await until(lambda: len(items) == 2)
            said = [i.words for i in items]
            assert said[0] == UserText().text
            assert "One two three four".startswith(said[1]) and said[1]
        wrong = {"conversation_id": talk.id, "resume": "of-another"}
        async with Talker(world.url, hello={"conversation_id": talk.id}) as third:
            await third.until(lambda c: c.ready.is_set())
            async with Talker(world.url, hello=wrong) as fourth:
                await fourth.until(lambda c: c.of("error"))

    session(
        server,
        scenario,
        [Reply(text="One two three four", seconds=4.0)],
        hello={"conversation_id": talk.id},
    )


def test_gptme_is_at_work_already(server: GptmeServer, chat: FakeChat) -> None:
    """What is said meanwhile waits and is not lost; a task begins when the work is done."""
    talk = Conversation(server)
    talk.open()
    talk.type("Think hard.")
    chat.replies += [Answer("I have thought."), Answer("I have done it.")]
    replies = [
        Reply(text="Later.", calls=(call("ask_gptme", task="Do it."),), seconds=0.5),
        Reply(text="It waits.", seconds=0.5),
        Reply(text="It is done.", seconds=0.5),
    ]

    async def scenario(world: World) -> None:
        client = world.client
        await followed(talk)
        with chat.held():
            # gptme answers it with the first word.
            step = asyncio.create_task(asyncio.to_thread(talk.step))
            await until(lambda: chat.waiting)
            await client.turn()
            await client.until(lambda c: "It waits." in finals(c))
            await client.hear()
            assert outputs(world)[0]["status"] == "queued"
            assert [text for _, text in talk.said()] == ["Think hard."]
        await step
        await client.until(lambda c: "It is done." in finals(c))
        await client.hear()
        await until(lambda: len(talk.said()) >= 8)
        texts = [text for _, text in talk.said()]
        assert texts[:2] == ["Think hard.", "I have thought."]
        for earlier, later in (
            (UserText().text, "Later."),
            ("Later.", "It waits."),
            ("It waits.", "Do it."),
            ("Do it.", "I have done it."),
        ):
            assert texts.index(earlier) < texts.index(later)

    session(server, scenario, replies, hello={"conversation_id": talk.id})


@pytest.mark.parametrize("watched", [True, False])
def test_the_end_of_a_session_that_has_gptme_at_work(
    server: GptmeServer, chat: FakeChat, watched: bool
) -> None:
    """With a page that follows it, gptme goes on; without one it is stopped: nobody would see."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        await world.client.ask()
        await world.client.until(lambda c: "On it." in finals(c))
        await until(lambda: chat.waiting)
        await world.client.say("end")
        await world.client.closed()
        await until(lambda: there.exists() and "Voice session: " in there.read_text())

    replies = [Reply(text="On it.", calls=(call("ask_gptme", task="Work."),), seconds=0.5)]
    chat.replies += [Answer("I have worked."), Answer("It is over.")]
    # Its end is written down; beside the log, as long as gptme is at work, which before 0.35 stops
    # with its provider's next word only.
    there = talk.path.with_name(spool.NAME) if watched or OLD else talk.path
    with chat.held():
        if watched:
            with Page(talk):
                session(server, scenario, replies, hello={"conversation_id": talk.id})
                assert chat.waiting == 1
        else:
            session(server, scenario, replies, hello={"conversation_id": talk.id})
    if watched:
        assert wait_until(lambda: ("assistant", "I have worked.") in talk.said())
    else:
        talk.open()
        talk.type("And now?")
        talk.step()  # it is free
        assert wait_until(lambda: talk.said()[-1] == ("assistant", "It is over."))
        assert ("assistant", "I have worked.") not in talk.said()


def test_a_session_leaves_its_sum(server: GptmeServer) -> None:
    """One line, for pages; with what it was in its metadata."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        await world.client.turn()
        await until(lambda: len(talk.said()) == 2)

    session(server, scenario, [Reply(text="It rains.")], hello={"conversation_id": talk.id})
    assert wait_until(lambda: talk.everything()[-1]["role"] == "system")
    last = talk.everything()[-1]
    # The mark of what no model is sent; gptme 0.34 has another.
    assert last.get("ui_only") is True or last["ephemeral_ttl"] == -1
    assert last["content"].startswith("Voice session: ") and "2 turns" in last["content"]
    kept = last["metadata"]["voice_call"]
    assert kept["turns"] == {"user": 1, "assistant": 1}
    assert kept["usage"]["output_tokens"] > 0
    assert (kept["backend"], kept["reason"]) == ("openai", "ended")


def test_the_provider_is_told_again(server: GptmeServer, chat: FakeChat) -> None:
    """A new connection to the speech model knows the conversation, and what gptme has done."""
    talk = Conversation(server)
    talk.appended(turn("1", "Before."))
    chat.replies.append(Answer("I have done it."))
    replies = [
        Reply(text="On it.", calls=(call("ask_gptme", task="Do it."),), seconds=0.5),
        Reply(text="I asked.", seconds=0.5),
        Reply(text="Done.", seconds=0.5),
        Reply(text="Here.", seconds=0.5),
    ]

    async def run(world: World) -> None:
        await world.client.ask()
        await world.client.until(lambda c: "Done." in finals(c))
        await world.client.hear()
        world.fake.sessions[0].outbox.put_close(Close(1006))
        await until(lambda: len(world.fake.sessions) == 2)
        await until(lambda: len(told(world)) >= 2)
        words = [i.words for i in world.fake.sessions[1].items]
        assert words[0] == "Before."
        assert any(text.startswith("[gptme] gptme is done with: Do it.") for text in words)
        update = world.fake.sessions[1].of("session.update")[0]["session"]
        assert [tool["name"] for tool in update["tools"]][0] == "ask_gptme"

    session(server, run, replies, hello={"conversation_id": talk.id})


def test_recording(server: GptmeServer) -> None:
    """Two channels beside the conversation: who spoke left, what was heard right."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        assert world.client.of("ready")[0]["recording"] is True
        # From here on its reports count: it speaks faster than the clock goes.
        await world.client.say("played", samples=0)
        await world.client.ask(1.0)
        await world.client.until(lambda c: len(c.audio) >= 48_000)
        await world.client.hear()
        await world.client.speak(silence(RATE, 1.0), RATE, speed=2)

    session(
        server,
        scenario,
        [Reply(text="It rains.", seconds=1.0)],
        hello={"conversation_id": talk.id},
        record=True,
    )
    (path,) = talk.path.parent.glob("voice-*.wav")
    with wave.open(str(path)) as wav:
        assert (wav.getnchannels(), wav.getframerate()) == (2, 24_000)
        both = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
    spoken = np.flatnonzero(abs(both[:, 0].astype(int)) > 500)
    heard = both[np.flatnonzero(both[:, 1])[0] :, 1]
    correlation, at = best_match(Reply(seconds=1.0).samples(24_000), heard)
    assert (correlation, at) == (pytest.approx(1.0, abs=1e-3), 0)
    assert spoken[0] < both.shape[0] - heard.size, "the answer comes after the question"


def test_nothing_is_recorded_unless_wanted(server: GptmeServer) -> None:
    """Sound is never on disk otherwise."""
    talk = Conversation(server)

    async def scenario(world: World) -> None:
        assert world.client.of("ready")[0]["recording"] is False
        await world.client.turn()

    session(server, scenario, hello={"conversation_id": talk.id})
    assert not list(talk.path.parent.glob("*.wav"))


def test_a_server_that_is_restarted(tmp_path: Path, chat: FakeChat) -> None:
    """In mid-session: what was said before is written, at most the turn being spoken is not."""
    replies = [Reply(text="It rains.", seconds=0.5), Reply(text="Long", seconds=20.0)]

    async def talk_to(server: GptmeServer, id: str, fake: FakeOpenAI) -> Talker:
        client = Talker(
            server.ws_url, server.auth, hello={"input_sample_rates": [RATE], "conversation_id": id}
        )
        await client.__aenter__()
        await client.until(lambda c: c.ready.is_set())
        return client

    with FakeOpenAI(replies=replies).in_thread() as fake:
        config = f'backend = "openai"\nopenai_base_url = "{fake.url}"\n'
        options: dict[str, Any] = {"env": {"OPENAI_API_KEY": "test"}}
        with serving(tmp_path, chat, plugin=config, **options) as server:
            talk = Conversation(server)

            async def first() -> None:
                client = await talk_to(server, talk.id, fake)
                await client.turn()
                await client.ask()
                await client.until(lambda c: len(c.audio) > 5 * 48_000)
                await client.say("played", samples=3 * 24_000)
                await until(lambda: len(talk.said()) == 3)
                await asyncio.to_thread(server.stop, signal.SIGKILL)
                code, _ = await client.closed()
                assert code in (1006, 1012)

            asyncio.run(first())
        assert [text for _, text in talk.said()] == [UserText().text, "It rains.", UserText().text]
        with serving(tmp_path, chat, plugin=config, **options) as server:

            async def second() -> None:
                client = await talk_to(server, talk.id, fake)
                words = [UserText().text, "It rains.", UserText().text]
                await until(lambda: [i.words for i in fake.sessions[-1].items] == words)
                await client.say("end")
                await client.closed()

            asyncio.run(second())
