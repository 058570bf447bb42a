"""Voice in gptme's metrics: what is counted, and that it never gets in anybody's way."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gptme_voice_plugin import metrics
from gptme_voice_plugin.channel import Ended, Timed
from gptme_voice_plugin.config import BACKENDS

ENDED = Ended(
    backend="openai",
    reason="ended",
    seconds=90.0,
    user_turns=3,
    agent_turns=2,
    input_audio_ms=1500,
    output_audio_ms=2500,
    input_tokens=10,
    output_tokens=20,
)


class Changes:
    """How much the metrics have grown since it was made."""

    def __init__(self) -> None:
        self._before = self._all()

    def __call__(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return self._all().get(key, 0.0) - self._before.get(key, 0.0)

    @staticmethod
    def _all() -> dict[Any, float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name.startswith("gptme_voice_")
        }


@pytest.fixture
def changes() -> Iterator[Changes]:
    yield Changes()


def test_the_stages_of_a_turn(changes: Changes) -> None:
    """Each once, and nothing that is not known: the number of series is bounded."""
    stages = {"vad": 0.5, "stt": 0.4, "text": 1.0, "tts": 0.3, "total": 2.2}
    metrics.time(Timed("local", {**stages, "other": 9.0}))
    metrics.time(Timed("nobody's", {"vad": -1.0}))
    for stage, seconds in stages.items():
        name = "gptme_voice_stage_seconds"
        assert changes(f"{name}_sum", backend="local", stage=stage) == pytest.approx(seconds)
        assert changes(f"{name}_count", backend="local", stage=stage) == 1
    assert changes("gptme_voice_stage_seconds_count", backend="local", stage="other") == 0
    assert changes("gptme_voice_stage_seconds_sum", backend="other", stage="vad") == 0


def test_a_session(changes: Changes) -> None:
    metrics.count(ENDED)
    assert changes("gptme_voice_sessions_total", backend="openai", reason="ended") == 1
    assert changes("gptme_voice_session_seconds_sum", backend="openai") == 90
    assert changes("gptme_voice_session_seconds_bucket", backend="openai", le="60.0") == 0
    assert changes("gptme_voice_session_seconds_bucket", backend="openai", le="120.0") == 1
    assert changes("gptme_voice_turns_total", role="user") == 3
    assert changes("gptme_voice_turns_total", role="assistant") == 2
    assert changes("gptme_voice_audio_seconds_total", direction="in") == 1.5
    assert changes("gptme_voice_audio_seconds_total", direction="out") == 2.5
    assert changes("gptme_voice_tokens_total", direction="in") == 10
    assert changes("gptme_voice_tokens_total", direction="out") == 20


@pytest.mark.parametrize(
    ("given", "backend", "reason"),
    [
        (("echo", "lost"), "echo", "lost"),
        (("xai", "quota_exhausted"), "xai", "quota_exhausted"),
        (("", "config_invalid"), "none", "config_invalid"),
        (("made up", "made up"), "other", "other"),
        (("", ""), "none", "other"),
    ],
)
def test_labels_are_bounded(
    changes: Changes, given: tuple[str, str], backend: str, reason: str
) -> None:
    assert backend in (*BACKENDS, "none", "other")
    metrics.count(Ended(given[0], given[1], -1.0, input_tokens=-5))
    assert changes("gptme_voice_sessions_total", backend=backend, reason=reason) == 1
    assert changes("gptme_voice_tokens_total", direction="in") == 0


def test_it_can_be_loaded_again(changes: Changes) -> None:
    """Names are registered once; a second time would raise."""
    metrics.count(ENDED)
    importlib.reload(metrics).count(ENDED)
    assert changes("gptme_voice_turns_total", role="user") == 6


def test_connections_that_are_open() -> None:
    """Are asked for when somebody reads them."""
    open_now = 2
    metrics.follow(lambda: open_now)
    assert REGISTRY.get_sample_value("gptme_voice_sessions_active") == 2
    open_now = 0
    assert REGISTRY.get_sample_value("gptme_voice_sessions_active") == 0


def test_without_prometheus() -> None:
    code = """
        import sys
        sys.modules["prometheus_client"] = None
        from gptme_voice_plugin import metrics
        from gptme_voice_plugin.channel import Ended
        metrics.count(Ended("echo", "ended", 1.0))
        metrics.follow(lambda: 1)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
