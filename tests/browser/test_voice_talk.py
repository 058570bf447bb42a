"""What a session does while it runs: barge-in, clocks, errors of the provider, accessibility."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts, phrases, silent_for
from tests.browser.test_voice_lifecycle import GATES
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply, UserText
from tests.support.hearing import LOUD, levels
from tests.support.ports import free_port
from tests.support.pulse import PulseAudio, write_wav
from tests.support.server import GptmeServer
from tests.support.voice_ui import VoiceUi

pytestmark = pytest.mark.browser

RATE = 48_000
PLAIN = {"echoCancellation": False, "noiseSuppression": False}
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


class SpeakingServer(GptmeServer):
    """A server whose provider is there while a test says so."""

    def __init__(self, folder: Path) -> None:
        self._provider_port = free_port()
        super().__init__(
            folder,
            config='backend = "openai"\n'
            f'openai_base_url = "http://127.0.0.1:{self._provider_port}/v1"\n'
            # Sound that a busy browser leaves out is not the end of a turn.
            "silence_ms = 1500",
            env={"OPENAI_API_KEY": "test"},
        )

    def provider(self, **options: Any) -> AbstractContextManager[FakeOpenAI]:
        return FakeOpenAI(port=self._provider_port, **options).in_thread()


@pytest.fixture(scope="module")
def speaking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeakingServer]:
    with SpeakingServer(tmp_path_factory.mktemp("speaking")) as running:
        yield running


def ask(ui: VoiceUi, pulse: PulseAudio) -> None:
    with pulse.speaking(phrases(RATE, 1.5)):
        expect(ui.word).to_have_text("Speaking")


# When the page learned that a voice is there, and all that its graph has played since, by the
# clock of the graph: what a sound card adds is not the page's.
_WATCH_SILENCE = """async () => {
  const script = document.querySelector('script[src*="/gptme-voice-plugin/"]').src;
  const { speakerNode } = await import(new URL('audio-context.js', script));
  const context = held.contexts[0];
  const worklet = `registerProcessor('tap', class extends AudioWorkletProcessor {
    process([[samples]]) {
      if (samples) this.port.postMessage([currentTime, Math.max(...samples.map(Math.abs))]);
      return true;
    }
  })`;
  await context.audioWorklet.addModule(
    URL.createObjectURL(new Blob([worklet], { type: 'text/javascript' })));
  const tap = new AudioWorkletNode(context, 'tap', { channelCount: 1 });
  window.played = [];
  tap.port.onmessage = ({ data }) => played.push(data);
  speakerNode(context).connect(tap).connect(context.destination);
  window.stamps = [];
  held.sockets.at(-1).addEventListener('message', ({ data }) => {
    if (typeof data === 'string' && JSON.parse(data).type === 'speech_started')
      stamps.push(context.currentTime);
  });
}"""


def test_barge_in_is_silent_within_a_blink(
    context: BrowserContext, pulse: PulseAudio, speaking_server: SpeakingServer, artifacts: Path
) -> None:
    """The page is silent within 100 ms of the server's word that a voice is there.

    The reply has been made long before: the page holds all of it, and drops it.
    """
    for attempt in attempts():
        measured = barge_in(context, pulse, speaking_server, artifacts / f"{attempt}-speakers.wav")
        if measured is None:
            print("more than one interruption")
            continue
        silent, told, heard = measured
        print(f"silent {silent:.3f} s after speech_started, told {told}, heard {heard:.3f} s")
        if silent <= 0.1 and abs(told - heard) <= 0.1:
            break
    assert measured is not None, "one voice interrupts once"
    assert silent <= 0.1
    assert told == pytest.approx(heard, abs=0.1)


def barge_in(
    context: BrowserContext, pulse: PulseAudio, speaking_server: SpeakingServer, path: Path
) -> tuple[float, float, float] | None:
    """Interrupt a reply; return how long it went on, and what was told and heard of it, in s.

    None if there was not one interruption: what is said with a hole in it interrupts twice.
    """
    reply = Reply(seconds=12.0)
    with (
        speaking_server.provider(replies=lambda turn: reply, speed=9) as fake,
        pulse.record("spk") as speakers,
    ):
        ui = VoiceUi(context, speaking_server, PLAIN)
        ui.begin()
        ask(ui, pulse)
        ui.page.evaluate(_WATCH_SILENCE)
        ui.page.wait_for_timeout(3000)
        with pulse.speaking(phrases(RATE, 1.0, seed=2)):
            ui.wait_until(lambda: bool(ui.wire.of("clear")), 20, "the voice interrupts")
            ui.page.wait_for_timeout(600)
            cut_off = speakers.samples()
        ui.wait_until(
            lambda: bool(fake.of("conversation.item.truncate")), 20, "the provider is told"
        )
        stamps, played = ui.page.evaluate("[stamps, played]")
        ui.end()
        ui.page.close()
    write_wav(path, cut_off, RATE)
    cuts = [event["audio_end_ms"] / 1000 for event in fake.of("conversation.item.truncate")]
    assert not fake.problems
    if len(stamps) != 1 or len(cuts) != 1:
        return None
    times, peaks = np.array(played).T
    assert peaks[times < stamps[0]][-300:].max() > 0.05, "it was speaking until then"
    sounding = times[(times > stamps[0]) & (times < stamps[0] + 0.5) & (peaks > 0)]
    # The provider is told what was heard, as the speakers tell it.
    heard = np.flatnonzero(np.abs(cut_off.astype(int)) > 600) / RATE
    return sounding[-1] - stamps[0] if sounding.size else 0.0, cuts[0], heard[-1] - heard[0]


def test_it_goes_on_without_timers(
    context: BrowserContext, pulse: PulseAudio, speaking_server: SpeakingServer
) -> None:
    """A browser slows down the timers of a tab in the background; here they stand still."""
    for attempt in attempts():
        spoken = spoken_without_timers(context, pulse, speaking_server)
        print(f"attempt {attempt}: {spoken:.2f} s")
        if abs(spoken - 3.0) <= 0.2:
            break
    assert spoken == pytest.approx(3.0, abs=0.2)


def spoken_without_timers(
    context: BrowserContext, pulse: PulseAudio, speaking_server: SpeakingServer
) -> float:
    """Have a reply of three seconds spoken; return how long the speakers spoke."""
    reply = Reply(seconds=3.0)
    with (
        speaking_server.provider(replies=lambda turn: reply, speed=9),
        pulse.record("spk") as speakers,
    ):
        ui = VoiceUi(context, speaking_server, PLAIN)
        ui.begin()
        ui.page.evaluate("""() => {
          window.requestAnimationFrame = () => 1;
          window.setTimeout = window.setInterval = () => 1;
        }""")
        with pulse.speaking(phrases(RATE, 1.5)):
            time.sleep(1.5)
        ui.wait_until(lambda: ui.wire.received().size >= 3 * 24_000, 20, "a reply comes")
        expect(ui.word).to_have_text("Listening", timeout=20_000)
        ui.wait_until(lambda: silent_for(speakers, 0.5), 20, "the speakers have said it")
        spoken = np.flatnonzero(levels(speakers.samples(), RATE) > LOUD) * 0.05
        all_played = {"type": "played", "samples": 3 * 24_000}
        ui.wait_until(
            lambda: all_played in ui.wire.sent_messages, 20, "it tells that it played all"
        )
        ui.page.close()
    return float(spoken[-1] - spoken[0])


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ({"api_key": "another"}, "key_refused", "OPENAI_API_KEY"),
        ({"models": ("none-of-ours",)}, "model_unknown", "model"),
    ],
)
def test_what_the_provider_refuses_is_shown(
    context: BrowserContext,
    speaking_server: SpeakingServer,
    options: dict[str, Any],
    code: str,
    sentence: str,
) -> None:
    """Errors that end a session are read in the page, with the way to mend them."""
    with speaking_server.provider(**options):
        ui = VoiceUi(context, speaking_server)
        ui.button.click()
        expect(ui.problem).to_have_attribute("data-code", code, timeout=15_000)
        expect(ui.problem).to_contain_text(sentence)
        expect(ui.problem.get_by_role("button")).to_contain_text("settings")
        ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
        assert not ui.errors


def test_a_provider_that_is_gone_is_shown(
    context: BrowserContext, speaking_server: SpeakingServer
) -> None:
    ui = VoiceUi(context, speaking_server)
    ui.button.click()
    expect(ui.problem).to_have_attribute("data-code", "provider_unreachable", timeout=30_000)
    expect(ui.word).to_have_text("Ended")


def test_captions_are_text(
    context: BrowserContext, pulse: PulseAudio, speaking_server: SpeakingServer
) -> None:
    """Whatever a model or a microphone says: it is never HTML."""
    with speaking_server.provider(
        replies=lambda turn: Reply(text=HOSTILE, seconds=2.0),
        user_texts=lambda turn: UserText(text=HOSTILE),
    ):
        ui = VoiceUi(context, speaking_server, PLAIN)
        ui.begin()
        ask(ui, pulse)
        expect(ui.captions).to_have_text([f"You: {HOSTILE}", f"gptme: {HOSTILE}"], timeout=20_000)
        assert ui.strip.locator("img").count() == 0
        assert ui.page.title() != "owned"
        ui.end()


def serious(ui: VoiceUi, selector: str) -> list[str]:
    """Return what axe-core finds serious in our part of the page."""
    ui.page.evaluate(AXE.read_text())
    result = ui.page.evaluate("(selector) => axe.run(selector)", selector)
    return [
        f"{found['id']}: {found['help']}: {found['nodes'][0]['html'][:200]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(
    context: BrowserContext,
    pulse: PulseAudio,
    speaking_server: SpeakingServer,
    artifacts: Path,
    scheme: str,
) -> None:
    """axe-core finds nothing serious in button, strip and settings, whatever they show."""
    theme = f"localStorage.setItem('theme', '{scheme}');"
    strip, button = "[data-testid=gptme-voice-strip]", "[data-testid=gptme-voice-button]"
    with speaking_server.provider(reply_seconds=6.0):
        ui = VoiceUi(context, speaking_server, PLAIN, scripts=theme)
        expect(ui.button).to_be_visible()
        assert not serious(ui, button)
        ui.begin()
        ui.control("Microphone and speaker").click()
        ask(ui, pulse)
        ui.page.screenshot(path=artifacts / "menu.png")
        assert not serious(ui, strip)
        assert not serious(ui, button)
        live = ui.strip.get_by_role("log")
        assert live.get_attribute("aria-live") == "polite"
        expect(live).to_contain_text("gptme: ", timeout=20_000)
        assert ui.word.get_attribute("role") == "status"
        ui.end()
        ui.open_audio_settings()
        expect(ui.settings.get_by_label("Backend")).to_be_visible()
        assert not serious(ui, "[data-testid=gptme-voice-settings]")
        ui.close_settings()
    # The provider is gone.
    ui.button.click()
    expect(ui.problem).to_be_visible(timeout=30_000)
    ui.page.screenshot(path=artifacts / "problem.png")
    assert not serious(ui, strip)


def test_motion_is_reduced(context: BrowserContext, server: GptmeServer) -> None:
    """Where something moves, which it does while it connects, nothing does."""
    ui = VoiceUi(context, server, scripts=GATES)
    ui.page.evaluate("gates.ready.held = true")
    ui.button.click()
    ui.page.wait_for_function("gates.ready.waiting.length > 0")
    expect(ui.word).to_have_text("Connecting")
    moving = """() => [...document.querySelectorAll('[class*=gptme-voice]')]
      .filter((e) => getComputedStyle(e).animationName !== 'none').length"""
    ui.page.emulate_media(reduced_motion="no-preference")
    ui.page.wait_for_function(f"({moving})() > 0")
    ui.page.emulate_media(reduced_motion="reduce")
    ui.page.wait_for_function(f"({moving})() === 0")
    ui.page.evaluate("gates.ready.release()")
    expect(ui.word).to_have_text("Listening")
    assert ui.page.evaluate(moving) == 0
    ui.end()


def test_the_screen_stays_awake(context: BrowserContext, server: GptmeServer) -> None:
    """While a session runs, and not longer."""
    lock = """window.locks = [];
    Object.defineProperty(navigator, 'wakeLock', { value: { request: async () => {
      const lock = { released: false, release: async () => { lock.released = true; } };
      locks.push(lock);
      return lock;
    } } });"""
    held = "locks.filter((lock) => !lock.released).length"
    ui = VoiceUi(context, server, scripts=lock)
    assert ui.page.evaluate(held) == 0
    ui.begin()
    ui.page.wait_for_function(f"{held} === 1")
    # The browser takes it when the page is hidden; it is taken again when it is shown.
    ui.page.evaluate("locks[0].released = true")
    ui.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    ui.page.wait_for_function(f"{held} === 1")
    ui.end()
    ui.page.wait_for_function(f"{held} === 0")
