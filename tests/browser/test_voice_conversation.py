"""A spoken turn is a turn of the conversation: in the page, in the log and for the speech model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.test_stock_button import phrases
from tests.fakes.chat_server import FakeChat
from tests.fakes.chat_server import Reply as Answer
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import FunctionCall, Reply, Turn, UserText
from tests.support.conversation import Conversation, serving
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer
from tests.support.voice_ui import VoiceUi

pytestmark = pytest.mark.browser

RATE = 48_000
TASK = "Write hello into hello.txt."
SAVE = "I will.\n\n```save hello.txt\nhello\n```\n"


@dataclass
class Script:
    """What the speech model says next, and what the user is understood to say."""

    replies: list[Reply] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def reply(self, turn: Turn) -> Reply:
        return self.replies.pop(0) if self.replies else Reply(text="Yes.", seconds=1.0)

    def user(self, turn: Turn) -> UserText:
        return UserText(text=self.words.pop(0) if self.words else "Hello there.")


@dataclass
class Stage:
    """Everything a conversation needs."""

    script: Script
    fake: FakeOpenAI
    chat: FakeChat
    server: GptmeServer

    def told(self) -> list[str]:
        """Return what the speech model was told that nobody has spoken."""
        return [i.words for i in self.fake.sessions[-1].items if i.kind == "input_text"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    script = Script()
    with (
        FakeOpenAI(replies=script.reply, user_texts=script.user, speed=9).in_thread() as fake,
        FakeChat() as chat,
        serving(
            tmp_path_factory.mktemp("server"),
            chat,
            # Sound that a busy browser leaves out is not the end of a turn.
            plugin=f'backend = "openai"\nopenai_base_url = "{fake.url}"\nsilence_ms = 1500\n',
            env={"OPENAI_API_KEY": "test"},
        ) as server,
    ):
        yield Stage(script, fake, chat, server)


@pytest.fixture(autouse=True)
def _clean(stage: Stage) -> Iterator[None]:
    stage.script.replies.clear()
    stage.script.words.clear()
    stage.chat.replies.clear()
    (stage.server.workspace / "hello.txt").unlink(missing_ok=True)
    yield
    assert not stage.fake.problems


def speak(ui: VoiceUi, pulse: PulseAudio, seconds: float = 1.5) -> None:
    """Say something."""
    with pulse.speaking(phrases(RATE, seconds)):
        ui.page.wait_for_timeout(int(seconds * 1000))


def call(name: str, **arguments: Any) -> FunctionCall:
    """Return a call of the speech model's."""
    return FunctionCall(name, json.dumps(arguments))


def shown(ui: VoiceUi, text: str) -> Locator:
    """Return a message of the page that has this text: no caption, and no title."""
    return ui.page.locator(".role-user, .role-assistant").get_by_text(text, exact=False).first


def assert_above(ui: VoiceUi, what: Locator) -> None:
    """The strip does not lie over it."""

    def above() -> bool:
        box, strip = what.bounding_box(), ui.strip.bounding_box()
        return bool(box and strip and box["y"] + box["height"] <= strip["y"])

    # The strip grows with its captions, and the page follows.
    ui.wait_until(above, 10, "nothing lies behind the strip")


def here(ui: VoiceUi, stage: Stage) -> Conversation:
    """Return the conversation that the page shows."""
    ui.wait_until(lambda: "/chat/chat-" in ui.page.url, 15, "the page goes to a conversation")
    found = re.search(r"/chat/(chat-[^?#/]+)", ui.page.url)
    assert found
    return Conversation(stage.server, found[1])


def test_gptme_works_for_the_voice(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path
) -> None:
    """From the welcome page: asked by voice, allowed in the page's own card, told by voice.

    The log on disk, the open page and what the speech model remembers agree.
    """
    stage.script.words += ["Write me a file, please.", "Is it done?"]
    stage.script.replies += [
        Reply(text="On it.", seconds=1.0, calls=(call("ask_gptme", task=TASK),)),
        Reply(text="I have asked gptme.", seconds=1.0),
        Reply(text="It needs your permission.", seconds=1.0),
        Reply(text="The file is written.", seconds=1.0),
        Reply(text="It is.", seconds=1.0),
    ]
    stage.chat.replies += [Answer(SAVE), Answer("I have written hello.txt.")]
    file = stage.server.workspace / "hello.txt"
    ui = VoiceUi(context, stage.server)
    ui.page.evaluate("window.same = true")
    ui.begin()
    speak(ui, pulse)
    talk = here(ui, stage)
    ui.page.screenshot(path=artifacts / "made.png")
    expect(ui.strip.get_by_text("asks for permission")).to_be_visible(timeout=20_000)
    ui.page.wait_for_timeout(1000)
    ui.page.screenshot(path=artifacts / "permission.png")
    assert not file.exists()
    card = ui.page.get_by_role("button", name="Execute").first
    assert_above(ui, card)
    card.click()
    ui.page.wait_for_timeout(1500)
    ui.page.screenshot(path=artifacts / "allowed.png")
    ui.wait_until(file.exists, 15, "gptme writes the file")
    expect(ui.captions.last).to_have_text("gptme: The file is written.", timeout=30_000)
    expect(ui.word).to_have_text("Listening", timeout=20_000)
    speak(ui, pulse)
    expect(ui.captions.last).to_have_text("gptme: It is.", timeout=30_000)
    expect(ui.word).to_have_text("Listening", timeout=20_000)
    ui.wait_until(lambda: ("assistant", "It is.") in talk.said(), 10, "all of it is written")
    expect(shown(ui, "It is.")).to_be_visible()
    ui.page.screenshot(path=artifacts / "done.png")
    assert ui.page.evaluate("window.same") is True, "the page was loaded anew"
    assert len(ui.wires) == 1, "the session was interrupted"

    log = [text for _, text in talk.said()]
    spoken = [
        "Write me a file, please.",
        "On it.",
        "I have asked gptme.",
        "It needs your permission.",
        "The file is written.",
        "Is it done?",
        "It is.",
    ]
    assert [text for text in log if text in spoken] == spoken
    remembered = [i.words for i in stage.fake.sessions[-1].items if i.kind.endswith("audio")]
    assert remembered == spoken
    page = [m["content"] for m in talk.shown() if m["content"] in spoken]
    assert page == spoken
    ui.page.reload()
    expect(shown(ui, "It is.")).to_be_visible(timeout=20_000)
    assert not ui.errors


