"""What we use of gptme that is not documented, or that a new version could well change.

Where gptme keeps something once per process, such as its plugins or its Flask blueprints, the test
runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from gptme_voice_plugin import NAME
from tests.support.client import VoiceClient
from tests.support.server import GptmeServer, wait_until

HEAVY = ("numpy", "scipy", "starlette", "uvicorn")
"""What gptme's own process must never load for us; websockets is loaded to end a lost session."""

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs Python code in a process and a home of its own.

    The code prints JSON last, which is returned.
    """

    def execute(code: str, **env: str) -> Any:
        server = GptmeServer(tmp_path, env=env)  # never started: it knows the environment
        server.workspace.mkdir(parents=True, exist_ok=True)
        server.home.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=server.workspace,
            env=server.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return execute


# Names


def test_names_in_auth() -> None:
    from gptme.server import auth

    assert auth.AUTH_COOKIE_NAME == "gptme_auth"
    assert auth.AUTH_COOKIE_MAX_AGE > 0
    assert "/api/" in auth.AUTH_COOKIE_PATHS
    assert list(inspect.signature(auth.get_server_token).parameters) == []
    assert len(inspect.signature(auth.require_auth).parameters) == 1
    assert auth.auth_api.name == "auth_api"
    assert auth._auth_enabled is True
    assert callable(auth.validate_host)


def test_config() -> None:
    from gptme.config import Config, get_project_config, load_user_config

    assert all(
        p.default is not p.empty for p in inspect.signature(load_user_config).parameters.values()
    )
    quiet = inspect.signature(get_project_config).parameters["quiet"]
    assert quiet.kind in (quiet.KEYWORD_ONLY, quiet.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(Config).parameters
    assert {"user", "project"} <= set(parameters)
    assert callable(Config.get_env)


def test_config_is_read_afresh(run: Run) -> None:
    """Both layers keep their own table, are read from disk each time, and hold the keys."""
    result = run(
        """
        import json
        from pathlib import Path
        from gptme.config import Config, get_project_config, load_user_config

        def read():
            project = get_project_config(Path.cwd(), quiet=True)
            config = Config(user=load_user_config(), project=project)
            layers = config.user, config.project
            tables = [layer and layer.plugin.get("gptme_voice_plugin") for layer in layers]
            return [*tables, config.get_env("OPENAI_API_KEY")]

        table = "[plugin.gptme_voice_plugin]"
        file = Path.home() / ".config" / "gptme" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'[env]\\nOPENAI_API_KEY = "k"\\n{table}\\nmodel = "1"\\n')
        answers = [read()]
        Path("gptme.toml").write_text(f'{table}\\nmodel = "2"\\n')
        answers.append(read())
        file.write_text(f'[env]\\n{table}\\nmodel = "3"\\n')
        answers.append(read())
        print(json.dumps(answers))
        """
    )
    assert result == [
        [{"model": "1"}, None, "k"],
        [{"model": "1"}, {"model": "2"}, "k"],
        [{"model": "3"}, {"model": "2"}, None],
    ]


def test_config_is_written(run: Run) -> None:
    """One value of a table is set, in config.toml; the rest of the file stays, comments too."""
    from gptme.config import set_config_value
    from gptme.config.user import get_user_config_paths

    assert list(inspect.signature(set_config_value).parameters)[:3] == ["key", "value", "reload"]
    assert [path.name for path in get_user_config_paths()] == ["config.toml", "config.local.toml"]
    result = run(
        """
        import json
        from gptme.config import load_user_config, set_config_value
        from gptme.config.user import get_user_config_paths

        def text():
            return main.read_text() if main.exists() else ""

        main, local = get_user_config_paths()
        set_config_value("plugin.gptme_voice_plugin.voice", "first", reload=False)
        made = load_user_config().plugin
        table = "[plugin.gptme_voice_plugin]"
        main.write_text(f'# top\\n[env]\\nA = "1" # one\\n{table}\\nmodel = "m" # two\\n')
        set_config_value("plugin.gptme_voice_plugin.voice", "a'b", reload=False)
        print(json.dumps([made, text(), load_user_config().plugin, local.exists()]))
        """
    )
    made, text, read, local = result
    assert made == {NAME: {"voice": "first"}}
    assert text.startswith('# top\n[env]\nA = "1" # one\n[plugin.gptme_voice_plugin]\n')
    assert 'model = "m" # two\n' in text
    assert read == {NAME: {"model": "m", "voice": "a'b"}}
    assert local is False


# The hook


def test_discovery() -> None:
    """One name everywhere, because gptme compares them."""
    found = [e for e in entry_points(group="gptme.plugins") if e.name == NAME]
    assert [(e.value, e.dist.name if e.dist else "") for e in found] == [
        (f"{NAME}:plugin", "gptme-voice-plugin")
    ]
    manifest = found[0].load()()
    assert manifest.name == NAME
    assert callable(manifest.init)


def test_every_application_gets_the_routes(run: Run) -> None:
    """What was recorded once holds for two of them; `init` may be called again and again."""
    result = run(
        """
        import json, sys
        import gptme.server.auth
        from gptme.config import get_config
        from gptme.plugins import discover_all_plugins
        from gptme_voice_plugin import plugin

        (ours,) = [p for p in discover_all_plugins() if p.name == "gptme_voice_plugin"]
        config, before = get_config(), set(sys.modules)
        for _ in range(3):
            ours.init(config)
            plugin().init(config)
        loaded = sorted(set(sys.modules) - before)

        from gptme.server.app import create_app
        answers = []
        for _ in range(2):
            app = create_app()
            rules = sorted((r.rule, r.endpoint, bool(r.websocket)) for r in app.url_map.iter_rules()
                           if r.endpoint.startswith("gptme_voice_plugin."))
            endpoints = {"auth_api.set_auth_cookie", "auth_api.clear_auth_cookie",
                         "root", "spa_fallback", "computer"}
            known = sorted(endpoints & set(app.view_functions))
            client = app.test_client()
            anonymous = client.get("/api/v2/voice/status").status_code
            client.get("/")
            answers.append([rules, known, anonymous])
        print(json.dumps([answers, loaded]))
        """
    )
    (first, second), loaded = result
    assert first == second
    rules, known, anonymous = first
    assert [rule for rule, _, websocket in rules if websocket] == ["/api/v2/voice", "/voice"]
    assert {"/api/v2/voice/tickets", "/api/v2/voice/status"} <= {rule for rule, _, _ in rules}
    pages = ["computer", "root", "spa_fallback"]
    assert known == ["auth_api.clear_auth_cookie", "auth_api.set_auth_cookie", *pages]
    assert anonymous == 401
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_too_late_is_said_and_harmless(run: Run) -> None:
    """After an application was made, Flask refuses; gptme goes on without voice."""
    result = run(
        """
        import json, logging
        logging.basicConfig(filename="log", level=logging.WARNING)
        from gptme.config import get_config
        from gptme.server.app import create_app
        from gptme_voice_plugin import plugin
        create_app()
        plugin().init(get_config())
        rules = [r.rule for r in create_app().url_map.iter_rules() if "/voice" in r.rule]
        print(json.dumps([rules, open("log").read()]))
        """
    )
    assert result[0] == []
    assert "Voice is off" in result[1]
    assert "Traceback" not in result[1]


def test_the_gptme_command_loads_nothing_heavy(run: Run) -> None:
    """`gptme` calls `init` at every start, and gets out of it at once."""
    result = run(
        """
        import json, sys
        import gptme.cli.main
        from importlib.metadata import entry_points
        from gptme.config import get_config
        from gptme.plugins import discover_all_plugins
        assert "gptme.server.auth" not in sys.modules

        config, before = get_config(), set(sys.modules)
        (ours,) = entry_points(group="gptme.plugins", name="gptme_voice_plugin")
        ours.load()().init(config)
        loaded = sorted(set(sys.modules) - before)

        names = [p.name for p in discover_all_plugins()]
        ours = [m for m in sys.modules if m.startswith("gptme_voice_plugin")]
        print(json.dumps([names, loaded, ours]))
        """
    )
    names, loaded, ours = result
    assert NAME in names
    roots = {name.partition(".")[0] for name in loaded}
    assert not roots & {*HEAVY, "flask", "werkzeug", "websockets"}
    assert not [name for name in loaded if name.startswith("gptme.server")]
    assert set(ours) <= {
        NAME,
        f"{NAME}.config",
        f"{NAME}.errors",
        f"{NAME}.server",
        f"{NAME}.server.attach",
    }


# Flask-CORS


CORS = {
    None: [],
    "https://a.example": ["https://a.example"],
    " https://a.example , http://b.example:3000 ": ["https://a.example", "http://b.example:3000"],
    "tauri://localhost,http://tauri.localhost": ["tauri://localhost"],
    "*": [],
    "*,https://a.example": [],
}


def test_cors_origins_can_be_asked_for(run: Run) -> None:
    """gptme keeps `--cors-origin` to itself, but its application answers as browsers see it."""
    asked = ["https://a.example", "http://b.example:3000", "tauri://localhost", "https://c.example"]
    result = run(
        f"""
        import json
        from gptme.server.app import create_app
        from gptme_voice_plugin.server.access import cors_allows
        answers = []
        for started_with in {list(CORS)!r}:
            app = create_app(cors_origin=started_with)
            answers.append([origin for origin in {asked!r} if cors_allows(app, origin)])
        print(json.dumps(answers))
        """
    )
    assert result == list(CORS.values())


# What the server's process loads

# Runs gptme-server, and on SIGUSR1 writes the names of its modules to a file.
LOOK_INTO = """
import json, os, pathlib, signal, sys

