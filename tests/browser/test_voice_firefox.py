"""The same page in Firefox: another audio engine, other rules for contexts and devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_voice_lifecycle import GATES, PREFERENCES, assert_all_given_back, hold
from tests.browser.test_voice_turns import PLAIN, Stage, good_turn, stage
from tests.support.browser import Browser
from tests.support.voice_ui import VoiceUi

__all__ = ["stage"]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def context(stage: Stage, firefox_kind: Browser) -> Iterator[BrowserContext]:
    with firefox_kind.open(stage.pulse.env) as opened:
        yield opened


# Its gain control changes what was said, before the page has it.
AS_IT_IS = """
const open = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
if (open) navigator.mediaDevices.getUserMedia = (wanted) =>
  open({ audio: { ...wanted.audio, autoGainControl: false } });
"""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/", id="welcome"),
        pytest.param("/chat/first", id="conversation", marks=pytest.mark.soak),
    ],
)
def test_a_turn(stage: Stage, context: BrowserContext, artifacts: Path, path: str) -> None:
    """One click, a question, an answer: heard, captioned, whole; and all is given back."""
    ui = VoiceUi(context, stage.server, PLAIN, path, AS_IT_IS)
    ui.begin()
    good_turn(ui, stage, artifacts)
    ui.end()
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    ui.page.close()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("resume", marks=pytest.mark.soak),
        "addModule",
        "getUserMedia",
        pytest.param("open", marks=pytest.mark.soak),
        "ready",
    ],
)
def test_stopping_at_any_step_leaves_nothing(
    stage: Stage, context: BrowserContext, step: str
) -> None:
    ui = VoiceUi(context, stage.server, PREFERENCES, scripts=GATES)
    hold(ui, step)
    with ui.showing("Ended"):
        ui.button.click()
    ui.page.evaluate(f"gates.{step}.release()")
    assert_all_given_back(ui)
    assert not ui.errors
    ui.page.close()


def test_the_settings(context: BrowserContext, stage: Stage, artifacts: Path) -> None:
    """The section is there, and not in another tab."""
    ui = VoiceUi(context, stage.server)
    ui.open_audio_settings()
    expect(ui.settings.get_by_label("Backend")).to_be_visible()
    ui.page.screenshot(path=artifacts / "settings.png")
    ui.choose_tab("Content")
    expect(ui.settings).to_have_count(0)
    assert not ui.errors
    ui.page.close()
