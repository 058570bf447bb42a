"""The end of a session: a line that pages show, and no model reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gptme_voice_plugin.server.endings import duration, parse_ending
from gptme_voice_plugin.voice.app import new_session_id
from tests.fakes.chat_server import FakeChat, Reply
from tests.support.conversation import HTTP, Conversation, Page, refused, serving, turn
from tests.support.server import GptmeServer, wait_until

ENDING: dict[str, Any] = {
    "session": "s1",
    "backend": "openai",
    "model": "gpt-realtime-2.1",
    "started_at": "2026-01-31T12:00:00Z",
    "seconds": 192.4,
    "turns": {"user": 8, "assistant": 6},
    "usage": {"input_tokens": 12, "output_tokens": None},
    "reason": "ended",
}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (192.4, "3 min 12 s"),
        (3599.6, "1 h 0 min"),
        (7380, "2 h 3 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_every_session_has_an_id_that_can_be_written_down() -> None:
    """It names the session in its conversation's log, and its recording."""
    ids = {new_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    for id in ids:
        assert parse_ending({**ENDING, "session": id}).session == id


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Voice session: 3 min 12 s, 14 turns, openai gpt-realtime-2.1."),
        ({"model": None}, "Voice session: 3 min 12 s, 14 turns, openai."),
        (
            {"model": "", "backend": None, "turns": {"user": 1, "assistant": 0}},
            "Voice session: 3 min 12 s, 1 turn.",
        ),
        ({"turns": {"user": 0, "assistant": 0}}, None),
    ],
)
def test_the_line(changes: dict[str, Any], line: str | None) -> None:
    entry = parse_ending({**ENDING, **changes}).entry
    assert (entry and entry.content) == line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session": ""}, "session must be 1 to 200"),
        ({"session": None}, "session must be 1 to 200"),
        ({"session": "-s"}, "and begin with a letter or digit"),
        ({"backend": 1}, "backend must be a text"),
        ({"model": "a\nb"}, "model must be a text"),
        ({"reason": "x" * 201}, "reason must be a text"),
        ({"started_at": 1}, "started_at must be a time"),
        ({"seconds": -1}, "seconds must be a number"),
        ({"seconds": True}, "seconds must be a number"),
        ({"turns": None}, "turns.user must be a number"),
        ({"turns": {"user": 1}}, "turns.assistant must be a number"),
        ({"usage": []}, "usage must be an object"),
        ({"usage": {"x": "1"}}, "usage.x must be a number"),
        ({"gptme_session": 1}, "gptme_session must be a text"),
    ],
)
def test_a_bad_ending(talk: Conversation, changes: dict[str, Any], message: str) -> None:
    assert message in refused(end(talk, **changes), 400, "bad_turns")
    assert sessions(talk) == []


# A server


PATIENT = (
    "from gptme_voice_plugin.server import gptme_sessions; gptme_sessions.NOTICE_SECONDS = (1, 1); "
    "from gptme.server.cli import main; main()"
)
"""However busy the machine is: gptme's threads have noticed by then that a page has gone."""


