"""Turns that have to wait: kept through anything, and written once, in their order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from gptme_voice_plugin.server.entry import Entry, key_of
from gptme_voice_plugin.server.flusher import Flusher
from gptme_voice_plugin.server.spoken import parse_turns
from gptme_voice_plugin.server.spool import NAME, Spool, left_in
from tests.fakes.chat_server import Call, FakeChat, Reply
from tests.support.conversation import NUMBERS, Conversation, Page, refused, serving, turn
from tests.support.server import GptmeServer, wait_until

# The file


def entries(*ids: str) -> list[Entry]:
    """Return what is written of turns."""
    return [turn.entry for turn in parse_turns({"turns": [turn(id, f"\u00fc {id}") for id in ids]})]


def test_it_gives_back_what_it_got(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert not spool
    assert spool.read() == []
    spool.append(entries("1", "2"))
    spool.append(entries("3"))
    assert Spool(tmp_path).read() == entries("1", "2", "3")
    assert spool
    spool.remove()
    spool.remove()
    assert not spool
    assert os.listdir(tmp_path) == []


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    """Was never accepted, and takes nothing else with it, wherever it was cut."""
    spool = Spool(tmp_path)
    spool.append(entries("1", "2"))
    whole = (tmp_path / NAME).read_bytes()
    (first,) = entries("1")
    for size in range(len(first.to_json()) + 2, len(whole) - 1):
        (tmp_path / NAME).write_bytes(whole[:size])
        assert spool.read() == entries("1")
        spool.append(entries("3"))
        assert spool.read() == entries("1", "3")


@pytest.mark.parametrize("line", ["1", "[]", "{}", '{"at": 1}', '{"at": "2026-01-31"}', "\xff"])
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    (tmp_path / NAME).write_bytes(line.encode("latin-1") + b"\n")
    assert Spool(tmp_path).read() == []


def test_it_makes_no_folder(tmp_path: Path) -> None:
    """Which would bring a conversation back that was deleted."""
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path / "gone").append(entries("1"))
    assert os.listdir(tmp_path) == []


def test_what_is_left(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    for name in ("one", "two"):
        Spool(tmp_path / name).append(entries("1"))
    assert sorted(left_in(tmp_path)) == ["one", "two"]
    assert list(left_in(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (None, None),
        ("x", None),
        ({}, None),
        ({"turn": 1}, None),
        ({"turn": "1", "session": "s"}, ("turn", "1")),
        ({"turn": "1", "kind": "typed"}, ("turn", "1")),
        ({"kind": "session", "session": "s"}, ("session", "s")),
        ({"kind": "session"}, None),
    ],
)
def test_what_tells_messages_apart(call: Any, key: Any) -> None:
    assert key_of(call) == key


# The thread


def test_it_tries_until_it_is_done() -> None:
    """At the pace that it is told, each for itself; then it is gone, and can come back."""
    calls: list[tuple[str, float]] = []

    def flush(id: str) -> float | None:
        calls.append((id, time.monotonic()))
        if id == "broken":
            raise RuntimeError("It is broken.")
        return {"fast": 0.01, "slow": 2.0}[id] if len(of(id)) < 3 else None

    def of(id: str) -> list[float]:
        return [at for name, at in calls if name == id]

    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "gptme-voice-flush"]

    flusher = Flusher(flush)
    for id in ("slow", "broken", "fast", "fast"):
        flusher.add(id)
    assert wait_until(lambda: not threads())
    assert [len(of(id)) for id in ("slow", "broken")] == [3, 1]
    slow = of("slow")
    assert slow[1] - slow[0] >= 2.0
    assert of("fast")[2] < slow[1]
    flusher.add("fast")
    assert wait_until(lambda: not threads())
    assert [at for at in of("fast") if at > slow[2]]


# A server


# A server that soon tries again what is not up to it.
IMPATIENT = (
    "from gptme_voice_plugin.server import turns; turns.LATER = 0.5; "
    "from gptme.server.cli import main; main()"
)


@pytest.fixture(scope="module")
def server(chat: FakeChat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server for all tests that need not stop it."""
    command = [sys.executable, "-c", IMPATIENT]
    with serving(tmp_path_factory.mktemp("server"), chat, command=command) as server:
        yield server


