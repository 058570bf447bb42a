"""The text of spoken turns: nothing in it is more than words to whoever reads the log."""

from __future__ import annotations

from typing import Any

import pytest
from gptme.codeblock import Codeblock
from gptme.tools.base import ToolUse, toolcall_re
from gptme.util.content import is_message_command
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.server.spoken import Turn, parse_turns

PIECES = [
    "/help ",
    "```",
    "~~~",
    "`",
    "shell",
    "\n",
    "\r",
    "\u2028",
    " ",
    "> ",
    "@shell(c-1): {}",
    "$$",
    "$",
]
TAGS = ["<think>", "</think>", "<thinking>", "<tool-use>", "</tool-use>", "<function_calls>"]
texts = st.lists(st.sampled_from([*PIECES, *TAGS, "</function_calls>", "a", "[b](", "\\("])).map(
    lambda pieces: f"{''.join(pieces)}w"
)


def spoken(text: str, unheard: str | None = None) -> Turn:
    """Return a turn of the agent."""
    time = "2026-01-31T12:00:00Z"
    turn: dict[str, Any] = {"id": "t", "role": "assistant", "text": text, "spoken_at": time}
    (parsed,) = parse_turns({"turns": [turn | {"unheard": unheard}]})
    return parsed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("Plain *words*, `code` and 5 < 6.", "Plain *words*, `code` and 5 < 6."),
        ("Mail a@b.c, $5, [a](b), <br>.", "Mail a@b.c, $5, [a](b), <br>."),
        ("```shell\nls\n```", "'''shell\nls\n'''"),
        ("~~~~\nx", "----\nx"),
        ("it costs $$\nmore", "it costs $ $ \nmore"),
        ("a\n@shell(c-1): {}", "a\n\\@shell(c-1): {}"),
        ("/help me", "\\/help me"),
        ("say /help", "say /help"),
        ("a <think>b</think>", "a \u2039think>b\u2039/think>"),
        ("<TOOL-USE>", "\u2039TOOL-USE>"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
    ],
)
def test_words(text: str, content: str) -> None:
    assert spoken(text).content == content


@pytest.mark.parametrize(
    ("text", "unheard", "content"),
    [
        ("one", "two", "one \u2014 *interrupted*\n\n> Not heard: two"),
        ("", "all", "*interrupted before any of it was heard*\n\n> Not heard: all"),
        ("one", "two\n\nthree", "one \u2014 *interrupted*\n\n> Not heard: two\n>\n> three"),
        ("a [b](c", "d) e", "a \\[b](c \u2014 *interrupted*\n\n> Not heard: d) e"),
        ("$5 \\(x", "y", "$5 \\\\(x \u2014 *interrupted*\n\n> Not heard: y"),
        ("/quit", "now", "\\/quit \u2014 *interrupted*\n\n> Not heard: now"),
        ("an $x", "y$", "an \\$x \u2014 *interrupted*\n\n> Not heard: y$"),
    ],
)
def test_interrupted(text: str, unheard: str, content: str) -> None:
    """The rest is a quotation to its end; a link or formula that was cut does not swallow it."""
    turn = spoken(text, unheard)
    assert turn.content == content
    heard = content[: turn.metadata["heard_chars"]]
    assert content[len(heard) :].startswith((" \u2014 *interrupted*", "*interrupted before"))


def test_gptme_would_find_it() -> None:
    """Otherwise the next test says nothing."""
    assert is_message_command("/help me")
    assert Codeblock.iter_from_markdown("```shell\nls\n```")
    for form, text in (
        ("xml", "<tool-use><shell>ls</shell></tool-use>"),
        ("tool", "@shell(c-1): {}"),
    ):
        assert list(ToolUse.iter_from_content(text, tool_format_override=form))


@given(texts, texts)
def test_gptme_finds_nothing_to_do(text: str, unheard: str) -> None:
    """No block of code, no call, no thoughts, in any of its formats."""
    for turn in (spoken(text), spoken(text, unheard)):
        content = turn.content
        assert Codeblock.iter_from_markdown(content) == []
        assert not toolcall_re.search(content)
        for form in ("xml", "tool"):
            assert list(ToolUse.iter_from_content(content, tool_format_override=form)) == []
        assert not [tag for tag in TAGS if tag in content]
        assert not is_message_command(content)


@given(texts, texts)
def test_the_rest_stays_in_its_quotation(text: str, unheard: str) -> None:
    turn = spoken(text, unheard)
    _, mark, rest = turn.content.partition("*interrupted*\n\n")
    assert mark
    assert all(line.startswith(">") for line in rest.split("\n"))
    assert rest.startswith("> Not heard: ")
