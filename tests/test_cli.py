"""The command's surface: help, `serve` and `status`."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from click.testing import CliRunner

from gptme_voice_plugin import NAME, __version__, backends
from gptme_voice_plugin.address import Address, AddressError, find_token
from gptme_voice_plugin.cli import main
from gptme_voice_plugin.serve import ENVIRONMENT
from tests.support.command import gptme_voice, one_sentence, write_config
from tests.support.ports import free_port
from tests.support.server import TOKEN, GptmeServer

HEAVY = ("gptme", "numpy", "scipy", "rich", "requests", "websockets", "starlette")
SCRIPT = Path(sys.executable).with_name("gptme-voice")


def gptme_serve() -> click.Command:
    command: click.Command = importlib.import_module("gptme.server.cli").serve
    return command


def nowhere() -> tuple[str, str]:
    """Return arguments for a server that does not run."""
    return "--url", f"http://127.0.0.1:{free_port()}"


# Help


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["talk", "--help"], ["status", "-h"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from gptme_voice_plugin.cli import main\n"
        f"assert CliRunner().invoke(main, {args!r}).exit_code == 0\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HEAVY!r}])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output


@pytest.mark.parametrize("args", [[], ["serve"], ["talk"], ["status"]])
def test_help_names_every_option(args: list[str]) -> None:
    result = CliRunner().invoke(main, [*args, "--help"])
    assert result.exit_code == 0
    command = main.commands[args[0]] if args else main
    for param in command.params:
        for option in param.opts:
            assert option in result.output


def test_the_installed_script(tmp_path: Path) -> None:
    result = gptme_voice("--version", home=tmp_path, command=(SCRIPT,))
    assert result.stdout == f"gptme-voice, version {__version__}\n"


def test_gptme_finds_the_command(tmp_path: Path) -> None:
    """`gptme voice …` runs `gptme-voice …`."""
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    result = gptme_voice(
        *("voice", "status", "--json", *nowhere()),
        home=tmp_path,
        env={"PATH": path},
        command=(SCRIPT.with_name("gptme"),),
    )
    assert json.loads(result.stdout)["version"] == __version__


# serve


def test_serve_has_all_options_of_gptme() -> None:
    serve = main.commands["serve"]
    ours = {param.name: param for param in serve.get_params(click.Context(serve))}
    theirs = {param.name: param for param in gptme_serve().params}
    assert theirs
    for name, param in theirs.items():
        assert ours[name].to_info_dict() == param.to_info_dict()


def test_our_options_do_not_hide_gptmes() -> None:
    serve = main.commands["serve"]
    params = serve.get_params(click.Context(serve))
    options = [option for param in params for option in (*param.opts, *param.secondary_opts)]
    assert len(options) == len(set(options))
    assert not set(ENVIRONMENT) & {param.name for param in gptme_serve().params}


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        ([], {}),
        (["--voice"], {"GPTME_VOICE": "1"}),
        (["--no-voice"], {"GPTME_VOICE": "0"}),
        (["--voice-backend", "Echo"], {"GPTME_VOICE_BACKEND": "echo"}),
        (
            ["--voice-model", "m", "--voice-name", "v"],
            {"GPTME_VOICE_MODEL": "m", "GPTME_VOICE_VOICE": "v"},
        ),
    ],
)
def test_serve_runs_gptmes_command(args: list[str], environment: dict[str, str]) -> None:
    seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    def callback(**options: Any) -> None:
        voice = {k: v for k, v in os.environ.items() if k.startswith("GPTME_VOICE")}
        seen.append((voice, options))

    clean = {k: v for k, v in os.environ.items() if not k.startswith("GPTME_")}
    with (
        mock.patch.object(gptme_serve(), "callback", callback),
        mock.patch.dict(os.environ, clean, clear=True),
    ):
        os.environ["GPTME_SERVER_HOST"] = "127.0.0.9"
        result = CliRunner().invoke(
            main, ["serve", *args, "--port", "5799", "--cors-origin", "https://a.example"]
        )
    assert result.exit_code == 0, result.output
    [(voice, options)] = seen
    assert voice == environment
    assert set(options) == {param.name for param in gptme_serve().params}
    assert options["port"] == 5799
    assert options["cors_origin"] == "https://a.example"
    assert options["host"] == "127.0.0.9"
    assert options["debug"] is False


def test_serve_refuses_an_unknown_backend() -> None:
    result = CliRunner().invoke(main, ["serve", "--voice-backend", "tape"])
    assert result.exit_code == 2
    assert "'tape' is not one of 'auto', 'openai', 'xai', 'local', 'echo'" in result.output


def test_serve_without_the_server_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['flask'] = None; from gptme_voice_plugin.cli import main; main()"
    )
    result = gptme_voice("serve", home=tmp_path, command=(sys.executable, "-c", code))
    assert "pip install 'gptme[server]'" in one_sentence(result)


def test_serve_for_real(tmp_path: Path) -> None:
    command = (str(SCRIPT), "serve", "--voice-backend", "echo")
    with GptmeServer(tmp_path, command=command, config="") as server:
        assert server.status()["reason"] == "set in the config"
        assert server.stop() == 0


def test_serve_without_voice(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gptme_voice_plugin.cli", "serve", "--no-voice")
    with GptmeServer(tmp_path / "server", command=command) as server:
        result = gptme_voice("status", "--url", server.url, home=tmp_path, env={})
        assert result.returncode == 1
        assert f"The server at {server.url} runs without the plugin" in result.stdout


# status


def test_status_of_a_fresh_home(tmp_path: Path) -> None:
    result = gptme_voice("status", *nowhere(), home=tmp_path)
    assert result.returncode == 0, result
    assert result.stderr == ""
    lines = [line.split(":", 1) for line in result.stdout.splitlines()]
    said = {name: text.strip() for name, text in lines}
    assert said["Plugin"] == f"{__version__}, installed and enabled"
    assert re.fullmatch(r"\w+ \(.+\)", said["Backend"])
    assert said["API keys"] == ", ".join(f"{key} not set" for key in backends.KEYS.values())
    assert said["Settings"] == "all at their defaults"
    assert said["Server"].endswith("not running (nothing answers there)")


def test_status_names_keys_and_shows_none(tmp_path: Path) -> None:
    first, *others = backends.KEYS.values()
    write_config(tmp_path, f'[env]\n{first} = "canary-in-config"\n')
    env = dict.fromkeys(others, "canary-in-env")
    for args in ([], ["--json"]):
        result = gptme_voice("status", *args, *nowhere(), home=tmp_path, env=env)
        assert result.returncode == 0
        assert "canary" not in result.stdout + result.stderr
    assert json.loads(result.stdout)["keys"] == dict.fromkeys(backends.KEYS.values(), True)


def test_status_shows_settings_that_are_not_default(tmp_path: Path) -> None:
    write_config(tmp_path, f"[plugin.{NAME}]\nsilence_ms = 700\nprefix_ms = 300\n")
    result = gptme_voice("status", *nowhere(), home=tmp_path, env={"GPTME_VOICE_BACKEND": "echo"})
    assert result.returncode == 0
    assert "Settings: backend = echo, silence_ms = 700\n" in result.stdout
    assert "Backend:  echo (set in the config)\n" in result.stdout


@pytest.mark.parametrize(
    ("config", "env", "expected"),
    [
        ("", {"GPTME_VOICE": "0"}, "Voice is switched off by GPTME_VOICE; set it to 1, or unset"),
        ('[plugins]\nenabled = ["other"]', {}, f"leaves the plugin out; add '{NAME}' to it."),
        (
            '[plugins]\nenabled = ["gptme-voice-plugin"]',
            {},
            f"names 'gptme-voice-plugin'; write it '{NAME}'.",
        ),
        (
            f'[plugin.{NAME}]\nbackend = "tape"',
            {},
            f"[plugin.{NAME}] backend is 'tape', but must be one of auto, openai, xai, local, echo",
        ),
        (f"[plugin.{NAME}]\nbakend = 1", {}, "did you mean 'backend'?"),
        ("", {"GPTME_VOICE_SILENCE_MS": "5"}, "GPTME_VOICE_SILENCE_MS is '5', but must be"),
        ("[env\n", {}, "gptme's config cannot be read: "),
    ],
)
def test_status_says_what_is_missing(
    tmp_path: Path, config: str, env: dict[str, str], expected: str
) -> None:
    write_config(tmp_path, config)
    result = gptme_voice("status", *nowhere(), home=tmp_path, env=env)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    [problem] = [line for line in result.stdout.splitlines() if line.startswith("  - ")]
    assert expected in problem
    if "must be" in expected:
        assert "not known, see below" in result.stdout
    as_json = json.loads(gptme_voice("status", "--json", *nowhere(), home=tmp_path, env=env).stdout)
    assert as_json["ok"] is False
    assert [f"  - {text}" for text in as_json["problems"]] == [problem]


def test_status_of_a_running_server(server: GptmeServer, tmp_path: Path) -> None:
    env = {"GPTME_SERVER_TOKEN": TOKEN}
    backend = server.status()["backend"]
    for url in (server.url, server.ws_url, f"127.0.0.1:{server.port}"):
        result = gptme_voice("status", "--json", "--url", url, home=tmp_path, env=env)
        assert result.returncode == 0, result
        seen = json.loads(result.stdout)["server"]
        assert (seen["running"], seen["loaded"]) == (True, True)
        assert (seen["version"], seen["backend"]) == (__version__, backend)
        assert "sessions" in seen["voice_process"]
    plain = gptme_voice("status", "--url", server.url, home=tmp_path, env=env)
    assert f"running, voice loaded (version {__version__}, backend {backend})" in plain.stdout
    assert TOKEN not in result.stdout + plain.stdout


@pytest.mark.parametrize("token", [None, "canary-wrong"])
def test_status_without_the_right_token(
    server: GptmeServer, tmp_path: Path, token: str | None
) -> None:
    args = ("--token", token) if token else ()
    result = gptme_voice("status", "--url", server.url, *args, home=tmp_path)
    assert result.returncode == 1
    assert "needs the token it printed at its start" in result.stdout
    assert "canary" not in result.stdout + result.stderr


@pytest.fixture
def other_server() -> Iterator[str]:
    """Something that is no gptme-server, and redirects what it is asked to a place of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/other")
            self.send_header("Content-Length", "0")
            self.end_headers()
            asked.append(self.path)

        def log_message(self, *_: Any) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()
    assert "/other" not in asked


