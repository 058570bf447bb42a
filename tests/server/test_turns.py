"""Spoken turns in a conversation: what gptme has of them on disk, in its answers and live."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gptme_voice_plugin.server.conversations import MAX_BODY
from gptme_voice_plugin.server.spoken import MAX_TEXT, MAX_TURNS
from tests.fakes.chat_server import FakeChat, Reply
from tests.support.conversation import HTTP, Conversation, Page, refused, serving, turn
from tests.support.server import GptmeServer, wait_until

EVIL = {"Origin": "https://evil.example"}


@pytest.fixture(scope="module")
def server(chat: FakeChat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server for all tests."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        yield server


@pytest.fixture
def talk(server: GptmeServer) -> Conversation:
    """A new conversation."""
    return Conversation(server)


# Who


def test_who_may(talk: Conversation) -> None:
    """Whoever has gptme's token, and as a page comes from an allowed origin too."""
    wrong = {"Authorization": "Bearer wrong"}
    assert talk.post(turn("t1"), **wrong).status_code == 401
    for headers in (EVIL, {"Origin": "null"}):
        refused(talk.post(turn("t1"), **headers), 403, "origin_refused")
    assert talk.log() == []
    assert talk.post(turn("t1"), Origin=talk.server.url).status_code == 200


# What is written


def test_in_their_order(talk: Conversation) -> None:
    """On disk, and as a page reads it."""
    talk.appended(turn("s:1", "What is it?"), turn("s:2", "A *test*.\n\n- one", "assistant"))
    talk.appended(turn("s:3", " \u00dcber 5 < 6? \U0001f600\n"))
    expected = [
        ("user", "What is it?"),
        ("assistant", "A *test*.\n\n- one"),
        ("user", "\u00dcber 5 < 6? \U0001f600"),
    ]
    assert talk.said() == expected
    assert [(m["role"], m["content"]) for m in talk.shown()] == expected


def test_what_is_known_of_a_turn(talk: Conversation) -> None:
    """Is kept beside it, under a key of gptme's own, and given to pages."""
    details = {
        "session": "s1",
        "backend": "openai",
        "model": "gpt-realtime-2.1",
        "seconds": 2.25,
        "usage": {"input_tokens": 12, "output_tokens": 0, "cost_usd": 0.001},
    }
    time = "2026-01-31T13:00:00.250+01:00"
    unknown = {"backend": None, "model": "", "seconds": None, "usage": {"x": None}, "more": 1}
    talk.appended(
        turn("s:1", spoken_at=time, metadata=details),
        turn("s:2", metadata=unknown, more="fields"),
        turn("s:3", metadata=None),
    )
    utc = "2026-01-31T12:00:00.250000+00:00"
    expected = [
        {"voice_call": {"turn": "s:1", "spoken_at": utc, **details}},
        {"voice_call": {"turn": "s:2", "spoken_at": utc}},
        {"voice_call": {"turn": "s:3", "spoken_at": utc}},
    ]
    assert [line["metadata"] for line in talk.log()] == expected
    assert [message["metadata"] for message in talk.shown()] == expected
    assert {line["timestamp"] for line in talk.log()} == {utc}


def test_how_a_turn_came(talk: Conversation) -> None:
    """Is said of it, unless it was spoken."""
    kinds = ["spoken", "typed", "task", None]
    talk.appended(*(turn(f"s:{n}", f"{kind}", kind=kind) for n, kind in enumerate(kinds)))
    said = [line["metadata"]["voice_call"].get("kind") for line in talk.log()]
    assert said == [None, "typed", "task", None]


def test_an_interrupted_reply(talk: Conversation) -> None:
    talk.appended(turn("s:1", "It is four", "assistant", unheard=" because\ntwo and two\n"))
    (line,) = talk.log()
    assert line["content"] == (
        "It is four \u2014 *interrupted*\n\n> Not heard: because\n> two and two"
    )
    heard = line["metadata"]["voice_call"]["heard_chars"]
    assert line["content"][:heard] == "It is four"


