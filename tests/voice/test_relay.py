"""The relay: one session between a WebSocket and a backend that does what a test tells it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from gptme_voice_plugin.backends import base
from gptme_voice_plugin.channel import Adopt
from gptme_voice_plugin.config import Settings
from gptme_voice_plugin.errors import BackendUnavailable
from gptme_voice_plugin.voice import relay as relay_module
from gptme_voice_plugin.voice import session as session_module
from gptme_voice_plugin.voice import wire
from gptme_voice_plugin.voice.app import VoiceApp
from gptme_voice_plugin.voice.events import Stopping
from gptme_voice_plugin.voice.relay import Relay, input_rate
from gptme_voice_plugin.voice.session import Session
from gptme_voice_plugin.voice.wire import Dialect
from tests.support.client import VoiceClient
from tests.support.speech import best_match, resampled, silence, speech_like

RATE = 24_000
FRAME = bytes(RATE // 50 * 2)
PATIENCE = 60.0
"""Seconds after which a test fails; none of them takes long on an idle machine."""
SECRET = "a detail that is nobody's business"


class ScriptedBackend(base.Backend):
    """A backend whose every method a test can replace, and which notes what it is told."""

    name = "scripted"
    input_sample_rate = RATE
    output_sample_rate = RATE
    model = "none"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.queue: asyncio.Queue[base.BackendEvent | Exception | None] = asyncio.Queue()
        self.on: dict[str, Callable[[], Awaitable[None]]] = {}
        self.yielded = 0
        self.closed = 0

    @property
    def captured(self) -> bytes:
        """All audio it was given."""
        return b"".join(call[1] for call in self.calls if call[0] == "audio")

    async def _do(self, *call: Any) -> None:
        if call[0] in self.on:
            await self.on[call[0]]()
        self.calls.append(call)

    async def open(self) -> None:
        await self._do("open")

    async def send_audio(self, pcm: bytes) -> None:
        await self._do("audio", pcm)

    async def commit(self) -> None:
        await self._do("commit")

    async def send_text(self, text: str) -> None:
        await self._do("text", text)

    async def interrupt(self, item_id: str | None, heard_ms: int) -> None:
        await self._do("interrupt", item_id, heard_ms)

    async def events(self) -> AsyncIterator[base.BackendEvent]:
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            self.yielded += 1
            yield event

    async def close(self) -> None:
        self.closed += 1
        if "close" in self.on:
            await self.on["close"]()


class Peer:
    """The client's end of a real Starlette WebSocket, without a network."""

    def __init__(self, dialect: Dialect) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.sent: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.backend = ScriptedBackend()
        self.websocket = WebSocket({"type": "websocket"}, self.incoming.get, self._send)
        self.session = Session("session-1", dialect)

    async def _send(self, message: Any) -> None:
        if message["type"] != "websocket.accept":
            await self.reads.wait()
            self.sent.append(message)

    async def serve(self, create: Callable[[wire.Hello | None], base.Backend] | None) -> None:
        """Run the relay to its end."""
        await self.websocket.accept()
        self.relay = Relay(self.websocket, self.session, create or (lambda hello: self.backend))
        await self.relay.run()

    def say(self, type: str, **fields: Any) -> None:
        """Send a JSON message."""
        self.text(json.dumps({"type": type, **fields}))

    def text(self, text: str) -> None:
        """Send a text frame."""
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    def audio(self, pcm: bytes) -> None:
        """Send a binary frame."""
        self.incoming.put_nowait({"type": "websocket.receive", "bytes": pcm})

    def hang_up(self, code: int = 1001) -> None:
        """Close the client's side."""
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    def plays(self, *events: base.BackendEvent | Exception | None) -> None:
        """Let events come from the backend."""
        for event in events:
            self.backend.queue.put_nowait(event)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON messages it got."""
        return [json.loads(m["text"]) for m in self.sent if m.get("text") is not None]

    @property
    def heard(self) -> bytes:
        """The audio it got."""
        return b"".join(m["bytes"] for m in self.sent if m.get("bytes") is not None)

    @property
    def close(self) -> tuple[int, str] | None:
        """How the server closed."""
        closes = [m for m in self.sent if m["type"] == "websocket.close"]
        assert len(closes) <= 1
        return (closes[0]["code"], closes[0]["reason"]) if closes else None

    def of(self, type: str) -> list[dict[str, Any]]:
        """The messages of one type."""
        return [message for message in self.messages if message["type"] == type]


async def settle(condition: Callable[[], Any]) -> None:
    """Let the loop run until something holds."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), PATIENCE)


