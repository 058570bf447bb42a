"""Checks of client events against the `openai` package's own types, strictly.

The package's models accept unknown keys and loose values, as a client should; a provider does not.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from openai.types.realtime import (
    RealtimeClientEvent,
    RealtimeServerEvent,
    RealtimeSessionCreateResponse,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - it is what the `error` event says
    """Why an event is refused; becomes an `error` event."""

    code: str | None
    message: str
    param: str | None = None
    type: str = "invalid_request_error"

    def to_error(self, event_id: object) -> dict[str, Any]:
        """Return the event's `error` object."""
        return {
            "type": self.type,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "event_id": event_id if isinstance(event_id, str) else None,
        }


def missing(path: str) -> Problem:
    """Say that a key is not there."""
    return Problem("missing_required_parameter", f"Missing required parameter: '{path}'.", path)


def unknown(path: str) -> Problem:
    """Say that there is no such key."""
    return Problem("unknown_parameter", f"Unknown parameter: '{path}'.", path)


def invalid(path: str, value: object, allowed: object) -> Problem:
    """Say that a value is not allowed."""
    shown = (
        " and ".join(f"'{a}'" for a in allowed) if isinstance(allowed, (list, tuple)) else allowed
    )
    return Problem("invalid_value", f"Invalid value: '{value}'. Supported values: {shown}.", path)


def wrong_type(path: str, value: object, wanted: str) -> Problem:
    """Say that a value is of another type."""
    got = _NAMES.get(type(value), type(value).__name__)
    return Problem(
        "invalid_type", f"Invalid type for '{path}': expected {wanted}, got {got}.", path
    )


@lru_cache
def client_events() -> dict[str, type[BaseModel]]:
    """Return the package's client events by their `type`."""
    models = get_args(get_args(RealtimeClientEvent)[0])
    return {get_args(m.model_fields["type"].annotation)[0]: m for m in models}


@lru_cache
def _server_events() -> dict[str, type[BaseModel]]:
    models = get_args(get_args(RealtimeServerEvent)[0])
    return {get_args(m.model_fields["type"].annotation)[0]: m for m in models}


def check_server_event(event: dict[str, Any]) -> None:
    """Raise the first `Problem` of a server event: for tests of the fakes themselves."""
    if event["type"] in ("session.created", "session.updated"):
        # These events' type has the session as a client writes it, without the server's own keys.
        for problem in _check(event["session"], RealtimeSessionCreateResponse, "session"):
            raise problem
        return
    for problem in _check(event, _server_events()[event["type"]], ""):
        raise problem


@lru_cache
def _adapter(model: type[BaseModel]) -> TypeAdapter[BaseModel]:
    return TypeAdapter(model)


def check_event(event: dict[str, Any], allow_unknown: bool = False) -> None:
    """Raise the first `Problem` of a client event.

    Args:
        event: The decoded event.
        allow_unknown: Let keys pass that the types do not have.
    """
    model = client_events().get(event.get("type", ""))
    if model is None:
        raise invalid("type", event.get("type"), list(client_events()))
    problems = list(_check(event, model, ""))
    if allow_unknown:
        problems = [p for p in problems if p.code != "unknown_parameter"]
    # A missing key is named first: it is usually the reason for the others.
    problems.sort(key=lambda p: p.code != "missing_required_parameter")
    if problems:
        raise problems[0]
    try:
        _adapter(model).validate_python(event)
    except ValidationError as error:
        raise Problem("invalid_value", str(error)) from None


def _check(value: Any, wanted: Any, path: str) -> Iterator[Problem]:
    origin = get_origin(wanted)
    if wanted is Any or wanted is object:
        return
    if origin is Annotated:
        yield from _check(value, get_args(wanted)[0], path)
    elif origin is Union or origin is types.UnionType:
        yield from _check_union(value, get_args(wanted), path)
    elif origin is Literal:
        if value not in get_args(wanted):
            yield invalid(path, value, get_args(wanted))
    elif origin is list:
        if not isinstance(value, list):
            yield wrong_type(path, value, "an array")
            return
        for i, entry in enumerate(value):
            yield from _check(entry, get_args(wanted)[0], f"{path}[{i}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield wrong_type(path, value, "an object")
            return
        for key, entry in value.items():
            yield from _check(entry, get_args(wanted)[1], f"{path}.{key}")
    elif isinstance(wanted, type) and issubclass(wanted, BaseModel):
        yield from _check_model(value, wanted, path)
    elif not _is(value, wanted):
        yield wrong_type(path, value, _NAMES.get(wanted, str(wanted)))


def _is(value: object, wanted: Any) -> bool:
    if isinstance(value, bool):
        return wanted is bool
    if wanted is float:
        return isinstance(value, (int, float))
    return isinstance(value, wanted) if isinstance(wanted, type) else True


def _check_model(value: Any, model: type[BaseModel], path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield wrong_type(path, value, "an object")
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    prefix = f"{path}." if path else ""
    for name, field in fields.items():
        if name in value:
            yield from _check(value[name], field.annotation, prefix + name)
        elif field.is_required():
            yield missing(prefix + name)
    for name in value:
        if name not in fields:
            yield unknown(prefix + name)


def _check_union(value: Any, options: tuple[Any, ...], path: str) -> Iterator[Problem]:
    if value is None and type(None) in options:
        return
    models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    if isinstance(value, dict) and models:
        fitting = [m for m in models if _kind_fits(value, m)]
        if not fitting:
            yield _no_such_kind(value, models, path)
            return
        yield from min((list(_check(value, m, path)) for m in fitting), key=len)
        return
    others = [o for o in options if o not in models and o is not type(None)]
    tried = [list(_check(value, o, path)) for o in others]
    if not tried:
        yield wrong_type(path, value, "an object")
    elif all(tried):
        yield from min(tried, key=len)


def _kinds(model: type[BaseModel], key: str) -> tuple[Any, ...] | None:
    """Return the allowed values of a key that tells models apart; None if it does not."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    options = [field.annotation, *get_args(field.annotation)]
    return next((get_args(o) for o in options if get_origin(o) is Literal), None)


def _kind_fits(value: dict[str, Any], model: type[BaseModel]) -> bool:
    for key in ("type", "role"):
        kinds = _kinds(model, key)
        if kinds is not None and key in value and value[key] not in kinds:
            return False
    return True


def _no_such_kind(value: dict[str, Any], models: list[type[BaseModel]], path: str) -> Problem:
    for key in ("type", "role"):
        kinds = [k for m in models for k in _kinds(m, key) or ()]
        if key in value and kinds and value[key] not in kinds:
            return invalid(f"{path}.{key}", value[key], sorted(set(kinds)))
    return invalid(path, value, "none of the known shapes")
