"""The plugin's routes in gptme-server.

    GET  /voice, /api/v2/voice    the WebSocket (upgrade requests only)
    POST /api/v2/voice/tickets    a one-time ticket for it
    GET  /api/v2/voice/status     what runs

The settings' are described in `settings.py`, those of the page's files in `assets.py`, those
of conversations in `conversations.py`.

The WebSocket is at two addresses because a browser sends gptme's cookie below /api/ only, while
`ws://…/voice` is what the web UI suggests. So that this one works as typed, gptme's cookie is set
for it too, whenever gptme sets or clears its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
from flask import Blueprint, Response, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from gptme.server.auth import (
    AUTH_COOKIE_MAX_AGE,
    AUTH_COOKIE_NAME,
    get_server_token,
    require_auth,
)

from .. import NAME, __version__, backends
from ..channel import Adopt
from ..config import Settings
from ..errors import VoiceError
from .access import (
    TICKET_SECONDS,
    Tickets,
    cors_allows,
    origin_allowed,
)
from .assets import AssetRoutes
from .conversations import ConversationRoutes
from .handoff import VoiceProcess, VoiceUnavailable
from .reach import reach
from .settings import SettingsRoutes, configured

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["VoiceRoutes", "rebuild_handshake"]

logger = logging.getLogger(__name__)

_COOKIE_PATH = "/voice"
# All that the voice process needs of a handshake; the rest may be secret, or odd.
_HANDSHAKE_HEADERS = (
    "Host",
    "Upgrade",
    "Connection",
    "Origin",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
)


class VoiceRoutes:
    """The routes, for any number of applications of one server process.

    Args:
        workspace: The folder gptme-server was started in, where its project config is.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._tickets = Tickets()
        self._config = SettingsRoutes(workspace)
        self._conversations = ConversationRoutes()
        self._process: VoiceProcess | None = None
        self._process_lock = threading.Lock()

    def blueprint(self) -> Blueprint:
        """Return a blueprint with the routes, to be registered once with an application."""
        routes = Blueprint("gptme_voice_plugin", __name__)
        for path in ("/voice", "/api/v2/voice"):
            routes.add_url_rule(
                path, f"connect_{path.count('/')}", self.connect, websocket=True, methods=["GET"]
            )
        routes.add_url_rule(
            "/api/v2/voice/tickets", "tickets", self._from_allowed(self.issue), methods=["POST"]
        )
        routes.add_url_rule(
            "/api/v2/voice/status", "status", _authenticated(self.status), methods=["GET"]
        )
        for method, view in (("GET", self._config.read), ("PATCH", self._config.write)):
            routes.add_url_rule(
                "/api/v2/voice/config",
                f"config_{method.lower()}",
                self._from_allowed(view),
                methods=[method],
            )
        self._conversations.add_to(routes, self._from_allowed)
        routes.after_app_request(self.follow_cookie)
        AssetRoutes(self._warm_up).add_to(routes)
        return routes

    # Views

    def connect(self) -> ResponseReturnValue:
        """Hand a WebSocket over, if the client may have one."""
        if request.method != "GET":  # Flask adds HEAD to every rule for GET
            return jsonify({"error": "A WebSocket is opened with GET.", "code": "not_get"}), 405
        admitted = self._tickets.redeem(request.args.get("ticket"))
        return self._from_allowed(self._hand_over, admitted)()

    def issue(self) -> ResponseReturnValue:
        """Return a new ticket."""
        response = jsonify({"ticket": self._tickets.issue(), "expires_in": TICKET_SECONDS})
        response.headers["Cache-Control"] = "no-store"
        return response

    def status(self) -> ResponseReturnValue:
        """Say which backend a session would get, why, and what runs."""
        answer: dict[str, Any] = {"plugin": NAME, "version": __version__}
        try:
            settings, keys = self._settings()
            choice = backends.choose(settings, keys)
            answer |= {"backend": choice.name, "reason": choice.reason, "keys": list(keys)}
        except VoiceError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        workings = self._voice_process(None).workings()
        answer["voice_process"] = vars(workings)
        return jsonify(answer)

    def follow_cookie(self, response: Response) -> Response:
        """Set or clear gptme's cookie for our address too, when gptme does it for its own."""
        if response.status_code != 200:
            return response
        if request.endpoint == "auth_api.set_auth_cookie":
            response.set_cookie(
                AUTH_COOKIE_NAME,
                get_server_token() or "",
                max_age=AUTH_COOKIE_MAX_AGE,
                httponly=True,
                samesite="Lax",
                secure=request.is_secure,
                path=_COOKIE_PATH,
            )
        elif request.endpoint == "auth_api.clear_auth_cookie":
            response.delete_cookie(
                AUTH_COOKIE_NAME, path=_COOKIE_PATH, secure=request.is_secure, samesite="Lax"
            )
        return response

    # Access

    def _from_allowed(
        self, view: Callable[..., ResponseReturnValue], admitted: bool = False
    ) -> Callable[..., ResponseReturnValue]:
        """Guard `view` by Origin, and unless `admitted` by gptme's own authentication."""

        def guarded(**values: str) -> ResponseReturnValue:
            app = current_app._get_current_object()  # type: ignore[attr-defined]
            try:
                allowed = self._settings()[0].allowed_origins
            except VoiceError:
                allowed = ()
            if not origin_allowed(request, allowed, lambda origin: cors_allows(app, origin)):
                logger.warning("Refused a page from %r.", request.headers.get("Origin"))
                message = (
                    "This web page may not open a voice session here; to allow it, add its origin "
                    f"to allowed_origins in [plugin.{NAME}] or to --cors-origin."
                )
                return jsonify({"error": message, "code": "origin_refused"}), 403
            return (view if admitted else _authenticated(view))(**values)

        return guarded

    # The hand-over

    def _warm_up(self) -> None:
        # A page has been opened: by the time its user speaks, the voice process runs.
        self._voice_process(None).prepare()

    def _hand_over(self) -> ResponseReturnValue:
        settings: Settings | None = None
        keys: dict[str, str] = {}
        error: tuple[str, str] | None = None
        try:
            settings, keys = self._settings()
            backends.choose(settings, keys)
        except VoiceError as exc:
            # The page gets it in words, over the socket it asked for.
            error = (exc.code, exc.message)
        offer = Adopt(
            id=0,
            request=rebuild_handshake(request.environ),
            settings=settings.to_wire() if settings else {},
            keys=keys,
            error=error,
        )
        return _HandOver(self._voice_process(settings), offer)

    def _voice_process(self, settings: Settings | None) -> VoiceProcess:
        with self._process_lock:
            if self._process is None:
                if settings is None:
                    try:
                        settings = self._settings()[0]
                    except VoiceError:
                        settings = Settings()
                threaded = None if settings.isolation == "auto" else settings.isolation == "thread"
                self._process = VoiceProcess() if threaded is None else VoiceProcess(threaded)
            return self._process

    def _settings(self) -> tuple[Settings, dict[str, str]]:
        return configured(self._workspace)


