"""Who may open a voice session.

A voice session can make gptme run commands, so it is as good as a shell. A client shows a secret
(bearer header, gptme's cookie, `?token=`, or a one-time ticket); a browser must come from an
allowed Origin as well, whatever the address it reaches us at: a hostile page runs in the user's own
browser, on the user's own machine, and cookies do not tell ports apart.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

import flask
from flask import Request

__all__ = [
    "TICKET_SECONDS",
    "Tickets",
    "cors_allows",
    "normalize_origin",
    "origin_allowed",
]

TICKET_SECONDS = 60
MAX_TICKETS = 1000

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Tickets:
    """One-time tickets: each opens one session, within a minute.

    Args:
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._expiries: dict[bytes, float] = {}  # by digest: the ticket itself is not kept

    def issue(self) -> str:
        """Return a new ticket."""
        ticket = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._expiries = {key: end for key, end in self._expiries.items() if end > now}
            while len(self._expiries) >= MAX_TICKETS:
                del self._expiries[next(iter(self._expiries))]
            self._expiries[_digest(ticket)] = now + TICKET_SECONDS
        return ticket

    def redeem(self, ticket: str | None) -> bool:
        """Use up `ticket`; whether it was good."""
        if not ticket:
            return False
        with self._lock:
            expiry = self._expiries.pop(_digest(ticket), None)
        return expiry is not None and self._clock() < expiry


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode(errors="replace")).digest()


def normalize_origin(origin: str) -> str | None:
    """Return `origin` as scheme://host[:port] in lower case, without a default port.

    None for what is no such thing: `null`, a path behind it, a wrong port.
    """
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if not parts.scheme or not host or parts.username is not None or "@" in parts.netloc:
        return None
    if parts.path or parts.query or parts.fragment:
        return None
    if ":" in host:
        host = f"[{host}]"
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


def origin_allowed(
    request: Request,
    allowed: Collection[str],
    cors: Callable[[str], bool],
) -> bool:
    """Whether `request` may come from where it says it comes from.

    Args:
        request: The request; one without `Origin` does not come from a browser.
        allowed: Origins from the config.
        cors: Whether gptme-server itself was started to allow an origin.
    """
    header = request.headers.get("Origin")
    if header is None:
        return True
    origin = normalize_origin(header)
    if origin is None:
        return False
    # A proxy that ends TLS says so; no page can set this header on a WebSocket.
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme).split(",")[0].strip()
    own = normalize_origin(f"{scheme}://{request.host}")
    return origin == own or origin in {normalize_origin(o) for o in allowed} or cors(origin)


def cors_allows(app: flask.Flask, origin: str) -> bool:
    """Whether `app` was made with `origin` among its `--cors-origin`.

    gptme tells nobody but Flask-CORS, so the application is asked as a browser would ask it. An
    origin that cannot exist tells whether it allows everybody, which names nobody and is not enough
    for a voice session.
    """
    return _cors_answers(app, origin) and not _cors_answers(
        app, f"https://{secrets.token_hex(16)}.invalid"
    )


def _cors_answers(app: flask.Flask, origin: str) -> bool:
    response = app.test_client().options("/api/v2/voice/tickets", headers={"Origin": origin})
    return response.headers.get("Access-Control-Allow-Origin") in (origin, "*")
