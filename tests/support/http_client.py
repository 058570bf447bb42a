"""HTTP clients that modules keep for all their tests."""

from __future__ import annotations

import atexit

import httpx

__all__ = ["kept_client"]


def kept_client() -> httpx.Client:
    """Return a client that is closed when Python ends.

    No fixture of a module can do that: where tests are shared out among processes, one may come
    back to a module that it had left, and a closed client cannot be opened again.
    """
    client = httpx.Client(verify=False, timeout=30)
    atexit.register(client.close)
    return client
