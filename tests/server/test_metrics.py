"""Voice in gptme-server's own metrics, after real sessions."""

from __future__ import annotations

import asyncio
import re

import httpx

from tests.support.client import VoiceClient
from tests.support.server import GptmeServer, wait_until


def voice_metrics(server: GptmeServer) -> dict[str, float]:
    """Return what gptme-server shows of voice."""
    answer = httpx.get(f"{server.url}/api/v0/metrics", headers=server.auth, timeout=30)
    assert answer.status_code == 200
    lines = re.findall(r"^(gptme_voice_\S+) (\S+)$", answer.text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_sessions_are_counted(server: GptmeServer) -> None:
    """Those that are open, and those that were."""

    async def session() -> None:
        async with VoiceClient(server.ws_url, server.auth) as client:
            await client.until(lambda c: c.ready.is_set())
            shown = await asyncio.to_thread(voice_metrics, server)
            assert shown["gptme_voice_sessions_active"] == 1

    for _ in range(2):
        asyncio.run(session())
    ended = 'gptme_voice_session_seconds_count{backend="echo"}'
    assert wait_until(lambda: voice_metrics(server).get(ended) == 2)
    shown = voice_metrics(server)
    sessions = {name: n for name, n in shown.items() if name.startswith("gptme_voice_sessions_to")}
    assert sum(sessions.values()) == 2
    assert all(re.search(r'backend="echo",reason="(ended|lost)"', name) for name in sessions)
    assert wait_until(lambda: voice_metrics(server)["gptme_voice_sessions_active"] == 0)
