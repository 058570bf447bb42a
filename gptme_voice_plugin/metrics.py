"""Voice in gptme's own metrics: `GET /api/v0/metrics` of gptme-server.

What a session was is known when it ends: the voice process tells the server process, where gptme's
registry is. Without `prometheus_client`, which gptme can do without, nothing is counted.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

from . import errors
from .channel import Ended, Timed
from .config import BACKENDS

__all__ = ["count", "follow", "time"]

_SECONDS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_STAGES = ("vad", "stt", "text", "tts", "total")
_STAGE_SECONDS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_REASONS = frozenset(
    {"ended", "lost"}
    | {
        kind.code
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, errors.VoiceError)
    }
)
_OTHER = "other"

_lock = threading.Lock()
# A name is registered once in a process, also if this module is loaded again.
_made: _Metrics | None = globals().get("_made")


class _Metrics:
    """The metrics, registered under their names, which can be done once in a process."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self.sessions: Any = Counter(
            "gptme_voice_sessions_total",
            "Voice sessions that have ended, by backend and why",
            ["backend", "reason"],
        )
        self.seconds: Any = Histogram(
            "gptme_voice_session_seconds", "How long they were", ["backend"], buckets=_SECONDS
        )
        self.turns: Any = Counter(
            "gptme_voice_turns_total", "Turns in them, by who has spoken", ["role"]
        )
        self.audio: Any = Counter(
            "gptme_voice_audio_seconds_total",
            "Speech in them, by direction: in is the user's",
            ["direction"],
        )
        self.tokens: Any = Counter(
            "gptme_voice_tokens_total", "Tokens they have cost, by direction", ["direction"]
        )
        self.stages: Any = Histogram(
            "gptme_voice_stage_seconds",
            "From the end of the user's speech to the reply's first sound, by stage",
            ["backend", "stage"],
            buckets=_STAGE_SECONDS,
        )
        self.active: Any = Gauge("gptme_voice_sessions_active", "Voice connections that are open")


def count(ended: Ended) -> None:
    """Count a session that is over."""
    metrics = _metrics()
    if metrics is None:
        return
    # Bounded, so that the number of series is.
    backend = ended.backend if ended.backend in BACKENDS else _OTHER if ended.backend else "none"
    reason = ended.reason if ended.reason in _REASONS else _OTHER
    metrics.sessions.labels(backend, reason).inc()
    metrics.seconds.labels(backend).observe(max(0.0, ended.seconds))
    for metric, label, amount in (
        (metrics.turns, "user", ended.user_turns),
        (metrics.turns, "assistant", ended.agent_turns),
        (metrics.audio, "in", ended.input_audio_ms / 1000),
        (metrics.audio, "out", ended.output_audio_ms / 1000),
        (metrics.tokens, "in", ended.input_tokens),
        (metrics.tokens, "out", ended.output_tokens),
    ):
        metric.labels(label).inc(max(0, amount))  # a counter takes nothing less, and would raise


def time(timed: Timed) -> None:
    """Count how long a turn's stages took."""
    metrics = _metrics()
    if metrics is None:
        return
    backend = timed.backend if timed.backend in BACKENDS else _OTHER
    for stage in _STAGES:
        if stage in timed.seconds:
            metrics.stages.labels(backend, stage).observe(max(0.0, timed.seconds[stage]))


def follow(active: Callable[[], int]) -> None:
    """Have the number of open connections asked of `active`, each time it is read."""
    metrics = _metrics()
    if metrics is not None:
        metrics.active.set_function(active)


def _metrics() -> _Metrics | None:
    global _made
    with _lock:
        if _made is None:
            try:
                _made = _Metrics()
            except ImportError:
                return None
        return _made
