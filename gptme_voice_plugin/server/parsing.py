"""The values of a request's JSON: each function returns what it has checked, or says what is wrong.

`at` names the value in what the user reads. All raise `BadTurns`.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from ..characters import whole
from ..errors import BadTurns

__all__ = ["details", "identifier", "moment", "name", "number", "table", "text", "usage"]

_MAX_NAME = 200
_MAX_USAGE = 30
_MAX_NUMBER = 2**53  # what JSON and TOML hold without loss
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_USAGE_KEY = re.compile(r"[a-z][a-z0-9_]{0,49}")


def identifier(at: str, value: object) -> str:
    """Return an id."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadTurns(
            f"{at} must be 1 to 200 ASCII letters, digits or any of . _ : -, and begin with a "
            "letter or digit."
        )
    return value


def text(at: str, value: object) -> str:
    """Return a text of any length, without what surrounds it."""
    if not isinstance(value, str):
        raise BadTurns(f"{at} must be a text.")
    # Half of a surrogate pair, which JSON can spell, would otherwise make the log unreadable.
    return whole(value).strip()


def name(at: str, value: object) -> str:
    """Return a short text; empty if there is none."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise BadTurns(f"{at} must be a text of at most {_MAX_NAME} characters.")
    return value


def moment(at: str, value: object) -> datetime:
    """Return a time, in UTC."""
    try:
        # Python 3.10 knows no Z.
        time = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", str(value)))
    except ValueError:
        time = datetime.min
    if time.tzinfo is None or not 2000 <= time.year < 3000:
        raise BadTurns(f"{at} must be a time like 2026-01-31T12:00:00.000Z.")
    return time.astimezone(timezone.utc)


def number(at: str, value: object) -> float:
    """Return a number."""
    # Not isinstance: a bool is an int.
    if (type(value) is int or type(value) is float) and 0 <= value <= _MAX_NUMBER:
        return value
    raise BadTurns(f"{at} must be a number, and not negative.")


def table(at: str, value: object) -> dict[str, Any]:
    """Return an object; empty if there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadTurns(f"{at} must be an object.")
    return value


def usage(at: str, value: object) -> dict[str, float]:
    """Return counts by name, those that are known."""
    counts = table(at, value)
    if len(counts) > _MAX_USAGE or not all(map(_USAGE_KEY.fullmatch, counts)):
        raise BadTurns(f"{at} must have at most {_MAX_USAGE} keys, like input_tokens.")
    return {key: number(f"{at}.{key}", count) for key, count in counts.items() if count is not None}


def details(at: str, value: object) -> dict[str, Any]:
    """Return what is known of a turn."""
    given = table(at, value)
    found: dict[str, Any] = {
        key: name(f"{at}.{key}", given.get(key)) for key in ("session", "backend", "model")
    }
    if given.get("seconds") is not None:
        found["seconds"] = number(f"{at}.seconds", given["seconds"])
    found["usage"] = usage(f"{at}.usage", given.get("usage"))
    return {key: value for key, value in found.items() if value not in ("", {})}
