"""Who may connect: path, key and model, and the answers to everybody else."""

from __future__ import annotations

import http
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.datastructures import Headers
from websockets.http11 import Response as HttpResponse

from .faults import Close, Reject

if TYPE_CHECKING:
    from .engine import FakeProvider

BETA_REFUSED = Close(
    4000,
    "invalid_request_error.beta_api_shape_disabled",
    error={
        "type": "invalid_request_error",
        "code": "beta_api_shape_disabled",
        "message": "The Realtime Beta API is no longer supported. Please use the GA API.",
        "param": None,
        "event_id": None,
    },
)


@dataclass(frozen=True)
class Attempt:
    """A handshake: `status` is what was answered, `at` the monotonic clock in seconds."""

    path: str
    query: dict[str, str]
    headers: Headers
    at: float
    status: int


def refusal(
    provider: FakeProvider, path: str, query: dict[str, str], headers: Headers
) -> Reject | None:
    """Return why a handshake is refused; None if it is not."""
    if path != provider.dialect.path:
        return Reject(404, None, f"Invalid URL (GET {path})")
    value = headers.get(provider.key_header, "")
    scheme, _, key = value.rpartition(" ")
    if provider.key_header == "authorization" and scheme != "Bearer":
        key = ""
    if provider.api_key is not None and not key:
        return Reject(401, None, "You didn't provide an API key.")
    if provider.api_key is not None and key != provider.api_key:
        shown = f"{key[:8]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * len(key)
        return Reject(401, "invalid_api_key", f"Incorrect API key provided: {shown}.")
    model = query.get("model", "")
    if not model:
        return Reject(400, "missing_model", "You must provide a model parameter.")
    if provider.models is not None and model not in provider.models:
        message = f"The model `{model}` does not exist or you do not have access to it."
        return Reject(404, "model_not_found", message)
    return None


def http_error(reject: Reject) -> HttpResponse:
    """Return the answer to a refused handshake."""
    body = json.dumps({"error": reject.error}).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **reject.headers,
        }
    )
    return HttpResponse(reject.status, http.HTTPStatus(reject.status).phrase, headers, body)