@pytest.mark.any_gptme
def test_two_pages_and_what_is_typed(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path
) -> None:
    """Both pages show what is said at once; what is typed in one the voice knows, and tells of.

    Another voice session in the same conversation is refused, with a reason.
    """
    talk = Conversation(stage.server)
    talk.type("Hello.")
    stage.script.words += ["What is the number?"]
    stage.script.replies += [
        Reply(text="I do not know it.", seconds=1.0),
        Reply(text="gptme says forty two.", seconds=1.0),
    ]
    stage.chat.replies.append(Answer("It is 42, as everybody knows."))
    path = f"/chat/{talk.id}"
    one, two = (VoiceUi(context, stage.server, path=path) for _ in range(2))
    for ui in (one, two):
        expect(shown(ui, "Hello.")).to_be_visible(timeout=20_000)
    one.page.bring_to_front()
    one.begin()
    speak(one, pulse)
    for ui in (one, two):
        expect(shown(ui, "What is the number?")).to_be_visible(timeout=20_000)
        expect(shown(ui, "I do not know it.")).to_be_visible(timeout=20_000)
    two.page.get_by_test_id("chat-input").fill("Tell it the number.")
    two.page.keyboard.press("Enter")
    expect(one.captions.last).to_have_text("gptme: gptme says forty two.", timeout=30_000)
    for ui in (one, two):
        expect(shown(ui, "It is 42, as everybody knows.")).to_be_visible(timeout=20_000)
        expect(shown(ui, "gptme says forty two.")).to_be_visible(timeout=20_000)
    assert stage.told()[1] == "[typed] Tell it the number."
    two.button.first.click()
    expect(two.problem).to_contain_text("already running in this conversation", timeout=20_000)
    two.page.screenshot(path=artifacts / "refused.png")
    expect(one.word).to_have_text("Listening")
    one.end()
    one.wait_until(
        lambda: [text for _, text in talk.said()][-1] == "gptme says forty two.",
        10,
        "the last turn",
    )
    assert [text for _, text in talk.said()] == [
        "Hello.",
        "What is the number?",
        "I do not know it.",
        "Tell it the number.",
        "It is 42, as everybody knows.",
        "gptme says forty two.",
    ]


def test_an_interrupted_reply(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path
) -> None:
    """The message ends where the listener stopped it, and the rest is told apart from it."""
    words = "One two three four five six seven eight nine ten eleven twelve."
    talk = Conversation(stage.server)
    talk.type("Hello.")
    stage.script.words += ["Count, please.", "Stop."]
    stage.script.replies += [
        Reply(text=words, seconds=20.0),
        Reply(text="I have stopped.", seconds=1.0),
    ]
    ui = VoiceUi(
        context,
        stage.server,
        preferences={"echoCancellation": False, "noiseSuppression": False},
        path=f"/chat/{talk.id}",
    )
    expect(shown(ui, "Hello.")).to_be_visible(timeout=20_000)
    ui.begin()
    speak(ui, pulse)
    expect(ui.word).to_have_text("Speaking", timeout=20_000)
    ui.wait_until(lambda: ui.wire.played() > 4 * 24_000, 30, "four seconds of it are heard")
    speak(ui, pulse)
    expect(shown(ui, "I have stopped.")).to_be_visible(timeout=30_000)
    ui.page.screenshot(path=artifacts / "interrupted.png")
    ui.end()
    ui.wait_until(lambda: len(talk.said()) == 5, 10, "all turns are written")
    written = dict(enumerate(text for _, text in talk.said()))
    heard, mark, rest = written[2].partition(" \u2014 *interrupted*\n\n> Not heard: ")
    assert mark and f"{heard} {rest}" == words
    assert 1 < len(heard.split()) < 11
    caption = next(c for c in ui.wires[-1].of("transcript") if c["text"] == heard and c["final"])
    assert caption["role"] == "assistant", "the caption says the same"
    cut = next(i for i in stage.fake.sessions[-1].items if i.truncated_ms is not None)
    assert abs(cut.truncated_ms / 20_000 - len(heard) / len(words)) < 0.15
    unheard = ui.page.locator("blockquote").filter(has_text="Not heard:").first
    expect(unheard).to_be_visible()
    expect(unheard).to_have_css("opacity", "0.6")