def _authenticated(view: Callable[..., ResponseReturnValue]) -> Callable[..., ResponseReturnValue]:
    guarded: Callable[..., ResponseReturnValue] = require_auth(view)  # type: ignore[no-untyped-call]
    return guarded


class _HandOver(flask.Response):
    """A response that gives its connection away instead of answering."""

    def __init__(self, process: VoiceProcess, offer: Adopt) -> None:
        super().__init__(status=101)
        self._process = process
        self._offer = offer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sock = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
        try:
            if sock is None:
                raise VoiceUnavailable(
                    "Voice needs gptme-server's own web server, or gunicorn with gthread workers."
                )
            if hasattr(sock, "unwrap"):
                raise VoiceUnavailable(
                    "Voice needs plain HTTP between proxy and gptme-server; end TLS in the proxy."
                )
            gptme = reach(sock, environ.get("HTTP_HOST", ""))
            release = self._process.hand_off(sock, replace(self._offer, gptme=gptme))
        except VoiceError as error:
            logger.error("%s", error.message)
            answer = jsonify({"error": error.message, "code": error.code})
            answer.status_code = 503
            return answer(environ, start_response)
        release()
        # Written to a dead socket: nothing reaches the client, and the server ends the connection.
        start_response("101 Switching Protocols", [])
        return []


def rebuild_handshake(environ: WSGIEnvironment) -> str:
    """Return the handshake of `environ` as HTTP/1.1, without its address, secrets and oddities."""
    lines = ["GET /voice HTTP/1.1"]
    for name in _HANDSHAKE_HEADERS:
        value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        if value is not None:
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""])
