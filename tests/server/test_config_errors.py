"""A wrong setting never stops gptme-server; whoever wants to talk is told what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import websockets

from gptme_voice_plugin import backends
from gptme_voice_plugin.errors import close_reason
from tests.support.client import VoiceClient
from tests.support.server import GptmeServer

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ECHO = 'backend = "echo"'
WIDE = {"COLUMNS": "1000"}  # so that no line of the log is wrapped


def write_user(server: GptmeServer, *lines: str) -> None:
    """Write the plugin's table in gptme's user config."""
    text = "\n".join(["[env]", "", "[plugin.gptme_voice_plugin]", *lines, ""])
    (server.home / ".config" / "gptme" / "config.toml").write_text(text)


def write_project(server: GptmeServer, *lines: str) -> None:
    """Write the plugin's table in the workspace's project config."""
    text = "\n".join(["[plugin.gptme_voice_plugin]", *lines, ""])
    (server.workspace / "gptme.toml").write_text(text)


async def _refusal(server: GptmeServer) -> tuple[str, str]:
    # Whether or not `hello` gets there before the end makes no difference.
    async with VoiceClient(server.ws_url, server.auth, hello=None) as client:
        with suppress(websockets.ConnectionClosed):
            await client.say("hello", client="test")
        code, reason = await client.closed()
        assert code == 1011
        assert [m["type"] for m in client.messages] == ["error"]
        error = client.messages[0]
        assert error["fatal"] is True
        assert reason == close_reason(error["message"])
    async with VoiceClient(server.ws_url, server.auth, v1=False) as client:
        # Its protocol has no errors, but the web UI shows the reason.
        assert await client.closed() == (1011, reason)
        assert client.messages == []
    return error["code"], error["message"]


def refusal(server: GptmeServer) -> tuple[str, str]:
    """Connect as each kind of client; return the code and message they are refused with."""
    code, message = asyncio.run(_refusal(server))
    error = server.status()["error"]
    assert error == {"code": code, "message": message}
    return code, message


def can_be_tested(server: GptmeServer) -> None:
    """Check that sound comes back in a session that only tests it."""
    tone = (8000 * np.sin(np.arange(16_000) * 2 * np.pi * 440 / 16_000)).astype(np.int16)

    async def scenario() -> None:
        hello = {"test": True, "input_sample_rates": [16_000]}
        async with VoiceClient(server.ws_url, server.auth, hello=hello) as client:
            await client.until(lambda c: c.ready.is_set())
            assert client.of("ready")[0]["backend"] == "echo"
            await client.speak(tone, speed=4)
            await client.say("commit")
            await client.until(lambda c: len(c.audio) > 24_000)
            assert client.of("error") == []

    asyncio.run(scenario())


def works(server: GptmeServer) -> None:
    """Check that both kinds of client get a session."""

    async def scenario() -> None:
        for v1 in (False, True):
            async with VoiceClient(server.ws_url, server.auth, v1=v1) as client:
                await client.until(lambda c: c.ready.is_set())

    asyncio.run(scenario())
    assert "error" not in server.status()


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server that was started with a wrong setting in its user config."""
    folder = tmp_path_factory.mktemp("wrong")
    with GptmeServer(folder, config='backend = "opena1"', env=WIDE) as running:
        yield running


@pytest.fixture
def clean(wrong: GptmeServer) -> Iterator[GptmeServer]:
    """The same, with its config in order."""
    write_user(wrong, ECHO)
    yield wrong
    (wrong.workspace / "gptme.toml").unlink(missing_ok=True)
    write_user(wrong)


def test_it_starts_and_warns(wrong: GptmeServer) -> None:
    """The warning names key, value and what is allowed, in one line."""
    (line,) = [line for line in wrong.log().splitlines() if "opena1" in line]
    assert "WARNING" in line
    assert (
        "Voice: [plugin.gptme_voice_plugin] backend is 'opena1', but must be one of "
        "auto, openai, xai, local, echo." in line
    )
    assert "Traceback" not in wrong.log()


