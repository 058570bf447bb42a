"""Whole turns by voice through our own button, against a fake of OpenAI, wherever the page is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts, phrases, silent_for
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply, UserText
from tests.support.hearing import Match, compare
from tests.support.pulse import PulseAudio, write_wav
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import resampled
from tests.support.voice_ui import VoiceUi, warm_up

pytestmark = pytest.mark.browser

RATE = 48_000
QUESTION = "Which way is north?"
ANSWER = "North is where the needle points, and it has always been there."
PLAIN = {"echoCancellation": False, "noiseSuppression": False}
"""The browser leaves what the microphone hears as it is; gain control stays on."""


@dataclass
class Stage:
    """Everything a conversation needs."""

    fake: FakeOpenAI
    server: GptmeServer
    pulse: PulseAudio


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    reply = Reply(text=ANSWER, seconds=4.0)
    with (
        FakeOpenAI(
            replies=lambda turn: reply,
            user_texts=lambda turn: UserText(text=QUESTION),
            speed=9,
        ).in_thread() as fake,
        GptmeServer(
            tmp_path_factory.mktemp("server"),
            config=f'backend = "openai"\nopenai_base_url = "{fake.url}"',
            env={"OPENAI_API_KEY": "test"},
        ) as server,
        PulseAudio(RATE) as pulse,
    ):
        for name in ("first", "second"):
            made = httpx.put(
                f"{server.url}/api/v2/conversations/{name}",
                json={"messages": [{"role": "user", "content": f"This is the {name} one."}]},
                headers=server.auth,
            )
            made.raise_for_status()
        warm_up(server)
        yield Stage(fake, server, pulse)


@pytest.fixture(scope="module")
def pulse(stage: Stage) -> PulseAudio:
    return stage.pulse


def turn(ui: VoiceUi, stage: Stage, artifacts: Path) -> tuple[Match, Match]:
    """Ask and be answered; return how well the question and the answer came through.

    Nobody can answer what did not come through: that may go without an answer.
    """
    question = phrases(RATE, 2.0)
    before = len(stage.fake.sessions[-1].heard)

    def asked() -> Match:
        heard = stage.fake.sessions[-1].heard[before:]
        write_wav(artifacts / "asked.wav", heard, 24_000)
        return compare(resampled(question, RATE, 24_000), heard, 24_000)

    with stage.pulse.record("spk") as speakers:
        with stage.pulse.speaking(question):
            ui.page.wait_for_timeout(2000)
        try:
            expect(ui.word).to_have_text("Speaking", timeout=20_000)
            ui.page.screenshot(path=artifacts / "speaking.png")
            ui.wait_until(lambda: not silent_for(speakers, 30), 20, "an answer")
            expect(ui.word).to_have_text("Listening", timeout=20_000)
            ui.wait_until(lambda: silent_for(speakers, 0.5), 10, "silence after it")
        except AssertionError:
            if asked().good:
                raise
        heard = speakers.samples()
    ui.page.screenshot(path=artifacts / "answered.png")
    write_wav(artifacts / "speakers.wav", heard, RATE)
    answer = Reply(seconds=4.0).samples(24_000)
    return asked(), compare(resampled(answer, 24_000, RATE), heard, RATE)


def lost(ui: VoiceUi) -> int:
    """Return how many frames the strip says are lost, in all of the session."""
    text = ui.strip.locator(".gptme-voice-lost").text_content() or "0"
    return int(text.split()[0])


def good_turn(ui: VoiceUi, stage: Stage, artifacts: Path) -> None:
    """Ask and be answered; sound that the browser itself loses is tried again."""
    for attempt in attempts():
        earlier, before = ui.captions.all_text_contents(), lost(ui)
        asked, answered = turn(ui, stage, artifacts)
        frames = lost(ui) - before
        print(f"attempt {attempt}: asked {asked}; answered {answered}; lost {frames}")
        if asked.good:
            # With a hole in it, it is two questions.
            expect(ui.captions).to_have_text([*earlier, f"You: {QUESTION}", f"gptme: {ANSWER}"])
            if answered.good and not frames:
                break
        else:
            # What came of it as another question is over before the next.
            ui.page.wait_for_timeout(3000)
            expect(ui.word).to_have_text("Listening")
    assert asked.good, f"what was asked: {asked}"
    assert answered.good, f"what was answered: {answered}"
    assert not frames, "it counts losses"
    assert not stage.fake.problems
    assert not ui.errors


def assert_inside(ui: VoiceUi) -> None:
    """No control hangs over the strip's edge, also where there is little room."""
    # In one look: the strip moves when the page goes to another conversation.
    outside = ui.strip.evaluate("""(strip) => {
      const { left, right } = strip.getBoundingClientRect();
      return [...strip.querySelectorAll('button')]
        .filter((button) => button.checkVisibility())
        .filter((button) => {
          const box = button.getBoundingClientRect();
          return box.left < left || box.right > right;
        })
        .map((button) => button.outerHTML);
    }""")
    assert outside == []