def write(*_):
    out = pathlib.Path(os.environ["MODULES_FILE"])
    part = out.with_suffix(".part")
    part.write_text(json.dumps(sorted(sys.modules)))
    part.rename(out)

signal.signal(signal.SIGUSR1, write)
from gptme.server.cli import main
main()
"""


def modules_of(folder: Path, voice: bool) -> set[str]:
    """Return what a server has loaded after three sessions, or without the plugin."""
    out = folder / "modules.json"
    env = {"MODULES_FILE": str(out), **({} if voice else {"GPTME_VOICE": "0"})}
    with GptmeServer(folder, env=env, command=[sys.executable, "-c", LOOK_INTO]) as server:

        async def sessions() -> None:
            for v1 in (True, False, True):
                async with VoiceClient(server.ws_url, server.auth, v1=v1) as client:
                    await client.until(lambda c: c.ready.is_set())

        if voice:
            asyncio.run(sessions())
            assert server.status()["voice_process"]["isolation"] == "process"
        server.process.send_signal(signal.SIGUSR1)
        assert wait_until(out.exists)
    return set(json.loads(out.read_text()))


def test_the_server_process_stays_light(tmp_path: Path) -> None:
    without = modules_of(tmp_path / "without", voice=False)
    with_it = modules_of(tmp_path / "with", voice=True)
    assert "gptme.server.auth" in without
    assert f"{NAME}.server.routes" not in without
    assert f"{NAME}.server.routes" in with_it
    roots = {name.partition(".")[0] for name in with_it - without}
    assert not roots & set(HEAVY)
    assert not [name for name in with_it if name.startswith((f"{NAME}.voice", f"{NAME}.audio"))]


# Writing into a conversation


def test_names_for_spoken_turns() -> None:
    from gptme.dirs import get_logs_dir
    from gptme.logmanager import LogManager
    from gptme.message import MessageMetadata
    from gptme.server.api_v2_common import msg2dict
    from gptme.server.session_models import SessionManager
    from gptme.util.conversation_ids import is_valid_conversation_id

    assert "voice_call" in MessageMetadata.__annotations__
    for name in ("conversation_lock", "conversation_generating", "command_is_active"):
        assert list(inspect.signature(getattr(SessionManager, name)).parameters) == [
            "conversation_id"
        ]
    assert list(inspect.signature(SessionManager.add_event).parameters) == [
        "conversation_id",
        "event",
    ]
    assert list(inspect.signature(msg2dict).parameters) == ["msg", "workspace", "logdir"]
    assert isinstance(LogManager.master_log, property)
    assert callable(get_logs_dir)
    for name in ("load", "write"):
        parameters = inspect.signature(getattr(LogManager, name)).parameters
        assert {"load": "lock", "write": "sync"}[name] in parameters
    good = ["chat-2026-01-31T12-00-00-000Z", "a b", "x.jsonl"]
    bad = ["", " ", ".", "..", "a/b", "a\\b", "a\0", "a\n", "x" * 256]
    assert [id for id in [*good, *bad] if is_valid_conversation_id(id)] == good


def test_what_gptme_takes_for_a_command() -> None:
    """Its server does so when a message comes, its agents (`use_acp`) when they read one."""
    from gptme.acp import agent
    from gptme.util.content import is_message_command

    assert is_message_command("/help me")
    assert not is_message_command("\\/help me")
    assert "is_message_command(msg.content)" in inspect.getsource(agent)


def test_a_message_of_a_spoken_turn(run: Run) -> None:
    """What its metadata holds survives the log, gptme's editor, and the way to pages."""
    result = run(
        """
        import json
        from datetime import datetime, timezone
        from gptme.dirs import get_logs_dir
        from gptme.logmanager import LogManager
        from gptme.message import Message
        from gptme.server.api_v2_common import msg2dict

        folder = get_logs_dir() / "talk"
        try:
            LogManager.load("talk")
        except FileNotFoundError:
            made = folder.exists()
        LogManager.load(folder, create=True)
        usage = {"input_tokens": 12, "cost_usd": 0.25}
        metadata = {"voice_call": {"turn": "s:1", "model": "m\\\\ \\"", "seconds": 2.5,
                                   "usage": usage}}
        at = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
        log = LogManager.load("talk")
        log.append(Message("user", "/help", timestamp=at, metadata=metadata, quiet=True))
        again = LogManager.load("talk")
        (message,) = again.log
        edited = Message.from_toml(message.to_toml())
        shown = msg2dict(message, log.workspace, log.logdir)
        print(json.dumps({
            "made": made,
            "metadata": metadata,
            "read": [message.metadata, again.master_log[0].metadata, edited.metadata,
                     shown["metadata"]],
            "shown": [shown["role"], shown["content"], shown["timestamp"]],
            "times": message.timestamp == at == edited.timestamp,
            "lines": len((folder / "conversation.jsonl").read_text().splitlines()),
        }))
        """
    )
    assert result["made"] is False
    assert result["read"] == [result["metadata"]] * 4
    assert result["shown"] == ["user", "/help", "2026-01-31T12:00:00+00:00"]
    assert result["times"] is True
    assert result["lines"] == 1


