"""gptme's config files: read afresh each time, and our table in the user's own one written.

Whatever gptme, or its TOML reader, makes of a broken file is a `ConfigError` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from .. import NAME
from ..errors import ConfigError, ConfigNotSaved

if TYPE_CHECKING:
    from gptme.config import Config
    from tomlkit import TOMLDocument

__all__ = ["local_table", "read_config", "save", "user_table"]

_T = TypeVar("_T")
# One at a time: a file is truncated before it is written, and must not be read in between.
_lock = Lock()


def read_config(workspace: Path) -> Config:
    """Return gptme's config for a folder as it is on disk now.

    A request's thread has no config of its own, and what gptme read at its start may be old.

    Raises:
        ConfigError: A file is broken.
    """
    from gptme.config import Config, get_project_config, load_user_config

    with _lock:
        user = _read("config.toml", load_user_config)
        project = _read("gptme.toml", lambda: get_project_config(workspace, quiet=True))
    return Config(user=user, project=project)


def user_table() -> dict[str, Any]:
    """Return our table of the user's config.toml, without what other files add to it.

    Raises:
        ConfigError: The file is broken, or has something else in the table's place.
    """
    return _table_of(_paths()[0])


def local_table() -> dict[str, Any]:
    """Return our table of config.local.toml, which wins over config.toml.

    Raises:
        ConfigError: As for `user_table`.
    """
    return _table_of(_paths()[1])


def save(changes: Mapping[str, str | bool | None]) -> None:
    """Set each key of `changes` in the user's config.toml; None removes it.

    All else in the file stays as it is, comments included. All is saved, or nothing.

    Raises:
        ConfigError: The file is broken.
        ConfigNotSaved: It cannot be written.
    """
    from gptme.config import set_config_value

    path = _paths()[0]
    with _lock:
        before = _read(path.name, lambda: path.read_bytes() if path.exists() else None)
        try:
            for key, value in changes.items():
                if value is not None:
                    set_config_value(f"plugin.{NAME}.{key}", value, reload=False)
            _remove(path, [key for key, value in changes.items() if value is None])
        except OSError as exc:
            if before is not None:
                with suppress(OSError):
                    path.write_bytes(before)
            raise ConfigNotSaved(
                f"gptme's {path.name} cannot be written ({exc.strerror or exc}); nothing was saved."
            ) from exc


def _remove(path: Path, keys: list[str]) -> None:
    """Remove keys of our table: gptme's own writer can only set them."""
    import tomlkit

    if not keys or not path.exists():
        return
    document = _parse(path)
    table = document.get("plugin", {}).get(NAME, {})
    present = [key for key in keys if key in table]
    if not present:
        return
    for key in present:
        del table[key]
    path.write_bytes(tomlkit.dumps(document).encode())


def _table_of(path: Path) -> dict[str, Any]:
    with _lock:
        if not path.exists():
            return {}
        document = _read(path.name, lambda: _parse(path).unwrap())
    tables = document.get("plugin", {})
    table = tables.get(NAME, {}) if isinstance(tables, Mapping) else None
    if not isinstance(table, dict):
        raise ConfigError(f"[plugin.{NAME}] must be a table.")
    return table


def _paths() -> tuple[Path, Path]:
    from gptme.config.user import get_user_config_paths

    return get_user_config_paths()


def _parse(path: Path) -> TOMLDocument:
    import tomlkit

    # As bytes: reading as text would turn a file's line ends into this system's.
    return tomlkit.parse(path.read_bytes().decode())


def _read(name: str, load: Callable[[], _T]) -> _T:
    try:
        return load()
    except Exception as exc:  # whatever they make of a broken file
        reason = " ".join(str(exc).split()) or type(exc).__name__
        reason = f"{reason:.200}".rstrip(".")
        raise ConfigError(f"gptme's {name} cannot be read: {reason}.") from exc
