"""Answers of gptme's that were heard in part: they end where the listening ended."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.channel import Gptme
from gptme_voice_plugin.errors import ConversationBusy, ConversationUnknown, GptmeFailed
from gptme_voice_plugin.server.heard import Heard
from gptme_voice_plugin.server.spoken import MAX_TEXT
from gptme_voice_plugin.voice.conversation import GptmeClient
from tests.fakes.chat_server import Call, FakeChat, Reply
from tests.support.conversation import HTTP, NUMBERS, Conversation, Page, refused, serving, turn
from tests.support.server import TOKEN, GptmeServer, wait_until

OLD = version("gptme").startswith("0.34.")
METADATA = {"session": "s1", "backend": "local", "model": "fake-chat"}
ANSWER = "It is four. Two and two\nare always four."
MARK = " \u2014 *interrupted*\n\n> Not heard: "
NOTHING = "*interrupted before any of it was heard*\n\n> Not heard: "

# What is written


def message(content: str, role: Any = "assistant", **metadata: Any) -> Any:
    """Return a message of gptme's."""
    from gptme.message import Message

    return Message(role, content, metadata=metadata or None)  # type: ignore[arg-type]


def cut(answer: str, heard: int | str, written: str | None = None) -> str:
    """Return what becomes of a message; `heard` may be the words before the cut."""
    chars = len(heard) if isinstance(heard, str) else heard
    shorter = Heard(answer, chars, METADATA).cut(message(written or answer))
    assert shorter is not None
    return shorter.content


@pytest.mark.parametrize(
    ("answer", "heard", "content"),
    [
        ("one two", "one", f"one{MARK}two"),
        ("one two", "one ", f"one{MARK}two"),
        ("one two", "one t", f"one{MARK}two"),
        ("one two", "on", f"{NOTHING}one two"),
        ("one two", 0, f"{NOTHING}one two"),
        ("a\n\nb c", "a\n", f"a{MARK}b c"),
        ("- one\n- two\n\nend", "- one\n- t", f"- one\n-{MARK}two\n>\n> end"),
        ("\u00fcber f\u00fcnf", "\u00fcber f\u00fc", f"\u00fcber{MARK}f\u00fcnf"),
        ("\u4eca\u5929\u5929\u6c14", "\u4eca\u5929", f"\u4eca\u5929{MARK}\u5929\u6c14"),
        ("ok \U0001f469\u200d\U0001f467", "ok \U0001f469", f"ok{MARK}\U0001f469\u200d\U0001f467"),
        # Nothing is left open, and nothing of the rest is more than words.
        ("See:\n```sh\nls\n```\nend", "See:\n```sh\nl", f"See:{MARK}'''sh\n> ls\n> '''\n> end"),
        (
            "See:\n```sh\nls\n```\nthe end",
            "See:\n```sh\nls\n```\nthe",
            f"See:\n```sh\nls\n```\nthe{MARK}end",
        ),
        (
            "See:\n```sh\nls\n```\nend",
            "See:\n```sh\nls\n```\n",
            "See:\n```sh\nls\n```\n\n\u2014 *interrupted*\n\n> Not heard: end",
        ),
        ("See:\n```sh\nls -l", "See:\n```sh\nls", f"See:{MARK}'''sh\n> ls -l"),
        ("a [b c](d) e", "a [b", f"a{MARK}[b c](d) e"),
        ("a `b c` d", "a `b", f"a{MARK}`b c` d"),
        ("a $b + c$ d", "a $b +", f"a{MARK}$b + c$ d"),
        ("costs $5 or $6 now", "costs $5 or", f"costs $5 or{MARK}$6 now"),
        ("a\n$$\nb c\n$$\nd", "a\n$$\nb", f"a{MARK}$ $ \n> b c\n> $ $ \n> d".replace(" \n", "\n")),
        ("a\n\n| b | c |\n| d | e |\n\nf", "a\n\n| b", f"a{MARK}| b | c |\n> | d | e |\n>\n> f"),
        # What a model thinks is never spoken.
        ("<think>\nhm\n</think>\n\na b", 0, f"<think>\nhm\n</think>\n\n{NOTHING}a b"),
        ("<think>\nhm\n</think>\n\na b", 22, f"<think>\nhm\n</think>\n\na{MARK}b"),
    ],
)
def test_where_it_is_cut(answer: str, heard: Any, content: str) -> None:
    assert cut(answer, heard) == content