def test_what_is_for_pages_reaches_no_model(run: Run) -> None:
    """Wherever it stands, and nothing else is lost with it; pages get it."""
    result = run(
        """
        import json
        from datetime import datetime, timezone
        from gptme.dirs import get_logs_dir
        from gptme.llm.models import set_default_model
        from gptme.logmanager import LogManager, prepare_messages
        from gptme.message import Message
        from gptme.server.api_v2_common import msg2dict
        from gptme_voice_plugin.server.entry import Entry
        from gptme_voice_plugin.server.gptme_log import write

        set_default_model("openai/gpt-4o")
        at = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
        log = LogManager.load(get_logs_dir() / "talk", create=True)
        log.append(Message("system", "prompt", pinned=True))

        def end(number):
            call = {"kind": "session", "session": str(number)}
            (entry,) = write("talk", [Entry("system", f"Voice {number}.", at, call, True)])

        def say(role, text):
            LogManager.load("talk").append(Message(role, text))

        end(0)
        say("user", "one")
        end(1)
        say("assistant", "two")
        say("system", "result")
        end(2)
        end(3)
        say("user", "three")
        end(4)
        log = LogManager.load("talk")
        asked = [[m.role, m.content] for m in prepare_messages(log.log.messages)]
        shown = [msg2dict(m, log.workspace, log.logdir)["content"] for m in log.log]
        print(json.dumps([asked, [text for text in shown if "Voice" in text]]))
        """,
        OPENAI_API_KEY="none",
    )
    asked, shown = result
    assert asked == [
        ["system", "prompt"],
        ["user", "one"],
        ["assistant", "two"],
        ["system", "result"],
        ["user", "three"],
    ]
    assert shown == [f"Voice {number}." for number in range(5)]


