"""A speech model behind a realtime connection: the connection and its life.

`realtime.py` has the protocol, and the providers' own modules what is theirs. A connection that
drops, or that the provider ends after its hour, is made again and told what was said before, while
the user goes on talking.
"""

from __future__ import annotations

import asyncio
import json
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)

from ..config import Settings
from ..connecting import Connect, proxy_options
from ..errors import BackendError, KeyMissing, ProviderFailed, ProviderUnreachable
from . import provider_errors
from .base import (
    Backend,
    BackendEvent,
    Briefing,
    Failed,
    Reconnecting,
    Told,
    UserTranscript,
)
from .event_queue import EventQueue
from .kept_audio import KeptAudio
from .realtime import RealtimeProtocol
from .reconnect import FINAL_CLOSE_CODES, delays

__all__ = ["RealtimeBackend", "realtime_url"]

logger = logging.getLogger(__name__)
_wire_logger = logging.getLogger(f"{__name__}.wire")
_wire_logger.setLevel(logging.WARNING)  # at DEBUG it would log the handshake, with the key

OPEN_SECONDS = 10.0
"""How long connecting may take, in all."""
GREETING_SECONDS = 1.0
"""How long to wait for `session.updated` once the provider has greeted; some never send it."""
SHORT_LIFE_SECONDS = 5.0
MAX_SHORT_LIVES = 5
BACKLOG_SECONDS = 10
"""Captured audio that may wait for a provider that reads slowly."""
REPLY_SECONDS = 120
MAX_MESSAGE_BYTES = 32 << 20

INSTRUCTIONS = (
    "You are gptme, an assistant on the user's own computer, in a spoken conversation. Answer in "
    "the user's language, briefly, as one speaks: no lists, no markup, no code read aloud."
)


def realtime_url(base_url: str, arguments: Mapping[str, str]) -> str:
    """Return the WebSocket address of an API base: scheme, `/realtime` and query are added."""
    parts = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    if path.rsplit("/", 1)[-1] != "realtime":
        path += "/realtime"
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(arguments)
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))


