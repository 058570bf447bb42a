"""How many words of what was said were written down wrongly.

Only words count: not how they are spelt, not marks. "10" is "ten", and "don't" is "do not".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["WordErrors", "word_errors", "words_of"]

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = [
    "zero",
    "ten",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
]
_SAME = {
    "can't": "can not",
    "cannot": "can not",
    "won't": "will not",
    "let's": "let us",
    "mr": "mister",
    "mrs": "missis",
    "dr": "doctor",
    "ok": "okay",
    "disc": "disk",
    "%": "percent",
}
_ENDINGS = {
    "n't": " not",
    "'re": " are",
    "'ve": " have",
    "'ll": " will",
    "'m": " am",
}
# "It's" is "it is", but "the user's" may be anything.
_IS = re.compile(r"^(it|that|what|where|who|how|there|here|he|she)'s$")


@dataclass(frozen=True)
class WordErrors:
    """How many words are wrong, missing or too many, of how many that were said."""

    errors: int = 0
    words: int = 0

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(self.errors + other.errors, self.words + other.words)

    @property
    def rate(self) -> float:
        """The word error rate."""
        return self.errors / max(1, self.words)


def word_errors(said: str, heard: str) -> WordErrors:
    """Compare a text with what was made of it.

    Digits may be meant one by one or as a number; what fits better counts.
    """
    reference = words_of(said)
    errors = min(
        _distance(reference, words_of(heard)),
        _distance(reference, words_of(heard, one_by_one=True)),
    )
    return WordErrors(errors, len(reference))


def words_of(text: str, one_by_one: bool = False) -> list[str]:
    """Return a text's words, as they sound.

    Args:
        text: As it is written.
        one_by_one: Whether digits are read as such, and not as a number.
    """
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    words: list[str] = []
    for token in re.findall(r"\d+|%|[^\W\d_]+(?:'[^\W\d_]+)*", text):
        if token.isdigit():
            words += [_ONES[int(d)] for d in token] if one_by_one else _number(int(token))
        else:
            words += _spelt_out(token).split()
    return words


def _spelt_out(token: str) -> str:
    if token in _SAME:
        return _SAME[token]
    if match := _IS.match(token):
        return f"{match[1]} is"
    for ending, word in _ENDINGS.items():
        if token.endswith(ending):
            return token.removesuffix(ending) + word
    return token


def _number(number: int) -> list[str]:
    for size, name in ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred")):
        if number >= size:
            above, below = divmod(number, size)
            return [*_number(above), name, *(_number(below) if below else [])]
    if number < len(_ONES):
        return [_ONES[number]]
    tens, ones = divmod(number, 10)
    return [_TENS[tens], *([_ONES[ones]] if ones else [])]


def _distance(said: list[str], heard: list[str]) -> int:
    """Levenshtein's, over words."""
    row = list(range(len(heard) + 1))
    for at, word in enumerate(said, 1):
        last, row[0] = row[0], at
        for place, other in enumerate(heard, 1):
            last, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, last + (word != other)),
            )
    return row[-1]