def test_the_client_is_told_until_the_file_is_in_order(wrong: GptmeServer) -> None:
    """Settings are read afresh for each connection."""
    write_user(wrong, 'backend = "opena1"')
    code, message = refusal(wrong)
    assert code == "config_invalid"
    assert "backend is 'opena1', but must be one of auto, openai" in message
    write_user(wrong, 'backend = "echo"')
    works(wrong)
    write_user(wrong, 'backend = "opena1"')
    assert refusal(wrong) == (code, message)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("backend = 1", "backend is 1, but must be one of auto,"),
        ("backend = true", "backend is True, but must be one of auto,"),
        ('backand = "echo"', "has no setting 'backand'; did you mean 'backend'?"),
        ("zzzzzz = 1", "has no setting 'zzzzzz'; known: backend,"),
        ('silence_ms = "soon"', "silence_ms is 'soon', but must be a whole number from 100 to"),
        ("silence_ms = 99", "silence_ms is 99, but must be a whole number from 100 to 5000"),
        ("silence_ms = 500.5", "silence_ms is 500.5, but must be a whole number"),
        ("prefix_ms = true", "prefix_ms is True, but must be a whole number"),
        ("model = 4", "model is 4, but must be a text"),
        ('isolation = "vm"', "isolation is 'vm', but must be one of auto, process, thread"),
        ('allowed_origins = ["*"]', "allowed_origins is ['*'], but must be a list of origins"),
        ('allowed_origins = ["x.example"]', "but must be a list of origins such as"),
        ('allowed_origins = ["https://x.example/a"]', "(scheme, host and port only)"),
        ("allowed_origins = 1", "allowed_origins is 1, but must be a list of origins"),
        ('openai_base_url = "localhost"', "openai_base_url is that value, but must be an http,"),
        (
            'openai_base_url = "https://me:secret@x.example"',
            "openai_base_url is that value, but must be an http, https, ws or wss address without",
        ),
        ("[plugin.gptme_voice_plugin.backend]", "backend is {}, but must be one of auto,"),
    ],
)
def test_wrong_settings(clean: GptmeServer, line: str, expected: str) -> None:
    write_user(clean, line)
    code, message = refusal(clean)
    assert code == "config_invalid"
    assert "[plugin.gptme_voice_plugin]" in message
    assert expected in message
    assert message.endswith((".", "?"))
    assert "secret" not in message


@pytest.mark.parametrize("value", ["1", '"echo"', "[]"])
def test_the_table_is_none(clean: GptmeServer, value: str) -> None:
    config = clean.home / ".config" / "gptme" / "config.toml"
    config.write_text(f"[plugin]\ngptme_voice_plugin = {value}\n")
    assert refusal(clean) == ("config_invalid", "[plugin.gptme_voice_plugin] must be a table.")


def test_a_long_value_is_cut(clean: GptmeServer) -> None:
    """The reason fits a close frame, whole characters only."""
    write_user(clean, f'backend = "{"ü" * 5000}"')
    code, message = refusal(clean)
    assert code == "config_invalid"
    assert len(message) < 300


def test_a_backend_that_cannot_be_used(clean: GptmeServer) -> None:
    """It lacks its key: the message says what to do."""
    for name, key in backends.KEYS.items():
        write_user(clean, f'backend = "{name}"')
        code, message = refusal(clean)
        assert code == "key_missing"
        assert key in message


def test_sound_can_be_tested_whatever_is_wrong(clean: GptmeServer) -> None:
    """Without a key, with a wrong value, or with a file that cannot be read; and nothing else."""
    for lines in (
        ('backend = "openai"',),
        ('backend = "opena1"', "silence_ms = 1"),
        ("[broken",),
        ('backend = "echo"',),
    ):
        write_user(clean, *lines)
        can_be_tested(clean)
    write_user(clean, 'backend = "xai"')
    can_be_tested(clean)
    assert refusal(clean)[0] == "key_missing"


def test_who_says_nothing_is_told_to_say_hello(clean: GptmeServer) -> None:
    """What is wrong is told once it is known that the client wants a real session."""
    write_user(clean, 'backend = "xai"')

    async def scenario() -> None:
        async with VoiceClient(clean.ws_url, clean.auth, hello=None) as client:
            await client.say("mute", on=True)
            assert (await client.closed())[0] == 1008
            assert [m["code"] for m in client.of("error")] == ["hello_required"]

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["[broken", "a = 1\na = 2\n", "\x00", 'x = "'])
@pytest.mark.parametrize("where", ["user", "project"])
def test_a_file_that_is_no_toml(clean: GptmeServer, text: str, where: str) -> None:
    """An editor's half-saved file is an error of the config like any other."""
    if where == "user":
        (clean.home / ".config" / "gptme" / "config.toml").write_text(text)
    else:
        (clean.workspace / "gptme.toml").write_text(text)
    try:
        code, message = refusal(clean)
        assert code == "config_invalid"
        assert "toml" in message
        # No reason to let anybody in, nor to keep everybody out.
        foreign = {**UPGRADE, **clean.auth, "Origin": "https://evil.example"}
        url = f"{clean.url}/voice"
        assert httpx.get(url, headers=foreign, verify=False, timeout=60).status_code == 403
        assert httpx.get(url, headers=UPGRADE, verify=False, timeout=60).status_code == 401
    finally:
        (clean.workspace / "gptme.toml").unlink(missing_ok=True)
        write_user(clean, ECHO)
    works(clean)