@pytest.fixture
def talk(server: GptmeServer) -> Conversation:
    """A new conversation."""
    return Conversation(server)


@pytest.fixture
def old(server: GptmeServer) -> Conversation:
    """One that the server has not made: what it makes, no other process can open."""
    return old_in(server)


def old_in(server: GptmeServer) -> Conversation:
    """Return a conversation that a server finds."""
    talk = Conversation(server, f"old-{next(NUMBERS)}")
    talk.path.parent.mkdir(parents=True)
    talk.path.touch()
    return talk


@contextmanager
def generating(talk: Conversation, chat: FakeChat) -> Iterator[None]:
    """Have gptme at work in the conversation."""
    talk.open()
    talk.type("Think.")
    chat.replies.append(Reply("Thought."))

    def ask() -> None:
        with suppress(httpx.TransportError):  # the server may be killed meanwhile
            talk.step()

    step = threading.Thread(target=ask)
    with chat.held():
        step.start()
        assert wait_until(lambda: chat.waiting == 1)
        yield
    step.join(60)


@contextmanager
def elsewhere(talk: Conversation) -> Iterator[None]:
    """Have another gptme process have the conversation open."""
    hold = (
        "from gptme.logmanager import LogManager\n"
        f"log = LogManager.load({talk.id!r})\n"
        "print(flush=True)\ninput()\n"
    )
    terminal = subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=talk.server.workspace,
        env=talk.server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with terminal:
        assert terminal.stdout and terminal.stdout.readline()
        yield
        terminal.communicate(b"\n", timeout=30)


def kept(talk: Conversation, *turns: dict[str, Any]) -> None:
    """Send turns, all of which have to wait."""
    answer = talk.post(*turns)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"appended": [], "kept": [t["id"] for t in turns], "known": []}


def texts(talk: Conversation) -> list[str]:
    """Return what was said, in its order."""
    return [text for _, text in talk.said()]


def spool_of(talk: Conversation) -> Path:
    """Return where its turns wait."""
    return talk.path.with_name(NAME)


def test_while_gptme_generates(talk: Conversation, chat: FakeChat) -> None:
    """Turns wait, then are written behind the answer, and open pages are told."""
    with Page(talk) as page:
        with generating(talk, chat):
            before = talk.path.read_bytes()
            kept(talk, turn("s:1", "one"), turn("s:2", "two"))
            kept(talk, turn("s:3", "three"))
            assert talk.path.read_bytes() == before
        assert wait_until(lambda: len(talk.said()) == 5)
        assert texts(talk) == ["Think.", "Thought.", "one", "two", "three"]
        assert wait_until(lambda: not spool_of(talk).exists())
        assert wait_until(
            lambda: [m["content"] for _, m in page.added()][-3:] == ["one", "two", "three"]
        )
    talk.appended(turn("s:4", "four"))
    assert chat.refused == []


def test_asked_again_while_they_wait(talk: Conversation, chat: FakeChat) -> None:
    """What is in the log, or waits, is known; what was asked for twice is written once."""
    talk.appended(turn("s:0", "zero"))
    with generating(talk, chat):
        kept(talk, turn("s:1", "one"))
        answer = talk.post(turn("s:0", "zero"), turn("s:1", "one!"), turn("s:2", "two"))
        assert answer.status_code == 202
        assert answer.json() == {"appended": [], "kept": ["s:2"], "known": ["s:0", "s:1"]}
        answer = talk.post(turn("s:1", "one"))
        assert (answer.status_code, answer.json()) == (200, {"appended": [], "known": ["s:1"]})
    assert wait_until(lambda: len(talk.said()) == 5)
    assert texts(talk) == ["zero", "Think.", "Thought.", "one", "two"]


