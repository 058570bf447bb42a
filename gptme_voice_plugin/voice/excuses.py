"""Why gptme does not answer, in sentences for the eye and for the ear: pure.

What gptme-server says of it is in a provider's words, mostly a status and a dictionary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Excuse", "excuse"]

MAX_PROBLEM = 300
"""Characters of a problem that nobody knows, that are shown."""
MAX_WORDS = 100
"""Characters of what was heard, that are said again."""


@dataclass(frozen=True)
class Excuse:
    """Why there is no answer."""

    code: str
    shown: str
    """With what to do about it."""
    spoken: str


_NO_MODEL = (
    "no_model",
    "gptme has no model that could answer: choose one in the web UI's settings, set an API key "
    "such as OPENAI_API_KEY in gptme's config, or start gptme-server with --model.",
    "gptme has no model that could answer. Choose one in the settings, or set an API key in "
    "gptme's config.",
)
_KNOWN = (
    (r"no model specified|no default model", *_NO_MODEL),
    (
        r"gptme-server does not answer",
        "gptme_failed",
        "gptme-server does not answer; see its log, or start it again.",
        "gptme-server does not answer. See its log, or start it again.",
    ),
    (
        # Before 401 and 429: some providers say both of an account without money.
        r"insufficient.(quota|balance|credit|funds)|credit balance|\bquota\b|\b402\b",
        "gptme_failed",
        "The provider of gptme's model takes no more requests, because a quota or the money is "
        "used up; see your account there, or choose another model in the web UI.",
        "the account with the provider of its model is used up.",
    ),
    (
        r"\b401\b|(incorrect|invalid|missing|no).{0,10}api.?key|api.?key.{0,20}(invalid|not valid)"
        r"|authentication|unauthorized",
        "gptme_failed",
        "The provider of gptme's model refuses the API key; set another one in gptme's config.",
        "the provider of its model refuses the API key.",
    ),
    (
        r"model_not_found|model .*does not exist|\b404\b",
        "gptme_failed",
        "The provider of gptme's model does not know it; choose another model in the web UI.",
        "the provider does not know its model. Choose another one in the settings.",
    ),
    (
        r"\b429\b|rate.?limit|too many requests|overloaded",
        "gptme_failed",
        "The provider of gptme's model takes no more requests now; wait a little, and ask again.",
        "the provider of its model takes no more requests now. Ask again in a while.",
    ),
    (
        r"connection error|connect(ion)? (refused|failed)|timed? ?out|unreachable",
        "gptme_failed",
        "The provider of gptme's model cannot be reached; see that there is a network, or that the "
        "model's server runs.",
        "the provider of its model cannot be reached.",
    ),
)

_BY_US = re.compile(r"^gptme-server (cannot do it now|refuses it): ")
# What opens something: by how it begins, by what stands before it, or a long one with a digit.
_KEYS = re.compile(
    r"\b(?:(?:sk|pk|rk|xai|gsk|hf|ghp|pplx)[-_]|AIza)[\w*.…-]+"
    r"|(?<=bearer )\S+|(?<=key=)[^\s&'\"]+|(?<=provided: )[^\s'\"]+"
    r"|\b(?=[\w-]*\d)[\w-]{28,}",
    re.IGNORECASE,
)


def excuse(problem: str, heard: str) -> Excuse:
    """Return why there is no answer.

    Args:
        problem: What gptme-server says.
        heard: What the user has said; it was heard, at least.
    """
    problem = " ".join(problem.split())
    words = _short(" ".join(heard.split()), MAX_WORDS)
    before = f"I heard: {words.rstrip('.!?')}. But " if words else ""
    known = [words for pattern, *words in _KNOWN if re.search(pattern, problem, re.IGNORECASE)]
    if known:
        code, shown, spoken = known[0]
    else:
        code, spoken = "gptme_failed", "gptme does not answer. Why is on the screen."
        why = _short(_KEYS.sub("…", _BY_US.sub("", problem)), MAX_PROBLEM).rstrip(".")
        shown = f"gptme does not answer: {why or 'it does not say why'}; see gptme-server's log."
    if words and code == "no_model":
        shown = f"It heard “{words}”. {shown}"
    return Excuse(code, shown, before + spoken if before else spoken[:1].upper() + spoken[1:])


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
