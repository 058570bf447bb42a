"""What a provider's refusals become for the user."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptme_voice_plugin.backends.provider_errors import from_error, from_status
from gptme_voice_plugin.errors import (
    BackendError,
    KeyRefused,
    ModelUnknown,
    ProviderFailed,
    ProviderUnreachable,
    QuotaExhausted,
)

KEY_REFUSED = "OpenAI refuses the API key; check OPENAI_API_KEY in gptme's config."
NO_CREDIT = "The OpenAI account has no credit left; check its billing page."
NO_MODEL = "OpenAI has no model 'gpt-x' for this key; check the 'model' setting."
NO_REALTIME_MODEL = (
    "OpenAI has no realtime model 'gpt-x' at this address; check the 'model' and "
    "'openai_base_url' settings."
)


def error(code: str, message: str = "") -> tuple[BackendError, bool]:
    return from_error("OpenAI", "OPENAI_API_KEY", "gpt-x", code, message)


def status(number: int, body: Any = b"") -> tuple[BackendError, bool]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_status("OpenAI", "OPENAI_API_KEY", "gpt-x", number, raw)


# Codes, in events and in refused handshakes


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        *(
            (code, KeyRefused, KEY_REFUSED)
            for code in (
                "invalid_api_key",
                "authentication_error",
                "unauthorized",
                "permission_denied",
            )
        ),
        *(
            (code, ModelUnknown, NO_MODEL)
            for code in ("model_not_found", "invalid_model", "model_load_error")
        ),
        *(
            (code, QuotaExhausted, NO_CREDIT)
            for code in ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")
        ),
    ],
)
@pytest.mark.parametrize("way", ["event", "handshake", "handshake by type"])
def test_a_known_code_is_final(
    code: str, kind: type[BackendError], sentence: str, way: str
) -> None:
    """A code that is known has its class and sentence, whichever way it comes, and is final."""
    if way == "event":
        problem, final = error(code, "some words")
    elif way == "handshake":
        problem, final = status(429, {"error": {"code": code, "message": "some words"}})
    else:
        problem, final = status(400, {"error": {"type": code, "message": "some words"}})
    assert type(problem) is kind
    assert problem.message == sentence
    assert final


# Events


def test_a_rate_limit_passes() -> None:
    """Too many requests is a matter of waiting."""
    problem, final = error("rate_limit_exceeded", "Try again in 2 s.")
    assert type(problem) is QuotaExhausted
    assert problem.message == "OpenAI asks to slow down; wait a moment: Try again in 2 s."
    assert not final


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("server_error", "It broke.", "It broke."),
        ("server_error", "", "server_error"),
        ("", "It\n  broke.", "It broke."),
        ("", "", "no reason"),
    ],
)
def test_any_other_error_is_told_in_the_providers_words(code: str, message: str, said: str) -> None:
    """An error that is not known leaves the session open, and is told in one line."""
    problem, final = error(code, message)
    assert type(problem) is ProviderFailed
    assert problem.message == f"OpenAI reports a problem: {said}"
    assert not final


def test_long_words_are_cut() -> None:
    """A provider that tells a novel does not fill the page."""
    problem, _ = error("server_error", "word " * 1000)
    assert len(problem.message) < 250
    assert problem.message.endswith("…")


# Refused handshakes


@pytest.mark.parametrize(
    ("number", "kind", "sentence", "is_final"),
    [
        (401, KeyRefused, KEY_REFUSED, True),
        (403, KeyRefused, KEY_REFUSED, True),
        (400, ModelUnknown, NO_REALTIME_MODEL, True),
        (404, ModelUnknown, NO_REALTIME_MODEL, True),
        (
            429,
            QuotaExhausted,
            "OpenAI asks to slow down; try again in a moment: HTTP 429",
            False,
        ),
        *(
            (n, ProviderUnreachable, f"OpenAI does not take the session: HTTP {n}", False)
            for n in (302, 408, 500, 502, 503, 504)
        ),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>Nope</h1></html>",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"error": null}',
        b'{"error": []}',
        b'{"error": {"code": null, "message": null}}',
        b"[" * 100_000,
    ],
)
def test_a_status_without_usable_body(
    number: int, kind: type[BackendError], sentence: str, is_final: bool, body: bytes
) -> None:
    """The status alone gives class, sentence and finality, whatever the body is."""
    problem, final = status(number, body)
    assert type(problem) is kind
    assert problem.message == sentence
    assert final is is_final


@pytest.mark.parametrize(
    "body",
    [{"error": {"message": "Engine overloaded."}}, {"error": "Engine overloaded."}],
)
def test_the_body_tells_the_reason(body: Any) -> None:
    """An error as an object or as a text is repeated."""
    problem, _ = status(503, body)
    assert problem.message == "OpenAI does not take the session: Engine overloaded."


def test_another_providers_settings_are_named() -> None:
    """The sentence names the settings of the provider that refused."""
    problem, _ = from_status("xAI", "XAI_API_KEY", "grok", 404, b"")
    assert "'xai_base_url'" in problem.message
    assert "openai" not in problem.message


def test_a_wrong_key_may_be_answered_with_400() -> None:
    """xAI does so, with a text for an error; it is not the model's fault."""
    body = b'{"code": "Client specified an invalid argument", "error": "Incorrect API key: xa*c"}'
    problem, final = from_status("xAI", "XAI_API_KEY", "grok", 400, body)
    assert type(problem) is KeyRefused
    assert problem.message == "xAI refuses the API key; check XAI_API_KEY in gptme's config."
    assert final


# Secrets

MARK = "Q7Z"
KEYS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["sk-", "sk-proj-", "sk_live_", "SK-", "xai-", "ek_", "XAI-"]),
    st.text("ab0-_.*", max_size=12),
    st.just(MARK),
    st.text("ab0-_", max_size=50),
)
WORDS = st.text("abk \n.:é…", max_size=40)
GLUE = st.sampled_from([" ", ": ", "'", '"', "(", "=", "\n", "<", "/", "_", "é", "…"])


@settings(deadline=None)
@given(KEYS, WORDS, GLUE, WORDS)
@pytest.mark.parametrize("way", ["event", "code", "429", "503", "text"])
def test_no_key_is_repeated(way: str, key: str, before: str, glue: str, after: str) -> None:
    """A key that a provider quotes, wherever, is in no sentence."""
    words = f"{before}{glue}{key} {after}"
    if way == "event":
        problem, _ = error("server_error", words)
    elif way == "code":
        problem, _ = error(words)
    elif way == "text":
        problem, _ = status(500, {"error": words})
    else:
        problem, _ = status(int(way), {"error": {"message": words}})
    assert MARK not in problem.message


@pytest.mark.parametrize(
    "secret",
    ["0123456789abcdef0123456789abcdef", "AIzaSyA-0123456789_abcdefghijklmnopqr", "Zm9v" * 21],
)
def test_no_long_token_is_repeated(secret: str) -> None:
    """Keys without a telling beginning are known by their length."""
    problem, _ = error("server_error", f"Access denied due to invalid key {secret}.")
    assert secret[:16] not in problem.message


def test_what_hides_a_key_hides_no_words() -> None:
    """The sentence around a key stays readable."""
    problem, _ = error("x", "Incorrect API key provided: sk-12***56. Ask at help.example for one.")
    assert problem.message == (
        "OpenAI reports a problem: Incorrect API key provided: [hidden] Ask at help.example for "
        "one."
    )
    assert not re.search(r"hidden", error("x", "The task-list of the week-end.")[0].message)