PAGES = {
    "welcome": "/",
    "conversation": "/chat/first",
    "split": "/chat/first?split=first,second",
}


@pytest.mark.parametrize(
    ("page", "scheme"),
    [
        ("welcome", "light"),
        ("conversation", "dark"),
        pytest.param("split", "light", marks=pytest.mark.soak),
        pytest.param("welcome", "dark", marks=pytest.mark.soak),
        pytest.param("conversation", "light", marks=pytest.mark.soak),
        pytest.param("split", "dark", marks=pytest.mark.soak),
    ],
)
def test_a_turn(
    stage: Stage, context: BrowserContext, artifacts: Path, page: str, scheme: str
) -> None:
    """One click, a question, an answer: heard, captioned, whole."""
    theme = f"localStorage.setItem('theme', '{scheme}');"
    ui = VoiceUi(context, stage.server, PLAIN, PAGES[page], theme)
    expect(ui.button).to_have_count(2 if page == "split" else 1)
    ui.page.screenshot(path=artifacts / "before.png")
    ui.begin()
    good_turn(ui, stage, artifacts)
    assert_inside(ui)
    hello = ui.wire.sent_messages[0]
    assert hello.get("conversation_id") == (None if page == "welcome" else "first")
    ui.end()
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    assert wait_until(lambda: stage.server.status()["voice_process"]["sessions"] == 0)


def test_a_turn_on_a_phone(stage: Stage, context: BrowserContext, artifacts: Path) -> None:
    """The strip fits a phone, and nothing of it hangs over the edge."""
    ui = VoiceUi(context, stage.server, PLAIN, "/chat/first")
    ui.page.set_viewport_size({"width": 390, "height": 844})
    ui.begin()
    good_turn(ui, stage, artifacts)
    strip = ui.strip.bounding_box()
    assert strip is not None
    assert strip["x"] >= 0
    assert strip["x"] + strip["width"] <= 390
    assert_inside(ui)
    ui.end()


def test_a_turn_after_switching_conversations(
    stage: Stage, context: BrowserContext, artifacts: Path
) -> None:
    """The session goes on with the conversation it was started in, on every page, and says so."""
    ui = VoiceUi(context, stage.server, PLAIN, "/chat/first")
    ui.begin()
    place = ui.strip.get_by_text("Voice goes on in")
    expect(place).to_be_hidden()
    for path in ("/tasks", "/chat/second"):
        ui.go(path)
        expect(place).to_be_visible()
        expect(ui.word).to_have_text("Listening")
        ui.page.wait_for_timeout(300)
        expect(place).to_be_visible()
        ui.page.screenshot(path=artifacts / f"{path.rpartition('/')[2]}.png")
    good_turn(ui, stage, artifacts)
    assert len(ui.wires) == 1
    ui.strip.get_by_role("link", name="first").click()
    expect(place).to_be_hidden()
    expect(ui.page).to_have_url(re.compile(r"/chat/first(\?|$)"))
    expect(ui.button).to_have_attribute("aria-label", "Voice: listening. End voice")
    ui.end()
