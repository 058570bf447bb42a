"""Runs one voice session: the only place where browser, backend and timers meet.

Four tasks wait (for the client's frames, for room to write, for the backend to take audio, for its
events); everything that happens goes through the session core, whose effects are carried out here
at once and in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..backends import base
from ..errors import (
    BackendStalled,
    BadMessage,
    InternalError,
    NoUsableRate,
    VoiceError,
)
from . import events as core
from . import wire
from .link import Link
from .outbox import Outbox
from .recording import Recorder
from .session import STOCK_INPUT_RATE, STOCK_OUTPUT_RATE, Session
from .streams import CaptureStream, ReplyStream, design_filter
from .turn_writer import usage_counts
from .wire import Dialect

__all__ = ["Relay", "input_rate"]

logger = logging.getLogger(__name__)

OUTBOX_SECONDS = 120
"""Reply audio that may wait for a client before the backend has to."""
CAPTURE_FRAMES = 20 * 50
"""Captured frames of 20 ms that may wait for a backend before the client has to."""
STALL_SECONDS = 15.0
"""How long a client may be held back so. While it is, its leaving is not noticed and its answers to
pings are not read, so this is less than a ping may take."""
FRAME_BYTES = STOCK_OUTPUT_RATE // 5 * 2
"""The most audio in one frame to the client: 200 ms at the usual rate."""
FAREWELL_SECONDS = 0.5
"""How long the last messages of a session may take to be written."""
LAST_WORDS_SECONDS = 3.0
"""How long the user's last words may take to be written down, once the session is over."""
CLOSE_SECONDS = 5.0
"""How long a backend may take to close."""

