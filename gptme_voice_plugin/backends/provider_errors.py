"""What a provider's refusals mean, in sentences for the user.

A provider's own words are repeated where they help, but cut short, and without anything that looks
like a key: some answer a wrong key by quoting it.
"""

from __future__ import annotations

import json
import re

from ..errors import (
    BackendError,
    KeyRefused,
    ModelUnknown,
    ProviderFailed,
    ProviderUnreachable,
    QuotaExhausted,
)

__all__ = ["from_error", "from_status"]

_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|xai|ek)[-_][^\s\"',]*|\bkey[-_][^\s\"',]*|[A-Za-z0-9+/_*-]{32,}",
    re.IGNORECASE,
)
_MAX_WORDS = 200

_KEY_CODES = {"invalid_api_key", "authentication_error", "unauthorized", "permission_denied"}
_MODEL_CODES = {"model_not_found", "invalid_model", "model_load_error", "unsupported_model"}
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"}


def _words(message: str) -> str:
    cleaned = _SECRET.sub("[hidden]", " ".join(message.split()))
    return cleaned if len(cleaned) <= _MAX_WORDS else cleaned[: _MAX_WORDS - 1] + "…"


def _known(provider: str, code: str, key: str, model: str) -> BackendError | None:
    if code in _KEY_CODES:
        return KeyRefused(f"{provider} refuses the API key; check {key} in gptme's config.")
    if code in _MODEL_CODES:
        return ModelUnknown(
            f"{provider} has no model {model!r} for this key; check the 'model' setting."
        )
    if code in _QUOTA_CODES:
        return QuotaExhausted(f"The {provider} account has no credit left; check its billing page.")
    return None


def from_error(
    provider: str, key: str, model: str, code: str, message: str
) -> tuple[BackendError, bool]:
    """Return the error for an error event of a session, and whether it ends the session."""
    known = _known(provider, code, key, model)
    if known is not None:
        return known, True
    said = _words(message) or _words(code) or "no reason"
    if code == "rate_limit_exceeded":
        return QuotaExhausted(f"{provider} asks to slow down; wait a moment: {said}"), False
    return ProviderFailed(f"{provider} reports a problem: {said}"), False


def from_status(
    provider: str, key: str, model: str, status: int, body: bytes
) -> tuple[BackendError, bool]:
    """Return the error for a refused handshake, and whether it is final.

    Args:
        provider: Its name, as users know it.
        key: Name of the API key's setting.
        model: The model that was asked for.
        status: HTTP status of the answer.
        body: Its body: JSON with an `error`, if all is well.
    """
    code, message = _read(body)
    known = _known(provider, code, key, model)
    if known is not None:
        return known, True
    # xAI answers a wrong key with 400.
    if status in (401, 403) or (status == 400 and "api key" in message.lower()):
        return KeyRefused(f"{provider} refuses the API key; check {key} in gptme's config."), True
    if status in (400, 404):
        address = f"{key.partition('_')[0].lower()}_base_url"
        return ModelUnknown(
            f"{provider} has no realtime model {model!r} at this address; check the 'model' and "
            f"{address!r} settings."
        ), True
    said = _words(message) or f"HTTP {status}"
    if status == 429:
        return QuotaExhausted(f"{provider} asks to slow down; try again in a moment: {said}"), False
    return ProviderUnreachable(f"{provider} does not take the session: {said}"), False


def _read(body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return "", ""
    if isinstance(error, dict):
        return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")
    return "", str(error or "")