@pytest.mark.parametrize(
    ("answer", "heard", "written", "content"),
    [
        ("one two", "one", "one two [INTERRUPTED]", f"one{MARK}two"),
        ("one two", "one two", "one two [INTERRUPTED]", "one two"),
        ("one two thr", "one", "one two [INTERRUPTED]", f"one{MARK}two"),
        ("one t", "one t", "one two [INTERRUPTED]", f"one{MARK}two"),
        ("one two [INTERRUPTED]", "one", "one two [INTERRUPTED]", f"one{MARK}two"),
        ("", 0, " [INTERRUPTED]", "*interrupted before any of it was heard*"),
        ("a\n```sh\nls", "a", "a\n```sh\nls [INTERRUPTED]", f"a{MARK}'''sh\n> ls"),
    ],
)
def test_what_gptme_has_interrupted(answer: str, heard: Any, written: str, content: str) -> None:
    """gptme 0.34 writes that behind what it has; where it was stopped is said by us."""
    assert Heard(answer, 0, {}).find([message(written)]) == 0
    assert cut(answer, heard, written) == content


def test_which_message_it_is() -> None:
    """The newest that gptme has written with these words."""

    def find(answer: str, *messages: Any) -> int | None:
        return Heard(answer, 1, {}).find(messages)

    ok = message("OK.\n")
    assert find("OK.", ok, ok, message("More.")) == 1
    assert find("OK. ", ok, message("OK.", "user"), message("OK.", "system")) == 0
    assert find("OK.", ok, message("OK.", voice_call={"turn": "s:1"})) == 0
    assert find("OK", ok) is None
    assert find("OK", message("Well. [INTERRUPTED]"), message(" [INTERRUPTED]")) is None
    done = Heard("OK then.", 2, METADATA).cut(message("OK then."))
    assert find("OK then.", message("OK then."), done) is None
    assert find("OK then.", message("OK then."), done, message("OK then.")) == 2
    unheard = Heard("Other.", 0, METADATA).cut(message("Other."))
    assert find("OK then.", message("OK then."), unheard) == 0


@pytest.mark.parametrize("heard", ["one two", "one two "])
def test_heard_whole(heard: str) -> None:
    assert Heard(heard, 7, METADATA).cut(message("one two\n")) is None


PIECES = ["a", "b c", " ", "\n", "```", "```sh\n", "`", "$$", "$", "[", "](x)", "\\[", "| a |\n"]
TAGS = ["<think>", "</think>", "<tool-use>", "<shell>ls</shell>", "</tool-use>", "@shell(c-1): {}"]
answers = st.lists(st.sampled_from([*PIECES, *TAGS, "[INTERRUPTED]", "\u4eca"])).map("".join)


@given(answers, st.integers(0, 200))
def test_nothing_comes_of_it(answer: str, heard: int) -> None:
    """The rest is a quotation to the end, no call is made by cutting, and once is enough."""
    from gptme.codeblock import Codeblock

    before = message(answer)
    one = Heard(answer, min(heard, len(answer)), METADATA)
    if one.find([before]) is None or (after := one.cut(before)) is None:
        return
    call = (after.metadata or {})["voice_call"]
    assert one.find([before, after]) is None or "heard_chars" not in call
    if "heard_chars" not in call:
        return
    words = after.content[: call["heard_chars"]]
    assert answer.startswith(words)
    assert len(words) <= max(heard, words.rfind("</think>") + 8, answer.find("<think>") + 1)
    blocks = [b.content for b in Codeblock.iter_from_markdown(answer)]
    assert all(b.content in blocks for b in Codeblock.iter_from_markdown(after.content))
    _, mark, rest = after.content[len(words) :].partition("*interrupted")
    assert mark
    quotation = rest.partition("\n\n")[2]
    assert all(line.startswith(">") for line in quotation.split("\n")) or not quotation


