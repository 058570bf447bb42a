"""What a speech model is told of a conversation: who it is, and what was said so far.

Both come from the log as it is. gptme's own prompt is some ten thousand tokens about tools that a
speech model does not have; what is left of it is what the user, or a project, has made it say. All
functions are pure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptme.message import Message

__all__ = ["HISTORY_CHARS", "INSTRUCTIONS_CHARS", "history", "instructions"]

INSTRUCTIONS_CHARS = 6000
"""Some 1,500 tokens."""
HISTORY_CHARS = 16_000
"""Some 4,000 tokens."""
TEXT_CHARS = 4000
OUTPUT_CHARS = 200
BLOCK_LINES = 3
_CUT = " […] "
_FROM_GPTME = "[gptme] "
"""Before what is not the user's; a session's instructions tell the model what it means."""

# gptme's prompt


# Parts that say how to use tools, or hold what was found in files or printed by commands.
_DROPPED = re.compile(
    r"(?:System Prompt Cache Boundary|System Information|Current Date|Agent Instructions"
    r"|Selected files|Project Workspace|Agent Config|Available Skills|Persistent Memory"
    r"|Recent Conversation Context|(?:\w+ )?computed context|Code Editing Strategy"
    r"|Spreadsheet and Data Editing|Editing Multiple Files|Tool Use Enforcement)\s*",
    re.IGNORECASE,
)
_TOOLS = (("# Tools Overview", "*End of Tools List.*"), ("<tools>", "</tools>"))
_SKILLS = re.compile(
    r"^## Available Skills$.*?^\*\d+ skills available\*$|^<skills>.*?^</skills>$",
    re.MULTILINE | re.DOTALL,
)
_TAGS = re.compile(r"^<(role|user|project|system-info|current-date)>\n(.*?)\n</\1>$", re.M | re.S)
_FIELD = re.compile(r"<(name|about|response-preferences|info)>(.*?)</\1>", re.S)
_HEADING = re.compile(r"^#{1,2} +(.*?) *$")
_OWN = re.compile(r"You are .*\bgeneral-purpose AI assistant powered by LLMs\b")
_MODEL = re.compile(r" Currently using model: \S+")  # which is not the one that speaks
# What gptme puts behind a persona, also behind one that is not its own.
_ADDED = re.compile(
    r"You are in (?:non-)?interactive mode\.|End (?:your response )?with a concrete next step"
    r"|Output format: you are in a web interface\."
)


def instructions(messages: Sequence[Message]) -> str:
    """Return what a conversation's prompt says to whoever speaks.

    Args:
        messages: The log.
    """
    parts = [short for message in _prompt(messages) if (short := _shortened(message.content))]
    return "\n\n".join(_fit(parts, INSTRUCTIONS_CHARS - 2 * len(parts)))


def _prompt(messages: Sequence[Message]) -> list[Message]:
    """Return the prompt that is in force: gptme appends a new one when its tools are changed."""
    leading: list[Message] = []
    for message in messages:
        if message.role != "system":
            break
        if message.pinned or not (message.hide or _for_pages(message)):
            leading.append(message)
    newest = next((g for m in reversed(messages) if (g := _generation(m)) is not None), None)
    if newest is None:
        return leading
    own = [m for m in leading if _generation(m) is None and not m.pinned]
    return [*(m for m in messages if _generation(m) == newest), *own]


def _shortened(text: str) -> str:
    """Return a prompt without what is of no use to a speech model."""
    text = text.strip()
    first = _HEADING.match(text.partition("\n")[0])
    if first and _DROPPED.fullmatch(first[1]):
        return ""  # with all its headings: they are those of a file
    structured = any(begin in text for begin, _ in _TOOLS) or _TAGS.search(text) is not None
    if not (structured or _OWN.match(text) or _ADDED.search(text) or "\n# About " in text):
        return text
    for begin, end in _TOOLS:
        text = _without(text, begin, end)
    text = _TAGS.sub(_plain, _SKILLS.sub("", text))
    sections = [_section(heading, body) for heading, body in _sections(text)]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(filter(None, sections))).strip()


def _section(heading: str, body: str) -> str:
    if _DROPPED.fullmatch(heading.lstrip("#").strip()):
        return ""
    body = "\n".join(_blocks(body, 0, "")).strip()
    if not heading:
        return "" if body in ("none", "") else _persona(body)
    return f"{heading}\n\n{body}" if body else heading


def _persona(text: str) -> str:
    paragraphs = text.split("\n\n")
    if _OWN.match(text):
        # The rest of its own first paragraph is how to think, and all others how to use tools.
        lines = _MODEL.sub("", paragraphs[0]).split("\n")
        end = next((n for n, line in enumerate(lines) if "thinking" in line), len(lines))
        return "\n".join(line.strip() for line in lines[:end])
    return "\n\n".join(p for p in paragraphs if not _ADDED.match(p.strip()))


def _plain(found: re.Match[str]) -> str:
    """Return one of gptme's XML sections as it would be in Markdown."""
    tag, body = found[1], found[2]
    if tag == "role":
        return html.unescape(body)
    fields = {name: html.unescape(value).strip() for name, value in _FIELD.findall(body)}
    name = fields.get("name", "")
    if tag == "user":
        wishes = fields.get("response-preferences", "")
        about = fields.get("about", "")
        return f"# About {name}\n\n{about}\n\n## {name}'s Response Preferences\n\n{wishes}"
    return f"## Current Project: {name}\n\n{fields.get('info', '')}" if tag == "project" else ""


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield each heading, the first empty, and what stands below it."""
    heading, lines, fence = "", list[str](), False
    for line in text.split("\n"):
        fence ^= line.startswith("```")
        if not fence and _HEADING.match(line):
            yield heading, "\n".join(lines)
            heading, lines = line.strip(), []
        else:
            lines.append(line)
    yield heading, "\n".join(lines)


def _without(text: str, begin: str, end: str) -> str:
    start = text.find(begin)
    if start < 0:
        return text
    stop = text.rfind(end)
    return text[:start] + ("" if stop < start else "\n\n" + text[stop + len(end) :])


def _fit(parts: Sequence[str], chars: int) -> list[str]:
    """Cut the longest of `parts` until all fit."""
    limit, left = 0, chars
    for count, size in zip(range(len(parts), 0, -1), sorted(map(len, parts)), strict=True):
        limit = max(limit, left // count)
        left -= min(size, limit)
    return [part if len(part) <= limit else part[: limit - 2].rstrip() + " …" for part in parts]


# What was said


_THOUGHT = re.compile(
    r"<(think|thinking)>.*?(?:</\1>|\Z)|<!--\s*think-sig:.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE
)
_FENCE = re.compile(r"(`{3,}|~{3,})\s*(.*?)\s*$")
_CALL = re.compile(r"^@[^\s(]+\([\w\-:.]+\): *\{.*", re.MULTILINE)
_XML_CALL = re.compile(r"<tool-use>.*?(?:</tool-use>|\Z)", re.DOTALL)


def history(messages: Sequence[Message], turns: int) -> list[dict[str, str]]:
    """Return the last turns, and what tools have said in between, oldest first.

    What tools say may come from anywhere, such as a page of the web. So it has no role that models
    would trust more than the user.

    Args:
        messages: The log.
        turns: How many of the user's and the agent's, at most.
    """
    told: list[tuple[Message, str]] = []
    size = 0
    prompt = {id(message) for message in _prompt(messages)}
    for message in reversed(messages):
        if message.pinned or message.hide or _for_pages(message) or id(message) in prompt:
            continue
        text = _told(message)
        size += len(text)
        if not text:
            continue
        if turns <= 0 or size > HISTORY_CHARS:
            break
        told.append((message, text))
        turns -= message.role != "system"
    while told and told[-1][0].role == "system":
        told.pop()  # nobody is left who has asked for it
    return [
        {"role": "user" if message.role == "system" else message.role, "text": text}
        for message, text in reversed(told)
    ]


def _told(message: Message) -> str:
    text = message.content
    if message.role == "system":
        text = " ".join(text.split())
        if len(text) > OUTPUT_CHARS:
            text = text[:OUTPUT_CHARS].rstrip() + " […]"
        return text and _FROM_GPTME + text
    heard = _call(message).get("heard_chars")
    if isinstance(heard, int):
        text = text[:heard]
    text = _THOUGHT.sub("", text)
    text = _XML_CALL.sub(lambda found: "\n".join(_first(found[0].split("\n"), "a call")), text)
    text = "\n".join(_blocks(text, BLOCK_LINES, "code"))
    text = _CALL.sub(lambda found: _middle_cut(found[0], OUTPUT_CHARS), text)
    return _middle_cut(text.strip(), TEXT_CHARS)


def _blocks(text: str, keep: int, unnamed: str) -> Iterator[str]:
    """Yield the lines of `text`, with blocks of code cut to `keep` lines; 0 drops them."""
    block: list[str] = []
    depth = 0
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if fence:
            # One that names its language inside of another one begins a block in that.
            depth += 1 if fence[2] or not depth else -1
        if depth or fence:
            block.append(line)
        if block and not depth:
            yield from _block(block, keep, unnamed)
            block = []
        elif not block:
            yield line
    if block:
        yield from _block(block, keep, unnamed)


def _block(lines: Sequence[str], keep: int, unnamed: str) -> Iterable[str]:
    if not keep:
        return []
    fence = _FENCE.match(lines[0])
    assert fence is not None
    closed = len(lines) > 1 and _FENCE.match(lines[-1]) is not None
    content = lines[1:-1] if closed else lines[1:]
    if len(content) <= keep:
        return lines
    return _first(content, fence[2] or unnamed)


def _first(lines: Sequence[str], name: str) -> Sequence[str]:
    if len(lines) <= BLOCK_LINES:
        return lines
    return [lines[0], f"[… {len(lines) - 1} more lines of {name}]"]


def _middle_cut(text: str, chars: int) -> str:
    if len(text) <= chars:
        return text
    half = (chars - len(_CUT)) // 2
    return f"{text[:half].rstrip()}{_CUT}{text[-half:].lstrip()}"


# Messages


def _metadata(message: Message) -> dict[str, Any]:
    return dict(message.metadata or {})


def _call(message: Message) -> dict[str, Any]:
    call = _metadata(message).get("voice_call")
    return call if isinstance(call, dict) else {}


def _generation(message: Message) -> object:
    return _metadata(message).get("prompt_generation")


def _for_pages(message: Message) -> bool:
    # gptme 0.34 does not mark such messages.
    return getattr(message, "ui_only", False) or _call(message).get("kind") == "session"
