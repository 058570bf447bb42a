"""What a person sees while they wait: for a server that prepares, and for other conversations."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import phrases
from tests.browser.test_voice_talk import serious
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer, wait_until
from tests.support.voice_ui import VoiceUi, warm_up

pytestmark = [pytest.mark.browser, pytest.mark.any_gptme]

RATE = 48_000
STRIP = "[data-testid=gptme-voice-strip]"
WAITING = "Other conversations are answered first; yours follows."

# A gptme-server whose echo backend takes its time: as long as a file says what it does, and how
# much of it is done. With nothing of the local backend installed.
SLOW = """
import asyncio, os
from pathlib import Path
from gptme_voice_plugin import backends
from gptme_voice_plugin.backends import base, echo

prepares, queued = (Path(os.environ["WAITS"]) / name for name in ("prepares", "queued"))

async def open(self):
    while True:
        try:
            what, _, share = prepares.read_text().partition("|")
        except FileNotFoundError:
            break
        if what:
            self.on_preparing(base.Preparing(what, float(share) if share else None))
        await asyncio.sleep(0.05)

async def speak(self, *args, original=echo.EchoBackend._speak):
    if queued.exists():
        self._emit(base.Queued(True))
        while queued.exists():
            await asyncio.sleep(0.05)
        self._emit(base.Queued(False))
    await original(self, *args)

backends._local_installed = lambda settings: False
echo.EchoBackend.open, echo.EchoBackend._speak = open, speak
from gptme.server.cli import main
main()
"""


@dataclass
class Stage:
    """A server, and what it waits for."""

    server: GptmeServer
    folder: Path

    def waits(self, name: str, text: str = "") -> None:
        """Have it wait."""
        part = self.folder / f"{name}.part"
        part.write_text(text)
        part.rename(self.folder / name)

    def goes_on(self, name: str) -> None:
        """Have it go on."""
        (self.folder / name).unlink()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("waits")
    with GptmeServer(
        tmp_path_factory.mktemp("server"),
        command=[sys.executable, "-c", SLOW],
        # In that process, not in one of its own.
        config='isolation = "thread"',
        env={"WAITS": str(folder)},
    ) as server:
        yield Stage(server, folder)


@pytest.fixture(autouse=True)
def _nothing_waits(stage: Stage) -> Iterator[None]:
    yield
    for name in ("prepares", "queued"):
        (stage.folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.soak), "dark"])
def test_all_that_is_waited_for(
    context: BrowserContext, stage: Stage, pulse: PulseAudio, artifacts: Path, scheme: str
) -> None:
    """What is prepared, and how far it is; what is to be known; and whose turn it is."""
    ui = VoiceUi(context, stage.server, scripts=f"localStorage.setItem('theme', '{scheme}');")
    bar = ui.strip.get_by_role("progressbar", name="Fetching the speech model base…")
    hint = ui.strip.locator(".gptme-voice-hint")

    stage.waits("prepares", "Fetching the speech model base|0.345")
    ui.button.click()
    expect(ui.word).to_have_text("Preparing", timeout=20_000)
    expect(bar).to_have_attribute("value", "34")
    expect(ui.strip.locator(".gptme-voice-preparing")).to_contain_text("34 %")
    ui.page.screenshot(path=artifacts / "preparing.png")
    assert not serious(ui, STRIP)
    stage.waits("prepares", "Loading <b>it</b>")
    unknown = ui.strip.get_by_role("progressbar", name="Loading <b>it</b>…")
    expect(unknown).to_be_visible()
    assert unknown.get_attribute("value") is None
    expect(ui.word).to_have_text("Preparing")
    ui.page.screenshot(path=artifacts / "not-known.png")

    stage.goes_on("prepares")
    expect(ui.word).to_have_text("Listening")
    expect(unknown).to_have_count(0)
    expect(hint).to_contain_text("install gptme-voice-plugin[local] or set an API key")
    ui.page.screenshot(path=artifacts / "hint.png")
    assert not serious(ui, STRIP)

    stage.waits("queued")
    with pulse.speaking(phrases(RATE, 2.0)):
        expect(ui.word).to_have_text("Waiting", timeout=20_000)
    expect(ui.strip).to_contain_text(WAITING)
    expect(ui.control("Stop the reply")).to_be_visible()
    ui.page.screenshot(path=artifacts / "waiting.png")
    assert not serious(ui, STRIP)
    stage.goes_on("queued")
    expect(ui.word).to_have_text("Speaking")
    expect(ui.strip).not_to_contain_text(WAITING)

    ui.control("Dismiss").click()
    expect(hint).to_be_hidden()
    ui.end()
    ui.begin()
    expect(hint).to_be_hidden()
    ui.end()
    assert not ui.errors


def test_a_narrow_strip(context: BrowserContext, stage: Stage, artifacts: Path) -> None:
    """On a phone it has room, for long names too."""
    ui = VoiceUi(context, stage.server)
    ui.page.set_viewport_size({"width": 360, "height": 700})
    what = f"Fetching the speech model {'x' * 60}"
    stage.waits("prepares", f"{what}|1")
    ui.button.click()
    expect(ui.strip.get_by_role("progressbar", name=what)).to_be_visible(timeout=20_000)
    ui.page.screenshot(path=artifacts / "preparing.png")
    fits = "(strip) => strip.scrollWidth <= strip.clientWidth"
    assert ui.strip.evaluate(fits)
    stage.goes_on("prepares")
    expect(ui.word).to_have_text("Listening")
    ui.page.screenshot(path=artifacts / "hint.png")
    assert ui.strip.evaluate(fits)
    ui.end()


def test_a_server_that_prepares_for_longer_than_one_may_be_silent(
    context: BrowserContext, stage: Stage
) -> None:
    """The page's own ten seconds do not count while it is told what goes on."""
    ui = VoiceUi(context, stage.server)
    stage.waits("prepares", "Fetching the speech model base|0.5")
    ui.button.click()
    expect(ui.word).to_have_text("Preparing", timeout=20_000)
    ui.page.wait_for_timeout(12_000)
    expect(ui.word).to_have_text("Preparing")
    stage.goes_on("prepares")
    expect(ui.word).to_have_text("Listening")
    expect(ui.problem).to_be_hidden()
    expect(ui.strip).not_to_contain_text("lost")
    ui.end()


def test_a_server_that_prepares_and_is_left(context: BrowserContext, stage: Stage) -> None:
    """Nothing of it is left behind."""
    ui = VoiceUi(context, stage.server)
    stage.waits("prepares", "Fetching the speech model base|0.5")
    ui.button.click()
    expect(ui.word).to_have_text("Preparing", timeout=20_000)
    ui.end()
    expect(ui.strip.get_by_role("progressbar")).to_have_count(0)
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    stage.goes_on("prepares")
    assert wait_until(lambda: stage.server.status()["voice_process"]["sessions"] == 0)


def test_a_speech_model_that_cannot_be_reached(
    context: BrowserContext, tmp_path: Path, artifacts: Path
) -> None:
    """The page waits for it as long as the server does, which knows what is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        config = f'backend = "openai"\nopenai_base_url = "{url}"'
        with GptmeServer(tmp_path, config=config) as server:
            warm_up(server, test=True)
            ui = VoiceUi(context, server)
            ui.button.click()
            expect(ui.strip).to_contain_text("Connecting to the speech backend")
            ui.page.screenshot(path=artifacts / "connecting.png")
            expect(ui.problem).to_contain_text("OpenAI does not answer; check the network")
            ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
            assert not ui.errors