def test_a_spoken_command_is_text(talk: Conversation, chat: FakeChat) -> None:
    """Neither now nor when gptme next works on the conversation."""
    talk.appended(
        turn("s:1", "/help"), turn("s:2", "/tools", "assistant"), turn("s:3", "/help", kind="task")
    )
    before = len(chat.requests)
    chat.replies.append(Reply("That was a word."))
    with Page(talk) as page:
        talk.step()
        assert wait_until(lambda: any(e["type"] == "generation_complete" for _, e in page.events))
    spoken = [("user", "\\/help"), ("assistant", "\\/tools"), ("user", "\\/help")]
    assert talk.said()[:4] == [*spoken, ("assistant", "That was a word.")]
    asked = [m for m in chat.requests[before]["messages"] if m["role"] != "system"]
    assert [m["role"] for m in asked] == ["user", "assistant", "user"]
    assert len(chat.requests) == before + 1
    assert "Available commands" not in talk.path.read_text()


# Live


def test_an_open_page_is_told(talk: Conversation) -> None:
    """Of each turn, within a second."""
    with Page(talk) as page:
        delays = []
        for number in range(5):
            talk.appended(turn(f"a{number}", f"{number}a"), turn(f"b{number}", f"{number}b"))
            answered = time.monotonic()
            assert wait_until(lambda: len(page.added()) == 2 * number + 2)  # noqa: B023
            delays.append(page.added()[-1][0] - answered)
        messages = [message for _, message in page.added()]
        assert messages == talk.shown()
        assert statistics.median(delays) < 1
        talk.post(turn("a0", "0a"))
        talk.type("Typed.")
        assert wait_until(lambda: len(page.added()) == 11)
    assert page.added()[10][1]["content"] == "Typed."


# Once


def test_asked_again(talk: Conversation) -> None:
    """After an answer was lost; it does not matter what is said of a turn then."""
    talk.appended(turn("s:1", "one"), turn("s:2", "two"))
    answer = talk.post(turn("s:2", "two!"), turn("s:3", "three"), turn("s:1", "one"))
    assert answer.json() == {"appended": ["s:3"], "known": ["s:2", "s:1"]}
    assert [text for _, text in talk.said()] == ["one", "two", "three"]


def test_all_at_once(talk: Conversation) -> None:
    """Spoken by several, each of whom asks twice, and typed: nothing is lost or doubled."""
    writers, turns = 6, 5

    def speak(writer: int) -> None:
        for number in range(turns):
            for _ in range(2):
                id = f"{writer}.{number}"
                answer = talk.post(turn(id, id))
                assert answer.status_code == 200, answer.text
            if writer == 0:
                talk.type(f"typed {number}")

    # Twice each: what two of them say at the same time too.
    with ThreadPoolExecutor(2 * writers) as pool:
        list(pool.map(speak, [*range(writers), *range(1, writers)]))
    texts = [text for _, text in talk.said()]
    assert len(texts) == len(set(texts)) == writers * turns + turns
    for writer in range(writers):
        own = [text for text in texts if text.startswith(f"{writer}.")]
        assert own == [f"{writer}.{number}" for number in range(turns)]
    assert [text for text in texts if "typed" in text] == [f"typed {n}" for n in range(turns)]


# While gptme stops


def test_an_answer_that_is_stopped(talk: Conversation, chat: FakeChat) -> None:
    """What is said as gptme is stopped stays, also where it yet writes what it has answered."""
    chat.replies.append(Reply("A rather long sentence of several words. " * 5))
    talk.type("Tell me.")
    with chat.paced(0.3), Page(talk) as page:
        talk.step()
        assert wait_until(lambda: page.of("generation_progress"))
        url = f"{talk.server.url}/api/v2/conversations/{talk.id}/interrupt"
        HTTP.post(url, headers=talk.server.auth, json={"session_id": talk.session})
        assert talk.post(turn("s:1", "Stop.")).status_code in (200, 202)
        assert wait_until(lambda: ("user", "Stop.") in talk.said())
        time.sleep(1)  # the model's next word comes, and with it what gptme still writes
    assert talk.said()[-1] == ("user", "Stop.")
    answers = [text for role, text in talk.said() if role == "assistant"]
    assert all(text.endswith("[INTERRUPTED]") for text in answers)  # none since gptme 0.35
    chat.replies.append(Reply("Fine."))
    talk.step()
    assert wait_until(lambda: talk.said()[-2:] == [("user", "Stop."), ("assistant", "Fine.")])


