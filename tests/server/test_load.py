"""Many sessions: none leaves anything behind, and the server's own work goes on beside them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.client import VoiceClient
from tests.support.server import GptmeServer, wait_until
from tests.support.speech import silence, speech_like

EVENT_STREAMS = 30


class Bystanders:
    """What else a server does: event streams that stay open, and a client that polls."""

    def __init__(self, server: GptmeServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.streaming = 0
        self.polls = 0
        self.failures: list[str] = []

    def __enter__(self) -> Bystanders:
        url = f"{self._server.url}/api/v2/conversations/load"
        body = {"messages": [{"role": "system", "content": "A test."}]}
        httpx.put(url, json=body, headers=self._server.auth, timeout=30).raise_for_status()
        work = [self._stream] * EVENT_STREAMS + [self._poll]
        self._threads = [threading.Thread(target=target, daemon=True) for target in work]
        for thread in self._threads:
            thread.start()
        assert wait_until(lambda: self.streaming == EVENT_STREAMS), self.failures
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _stream(self) -> None:
        url = f"{self._server.url}/api/v2/conversations/load/events"
        try:
            with httpx.stream("GET", url, headers=self._server.auth, timeout=60) as answer:
                answer.raise_for_status()
                for line in answer.iter_lines():
                    if '"connected"' in line:
                        with self._lock:
                            self.streaming += 1
                    if self._stop.is_set():
                        return
        except httpx.HTTPError as exc:
            self.failures.append(f"event stream: {exc!r}")

    def _poll(self) -> None:
        with httpx.Client(headers=self._server.auth, timeout=30) as client:
            while not self._stop.wait(0.05):
                try:
                    client.get(
                        f"{self._server.url}/api/v2/conversations?limit=5"
                    ).raise_for_status()
                    self.polls += 1
                except httpx.HTTPError as exc:
                    self.failures.append(f"poll: {exc!r}")


@pytest.fixture(params=["process", pytest.param("thread", marks=pytest.mark.soak)])
def isolated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GptmeServer]:
    """A server of the test's own, in each of the two ways of running sessions."""
    with GptmeServer(
        tmp_path, config=f'backend = "echo"\nisolation = "{request.param}"'
    ) as running:
        yield running


async def _session(server: GptmeServer, seconds: float = 0.0) -> None:
    async with VoiceClient(server.ws_url, server.auth) as client:
        await client.until(lambda c: c.ready.is_set(), 60)
        if seconds:
            await client.speak(speech_like(16_000, seconds))
            await client.speak(silence(16_000, 0.8))
            await client.until(lambda c: c.of("reply"), 60)


async def _vanish(server: GptmeServer) -> None:
    """Stream, then be gone without a word, as a browser that is killed."""
    client = VoiceClient(server.ws_url, server.auth)
    await client.__aenter__()
    await client.until(lambda c: c.ready.is_set(), 60)
    with contextlib.suppress(OSError):
        await client.speak(speech_like(16_000, 1.0), speed=2)
    client.ws.transport.abort()
    await client.closed()


def _idle(server: GptmeServer) -> bool:
    return bool(server.status()["voice_process"]["sessions"] == 0)


def test_nothing_is_left_behind(isolated: GptmeServer) -> None:
    """200 sessions in turn, 100 at once, 20 that vanish: descriptors, threads, tasks as before."""
    server = isolated

    async def one() -> None:
        await _session(server, 0.5)

    async def many() -> None:
        for _ in range(200):
            await _session(server)
        await asyncio.gather(*(_session(server, 1.0) for _ in range(100)))
        await asyncio.gather(*(_vanish(server) for _ in range(20)))

    asyncio.run(one())
    assert wait_until(lambda: _idle(server))
    voice = psutil.Process(server.voice_pid())
    before = server.usage()
    tasks = server.status()["voice_process"]["tasks"]
    voice_before = (voice.num_fds(), voice.num_threads())
    with Bystanders(server) as bystanders:
        asyncio.run(many())
        assert wait_until(lambda: _idle(server))
        assert bystanders.streaming == EVENT_STREAMS
        assert bystanders.polls > 20
    assert bystanders.failures == []
    asyncio.run(one())
    assert wait_until(lambda: _idle(server))
    assert voice.is_running()
    assert wait_until(lambda: server.usage()[0] <= before[0], 40), (before, server.usage())
    assert wait_until(lambda: server.usage()[1] <= before[1], 40), (before, server.usage())
    assert wait_until(lambda: voice.num_fds() <= voice_before[0], 40), voice.num_fds()
    assert wait_until(lambda: voice.num_threads() <= voice_before[1], 40), voice.num_threads()
    assert wait_until(lambda: server.status()["voice_process"]["tasks"] <= tasks, 40)
    assert "Traceback" not in server.log()