def test_project_wins_over_user(clean: GptmeServer) -> None:
    write_user(clean, 'backend = "openai"', "silence_ms = 700")
    assert refusal(clean)[0] == "key_missing"
    write_project(clean, 'backend = "echo"')
    works(clean)
    assert clean.status()["backend"] == "echo"
    write_user(clean, 'backend = "echo"')
    write_project(clean, 'backend = "xai"')
    code, message = refusal(clean)
    assert code == "key_missing"
    assert "'xai'" in message
    # A wrong value is one, also where a better one is on top of it.
    write_user(clean, 'backend = "opena1"')
    write_project(clean, 'backend = "echo"')
    assert refusal(clean)[0] == "config_invalid"


def test_local_files_win_over_their_neighbours(clean: GptmeServer) -> None:
    """gptme's own rule, which holds for our table too."""
    local = clean.home / ".config" / "gptme" / "config.local.toml"
    write_user(clean, 'backend = "openai"')
    local.write_text('[plugin.gptme_voice_plugin]\nbackend = "echo"\n')
    try:
        works(clean)
    finally:
        local.unlink()
    assert refusal(clean)[0] == "key_missing"


def test_the_server_still_serves(clean: GptmeServer) -> None:
    """Whatever was wrong, gptme itself and its pages go on, and no stack trace was made."""
    write_user(clean, 'backend = "opena1"')
    assert httpx.get(f"{clean.url}/", verify=False, timeout=60).status_code == 200
    url = f"{clean.url}/api/v2/auth/cookie"
    assert httpx.post(url, headers=clean.auth, verify=False, timeout=60).status_code == 200
    ticket = httpx.post(
        f"{clean.url}/api/v2/voice/tickets", headers=clean.auth, verify=False, timeout=60
    )
    assert ticket.status_code == 200
    assert "Traceback" not in clean.log()


def test_environment(tmp_path: Path) -> None:
    """It wins over both files, and a wrong value there is named by its variable."""
    env = {**WIDE, "GPTME_VOICE_SILENCE_MS": "soon", "GPTME_VOICE_MODEL": " ", "GPTME_VOICE_X": "1"}
    expected = "GPTME_VOICE_SILENCE_MS is 'soon', but must be a whole number from 100 to 5000."
    with GptmeServer(tmp_path, env=env, config="silence_ms = 200") as server:
        (line,) = [line for line in server.log().splitlines() if "SILENCE_MS" in line]
        assert "WARNING" in line
        assert f"Voice: {expected}" in line
        write_project(server, "silence_ms = 300")
        assert refusal(server) == ("config_invalid", expected)


def test_switched_off(tmp_path: Path) -> None:
    """Nothing of the plugin is there, and nothing says a word, even if its settings are wrong."""
    env = {**WIDE, "GPTME_VOICE": "0"}
    with GptmeServer(tmp_path, env=env, config='backend = "opena1"') as server:

        async def connect() -> None:
            for path in ("/voice", "/api/v2/voice"):
                with pytest.raises(websockets.InvalidStatus) as refused:
                    async with VoiceClient(f"ws://127.0.0.1:{server.port}{path}", server.auth):
                        pass
                assert refused.value.response.status_code in (400, 404)

        asyncio.run(connect())
        page = httpx.get(f"{server.url}/voice", verify=False, timeout=60)
        assert page.status_code == 200
        assert page.headers["Content-Type"].startswith("text/html")
        for path in ("/api/v2/voice", "/api/v2/voice/status"):
            answer = httpx.get(f"{server.url}{path}", headers=server.auth, verify=False, timeout=60)
            assert answer.status_code == 404
        answer = httpx.post(
            f"{server.url}/api/v2/voice/tickets", headers=server.auth, verify=False, timeout=60
        )
        assert answer.status_code in (404, 405)
        answer = httpx.post(
            f"{server.url}/api/v2/auth/cookie", headers=server.auth, verify=False, timeout=60
        )
        assert answer.status_code == 200
        assert "Path=/voice" not in str(answer.headers)
        assert "Voice:" not in server.log()
        assert "opena1" not in server.log()
