"""The Voice section of Settings > Audio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import phrases
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer, wait_until
from tests.support.voice_ui import VoiceUi

pytestmark = pytest.mark.browser

RATE = 48_000


@pytest.fixture
def ui(context: BrowserContext, server: GptmeServer) -> Iterator[VoiceUi]:
    made = VoiceUi(context, server)
    yield made
    assert not made.errors


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[GptmeServer]:
    """For tests that change what it has saved."""
    with GptmeServer(tmp_path, config='backend = "echo"  # kept') as running:
        yield running


@pytest.fixture
def own_ui(context: BrowserContext, own_server: GptmeServer) -> Iterator[VoiceUi]:
    made = VoiceUi(context, own_server)
    yield made
    assert not made.errors


def table(server: GptmeServer) -> dict[str, Any]:
    """Return what gptme's config file says of the plugin."""
    found: dict[str, Any] = {}

    def read() -> bool:
        text = (server.home / ".config" / "gptme" / "config.toml").read_text()
        found.update(tomlkit.parse(text).unwrap().get("plugin", {}).get("gptme_voice_plugin", {}))
        return bool(found)

    # gptme writes the file in place: for a moment there is nothing in it.
    assert wait_until(read)
    return found


def stored(ui: VoiceUi) -> dict[str, Any]:
    found: dict[str, Any] = ui.page.evaluate("JSON.parse(localStorage.getItem('gptme-voice'))")
    return found


def test_it_is_in_the_audio_tab_only(ui: VoiceUi, artifacts: Path) -> None:
    """The web UI uses one panel for several tabs; ours must not be seen in another."""
    ui.open_audio_settings()
    expect(ui.settings).to_have_count(1)
    ui.settings.scroll_into_view_if_needed()
    ui.page.screenshot(path=artifacts / "audio.png")
    for tab in ("Content", "Appearance", "Servers", "About"):
        ui.choose_tab(tab)
        expect(ui.settings).to_have_count(0)
        ui.choose_tab("Audio")
        expect(ui.settings).to_have_count(1)
        expect(ui.settings).to_be_visible()
    # Not even for a moment: looked at as soon as the tab's own content is there.
    leaked = ui.page.evaluate(
        """async () => {
          const tab = [...document.querySelectorAll('[role=dialog] nav button')]
            .find((button) => button.textContent.startsWith('Content'));
          let leaked = 0;
          const seen = () => {
            const section = document.querySelector('[data-testid=gptme-voice-settings]');
            if (section && !document.getElementById('voice-server-url')) leaked++;
          };
          tab.click();
          for (let i = 0; i < 30; i++) {
            await new Promise((next) => requestAnimationFrame(next));
            seen();
          }
          return leaked;
        }"""
    )
    assert leaked == 0
    ui.close_settings()
    expect(ui.settings).to_have_count(0)


def test_it_is_on_the_settings_page(ui: VoiceUi, artifacts: Path) -> None:
    """The full page has it as the dialog has."""
    ui.go("/settings/audio")
    expect(ui.settings).to_have_count(1)
    ui.page.screenshot(path=artifacts / "page.png")
    ui.go("/settings/content")
    expect(ui.settings).to_have_count(0)


def test_the_browsers_part_is_kept(ui: VoiceUi) -> None:
    """It is in a key of our own, trimmed, and is there after a reload; gptme's is left alone."""
    before = ui.page.evaluate("localStorage.getItem('gptme-settings')")
    ui.open_audio_settings()
    ui.settings.get_by_label("Voice server").fill("  wss://voice.example/voice  ")
    ui.settings.get_by_label("Voice server").blur()
    expect(ui.settings.get_by_label("Voice server")).to_have_value("wss://voice.example/voice")
    for label in ("Show the voice button", "Echo cancellation", "Push to talk", "Captions"):
        toggle = ui.settings.get_by_role("switch", name=label)
        was = toggle.get_attribute("aria-checked")
        toggle.click()
        expect(toggle).to_have_attribute("aria-checked", "false" if was == "true" else "true")
    ui.settings.get_by_label("Volume").fill("0.5")
    expected = {
        "serverAddress": "wss://voice.example/voice",
        "showButton": False,
        "echoCancellation": False,
        "noiseSuppression": True,
        "pushToTalk": True,
        "captions": False,
        "volume": 0.5,
        "microphone": "",
        "speaker": "",
    }
    assert stored(ui) == expected
    ui.close_settings()
    expect(ui.button).to_have_count(0)
    ui.page.reload()
    ui.open_audio_settings()
    expect(ui.settings.get_by_label("Voice server")).to_have_value("wss://voice.example/voice")
    expect(ui.settings.get_by_role("switch", name="Push to talk")).to_be_checked()
    assert stored(ui) == expected
    assert ui.page.evaluate("localStorage.getItem('gptme-settings')") == before