# When the disk fails


def test_a_log_that_cannot_be_written(tmp_path: Path, chat: FakeChat) -> None:
    """It is said so, and can be tried again."""
    command = [str(Path(sys.executable).with_name("gptme-server"))]
    if os.geteuid() == 0:  # who may write everything, unless told otherwise
        assert shutil.which("setpriv"), "setpriv, of util-linux, is needed to test this as root"
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    with serving(tmp_path, chat, command=command) as server:
        talk = Conversation(server)
        talk.appended(turn("s:1", "one"))
        talk.path.chmod(0o444)
        message = refused(talk.post(turn("s:2", "two")), 503, "turns_not_saved")
        assert "Permission denied" in message
        assert [text for _, text in talk.said()] == ["one"]
        talk.path.chmod(0o644)
        talk.appended(turn("s:2", "two"))
        assert [text for _, text in talk.said()] == ["one", "two"]


# What is refused


@pytest.mark.parametrize(
    "id", ["nobody", "%2e", "%2e%2e", "%20", "a%00b", "a%0ab", "..%5cx", "x" * 300]
)
def test_no_such_conversation(server: GptmeServer, talk: Conversation, id: str) -> None:
    before = sorted(talk.path.parent.parent.iterdir())
    missing = Conversation(server, id)
    refused(missing.post(turn("s:1")), 404, "conversation_unknown")
    assert sorted(talk.path.parent.parent.iterdir()) == before


@pytest.mark.parametrize("id", ["", "a/b", "..%2f..%2fx", "%2fetc"])
def test_no_id_at_all(server: GptmeServer, id: str) -> None:
    """More than one part of an address, or none, makes another address."""
    assert Conversation(server, id).post(turn("s:1")).status_code in (308, 404, 405)


def test_an_id_that_gptme_takes_for_a_file(server: GptmeServer) -> None:
    """It would write into the folder of all conversations."""
    talk = Conversation(server, "x.jsonl")
    talk.path.parent.mkdir(exist_ok=True)
    talk.path.touch()
    refused(talk.post(turn("s:1")), 404, "conversation_unknown")
    assert talk.log() == []
    assert not (talk.path.parent.parent / "conversation.jsonl").exists()


