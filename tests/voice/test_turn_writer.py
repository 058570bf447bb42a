"""What is written of a session, as gptme-server's side takes it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.backends.base import Usage
from gptme_voice_plugin.channel import Gptme
from gptme_voice_plugin.characters import short_name
from gptme_voice_plugin.server.endings import Ending, parse_ending
from gptme_voice_plugin.server.spoken import Turn, parse_turns
from gptme_voice_plugin.voice import link
from gptme_voice_plugin.voice.app import new_session_id
from gptme_voice_plugin.voice.link import Link, Wanted
from gptme_voice_plugin.voice.transcript import SpokenTurn
from gptme_voice_plugin.voice.turn_writer import usage_counts
from tests.fakes.gptme import FakeClient

WHISPER = "whisper /srv/" + "models/" * 30 + "faster-whisper-large-v3"
VOICE = "piper /srv/" + "voices/" * 30 + "en_US-lessac-medium.onnx"


class Server(FakeClient):
    """Checks what is written, as the routes of gptme-server do."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []
        self.endings: list[Ending] = []

    async def append(self, id: str, turns: Sequence[Mapping[str, Any]], keep: bool = True) -> None:
        self.turns += parse_turns({"turns": turns, "keep": keep})

    async def ended(self, id: str, summary: Mapping[str, Any]) -> bool:
        self.endings.append(parse_ending(summary))
        return True

    async def close(self) -> None:
        """Nothing is open."""


def written(turn: SpokenTurn, model: str, usage: Usage) -> tuple[Turn, Ending]:
    """Return what a session of one turn leaves."""
    server = Server()

    async def session() -> None:
        with patch.object(link, "GptmeClient", lambda gptme: server):
            session = Link(
                Gptme("http://gptme.invalid", "gptme.invalid", None),
                Wanted(new_session_id(), "chat-1", None, 0, False),
                post=lambda event: pytest.fail(f"{event}"),
                replies=lambda: 0,
                awaits_words=lambda: False,
                on_conversation=lambda id: None,
                on_instructions=lambda text: None,
            )
        session.start("local", model)
        session.write((turn,))
        await session.close("ended", usage_counts(usage), quick=False)

    asyncio.run(session())
    ((turn_there,), (ending,)) = server.turns, server.endings
    return turn_there, ending


words = st.text(max_size=300).filter(str.strip)
counts = st.integers() | st.integers(0, 10_000)
usages = st.builds(Usage, counts, counts, counts, counts, st.none() | st.floats())
turns = st.builds(
    SpokenTurn,
    number=st.integers(1, 10_000),
    role=st.sampled_from(["user", "assistant"]),
    text=words,
    began=st.floats(0, 1e6),
    seconds=st.none() | st.floats(0, 1e5),
    typed=st.booleans(),
    usage=st.none() | usages,
)
replies = st.builds(
    SpokenTurn,
    number=st.integers(1, 10_000),
    role=st.just("assistant"),
    text=st.text(max_size=300),
    began=st.floats(0, 1e6),
    unheard=words,
)


@given(turns | replies, st.text(max_size=500), usages)
def test_what_was_said_is_never_refused(turn: SpokenTurn, model: str, usage: Usage) -> None:
    """Whatever a provider counts, and whatever a model is called."""
    there, ending = written(turn, model, usage)
    assert there.role == turn.role
    assert there.details.get("model", "") == short_name(model)
    assert ending.session == there.details["session"]


def test_models_at_long_paths() -> None:
    """A turn says by which models it was; of long paths, where they begin and which file it is."""
    turn = SpokenTurn(1, "user", "Hello.", 0.0)
    there, ending = written(turn, f"{WHISPER}, {VOICE}", Usage())
    model = there.details["model"]
    assert model == ending.details["model"]
    assert len(model) <= 200
    assert model.startswith("whisper /srv/models/") and model.endswith("en_US-lessac-medium.onnx")


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("", ""),
        ("gpt-realtime-2.1", "gpt-realtime-2.1"),
        (" a\nb\x00 ", "a b"),
        ("x" * 200, "x" * 200),
        ("x" * 100 + "y" * 101, "x" * 99 + "…" + "y" * 99),
        ("\ud800", ""),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short


@pytest.mark.parametrize("count", [-1, 2**60, math.inf, math.nan, None])
def test_what_no_count_can_be(count: float | None) -> None:
    assert usage_counts(Usage(input_tokens=3, cost_usd=count)) == {"input_tokens": 3}
