"""The server of a fake provider: handshake, connections, and running it in tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request
from websockets.http11 import Response as HttpResponse

from .conversation import Conversation
from .dialect import Dialect
from .faults import NO_FAULTS, Close, PerConnection, Reject, faults_of
from .handlers import ClientEvent
from .handshake import BETA_REFUSED, Attempt, http_error, refusal
from .script import Replies, Reply, UserText, UserTexts
from .session import Session

MAX_FRAME_BYTES = 24 * 2**20
BURST_DELTA_MS = (100, 200, 150)


class FakeProvider:
    """A realtime provider on loopback; use `async with`, or `with fake.in_thread()`.

    Args:
        dialect: Which provider.
        replies: What it says: a `Reply`, a callable that makes one from a `Turn`, or a list of
            either, one for each response of a session; after its end `default_reply`.
        reply_seconds: How long the default reply is.
        user_texts: How the user is transcribed, likewise.
        speed: How many times faster than real time replies come: 10 is a burst, 1 is paced.
        delta_ms: How much audio each delta has, in turn.
        latency_ms: Time from `response.created` to the first output.
        faults: What goes wrong: on all connections, or one entry for each.
        api_key: The only accepted key; None: any, or none at all.
        key_header: Where the key is expected: `authorization` (as Bearer) or `api-key`.
        models: Known models, others are answered with 404; None: the dialect's.
        port: Where to listen; 0: a free one, which is kept when it is started again.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        replies: Replies = (),
        reply_seconds: float = 2.0,
        user_texts: UserTexts = (),
        speed: float = 10.0,
        delta_ms: tuple[float, ...] = BURST_DELTA_MS,
        latency_ms: float = 0,
        faults: PerConnection = NO_FAULTS,
        api_key: str | None = "test",
        key_header: str = "authorization",
        models: tuple[str, ...] | None = None,
        port: int = 0,
    ) -> None:
        self.dialect = dialect
        self.replies = replies
        self.default_reply = Reply(seconds=reply_seconds)
        self.user_texts: UserTexts | UserText = user_texts
        self.speed = speed
        self.delta_ms = delta_ms
        self.latency_ms = latency_ms
        self.faults = faults
        self.api_key = api_key
        self.key_header = key_header
        self.models = models if models is not None else dialect.models
        self.port = port
        self.sessions: list[Session] = []
        self.attempts: list[Attempt] = []
        self.conversations: dict[str, Conversation] = {}
        """What can be resumed."""
        self.failures: list[BaseException | None] = []
        """Errors of the fake itself; leaving the context raises the first."""
        self._events: list[ClientEvent] = []
        self._handshaking: set[ServerConnection] = set()
        self._numbers: dict[ServerConnection, int] = {}
        self._rejected: dict[ServerConnection, Reject] = {}
        self._server: Server
        self._loop: asyncio.AbstractEventLoop

    # For tests ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base address, as for an SDK's `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def ws_url(self) -> str:
        """The base address for WebSockets."""
        return f"ws://127.0.0.1:{self.port}/v1"

    @property
    def events(self) -> list[ClientEvent]:
        """Everything that clients have sent so far."""
        return list(self._events)

    @property
    def problems(self) -> list[Any]:
        """Everything that clients have done wrong so far."""
        return [p for s in list(self.sessions) for p in list(s.problems)]

    def of(self, type: str) -> list[dict[str, Any]]:
        """Return the clients' events of a type."""
        return [e.data for e in self.events if e.type == type]

    async def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """Wait until `condition()` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds} s; got {[e.type for e in self.events]}")
            await asyncio.sleep(0.005)

    def close_sessions(self, code: int = 1001, reason: str = "") -> None:
        """End all open connections now (1006: without a word); callable from any thread."""

        def close() -> None:
            for session in self.sessions:
                if not session.ended:
                    session.start(session.outbox.close(Close(code, reason)))

        self._loop.call_soon_threadsafe(close)

    def send_all(self, event: dict[str, Any]) -> None:
        """Send an event on all open connections; callable from any thread."""

        def send() -> None:
            for session in self.sessions:
                if not session.ended:
                    session.send(event)

        self._loop.call_soon_threadsafe(send)

    def record(self, event: ClientEvent) -> None:
        """Keep a client's event."""
        self._events.append(event)

    # Running -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Any:
        self._loop = asyncio.get_running_loop()
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._handshake,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=None,
            close_timeout=2,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._handshaking:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()
        if error is None and self.failures:
            raise RuntimeError("the fake provider failed") from self.failures[0]

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[Any]:
        """Run it on a thread of its own, for tests that are not asynchronous."""
        ready = threading.Event()
        stop: asyncio.Event
        failed: list[BaseException] = []

        async def main() -> None:
            nonlocal stop
            stop = asyncio.Event()
            async with self:
                ready.set()
                await stop.wait()

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                failed.append(error)
            finally:
                ready.set()

        thread = threading.Thread(target=run, name=f"fake-{self.dialect.name}", daemon=True)
        thread.start()
        ready.wait()
        try:
            if not failed:
                yield self
        finally:
            if not failed and thread.is_alive():
                self._loop.call_soon_threadsafe(stop.set)
            thread.join(20)
        if failed:
            raise failed[0]

    # Connections -------------------------------------------------------------------------------

    async def _handshake(self, ws: ServerConnection, request: Request) -> HttpResponse | None:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        number = len(self.attempts) + 1
        self.attempts.append(Attempt(parts.path, query, request.headers, time.monotonic(), 0))
        self._handshaking.add(ws)
        faults = faults_of(self.faults, number)
        if faults.handshake_hang:
            await ws.wait_closed()
        await asyncio.sleep(faults.handshake_ms / 1000)
        if faults.handshake_after is not None:
            await faults.handshake_after.wait()
        reject = faults.reject or refusal(self, parts.path, query, request.headers)
        self._handshaking.discard(ws)
        self._numbers[ws] = number
        if reject is not None and reject.on_socket:
            self._rejected[ws] = reject
            reject = None
        status = 101 if reject is None else reject.status
        self.attempts[number - 1] = replace(self.attempts[number - 1], status=status)
        return None if reject is None else http_error(reject)

    async def _serve(self, ws: ServerConnection) -> None:
        assert ws.request is not None
        number = self._numbers[ws]
        faults = faults_of(self.faults, number)
        query = self.attempts[number - 1].query
        if faults.hang:
            await ws.wait_closed()
            return
        close = None
        if ws in self._rejected:
            error = self._rejected.pop(ws).error
            close = Close(4000, f"{error['type']}.{error['code']}", error=error)
        elif self.dialect.refuse_beta_header and "OpenAI-Beta" in ws.request.headers:
            close = BETA_REFUSED
        conversation = self.conversations.get(query.get("conversation_id", ""))
        session = Session(self, ws, faults, number, query, conversation)
        self.sessions.append(session)
        if close is not None:
            await session.outbox.close(close)
            session.ended = True
            session.close_code, session.close_reason = ws.close_code, ws.close_reason
            return
        try:
            await session.run()
        except Exception as error:
            self.failures.append(error)
            raise
