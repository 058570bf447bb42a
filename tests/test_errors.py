"""The exception tree: a page of documentation that is true."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin import errors
from gptme_voice_plugin.errors import ProtocolError, VoiceError, close_reason

LINE = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) *(?P<code>[a-z_]*_[a-z_]+)?(?: |$)")


def classes() -> dict[str, type[VoiceError]]:
    """Return the exception classes of the module by name."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, VoiceError)
    }


def documented() -> dict[str, tuple[str | None, str | None]]:
    """Return what the module's docstring says: name → parent and code."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := LINE.match(line):
            depth = len(found["branch"]) // 4
            path = [*path[:depth], found["name"]]
            tree[found["name"]] = (path[-2] if depth else None, found["code"])
    return tree


def test_documented_tree_is_the_real_one() -> None:
    """The docstring names every class, under its parent."""
    real = {
        name: kind.__base__.__name__ if kind is not VoiceError else None
        for name, kind in classes().items()
    }
    assert {name: parent for name, (parent, _) in documented().items()} == real


def test_documented_codes_are_the_real_ones() -> None:
    """Every leaf's code is in the docstring."""
    for name, kind in classes().items():
        code = documented()[name][1]
        assert code == kind.code or (code is None and kind.__subclasses__()), name


def test_codes_are_unique() -> None:
    """A program can tell every error from every other."""
    codes = [kind.code for kind in classes().values()]
    assert len(set(codes)) == len(codes)


def test_all_classes_are_exported() -> None:
    """`__all__` is complete."""
    assert sorted([*classes(), "close_reason"]) == sorted(errors.__all__)


def test_close_codes() -> None:
    """A client's fault is 1008, a stop 1012, anything else 1011; what a session can live with."""
    for kind in classes().values():
        protocol = issubclass(kind, ProtocolError) or kind is errors.ConversationInUse
        stop = kind is errors.ServerStopping
        assert kind.close_code == (1008 if protocol else 1012 if stop else 1011)
        assert kind.fatal or protocol or kind is errors.RecordingFailed


def test_message_is_the_exceptions_text() -> None:
    """`str` of an error is its sentence."""
    error = errors.ConfigError("Words.")
    assert str(error) == error.message == "Words."
    assert errors.InternalError().message.endswith("see the server's log.")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", ""),
        ("short", "short"),
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 120 + "…"),
        ("é" * 62, "é" * 60 + "…"),
        ("a" + "é" * 62, "a" + "é" * 59 + "…"),
        ("half \ud800", "half ?"),
    ],
)
def test_close_reason(message: str, reason: str) -> None:
    """What fits is left as it is; what does not is cut between characters."""
    assert close_reason(message) == reason


@given(st.text(st.characters(), max_size=300))
def test_close_reason_always_fits(message: str) -> None:
    """A reason is at most 123 bytes of valid UTF-8, and a beginning of the message."""
    reason = close_reason(message)
    assert len(reason.encode()) <= 123
    assert message.encode(errors="replace").decode().startswith(reason.removesuffix("…"))
