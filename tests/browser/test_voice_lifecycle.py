"""However a session is started, interrupted or ended: nothing is left open, and it says why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.test_stock_button import attempts, phrases
from tests.support.browser import chromium
from tests.support.hearing import compare
from tests.support.pulse import PulseAudio, write_wav
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import resampled
from tests.support.voice_ui import VoiceUi, VoiceWire, patient, warm_up

pytestmark = pytest.mark.browser

# Each step of the start that takes time, made to wait until the test lets it go on.
GATES = """
window.gates = {};
for (const name of ['resume', 'addModule', 'getUserMedia', 'setSinkId', 'open', 'ready']) {
  const gate = gates[name] = { held: false, reached: 0, waiting: [] };
  gate.pass = () => {
    gate.reached++;
    return gate.held ? new Promise((go) => gate.waiting.push(go)) : Promise.resolve();
  };
  gate.release = () => { gate.held = false; gate.waiting.splice(0).forEach((go) => go()); };
}
const before = (object, name) => {
  const original = object[name];
  if (!original) return;
  object[name] = async function (...given) {
    await gates[name].pass();
    return original.apply(this, given);
  };
};
before(AudioContext.prototype, 'resume');
before(AudioWorklet.prototype, 'addModule');
before(AudioContext.prototype, 'setSinkId');
before(navigator.mediaDevices, 'getUserMedia');
const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  set onopen(listener) {
    super.onopen = listener && (async (event) => { await gates.open.pass(); this.onopen_(event); });
    this.onopen_ = (event) => this.readyState === 1 && listener?.(event);
  }
  set onmessage(listener) {
    let order = Promise.resolve();
    super.onmessage = listener && ((event) => {
      const ready = typeof event.data === 'string' && JSON.parse(event.data).type === 'ready';
      order = order.then(() => ready ? gates.ready.pass() : null)
        .then(() => this.readyState === 1 && super.onmessage && listener(event));
    });
  }
  get onmessage() { return super.onmessage; }
};
// What waits at a gate waits for the test, not for as long as the page has patience.
window.patient = true;
const timeout = window.setTimeout;
window.setTimeout = (run, milliseconds, ...given) => {
  const resuming = gates.resume.held && milliseconds === 4000;
  const connecting = (gates.open.held || gates.ready.held) && milliseconds === 10000;
  return timeout(run, patient && (resuming || connecting) ? 300000 : milliseconds, ...given);
};
"""
IMPATIENT = "window.patient = false;"
FORM_PATIENCE_MS = 5000
"""Without a form for as long as this, the button floats, and a warning says so."""
STEPS = ["resume", "addModule", "getUserMedia", "setSinkId", "open", "ready"]
PREFERENCES = {"speaker": "default"}
"""A chosen speaker, so that choosing it is one of the steps."""

ONE_SESSION = {"tracks": 1, "contexts": 1, "running": 1, "sockets": 1}
"""What the page holds of the world while it is spoken to."""

RATE = 48_000


@pytest.fixture(scope="module")
def context(pulse: PulseAudio) -> Iterator[BrowserContext]:
    with chromium(pulse.env) as opened:
        yield opened


@pytest.fixture
def ui(context: BrowserContext, server: GptmeServer) -> Iterator[VoiceUi]:
    made = VoiceUi(context, server, PREFERENCES, scripts=GATES + patient(FORM_PATIENCE_MS))
    yield made
    errors = list(made.errors)
    made.page.close()
    assert not errors


def sessions(server: GptmeServer) -> int:
    count: int = server.status()["voice_process"]["sessions"]
    return count


def assert_all_given_back(ui: VoiceUi) -> None:
    ui.wait_until(ui.holds_nothing, 20, f"the page gives all back: {ui.held()}")
    assert ui.held()["contexts"] <= 1
    assert wait_until(lambda: sessions(ui.server) == 0)


def hold(ui: VoiceUi, step: str) -> None:
    """Start a session that does not get past `step`."""
    if step == "resume":
        # The first context runs at once; later it is one that rests.
        ui.button.click()
        expect(ui.word).to_have_text("Listening")
        ui.button.click()
        ui.wait_until(ui.holds_nothing, 20, "the context rests")
    ui.page.evaluate(f"gates.{step}.held = true")
    ui.button.click()
    ui.page.wait_for_function(f"gates.{step}.waiting.length > 0")
    expect(ui.word).to_have_text("Connecting")


@pytest.mark.parametrize("step", STEPS)
def test_stopping_at_any_step_leaves_nothing(ui: VoiceUi, step: str) -> None:
    """Whatever the start waits for when it is stopped is given back when it comes."""
    hold(ui, step)
    with ui.showing("Ended"):
        ui.button.click()
    ui.page.evaluate(f"gates.{step}.release()")
    assert_all_given_back(ui)
    expect(ui.strip).to_be_hidden()
    # And the next start has not been spoiled.
    ui.button.click()
    expect(ui.word).to_have_text("Listening")
    ui.button.click()
    assert_all_given_back(ui)


@pytest.mark.parametrize("leave", ["unmount", "route"])
@pytest.mark.parametrize("step", STEPS)
def test_a_start_survives_its_form(ui: VoiceUi, step: str, leave: str) -> None:
    """The form, or the page, goes away at each step: the session comes up all the same."""
    hold(ui, step)
    sockets = len(ui.wires)
    if leave == "unmount":
        ui.page.evaluate("document.querySelector('form:has([data-testid=chat-input])').remove()")
    else:
        ui.go("/tasks")
    expect(ui.button).to_have_count(0)
    expect(ui.word).to_have_text("Connecting")
    ui.page.evaluate(f"gates.{step}.release()")
    expect(ui.word).to_have_text("Listening")
    assert len(ui.wires) == sockets + (step not in ("open", "ready"))
    ui.control("End voice").click()
    assert_all_given_back(ui)


def test_pressing_twice_starts_one_session(ui: VoiceUi) -> None:
    """What starts while one is starting does nothing, by whichever way it is asked for."""
    ui.page.evaluate("gates.getUserMedia.held = true")
    ui.button.click()
    ui.page.wait_for_function("gates.getUserMedia.waiting.length > 0")
    ui.button.click()  # stops
    ui.button.click()  # starts anew
    ui.page.wait_for_function("gates.getUserMedia.waiting.length === 2")
    ui.page.evaluate("gates.getUserMedia.release()")
    expect(ui.word).to_have_text("Listening")
    # The microphone that the first start asked for may be there later than the second's.
    ui.wait_until(lambda: ui.held() == ONE_SESSION, 20, "the first start's microphone is released")
    assert sessions(ui.server) == 1
    ui.button.click()
    assert_all_given_back(ui)


def test_one_context_for_all_sessions(ui: VoiceUi) -> None:
    """Sessions after another use the same AudioContext, which rests in between."""
    for _ in range(4):
        ui.button.click()
        expect(ui.word).to_have_text("Listening")
        assert ui.held() == ONE_SESSION
        ui.button.click()
        assert_all_given_back(ui)
    assert ui.held()["contexts"] == 1


def test_the_page_is_left(ui: VoiceUi) -> None:
    """Closing the page ends its session on the server."""
    ui.button.click()
    expect(ui.word).to_have_text("Listening")
    assert sessions(ui.server) == 1
    ui.page.goto(f"{ui.server.url}/api")
    assert wait_until(lambda: sessions(ui.server) == 0)


def test_a_server_that_never_gets_ready(context: BrowserContext, server: GptmeServer) -> None:
    """After ten seconds of the page's clock it says so; the clock is the test's."""
    ui = VoiceUi(context, server, scripts=GATES + IMPATIENT)
    ui.page.clock.install()
    ui.page.reload()
    ui.page.evaluate("gates.ready.held = true")
    ui.button.click()
    # The clock is also that of the sound's start, which is given four seconds.
    ui.page.wait_for_function("held.contexts[0]?.state === 'running'")
    ui.page.clock.run_for(3000)
    ui.page.wait_for_function("gates.ready.waiting.length > 0")
    expect(ui.word).to_have_text("Connecting")
    ui.page.clock.run_for(10_000)
    expect(ui.problem).to_contain_text("did not get ready within 10 seconds")
    expect(ui.word).to_have_text("Ended")
    ui.page.evaluate("gates.ready.release()")
    ui.page.clock.run_for(1000)
    assert_all_given_back(ui)
    assert not ui.errors
    ui.page.close()


def _muted(wire: VoiceWire) -> bool:
    return "mute" in wire.told()


def test_what_is_said_before_the_server_is_ready(
    pulse: PulseAudio, context: BrowserContext, server: GptmeServer, artifacts: Path
) -> None:
    """Push-to-talk, pressed and let go while it still connects: all of it is a turn."""
    preferences = {"pushToTalk": True, "echoCancellation": False, "noiseSuppression": False}
    speech = phrases(RATE, 2.0)
    for attempt in attempts():
        ui = VoiceUi(context, server, preferences, scripts=GATES)
        ui.page.evaluate("gates.ready.held = true")
        ui.button.click()
        ui.page.keyboard.down("Space")
        ui.page.wait_for_function("held.tracks.length && held.contexts[0].currentTime > 1.5")
        pulse.speak(speech)
        ui.page.keyboard.up("Space")
        ui.page.wait_for_timeout(500)
        expect(ui.word).to_have_text("Connecting")
        assert ui.wire.sent().size == 0
        ui.page.evaluate("gates.ready.release()")
        expect(ui.word).to_have_text("Speaking", timeout=15_000)
        expect(ui.word).to_have_text("Muted", timeout=15_000)
        # What a socket has sent is told on another way than what the page shows.
        ui.wait_until(partial(_muted, ui.wire), 20, "the end of push-to-talk is sent")
        sent = ui.wire.sent()
        write_wav(artifacts / f"{attempt}-sent.wav", sent, 24_000)
        assert not ui.errors
        # Let go is let go, however often it is said.
        assert [kind for kind, _ in groupby(ui.wire.told())] == ["hello", "commit", "mute"]
        ui.page.close()
        match = compare(resampled(speech, RATE, 24_000), sent, 24_000)
        print(f"attempt {attempt}: {sent.size / 24_000:.2f} s, {match}")
        if match.good and sent.size > 24_000 * 3.0:
            break
    assert match.good, f"what was said: {match}"
    assert sent.size > 24_000 * 3.0, "all the time that was spoken is there"


def test_a_device_test_and_a_session_do_not_disturb_each_other(ui: VoiceUi) -> None:
    """A session that is started while the sound test runs goes on when the test ends."""
    ui.go("/settings/audio")
    ui.page.evaluate("gates.getUserMedia.held = true")
    ui.settings.get_by_test_id("gptme-voice-test").click()
    # The test listens for ten seconds: they begin when the session is about to start as well.
    ui.page.wait_for_function("gates.getUserMedia.waiting.length === 1")
    ui.page.keyboard.press("Alt+Shift+KeyV")
    ui.page.wait_for_function("gates.getUserMedia.waiting.length === 2")
    ui.page.evaluate("gates.getUserMedia.release()")
    verdict = ui.settings.get_by_test_id("gptme-voice-verdict")
    expect(verdict).to_have_text("Say something, then pause.")
    expect(ui.word).to_have_text("Listening")
    ui.settings.get_by_test_id("gptme-voice-test").click()
    ui.wait_until(lambda: ui.held() == ONE_SESSION, 20, "the test gives its part back")
    ui.page.wait_for_timeout(500)
    assert ui.held() == ONE_SESSION
    ui.page.keyboard.press("Alt+Shift+KeyV")
    assert_all_given_back(ui)


def test_an_error_and_its_close_act_once(
    context: BrowserContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The sentence of a fatal error is shown, and stays; nothing is tried again."""
    folder = tmp_path_factory.mktemp("no-key")
    with GptmeServer(folder, config='backend = "openai"') as server:
        ui = VoiceUi(context, server)
        ui.button.click()
        expect(ui.problem).to_contain_text("OPENAI_API_KEY")
        expect(ui.word).to_have_text("Ended")
        assert_all_given_back(ui)
        assert len(ui.wires) == 1
        expect(ui.button).to_have_attribute("aria-pressed", "false")
        expect(ui.strip.get_by_role("button", name="Open key settings")).to_be_visible()
        ui.control("Close").click()
        expect(ui.strip).to_be_hidden()
        assert not ui.errors
        ui.page.close()