# A server


@pytest.fixture(scope="module")
def server(chat: FakeChat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server for all tests."""
    with serving(tmp_path_factory.mktemp("server"), chat) as server:
        yield server


@pytest.fixture
def talk(server: GptmeServer, chat: FakeChat) -> Conversation:
    """A new conversation."""
    assert wait_until(lambda: chat.waiting == 0)
    chat.replies.clear()
    return Conversation(server)


def post(talk: Conversation, body: Any, **headers: str) -> httpx.Response:
    """Say what was heard."""
    url = f"{talk.server.url}/api/v2/voice/conversations/{talk.id}/heard"
    return HTTP.post(url, headers={**talk.server.auth, **headers}, json=body)


def heard(talk: Conversation, answer: str, words: str | int, **fields: Any) -> Any:
    """Say how much of an answer was heard; return what was done."""
    chars = len(words) if isinstance(words, str) else words
    answered = post(talk, {"answer": answer, "heard": chars, "metadata": METADATA, **fields})
    assert answered.status_code == 200, answered.text
    return answered.json()


def answered(talk: Conversation, chat: FakeChat, *replies: Reply | str) -> None:
    """Have gptme answer."""
    chat.replies += [Reply(reply) if isinstance(reply, str) else reply for reply in replies]
    with Page(talk) as page:
        for count, _ in enumerate(replies, 1):
            talk.type(f"Question {count}?")
            talk.step()
            assert wait_until(lambda: len(page.of("generation_complete")) == count, 30)  # noqa: B023
    assert wait_until(lambda: not work(talk)["generating"])


def work(talk: Conversation) -> Any:
    """Return what gptme is at."""
    url = f"{talk.server.url}/api/v2/voice/conversations/{talk.id}/work"
    return HTTP.get(url, headers=talk.server.auth).json()


def test_who_may(talk: Conversation) -> None:
    body = {"answer": "a", "heard": 0}
    assert post(talk, body, Authorization="Bearer wrong").status_code == 401
    refused(post(talk, body, Origin="https://evil.example"), 403, "origin_refused")
    missing = Conversation(talk.server, "nobody")
    refused(post(missing, body), 404, "conversation_unknown")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x", "must be JSON"),
        ([], "must be JSON"),
        ({"heard": 0}, "answer must be a text"),
        ({"answer": "x" * (MAX_TEXT + 1), "heard": 0}, "at most 100000"),
        ({"answer": "x"}, "heard must be a whole number"),
        ({"answer": "x", "heard": True}, "heard must be"),
        ({"answer": "x", "heard": -1}, "heard must be"),
        ({"answer": "x", "heard": 2}, "heard must be"),
        ({"answer": "x", "heard": 0.5}, "heard must be"),
        ({"answer": "x", "heard": 0, "metadata": []}, "metadata must be an object"),
        ({"answer": "x", "heard": 0, "metadata": {"model": 1}}, "metadata.model must be"),
    ],
)
def test_a_bad_request(talk: Conversation, body: Any, message: str) -> None:
    assert message in refused(post(talk, body), 400, "bad_turns")


def test_an_answer_ends_where_the_listening_did(talk: Conversation, chat: FakeChat) -> None:
    """In the log, in open pages, and for gptme's own model; nothing else of the log changes."""
    answered(talk, chat, "First.", f"{ANSWER}\n", "Last.")
    before = talk.everything()
    files = {path.name for path in talk.path.parent.rglob("*")}
    with Page(talk) as page:
        assert heard(talk, ANSWER, "It is four. Tw") == {"cut": True}
        assert wait_until(lambda: page.of("conversation_edited"))
        (event,) = page.of("conversation_edited")
    content = f"It is four.{MARK}Two and two\n> are always four."
    call = {**METADATA, "heard_chars": len("It is four.")}
    (index,) = [n for n, line in enumerate(before) if line["content"].startswith("It is four.")]
    metadata = {**before[index].get("metadata", {}), "voice_call": call}
    before[index] = {**before[index], "content": content, "metadata": metadata}
    assert talk.everything() == before
    assert [m["content"] for m in talk.shown()][3] == content
    # What pages take from it is the branch; of which there is one still.
    assert (event["index"], event["truncated"]) == (index, False)
    assert list(event["branches"]) == ["main"]
    assert [m["content"] for m in event["branches"]["main"]] == [m["content"] for m in before]
    assert event["log"] == event["branches"]["main"]
    assert {path.name for path in talk.path.parent.rglob("*")} == files
    requests = len(chat.requests)
    answered(talk, chat, "Yes.")
    asked = [m["content"] for m in chat.requests[requests]["messages"] if m["role"] == "assistant"]
    assert content in json.dumps(asked, ensure_ascii=False).replace("\\n", "\n")
    assert chat.refused == []


def test_twice(talk: Conversation, chat: FakeChat) -> None:
    """Also if the same was answered before: that one was heard."""
    answered(talk, chat, ANSWER, ANSWER)
    assert heard(talk, ANSWER, 12) == {"cut": True}
    after = talk.path.read_bytes()
    for chars in (12, 0, len(ANSWER)):
        assert heard(talk, ANSWER, chars) == {"cut": False, "why": "not found"}
    assert talk.path.read_bytes() == after
    assert talk.said()[1] == ("assistant", ANSWER)


def test_what_is_not_cut(talk: Conversation, chat: FakeChat) -> None:
    answered(talk, chat, f"{ANSWER}\n")
    before = talk.path.read_bytes()
    with Page(talk) as page:
        assert heard(talk, ANSWER, ANSWER) == {"cut": False, "why": "whole"}
        assert heard(talk, "Something else.", 3) == {"cut": False, "why": "not found"}
        assert heard(talk, "Question 1?", 3) == {"cut": False, "why": "not found"}
    assert not page.of("conversation_edited")
    assert talk.path.read_bytes() == before


def test_nothing_heard(talk: Conversation, chat: FakeChat) -> None:
    answered(talk, chat, "\u00dcber f\u00fcnf \U0001f600.")
    assert heard(talk, "\u00dcber f\u00fcnf \U0001f600.", 0, metadata=None) == {"cut": True}
    line = talk.log()[-1]
    assert line["content"] == f"{NOTHING}\u00dcber f\u00fcnf \U0001f600."
    assert line["metadata"]["voice_call"] == {"heard_chars": 0}


def test_a_block_of_code_is_left_out(talk: Conversation, chat: FakeChat) -> None:
    """As a whole, and is no block in the quotation."""
    answer = "Like this:\n\n```text\none two\nthree\n```\n\nThat is it."
    answered(talk, chat, answer)
    assert heard(talk, answer, answer[: answer.index("two")]) == {"cut": True}
    assert talk.said()[-1][1] == (
        f"Like this:{MARK}'''text\n> one two\n> three\n> '''\n>\n> That is it."
    )


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        ({"tools": ["shell"]}, "I look.\n\n```shell\nls\n```\n"),
        (
            {"tools": ["shell"], "tool_format": "xml"},
            "I look.\n\n<tool-use>\n<shell>\nls\n</shell>\n</tool-use>\n",
        ),
    ],
)
def test_what_asks_for_tools_is_left(
    server: GptmeServer, talk: Conversation, chat: FakeChat, config: Any, answer: str
) -> None:
    """Whether it waits, has run, or will never."""
    talk = Conversation(server, config=config)
    answered(talk, chat, answer)
    before = talk.path.read_bytes()
    assert heard(talk, answer, "I") == {"cut": False, "why": "tools"}
    assert talk.path.read_bytes() == before


