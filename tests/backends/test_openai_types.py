"""The check of client events itself refuses what OpenAI's API refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.openai_types import assert_client_event

MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.create"},
        {"type": "response.cancel", "response_id": "r", "event_id": "e"},
        {"type": "conversation.item.create", "item": MESSAGE},
        {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["audio"]}},
    ],
)
def test_good_events_pass(event: dict[str, Any]) -> None:
    """An event that follows the documentation passes."""
    assert_client_event(event)


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"type": "session.start"},
        {"type": "response.create", "extra": 1},
        {"type": "response.create", "event_id": None},
        {"type": "conversation.item.create", "item": {**MESSAGE, "type": "force_message"}},
        {"type": "conversation.item.create", "item": {**MESSAGE, "note": "x"}},
        {
            "type": "conversation.item.create",
            "item": {**MESSAGE, "content": [{"type": "text", "text": "hi"}]},
        },
        {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0},
        {
            "type": "conversation.item.truncate",
            "item_id": "i",
            "content_index": 0,
            "audio_end_ms": 1.5,
        },
        {"type": "session.update", "session": {"output_modalities": ["audio"]}},
        {"type": "session.update", "session": {"type": "realtime", "voice": "marin"}},
        {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}},
            },
        },
    ],
)
def test_bad_events_are_refused(event: Any) -> None:
    """Unknown types, keys and values, missing keys and null are refused, however deep."""
    with pytest.raises((AssertionError, ValidationError)):
        assert_client_event(event)
