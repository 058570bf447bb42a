"""Why gptme does not answer: what providers say, in words that help, and without anybody's key."""

from __future__ import annotations

import pytest

from gptme_voice_plugin.voice.excuses import excuse

REFUSED = (
    "Error code: 401 - {'error': {'message': 'Incorrect API key provided: sk-proj-ab***wxyz. You "
    "can find your API key at https://platform.openai.com/account/api-keys.', 'type': "
    "'invalid_request_error', 'param': None, 'code': 'invalid_api_key'}}"
)
KNOWN = [
    ("No model specified and no default model set", "no_model", "has no model", "has no model"),
    (REFUSED, "gptme_failed", "set another one in gptme's config", "refuses the API key"),
    (
        "Error code: 401 - {'type': 'error', 'error': {'type': 'authentication_error', 'message': "
        "'invalid x-api-key'}}",
        "gptme_failed",
        "refuses the API key",
        "refuses the API key",
    ),
    (
        "Error code: 404 - {'error': {'message': 'The model `gpt-9` does not exist or you do not "
        "have access to it.', 'type': 'invalid_request_error', 'code': 'model_not_found'}}",
        "gptme_failed",
        "choose another model",
        "does not know its model",
    ),
    ("Connection error.", "gptme_failed", "cannot be reached", "cannot be reached"),
    ("Request timed out.", "gptme_failed", "cannot be reached", "cannot be reached"),
    (
        "Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-5 in organization "
        "org-x on tokens per min (TPM): Limit 30000', 'code': 'rate_limit_exceeded'}}",
        "gptme_failed",
        "wait a little",
        "no more requests now",
    ),
    (
        "Error code: 429 - {'error': {'message': 'You exceeded your current quota, please check "
        "your plan and billing details.', 'code': 'insufficient_quota'}}",
        "gptme_failed",
        "see your account",
        "used up",
    ),
    (
        "gptme-server does not answer; see its log, or start it again.",
        "gptme_failed",
        "start it again",
        "gptme-server does not answer",
    ),
]


@pytest.mark.parametrize(("problem", "code", "shown", "spoken"), KNOWN)
@pytest.mark.parametrize("by", ["{}", "gptme-server cannot do it now: {}."])
def test_what_is_known(problem: str, code: str, shown: str, spoken: str, by: str) -> None:
    """A sentence that says what to do, and nothing in the provider's own words."""
    why = excuse(by.format(problem), "What time is it?")
    assert why.code == code
    assert shown in why.shown and spoken in why.spoken
    assert why.spoken.startswith("I heard: What time is it. But ")
    assert "Error code" not in why.shown + why.spoken
    assert why.shown.endswith(".") and why.spoken.endswith(".")


def test_what_is_not_known() -> None:
    """It is shown as it came, but for what we have put in front of it."""
    why = excuse("gptme-server cannot do it now: The  moon\nis in the way..", "")
    assert why.shown == "gptme does not answer: The moon is in the way; see gptme-server's log."
    assert why.spoken == "Gptme does not answer. Why is on the screen."
    assert "it does not say why" in excuse("", "").shown


def test_nothing_is_endless() -> None:
    why = excuse("a b " * 5000, "word " * 5000)
    assert len(why.shown) < 400 and len(why.spoken) < 200
    assert len(excuse("No model specified", "word " * 5000).shown) < 400


@pytest.mark.parametrize(
    "key",
    [
        "sk-abcd",
        "sk-ab**************wxyz",
        "sk-ant-api03-abcdEFGH_12-xyz",
        "sk-proj-1234",
        "sk-...wxyz",
        "xai-abc123def456",
        "gsk_abcdef",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "0123456789abcdef0123456789abcdef",
    ],
)
@pytest.mark.parametrize("around", ["Bad: {}.", "Incorrect key provided: {}", "{'k': '{}'}", "{}"])
def test_no_key_is_shown(key: str, around: str) -> None:
    """Providers like to say which one they were given."""
    shown = excuse(around.replace("{}", key), "").shown
    assert key not in shown and key[-4:] not in shown


@pytest.mark.parametrize("where", ["Bearer {}", "https://x.test/v1?a=1&key={}&b=2"])
def test_no_secret_behind_its_name(where: str) -> None:
    assert "short" not in excuse(f"GET {where.format('short')} failed", "").shown


def test_words_are_no_keys() -> None:
    """What is masked is not the sense."""
    text = "Skipping the risk-free task of conversation-2026-01-31 with claude-sonnet-4-6"
    assert text in excuse(text, "").shown