def test_code_that_no_tool_is_for(server: GptmeServer, talk: Conversation, chat: FakeChat) -> None:
    """Is only code: the conversation has no such tool."""
    talk = Conversation(server, config={"tools": ["save"]})
    answer = "Run this:\n\n```shell\nls\n```\n"
    answered(talk, chat, answer)
    assert heard(talk, answer, "Run this:") == {"cut": True}
    assert talk.said()[-1][1] == f"Run this:{MARK}'''shell\n> ls\n> '''"


@pytest.mark.skipif(OLD, reason="gptme-server 0.34 runs no native calls")
def test_native_calls_are_left(server: GptmeServer, talk: Conversation, chat: FakeChat) -> None:
    talk = Conversation(server, config={"tools": ["shell"], "tool_format": "tool"})
    answered(talk, chat, Reply("I look.", (Call("shell", {"command": "echo seen"}),)))
    written = talk.said()[-1][1]
    assert "@shell(" in written
    body = {"answer": written, "heard": 1}
    refused(post(talk, body), 409, "conversation_busy")  # it owes its result
    with Page(talk) as page:
        talk.allow(work(talk)["asks"][0]["tool_id"])
        assert wait_until(lambda: page.of("step_complete"), 30)
    assert heard(talk, written, 1) == {"cut": False, "why": "tools"}