INPUT_RATES = (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
"""Rates that clients may send, in hertz."""

_Call = Callable[[], Coroutine[Any, Any, None]]


def input_rate(hello: wire.Hello | None, backend_rate: int) -> int:
    """Return the rate the client is to capture at: the backend's own if the client can.

    Raises:
        NoUsableRate: Nothing of what it offers can be resampled.
    """
    if hello is None:
        return STOCK_INPUT_RATE
    offered = hello.input_sample_rates
    if not offered or backend_rate in offered:
        return backend_rate
    for rate in offered:
        if rate in INPUT_RATES:
            return rate
    raise NoUsableRate(
        f"None of the offered input_sample_rates can be used; offer one of "
        f"{', '.join(map(str, INPUT_RATES))}."
    )


class Relay:
    """One session on one accepted WebSocket.

    Args:
        websocket: The connection, accepted.
        session: The core of the session, not started.
        create_backend: Makes the backend for what the client asked in `hello`.
        create_link: Makes the link to its conversation, if the session has one; is told whether the
            backend thinks.
        record: Whether to record it, if it has one.
        on_timings: Called with a backend's name, and how long a turn's stages took.
    """

    def __init__(
        self,
        websocket: WebSocket,
        session: Session,
        create_backend: Callable[[wire.Hello | None], base.Backend],
        create_link: Callable[[Relay, wire.Hello | None, bool], Awaitable[Link]] | None = None,
        record: bool = False,
        on_timings: Callable[[str, base.Timings], None] = lambda *_: None,
    ) -> None:
        self.session = session
        self.over = asyncio.Event()
        """Set when nothing of it is left."""
        self._websocket = websocket
        self._create_backend = create_backend
        self._create_link = create_link
        self._link: Link | None = None
        self._pump: asyncio.Task[None] | None = None
        self._record = record
        self._on_timings = on_timings
        self._recorder: Recorder | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._outbox = Outbox(OUTBOX_SECONDS * STOCK_OUTPUT_RATE * 2)
        self._backend: base.Backend | None = None
        self._calls: asyncio.Queue[_Call] = asyncio.Queue()
        self._capture: CaptureStream | None = None
        self._backend_keeps_up = asyncio.Event()
        self._backend_keeps_up.set()
        self._hurried = asyncio.Event()
        self._closing: asyncio.Future[core.Close] = self._loop.create_future()
        self._client_gone = False

    async def run(self) -> None:
        """Serve the session to its end; never raises, and leaves nothing running."""
        self._start(self._read_client())
        writer = self._start(self._write_client())
        self._apply(self.session.start())
        try:
            close = await asyncio.shield(self._closing)
            await self._say_goodbye(writer, close)
        finally:
            try:
                await self._free()
            finally:
                self.over.set()

    def post(self, event: core.Event) -> None:
        """Let `event` happen to the session."""
        if isinstance(event, wire.Played) and self._recorder is not None:
            self._recorder.heard(event.samples)
        if self.session.over:
            self.session.overhear(event, self._loop.time())
            return
        try:
            effects = self.session.handle(event, self._loop.time())
        except Exception:
            logger.exception("The session core failed on %s.", type(event).__name__)
            effects = self.session.handle(core.Fault(InternalError()), self._loop.time())
        self._apply(effects)

    def stop(self) -> None:
        """End the session because the server is going down, and waste no time with it."""
        self._hurried.set()
        self.post(core.Stopping())

    def instruct(self, instructions: str) -> None:
        """Give the model other instructions."""
        if self._backend is not None:
            self._call(partial(self._backend.instruct, instructions))

    @property
    def backend_name(self) -> str:
        """The backend's name; empty as long as there is none."""
        return self._backend.name if self._backend is not None else ""

    @property
    def turns(self) -> Mapping[str, int]:
        """How many turns were spoken, by role."""
        return self._link.turns if self._link is not None else {}

    # Effects

    def _apply(self, effects: list[core.Effect]) -> None:
        for effect in effects:
            match effect:
                case core.Send(message):
                    text = wire.encode(message, self.session.dialect)
                    if text is not None:
                        self._outbox.put(text)
                case core.SendAudio(_, pcm):
                    self._outbox.put(pcm)
                    if self._recorder is not None:
                        self._recorder.sent(pcm)
                case core.Flush():
                    self._outbox.drop_audio()
                    if self._recorder is not None and self.session.playback is not None:
                        playback = self.session.playback
                        at = playback.position(self._loop.time())
                        self._recorder.cleared(at, playback.sent)
                case core.Forward(pcm):
                    self._forward(pcm)
                case core.CommitTurn():
                    self._commit()
                case core.TypeText(text):
                    self._call(partial(self._opened.send_text, text))
                case core.InterruptReply(item_id, heard_ms):
                    self._call(partial(self._opened.interrupt, item_id, heard_ms))
                case core.CallTool(call, answers):
                    if self._link is not None:
                        self._link.call(call, answers)
                    else:  # it was given none
                        logger.warning("The speech model called %.100r.", call.name)
                case core.AnswerTool(call_id, output):
                    self._call(partial(self._opened.send_tool_output, call_id, output))
                case core.TellModel(told, answer):
                    self._call(partial(self._opened.tell, told, answer))
                case core.WriteTurns(turns):
                    assert self._link is not None
                    self._link.write(turns)
                case core.StartTimer(name, seconds):
                    self._stop_timer(name)
                    self._timers[name] = self._loop.call_later(seconds, self._fire, name)
                case core.StopTimer(name):
                    self._stop_timer(name)
                case core.OpenBackend(hello):
                    self._start(self._open_backend(hello))
                case core.Close(code):
                    if code != 1000:
                        # Why it ends is not to wait behind a reply that nobody will hear.
                        self._outbox.drop_audio()
                    if not self._closing.done():
                        self._closing.set_result(effect)

    @property
    def _opened(self) -> base.Backend:
        assert self._backend is not None
        return self._backend

    def _forward(self, pcm: bytes) -> None:
        assert self._capture is not None
        for frame in self._capture.push(pcm):
            if self._recorder is not None and self.session.playback is not None:
                self._recorder.captured(frame, self.session.playback.position(self._loop.time()))
            self._call(partial(self._opened.send_audio, frame))

    def _commit(self) -> None:
        assert self._capture is not None
        if rest := self._capture.rest():
            self._call(partial(self._opened.send_audio, rest))
        self._call(self._opened.commit)

    def _call(self, call: _Call) -> None:
        self._calls.put_nowait(call)
        if self._calls.qsize() > CAPTURE_FRAMES:
            self._backend_keeps_up.clear()

    def _fire(self, name: str) -> None:
        self._timers.pop(name, None)
        self.post(core.TimerFired(name))

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # Tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except WebSocketDisconnect as gone:
            self._client_gone = True
            self.post(core.ClientGone(gone.code, gone.reason))
        except VoiceError as error:
            self.post(core.Fault(error))
        except Exception:
            logger.exception("A voice session failed.")
            self.post(core.Fault(InternalError()))

    async def _read_client(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"], message.get("reason"))
            pcm = message.get("bytes")
            if pcm is not None:
                self.post(core.ClientAudio(pcm))
            else:
                try:
                    parsed = wire.parse_client_message(message["text"], self.session.dialect)
                except BadMessage as error:
                    self.post(core.Fault(error))
                else:
                    if parsed is not None:
                        self.post(parsed)
            await self._wait_for_backend()

    async def _wait_for_backend(self) -> None:
        """Hold the client back while the backend has too much to take."""
        if self._backend_keeps_up.is_set():
            return
        try:
            await asyncio.wait_for(self._backend_keeps_up.wait(), STALL_SECONDS)
        except asyncio.TimeoutError:
            raise BackendStalled(
                "The speech backend takes no more audio; start the session again."
            ) from None

    async def _write_client(self) -> None:
        while True:
            frame = await self._outbox.get()
            try:
                if isinstance(frame, str):
                    await self._websocket.send_text(frame)
                else:
                    await self._websocket.send_bytes(frame)
            except RuntimeError:
                return  # closed for a frame that breaks the protocol; the reader is told which
            self._outbox.written()

    async def _open_backend(self, hello: wire.Hello | None) -> None:
        backend = self._backend = self._create_backend(hello)
        if self._create_link is not None and backend.converses:
            self._link = await self._create_link(self, hello, backend.thinks)
            backend.brief(await self._link.brief())
            if self._link.answers is not None:
                backend.answer_with(self._link.answers)
        backend.on_preparing = self.post
        await backend.open()
        client_rate = input_rate(hello, backend.input_sample_rate)
        output_rate = backend.output_sample_rate
        if self.session.dialect is Dialect.STOCK:
            output_rate = STOCK_OUTPUT_RATE
        await design_filter(client_rate, backend.input_sample_rate)
        await design_filter(backend.output_sample_rate, output_rate)
        self._capture = CaptureStream(client_rate, backend.input_sample_rate)
        replies = ReplyStream(backend.output_sample_rate, output_rate)
        if self._record and self._link is not None:
            await design_filter(backend.input_sample_rate, output_rate)
            self._recorder = self._link.recorder(backend.input_sample_rate, output_rate)
        self.post(
            core.BackendReady(
                client_rate,
                output_rate,
                backend.name,
                backend.model,
                backend.features,
                recording=self._recorder is not None,
                writes=self._link is not None,
                hint=backend.hint,
            )
        )
        if self._link is not None:
            self._link.start(backend.name, backend.model)
        self._start(self._feed_backend())
        self._pump = self._start(self._pump_backend(backend, replies))

    async def _feed_backend(self) -> None:
        while True:
            call = await self._calls.get()
            if self._calls.qsize() <= CAPTURE_FRAMES:
                self._backend_keeps_up.set()
            await call()

    async def _pump_backend(self, backend: base.Backend, replies: ReplyStream) -> None:
        async for event in backend.events():
            await self._outbox.room()
            if isinstance(event, base.Audio):
                pcm = replies.push(event.item_id, event.pcm)
                # Small frames: what a clear comes too late for is then short, however much the
                # backend makes at once.
                for start in range(0, len(pcm), FRAME_BYTES):
                    self.post(base.Audio(event.item_id, pcm[start : start + FRAME_BYTES]))
                continue
            if isinstance(event, base.Timings):
                self._on_timings(backend.name, event)
                continue
            if isinstance(event, base.ReplyDone) and (tail := replies.finish(event.item_id)):
                self.post(base.Audio(event.item_id, tail))
            self.post(event)
        self.post(core.BackendClosed())

    # The end

    async def _say_goodbye(self, writer: asyncio.Task[None], close: core.Close) -> None:
        if self._client_gone:
            return
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(), FAREWELL_SECONDS)
        writer.cancel()
        with suppress(WebSocketDisconnect, RuntimeError, asyncio.TimeoutError):
            await asyncio.wait_for(
                self._websocket.close(close.code, close.reason), FAREWELL_SECONDS
            )

    async def _drain(self) -> None:
        while len(self._outbox) and not self._client_gone:
            await asyncio.sleep(0.01)

    async def _last_words(self, link: Link) -> None:
        """Wait for what the user has said last, and write down what is left."""
        transcript = self.session.transcript
        deadline = self._loop.time() + LAST_WORDS_SECONDS
        while transcript.awaits_words and self._loop.time() < deadline:
            if self._pump is None or self._pump.done() or self._hurried.is_set():
                break
            await asyncio.sleep(0.05)
        if turns := transcript.finish():
            link.write(tuple(turns))

    async def _free(self) -> None:
        """Give everything back, whatever of it fails."""
        link = self._link
        if link is not None:
            await self._tidy("last words", self._last_words(link))
        for name in list(self._timers):
            self._stop_timer(name)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            if stuck:
                logger.error("%d tasks of a voice session do not end.", len(stuck))
        ends = []
        if self._backend is not None:
            ends.append(self._tidy(f"{self._backend.name} backend", self._backend.close()))
        if self._recorder is not None:
            ends.append(self._tidy("recording", asyncio.to_thread(self._recorder.close)))
        if link is not None:
            usage = usage_counts(self.session.transcript.usage)
            close = link.close(self.session.end_reason, usage, self._hurried.is_set())
            ends.append(self._tidy("link", close, 4 * CLOSE_SECONDS))
        await asyncio.gather(*ends)

    async def _tidy(
        self, what: str, work: Coroutine[Any, Any, None], seconds: float = CLOSE_SECONDS
    ) -> None:
        try:
            await asyncio.wait_for(work, seconds)
        except Exception:
            logger.exception("The %s of a voice session did not end cleanly.", what)