def test_the_server_goes_and_comes_back(
    context: BrowserContext, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The session goes on when the server is back; the microphone has never stopped."""
    server = GptmeServer(tmp_path_factory.mktemp("restarted"), config='backend = "echo"')
    with server:
        # A server that has just started may take longer than a page waits.
        ui = VoiceUi(context, server, scripts=patient(10_000))
        ui.button.click()
        expect(ui.word).to_have_text("Listening")
        tracks = ui.page.evaluate("held.tracks.length")
        server.stop()
        expect(ui.word).to_have_text("Reconnecting")
        with server:
            expect(ui.word).to_have_text("Listening", timeout=60_000)
            assert ui.page.evaluate("held.tracks.length") == tracks
            ui.wait_until(lambda: ui.wire.told()[:1] == ["hello"], 20, "the page says hello anew")
            assert ui.wire.sent_messages[0]["input_sample_rates"] == [24_000]
            ui.button.click()
            assert_all_given_back(ui)
    ui.page.close()


@pytest.mark.parametrize("fetched", [True, False], ids=["loaded", "not_loaded"])
def test_the_server_is_gone(
    context: BrowserContext, tmp_path_factory: pytest.TempPathFactory, fetched: bool
) -> None:
    """A start without a server says so, and can be repeated until there is one."""
    worklets = re.compile(r"-worklet\.js$")
    ours = re.compile("/gptme-voice-plugin/|/voice/")
    loaded: set[str] = set()
    unanswered: list[str] = []
    server = GptmeServer(tmp_path_factory.mktemp("gone"), config='backend = "echo"')
    with server:
        if not fetched:
            context.route(worklets, lambda route: route.abort())
        context.on("requestfinished", lambda request: loaded.add(request.url))
        context.on("requestfailed", lambda request: unanswered.append(request.url))
        ui = VoiceUi(context, server)
        if fetched:
            ui.wait_until(
                lambda: sum(bool(worklets.search(url)) for url in loaded) == 2,
                20,
                "what a start needs is there before it is asked for",
            )
    context.unroute_all()
    unanswered.clear()
    ui.button.click()
    expect(ui.problem).to_contain_text("cannot be reached")
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    if fetched:
        assert not [url for url in unanswered if worklets.search(url)], "it is asked for again"
    again = ui.strip.get_by_role("button", name="Start again")
    unanswered.clear()
    again.click()
    ui.wait_until(lambda: any(map(ours.search, unanswered)), 20, "it tries again")
    expect(ui.problem).to_contain_text("cannot be reached")
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    with server:
        warm_up(server)
        again.click()
        expect(ui.word).to_have_text("Listening")
        ui.button.click()
        assert_all_given_back(ui)
    ui.page.close()