def test_while_gptme_is_at_work(talk: Conversation, chat: FakeChat) -> None:
    """It is refused, to be asked again; turns that wait come behind it as they would."""
    answered(talk, chat, ANSWER)
    before = talk.path.read_bytes()
    body = {"answer": ANSWER, "heard": 11, "metadata": METADATA}
    with chat.held():
        talk.type("Go on.")
        url = f"{talk.server.url}/api/v2/conversations/{talk.id}/step"
        HTTP.post(url, headers=talk.server.auth, json={"session_id": talk.session, "stream": True})
        assert wait_until(lambda: chat.waiting == 1)
        assert "at work" in refused(post(talk, body), 409, "conversation_busy")
        assert talk.post(turn("s:1", "one"), turn("s:2", "two")).status_code == 202
        assert talk.path.read_bytes().startswith(before)
    assert wait_until(lambda: post(talk, body).status_code == 200)
    assert wait_until(lambda: len(talk.said()) == 6)
    shorter = f"It is four.{MARK}Two and two\n> are always four."
    assert [text for _, text in talk.said()[1:]] == [shorter, "Go on.", "OK.", "one", "two"]


def test_what_has_been_compacted(talk: Conversation, chat: FakeChat) -> None:
    """gptme 0.35 keeps the whole log beside what its model reads: neither has the rest."""
    answered(talk, chat, ANSWER)
    views = talk.path.parent / "views"
    views.mkdir()
    lines = talk.path.read_text().splitlines(keepends=True)
    (views / "compacted-001.jsonl").write_text("".join(lines[-2:]))
    (views / ".current").write_text("compacted-001\n")
    (talk.path.parent / "lossless.jsonl").write_text("".join(lines))
    assert heard(talk, ANSWER, 11) == {"cut": True}
    content = f"It is four.{MARK}Two and two\n> are always four."
    files = [talk.path, *([] if OLD else [views / "compacted-001.jsonl"])]
    files += [] if OLD else [talk.path.parent / "lossless.jsonl"]
    for file in files:
        assert json.loads(file.read_text().splitlines()[-1])["content"] == content
    assert len(talk.path.read_text().splitlines()) == len(lines)
    assert (views / ".current").read_text() == "compacted-001\n"


def test_gptme_can_recover_it(talk: Conversation, chat: FakeChat) -> None:
    """Its journal of the conversation says the same as the log."""
    from gptme.logmanager.eventlog import recover_messages

    answered(talk, chat, ANSWER)
    heard(talk, ANSWER, 11)
    answered(talk, chat, "More.")
    recovered = [message["content"] for message in recover_messages(talk.path.parent) or ()]
    assert recovered[-4:] == [line["content"] for line in talk.everything()][-4:]


