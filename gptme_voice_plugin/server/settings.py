"""The settings that a page shows and saves.

    GET   /api/v2/voice/config    what is set, where, and which backend that gives
    PATCH /api/v2/voice/config    save some of it to the user's config.toml

Of API keys only the names are told, and whether they are configured.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from threading import Lock
from typing import Any

from flask import Response, jsonify, request
from flask.typing import ResponseReturnValue

from .. import NAME, backends
from ..config import ENV_PREFIX, Settings, load_settings, parse_settings
from ..errors import ConfigError, ConfigNotSaved, VoiceError
from .gptme_config import local_table, read_config, save, user_table

__all__ = ["EDITABLE", "SettingsRoutes", "configured"]

EDITABLE = (
    "backend", "model", "voice", "language", "turn_detection", "voice_confirm", "record",
)  # fmt: skip
"""The settings that a page may change; the others are for whoever runs the server."""

_MAX_TEXT = 500
_FIELDS: dict[str, Field[Any]] = {f.name: f for f in fields(Settings) if f.name in EDITABLE}


def configured(workspace: Path) -> tuple[Settings, dict[str, str]]:
    """Read the settings afresh, and the API keys that are configured, by name.

    Raises:
        ConfigError: A file is broken, or a setting has a wrong value.
    """
    config = read_config(workspace)
    names = (*backends.KEYS.values(), *backends.OPTIONAL_KEYS.values())
    keys = {name: config.get_env(name) or "" for name in names}
    return load_settings(config), {name: key for name, key in keys.items() if key}


class SettingsRoutes:
    """The views, which know nothing of who asks: see `VoiceRoutes`.

    Args:
        workspace: The folder gptme-server was started in, where its project config is.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._lock = Lock()

    def read(self) -> ResponseReturnValue:
        """Answer with all that there is to say."""
        return self._answer()

    def write(self) -> ResponseReturnValue:
        """Save what the request wants changed, or nothing, and answer as `read` does."""
        try:
            changes = _changes(request.get_json(silent=True))
        except ConfigError as error:
            return _refusal(error, 400)
        with self._lock:
            try:
                table = user_table()
            except ConfigError as error:
                return _refusal(error, 409)
            try:
                clean = _validated(table, changes)
            except ConfigError as error:
                return _refusal(error, 400)
            try:
                save(clean)
            except ConfigNotSaved as error:
                return _refusal(error, 503)
            except ConfigError as error:
                return _refusal(error, 409)
        return self._answer()

    def _answer(self) -> Response:
        answer: dict[str, Any] = {"settings": {}, "keys": {}}
        try:
            config = read_config(self._workspace)
            present = {name: bool(config.get_env(name)) for name in backends.KEYS.values()}
            answer["keys"] = {
                backend: {"name": name, "present": present[name]}
                for backend, name in backends.KEYS.items()
            }
            layers = {
                "env": _environment(),
                "project": _table(config.project),
                "local": local_table(),
                "user": _table(config.user),
            }
            answer["settings"] = {key: _describe(key, layers) for key in EDITABLE}
            choice = backends.choose(
                load_settings(config), [name for name, there in present.items() if there]
            )
            answer["backend"] = {"name": choice.name, "reason": choice.reason}
        except VoiceError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        response = jsonify(answer)
        response.headers["Cache-Control"] = "no-store"
        return response


def _changes(body: object) -> dict[str, str | bool | None]:
    """Return what a request wants changed.

    Raises:
        ConfigError: It is no such request.
    """
    changes = body.get("settings") if isinstance(body, dict) else None
    if not isinstance(changes, dict):
        raise ConfigError('The request must be JSON like {"settings": {"backend": "auto"}}.')
    for key, value in changes.items():
        if key not in EDITABLE:
            raise ConfigError(
                f"{key!r:.80} cannot be changed from a page; what can: {', '.join(EDITABLE)}."
            )
        if value is None:
            continue
        if _is_flag(key):
            if not isinstance(value, bool):
                raise ConfigError(f"{key} must be true or false, or null for its default.")
        elif not isinstance(value, str) or len(value) > _MAX_TEXT or not _encodable(value):
            raise ConfigError(
                f"{key} must be a text of at most {_MAX_TEXT} characters, or null for its default."
            )
    return changes


def _is_flag(key: str) -> bool:
    return isinstance(_FIELDS[key].default, bool)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and no file hold
        return False
    return True


def _validated(
    table: Mapping[str, Any], changes: Mapping[str, str | bool | None]
) -> dict[str, str | bool | None]:
    """Return `changes` as they are to be saved in `table`.

    Raises:
        ConfigError: The table would have a wrong value in it.
    """
    merged = {**table, **changes}
    settings = parse_settings({key: value for key, value in merged.items() if value is not None})
    return {key: None if changes[key] is None else getattr(settings, key) for key in changes}


def _environment() -> dict[str, str]:
    variables = {key: os.environ.get(ENV_PREFIX + key.upper(), "") for key in EDITABLE}
    return {key: value for key, value in variables.items() if value.strip()}


def _table(layer: Any) -> Mapping[str, Any]:
    table = layer.plugin.get(NAME, {}) if layer is not None else {}
    return table if isinstance(table, Mapping) else {}


def _describe(key: str, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say what is set for `key` in the first of `layers` that has it."""
    default = _FIELDS[key].default
    source = next((name for name, layer in layers.items() if key in layer), "default")
    value = layers[source][key] if source != "default" else default
    described = {
        "value": _shown(key, value),
        "default": default,
        "source": source,
        # What another file or the environment sets would win over what is saved.
        "editable": source in ("default", "user"),
        "help": _FIELDS[key].metadata["help"],
    }
    choices = _FIELDS[key].metadata["choices"]
    if key == "backend":
        choices = [name for name in choices if name == "auto" or name in backends.FACTORIES]
    return described | {"choices": list(choices)} if choices else described


def _shown(key: str, value: object) -> str | bool:
    try:
        shown: str | bool = _FIELDS[key].metadata["parse"](value)
        return shown
    except ValueError:
        return f"{value!s:.80}"  # wrong, and to be seen as it is


def _refusal(error: VoiceError, status: int) -> ResponseReturnValue:
    return jsonify({"error": error.message, "code": error.code}), status
