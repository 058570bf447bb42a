"""The settings as a page reads and saves them: who may, what is told, what is written."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomlkit

from gptme_voice_plugin import NAME, backends
from gptme_voice_plugin.server.settings import EDITABLE
from tests.support.client import VoiceClient
from tests.support.http_client import kept_client
from tests.support.server import GptmeServer

CANARY = "sk-canary-91c7"
CONFIG = "/api/v2/voice/config"
TABLE = f"[plugin.{NAME}]"

# One for all, because making one takes long.
HTTP = kept_client()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server with a key of its provider, for all tests."""
    env = {"OPENAI_API_KEY": CANARY}
    with GptmeServer(tmp_path_factory.mktemp("server"), env=env) as server:
        yield server


@pytest.fixture
def server(running: GptmeServer) -> Iterator[GptmeServer]:
    """The same, with nothing set."""
    folder = config_of(running).parent
    write(running, "")
    yield running
    (folder / "config.local.toml").unlink(missing_ok=True)
    (running.workspace / "gptme.toml").unlink(missing_ok=True)


def config_of(server: GptmeServer) -> Path:
    """Return the user's config file."""
    return server.home / ".config" / "gptme" / "config.toml"


def write(server: GptmeServer, text: str) -> None:
    """Write the user's config file, its line ends as they are."""
    config_of(server).write_bytes(text.encode())


def text_of(server: GptmeServer) -> str:
    """Return what is in the user's config file."""
    return config_of(server).read_bytes().decode()


def table_of(server: GptmeServer) -> dict[str, Any]:
    """Return our table of it."""
    found: dict[str, Any] = tomlkit.parse(text_of(server)).unwrap().get("plugin", {}).get(NAME, {})
    return found


def get(server: GptmeServer) -> dict[str, Any]:
    """Read the settings."""
    answer = HTTP.get(f"{server.url}{CONFIG}", headers=server.auth)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert CANARY not in answer.text
    data: dict[str, Any] = answer.json()
    return data


def patch(server: GptmeServer, settings: object, **headers: str) -> httpx.Response:
    """Save settings."""
    headers = {"Content-Type": "application/json", **server.auth, **headers}
    # As JavaScript would write it, which can spell what UTF-8 cannot.
    content = json.dumps({"settings": settings})
    answer = HTTP.patch(f"{server.url}{CONFIG}", headers=headers, content=content)
    assert CANARY not in answer.text
    return answer


def saved(server: GptmeServer, settings: object) -> dict[str, Any]:
    """Save settings, which works; return the answer, which is as for reading."""
    answer = patch(server, settings)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()
    assert data == get(server)
    return data


def refused(answer: httpx.Response, status: int, code: str = "config_invalid") -> str:
    """Check that it was refused; return the sentence."""
    assert answer.status_code == status
    data = answer.json()
    assert set(data) == {"error", "code"}
    assert data["code"] == code
    assert data["error"].endswith((".", "?"))
    return str(data["error"])


# Who


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_who_may(server: GptmeServer, method: str) -> None:
    """Whoever has gptme's token, and as a page comes from an allowed origin too."""

    def ask(headers: dict[str, str]) -> httpx.Response:
        body = {"settings": {"voice": "ash"}} if method == "PATCH" else None
        return HTTP.request(method, f"{server.url}{CONFIG}", headers=headers, json=body)

    evil = {"Origin": "https://evil.example"}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert ask(headers).status_code == 401
    for headers in (evil, server.auth | evil, server.auth | {"Origin": "null"}):
        answer = ask(headers)
        assert answer.status_code == 403
        assert answer.json()["code"] == "origin_refused"
    assert text_of(server) == ""
    assert ask(server.auth).status_code == 200
    assert ask(server.auth | {"Origin": server.url}).status_code == 200


