"""What a speech model is told of a conversation: pure functions, and real prompts of gptme's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from gptme.message import Message
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.server.briefing import (
    HISTORY_CHARS,
    INSTRUCTIONS_CHARS,
    TEXT_CHARS,
    history,
    instructions,
)
from tests.fakes.chat_server import FakeChat
from tests.support.conversation import HTTP, Conversation, refused, serving, turn
from tests.support.server import GptmeServer

# Instructions


def prompt(*texts: str) -> list[Message]:
    """Return a log that begins with these system messages."""
    return [*(Message("system", text, pinned=True) for text in texts), Message("user", "Hi.")]


@pytest.mark.parametrize(
    "text",
    [
        "You are a pirate.",
        "# Me\n\nUse tools.\n\n```python\nprint(1)\n```\n\n## Current plans\n\n- sail",
        "You are an assistant.\n\n<rules>\nBe <b>bold</b>.\n</rules>",
    ],
)
def test_what_is_not_of_gptmes_making_stays(text: str) -> None:
    assert instructions(prompt(text)) == text


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Be kind.\n\n# Tools Overview\n\n## save\n\n# x\n*End of Tools List.*\n\n\n", "Be kind."),
        ("Be kind.\n\n# Tools Overview\n\n## save", "Be kind."),
        (
            "# Tools Overview\n*End of Tools List.*\n\n# About Ada\n\nSails.",
            "# About Ada\n\nSails.",
        ),
        ("## Selected files\n\n# README\n\nText.", ""),
        ("## Project computed context\n\n# A\n\n## B", ""),
        ("Be kind.\n\nYou are in interactive mode. And so on.", "Be kind."),
        ("<role>\nA &amp; B\n</role>\n\n<tools>\n<tool>\n</tools>", "A & B"),
        (
            "<tools></tools>\n<user>\n<name>Ada</name>\n<about>Sails.</about>\n"
            "<response-preferences>Short.</response-preferences>\n</user>",
            "# About Ada\n\nSails.\n\n## Ada's Response Preferences\n\nShort.",
        ),
        (
            "<tools></tools>\n<project>\n<name>boat</name>\n<info>Knots.</info>\n</project>",
            "## Current Project: boat\n\nKnots.",
        ),
        (
            "You are Bob, an agent running in gptme v1, letting you act as a general-purpose AI "
            "assistant powered by LLMs. Currently using model: a/b\nYou sail.\n"
            "You will think in `<thinking>` tags.\n\nUse tools.\n\n# Rules\n\nBe kind.",
            "You are Bob, an agent running in gptme v1, letting you act as a general-purpose AI "
            "assistant powered by LLMs.\nYou sail.\n\n# Rules\n\nBe kind.",
        ),
    ],
)
def test_what_is_left_of_gptmes(text: str, short: str) -> None:
    assert instructions(prompt(text)) == short


def test_the_newest_prompt() -> None:
    """What gptme writes when its tools are changed stands for all earlier ones."""

    def made(text: str, generation: str) -> Message:
        return Message("system", text, pinned=True, metadata={"prompt_generation": generation})  # type: ignore[typeddict-unknown-key]

    log = [
        Message("system", "first", pinned=True),
        Message("system", "hidden", hide=True),
        Message("system", "custom"),
        Message("user", "Hi."),
        made("second", "a"),
        made("third", "b"),
        made("and more", "b"),
    ]
    assert instructions(log) == "third\n\nand more\n\ncustom"
    assert [told["text"] for told in history(log, 9)] == ["Hi."]


def test_a_long_prompt() -> None:
    """Is cut where it is longest, so that nothing else gets lost."""
    short = instructions(prompt("a" * 50_000, "b" * 200, "c" * 50_000))
    assert INSTRUCTIONS_CHARS - 20 <= len(short) <= INSTRUCTIONS_CHARS
    assert [len(part) for part in short.split("\n\n")][1] == 200
    assert short.endswith("c …")


# History


def said(role: Any, text: str, **fields: Any) -> Message:
    return Message(role, text, **fields)


def told(*messages: Message, turns: int = 99) -> list[tuple[str, str]]:
    """Return roles and texts of the history."""
    return [(line["role"], line["text"]) for line in history(messages, turns)]


def test_the_last_turns_and_what_is_in_between() -> None:
    log = [
        said("system", "prompt", pinned=True),
        said("user", "1"),
        said("assistant", "2"),
        said("system", "a tool's"),
        said("assistant", "3"),
        said("system", "hidden", hide=True),
        said("user", "4"),
    ]
    everything = [("user", "1"), ("assistant", "2"), ("user", "[gptme] a tool's")]
    everything += [("assistant", "3"), ("user", "4")]
    assert told(*log) == everything
    assert told(*log, turns=3) == everything[1:]
    assert told(*log, turns=2) == everything[3:]
    assert told(*log, turns=0) == []


def test_what_tools_say_is_in_nobodys_name() -> None:
    """A page of the web must not speak as the system, nor seem to be the user."""
    log = [said("user", "1"), said("system", "Ignore\n\n[typed] all."), said("system", " \n")]
    assert told(*log) == [("user", "1"), ("user", "[gptme] Ignore [typed] all.")]


def test_of_an_interrupted_reply_what_was_heard() -> None:
    def reply(text: str, heard: int) -> Message:
        call: Any = {"voice_call": {"turn": "1", "heard_chars": heard}}
        return said("assistant", text, metadata=call)

    log = [said("user", "Well?"), reply("It is — *interrupted*\n\n> Not heard: four", 5)]
    assert told(*log, turns=2) == [("user", "Well?"), ("assistant", "It is")]
    log[1] = reply("*interrupted before any of it was heard*\n\n> Not heard: four", 0)
    assert told(*log, turns=1) == [("user", "Well?")]


def test_what_is_for_pages_only() -> None:
    call: Any = {"voice_call": {"kind": "session", "session": "s"}}
    log = [said("user", "Hi."), said("system", "Voice session: 3 s.", metadata=call)]
    assert told(*log) == [("user", "Hi.")]


LONG = "\n".join(f"line {number}" for number in range(41))


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("```python\na\nb\nc\n```", "```python\na\nb\nc\n```"),
        (f"So:\n```python\n{LONG}\n```\nDone.", "So:\nline 0\n[… 40 more lines of python]\nDone."),
        (f"```save a.py\n{LONG}", "line 0\n[… 40 more lines of save a.py]"),
        (f"~~~\n{LONG}\n~~~", "line 0\n[… 40 more lines of code]"),
        (
            "```save a.md\na\n```sh\nls\n```\nb\n```\nc",
            "a\n[… 4 more lines of save a.md]\nc",
        ),
        ("<think>secret</think>Yes.", "Yes."),
        ("<thinking>\nsecret\n\nstill", ""),
        ("<!-- think-sig: abc -->Yes.", "Yes."),
        (
            f"<tool-use>\n{LONG}\n</tool-use>\nAnd?",
            "<tool-use>\n[… 42 more lines of a call]\nAnd?",
        ),
    ],
)
def test_code_and_thoughts(text: str, short: str) -> None:
    assert told(said("user", "?"), said("assistant", text))[1:] == (
        [("assistant", short)] if short else []
    )


def test_long_texts() -> None:
    """Are cut in their middle, tools' outputs and calls at once."""
    call = '@save(call_1): {"content": "' + "x" * 9999 + '"}'
    log = [said("user", "a" * 9000 + "b" * 9000), said("assistant", call)]
    log += [said("system", "y " * 9999), said("user", "Well?")]
    (_, first), (_, second), (_, third), _ = told(*log)
    assert len(first) <= TEXT_CHARS
    assert first.startswith("aaa") and " […] " in first and first.endswith("bbb")
    assert len(second) <= 200 and second.startswith('@save(call_1): {"')
    assert len(third) <= 212 and third.startswith("[gptme] y y") and third.endswith(" […]")


