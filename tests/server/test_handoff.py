"""The hand-off itself, without a web server: what happens to sockets and processes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from gptme_voice_plugin import channel
from gptme_voice_plugin.channel import Adopt, Adopted, Closed, Ended, receive, send
from gptme_voice_plugin.config import Settings
from gptme_voice_plugin.server import handoff
from gptme_voice_plugin.server.handoff import VoiceProcess, VoiceUnavailable
from tests.support.server import wait_until

HANDSHAKE = (
    "GET /voice HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OFFER = Adopt(id=0, request=HANDSHAKE, settings=Settings(backend="echo").to_wire())


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: the server's, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        client.settimeout(60)
        with client, server:
            yield server, client


def _read_until(client: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        piece = client.recv(4096)
        assert piece, data
        data += piece
    return data


@pytest.mark.parametrize("threaded", [False, True])
def test_the_original_socket_becomes_harmless(
    tcp_pair: tuple[socket.socket, socket.socket], threaded: bool
) -> None:
    """What a WSGI server does to its socket afterwards does not reach the connection."""
    server, client = tcp_pair
    process = VoiceProcess(threaded)
    try:
        process.hand_off(server, OFFER)()
        with pytest.raises(OSError):
            server.sendall(b"HTTP/1.1 101")
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        assert b"101 Switching Protocols" in _read_until(client, b"ready")
        assert process.workings().sessions == 1
    finally:
        process.stop()
    assert client.recv(4096)  # the close frame
    assert client.recv(4096) == b""


def test_without_passing_descriptors_the_thread_waits(
    tcp_pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a descriptor can be neither passed nor replaced, the WSGI thread waits for the end."""
    monkeypatch.setattr(channel, "CAN_PASS_SOCKETS", False)
    monkeypatch.setattr(handoff, "CAN_PASS_SOCKETS", False)
    server, client = tcp_pair
    process = VoiceProcess(threaded=True)
    try:
        release = process.hand_off(server, OFFER)
        waiting = threading.Thread(target=release)
        waiting.start()
        _read_until(client, b"ready")
        assert waiting.is_alive()
        client.close()
        waiting.join(60)
        assert not waiting.is_alive()
    finally:
        process.stop()


def test_a_process_that_cannot_start(
    tcp_pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller can still answer on the socket, and no descriptor is left."""
    monkeypatch.setattr(handoff.sys, "executable", "/nonexistent/python")
    server, client = tcp_pair
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VoiceUnavailable, match="does not start"):
        VoiceProcess().hand_off(server, OFFER)
    server.sendall(b"503")
    assert client.recv(3) == b"503"
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_a_process_that_dies_at_once(
    tcp_pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again a few times, then the caller is told."""
    monkeypatch.setattr(handoff.sys, "executable", "/bin/false")
    server, _ = tcp_pair
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(VoiceUnavailable, match="does not start"):
        VoiceProcess().hand_off(server, OFFER)
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.mark.parametrize("threaded", [False, True])
def test_what_a_session_was_is_counted(
    tcp_pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, threaded: bool
) -> None:
    """Each that the voice process tells of, beside those that are open."""
    counted: list[Ended] = []
    monkeypatch.setattr(handoff.metrics, "count", counted.append)
    server, client = tcp_pair
    process = VoiceProcess(threaded)
    try:
        process.hand_off(server, OFFER)()
        _read_until(client, b"ready")
        assert REGISTRY.get_sample_value("gptme_voice_sessions_active") == 1
        client.close()
        assert wait_until(lambda: counted)
        assert counted[0].backend == "echo"
        assert counted[0].seconds > 0
        assert wait_until(lambda: REGISTRY.get_sample_value("gptme_voice_sessions_active") == 0)
    finally:
        process.stop()


def test_what_the_voice_process_tells(
    monkeypatch: pytest.MonkeyPatch, tcp_pair: tuple[socket.socket, socket.socket]
) -> None:
    """Whatever it is, and in whatever order it comes."""
    counted: list[Ended] = []
    monkeypatch.setattr(handoff.metrics, "count", counted.append)
    told = [Ended("openai", "ended", 1.5, 2, 3, 4, 5, 6, 7), Ended("", "lost", 0.0)]

    def serve(down: socket.socket, up: socket.socket) -> None:
        with down, up:
            while (received := receive(down)) is not None:
                offer = received[0]
                assert isinstance(offer, Adopt)
                os.close(offer.fd)
                for message in (told[0], Adopted(offer.id), told[1], Closed(offer.id)):
                    send(up, message)

    monkeypatch.setattr(handoff, "_serve_in_thread", serve)
    process = VoiceProcess(threaded=True)
    try:
        process.hand_off(tcp_pair[0], OFFER)()
        assert wait_until(lambda: counted == told)
    finally:
        process.stop()


def test_a_client_that_is_gone_already(tcp_pair: tuple[socket.socket, socket.socket]) -> None:
    """Handing over a dead connection leaves nothing behind."""
    server, client = tcp_pair
    process = VoiceProcess()
    try:
        client.close()
        process.hand_off(server, OFFER)()
        assert wait_until(lambda: process.workings().sessions == 0)
    finally:
        process.stop()