def test_the_cookie_is_enough(server: GptmeServer) -> None:
    """As the web UI has it."""
    with httpx.Client(base_url=server.url, verify=False, timeout=30) as browser:
        browser.post("/api/v2/auth/cookie", headers=server.auth)
        assert browser.get(CONFIG).status_code == 200
        origin = {"Origin": server.url}
        body = {"settings": {"voice": "ash"}}
        assert browser.patch(CONFIG, headers=origin, json=body).status_code == 200


# Reading


def test_defaults(server: GptmeServer) -> None:
    assert get(server) == {
        "settings": {
            "backend": {
                "value": "auto",
                "default": "auto",
                "source": "default",
                "editable": True,
                "help": "which speech backend answers",
                "choices": ["auto", *(n for n in ("openai", "xai", "local", "echo") if n in BUILT)],
            },
            **{
                key: {
                    "value": "",
                    "default": "",
                    "source": "default",
                    "editable": True,
                    "help": help,
                }
                for key, help in {
                    "model": "the backend's model; empty: its default",
                    "voice": "the voice that speaks; empty: the backend's default",
                    "language": "the language spoken, as in 'en'; empty: detected",
                }.items()
            },
            "turn_detection": {
                "value": "server_vad",
                "default": "server_vad",
                "source": "default",
                "editable": True,
                "help": "turns end by silence, or by sense",
                "choices": ["server_vad", "semantic_vad"],
            },
            **{
                key: {
                    "value": False,
                    "default": False,
                    "source": "default",
                    "editable": True,
                    "help": help,
                }
                for key, help in {
                    "voice_confirm": "whether what gptme asks permission for can be allowed by "
                    "voice",
                    "record": "whether sessions are recorded to a file beside the conversation",
                }.items()
            },
        },
        "keys": {
            "openai": {"name": "OPENAI_API_KEY", "present": True},
            "xai": {"name": "XAI_API_KEY", "present": False},
        },
        "backend": {"name": "openai", "reason": "OPENAI_API_KEY is configured"},
    }


BUILT = set(backends.FACTORIES)


def test_where_a_setting_comes_from(server: GptmeServer) -> None:
    """What wins over the user's config.toml is told, because saving there would do nothing."""

    def model() -> tuple[str, str, bool]:
        found = get(server)["settings"]["model"]
        return found["value"], found["source"], found["editable"]

    line = f'{TABLE}\nmodel = "%s"\n'
    assert model() == ("", "default", True)
    write(server, line % "user's")
    assert model() == ("user's", "user", True)
    config_of(server).with_name("config.local.toml").write_text(line % "local")
    assert model() == ("local", "local", False)
    (server.workspace / "gptme.toml").write_text(line % "project's")
    assert model() == ("project's", "project", False)


def test_the_environment_wins(tmp_path: Path) -> None:
    env = {
        "GPTME_VOICE_VOICE": " ash ",
        "GPTME_VOICE_BACKEND": "",
        "GPTME_VOICE_MODEL": " ",
        "GPTME_VOICE_RECORD": "yes",
    }
    with GptmeServer(tmp_path, env=env, config='voice = "user\'s"\nmodel = "m"') as server:
        (server.workspace / "gptme.toml").write_text(f'{TABLE}\nvoice = "project\'s"\n')
        settings = saved(server, {"voice": "other"})["settings"]
        assert settings["voice"]["value"] == "ash"
        assert settings["voice"]["source"] == "env"
        assert settings["voice"]["editable"] is False
        assert settings["record"]["value"] is True
        assert settings["record"]["source"] == "env"
        assert settings["model"]["source"] == "user"
        assert settings["backend"]["source"] == "default"
        assert table_of(server)["voice"] == "other"


def test_what_is_wrong_is_told_and_shown(server: GptmeServer) -> None:
    """The page can still be used to put it in order."""
    write(server, f'{TABLE}\nbackend = "opena1"\nmodel = 4\n')
    data = get(server)
    assert data["error"]["code"] == "config_invalid"
    assert "'opena1'" in data["error"]["message"]
    assert "backend" not in data
    assert data["settings"]["backend"]["value"] == "opena1"
    assert data["settings"]["model"]["value"] == "4"
    message = refused(patch(server, {"backend": "echo"}), 400)
    assert "model is 4, but must be a text" in message
    data = saved(server, {"backend": "echo", "model": None})
    assert data["backend"]["name"] == "echo"
    assert "error" not in data