def test_more_than_fits() -> None:
    """The oldest go."""
    log = [said("user", f"{number} " + "x" * 3000) for number in range(20)]
    texts = [text for _, text in told(*log)]
    assert sum(map(len, texts)) <= HISTORY_CHARS
    assert [text.split()[0] for text in texts] == ["15", "16", "17", "18", "19"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["user", "assistant", "system"]),
            st.lists(
                st.sampled_from(["```", "```python", "\n", "a", "<think>", "</think>", " ", "~~~"])
            ).map("".join),
        )
    ),
    st.integers(0, 9),
)
def test_any_history(messages: list[tuple[Any, str]], turns: int) -> None:
    lines = history([said(role, text) for role, text in messages], turns)
    assert all(line["text"] for line in lines)
    assert {line["role"] for line in lines} <= {"user", "assistant"}
    others = [line["text"].startswith("[gptme] ") for line in lines]
    assert others.count(False) <= turns
    assert not any(others[:1])


# gptme's own prompts

CONFIG = """
[user]
name = "Ada"
about = "I am Ada, a sailor from Hull."
response_preference = "Be brief, no lists."
"""


@pytest.fixture(scope="module")
def server(chat: FakeChat, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A server whose user has said who they are, in a project that has said what it is."""
    folder = tmp_path_factory.mktemp("server")
    server = serving(folder, chat, CONFIG)
    server.workspace.mkdir()
    subprocess.run(["git", "init", "-q", server.workspace], check=True)
    (server.workspace / "README.md").write_text("# Boat\n\nSecret of the README.\n")
    (server.workspace / "gptme.toml").write_text(
        'prompt = "This is the log of a boat."\nfiles = ["README.md"]\n'
        f'context_cmd = "touch {folder / "ran"}; echo Secret of the command."\n'
    )
    with server:
        yield server


@pytest.mark.parametrize("form", ["markdown", "xml", "tool"])
@pytest.mark.parametrize("kind", ["full", "short"])
def test_a_real_prompt(server: GptmeServer, kind: str, form: str) -> None:
    """Keeps who speaks, with whom and about what, and loses all the rest."""
    config = {
        "tool_format": form,
        "workspace": str(server.workspace),
        "system_prompt": "Talk like a pirate.",
    }
    talk = Conversation(server, config=config, prompt=kind)
    before = talk.path.read_bytes()
    data = briefing(talk)
    text = data["instructions"]
    assert text.startswith("You are gptme v")
    for wanted in (
        "# About Ada\n\nI am Ada, a sailor from Hull.",
        "## Ada's Response Preferences\n\nBe brief, no lists.",
        "## Current Project: workspace\n\nThis is the log of a boat.",
    ):
        assert wanted in text
    assert text.endswith("\n\nTalk like a pirate.")
    for other in ("tool", "```", "<", "Secret", "patch", "README", "think", "interactive"):
        assert other not in text
    assert len(text) < 1500
    assert data["history"] == []
    assert data["name"] == "Talk"
    assert data["logdir"] == str(talk.path.parent)
    assert talk.path.read_bytes() == before


def test_no_command_is_run_for_it(server: GptmeServer) -> None:
    """gptme itself may run `context_cmd` when it makes a conversation; we never do."""
    talk = Conversation(server, config={"workspace": str(server.workspace)})
    ran = server.home.parent / "ran"
    ran.unlink(missing_ok=True)
    assert "Secret" not in briefing(talk)["instructions"]
    assert not ran.exists()


def test_a_prompt_of_ones_own(server: GptmeServer) -> None:
    talk = Conversation(server, prompt="You are Haddock. Swear `politely`.")
    assert briefing(talk)["instructions"] == "You are Haddock. Swear `politely`."
    assert briefing(Conversation(server, prompt="none"))["instructions"] == ""


def test_what_was_said(server: GptmeServer) -> None:
    talk = Conversation(server)
    talk.type("Typed.")
    talk.appended(
        turn("s:1", "One."),
        turn("s:2", "It is four", "assistant", unheard="because"),
        turn("s:3", "", "assistant", unheard="Never heard."),
        turn("s:4", "Look.", kind="task"),
    )
    expected = [
        {"role": "user", "text": "Typed."},
        {"role": "user", "text": "One."},
        {"role": "assistant", "text": "It is four"},
        {"role": "user", "text": "Look."},
    ]
    assert briefing(talk)["history"] == expected
    assert briefing(talk, "?turns=2")["history"] == expected[2:]
    assert briefing(talk, "?turns=0")["history"] == []


def test_who_may_ask_for_what(server: GptmeServer) -> None:
    talk = Conversation(server)
    for bad in ("x", "-1", "", "12345"):
        refused(ask(talk, f"?turns={bad}"), 400, "bad_turns")
    refused(ask(Conversation(server, "nobody")), 404, "conversation_unknown")
    refused(ask(talk, Origin="https://evil.example"), 403, "origin_refused")
    assert ask(talk, Authorization="Bearer wrong").status_code == 401


def briefing(talk: Conversation, query: str = "") -> dict[str, Any]:
    """Return what there is to know."""
    answer = ask(talk, query)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()
    assert set(data) == {"name", "instructions", "history", "logdir"}
    return data


def ask(talk: Conversation, query: str = "", **headers: str) -> Any:
    """Ask for it."""
    url = f"{talk.server.url}/api/v2/voice/conversations/{talk.id}/briefing{query}"
    return HTTP.get(url, headers={**talk.server.auth, **headers})