def test_who_listens_to_a_conversation(run: Run) -> None:
    """Each open stream of events is a client of its session."""
    result = run(
        """
        import json
        from gptme.server.app import create_app
        from gptme.server.session_models import SessionManager
        from gptme_voice_plugin.server.gptme_sessions import watched

        client = create_app().test_client()
        headers = {"Authorization": "Bearer canary-token-5f3a"}
        body = {"prompt": "none", "messages": []}
        made = client.put("/api/v2/conversations/talk", json=body, headers=headers)
        session = made.get_json()["session_id"]
        answers = [watched("talk", None)]
        url = f"/api/v2/conversations/talk/events?session_id={session}"
        stream = client.get(url, headers=headers)
        next(stream.response)
        answers += [watched("talk", None), watched("talk", session), watched("talk", "other")]
        stream.close()
        answers.append(watched("talk", None))
        print(json.dumps(answers))
        """
    )
    assert result == [False, True, False, True, False]


def test_a_conversation_belongs_to_one_process(run: Run) -> None:
    """Which may load it as often as it likes; any other is told so."""
    result = run(
        """
        import json, os, subprocess, sys
        from gptme.dirs import get_logs_dir
        from gptme.logmanager import LogManager

        del os.environ["PYTEST_CURRENT_TEST"]  # with which nothing is locked
        logs = [LogManager.load(get_logs_dir() / "talk", create=True), LogManager.load("talk")]
        load = "from gptme.logmanager import LogManager; LogManager.load('talk')"
        done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True)
        print(json.dumps(done.stderr.splitlines()[-1]))
        """
    )
    assert result.startswith("RuntimeError: Another gptme instance")


