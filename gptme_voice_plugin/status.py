"""What `gptme-voice status` tells: what is installed, chosen and running, and what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from . import NAME, __version__, backends
from .address import TOKEN_VARIABLE, Address, find_token
from .config import Settings, enabled, load_settings
from .errors import VoiceError

if TYPE_CHECKING:
    from gptme.config import Config

__all__ = ["Server", "Status", "collect", "lines"]

HTTP_SECONDS = (3.0, 10.0)
"""How long connecting, and then an answer, may take."""


@dataclass
class Server:
    """A running gptme-server, seen from outside."""

    url: str
    running: bool = False
    loaded: bool | None = None
    """Whether it has the plugin; None if that is not known."""
    detail: str = ""
    version: str | None = None
    backend: str | None = None
    voice_process: dict[str, Any] | None = None


@dataclass
class Status:
    """Everything that is known. Keys are named, never shown."""

    version: str
    gptme_version: str | None
    installed: bool
    """Whether gptme finds the plugin's entry point."""
    enabled: bool
    """Whether gptme loads it, and it is not switched off."""
    server: Server
    backend: str | None = None
    reason: str | None = None
    """Why that backend."""
    keys: dict[str, bool] = field(default_factory=dict)
    """Names of the API keys that backends use, and whether each is configured."""
    settings: dict[str, Any] | None = None
    """The settings that differ from their defaults; None if one of them is wrong."""
    problems: list[str] = field(default_factory=list)
    """What is missing, and what to do about it."""

    @property
    def ok(self) -> bool:
        """Whether nothing is missing."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {"ok": self.ok, **asdict(self)}


def collect(address: Address, token: str | None = None) -> Status:
    """Find out everything, for the server at `address` and the current folder's config."""
    status = Status(
        version=__version__,
        gptme_version=_version_of("gptme"),
        installed=any(e.name == NAME for e in metadata.entry_points(group="gptme.plugins")),
        enabled=enabled(),
        server=Server(address.http),
    )
    if not status.installed:
        status.problems.append(
            "gptme does not find the plugin; install it next to gptme: "
            "pip install gptme-voice-plugin"
        )
    if not status.enabled:
        status.problems.append("Voice is switched off by GPTME_VOICE; set it to 1, or unset it.")
    if importlib.util.find_spec("flask") is None:
        status.problems.append(
            "gptme is installed without its server extra; install it: pip install 'gptme[server]'"
        )
    try:
        config = _read_config()
    except Exception as error:  # whatever gptme makes of a broken file
        what = " ".join(str(error).split()) or type(error).__name__
        status.problems.append(f"gptme's config cannot be read: {what}")
    else:
        _check_config(status, config)
    _ask_server(status, address, token)
    return status


def _read_config() -> Config:
    from gptme.config import Config, get_project_config, load_user_config

    return Config(user=load_user_config(), project=get_project_config(Path.cwd(), quiet=True))


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _check_config(status: Status, config: Config) -> None:
    _, allowed = config.get_plugin_config()
    if allowed is not None and NAME not in allowed:
        status.enabled = False
        alike = [name for name in allowed if name.replace("-", "_").lower() == NAME]
        status.problems.append(
            f"[plugins].enabled in gptme's config names {alike[0]!r}; write it {NAME!r}."
            if alike
            else f"[plugins].enabled in gptme's config leaves the plugin out; add {NAME!r} to it."
        )
    status.keys = {key: bool(config.get_env(key)) for key in backends.KEYS.values()}
    try:
        settings = load_settings(config)
        defaults = Settings()
        status.settings = {
            f.name: getattr(settings, f.name)
            for f in fields(Settings)
            if getattr(settings, f.name) != getattr(defaults, f.name)
        }
        choice = backends.choose(settings, [key for key, there in status.keys.items() if there])
        status.backend, status.reason = choice.name, choice.reason
    except VoiceError as error:
        status.problems.append(error.message)