class RealtimeBackend(Backend):
    """See the module.

    Args:
        settings: The plugin's settings.
        keys: API keys by name.
    """

    title: ClassVar[str]
    """The provider, as the user knows it."""
    key_name: ClassVar[str]
    """Of its API key."""
    default_model: ClassVar[str]
    renew_seconds: float
    """Age at which an idle connection is renewed, ahead of the provider's limit."""
    binary_output: ClassVar[bool] = False
    """Whether reply audio may come as binary frames."""

    def __init__(self, settings: Settings, keys: Mapping[str, str]) -> None:
        self.settings = settings
        self.model = settings.model or self.default_model
        self._key = keys.get(self.key_name, "")
        self._briefing = Briefing()
        self._protocol = RealtimeProtocol(
            self.session_settings, self.output_sample_rate, self._explain, self.binary_output
        )
        self._queue = EventQueue(REPLY_SECONDS * self.output_sample_rate * 2)
        self._kept = KeptAudio(self.input_sample_rate * 2)
        self._resend_taken = False
        self._commit_waits = False
        self._commits = 0
        self._connection: ClientConnection | None = None
        self._outbox: asyncio.Queue[dict[str, Any] | bytes] = asyncio.Queue()
        self._backlog = asyncio.Semaphore(BACKLOG_SECONDS * 50)
        self._life: asyncio.Task[None] | None = None
        self._opened_at = 0.0

    # What is the provider's own

    @abstractmethod
    def base_url(self) -> str:
        """Return the API's base address."""

    @abstractmethod
    def needs_key(self) -> bool:
        """Whether a connection without an API key is pointless."""

    @abstractmethod
    def query(self) -> dict[str, str]:
        """Return the query of the address."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate."""

    @abstractmethod
    def session_settings(self) -> dict[str, Any]:
        """Return the `session` of `session.update`."""

    def instructions(self) -> str:
        """Return what the model is told to be, and what it is to know."""
        own = self.settings.instructions or INSTRUCTIONS
        return "\n\n".join(filter(None, (own, self._briefing.instructions)))

    def tools(self) -> dict[str, Any]:
        """Return what tells a session of the functions the model may call."""
        functions = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            }
            for tool in self._briefing.tools
        ]
        return {"tools": functions, "tool_choice": "auto"} if functions else {}

    # The backend

    def brief(self, briefing: Briefing) -> None:
        """See `Backend.brief`."""
        self._briefing = briefing
        self._protocol.remember(briefing.history)

    async def instruct(self, instructions: str) -> None:
        """See `Backend.instruct`."""
        self._briefing = replace(self._briefing, instructions=instructions)
        self._protocol.instruct(self.instructions())
        self._flush()

    async def open(self) -> None:
        """Connect; see `Backend.open`.

        Raises:
            BackendError: One of its leaves tells what is wrong.
        """
        if not self._key and self.needs_key():
            raise KeyMissing(
                f"The {self.title} backend needs {self.key_name}; set it in gptme's config."
            )
        try:
            await asyncio.wait_for(self._connect(), OPEN_SECONDS)
        except asyncio.TimeoutError:
            raise ProviderUnreachable(
                f"{self.title} does not answer; check the network and try again."
            ) from None
        self._life = asyncio.create_task(self._live())

    async def send_audio(self, pcm: bytes) -> None:
        """See `Backend.send_audio`."""
        if self._connection is not None:
            await self._backlog.acquire()
        if self._connection is not None:
            self._kept.sent(pcm, self._protocol.user_speaking)
            self._outbox.put_nowait(self._protocol.append(pcm))
        else:
            self._kept.wait(pcm)

    async def commit(self) -> None:
        """See `Backend.commit`."""
        if self._connection is None:
            self._commit_waits = True
            return
        self._protocol.commit()
        self._flush()

    async def send_text(self, text: str) -> None:
        """See `Backend.send_text`."""
        await self.tell(Told("user", text), answer=True)

    async def tell(self, told: Told | None, answer: bool) -> None:
        """See `Backend.tell`."""
        if told is not None:
            self._protocol.tell(told)
        if answer:
            self._protocol.answer()
        self._flush()

    async def send_tool_output(self, call_id: str, output: str) -> None:
        """See `Backend.send_tool_output`."""
        self._protocol.tool_output(call_id, output)
        self._flush()

    async def interrupt(self, item_id: str | None, heard_ms: int) -> None:
        """See `Backend.interrupt`."""
        self._emit(self._protocol.interrupt(item_id, heard_ms))
        self._flush()

    async def events(self) -> AsyncIterator[BackendEvent]:
        """See `Backend.events`."""
        async for event in self._queue:
            yield event

    async def close(self) -> None:
        """See `Backend.close`."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        elif self._connection is not None:
            await self._connection.close()
        self._queue.close()

    def _emit(self, events: list[BackendEvent]) -> None:
        for event in events:
            self._queue.put(event)

    def _flush(self) -> None:
        # What was meant for a lost connection is told to the next by `take_up`.
        outgoing = self._protocol.take_outgoing()
        if self._connection is not None:
            for message in outgoing:
                self._outbox.put_nowait(message)

    # The connection

    async def _connect(self) -> None:
        """Connect and wait until the provider has taken our settings."""
        connection = await self._handshake()
        try:
            self._protocol.connected()
            for message in self._protocol.take_outgoing():
                await connection.send(_text(message))
            await self._wait_ready(connection)
        except ConnectionClosed as closed:
            error = self._closed_error(closed)
            raise error if _close_code(closed) in FINAL_CLOSE_CODES else _Again(error) from None
        except BaseException:
            await connection.close()
            raise
        self._protocol.take_up()
        self._outbox = asyncio.Queue()
        self._backlog = asyncio.Semaphore(BACKLOG_SECONDS * 50)
        self._connection = connection
        self._opened_at = asyncio.get_running_loop().time()
        # At once: nothing that is captured from now on may go ahead of it.
        self._resend()

    async def _handshake(self) -> ClientConnection:
        url = realtime_url(self.base_url(), self.query())
        try:
            return await Connect(
                url,
                additional_headers=self.headers(),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=OPEN_SECONDS,
                close_timeout=1.0,
                logger=_wire_logger,
                **proxy_options(url),
            )
        except InvalidStatus as refused:
            answer = refused.response
            error, final = provider_errors.from_status(
                self.title, self.key_name, self.model, answer.status_code, bytes(answer.body or b"")
            )
            raise error if final else _Again(error) from None
        except (InvalidProxy, ImportError) as exc:
            raise ProviderUnreachable(
                f"The proxy in the environment cannot be used to reach {self.title}: {exc:.120}"
            ) from None
        except InvalidURI:
            raise ProviderUnreachable(
                f"The address of {self.title} cannot be used; check '{self.name}_base_url'."
            ) from None
        except (OSError, InvalidHandshake, ConnectionClosed, asyncio.TimeoutError):
            raise _Again(
                ProviderUnreachable(
                    f"{self.title} cannot be reached; check the network and the address."
                )
            ) from None

    async def _wait_ready(self, connection: ClientConnection) -> None:
        while not self._protocol.ready:
            limit = GREETING_SECONDS if self._protocol.alive else OPEN_SECONDS
            try:
                frame = await asyncio.wait_for(connection.recv(), limit)
            except asyncio.TimeoutError:
                if self._protocol.alive:
                    return
                raise
            for event in self._take(frame):
                if isinstance(event, Failed) and event.fatal:
                    raise _told(event)
                self._queue.put(event)

    def _take(self, frame: str | bytes) -> list[BackendEvent]:
        if isinstance(frame, bytes):
            return self._protocol.receive_binary(frame)
        try:
            return self._protocol.receive(json.loads(frame))
        except (ValueError, RecursionError):
            self._protocol.unknown["(not JSON)"] += 1
            return []

    async def _live(self) -> None:
        try:
            short_lives = 0
            while True:
                final = await self._serve()
                if final is not None:
                    raise final
                age = asyncio.get_running_loop().time() - self._opened_at
                short_lives = short_lives + 1 if age < SHORT_LIFE_SECONDS else 0
                if short_lives > MAX_SHORT_LIVES:
                    raise ProviderUnreachable(
                        f"{self.title} ends every session at once; try again later."
                    )
                await self._renew()
        except BackendError as error:
            self._emit([Failed(error.code, error.message, True)])
        except Exception:
            logger.exception("The %s backend failed.", self.name)
            message = f"The connection to {self.title} failed; see the server's log."
            self._emit([Failed(ProviderFailed.code, message, True)])

    def _resend(self) -> None:
        """Send what was said before, then what was captured meanwhile or lost with the last one."""
        self._flush()
        for pcm in self._kept.resend(self._resend_taken):
            self._kept.sent(pcm, speaking=True)
            self._outbox.put_nowait(self._protocol.append(pcm))
        self._resend_taken = False
        if self._commit_waits:
            self._commit_waits = False
            self._protocol.commit()
        self._flush()

    async def _serve(self) -> BackendError | None:
        """Run a connection to its end; the error that is final, or None if it can be renewed."""
        connection = self._connection
        assert connection is not None
        sender = asyncio.create_task(self._send_out(connection))
        try:
            while True:
                await self._queue.room()
                try:
                    frame = await asyncio.wait_for(connection.recv(), self._until_renewal())
                except asyncio.TimeoutError:
                    if self._idle():
                        return None
                    continue
                events = self._take(frame)
                if self._protocol.commits != self._commits:
                    self._commits = self._protocol.commits
                    self._kept.committed()
                self._emit(events)
                self._flush()
                if any(isinstance(event, Failed) and event.fatal for event in events):
                    return _told(next(e for e in events if isinstance(e, Failed) and e.fatal))
        except ConnectionClosed as closed:
            code = _close_code(closed)
            logger.info("%s closed the connection (%d).", self.title, code)
            if code in FINAL_CLOSE_CODES:
                return self._closed_error(closed)
            return None
        finally:
            self._connection = None
            sender.cancel()
            with suppress(asyncio.CancelledError):
                await sender
            for _ in range(BACKLOG_SECONDS * 50):  # whoever waits for room has other plans now
                self._backlog.release()
            await connection.close()

    def _until_renewal(self) -> float:
        age = asyncio.get_running_loop().time() - self._opened_at
        return max(self.renew_seconds - age, 0.5)

    def _idle(self) -> bool:
        age = asyncio.get_running_loop().time() - self._opened_at
        return age >= self.renew_seconds and self._protocol.idle

    async def _send_out(self, connection: ClientConnection) -> None:
        outbox, backlog = self._outbox, self._backlog
        with suppress(ConnectionClosed):
            while True:
                message = await outbox.get()
                await connection.send(_text(message))
                if isinstance(message, bytes) or message["type"] == "input_audio_buffer.append":
                    backlog.release()

    async def _renew(self) -> None:
        """Connect again, with backoff, for half a minute."""
        # Words that went with the connection are said again.
        unwritten = self._protocol.forget_unwritten()
        if unwritten is not None:
            self._emit([UserTranscript(unwritten, "", True)])
        self._resend_taken = unwritten is not None
        self._emit([*self._protocol.lost(), Reconnecting(True)])
        last: BackendError = ProviderUnreachable(f"The connection to {self.title} was lost.")
        for delay in delays():
            await asyncio.sleep(delay)
            try:
                await asyncio.wait_for(self._connect(), OPEN_SECONDS)
            except _Again as again:
                last = again.error
            except asyncio.TimeoutError:
                pass
            else:
                self._emit([Reconnecting(False)])
                return
        raise last

    # Errors

    def _explain(self, code: str, message: str) -> tuple[BackendError, bool]:
        return provider_errors.from_error(self.title, self.key_name, self.model, code, message)

    def _closed_error(self, closed: ConnectionClosed) -> BackendError:
        reason = closed.rcvd.reason if closed.rcvd is not None else ""
        error, _ = self._explain("", reason or "it closed the connection")
        return error


class _Again(BackendError):
    """A failure that may be over in a moment."""

    def __init__(self, error: BackendError) -> None:
        super().__init__(error.message)
        self.code = error.code
        self.error = error


def _close_code(closed: ConnectionClosed) -> int:
    return closed.rcvd.code if closed.rcvd is not None else 1006


def _told(failed: Failed) -> BackendError:
    error = ProviderFailed(failed.message)
    error.code = failed.code
    return error


def _text(message: dict[str, Any] | bytes) -> str | bytes:
    return message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":"))