def talk(
    script: Callable[[Peer], Awaitable[None]],
    dialect: Dialect = Dialect.V1,
    create: Callable[[wire.Hello | None], base.Backend] | None = None,
    hang_up: bool = True,
    patience: float = PATIENCE,
) -> Peer:
    """Run a session beside a script, hang up after it, and check that nothing is left."""

    async def run() -> Peer:
        before = asyncio.all_tasks()
        peer = Peer(dialect)
        serving = asyncio.create_task(peer.serve(create))
        await script(peer)
        if hang_up:
            peer.hang_up()
        await asyncio.wait_for(serving, patience)
        assert asyncio.all_tasks() == before, "tasks were left behind"
        assert peer.relay._timers == {}
        if ("open",) in peer.backend.calls:
            assert peer.backend.closed == 1
        return peer

    return asyncio.run(run())


async def begin(peer: Peer) -> None:
    """Say hello and wait for `ready`."""
    if peer.session.dialect is Dialect.V1:
        peer.say("hello", client="test/1")
    await settle(lambda: peer.of("ready"))


async def finish(peer: Peer) -> None:
    """Wait for the server to close."""
    await settle(lambda: peer.close)


# The way through


def test_audio_reaches_the_backend_in_frames() -> None:
    """Whatever the client's frames are, the backend gets all of them, 20 ms at a time."""
    spoken = bytes(range(256)) * 45  # 12 frames

    async def script(peer: Peer) -> None:
        await begin(peer)
        for at in range(0, len(spoken), 701):
            peer.audio(spoken[at : at + 701])
        await settle(lambda: len(peer.backend.captured) == len(spoken))

    peer = talk(script)
    assert peer.backend.captured == spoken
    assert {len(call[1]) for call in peer.backend.calls if call[0] == "audio"} == {len(FRAME)}


def test_first_words_of_a_stock_client() -> None:
    """What is said before the backend is ready reaches it."""

    async def script(peer: Peer) -> None:
        opened = asyncio.Event()
        peer.backend.on["open"] = opened.wait  # type: ignore[assignment]
        for _ in range(10):
            peer.audio(bytes(640))
        await settle(lambda: not peer.incoming.qsize())
        opened.set()
        await settle(lambda: len(peer.backend.captured) == 10 * len(FRAME))

    peer = talk(script, Dialect.STOCK)
    assert peer.messages == [
        {"type": "ready", "input_sample_rate": 16_000, "output_sample_rate": 24_000}
    ]


def test_commit_comes_after_what_was_said() -> None:
    """The audio before a commit reaches the backend before it, to the last sample."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.audio(FRAME + b"\1\0\2\0")
        peer.say("commit")
        peer.say("text", text="hi")
        await settle(lambda: peer.backend.calls[-1] == ("text", "hi"))

    calls = talk(script).backend.calls
    assert calls == [("open",), ("audio", FRAME), ("audio", b"\1\0\2\0"), ("commit",), calls[-1]]


def test_reply_reaches_the_client() -> None:
    """A reply is announced, and its audio follows it."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(base.Audio("a", FRAME), base.Audio("a", FRAME), base.ReplyDone("a"))
        await settle(lambda: len(peer.heard) == 2 * len(FRAME))

    peer = talk(script)
    kinds = [message.get("text") and json.loads(message["text"])["type"] for message in peer.sent]
    assert kinds == ["ready", "state", "reply", None, "state", None]


