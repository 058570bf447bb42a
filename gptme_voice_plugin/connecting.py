"""How this package connects to WebSocket servers, whatever for."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

__all__ = ["Connect", "proxy_options"]


class Connect(connect):
    """`websockets.connect` that goes where it was told: a secret is for that address alone."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See `connect`; a redirect is a failure."""
        return exc


def proxy_options(url: str) -> dict[str, Any]:
    """Return the options of `connect` that keep a proxy out of what goes to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost" or host.endswith(".localhost")
    return {"proxy": None} if loopback else {}
