"""Fixtures for conversations of a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gptme_voice_plugin.voice import link
from tests.fakes.chat_server import FakeChat


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session begins with its conversation's history, however busy gptme-server is."""
    monkeypatch.setattr(link, "BRIEF_SECONDS", 60.0)


@pytest.fixture(scope="module")
def chat() -> Iterator[FakeChat]:
    """gptme's own model."""
    with FakeChat() as chat:
        yield chat