GOOD = turn("good")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("turn", "turns[1] must be an object"),
        ({**GOOD, "id": None}, "turns[1].id must be 1 to 200"),
        ({**GOOD, "id": ""}, "turns[1].id must be"),
        ({**GOOD, "id": "a b"}, "turns[1].id must be"),
        ({**GOOD, "id": "\u00e4"}, "turns[1].id must be"),
        ({**GOOD, "id": "a\n"}, "turns[1].id must be"),
        ({**GOOD, "id": "x" * 201}, "turns[1].id must be"),
        (turn("first"), "the same id"),
        (turn("b", role="system"), "turns[1].role must be user or assistant"),
        (turn("b", role=["user"]), "turns[1].role must be"),  # type: ignore[arg-type]
        ({**GOOD, "text": None}, "turns[1].text must be a text"),
        (turn("b", " \n"), "turns[1].text must have words"),
        (turn("b", "", "assistant", unheard=" "), "turns[1].text must have words"),
        (turn("b", "x" * (MAX_TEXT + 1)), "more than 100000 characters"),
        (turn("b", "x", "assistant", unheard="x" * MAX_TEXT), "more than 100000 characters"),
        (turn("b", unheard="rest"), "turns[1].unheard is for replies only"),
        (turn("b", "x", "assistant", unheard=0), "turns[1].unheard must be a text"),
        (turn("b", kind="song"), "turns[1].kind must be one of"),
        (turn("b", kind=["typed"]), "turns[1].kind must be one of"),
        (turn("b", spoken_at=None), "turns[1].spoken_at must be a time like"),
        (turn("b", spoken_at=1769860800), "turns[1].spoken_at must be"),
        (turn("b", spoken_at="2026-01-31T12:00:00"), "turns[1].spoken_at must be"),
        (turn("b", spoken_at="2026-01-32T12:00:00Z"), "turns[1].spoken_at must be"),
        (turn("b", spoken_at="0001-01-01T00:00:00+14:00"), "turns[1].spoken_at must be"),
        (turn("b", spoken_at="9999-12-31T23:59:59-14:00"), "turns[1].spoken_at must be"),
        (turn("b", metadata=[]), "turns[1].metadata must be an object"),
        (turn("b", metadata={"backend": 1}), "turns[1].metadata.backend must be a text"),
        (turn("b", metadata={"model": "x" * 201}), "turns[1].metadata.model must be"),
        (turn("b", metadata={"session": "a\nb"}), "turns[1].metadata.session must be"),
        (turn("b", metadata={"session": "\ud800"}), "turns[1].metadata.session must be"),
        (turn("b", metadata={"seconds": -1}), "turns[1].metadata.seconds must be a number"),
        (turn("b", metadata={"seconds": True}), "turns[1].metadata.seconds must be"),
        (turn("b", metadata={"seconds": float("nan")}), "turns[1].metadata.seconds must be"),
        (turn("b", metadata={"seconds": float("inf")}), "turns[1].metadata.seconds must be"),
        (turn("b", metadata={"seconds": 10**400}), "turns[1].metadata.seconds must be"),
        (turn("b", metadata={"usage": 1}), "turns[1].metadata.usage must be an object"),
        (turn("b", metadata={"usage": {'"': 1}}), "turns[1].metadata.usage must have"),
        (turn("b", metadata={"usage": {"x": "1"}}), "turns[1].metadata.usage.x must be"),
        (
            turn("b", metadata={"usage": {f"x{n}": 1 for n in range(31)}}),
            "turns[1].metadata.usage must have",
        ),
    ],
)
def test_a_bad_turn(talk: Conversation, bad: Any, message: str) -> None:
    """It is said which, and nothing is written, also of the good ones."""
    assert message in refused(talk.post(turn("first"), bad), 400, "bad_turns")
    assert talk.log() == []


@pytest.mark.parametrize(
    "body", [None, [], {}, {"turns": {}}, {"turns": []}, b"", b"{", b'{"turns": "\xff"}', "turns"]
)
def test_a_bad_request(talk: Conversation, body: Any) -> None:
    refused(talk.post_body(body), 400, "bad_turns")
    assert talk.log() == []


@pytest.mark.parametrize("keep", [None, 0, "false"])
def test_keep_is_yes_or_no(talk: Conversation, keep: Any) -> None:
    body = {"turns": [turn("s:1")], "keep": keep}
    assert "keep must be" in refused(talk.post_body(body), 400, "bad_turns")


def test_no_json(talk: Conversation) -> None:
    answer = talk.post(turn("s:1"), **{"Content-Type": "text/plain"})
    assert "must be JSON" in refused(answer, 400, "bad_turns")


def test_bounds(talk: Conversation) -> None:
    """As much as is allowed is taken, and no more."""
    many = [turn(f"m{number}", str(number)) for number in range(MAX_TURNS + 1)]
    refused(talk.post(*many), 400, "bad_turns")
    talk.appended(*many[:-1])
    talk.appended(turn("x" * 200, "y" * MAX_TEXT))
    assert talk.log()[-1]["content"] == "y" * MAX_TEXT
    padding = b" " * MAX_BODY
    body = json.dumps({"turns": [turn("s:1")]}).encode()
    assert "bytes" in refused(talk.post_body(body + padding), 400, "bad_turns")
    fits = body + padding[len(body) :]
    assert talk.post_body(fits).json()["appended"] == ["s:1"]


def test_broken_characters(talk: Conversation) -> None:
    """Do not make the log unreadable, and cost one character."""
    talk.appended(turn("s:1", "a\ud800b\0c"))
    talk.appended(turn("s:2", "after"))
    assert [text for _, text in talk.said()] == ["a?b\0c", "after"]
    assert [m["content"] for m in talk.shown()] == ["a?b\0c", "after"]