@pytest.mark.parametrize("dialect", Dialect)
def test_reply_is_resampled_to_the_clients_rate(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend's rate is the client's, but a stock client's is fixed; no sample is lost."""
    monkeypatch.setattr(ScriptedBackend, "output_sample_rate", 16_000)

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(base.Audio("a", bytes(32_000)), base.ReplyDone("a"))
        wanted = 32_000 if dialect is Dialect.V1 else 48_000
        await settle(lambda: len(peer.heard) >= wanted)

    peer = talk(script, dialect)
    assert peer.of("ready")[0]["output_sample_rate"] == (16_000 if dialect is Dialect.V1 else RATE)
    assert len(peer.heard) % 2 == 0


@pytest.mark.parametrize(
    ("hello", "rate"),
    [
        (None, 16_000),
        (wire.Hello("c"), RATE),
        (wire.Hello("c", input_sample_rates=(48_000, RATE)), RATE),
        (wire.Hello("c", input_sample_rates=(48_000, 16_000)), 48_000),
    ],
)
def test_input_rate(hello: wire.Hello | None, rate: int) -> None:
    """The backend's own rate if the client can, else the one the client likes best."""
    assert input_rate(hello, RATE) == rate


def test_flush_drops_what_waits() -> None:
    """When the user speaks over a reply, audio that was not written yet never is."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        await settle(lambda: len(peer.messages) == 2)
        peer.reads.clear()
        peer.plays(*[base.Audio("a", FRAME)] * 50, base.SpeechStarted())
        await settle(lambda: peer.backend.yielded == 51)
        peer.reads.set()
        await settle(lambda: peer.of("speech_started"))
        await settle(lambda: peer.backend.calls[-1][:2] == ("interrupt", "a"))

    peer = talk(script)
    assert len(peer.heard) <= len(FRAME)
    assert peer.of("clear") == [{"type": "clear", "at_sample": 50 * len(FRAME) // 2}]


def test_unknown_and_malformed_messages() -> None:
    """Unknown types are ignored, malformed ones answered; the session goes on."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        for text in ('{"type":"telepathy"}', "no JSON", '{"type":"mute"}', "[" * 10_000):
            peer.text(text)
        peer.audio(FRAME)
        await settle(lambda: peer.backend.captured)

    peer = talk(script)
    assert [e["code"] for e in peer.of("error")] == ["bad_message"] * 3
    assert peer.close is None


# Backpressure


def test_slow_backend_holds_the_client_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the backend cannot keep up, the client has to wait, and not a frame is lost."""
    monkeypatch.setattr(relay_module, "CAPTURE_FRAMES", 10)
    frames = [index.to_bytes(2, "little") * (len(FRAME) // 2) for index in range(100)]

    async def script(peer: Peer) -> None:
        await begin(peer)
        go_on = asyncio.Event()
        peer.backend.on["audio"] = go_on.wait  # type: ignore[assignment]
        for frame in frames:
            peer.audio(frame)
        for _ in range(200):
            await asyncio.sleep(0)
        assert peer.incoming.qsize() >= 85
        go_on.set()
        await settle(lambda: len(peer.backend.captured) == 100 * len(FRAME))

    assert talk(script).backend.captured == b"".join(frames)


def test_slow_client_holds_the_backend_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the client cannot keep up, the backend has to wait, and nothing of the reply is lost."""
    monkeypatch.setattr(relay_module, "OUTBOX_SECONDS", 1)
    pieces = [index.to_bytes(2, "little") * (RATE // 10) for index in range(100)]

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.reads.clear()
        peer.plays(*[base.Audio("a", piece) for piece in pieces])
        for _ in range(500):
            await asyncio.sleep(0)
        assert 10 <= peer.backend.yielded <= 14
        peer.reads.set()
        await settle(lambda: len(peer.heard) == sum(map(len, pieces)))

    assert talk(script).heard == b"".join(pieces)


# Failures


def expect_error(peer: Peer, code: str, close: int, reason: str) -> None:
    """The client was told of one fatal error, was closed, and learned no detail."""
    (error,) = peer.of("error")
    assert (error["code"], error["fatal"]) == (code, True)
    assert peer.close == (close, error["message"])
    assert reason in error["message"]
    assert SECRET not in str(peer.sent) and "Traceback" not in str(peer.sent)


INTERNAL = ("internal_error", 1011, "see the server's log")


def fails(error: Exception) -> Callable[[], Awaitable[None]]:
    """Return a method that raises."""

    async def method() -> None:
        raise error

    return method


@pytest.mark.parametrize("dialect", Dialect)
def test_backend_that_cannot_be_opened(dialect: Dialect) -> None:
    """A backend's own sentence reaches the client, and 1011 closes."""

    async def script(peer: Peer) -> None:
        peer.backend.on["open"] = fails(BackendUnavailable("No model is configured."))
        if dialect is Dialect.V1:
            peer.say("hello", client="test/1")
        await finish(peer)

    peer = talk(script, dialect, hang_up=False)
    assert peer.backend.closed == 1
    if dialect is Dialect.V1:
        expect_error(peer, "backend_unavailable", 1011, "No model is configured.")
    else:
        assert (peer.close, peer.messages) == ((1011, "No model is configured."), [])


def test_backend_that_cannot_be_made() -> None:
    """An error in the choice of the backend is told as well."""

    def create(hello: wire.Hello | None) -> base.Backend:
        raise BackendUnavailable("There is none.")

    async def script(peer: Peer) -> None:
        peer.say("hello", client="test/1")
        await finish(peer)

    expect_error(
        talk(script, create=create, hang_up=False), "backend_unavailable", 1011, "There is none."
    )


def test_backend_that_does_not_get_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that hangs while it opens is given up, and freed."""
    monkeypatch.setattr(session_module, "BACKEND_TIMEOUT", 0.05)

    async def script(peer: Peer) -> None:
        peer.backend.on["open"] = asyncio.Event().wait  # type: ignore[assignment]
        peer.say("hello", client="test/1")
        await finish(peer)

    peer = talk(script, hang_up=False)
    expect_error(peer, "backend_timeout", 1011, "did not get ready in time")
    assert peer.backend.closed == 1


def test_backend_that_prepares() -> None:
    """It may take longer than its deadline, as long as it says what it does."""
    shares = [n / 10 for n in range(11)]
    deadlines: list[float] = []

    async def script(peer: Peer) -> None:
        async def prepare() -> None:
            for share in shares:
                peer.backend.on_preparing(base.Preparing("Fetching it", share))
                await settle(lambda: len(peer.of("preparing")) > len(deadlines))
                deadlines.append(peer.relay._timers["backend"].when())

        peer.backend.on["open"] = prepare
        await begin(peer)
        peer.backend.on_preparing(base.Preparing("Fetching it", 0.5))

    peer = talk(script)
    told = peer.of("preparing")
    assert [message["share"] for message in told] == shares
    assert deadlines == sorted(set(deadlines)), "each report puts the deadline off"
    assert {message["what"] for message in told} == {"Fetching it"}
    assert peer.messages[: len(told)] == told


def test_no_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    """A v1 client that says nothing is closed with 1008."""
    monkeypatch.setattr(session_module, "HELLO_TIMEOUT", 0.05)
    expect_error(talk(finish, hang_up=False), "hello_required", 1008, "No 'hello' came")


@pytest.mark.parametrize("method", ["open", "audio", "commit", "text", "interrupt"])
def test_defect_in_a_backend(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged with its details, and the client gets 1011 without them."""

    async def script(peer: Peer) -> None:
        peer.backend.on[method] = fails(RuntimeError(SECRET))
        peer.say("hello", client="test/1")
        await settle(lambda: peer.of("ready") or peer.close)
        peer.audio(FRAME)
        peer.say("commit")
        peer.say("text", text="hi")
        peer.plays(base.SpeechStopped())
        await settle(lambda: peer.close or len(peer.of("state")) == 2)
        peer.say("interrupt")
        await finish(peer)

    with caplog.at_level(logging.ERROR):
        expect_error(talk(script, hang_up=False), *INTERNAL)
    assert SECRET in caplog.text


def test_defect_in_the_events(caplog: pytest.LogCaptureFixture) -> None:
    """The same when the events break off; the reason does not wait behind unsent audio."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(base.Audio("a", FRAME), RuntimeError(SECRET))
        await finish(peer)

    peer = talk(script, hang_up=False)
    expect_error(peer, *INTERNAL)
    assert peer.heard == b""
    assert SECRET in caplog.text


def test_backend_that_just_ends() -> None:
    """A backend whose events end has ended the session."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(None)
        await finish(peer)

    expect_error(talk(script, hang_up=False), "backend_failed", 1011, "ended the session")


def test_failures_a_backend_reports() -> None:
    """A failure that is not fatal is told and survived, a fatal one closes."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(base.Failed("busy", "Busy.", False))
        await settle(lambda: peer.of("error"))
        assert peer.close is None
        peer.plays(base.Failed("gone", "Gone.", True))
        await finish(peer)

    peer = talk(script, hang_up=False)
    assert [error["code"] for error in peer.of("error")] == ["busy", "gone"]
    assert peer.close == (1011, "Gone.")


def test_defect_in_the_core(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even an exception in the session core ends in 1011 and not in a hung session."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.session._handlers[wire.Commit] = lambda event, now: 1 / 0  # type: ignore[assignment]
        peer.say("commit")
        await finish(peer)

    expect_error(talk(script, hang_up=False), *INTERNAL)
    assert "ZeroDivisionError" in caplog.text


def test_backend_that_does_not_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A backend that hangs, or fails, when it is closed does not hold the session up."""
    monkeypatch.setattr(relay_module, "CLOSE_SECONDS", 0.05)
    for method in (asyncio.Event().wait, fails(RuntimeError("no"))):

        async def script(peer: Peer, method: Any = method) -> None:
            peer.backend.on["close"] = method
            await begin(peer)

        assert talk(script).backend.closed == 1
    assert caplog.text.count("did not end cleanly") == 2


# The end


def test_end() -> None:
    """`end` closes with 1000, after everything that was said before."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(base.UserTranscript("u", "bye", True))
        await settle(lambda: peer.of("transcript"))
        peer.say("end")
        await finish(peer)

    assert talk(script, hang_up=False).close == (1000, "")


def test_client_that_hangs_up_in_a_reply() -> None:
    """A client that is gone frees everything, and nothing more is written."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.plays(*[base.Audio("a", FRAME)] * 100)
        await settle(lambda: peer.heard)

    peer = talk(script)
    assert peer.close is None
    assert peer.backend.closed == 1


def test_client_that_does_not_read_any_more() -> None:
    """A client that reads nothing is given up after the farewell's time."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.reads.clear()
        peer.plays(*[base.Audio("a", FRAME)] * 100, None)
        await settle(lambda: peer.backend.closed)

    peer = talk(script, hang_up=False)
    assert peer.close is None


def test_client_that_breaks_the_connection_while_it_is_written_to() -> None:
    """A write that fails is the end of the client, not an error of ours."""

    async def script(peer: Peer) -> None:
        await begin(peer)

        async def broken(message: Any) -> None:
            raise OSError("connection reset")

        peer.websocket._send = broken
        peer.plays(base.Audio("a", FRAME))
        await settle(lambda: peer.backend.closed)

    assert talk(script, hang_up=False).of("error") == []


@pytest.mark.parametrize("dialect", Dialect)
def test_server_that_stops(dialect: Dialect) -> None:
    """When the server goes down, the client is told and closed with 1012."""

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.relay.post(Stopping())
        await finish(peer)

    peer = talk(script, dialect, hang_up=False)
    assert peer.close is not None and peer.close[0] == 1012
    assert len(peer.of("session_ending")) == (dialect is Dialect.V1)


def test_a_backend_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that takes no more audio ends the session, also if its client has left."""
    monkeypatch.setattr(relay_module, "CAPTURE_FRAMES", 5)
    monkeypatch.setattr(relay_module, "STALL_SECONDS", 0.2)

    async def script(peer: Peer) -> None:
        await begin(peer)
        peer.backend.on["audio"] = asyncio.Event().wait  # type: ignore[assignment]
        for _ in range(20):
            peer.audio(FRAME)
        await settle(lambda: len(peer.backend.calls) == 1 and peer.incoming.qsize() < 20)

    talk(script)


@pytest.mark.parametrize("rate", [11_025, 12_345, 192_000])
def test_rates_that_cannot_be_resampled(rate: int, caplog: pytest.LogCaptureFixture) -> None:
    """A client that captures at an odd rate only gets a session, or a reason; no defect."""

    async def script(peer: Peer) -> None:
        peer.say("hello", client="test/1", input_sample_rates=[rate])
        await settle(lambda: peer.of("ready") or peer.close)

    peer = talk(script)
    assert "internal_error" not in str(peer.sent)
    assert "Traceback" not in caplog.text


# Over a real socket


def over_a_socket(
    script: Callable[[str, VoiceApp], Awaitable[None]],
    error: tuple[str, str] | None = None,
    backend: str = "echo",
) -> None:
    """Serve the application on a loopback port beside a script; check that nothing is left."""

    async def run() -> None:
        before = asyncio.all_tasks()
        app, state = VoiceApp(lambda ended: None), ServerState()
        config = uvicorn.Config(app.asgi(), lifespan="off", log_config=None, log_level="critical")
        config.load()
        offer = Adopt(1, "", Settings(backend=backend).to_wire(), {}, error)
        server = await asyncio.get_running_loop().create_server(
            lambda: WebSocketsSansIOProtocol(config, state, {"offer": offer}), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        await script(f"ws://127.0.0.1:{port}/voice", app)
        await settle(lambda: not state.connections and not state.tasks)
        server.close()
        await server.wait_closed()
        await settle(lambda: asyncio.all_tasks() == before | {asyncio.current_task()} - {None})
        assert app._relays == set()

    asyncio.run(run())


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_echo_over_a_socket(v1: bool) -> None:
    """What is spoken into a real socket comes back out of it."""
    spoken = speech_like(16_000, 1.0)
    heard: list[bytes] = []

    async def script(url: str, app: VoiceApp) -> None:
        async with VoiceClient(url, v1=v1) as client:
            await client.until(lambda c: c.ready.is_set(), PATIENCE)
            rate = client.of("ready")[0]["input_sample_rate"]
            await client.speak(resampled(spoken, 16_000, rate), rate, speed=50)
            await client.speak(silence(rate, 1.0), rate, speed=50)
            await client.until(lambda c: len(c.audio) >= 1.45 * RATE * 2, PATIENCE)
            heard.append(client.audio)

    over_a_socket(script)
    pcm = np.frombuffer(heard[0], dtype="<i2")
    assert best_match(resampled(spoken, 16_000, RATE), pcm)[0] > 0.99


@pytest.mark.parametrize(
    ("backend", "test", "hinted"),
    [("auto", False, True), ("auto", True, False), ("echo", False, False)],
    ids=["for want of another", "to test sound", "chosen"],
)
def test_an_echo_that_nobody_asked_for(
    monkeypatch: pytest.MonkeyPatch, backend: str, test: bool, hinted: bool
) -> None:
    """Who gets it for want of anything else is told what there could be."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    async def script(url: str, app: VoiceApp) -> None:
        async with VoiceClient(url, hello={"test": test}) as client:
            await client.until(lambda c: c.ready.is_set(), PATIENCE)
            (ready,) = client.of("ready")
            assert ready["backend"] == "echo"
            assert ("hint" in ready) == hinted
            assert not hinted or "gptme-voice-plugin[local]" in ready["hint"]

    over_a_socket(script, backend=backend)


def test_server_that_stops_over_a_socket() -> None:
    """All sessions are closed with 1012, and so is one that comes afterwards."""

    async def script(url: str, app: VoiceApp) -> None:
        async with VoiceClient(url) as first, VoiceClient(url, v1=False) as second:
            for client in (first, second):
                await client.until(lambda c: c.ready.is_set(), PATIENCE)
            app.stop()
            for client in (first, second):
                assert (await client.closed(PATIENCE))[0] == 1012
        async with VoiceClient(url, hello=None) as late:
            assert (await late.closed(PATIENCE))[0] == 1012

    over_a_socket(script)


@pytest.mark.parametrize("v1", [False, True], ids=["stock", "v1"])
def test_offer_with_an_error(v1: bool) -> None:
    """What made a session impossible before it began is told, and closes it."""

    async def script(url: str, app: VoiceApp) -> None:
        async with VoiceClient(url, v1=v1) as client:
            assert await client.closed(PATIENCE) == (1011, "Set it right.")
            assert [e["code"] for e in client.of("error")] == ["config_invalid"] * v1

    over_a_socket(script, ("config_invalid", "Set it right."))
