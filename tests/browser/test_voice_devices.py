"""What can be wrong with a microphone, and what its user is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts, phrases
from tests.support.browser import Process, chromium_process, profile
from tests.support.hearing import levels
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer
from tests.support.voice_ui import VoiceUi, warm_up

pytestmark = pytest.mark.browser

RATE = 48_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """One that plays back what it hears."""
    # Sound that a busy browser leaves out is not the end of a turn.
    config = 'backend = "echo"\nsilence_ms = 1500'
    with GptmeServer(tmp_path_factory.mktemp("server"), config=config) as running:
        warm_up(running)
        yield running


def failing(name: str) -> str:
    """Return a script that makes the browser refuse the microphone with an error of this name."""
    return f"""navigator.mediaDevices.getUserMedia =
      async () => {{ throw new DOMException('The browser says so', '{name}'); }};"""


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        (failing("NotAllowedError"), "microphone_denied", "allow it beside the address"),
        (failing("NotFoundError"), "microphone_missing", "plug one in"),
        (failing("NotReadableError"), "microphone_busy", "close other programs"),
        (
            "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });",
            "insecure_context",
            "https:// pages and on localhost",
        ),
        ("delete window.AudioWorkletNode;", "audio_unsupported", "use a current"),
    ],
)
def test_no_microphone(
    context: BrowserContext, server: GptmeServer, script: str, code: str, sentence: str
) -> None:
    """Each reason has its own sentence, seen without hovering, and a way on; nothing is opened."""
    ui = VoiceUi(context, server, scripts=script)
    ui.button.click()
    expect(ui.problem).to_contain_text(sentence)
    expect(ui.problem).to_have_attribute("data-code", code)
    expect(ui.problem).to_have_attribute("role", "alert")
    expect(ui.problem.get_by_role("button")).to_have_text("Start again")
    expect(ui.button).to_have_attribute("data-problem", "true")
    assert not ui.wires
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    ui.control("Close").click()
    expect(ui.strip).to_be_hidden()
    assert not ui.errors


def test_permission_denied_for_real(
    pulse: PulseAudio, server: GptmeServer, process: Process
) -> None:
    """Chromium itself refuses, as when its user has."""
    with (
        chromium_process(pulse.env, ask=True, beside=process) as strict,
        profile(strict) as context,
    ):
        ui = VoiceUi(context, server)
        context.clear_permissions()
        ui.button.click()
        expect(ui.problem).to_have_attribute("data-code", "microphone_denied")
        context.grant_permissions(["microphone"])
        ui.problem.get_by_role("button", name="Start again").click()
        expect(ui.word).to_have_text("Listening")
        ui.end()


def pactl(pulse: PulseAudio, *arguments: str) -> str:
    done = subprocess.run(
        ["pactl", *arguments], env=pulse.env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_microphone_is_chosen_and_unplugged(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio
) -> None:
    """It is chosen in the strip while it runs; pulled out, the session says so and ends."""
    module = pactl(
        pulse, "load-module", "module-remap-source", "master=micin.monitor",
        "source_name=second", "source_properties=device.description=Second",
    )  # fmt: skip
    ui = VoiceUi(context, server)
    ui.begin()
    ui.control("Microphone and speaker").click()
    chooser = ui.strip.get_by_label("Microphone", exact=True)
    chooser.select_option(label="Second")
    ui.page.wait_for_function("held.tracks.length === 2")
    expect(ui.word).to_have_text("Listening")
    ui.wait_until(lambda: ui.held()["tracks"] == 1, 20, "the other microphone is given back")
    assert ui.page.evaluate("held.tracks[1].label") == "Second"
    ui.strip.get_by_label("Volume").fill("0.5")
    pactl(pulse, "unload-module", module)
    expect(ui.problem).to_have_attribute("data-code", "microphone_unplugged", timeout=20_000)
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    # It is still the chosen one: that is said, not worked around.
    ui.button.click()
    expect(ui.problem).to_have_attribute("data-code", "microphone_gone_chosen")
    expect(ui.problem.get_by_role("button")).to_have_text("Open settings")
    assert not ui.errors


def answered_once(ui: VoiceUi, pulse: PulseAudio) -> bool:
    """Say something, and hear the reply; whether that was one turn."""
    before = len(ui.wire.of("speech_started"))
    # The reply is short: to look for it when the speaking has ended may be too late.
    with pulse.speaking(phrases(RATE, 1.5)):
        expect(ui.word).to_have_text("Speaking")
    expect(ui.word).to_have_text("Listening")
    return len(ui.wire.of("speech_started")) == before + 1


def test_a_speaker_is_chosen_and_turned_down(
    context: BrowserContext, server: GptmeServer, pulse: PulseAudio
) -> None:
    """The reply comes out of the speaker that is chosen, as loud as is chosen, and of no other."""
    module = pactl(
        pulse, "load-module", "module-null-sink", "sink_name=second",
        "sink_properties=device.description=Kitchen",
    )  # fmt: skip
    ui = VoiceUi(context, server, {"echoCancellation": False, "noiseSuppression": False})
    ui.begin()
    ui.control("Microphone and speaker").click()
    loudness = []
    with pulse.record("second") as kitchen, pulse.record("spk") as speakers:
        for volume in ("1", "0.25"):
            ui.strip.get_by_label("Volume").fill(volume)
            ui.strip.get_by_label("Speaker", exact=True).select_option(label="Kitchen")
            ui.page.wait_for_function("held.contexts[0].sinkId")
            for _ in attempts(50):
                before, replied = kitchen.samples().size, ui.wire.received().size
                if answered_once(ui, pulse):
                    break
                # With a hole in it, it was two turns: the second ends, too, and is answered.
                ui.page.wait_for_timeout(3000)
                expect(ui.word).to_have_text("Listening")
            else:
                pytest.fail("what is said is never one turn")
            # Against what was to be played: the browser's gain control changes that each time.
            heard = levels(kitchen.samples()[before:], RATE).max()
            loudness.append(heard / levels(ui.wire.received()[replied:], 24_000).max())
        assert (levels(speakers.samples(), RATE) < 30).all()
    assert loudness == [pytest.approx(1, rel=0.1), pytest.approx(0.25, rel=0.1)]
    # Pulled out: the default one plays on, and that is said.
    pactl(pulse, "unload-module", module)
    expect(ui.strip.get_by_text("The chosen speaker is not there")).to_be_visible()
    # Sound stands still until the browser has the other speaker.
    began = ui.page.evaluate("held.contexts[0].currentTime")
    ui.page.wait_for_function("(began) => held.contexts[0].currentTime > began + 1", arg=began)
    with pulse.record("spk") as speakers:
        with pulse.speaking(phrases(RATE, 1.5)):
            expect(ui.word).to_have_text("Speaking")
        expect(ui.word).to_have_text("Listening", timeout=15_000)
        assert (levels(speakers.samples(), RATE) > 50).any()
    ui.end()
    assert not ui.errors


def test_mute(context: BrowserContext, server: GptmeServer) -> None:
    """Muted, the microphone is off in the browser already; nothing leaves the page."""
    ui = VoiceUi(context, server)
    ui.begin()
    ui.control("Mute").click()
    expect(ui.word).to_have_text("Muted")
    expect(ui.control("Mute")).to_have_attribute("aria-pressed", "true")
    assert ui.page.evaluate("held.tracks[0].enabled") is False
    # What was said before goes out first.
    muted = {"type": "mute", "on": True}
    ui.wait_until(lambda: muted in ui.wire.sent_messages, 20, "the server is told")
    sent = ui.wire.sent().size
    ui.page.wait_for_timeout(1000)
    assert ui.wire.sent().size == sent
    ui.control("Mute").click()
    expect(ui.word).to_have_text("Listening")
    ui.wait_until(lambda: ui.wire.sent().size > sent, 20, "it is heard again")
    assert [m for m in ui.wire.sent_messages if m["type"] == "mute"] == [
        {"type": "mute", "on": True},
        {"type": "mute", "on": False},
    ]
    ui.end()