def test_who_does_not_want_to_wait(talk: Conversation, chat: FakeChat) -> None:
    """Is told to come again, and nothing is kept."""
    body = {"turns": [turn("s:1", "one")], "keep": False}
    with generating(talk, chat):
        message = refused(talk.post_body(body), 409, "conversation_busy")
        assert "at work" in message
        assert not spool_of(talk).exists()
    assert wait_until(lambda: talk.post_body(body).status_code == 200)
    assert texts(talk) == ["Think.", "Thought.", "one"]


def test_a_deleted_conversation(server: GptmeServer, old: Conversation) -> None:
    """Takes what waited with it."""
    _, threads = server.usage()
    with elsewhere(old):
        kept(old, turn("s:1", "one"))
        old.delete()
    assert not old.path.parent.exists()
    refused(old.post(turn("s:2", "two")), 404, "conversation_unknown")
    assert wait_until(lambda: server.usage()[1] <= threads, 15)  # nobody tries for ever
    assert not old.path.parent.exists()
    assert "Traceback" not in server.log()


# Tools


@pytest.fixture
def native(server: GptmeServer) -> Conversation:
    """A conversation where the model calls tools natively."""
    return Conversation(server, config={"tool_format": "tool", "tools": ["shell"]})


@pytest.mark.skipif(
    version("gptme").startswith("0.34."), reason="gptme-server 0.34 runs no native calls"
)
def test_between_a_call_and_its_result(native: Conversation, chat: FakeChat) -> None:
    """Nothing is written, neither before the user allows it nor while it runs."""
    native.appended(turn("s:0", "Look."))
    go = native.server.workspace / "go-native"
    command = f"while [ ! -e {go} ]; do sleep 0.05; done; echo seen"
    chat.replies.append(Reply("", (Call("shell", {"command": command}),)))
    with Page(native) as page:
        native.step()
        assert wait_until(lambda: page.of("tool_pending") and page.of("step_complete"), 30)
        kept(native, turn("s:1", "one"))
        chat.replies.append(Reply("It was seen."))
        native.confirm(page.of("tool_pending")[0]["tool_id"])
        assert wait_until(lambda: page.of("tool_executing"), 30)
        kept(native, turn("s:2", "two"))
        go.touch()
        # gptme goes on by itself.
        assert wait_until(lambda: len(page.of("step_complete")) == 2, 30)
        assert wait_until(lambda: not spool_of(native).exists())
    log = [line for line in native.everything() if not line.get("pinned")]
    call = [line["role"] for line in log].index("assistant")
    assert log[call + 1]["role"] == "system"
    assert "seen" in log[call + 1]["content"]
    said = texts(native)
    assert said.index("two") == said.index("one") + 1
    chat.replies.append(Reply("I see."))
    native.step()
    assert wait_until(lambda: texts(native)[-1] == "I see.", 30)
    assert chat.refused == []


def test_while_a_tool_runs(server: GptmeServer, chat: FakeChat) -> None:
    """Also one that is called in words; while it waits for permission, turns are written."""
    talk = Conversation(server, config={"tools": ["shell"]})
    talk.appended(turn("s:0", "Look."))
    go = talk.server.workspace / "go"
    chat.replies.append(
        Reply(f"```shell\nwhile [ ! -e {go} ]; do sleep 0.05; done; echo seen\n```")
    )
    with Page(talk) as page:
        talk.step()
        assert wait_until(lambda: page.of("tool_pending"), 30)
        assert wait_until(lambda: talk.post(turn("s:1", "one")).status_code == 200)
        chat.replies.append(Reply("It was seen."))
        talk.confirm(page.of("tool_pending")[0]["tool_id"])
        assert wait_until(lambda: page.of("tool_executing"), 30)
        kept(talk, turn("s:2", "two"))
        go.touch()
        assert wait_until(lambda: {"two", "It was seen."} <= set(texts(talk)), 30)
    contents = [line["content"] for line in talk.everything()]
    (result,) = [n for n, text in enumerate(contents) if text.startswith("Ran ")]
    assert contents.index("one") < result < contents.index("two")
    assert chat.refused == []