@pytest.fixture(scope="module")
def server(chat: FakeChat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server for all tests."""
    command = [sys.executable, "-c", PATIENT]
    with serving(tmp_path_factory.mktemp("server"), chat, command=command) as server:
        yield server


@pytest.fixture
def talk(server: GptmeServer) -> Conversation:
    """A new conversation."""
    return Conversation(server)


def end(talk: Conversation, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    """Tell that a session is over."""
    url = f"{talk.server.url}/api/v2/voice/conversations/{talk.id}/ended"
    return HTTP.post(url, headers={**talk.server.auth, **(headers or {})}, json=ENDING | changes)


def ended(talk: Conversation, **changes: Any) -> bool:
    """Tell it; return whether somebody looks at the conversation."""
    answer = end(talk, **changes)
    assert answer.status_code == 200, answer.text
    data = answer.json()
    assert set(data) == {"watched"}
    return bool(data["watched"])


def sessions(talk: Conversation) -> list[dict[str, Any]]:
    """Return the messages about sessions."""
    return [m for m in talk.everything() if m["content"].startswith("Voice session")]


def test_what_is_written(talk: Conversation) -> None:
    """Once, with all that is known; an open page is told."""
    talk.appended(turn("s1:1", "One."))
    with Page(talk) as page:
        ended(talk)
        ended(talk, seconds=200)
        assert wait_until(page.added)
        (shown,) = [message for _, message in page.added()]
    (line,) = sessions(talk)
    assert line["role"] == shown["role"] == "system"
    assert line["content"] == shown["content"]
    assert line["timestamp"] == "2026-01-31T12:03:12.400000+00:00"
    expected = {key: ENDING[key] for key in ("backend", "model", "seconds", "turns", "reason")}
    expected |= {"session": "s1", "kind": "session", "usage": {"input_tokens": 12}}
    expected["started_at"] = "2026-01-31T12:00:00+00:00"
    assert line["metadata"] == shown["metadata"] == {"voice_call": expected}
    assert talk.everything()[-1] == line
    assert talk.post(turn("s1", "The same id.")).json()["appended"] == ["s1"]


def test_no_model_reads_it(talk: Conversation, chat: FakeChat) -> None:
    """Wherever it stands in the log."""
    before = len(chat.requests)
    talk.appended(turn("s1:1", "One."))
    ended(talk)
    for number in range(2):
        talk.type(f"Typed {number}.")
        chat.replies.append(Reply(f"Answer {number}."))
        talk.step()
        assert wait_until(lambda: talk.said()[-1][1] == f"Answer {number}.")  # noqa: B023
        ended(talk, session=f"n{number}")
        assert wait_until(lambda: len(sessions(talk)) == number + 2)  # noqa: B023
    assert len(chat.requests) >= before + 2
    asked = json.dumps(chat.requests[before:])
    assert "Voice session" not in asked
    assert "Answer 0." in asked
    assert chat.refused == []


def test_nothing_was_said(talk: Conversation) -> None:
    before = talk.path.read_bytes()
    ended(talk, turns={"user": 0, "assistant": 0})
    assert talk.path.read_bytes() == before


def test_behind_the_turns_that_wait(talk: Conversation, chat: FakeChat) -> None:
    talk.type("Think.")
    chat.replies.append(Reply("Thought."))
    with chat.held():
        talk.step()
        assert wait_until(lambda: chat.waiting == 1)
        assert talk.post(turn("s1:1", "One.")).status_code == 202
        ended(talk)
        ended(talk)
        assert sessions(talk) == []
    assert wait_until(lambda: sessions(talk))
    contents = [message["content"] for message in talk.everything()]
    assert contents[-2] == "One."
    assert contents[-1].startswith("Voice session")


def test_who_looks(talk: Conversation) -> None:
    """Others than whoever tells it."""
    assert ended(talk) is False
    with Page(talk) as page:
        own = page.of("connected")[0]["session_id"]
        assert ended(talk) is True
        assert ended(talk, gptme_session=own) is False
        assert ended(talk, gptme_session="unknown") is True
        with Page(talk) as other:
            assert own != other.of("connected")[0]["session_id"]
            assert ended(talk, gptme_session=own) is True


def test_who_has_just_gone(talk: Conversation, chat: FakeChat) -> None:
    """Looks no more, also while nothing is written that gptme would notice it by."""
    talk.type("Think.")
    with chat.held():
        talk.step()
        assert wait_until(lambda: chat.waiting == 1)
        with Page(talk) as page:
            with Page(talk):
                pass
            own = page.of("connected")[0]["session_id"]
            assert ended(talk, session="s1", gptme_session=own) is False
            assert ended(talk, session="s2") is True
        assert ended(talk, session="s3") is False
        assert sessions(talk) == []
    assert wait_until(lambda: len(sessions(talk)) == 3)


def test_who_may(server: GptmeServer, talk: Conversation) -> None:
    refused(end(talk, {"Origin": "https://evil.example"}), 403, "origin_refused")
    assert end(talk, {"Authorization": "Bearer wrong"}).status_code == 401
    nobody = Conversation(server, "nobody")
    refused(end(nobody), 404, "conversation_unknown")
    refused(end(nobody, turns={"user": 0, "assistant": 0}), 404, "conversation_unknown")