def test_a_missing_key_is_told(server: GptmeServer) -> None:
    data = saved(server, {"backend": "xai"})
    assert data["error"]["code"] == "key_missing"
    assert "XAI_API_KEY" in data["error"]["message"]
    assert data["settings"]["backend"]["value"] == "xai"


# Saving


def test_saved_is_used(server: GptmeServer) -> None:
    """By the next session, without a restart; null goes back to the default."""
    data = saved(server, {"backend": "echo", "voice": " ash ", "turn_detection": "SEMANTIC_VAD"})
    assert data["settings"]["backend"]["source"] == "user"
    assert data["backend"] == {"name": "echo", "reason": "set in the config"}
    expected = {"backend": "echo", "voice": "ash", "turn_detection": "semantic_vad"}
    assert table_of(server) == expected

    async def backend() -> str:
        async with VoiceClient(server.ws_url, server.auth) as client:
            await client.until(lambda c: c.ready.is_set())
            (ready,) = [m for m in client.messages if m["type"] == "ready"]
            return str(ready["backend"])

    assert asyncio.run(backend()) == "echo"
    data = saved(server, {"backend": None, "voice": None, "language": None})
    assert data["settings"]["backend"]["source"] == "default"
    assert data["backend"]["name"] == "openai"
    assert table_of(server) == {"turn_detection": "semantic_vad"}


def test_every_setting_of_the_page(server: GptmeServer) -> None:
    wanted = ("echo", "m", "v", "de", "semantic_vad", True, True)
    values: dict[str, object] = dict(zip(EDITABLE, wanted, strict=True))
    data = saved(server, values)
    assert {key: data["settings"][key]["value"] for key in EDITABLE} == values
    assert table_of(server) == values
    saved(server, dict.fromkeys(EDITABLE))
    assert table_of(server) == {}


def test_switches(server: GptmeServer) -> None:
    """True and false are saved as such, which off is too: it is what the user wants, not unset."""
    data = saved(server, {"voice_confirm": True, "record": False})
    assert "voice_confirm = true" in text_of(server)
    assert "record = false" in text_of(server)
    record = data["settings"]["record"]
    assert (record["value"], record["source"]) == (False, "user")
    data = saved(server, {"voice_confirm": None, "record": None})
    assert data["settings"]["voice_confirm"]["value"] is False
    assert table_of(server) == {}


def test_switches_as_people_write_them(server: GptmeServer) -> None:
    """Whatever the config takes is shown as what it means; the rest as it is."""
    write(server, f'{TABLE}\nvoice_confirm = "on"\nrecord = "perhaps"\n')
    data = get(server)
    assert data["settings"]["voice_confirm"]["value"] is True
    assert data["settings"]["record"]["value"] == "perhaps"
    assert "record is 'perhaps'" in data["error"]["message"]
    saved(server, {"record": False})
    assert table_of(server) == {"voice_confirm": "on", "record": False}
    (server.workspace / "gptme.toml").write_text(f"{TABLE}\nrecord = true\n")
    record = get(server)["settings"]["record"]
    assert (record["value"], record["source"], record["editable"]) == (True, "project", False)


def test_nothing_to_do(server: GptmeServer) -> None:
    """Nothing is written, not even the same again."""
    write(server, "# mine")
    saved(server, {})
    saved(server, {"backend": None})
    assert text_of(server) == "# mine"