def test_an_address_that_is_none_says_so(ui: VoiceUi) -> None:
    ui.open_audio_settings()
    ui.settings.get_by_label("Voice server").fill("ftp://somewhere")
    ui.settings.get_by_label("Voice server").blur()
    expect(ui.settings.get_by_role("alert")).to_contain_text("looks like wss://host/voice")
    ui.close_settings()
    expect(ui.button).to_have_attribute("data-state", "off")
    ui.button.click()
    expect(ui.problem).to_contain_text("looks like wss://host/voice")


def test_the_servers_part_is_saved_in_gptmes_config(
    own_ui: VoiceUi, own_server: GptmeServer
) -> None:
    """Through the plugin's route into gptme's file, which keeps all else; empty takes it back."""
    ui, server = own_ui, own_server
    ui.open_audio_settings()
    status = ui.settings.get_by_text("Next: echo")
    expect(status).to_be_visible()
    ui.settings.get_by_label("Language").fill(" de ")
    ui.settings.get_by_label("Language").blur()
    # At once, while the first one is being saved: neither is lost, nor what is being typed.
    ui.settings.get_by_label("Your turn ends").select_option("semantic_vad")
    ui.settings.get_by_label("Model").fill("half a na")
    expect(ui.settings.get_by_text("Saved.")).to_be_visible()
    assert wait_until(lambda: table(server).get("turn_detection") == "semantic_vad")
    ui.page.wait_for_timeout(500)
    expect(ui.settings.get_by_label("Model")).to_have_value("half a na")
    ui.settings.get_by_label("Model").fill("")
    assert table(server) == {
        "backend": "echo",
        "language": "de",
        "turn_detection": "semantic_vad",
    }
    assert "# kept" in (server.home / ".config" / "gptme" / "config.toml").read_text()
    ui.settings.get_by_label("Language").fill("")
    ui.settings.get_by_label("Language").blur()
    assert wait_until(lambda: "language" not in table(server))
    # A backend whose key is not there: it is saved, and said what is missing.
    ui.settings.get_by_label("Backend").select_option("xai")
    expect(ui.settings.get_by_text("needs XAI_API_KEY")).to_be_visible()
    assert table(server)["backend"] == "xai"
    expect(ui.settings.get_by_text("XAI_API_KEY: not set")).to_be_visible()


def test_the_way_to_gptmes_keys(ui: VoiceUi) -> None:
    ui.open_audio_settings()
    ui.settings.get_by_role("link", name="Set keys in gptme's settings").click()
    expect(ui.settings).to_have_count(0)
    expect(ui.dialog.get_by_text("Model & providers")).to_be_visible()


def test_what_applies_from_the_next_start(own_ui: VoiceUi) -> None:
    """A running session says so, and goes on."""
    ui = own_ui
    ui.begin()
    ui.open_audio_settings()
    ui.settings.get_by_label("Language").fill("fr")
    ui.settings.get_by_label("Language").blur()
    expect(ui.settings.get_by_text("applies from the next start")).to_be_visible()
    expect(ui.settings.get_by_test_id("gptme-voice-test")).to_be_disabled()
    expect(ui.settings.get_by_text("End the voice session first.")).to_be_visible()
    ui.close_settings()
    expect(ui.word).to_have_text("Listening")
    ui.end()


def test_the_sound_test(ui: VoiceUi, pulse: PulseAudio, artifacts: Path) -> None:
    """Without a voice it says what may be wrong; with one it plays it back and says so."""
    ui.open_audio_settings()
    button = ui.settings.get_by_test_id("gptme-voice-test")
    verdict = ui.settings.get_by_test_id("gptme-voice-verdict")
    button.click()
    expect(verdict).to_have_text("Say something, then pause.")
    expect(verdict).to_contain_text("gives no sound at all", timeout=45_000)
    # Its sound fades out before the context rests, and the verdict does not wait for that.
    ui.wait_until(ui.holds_nothing, 20, "the test gives all back")
    with pulse.record("spk") as speakers:
        button.click()
        expect(verdict).to_have_text("Say something, then pause.")
        with pulse.speaking(phrases(RATE, 2.0)):
            ui.page.wait_for_timeout(1500)
            ui.page.screenshot(path=artifacts / "testing.png")
        expect(verdict).to_contain_text("Microphone and speaker work", timeout=45_000)
        assert abs(speakers.samples()).max() > 1000
    ui.wait_until(ui.holds_nothing, 20, "the test gives all back")
    button.click()
    expect(verdict).to_have_text("Say something, then pause.")
    ui.choose_tab("Content")
    ui.wait_until(ui.holds_nothing, 20, "a test that is left gives all back")


def test_the_sound_test_needs_no_key(
    context: BrowserContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("no-key")
    with GptmeServer(folder, config='backend = "openai"') as server:
        ui = VoiceUi(context, server)
        ui.open_audio_settings()
        expect(ui.settings.get_by_text("OPENAI_API_KEY; set it")).to_be_visible()
        ui.settings.get_by_test_id("gptme-voice-test").click()
        verdict = ui.settings.get_by_test_id("gptme-voice-verdict")
        expect(verdict).to_have_text("Say something, then pause.")
        ui.page.close()
