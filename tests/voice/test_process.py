"""The voice process's side of the hand-off, when things go wrong."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from gptme_voice_plugin.channel import Adopt, Closed, receive, send
from gptme_voice_plugin.voice import process
from gptme_voice_plugin.voice.process import VoiceServer
from tests.support.client import VoiceClient
from tests.support.speech import silence, speech_like
from tests.support.voice import voice_host


def test_a_client_that_stops_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the session nor its backend outlives the ping it does not answer."""
    monkeypatch.setattr(process, "PING_SECONDS", 0.5)
    monkeypatch.setattr(process, "FAREWELL_SECONDS", 0.2)

    async def scenario() -> None:
        async with voice_host(backend="echo") as host:
            client = VoiceClient(host.ws_url, v1=False)
            await client.__aenter__()
            await client.until(lambda c: c.ready.is_set())
            raw = client.ws.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.ws.transport.pause_reading()
            # A busy machine may give it up before all is said.
            with suppress(ConnectionClosed):
                for _ in range(6):
                    await client.speak(speech_like(16_000, 20.0), speed=400)
                    await client.speak(silence(16_000, 1.0), speed=400)
            for _ in range(200):
                if any(isinstance(report, Closed) for report in host.reports):
                    break
                await asyncio.sleep(0.05)
            assert any(isinstance(report, Closed) for report in host.reports)
            client.ws.transport.abort()
            await client.closed()

    asyncio.run(scenario())


def test_no_room_for_another_descriptor() -> None:
    """A connection whose descriptor the system dropped is reported, and others are served."""

    async def scenario() -> None:
        down, their_down = socket.socketpair()
        up, their_up = socket.socketpair()
        up.settimeout(10)
        server = asyncio.create_task(VoiceServer(their_down, their_up).run())
        send(down, Adopt(1, "GET / HTTP/1.1"))
        received = await asyncio.to_thread(receive, up)
        assert received is not None and isinstance(received[0], Closed) and received[0].id == 1
        assert not server.done()
        down.close()
        await server
        up.close()

    asyncio.run(scenario())