def test_a_log_that_cannot_be_written(tmp_path: Path, chat: FakeChat) -> None:
    """It is said so, the answer stays as it was, and it can be tried again."""
    command = [str(Path(sys.executable).with_name("gptme-server"))]
    if os.geteuid() == 0:  # who may write everything, unless told otherwise
        assert shutil.which("setpriv"), "setpriv, of util-linux, is needed to test this as root"
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    with serving(tmp_path, chat, command=command) as server:
        talk = Conversation(server)
        answered(talk, chat, ANSWER)
        before = talk.path.read_bytes()
        talk.path.parent.chmod(0o555)
        try:
            with Page(talk) as page:
                refusal = post(talk, {"answer": ANSWER, "heard": 11})
        finally:
            talk.path.parent.chmod(0o755)
        assert "Permission denied" in refused(refusal, 503, "turns_not_saved")
        assert not page.of("conversation_edited")
        assert talk.path.read_bytes() == before
        assert heard(talk, ANSWER, 11) == {"cut": True}


# When gptme was interrupted


def test_interrupted_while_it_answers(talk: Conversation, chat: FakeChat) -> None:
    """gptme 0.34 writes what it has, with a mark that goes away; later ones write nothing."""
    talk.open()
    answer = "Words and " * 400
    chat.replies.append(Reply(answer))
    interrupt = f"{talk.server.url}/api/v2/conversations/{talk.id}/interrupt"
    with Page(talk) as page, chat.paced(0.05):
        talk.type("Go on.")
        with chat.held():
            url = f"{talk.server.url}/api/v2/conversations/{talk.id}/step"
            body = {"session_id": talk.session, "stream": True}
            HTTP.post(url, headers=talk.server.auth, json=body)
            assert wait_until(lambda: chat.waiting == 1)
        assert wait_until(lambda: page.of("generation_progress"), step=0.001)
        HTTP.post(interrupt, headers=talk.server.auth, json={"session_id": talk.session})
        assert wait_until(lambda: page.of("interrupted"))
        wait_until(lambda: page.of("generation_complete"), 5 if OLD else 1)
        told = "".join(event["token"] for event in page.of("generation_progress"))
    assert len(told) < len(answer)
    written = [text for role, text in talk.said() if role == "assistant"]
    if OLD:
        assert written == [f"{told} [INTERRUPTED]"]
        assert heard(talk, told, "Words and W") == {"cut": True}
        assert talk.said()[-1][1].startswith(f"Words and{MARK}Words and Words")
        assert "INTERRUPTED" not in talk.path.read_text()
    else:
        assert written == []
        assert heard(talk, told, "Words and W") == {"cut": False, "why": "not found"}


# The client


def test_the_client(talk: Conversation, chat: FakeChat) -> None:
    """It tells whether the answer ends there now, and what is worth another try."""
    answered(talk, chat, ANSWER)
    missing = f"missing-{next(NUMBERS)}"

    async def scenario() -> None:
        url = talk.server.url
        client = GptmeClient(Gptme(url, url.removeprefix("http://"), TOKEN))
        try:
            assert await client.heard(talk.id, ANSWER, 11, METADATA) is True
            assert await client.heard(talk.id, ANSWER, 11, METADATA) is False
            with pytest.raises(ConversationUnknown):
                await client.heard(missing, ANSWER, 11, METADATA)
            with pytest.raises(GptmeFailed, match="heard must be"):
                await client.heard(talk.id, ANSWER, -1, METADATA)
            with chat.held():
                talk.type("Go on.")
                step = asyncio.create_task(client.step(talk.id, talk.session))
                while not chat.waiting:
                    await asyncio.sleep(0.02)
                with pytest.raises(ConversationBusy):
                    await client.heard(talk.id, ANSWER, 11, METADATA)
            await step
        finally:
            await client.close()

    asyncio.run(scenario())
    assert talk.log()[1]["metadata"]["voice_call"]["heard_chars"] == 11
