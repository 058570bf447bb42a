"""Client events, checked with the `openai` package's own types.

Its models are lenient: any key passes, and null for whatever is optional. Here neither does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

from openai.types.realtime import RealtimeClientEvent
from pydantic import BaseModel, TypeAdapter

__all__ = ["assert_client_event"]

# Where null means "off"; elsewhere a key is left out.
_NULLABLE = {"noise_reduction", "transcription", "turn_detection", "tracing", "idle_timeout_ms"}


@lru_cache
def _adapters() -> dict[str, TypeAdapter[BaseModel]]:
    models = get_args(get_args(RealtimeClientEvent)[0])
    return {get_args(m.model_fields["type"].annotation)[0]: TypeAdapter(m) for m in models}


def assert_client_event(event: object) -> None:
    """Fail unless OpenAI's API would take the event: known type, known keys, right values."""
    assert isinstance(event, dict), event
    adapter = _adapters().get(event.get("type", ""))
    assert adapter is not None, f"there is no client event {event.get('type')!r}"
    _refuse_null(event, "")
    _refuse_extra(adapter.validate_python(event, strict=True), "")


def _refuse_null(value: object, path: str) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            assert entry is not None or key in _NULLABLE, f"{path}.{key} is null"
            _refuse_null(entry, f"{path}.{key}")
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            _refuse_null(entry, f"{path}[{i}]")


def _refuse_extra(value: Any, path: str) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{path or 'the event'} has unknown {list(value.model_extra)}"
        for name in value.model_fields_set:
            _refuse_extra(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for i, entry in enumerate(value):
            _refuse_extra(entry, f"{path}[{i}]")