@pytest.mark.parametrize("command", ["status", "talk"])
def test_a_redirect_does_not_get_the_token(other_server: str, tmp_path: Path, command: str) -> None:
    args: tuple[str, ...] = ()
    if command == "talk":
        wav = tmp_path / "question.wav"
        wav.write_bytes(
            b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0"
            b"data\4\0\0\0\0\0\0\0"
        )
        args = ("--in", str(wav), "--out", str(tmp_path / "answer.wav"))
    result = gptme_voice(command, *args, "--url", other_server, "--token", "canary", home=tmp_path)
    assert result.returncode == 1
    assert "302" in result.stdout + result.stderr
    assert "canary" not in result.stdout + result.stderr


# Addresses and tokens


@pytest.mark.parametrize(
    ("url", "http", "websocket"),
    [
        ("ws://127.0.0.1:5700/voice", "http://127.0.0.1:5700", "ws://127.0.0.1:5700/voice"),
        ("http://127.0.0.1:5700", "http://127.0.0.1:5700", "ws://127.0.0.1:5700/voice"),
        ("http://127.0.0.1:5700/#userToken=x", "http://127.0.0.1:5700", None),
        ("localhost:5700", "http://localhost:5700", "ws://localhost:5700/voice"),
        ("wss://a.example/voice", "https://a.example", "wss://a.example/voice"),
        ("https://a.example/gptme/", "https://a.example/gptme", "wss://a.example/gptme/voice"),
        ("https://a.example/gptme/api/v2/voice", "https://a.example/gptme", None),
        ("ws://[::1]:5700", "http://[::1]:5700", "ws://[::1]:5700/voice"),
        ("ws://a.example/elsewhere", "http://a.example", "ws://a.example/elsewhere"),
    ],
)
def test_addresses(url: str, http: str, websocket: str | None) -> None:
    address = Address.parse(url)
    assert address.http == http
    if websocket is not None:
        assert address.websocket == websocket
    assert "#" not in address.target


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "ws://", "http://a:port", "http://a:99999", "ws://[::1", "ws://a..b"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(AddressError, match="must be an address"):
        Address.parse(url)


@pytest.mark.parametrize("url", ["ws://me:canary@a/voice", "ws://a/voice?token=canary"])
def test_secrets_do_not_belong_in_an_address(url: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(url)
    assert "canary" not in caught.value.message


def test_token_order(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Address.parse("ws://127.0.0.1"), Address.parse("wss://a.example")
    monkeypatch.delenv("GPTME_SERVER_TOKEN", raising=False)
    monkeypatch.setattr("gptme_voice_plugin.address._token_file", lambda: "from-file")
    assert find_token(None, here) == "from-file"
    assert find_token(None, there) is None  # another machine has nothing to do with it
    monkeypatch.setenv("GPTME_SERVER_TOKEN", "from-env")
    assert find_token(None, here) == find_token("", there) == "from-env"
    assert find_token("given\n", there) == "given"
    with pytest.raises(AddressError, match="printable ASCII"):
        find_token("two\r\nlines", here)
