"""A text model's answer, as it streams in, to what is to be spoken: sentence by sentence.

The first sentence is given out as early as its first clause, so that speech begins soon. Markdown
is spoken as a person would read it out: emphasis and headings without their marks, lists item by
item, links by their text. What cannot be spoken is left out with a word: code, tables, addresses.
What a model thinks is nobody's business.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["CODE_NOTICE", "TABLE_NOTICE", "Sentence", "SpokenText"]

CODE_NOTICE = "I put the code in the chat."
TABLE_NOTICE = "There is a table in the chat."
LINK = "a link"
MIN_CLAUSE = 24
"""Characters that the first clause must have to be worth speaking by itself."""
MAX_SENTENCE = 300
"""A sentence that goes on for longer is cut at a space."""

_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_TABLE = re.compile(r"\s*\|.*\|\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+")
_QUOTE = re.compile(r"\s{0,3}>\s?")
_RULE = re.compile(r"\s{0,3}([-*_=])(?:\s*\1){2,}\s*$")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_URL = re.compile(r"<?\bhttps?://[^\s>)\]]*[^\s>)\].,;:!?]>?")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_CODE = re.compile(r"`+([^`]*)`+")
_MARKS = re.compile(r"(\*\*|__|~~)(?=\S)(.*?)(?<=\S)\1")
_MARK = re.compile(r"(?<![\w*])([*_])(?=\S)([^*_]*?)(?<=\S)\1(?![\w*])")
_THOUGHTS = re.compile(r"<(think|thinking)>")

# Words whose full stop ends no sentence.
_SHORT = re.compile(
    r"(?:^|[\s(\"'])(?:[A-Za-z]|e\.g|i\.e|z\.B|d\.h|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|No|Nr|ca|approx)\.$"
)
_ENDS = ".!?…"
_WIDE_ENDS = "。！？"
_CLAUSE_ENDS = ",;:–—"
_CLOSING = "\"'”’)]»*_"


@dataclass(frozen=True)
class Sentence:
    """What can be spoken at once: a sentence, a clause, an item of a list, a notice."""

    text: str
    end: int
    """How many characters of the answer are told with it, and what was before it."""


class SpokenText:
    """One answer. What comes out does not depend on how the answer was cut into pieces."""

    def __init__(self) -> None:
        self._read = 0  # characters of the answer
        self._told = 0
        self._line = ""  # the line that is still coming in
        self._begun = False  # whether some of the line has been taken already
        self._text = ""  # running text that is no sentence yet
        self._fence: str | None = None
        self._thoughts: str | None = None
        self._in_table = False
        self._said_code = False
        self._spoke = False

    def push(self, piece: str) -> list[Sentence]:
        """Take the next piece; return what can be spoken now: sentences, or the first clause."""
        spoken: list[Sentence] = []
        for character in piece:
            self._read += 1
            if character == "\n":
                spoken += self._placed(self._end_line())
            else:
                self._line += character
                if self._is_prose() and character.isspace():
                    spoken += self._placed(self._take(self._line))
                    self._line, self._begun = "", True
        return spoken

    def finish(self) -> list[Sentence]:
        """Return what is left: the answer is complete."""
        return self._placed([*self._end_line(), *self._flush()])

    def _placed(self, texts: list[str]) -> list[Sentence]:
        """Return what has just become speakable, with where in the answer it ends."""
        start, length = self._told, self._read - self._told
        total, so_far, sentences = sum(map(len, texts)), 0, []
        for text in texts:
            # Of several in a line the places in between are estimates.
            so_far += len(text)
            self._told = start + length * so_far // total
            sentences.append(Sentence(text, self._told))
        return sentences

    # Lines

    def _is_prose(self) -> bool:
        """Whether the line is running text for sure: then its words are taken as they come."""
        if self._fence is not None or self._thoughts is not None:
            return False
        if self._begun:
            # Marks that are open yet may turn out to be a link, or emphasis.
            return not _open_marks(self._line)
        start = self._line.lstrip()
        if not start or start[0] in "`~|#>-*+•_=<![" or start[0].isdigit():
            return False
        return not _open_marks(self._line)

    def _end_line(self) -> list[str]:
        line, begun = self._line, self._begun
        self._line, self._begun = "", False
        if self._thoughts is not None:
            if self._thoughts in line:
                line = line.partition(self._thoughts)[2]
                self._thoughts = None
            else:
                return []
        if begun:
            return self._take(line + " ")
        fence = _FENCE.match(line)
        if self._fence is not None:
            if fence and fence[1].startswith(self._fence) and not line[fence.end() :].strip():
                self._fence = None
            return []
        if fence:
            self._fence = fence[1]
            return [*self._flush(), *self._notice_code()]
        if _TABLE.match(line):
            first, self._in_table = not self._in_table, True
            return [*self._flush(), *self._say(TABLE_NOTICE)] if first else []
        self._in_table = False
        if not line.strip() or _RULE.match(line):
            return self._flush()
        if quote := _QUOTE.match(line):
            line = line[quote.end() :]
        opening = _ITEM.match(line) or _HEADING.match(line)
        if opening:
            return [*self._flush(), *self._take(line[opening.end() :]), *self._flush()]
        return self._take(line + " ")

    def _notice_code(self) -> list[str]:
        # Once is enough, however many blocks there are.
        first, self._said_code = not self._said_code, True
        return self._say(CODE_NOTICE) if first else []

    # Sentences

    def _take(self, text: str) -> list[str]:
        before, thinks, after = _partition_thoughts(text)
        self._text += before
        spoken = self._sentences()
        if thinks:
            closing = f"</{thinks}>"
            inside, closed, rest = after.partition(closing)
            if closed:
                return spoken + self._take(rest)
            self._thoughts = closing
        return spoken

    def _sentences(self) -> list[str]:
        spoken: list[str] = []
        while (end := self._boundary()) is not None:
            sentence, self._text = self._text[:end], self._text[end:].lstrip()
            spoken += self._say(sentence)
        return spoken

    def _boundary(self) -> int | None:
        text = self._text
        for at, character in enumerate(text):
            if character in _WIDE_ENDS:
                return at + 1
            if at >= MAX_SENTENCE and character.isspace():
                return at
            if not character.isspace():
                continue
            word_end = text[:at].rstrip(_CLOSING)
            if not word_end:
                continue
            if word_end[-1] in _ENDS and not _SHORT.search(word_end):
                return at
            if not self._spoke and word_end[-1] in _CLAUSE_ENDS and at >= MIN_CLAUSE:
                return at
        return None

    def _flush(self) -> list[str]:
        rest, self._text = self._text, ""
        return self._say(rest)

    def _say(self, text: str) -> list[str]:
        text = _spoken(text)
        if not any(character.isalnum() for character in text):
            return []
        self._spoke = True
        return [text]


def _open_marks(line: str) -> bool:
    """Whether a mark was opened in `line` that may still be closed."""
    if line.count("`") % 2 or line.count("**") % 2 or line.count("<") > line.count(">"):
        return True
    opened = line.rfind("[")
    return opened >= 0 and not re.search(r"\]\([^)]*\)|\](?!\()", line[opened:])


def _partition_thoughts(text: str) -> tuple[str, str, str]:
    found = _THOUGHTS.search(text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[1], text[found.end() :]


def _spoken(text: str) -> str:
    """Return running text without its markdown."""
    text = _IMAGE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub(LINK, text)
    text = _TAG.sub("", text)
    text = _CODE.sub(r"\1", text)
    for _ in range(2):  # one inside another
        text = _MARKS.sub(r"\2", text)
        text = _MARK.sub(r"\2", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("So", "Cs", "Co", "Cn"))
    return " ".join(text.split())
