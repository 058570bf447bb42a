"""Where a gptme-server is and which token it wants: what the commands share.

A token opens a shell, so it is sent to the address the user named and nowhere else, in a header,
and no message of ours repeats an address's query or user name.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from .errors import VoiceError

__all__ = ["DEFAULT_HTTP", "DEFAULT_WEBSOCKET", "Address", "AddressError", "find_token"]

DEFAULT_HTTP = "http://127.0.0.1:5700"
DEFAULT_WEBSOCKET = "ws://127.0.0.1:5700/voice"

TOKEN_VARIABLE = "GPTME_SERVER_TOKEN"

_SCHEMES = {"http": False, "ws": False, "https": True, "wss": True}
_VOICE_PATHS = ("/api/v2/voice", "/voice")


class AddressError(VoiceError):
    """An address or a token that cannot be used."""

    code = "address_invalid"


@dataclass(frozen=True)
class Address:
    """A gptme-server, reached over HTTP and WebSocket at one host and port."""

    secure: bool
    netloc: str
    prefix: str
    """Path below which gptme-server is, without a slash at its end."""
    path: str
    """Path of the voice WebSocket."""
    query: str
    loopback: bool
    """Whether it is on this machine."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an http(s) or ws(s) address, of the server or of its voice WebSocket.

        Raises:
            AddressError: It is none, or has a secret in it.
        """
        text = url.strip()
        try:
            parts = urlsplit(text if "://" in text else f"ws://{text}")
            host, port = parts.hostname or "", parts.port
            host.encode("idna")
        except ValueError:  # UnicodeError is one
            raise AddressError(_NOT_AN_ADDRESS) from None
        if parts.scheme not in _SCHEMES or not host:
            raise AddressError(_NOT_AN_ADDRESS)
        if "@" in parts.netloc or any(key == "token" for key, _ in parse_qsl(parts.query)):
            raise AddressError(
                f"No secrets in the address: give the token with --token or {TOKEN_VARIABLE}."
            )
        path = parts.path.rstrip("/")
        for voice_path in _VOICE_PATHS:
            if path.endswith(voice_path):
                prefix, websocket = path.removesuffix(voice_path), path
                break
        else:
            if parts.scheme in ("http", "https") or not path:
                prefix, websocket = path, f"{path}/voice"
            else:
                prefix, websocket = "", path
        name = f"[{host}]" if ":" in host else host
        return cls(
            secure=_SCHEMES[parts.scheme],
            netloc=name if port is None else f"{name}:{port}",
            prefix=prefix,
            path=websocket,
            query=parts.query,
            loopback=_is_loopback(host),
        )

    @property
    def http(self) -> str:
        """The server's address, without a slash at its end."""
        return f"http{'s' * self.secure}://{self.netloc}{self.prefix}"

    @property
    def websocket(self) -> str:
        """The address of its voice WebSocket, to be shown; without the query."""
        return f"ws{'s' * self.secure}://{self.netloc}{self.path}"

    @property
    def target(self) -> str:
        """The address of its voice WebSocket, to connect to."""
        return self.websocket + (f"?{self.query}" if self.query else "")


_NOT_AN_ADDRESS = (
    f"--url must be an address such as {DEFAULT_HTTP} or {DEFAULT_WEBSOCKET} "
    "(http, https, ws or wss)."
)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_token(given: str | None, address: Address) -> str | None:
    """Return the token for the server at `address`: `given`, or from the environment, or the one
    that a server on this machine made for itself and left in a file (gptme 0.35).

    Raises:
        AddressError: It cannot be sent in a header.
    """
    token = (given or os.environ.get(TOKEN_VARIABLE) or "").strip()
    if not token and address.loopback:
        token = _token_file()
    if not all("!" <= character <= "~" for character in token):
        raise AddressError("The token may hold printable ASCII characters without spaces only.")
    return token or None


def _token_file() -> str:
    try:
        from gptme.server.token_file import read_token_file
    except ImportError:  # gptme 0.34 does not share its token
        return ""
    return read_token_file() or ""
