"""The voice button: where it is, what it does to the page around it, and the keys."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import phrases
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer
from tests.support.voice_ui import VoiceUi, patient

pytestmark = pytest.mark.browser

RATE = 48_000
_STOCK = """localStorage.setItem('gptme-settings',
  '{"hasCompletedSetup":true,"voiceServerUrl":"ws://localhost:1/voice"}');"""
_CLS = """window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: 'layout-shift', buffered: true });"""


@pytest.fixture(scope="module")
def server(server: GptmeServer) -> GptmeServer:
    """With two conversations."""
    for name in ("first", "second"):
        made = httpx.put(
            f"{server.url}/api/v2/conversations/{name}",
            json={"messages": [{"role": "user", "content": f"This is the {name} one."}]},
            headers=server.auth,
        )
        made.raise_for_status()
    return server


def test_the_stock_button_gives_way(
    context: BrowserContext, server: GptmeServer, artifacts: Path
) -> None:
    """There is one voice button; without ours, it is the stock one."""
    ui = VoiceUi(context, server, scripts=_STOCK)
    stock = ui.page.get_by_label("Start voice session")
    expect(ui.button).to_be_visible()
    expect(stock).to_have_count(1)
    expect(stock).to_be_hidden()
    ui.page.screenshot(path=artifacts / "ours.png")
    ui.open_audio_settings()
    ui.settings.get_by_role("switch", name="Show the voice button").click()
    ui.close_settings()
    expect(ui.button).to_have_count(0)
    expect(stock).to_be_visible()
    assert not ui.errors


def test_it_is_in_every_form(context: BrowserContext, server: GptmeServer) -> None:
    """React makes the forms anew on every way; the button is there again, once in each."""
    # It warns of a form that is missing, after five seconds: one that comes late is not.
    ui = VoiceUi(context, server, scripts=patient(5000))
    for path, count in [
        ("/", 1), ("/chat/first", 1), ("/tasks", 0), ("/chat/second", 1),
        ("/chat/first?split=first,second", 2), ("/settings", 0), ("/chat", 1),
    ]:  # fmt: skip
        ui.go(path)
        expect(ui.button).to_have_count(count)
    ui.page.reload()
    expect(ui.button).to_have_count(1)
    for button in ui.button.all():
        form = button.locator("xpath=ancestor::form")
        expect(form.get_by_test_id("chat-input")).to_have_count(1)
        expect(button).to_have_attribute("type", "button")
    assert not ui.errors
    assert not ui.warnings


def test_it_leaves_the_page_in_peace(context: BrowserContext, server: GptmeServer) -> None:
    """It moves nothing, and takes the focus from nobody who is typing."""
    ui = VoiceUi(context, server, path="/chat/first", scripts=_CLS)
    expect(ui.button).to_be_visible()
    field = ui.page.get_by_test_id("chat-input")
    field.click()
    field.press_sequentially("half a sen")
    ui.page.evaluate(
        "document.querySelectorAll('[data-testid=gptme-voice-button]').forEach((b) => b.remove())"
    )
    expect(ui.button).to_be_visible()
    field.press_sequentially("tence")
    expect(field).to_be_focused()
    expect(field).to_have_value("half a sentence")
    ui.page.keyboard.press("Alt+Shift+KeyV")
    expect(ui.word).to_have_text("Listening")
    expect(field).to_be_focused()
    expect(field).to_have_value("half a sentence")
    assert ui.page.evaluate("window.shift") < 0.05
    spinning = ui.page.locator(".animate-spin")
    ui.wait_until(lambda: spinning.count() <= 1, 20, "the page has loaded")
    ui.end()


def test_the_shortcut(context: BrowserContext, server: GptmeServer) -> None:
    """It starts and ends voice from wherever the focus is, and is told in the tooltip."""
    ui = VoiceUi(context, server)
    expect(ui.button).to_have_attribute("title", "Talk with gptme (Alt+Shift+V)")
    expect(ui.button).to_have_attribute("aria-label", "Talk with gptme")
    ui.page.keyboard.press("Alt+Shift+KeyV")
    expect(ui.word).to_have_text("Listening")
    expect(ui.button).to_have_attribute("aria-label", "Voice: listening. End voice")
    expect(ui.button).to_have_attribute("aria-pressed", "true")
    for key in ("KeyV", "Shift+KeyV", "Control+Shift+KeyV", "Space"):
        ui.page.keyboard.press(key)
    ui.go("/tasks")
    expect(ui.word).to_have_text("Listening")
    ui.page.keyboard.press("Alt+Shift+KeyV")
    expect(ui.strip).to_be_hidden(timeout=10_000)
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")


@pytest.mark.any_gptme
def test_space_is_push_to_talk(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio
) -> None:
    """Held, it talks; let go, the turn ends; elsewhere and in a field it is a space."""
    ui = VoiceUi(context, server, {"pushToTalk": True})
    ui.button.click()
    expect(ui.word).to_have_text("Muted")
    talk = ui.strip.get_by_role("button", name="Hold to talk")
    expect(talk).to_be_visible()
    with pulse.speaking(phrases(RATE, 10.0)):
        ui.page.wait_for_timeout(1000)
        assert ui.wire.sent().size == 0, "nothing is sent unless it is held"
        ui.page.keyboard.down("Space")
        expect(ui.word).to_have_text("Listening")
        ui.wait_until(lambda: ui.wire.sent().size > 30_000, 20, "it is heard")
        # The reply is as short as what was said.
        with ui.showing("Speaking"):
            ui.page.keyboard.up("Space")
            commit = {"type": "commit"}
            ui.wait_until(lambda: commit in ui.wire.sent_messages, 20, "the turn ends with the key")
            sent = ui.wire.sent().size
        ui.page.wait_for_timeout(500)
        assert ui.wire.sent().size == sent
    expect(ui.word).to_have_text("Muted", timeout=20_000)
    expect(ui.button).to_have_attribute("aria-pressed", "true")
    field = ui.page.get_by_test_id("chat-input")
    field.click()
    field.press_sequentially("a b")
    expect(field).to_have_value("a b")
    expect(ui.word).to_have_text("Muted")
    box = talk.bounding_box()
    assert box is not None
    ui.page.mouse.move(box["x"] + 5, box["y"] + 5)
    ui.page.mouse.down()
    expect(ui.word).to_have_text("Listening")
    ui.page.mouse.up()
    expect(ui.word).to_have_text("Muted")
    ui.end()
    assert not ui.errors


def test_a_web_ui_that_is_built_differently(
    context: BrowserContext, server: GptmeServer, artifacts: Path
) -> None:
    """Where no form is known, the button floats, works, and one warning says so."""
    strange = """new MutationObserver(() => {
      for (const area of document.querySelectorAll('textarea[aria-label="Chat message"]')) {
        area.removeAttribute('aria-label');
        area.removeAttribute('data-testid');
      }
    }).observe(document, { childList: true, subtree: true });"""
    ui = VoiceUi(context, server, scripts=strange)
    expect(ui.button).to_be_visible(timeout=15_000)
    ui.page.screenshot(path=artifacts / "floating.png")
    assert ui.button.locator("xpath=ancestor::form").count() == 0
    ui.button.click()
    expect(ui.word).to_have_text("Listening")
    expect(ui.strip.get_by_text("Voice goes on in")).to_be_hidden()
    ui.page.screenshot(path=artifacts / "floating-strip.png")
    ui.go("/tasks")
    ui.go("/")
    ui.page.wait_for_timeout(500)
    ui.end()
    assert len(ui.warnings) == 1
    assert "no chat form it knows" in ui.warnings[0]
    assert not ui.errors


def test_it_can_be_switched_off(
    context: BrowserContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """GPTME_VOICE=0 leaves the web UI as gptme ships it."""
    folder = tmp_path_factory.mktemp("off")
    with GptmeServer(folder, env={"GPTME_VOICE": "0"}) as server:
        page = context.new_page()
        page.goto(server.url)
        expect(page.get_by_test_id("chat-input")).to_be_visible()
        page.wait_for_timeout(1000)
        assert page.locator("script[src*=gptme-voice-plugin]").count() == 0
        assert page.get_by_test_id("gptme-voice-button").count() == 0
