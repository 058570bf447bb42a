"""A spoken conversation with no key and no cloud: real voice in, real voice out, in a real browser.

Ear and mouth are the local backend's own models; gptme is real, and only the model behind it is a
fake. What comes out of the loudspeakers is understood by speech to text again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts
from tests.fakes.chat_server import FakeChat, Reply
from tests.support.conversation import Conversation, serving
from tests.support.hearing import LOUD, WINDOW, Match, compare, levels, loud_stretches
from tests.support.pulse import PulseAudio, Recorder, write_wav
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import Samples, resampled, silence
from tests.support.talking import Talker, finals
from tests.support.voice_ui import VoiceUi, warm_up
from tests.support.voices import said, understood
from tests.support.word_errors import word_errors

pytestmark = pytest.mark.browser

RATE = 48_000
QUESTION = "What is the capital of France?"
ANSWER = "It is **Paris**, the largest city of the country.\n\n```sh\necho Paris\n```\n"
SPOKEN = "It is Paris, the largest city of the country. I put the code in the chat."
LONG = "There is a lot to say about this city. " + " ".join(
    f"This is fact number {n}, and there are many more." for n in range(1, 15)
)


@dataclass
class Stage:
    """Everything a conversation needs."""

    chat: FakeChat
    server: GptmeServer


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        FakeChat() as chat,
        serving(
            tmp_path_factory.mktemp("server"),
            chat,
            # Sound that a busy browser leaves out is not the end of a turn.
            plugin='backend = "local"\nsilence_ms = 1500\n',
        ) as server,
    ):
        warm_up(server)
        yield Stage(chat, server)


def first_exchange(
    ui: VoiceUi, stage: Stage, pulse: PulseAudio, speakers: Recorder, artifacts: Path
) -> Conversation:
    """Ask, and hear the answer; return the conversation that was made."""
    pulse.speak(said(QUESTION, RATE))
    expect(ui.word).to_have_text("Speaking", timeout=60_000)
    ui.page.screenshot(path=artifacts / "answer.png")
    expect(ui.word).to_have_text("Listening", timeout=60_000)
    ui.page.wait_for_timeout(500)
    heard = understood(write_and_take(artifacts / "answer.wav", speakers.samples()), RATE)
    # The server's own voice draws lots: now and then, one word is hard to make out.
    assert word_errors(SPOKEN, heard).errors <= 2, heard
    expect(ui.captions.last).to_contain_text("I put the code in the chat.")
    ui.wait_until(lambda: "/chat/chat-" in ui.page.url, 20, "the page goes to a conversation")
    found = re.search(r"/chat/(chat-[^?#/]+)", ui.page.url)
    assert found
    talk = Conversation(stage.server, found[1])
    ui.wait_until(lambda: len(talk.said()) == 2, 20, "question and answer are written")
    ((_, question), answer) = talk.said()
    assert "capital" in question and answer == ("assistant", ANSWER)
    expect(ui.page.get_by_text("the largest city of the country").first).to_be_visible()
    return talk


def undamaged(ui: VoiceUi, heard: Samples) -> bool:
    """Whether the page got the question, and the loudspeakers played what the server sent."""
    (ready,) = ui.wire.of("ready")
    rate, sent = ready["input_sample_rate"], ui.wire.sent()
    asked = all_in(resampled(said(QUESTION, RATE), RATE, rate), sent, rate)
    if not asked or not ui.wire.received().size:
        return asked
    return all_in(resampled(ui.wire.received(), ready["output_sample_rate"], RATE), heard, RATE)


def all_in(speech: Samples, heard: Samples, rate: int) -> bool:
    """Whether all that sounds in `speech` is in `heard`; of its pauses nothing can be told."""
    for begin, end in loud_stretches(speech, rate):
        part = speech[round(begin * rate) : round(end * rate)]
        if part.size < WINDOW * rate or levels(part, rate).max() <= 3 * LOUD:
            continue
        match = compare(part, heard, rate)
        # The browser's gain control may make one end of it louder than the other.
        if min(match.windows) < 0.9 or match.quietest < 0.1:
            return False
    return True


@pytest.mark.timeout(600)
def test_a_spoken_conversation(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path
) -> None:
    """Asked, answered, interrupted, asked again; log, page and loudspeakers agree."""
    for attempt in attempts():
        stage.chat.replies.clear()
        stage.chat.replies += [Reply(ANSWER), Reply(LONG), Reply("Fine, I stop.")]
        ui = VoiceUi(context, stage.server, {"echoCancellation": False, "noiseSuppression": False})
        ui.begin()
        with pulse.record("spk") as speakers:
            try:
                talk = first_exchange(ui, stage, pulse, speakers, artifacts)
                break
            except AssertionError as error:
                if undamaged(ui, speakers.samples()):
                    raise
                print(f"attempt {attempt}: the browser lost sound, and so: {error}")
        ui.page.close()
        assert wait_until(lambda: stage.server.status()["voice_process"]["sessions"] == 0)
    else:
        pytest.fail("the browser loses sound each time")

    pulse.speak(said("Please tell me more about it.", RATE))
    expect(ui.word).to_have_text("Speaking", timeout=60_000)
    ui.page.wait_for_timeout(4000)
    with pulse.speaking(said("Stop, please. That is enough for now.", RATE)):
        ui.wait_until(lambda: bool(ui.wire.of("clear")), 20, "the voice interrupts")
    expect(ui.captions.last).to_have_text("gptme: Fine, I stop.", timeout=60_000)
    expect(ui.word).to_have_text("Listening", timeout=60_000)
    ui.wait_until(lambda: len(talk.said()) == 6, 20, "all of it is written")
    cut = talk.said()[3][1]
    part, _, rest = cut.partition("*interrupted*")
    assert part.startswith("There is a lot to say about this city.") and "number 14" in rest
    ui.page.screenshot(path=artifacts / "interrupted.png")
    assert [role for role, _ in talk.said()] == ["user", "assistant"] * 3
    assert talk.said()[5][1] == "Fine, I stop."
    ui.end()
    assert not ui.errors


def write_and_take(path: Path, samples: Samples) -> Samples:
    """Keep what was heard, and return it."""
    write_wav(path, samples, RATE)
    return samples


def test_a_reply_goes_on_while_another_session_is_busy(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path
) -> None:
    """One speaks; another is heard and answered on the same machine. What is heard has no gap."""
    for attempt in attempts():
        match = heard_beside_another(context, stage, pulse, artifacts / f"{attempt}-together.wav")
        if match.good:
            break
    assert match.good


def heard_beside_another(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, path: Path
) -> Match:
    """Have a reply heard while another session is answered; compare it with what was sent."""
    stage.chat.replies.clear()
    stage.chat.replies.append(Reply(LONG))
    ui = VoiceUi(context, stage.server, {"echoCancellation": False, "noiseSuppression": False})
    ui.begin()
    with pulse.record("spk") as speakers:
        pulse.speak(said("Please tell me more about it.", RATE))
        expect(ui.word).to_have_text("Speaking", timeout=60_000)
        with ThreadPoolExecutor() as pool:
            other = pool.submit(asyncio.run, _another(stage.server))
            ui.wait_until(other.done, 60, "the other session is answered")
        assert "France" in other.result()
        expect(ui.word).to_have_text("Speaking")
        # All that was heard until the other was answered is compared, and a second more.
        enough = speakers.samples().size + RATE
        ui.wait_until(lambda: speakers.samples().size > enough + RATE, 10, "it goes on")
        heard = write_and_take(path, speakers.samples())
        sent = ui.wire.received()
    ui.end()
    ui.page.close()
    (ready,) = ui.wire.of("ready")
    spoken = resampled(sent, ready["output_sample_rate"], RATE)
    begin = int(np.flatnonzero(np.abs(heard.astype(int)) > 300)[0])
    match = compare(spoken[: enough - begin], heard[begin - RATE // 10 :], RATE)
    print(f"{(enough - begin) / RATE:.1f} s: {match}")
    return match


async def _another(server: GptmeServer) -> str:
    """Ask something in another session; return what was understood."""
    hello = {"input_sample_rates": [16_000]}
    async with Talker(server.ws_url, server.auth, hello=hello) as client:
        await client.until(lambda c: c.ready.is_set(), 60)
        for samples in (said(QUESTION), silence(16_000, 2.5)):
            await client.speak(samples)
        await client.until(lambda _: finals(client), 60)
        return finals(client, "user")[0]