SHAPES = {
    "usual": """\
# top
[env]
A = "1" # one

[plugin.gptme_voice_plugin]
# which one
backend = "echo" # mine
model = "m"
silence_ms = 700

[plugin.other]
x = 1
""",
    "no table": '# top\n[env]\nA = "1" # one\n',
    "empty": "",
    "other plugins": '[plugin]\n# others\n[plugin.other]\nx = 1\n[env]\nA = "1"\n[plugin.more]\n',
    "inline": 'plugin = { gptme_voice_plugin = { model = "m" }, other = { x = 1 } } # all\n',
    "half inline": '[plugin]\ngptme_voice_plugin = { model = "m" } # ours\nother.x = 1\n[env]\n',
    "dotted": 'plugin.gptme_voice_plugin.model = "m" # ours\nplugin.other.x = 1\n[env]\n',
    "scattered": '[plugin.gptme_voice_plugin]\nmodel = "m"\n# e\n[env]\n[plugin.other]\nx = 1\n',
    "last": '[plugin.other]\nx = 1\n[env]\n[plugin.gptme_voice_plugin]\n# m\nmodel = "m"\n',
    "windows": '# top\r\n[plugin.gptme_voice_plugin]\r\nmodel = "m" # ours\r\n',
    "no line end": '[plugin.gptme_voice_plugin]\nmodel = "m"',
    "umlaut": '# gr\u00fc\u00df\n[env]\nA = "\u00e9"\n',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rest_of_the_file_survives(server: GptmeServer, shape: str) -> None:
    """Every other value, every comment, and every line that has nothing to do with it.

    But for a comment behind a value that is removed.
    """
    before = SHAPES[shape]
    write(server, before)
    saved(server, {"backend": "xai", "voice": "eve", "model": None})
    expected = tomlkit.parse(before).unwrap()
    ours = expected.setdefault("plugin", {}).setdefault(NAME, {})
    ours.pop("model", None)
    ours |= {"backend": "xai", "voice": "eve"}
    after = text_of(server)
    assert tomlkit.parse(after).unwrap() == expected
    for line in before.splitlines(keepends=True):
        removed = line.startswith(("model", f"plugin.{NAME}.model"))
        if "#" in line and not removed:
            assert line[line.index("#") :].strip() in after
        if "model" not in line and "backend" not in line and NAME not in line:
            assert line in after


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\0", "\U0001f600", "'''", "[env]", "=", "\x7f"])
def test_odd_texts_come_back(server: GptmeServer, text: str) -> None:
    """Whatever they are in TOML: nobody can write anything but a value."""
    odd = f"a{text}z"
    assert saved(server, {"voice": odd})["settings"]["voice"]["value"] == odd
    assert table_of(server) == {"voice": odd}
    assert set(tomlkit.parse(text_of(server)).unwrap()) <= {"plugin", "env"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"backend": "opena1"}, "backend is 'opena1', but must be one of auto, openai, xai"),
        ({"turn_detection": "x"}, "turn_detection is 'x', but must be one of server_vad, sem"),
        ({"backend": ""}, "backend is '', but must be one of"),
        ({"backend": 1}, "backend must be a text of at most 500 characters, or null"),
        ({"model": True}, "model must be a text"),
        ({"record": "true"}, "record must be true or false, or null"),
        ({"record": 1}, "record must be true or false"),
        ({"voice_confirm": [True]}, "voice_confirm must be true or false"),
        ({"model": ["m"]}, "model must be a text"),
        ({"voice": "x" * 501}, "voice must be a text of at most 500 characters"),
        ({"voice": "\ud800"}, "voice must be a text"),
        ({"silence_ms": "700"}, "'silence_ms' cannot be changed from a page; what can: backend,"),
        ({"openai_base_url": "http://evil"}, "'openai_base_url' cannot be changed from a page"),
        ({"allowed_origins": None}, "'allowed_origins' cannot be changed from a page"),
        ({"a.b": "c"}, "'a.b' cannot be changed from a page"),
        ([], "must be JSON like"),
        (None, "must be JSON like"),
        ("backend", "must be JSON like"),
    ],
)
def test_what_cannot_be_saved(server: GptmeServer, settings: object, expected: str) -> None:
    """It is said what can be, and nothing is written, also of what was right."""
    before = f'{TABLE}\nvoice = "ash"\n'
    write(server, before)
    if isinstance(settings, dict):
        settings = {"language": "de", "voice": None, **settings}
    assert expected in refused(patch(server, settings), 400)
    assert text_of(server) == before


def test_no_json(server: GptmeServer) -> None:
    for content, kind in ((b"{", "application/json"), (b"{}", "text/plain"), (b"[]", "x/json")):
        headers = server.auth | {"Content-Type": kind}
        answer = HTTP.patch(f"{server.url}{CONFIG}", headers=headers, content=content)
        assert "must be JSON like" in refused(answer, 400)


@pytest.mark.parametrize(
    "text", ["[broken", f"{TABLE}\nx = 1\n{TABLE}\n", '[plugin]\ngptme_voice_plugin = "x"\n']
)
def test_a_broken_file_is_left_alone(server: GptmeServer, text: str) -> None:
    """Writing would lose what its owner is in the middle of."""
    write(server, text)
    message = refused(patch(server, {"backend": "echo"}), 409)
    assert "config.toml" in message or "must be a table" in message
    assert text_of(server) == text
    data = get(server)
    assert data["error"]["code"] == "config_invalid"


def test_a_file_that_is_not_utf8_is_left_alone(server: GptmeServer) -> None:
    content = f'# gr\xfc\xdf\n{TABLE}\nvoice = "ash"\n'.encode("latin-1")
    config_of(server).write_bytes(content)
    refused(patch(server, {"backend": "echo"}), 409)
    assert config_of(server).read_bytes() == content


def test_somebody_elses_mistake_in_our_table(server: GptmeServer) -> None:
    """Is named; it would otherwise be found at the next session."""
    write(server, f"{TABLE}\nsilence_ms = 1\n")
    assert "silence_ms is 1" in refused(patch(server, {"backend": "echo"}), 400)


def test_without_a_file(server: GptmeServer) -> None:
    """gptme makes one."""
    config_of(server).unlink()
    saved(server, {"backend": "echo"})
    assert table_of(server) == {"backend": "echo"}


def test_a_linked_file_stays_linked(server: GptmeServer, tmp_path: Path) -> None:
    """As people have it whose settings are in a repository."""
    real = tmp_path / "dotfile.toml"
    real.write_text(f'{TABLE}\nvoice = "ash"\n')
    config_of(server).unlink()
    config_of(server).symlink_to(real)
    try:
        saved(server, {"backend": "echo", "voice": None})
        assert config_of(server).is_symlink()
        assert tomlkit.parse(real.read_text()).unwrap()["plugin"][NAME] == {"backend": "echo"}
    finally:
        config_of(server).unlink()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said so, and the file is as it was."""
    command = [str(Path(sys.executable).with_name("gptme-server"))]
    if os.geteuid() == 0:  # who may write everything, unless told otherwise
        assert shutil.which("setpriv"), "setpriv, of util-linux, is needed to test this as root"
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    with GptmeServer(tmp_path, command=command, config='voice = "ash"') as server:
        before = text_of(server)
        config_of(server).chmod(0o444)
        for settings in ({"backend": "echo"}, {"voice": None}, {"backend": "echo", "voice": None}):
            message = refused(patch(server, settings), 503, "config_not_saved")
            assert "config.toml cannot be written (Permission denied); nothing was" in message
            assert text_of(server) == before
        assert "Traceback" not in server.log()


def test_all_at_once(server: GptmeServer) -> None:
    """Nothing gets lost between two pages that save at the same time, nor is the file ever torn."""
    write(server, "# mine\n" + "[env]\n" + "".join(f'K{i} = "{i}"\n' for i in range(200)))
    wanted = {"model": "m", "voice": "v", "language": "de", "turn_detection": "semantic_vad"}

    def save(key: str) -> None:
        for value in (None, wanted[key], None, wanted[key]):
            data = patch(server, {key: value}).json()
            assert "error" not in data, data
            assert data["keys"]["openai"]["present"] is True

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, list(wanted)))
        list(pool.map(lambda _: get(server), range(8)))
    assert table_of(server) == wanted
    assert text_of(server).startswith("# mine\n")
    assert "Traceback" not in server.log()
