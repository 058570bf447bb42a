"""webui_patch/protocol.js says of the messages what voice/wire.py says."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from gptme_voice_plugin.voice import wire

SOURCE = (Path(__file__).resolve().parents[2] / "webui_patch" / "protocol.js").read_text()
# Comment stars and line ends are not part of the types.
FLAT = re.sub(r"\s+", " ", re.sub(r"\n\s*\*(?!/)", " ", SOURCE))

CLIENT = get_args(wire.ClientMessage)
SERVER = get_args(wire.ServerMessage)


def typedefs() -> dict[str, str]:
    """Return the typedefs that are objects: name → what is between the braces."""
    found = re.findall(r"@typedef \{\{(.*?)\}\} (\w+)", FLAT)
    return {name: body for body, name in found}


def unions() -> dict[str, list[str]]:
    """Return the typedefs that are unions of others: name → their names."""
    found = re.findall(r"@typedef \{(\w[^{}]*)\} (\w+)", FLAT)
    return {name: [part.strip() for part in body.split("|")] for body, name in found}


def members(body: str) -> dict[str, str]:
    """Return the fields of an object type: name, with `?` if it may be missing → type."""
    return {
        name.strip(): kind.strip()
        for name, _, kind in (member.partition(":") for member in body.split(","))
    }


def exported(name: str) -> list[str]:
    """Return the strings of an exported list."""
    match = re.search(rf"export const {name} = /\*\* @type \{{const\}} \*/ \(\[(.*?)\]\)", FLAT)
    assert match, f"{name} is not exported"
    return re.findall(r'"([^"]+)"', match[1])


def javascript(kind: object) -> str:
    """Return how the type of a dataclass field is written in JavaScript."""
    if get_origin(kind) is Literal:
        return " | ".join(f'"{value}"' for value in get_args(kind))
    if get_origin(kind) is tuple:
        return javascript(get_args(kind)[0]) + "[]"
    names = {str: "string", int: "number", float: "number", bool: "boolean"}
    (name,) = {names[k] for k in (get_args(kind) or (kind,)) if isinstance(k, type) and k in names}
    return name


def test_subprotocol() -> None:
    match = re.search(r'export const SUBPROTOCOL = "([^"]+)";', SOURCE)
    assert match and match[1] == wire.SUBPROTOCOL


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("CLIENT_TYPES", CLIENT), ("SERVER_TYPES", SERVER)],
    ids=["client", "server"],
)
def test_types(name: str, kinds: tuple[type[wire.ClientMessage], ...]) -> None:
    """The exported lists have every type, in the same order."""
    assert exported(name) == [kind.type for kind in kinds]


def test_unions() -> None:
    assert unions()["ClientMessage"] == [kind.__name__ for kind in CLIENT]
    assert unions()["ServerMessage"] == [kind.__name__ for kind in SERVER]
    assert set(typedefs()) >= {kind.__name__ for kind in (*CLIENT, *SERVER)}


@pytest.mark.parametrize("kind", [*CLIENT, *SERVER], ids=lambda kind: kind.__name__)
def test_fields(kind: type[wire.ClientMessage] | type[wire.ServerMessage]) -> None:
    """Each has the same fields, of the same types.

    What has a default need not come from a client; a server leaves out what is None only.
    """
    hints = get_type_hints(kind)
    expected = {"type": f'"{kind.type}"'}
    for field in fields(kind):
        hint = hints[field.name]
        left_out = type(None) in get_args(hint)
        if kind in CLIENT:
            left_out = field.default is not MISSING
        expected[field.name + ("?" if left_out else "")] = javascript(hint)
    assert members(typedefs()[kind.__name__]) == expected
