"""Whatever ends: server, voice process or client, the others are told, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil
import pytest
import websockets

from tests.support.client import VoiceClient
from tests.support.server import GptmeServer, wait_until

SESSIONS = 10


@pytest.fixture(params=["process", "thread"])
def isolated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GptmeServer]:
    """A server of the test's own, in each of the two ways of running sessions."""
    with GptmeServer(
        tmp_path, config=f'backend = "echo"\nisolation = "{request.param}"'
    ) as running:
        yield running


async def _open(stack: AsyncExitStack, server: GptmeServer, count: int) -> list[VoiceClient]:
    clients = [VoiceClient(server.ws_url, server.auth, v1=i % 2 == 0) for i in range(count)]
    for client in clients:
        await stack.enter_async_context(client)
        await client.until(lambda c: c.ready.is_set())
    return clients


async def _ends(
    server: GptmeServer, count: int, act: Callable[[], object]
) -> list[tuple[int | None, str | None]]:
    async with AsyncExitStack() as stack:
        clients = await _open(stack, server, count)
        act()
        return [await client.closed() for client in clients]


def _stop_by(server: GptmeServer, sig: int) -> Callable[[], object]:
    if sig == signal.SIGINT:  # Ctrl-C reaches the whole group
        return lambda: os.killpg(server.process.pid, signal.SIGINT)
    return lambda: server.process.send_signal(sig)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_server_ends_sessions(isolated: GptmeServer, sig: int) -> None:
    """Every client is told 1012 and why, and no process is left."""
    pid = isolated.voice_pid()
    ends = asyncio.run(_ends(isolated, SESSIONS, _stop_by(isolated, sig)))
    assert {code for code, _ in ends} == {1012}
    assert all("stopping" in (reason or "") for _, reason in ends)
    assert isolated.process.wait(60) == 0
    assert pid is None or wait_until(lambda: not psutil.pid_exists(pid))


def test_killing_the_server_ends_sessions(tmp_path: Path) -> None:
    """The voice process outlives kill -9 just long enough to say goodbye."""
    with GptmeServer(tmp_path) as server:
        pids: list[int | None] = []

        def kill() -> None:
            pids.append(server.voice_pid())
            server.process.kill()

        ends = asyncio.run(_ends(server, SESSIONS, kill))
        assert {code for code, _ in ends} == {1012}
        server.process.wait()
        (pid,) = pids
        assert pid and wait_until(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_dead_voice_process_is_replaced(server: GptmeServer, sig: int) -> None:
    """Its sessions end with a reason, HTTP goes on, and the next connection starts another."""

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            clients = await _open(stack, server, SESSIONS)
            before = server.voice_pid()
            assert before
            os.kill(before, sig)
            for client in clients:
                code, reason = await client.closed()
                assert code == (1012 if sig == signal.SIGTERM else 1011)
                assert reason
            assert httpx.get(
                f"{server.url}/api/v2/voice/status", headers=server.auth, timeout=60
            ).is_success
            await _open(stack, server, 1)
            assert server.voice_pid() not in (None, before)

    asyncio.run(scenario())


def test_no_connection_is_lost_while_the_voice_process_dies(server: GptmeServer) -> None:
    """A connection that the dead process had not taken yet is given to the next one."""

    async def connect() -> str:
        client = VoiceClient(server.ws_url, server.auth)
        try:
            async with client:
                await client.until(lambda c: c.ready.is_set() or c.ws.close_code is not None)
                return "ready" if client.ready.is_set() else "told"
        except (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed) as exc:
            return f"lost: {exc!r}"

    async def scenario() -> list[str]:
        async with AsyncExitStack() as stack:
            await _open(stack, server, 1)
            connecting = [asyncio.create_task(connect()) for _ in range(30)]
            await asyncio.sleep(0)
            pid = server.voice_pid()
            assert pid
            os.kill(pid, signal.SIGKILL)
            return await asyncio.gather(*connecting)

    outcomes = asyncio.run(scenario())
    # "told": it was open already, and ended with a close frame.
    assert all(outcome in ("ready", "told") for outcome in outcomes), outcomes


def test_a_hung_voice_process_is_replaced(tmp_path: Path) -> None:
    """A process that does not answer is ended, and the connection goes to another."""
    with GptmeServer(tmp_path) as server:

        async def scenario() -> None:
            async with AsyncExitStack() as stack:
                await _open(stack, server, 1)
                before = server.voice_pid()
                assert before
                os.kill(before, signal.SIGSTOP)
                client = await stack.enter_async_context(
                    VoiceClient(server.ws_url, server.auth, open_timeout=60)
                )
                await client.until(lambda c: c.ready.is_set())
                assert server.voice_pid() != before
                assert not psutil.pid_exists(before)

        asyncio.run(scenario())


def test_gunicorn(tmp_path: Path) -> None:
    """Twenty sessions and HTTP fit in two threads; SIGTERM tells every client."""
    port_option = "--port"
    launcher = (
        "import sys; from gunicorn.app.wsgiapp import run; "
        f"port = sys.argv[sys.argv.index('{port_option}') + 1]; "
        "sys.argv = ['gunicorn', '--worker-class', 'gthread', '--workers', '1', '--threads', '2', "
        "'--graceful-timeout', '3', '--bind', '127.0.0.1:' + port, "
        "'gptme_voice_plugin.server.wsgi:create_app()']; run()"
    )
    with GptmeServer(tmp_path, command=[sys.executable, "-c", launcher]) as server:

        def stop() -> None:
            answer = httpx.get(f"{server.url}/api/v2/voice/status", headers=server.auth, timeout=60)
            assert answer.json()["voice_process"]["sessions"] == 20
            server.process.terminate()

        ends = asyncio.run(_ends(server, 20, stop))
        assert {code for code, _ in ends} == {1012}
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log()