def test_all_the_time(talk: Conversation, chat: FakeChat) -> None:
    """Whatever gptme does meanwhile, each turn is written once, in its order."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            talk.type("Think.")
            talk.step()

    answers: set[int] = set()
    number = 0
    worker = threading.Thread(target=work)
    worker.start()
    try:
        # Until gptme was both at work and not, when one came.
        while number < 60 or (answers != {200, 202} and number < 2000):
            for _ in range(2):
                answers.add(talk.post(turn(f"s:{number}", str(number))).status_code)
            number += 1
    finally:
        done.set()
        worker.join(60)
    assert wait_until(lambda: not spool_of(talk).exists())
    said = [text for text in texts(talk) if text.isdigit()]
    assert said == [str(each) for each in range(number)]
    assert answers == {200, 202}
    asked = texts(talk).count("Think.")
    assert wait_until(lambda: texts(talk).count("OK.") == asked)
    assert chat.refused == []


# Other processes, and crashes


def test_while_another_gptme_has_it(server: GptmeServer, old: Conversation) -> None:
    """Turns wait until that one has ended; and where turns were written, another one can begin."""
    old.appended(turn("s:1", "one"))
    with elsewhere(old):
        body = {"turns": [turn("s:2", "two")], "keep": False}
        message = refused(old.post_body(body), 409, "conversation_busy")
        assert "Another gptme" in message
        kept(old, turn("s:2", "two"))
    assert wait_until(lambda: len(old.said()) == 2, 15)
    answer = old.post(turn("s:1", "one"), turn("s:3", "three"))
    assert answer.json() == {"appended": ["s:3"], "known": ["s:1"]}
    assert texts(old) == ["one", "two", "three"]
    assert "Traceback" not in server.log()


def test_writing_costs_no_descriptors(server: GptmeServer, old: Conversation) -> None:
    """However many conversations are written to."""
    old.appended(turn("s:1", "one"))
    before, _ = server.usage()
    for _ in range(6):
        old_in(server).appended(turn("s:1", "one"))
    assert wait_until(lambda: server.usage()[0] <= before + 1)  # a connection may come and go


def test_a_crash_while_turns_wait(tmp_path: Path, chat: FakeChat) -> None:
    """The next server writes them, once, in their order, before anybody asks for them."""
    with serving(tmp_path, chat) as server:
        busy, taken = talks = (Conversation(server), old_in(server))
        for talk in talks:
            talk.appended(turn("s:0", "zero"))
        with generating(busy, chat), elsewhere(taken):
            for talk in talks:
                kept(talk, turn("s:1", "one"), turn("s:2", "two"))
                kept(talk, turn("s:3", "three"))
            server.stop(signal.SIGKILL)
    for talk in talks:
        with spool_of(talk).open("a") as spool:
            spool.write('{"role": "user", "content": "cut o')
        # As if the crash had been after the first was written, and before the file went.
        line = talk.log()[0]
        line["content"], line["metadata"]["voice_call"]["turn"] = "one", "s:1"
        with talk.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
    with serving(tmp_path, chat) as server:
        for talk in (Conversation(server, talk.id) for talk in talks):
            assert wait_until(lambda: not spool_of(talk).exists())  # noqa: B023
            said = [text for text in texts(talk) if text != "Think."]
            assert said == ["zero", "one", "two", "three"]
            assert talk.post(turn("s:3", "three")).json() == {"appended": [], "known": ["s:3"]}