def test_a_log_is_let_go_after_it_was_written(run: Run) -> None:
    """By us, who have locked it for that; what gptme itself has locked it keeps."""
    result = run(
        """
        import gc, json, os, psutil, subprocess, sys
        from datetime import datetime, timezone
        from gptme.dirs import get_logs_dir
        from gptme.logmanager import LogManager
        from gptme.server.app import create_app
        from gptme_voice_plugin.server.entry import Entry
        from gptme_voice_plugin.server.gptme_log import write

        del os.environ["PYTEST_CURRENT_TEST"]  # with which nothing is locked
        at = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
        ids = [f"old-{number}" for number in range(5)]
        for id in ids:
            (get_logs_dir() / id).mkdir(parents=True)
            (get_logs_dir() / id / "conversation.jsonl").touch()

        def say(id, number):
            write(id, [Entry("user", "Hi", at, {"turn": str(number)})])

        def logs():
            gc.collect()
            return sum(isinstance(thing, LogManager) for thing in gc.get_objects())

        def refused(id):
            load = f"from gptme.logmanager import LogManager; LogManager.load({id!r})"
            return subprocess.run([sys.executable, "-c", load], capture_output=True).returncode

        create_app()
        say(ids[0], 0)
        before = logs(), psutil.Process().num_fds()
        for number, id in enumerate(ids):
            say(id, number + 1)
        grown = [logs() - before[0], psutil.Process().num_fds() - before[1]]
        locked = [(get_logs_dir() / id / ".lock").read_text() for id in ids]
        own = LogManager.load(get_logs_dir() / "own", create=True)
        own.write()
        say("own", 0)
        print(json.dumps([grown, locked, refused(ids[0]), refused("own")]))
        """
    )
    assert result == [[0, 0], [""] * 5, 0, 1]


def test_who_reserves_a_conversation_has_its_lock(run: Run) -> None:
    """A step has made the conversation generating before it lets go of the lock."""
    result = run(
        """
        import json
        from gptme.server.app import create_app
        from gptme.server.session_models import SessionManager

        taken = []
        original = SessionManager.conversation_lock.__func__

        class Watched:
            def __init__(self, id):
                self.id, self.lock = id, original(SessionManager, id)

            def __enter__(self):
                self.lock.acquire()

            def __exit__(self, *_):
                taken.append([self.id, SessionManager.conversation_generating(self.id)])
                self.lock.release()

        app = create_app()
        client = app.test_client()
        headers = {"Authorization": "Bearer canary-token-5f3a"}
        body = {"prompt": "none", "messages": []}
        session = client.put("/api/v2/conversations/talk", json=body, headers=headers)
        session = session.get_json()["session_id"]
        before = SessionManager.conversation_generating("talk")
        SessionManager.conversation_lock = Watched
        body = {"session_id": session, "model": "local/none"}
        client.post("/api/v2/conversations/talk/step", json=body, headers=headers)
        one, other = original(SessionManager, "talk"), original(SessionManager, "talk2")
        print(json.dumps([before, taken[:1], one is original(SessionManager, "talk"),
                          one is other]))
        """,
        OPENAI_BASE_URL="http://127.0.0.1:9",
    )
    assert result == [False, [["talk", True]], True, False]


