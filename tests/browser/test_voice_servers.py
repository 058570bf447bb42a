"""Conversations of other gptme servers, shown in one web UI."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.support.server import TOKEN, GptmeServer
from tests.support.voice_ui import VoiceUi, warm_up

pytestmark = pytest.mark.browser

OTHER_TOKEN = "another-token-77"


def registry(home: GptmeServer, other: GptmeServer, token: str = OTHER_TOKEN) -> str:
    """Return a script that makes the web UI know both servers."""
    servers = [
        {"id": ident, "name": ident, "baseUrl": server.url, "authToken": secret,
         "useAuthToken": True, "isPreset": False, "createdAt": 1, "lastUsedAt": 1}
        for ident, server, secret in (("home", home, TOKEN), ("other", other, token))
    ]  # fmt: skip
    data = {"servers": servers, "activeServerId": "home", "connectedServerIds": ["home", "other"]}
    return f"localStorage.setItem('gptme_servers', {json.dumps(json.dumps(data))});"


def another(folder: Path, home: GptmeServer | None, **env: str) -> GptmeServer:
    return GptmeServer(
        folder,
        args=["--cors-origin", home.url] if home else [],
        config='backend = "echo"',
        env={"GPTME_SERVER_TOKEN": OTHER_TOKEN, **env},
    )


@pytest.fixture(scope="module")
def other(server: GptmeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """One that lets the pages of `server` in."""
    with another(tmp_path_factory.mktemp("other"), server) as running:
        warm_up(running)
        yield running


def test_a_conversation_of_another_server(
    context: BrowserContext, server: GptmeServer, other: GptmeServer
) -> None:
    """It is opened there, with a ticket; no token is in any address."""
    ui = VoiceUi(context, server, scripts=registry(server, other))
    ui.go("/chat?server=other")
    expect(ui.button).to_be_visible()
    ui.begin()
    assert ui.wire.url.startswith(other.url.replace("http", "ws") + "/api/v2/voice?ticket=")
    assert OTHER_TOKEN not in ui.wire.url
    assert TOKEN not in ui.wire.url
    ui.end()
    ui.go("/chat?server=home")
    ui.begin()
    assert ui.wire.url == server.url.replace("http", "ws") + "/api/v2/voice"
    ui.end()
    assert not ui.errors
    ui.page.close()


@pytest.mark.parametrize("leave", ["stop", "unmount", "route"])
def test_leaving_while_it_asks_for_a_ticket(
    context: BrowserContext, server: GptmeServer, other: GptmeServer, leave: str
) -> None:
    """Stopped, it has nothing left when the answer comes; otherwise it goes on."""
    slow = """
    window.tickets = { waiting: 0 };
    const request = window.fetch;
    window.fetch = async (...given) => {
      if (String(given[0]).endsWith('/tickets') && tickets.held) {
        tickets.waiting++;
        await tickets.held;
      }
      return request(...given);
    };"""
    ui = VoiceUi(context, server, scripts=registry(server, other) + slow)
    # The button asks for one itself, to see whether there is voice.
    with ui.page.expect_response(
        lambda answer: answer.url.endswith("/tickets") and answer.request.method == "POST"
    ):
        ui.go("/chat?server=other")
    expect(ui.button).to_have_attribute("data-state", "idle")
    ui.page.evaluate("tickets.held = new Promise((go) => { tickets.release = go; }); 0")
    ui.button.click()
    ui.page.wait_for_function("tickets.waiting > 0")
    expect(ui.word).to_have_text("Connecting")
    if leave == "stop":
        ui.button.click()
    elif leave == "route":
        ui.go("/tasks")
    else:
        ui.page.evaluate("document.querySelector('form').remove()")
    ui.page.evaluate("tickets.release(); delete tickets.held")
    if leave != "stop":
        expect(ui.word).to_have_text("Listening")
        ui.control("End voice").click()
    ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
    assert len(ui.wires) == (leave != "stop")
    assert not ui.errors
    ui.page.close()


@pytest.mark.parametrize("why", ["no plugin", "not allowed", "gone", "wrong token"])
def test_why_voice_is_off_there(
    context: BrowserContext, server: GptmeServer, tmp_path: Path, why: str
) -> None:
    """The button says so before it is pressed, and in the strip when it is."""
    env = {"GPTME_VOICE": "0"} if why == "no plugin" else {}
    with another(tmp_path, None if why == "not allowed" else server, **env) as other:
        token = "wrong" if why == "wrong token" else OTHER_TOKEN
        ui = VoiceUi(context, server, scripts=registry(server, other, token))
        if why == "gone":
            other.stop()
        ui.go("/chat?server=other")
        expect(ui.button).to_have_attribute("data-state", "off")
        sentence = {
            "no plugin": "has no voice plugin",
            "not allowed": "--cors-origin",
            "gone": "check that it runs",
            "wrong token": "does not accept the login",
        }[why]
        label = re.compile("^Voice is off here: .*" + re.escape(sentence))
        expect(ui.button).to_have_attribute("aria-label", label)
        ui.button.click()
        expect(ui.problem).to_contain_text(sentence)
        ui.wait_until(ui.holds_nothing, 20, "the page gives all back")
        ui.go("/chat?server=home")
        expect(ui.button).not_to_have_attribute("data-state", "off")
        ui.begin()
        ui.end()
        ui.page.close()


def test_a_voice_server_of_its_own(
    context: BrowserContext, server: GptmeServer, other: GptmeServer
) -> None:
    """An address in the settings is used for every conversation."""
    address = other.ws_url
    ui = VoiceUi(context, server, {"serverAddress": address}, scripts=registry(server, other))
    ui.begin()
    assert ui.wire.url.startswith(other.url.replace("http", "ws"))
    ui.end()
    ui.page.close()


def test_asking_opens_nothing(
    context: BrowserContext, server: GptmeServer, other: GptmeServer
) -> None:
    """Looking for the plugin elsewhere opens no microphone and no socket."""
    ui = VoiceUi(context, server, scripts=registry(server, other))
    ui.go("/chat?server=other")
    expect(ui.button).to_have_attribute("data-state", "idle")
    ui.page.wait_for_timeout(500)
    assert ui.held() == {"tracks": 0, "contexts": 0, "running": 0, "sockets": 0}
