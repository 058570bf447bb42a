"""The local backend in conversations of a real gptme-server: heard, answered by gptme, spoken.

Speech, speech models and gptme are real; only the model behind gptme is a fake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from gptme_voice_plugin.channel import Timed
from tests.fakes.chat_server import FakeChat, Reply
from tests.support.conversation import Conversation, serving
from tests.support.local import QUESTION, World, states, talk
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import silence, speech_like
from tests.support.talking import RATE, finals, until

OLD = version("gptme").startswith("0.34.")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chat: FakeChat) -> Iterator[GptmeServer]:
    """gptme-server."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(chat: FakeChat, server: GptmeServer) -> None:
    assert wait_until(lambda: chat.waiting == 0), "a request of the test before is under way"
    chat.replies.clear()
    chat.requests.clear()


def test_a_question_is_heard_answered_and_written_down(server: GptmeServer, chat: FakeChat) -> None:
    """One spoken, one answered; both are in the log once, as gptme itself writes them."""
    answer = "The capital of France is **Paris**. It lies on the Seine."
    chat.replies.append(Reply(answer))
    conversation = Conversation(server)

    async def scenario(world: World) -> None:
        await world.say(QUESTION)
        await world.answered()
        (heard,) = finals(world.client, "user")
        assert "capital" in heard.lower()
        assert finals(world.client) == ["The capital of France is Paris. It lies on the Seine."]
        (ready,) = world.client.of("ready")
        assert ready["backend"] == "local" and "whisper base" in ready["model"]
        seconds = len(world.client.audio) / 2 / ready["output_sample_rate"]
        assert 2.0 < seconds < 6.0
        partial = [t for t in world.client.of("transcript") if not t["final"]]
        assert "assistant" in {t["role"] for t in partial}  # the question is too short for that
        assert [s for s in states(world.client) if s != "listening"] == ["thinking", "speaking"]
        assert conversation.said() == [("user", heard), ("assistant", answer)]

    talk(server, scenario, conversation)
    (asked,) = chat.requests
    told = [m["content"] for m in asked["messages"] if m["role"] == "user"]
    assert told[0][0]["text"] == conversation.said()[0][1]
    assert len(conversation.said()) == 2


def test_the_stages_are_timed(server: GptmeServer) -> None:
    """How long each took is told for the metrics, once a turn."""

    async def scenario(world: World) -> None:
        await world.say(QUESTION)
        await world.answered()
        (timed,) = [report for report in world.host.reports if isinstance(report, Timed)]
        parts = {name: timed.seconds[name] for name in ("vad", "stt", "text", "tts")}
        assert timed.backend == "local" and all(seconds >= 0 for seconds in parts.values())
        assert sum(parts.values()) == pytest.approx(timed.seconds["total"])

    talk(server, scenario)


def test_from_the_welcome_page(server: GptmeServer) -> None:
    """The first words make a conversation, and are answered in it."""

    async def scenario(world: World) -> None:
        assert not world.client.of("conversation")
        await world.say(QUESTION)
        await world.answered()
        (made,) = world.client.of("conversation")
        conversation = Conversation(world.server, made["conversation_id"])
        assert [role for role, _ in conversation.said()] == ["user", "assistant"]

    talk(server, scenario)


LONG = "This is the first sentence of the answer. " + " ".join(
    f"It goes on with sentence number {n}, which nobody will hear." for n in range(2, 12)
)


def test_an_answer_that_is_interrupted_ends_in_the_log_where_it_was_heard(
    server: GptmeServer, chat: FakeChat
) -> None:
    """gptme has written it whole: it is cut, the rest is a quotation, and the talk goes on."""
    chat.replies += [Reply(LONG), Reply("Fine.")]
    conversation = Conversation(server)

    async def scenario(world: World) -> None:
        await world.say(QUESTION)
        await world.client.until(lambda c: len(c.audio) > 10 * 2 * 22_050, 120)
        await world.client.say("played", samples=4 * 22_050)
        before = len(world.client.of("clear"))
        await world.say("Stop, please, that is enough.")
        await world.client.until(lambda c: len(c.of("clear")) > before)
        await world.answered(2)

    talk(server, scenario, conversation)
    said = conversation.said()
    assert [role for role, _ in said] == ["user", "assistant", "user", "assistant"]
    heard, _, rest = said[1][1].partition("\n")
    assert heard.startswith("This is the first sentence of the answer. It goes")
    assert len(heard) < 150 < len(rest) and "> " in rest
    assert "enough" in said[2][1].lower() and said[3][1] == "Fine."
    # The model is told what was heard, and that the rest was not.
    told = chat.requests[-1]["messages"][-2]["content"]
    assert told == [{"type": "text", "text": said[1][1]}]