def test_when_gptme_is_at_work(run: Run) -> None:
    """It generates, or runs a command or a tool, or owes the result of a native call."""
    result = run(
        """
        import json
        from gptme.server.session_models import SessionManager, ToolExecution
        from gptme.tools import ToolUse
        from gptme_voice_plugin.server.gptme_sessions import at_work, locked

        session = SessionManager.create_session("talk")
        SessionManager.create_session("talk")
        answers = []

        def ask():
            answers.append([at_work("talk"), at_work("other")])

        ask()
        session.generating = True
        ask()
        session.generating = False
        SessionManager.start_command("talk")
        ask()
        SessionManager.finish_command("talk")
        session._executing_tools.add("t")
        ask()
        session._executing_tools.clear()
        session.pending_tools["t"] = ToolExecution("t", ToolUse("shell", [], "ls"))
        ask()
        call = ToolUse("shell", [], "ls", call_id="call_1")
        session.pending_tools["u"] = ToolExecution("u", call)
        ask()
        session.pending_tools.clear()
        ask()
        with locked("talk") as ours:
            answers.append(ours)
        print(json.dumps(answers))
        """
    )
    work, idle = [True, False], [False, False]
    assert result == [idle, work, work, work, idle, work, idle, True]


def test_what_gptme_asks_permission_for(run: Run) -> None:
    """All that would be run, however it was called; pages are told the same."""
    result = run(
        """
        import json
        from gptme.server.session_models import SessionManager, ToolExecution, ToolStatus
        from gptme.tools import ToolUse
        from gptme_voice_plugin.server.gptme_sessions import asks, tell_pending

        session = SessionManager.create_session("talk")
        page = SessionManager.create_session("talk")
        uses = {
            "1": ToolUse("shell", [], "ls"),
            "2": ToolUse("save", ["save a b.py"], "x = 1"),
            "3": ToolUse("browser", ["-v", "url"], None),
            "4": ToolUse("save", None, None, kwargs={"path": "\u00e4", "content": "1\\n2"},
                         call_id="c4"),
            "5": ToolUse("mcp", None, None, kwargs={"n": 1, "l": ["\u00e4"]}, call_id="c5"),
            "6": ToolUse("shell", None, "ls", kwargs={"command": "pwd"}, call_id="c6"),
            "7": ToolUse("todo", None, None, kwargs={}, call_id="c7"),
            "8": ToolUse("shell", [], "by itself"),
            "9": ToolUse("shell", [], "runs"),
        }
        for id, use in uses.items():
            session.pending_tools[id] = ToolExecution(id, use, auto_confirm=id == "8")
        session.pending_tools["9"].status = ToolStatus.EXECUTING
        tell_pending("talk")
        told = [e for e in page.events if e["type"] == "tool_pending"]
        print(json.dumps([asks("talk"), [[e["tool_id"], *e["tooluse"].values()] for e in told],
                          asks("other")]))
        """
    )
    waits, told, others = result
    assert [[ask["tool_id"], ask["tool"], ask["content"]] for ask in waits] == [
        ["1", "shell", "ls"],
        ["2", "save", "a b.py\nx = 1"],
        ["3", "browser", "-v url"],
        ["4", "save", "path: \u00e4\ncontent: 1\n2"],
        ["5", "mcp", 'n: 1\nl: ["\u00e4"]'],
        ["6", "shell", "ls\ncommand: pwd"],
        ["7", "todo", ""],
    ]
    assert told == [
        ["1", "shell", [], "ls"],
        ["2", "save", ["save a b.py"], "x = 1"],
        ["3", "browser", ["-v", "url"], None],
        ["4", "save", None, "path: \u00e4\ncontent: 1\n2"],
        ["5", "mcp", None, 'n: 1\nl: ["\u00e4"]'],
        ["6", "shell", None, "ls\ncommand: pwd"],
        ["7", "todo", None, None],
    ]
    assert others == []