def _ask_server(status: Status, address: Address, token: str | None) -> None:
    server = status.server
    try:
        sent = find_token(token, address)
        with requests.Session() as session:
            # No proxy for this machine, and no netrc: its entry would replace our header.
            session.trust_env = not address.loopback
            answer = session.get(
                f"{server.url}/api/v2/voice/status",
                headers={"Authorization": f"Bearer {sent}"} if sent else {},
                timeout=HTTP_SECONDS,
                allow_redirects=False,
            )
    except VoiceError as error:
        status.problems.append(error.message)
        return
    except requests.Timeout:
        server.running = True
        server.detail = "it takes connections, but does not answer"
        status.problems.append(f"The server at {server.url} does not answer; restart it.")
        return
    except requests.RequestException:
        server.detail = "nothing answers there"
        return
    server.running = True
    if answer.status_code == 401:
        server.loaded = True
        server.detail = "it did not accept the token" if sent else "it wants a token"
        status.problems.append(
            f"More about the server at {server.url} needs the token it printed at its start; "
            f"give it with --token or {TOKEN_VARIABLE}."
        )
        return
    try:
        data = answer.json()
    except ValueError:
        data = None
    if answer.status_code != 200 or not isinstance(data, dict) or data.get("plugin") != NAME:
        server.loaded = False
        server.detail = f"it has no voice (its answer was {answer.status_code})"
        status.problems.append(
            f"The server at {server.url} runs without the plugin; if it is gptme-server, restart "
            "it from an environment that has the plugin, with GPTME_VOICE not 0."
        )
        return
    server.loaded = True
    server.version = data.get("version")
    server.backend = data.get("backend")
    server.voice_process = data.get("voice_process")
    if server.version != __version__:
        status.problems.append(
            f"The server at {server.url} runs version {server.version}; restart it to get "
            f"{__version__}."
        )
    reported = data.get("error")
    message = reported.get("message") if isinstance(reported, dict) else None
    if message and message not in status.problems:
        status.problems.append(f"The server at {server.url} reports: {message}")


def lines(status: Status) -> Iterator[str]:
    """Yield `status` as lines of text."""
    yield _line("Plugin", f"{status.version}, {_plugin_state(status)}")
    yield _line("gptme", status.gptme_version or "not installed")
    backend = f"{status.backend} ({status.reason})" if status.backend else "none, see below"
    yield _line("Backend", backend)
    yield _line(
        "API keys",
        ", ".join(f"{key} {'set' if there else 'not set'}" for key, there in status.keys.items())
        or "not known",
    )
    yield _line("Settings", _settings_state(status.settings))
    yield _line("Server", f"{status.server.url}, {_server_state(status.server)}")
    if status.server.voice_process is not None:
        yield _line("", _process_state(status.server.voice_process))
    if status.problems:
        yield ""
        yield "To do:"
        yield from (f"  - {problem}" for problem in status.problems)


def _line(name: str, text: str) -> str:
    return f"{name + ':' if name else '':<10}{text}"


def _settings_state(settings: dict[str, Any] | None) -> str:
    if settings is None:
        return "not known, see below"
    shown = (
        f"{name} = {','.join(value) if isinstance(value, tuple) else value}"
        for name, value in settings.items()
    )
    return ", ".join(shown) or "all at their defaults"


def _plugin_state(status: Status) -> str:
    if not status.installed:
        return "not found by gptme"
    return "installed and enabled" if status.enabled else "installed, but not enabled"


def _server_state(server: Server) -> str:
    if not server.running:
        return f"not running ({server.detail})" if server.detail else "not asked"
    if server.loaded and server.version:
        return f"running, voice loaded (version {server.version}, backend {server.backend})"
    loaded = "running, voice loaded" if server.loaded else "running"
    return f"{loaded}, but {server.detail}"


def _process_state(process: dict[str, Any]) -> str:
    if not process.get("running"):
        return "no voice process yet; it starts with the first page or session"
    pid, sessions = process.get("pid"), process.get("sessions")
    where = f"voice process {pid}" if pid else "voice sessions on a thread of the server"
    return f"{where}, {sessions} {'session' if sessions == 1 else 'sessions'} open"
