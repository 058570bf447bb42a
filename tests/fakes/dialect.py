"""What differs between providers that speak the same kind of protocol."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .speech_clock import Vad
from .validate import check_event

if TYPE_CHECKING:
    from .session import Session

Event = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """A session's configuration as the engine uses it. Rates in samples per second."""

    input_rate: int = 24_000
    output_rate: int = 24_000
    binary_in: bool = False
    binary_out: bool = False
    vad: Vad | None = None
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: float | None = None
    transcription: bool = False
    transcript_partials: bool = True
    modalities: tuple[str, ...] = ("audio",)


class Dialect:
    """One provider's way of speaking; the attributes say what it sends and takes."""

    name = ""
    path = "/v1/realtime"
    models: Sequence[str] | None = None
    """Known models; None: any."""
    refuse_beta_header = False
    item_done = True
    rate_limits = True
    cumulative_transcripts = False
    duplicate_text = False
    transcript_in_done = True
    can_truncate = True
    can_retrieve = True
    bare_events = False
    """Leave out what that provider does not always send: indexes, ids, positions."""
    usage_place = "response"
    """`response`, `top` (beside the response) or `none`."""
    resumable = False
    ping_seconds: float | None = None

    def defaults(self, model: str) -> dict[str, Any]:
        """Return a new session's configuration."""
        raise NotImplementedError

    def greeting(self, session: Session) -> list[Event]:
        """Return what is sent first."""
        raise NotImplementedError

    def check(self, event: Event) -> None:
        """Raise the `Problem` of a client event, if it has one."""
        check_event(event)

    def update(self, config: dict[str, Any], change: Event, session: Session) -> dict[str, Any]:
        """Return `config` with the `session` of a `session.update` merged in, or raise."""
        raise NotImplementedError

    def settings(self, config: dict[str, Any]) -> Settings:
        """Read what the engine needs."""
        raise NotImplementedError


def merge(base: dict[str, Any], change: dict[str, Any], whole: Sequence[str] = ()) -> Event:
    """Return `base` with the keys that are in `change`, deeply.

    Args:
        base: Left as it is.
        change: Wins.
        whole: Keys whose objects replace the former ones instead of being merged.
    """
    merged = copy.deepcopy(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and key not in whole:
            merged[key] = merge(old, value, whole)
        else:
            merged[key] = copy.deepcopy(value)
    return merged