def test_who_answers_what_gptme_asks(run: Run) -> None:
    """An answer finds its tool, a wrong one is gptme's to refuse, and a stranger's is not read."""
    result = run(
        """
        import io, json
        import gptme.server.auth
        from gptme.config import get_config
        from gptme.plugins import discover_all_plugins
        (ours,) = [p for p in discover_all_plugins() if p.name == "gptme_voice_plugin"]
        ours.init(get_config())
        from gptme.server.app import create_app
        from gptme.server.session_models import SessionManager, ToolExecution
        from gptme.tools import ToolUse

        client = create_app().test_client()
        headers = {"Authorization": "Bearer canary-token-5f3a"}
        url = "/api/v2/conversations/talk/tool/confirm"
        body = {"prompt": "none", "messages": []}
        client.put("/api/v2/conversations/talk", json=body, headers=headers)
        session, page = (SessionManager.create_session("talk") for _ in range(2))
        session.pending_tools["t"] = ToolExecution("t", ToolUse("shell", [], "ls"))
        answers = []

        def answer(**changes):
            body = {"tool_id": "t", "session_id": page.id, "action": "edit", **changes}
            answer = client.post(url, json=body, headers=headers)
            answers.append([answer.status_code, answer.get_json()["error"].partition(":")[0]])

        answer()
        answer(tool_id="u")
        for wrong in ([], {}, None, 1):
            answer(tool_id=wrong)
        answer(session_id=[])
        answers.append(client.post(url, data=b"[1]", headers=headers).status_code)

        class Unread(io.BytesIO):
            reads = 0

            def read(self, *size):
                Unread.reads += 1
                return super().read(*size)

            def readinto(self, into):
                Unread.reads += 1
                return super().readinto(into)

        for strange in ({}, {"Authorization": "Bearer wrong"}, headers):
            sent = client.post(url, input_stream=Unread(b"{}"), content_length=2, headers=strange,
                               content_type="application/json")
            answers.append([sent.status_code, Unread.reads > 0])
        answers.append(client.options(url).status_code)
        print(json.dumps(answers))
        """
    )
    assert result[0] == [400, "content must be a non-empty string for edit action"]
    assert result[1][0] == 404
    assert [status for status, _ in result[2:7]] == [400] * 5
    assert result[7] in (400, 415)
    assert result[8:] == [[401, False], [401, False], [400, True], 200]


def test_a_tool_that_ran_leaves_a_trace_until_its_result_is_written() -> None:
    """What `at_work` reads of a tool is set where the tool runs, also in this version."""
    from gptme.server import session_step

    source = inspect.getsource(session_step)
    assert "_executing_tools.add(" in source
    assert "_executing_tools.discard(" in source


def test_a_command_that_runs_keeps_turns_out(run: Run) -> None:
    """And what is appended then reaches the sessions of the conversation, and no other."""
    result = run(
        """
        import json
        import gptme.server.auth
        from gptme.config import get_config
        from gptme.plugins import discover_all_plugins
        (ours,) = [p for p in discover_all_plugins() if p.name == "gptme_voice_plugin"]
        ours.init(get_config())
        from gptme.server.app import create_app
        from gptme.server.session_models import SessionManager

        client = create_app().test_client()
        headers = {"Authorization": "Bearer canary-token-5f3a"}
        for id in ("talk", "other"):
            body = {"prompt": "none", "messages": []}
            client.put(f"/api/v2/conversations/{id}", json=body, headers=headers)
        session, other = (SessionManager.create_session(id) for id in ("talk", "other"))
        turn = {"id": "1", "role": "user", "text": "Hi", "spoken_at": "2026-01-31T12:00:00Z"}

        def post():
            path = "/api/v2/voice/conversations/talk/turns"
            body = {"turns": [turn], "keep": False}
            answer = client.post(path, json=body, headers=headers)
            return [answer.status_code, answer.get_json().get("code")]

        SessionManager.start_command("talk")
        answers = [post()]
        SessionManager.finish_command("talk")
        answers.append(post())
        events = [[e["type"], e["message"]["content"]] for e in session.events]
        print(json.dumps([answers, events, len(other.events)]))
        """
    )
    assert result == [
        [[409, "conversation_busy"], [200, None]],
        [["message_added", "Hi"]],
        0,
    ]