def test_an_answer_that_is_interrupted_while_it_is_written(
    server: GptmeServer, chat: FakeChat
) -> None:
    """The step is stopped, and what was heard of the answer is in the log all the same."""
    conversation = Conversation(server)
    chat.replies += [Reply(LONG), Reply("Fine.")]

    async def scenario(world: World) -> None:
        with chat.paced(0.25):
            await world.say(QUESTION)
            await world.client.until(lambda c: len(c.audio) > 2 * 2 * 22_050, 120)
            await world.client.say("played", samples=2 * 22_050)
            await world.say("Stop, please, that is enough.")
            await world.answered(2)

    talk(server, scenario, conversation)
    said = conversation.said()
    assert [role for role, _ in said] == ["user", "assistant", "user", "assistant"]
    assert said[1][1].startswith("This is the first sentence")
    assert "number 11" not in said[1][1]
    assert "INTERRUPTED" not in said[1][1]
    assert said[3][1] == "Fine."


def test_code_is_in_the_chat_and_not_in_the_ear(server: GptmeServer, chat: FakeChat) -> None:
    """What cannot be spoken is left out with a word; the log has it."""
    answer = "Here is how:\n\n```python\nprint(1)\n```\n\nThat prints **one**."
    chat.replies.append(Reply(answer))
    conversation = Conversation(server)

    async def scenario(world: World) -> None:
        await world.say(QUESTION)
        await world.answered()
        assert finals(world.client) == ["Here is how: I put the code in the chat. That prints one."]

    talk(server, scenario, conversation)
    assert conversation.said()[1] == ("assistant", answer)


SAVE = "I will.\n\n```save hello.txt\nhello\n```\n"


def test_tools_wait_for_permission_on_the_screen(server: GptmeServer, chat: FakeChat) -> None:
    """That it waits is said; once it is allowed, gptme goes on, and is heard again."""
    chat.replies += [Reply(SAVE), Reply("I have written the file.")]
    conversation = Conversation(server)

    async def scenario(world: World) -> None:
        await world.say("Please write hello into a file.")
        await world.answered(2)
        assert "permission to use save" in finals(world.client)[1]
        (asked,) = [m for m in world.client.of("tool") if m["status"] == "confirm"]
        assert "hello.txt" in asked["text"]
        waiting = await asyncio.to_thread(conversation.pending)
        await asyncio.to_thread(conversation.allow, waiting)
        await world.answered(3)
        assert finals(world.client)[2] == "I have written the file."

    talk(server, scenario, conversation)
    assert [role for role, _ in conversation.said()] == ["user", "assistant", "assistant"]
    assert conversation.said()[1] == ("assistant", SAVE)


def test_typed_text_is_answered_aloud(server: GptmeServer, chat: FakeChat) -> None:
    """In the strip, or in gptme's own composer."""
    chat.replies += [Reply("Typed here."), Reply("Typed there.")]
    conversation = Conversation(server)

    async def scenario(world: World) -> None:
        await world.client.say("text", text="Hello.")
        await world.answered()
        assert finals(world.client) == ["Typed here."]
        await asyncio.to_thread(conversation.type, "Hello again.")
        await asyncio.to_thread(conversation.step)
        await world.answered(2)
        assert finals(world.client) == ["Typed here.", "Typed there."]

    talk(server, scenario, conversation)
    assert conversation.said() == [
        ("user", "Hello."),
        ("assistant", "Typed here."),
        ("user", "Hello again."),
        ("assistant", "Typed there."),
    ]


def test_two_things_said_in_a_row(server: GptmeServer, chat: FakeChat) -> None:
    """Whoever goes on after a pause is answered once, with all they said."""
    conversation = Conversation(server)
    chat.replies += [Reply("Yes."), Reply("Yes.")]
    before = len(chat.requests)

    async def scenario(world: World) -> None:
        with chat.held():
            await world.say("I have a question.", pause=1.5)
            await until(lambda: len(chat.requests) == before + 1)
            await world.say(QUESTION, pause=1.5)
            await world.client.until(lambda c: len(finals(c, "user")) == 2, 60)
            if not OLD:  # which stops with its provider's next word only
                await until(lambda: len(chat.requests) == before + 2)
        await world.answered()
        await asyncio.sleep(1)
        assert finals(world.client) == ["Yes."]

    talk(server, scenario, conversation)
    written = conversation.said()
    if OLD:  # it writes also what it had not begun when it was stopped
        role, text = written.pop(1)
        assert role == "assistant" and text.startswith("*interrupted before any of it was heard*")
    assert [role for role, _ in written] == ["user", "user", "assistant"]


def test_a_noise_is_no_turn(server: GptmeServer, chat: FakeChat) -> None:
    """Something short and loud makes nobody think."""

    async def scenario(world: World) -> None:
        await world.client.speak(speech_like(RATE, 0.4), RATE)
        await world.client.speak(silence(RATE, 2.0), RATE)
        assert not chat.requests
        # What is said then is the only turn.
        await world.say(QUESTION)
        await world.answered()
        assert len([t for t in finals(world.client, "user") if t]) == 1
        assert states(world.client)[-1] == "listening"

    talk(server, scenario)
    assert len(chat.requests) == 1
