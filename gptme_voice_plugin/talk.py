"""A voice session from a file: what `gptme-voice talk` does.

A `gptme.voice.v1` client that speaks in real time, as a person would, and goes on with silence
until it has been answered. It has no loudspeaker: what has arrived counts as heard, so it reports
`played` for everything that comes, and a `clear` finds nothing to drop.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from socket import gaierror
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)
from websockets.typing import Subprotocol

from . import __version__
from .address import TOKEN_VARIABLE, Address
from .audio.wav import Recording
from .characters import printable
from .connecting import Connect, proxy_options
from .errors import BadMessage, VoiceError
from .voice import wire

__all__ = ["Progress", "Said", "Talk", "TalkFailed"]

CONNECT_SECONDS = 25.0
"""More than the server gives its voice process to start, which the first session may wait for."""
READY_SECONDS = 30.0
"""More than the server gives a backend, so that its own sentence comes first."""
CLOSE_SECONDS = 2.0
NO_SPEECH_SECONDS = 5.0
"""If no speech was noticed so long after the question, it will not be."""
SETTLE_SECONDS = 1.0
"""How long nothing may happen before an answer counts as whole."""
FRAME_SECONDS = 0.02

Progress = Callable[[str, float], None]
"""Called now and then with what goes on and how far it is: `speaking`, `waiting` or `answer` with
seconds, what the server has to do first with a share from 0 to 1."""


class TalkFailed(VoiceError):
    """The session did not bring an answer."""

    code = "talk_failed"


@dataclass
class Said:
    """Something that was said, in the newest wording known."""

    role: str
    text: str
    final: bool


class Talk:
    """One session; use once.

    Args:
        address: Where the server is.
        token: Its token, if it wants one.
        question: What to say.
        timeout: Seconds without any news, after the question, until giving up.
        progress: See `Progress`.
        conversation_id: The conversation to talk in; None: a new one.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        question: Recording,
        timeout: float,
        progress: Progress = lambda stage, seconds: None,
        conversation_id: str | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._question = question
        self._timeout = timeout
        self._progress = progress
        self.conversation_id = conversation_id
        """Where it was written, if it was."""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[wire.Ready] = self._loop.create_future()
        self._items: dict[str, Said] = {}
        self._audio = bytearray()
        self._position = 0
        self._reports: list[int] = []
        self._state = "listening"
        self._user_speaking = False
        self._gptme_works = False
        self._noticed = False
        self._answered = False
        self._error: wire.ErrorMessage | None = None
        self._last_news = 0.0
        self._question_end: float | None = None
        self.notes: list[str] = []
        """What the server complained about without ending the session."""
        self.sample_rate = 0
        """Rate of the answer in hertz."""
        self.backend = ""
        """Backend and model that answered."""
        self.delay: float | None = None
        """Seconds from the question's end to the answer's first sound; None if that came before."""

    @property
    def said(self) -> list[Said]:
        """What was said so far, in order."""
        return list(self._items.values())

    @property
    def answer(self) -> bytes:
        """The audio that came, PCM16 LE mono."""
        return bytes(self._audio)

    @property
    def answer_seconds(self) -> float:
        """How long the answer is."""
        return len(self._audio) / 2 / self.sample_rate if self.sample_rate else 0.0

    async def run(self) -> None:
        """Speak, and collect the answer.

        Raises:
            TalkFailed: No answer came; the message says why and what to do.
        """
        websocket = await self._connect()
        reader = asyncio.create_task(self._read(websocket))
        try:
            hello = wire.Hello(
                client=f"gptme-voice talk {__version__}", conversation_id=self.conversation_id
            )
            await websocket.send(wire.encode(hello) or "")
            ready = await self._until_ready(reader)
            pcm = await asyncio.to_thread(self._question.pcm16, ready.input_sample_rate)
            await self._converse(websocket, reader, pcm.tobytes(), ready.input_sample_rate)
        except ConnectionClosed:
            # The server may have said why before it closed: let that be read.
            await asyncio.wait({reader}, timeout=CLOSE_SECONDS)
            raise self._ended_early(websocket) from None
        finally:
            await _leave(websocket, reader)
        if not self._audio:
            raise TalkFailed("The answer was text only, so there is no audio to write.")

    # The connection

    async def _connect(self) -> ClientConnection:
        shown = self._address.websocket
        options = proxy_options(self._address.target)
        if self._token:
            options["additional_headers"] = {"Authorization": f"Bearer {self._token}"}
        try:
            websocket = await Connect(
                self._address.target,
                subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
                compression=None,
                open_timeout=CONNECT_SECONDS,
                close_timeout=CLOSE_SECONDS,
                **options,
            )
        except InvalidStatus as error:
            body = error.response.body or b""
            raise self._refused(error.response.status_code, bytes(body)) from None
        except (asyncio.TimeoutError, TimeoutError):
            raise TalkFailed(f"{shown} did not answer within {CONNECT_SECONDS:.0f} s.") from None
        except (InvalidHandshake, EOFError, ConnectionClosed, ValueError):
            raise TalkFailed(f"What answers at {shown} is not a voice server.") from None
        except ssl.SSLError as error:
            raise TalkFailed(
                f"No secure connection to {shown}: {error.reason or 'TLS failed'}."
            ) from None
        except gaierror:
            raise TalkFailed(f"The host of {shown} is not known.") from None
        except OSError:
            raise TalkFailed(
                f"Nothing answers at {shown}; start the server with: gptme-voice serve"
            ) from None
        except WebSocketException as error:
            raise TalkFailed(f"{shown} cannot be reached: {printable(str(error))}.") from None
        if websocket.subprotocol != wire.SUBPROTOCOL:
            await websocket.close()
            raise TalkFailed(f"{shown} is a WebSocket, but does not speak {wire.SUBPROTOCOL}.")
        return websocket

    def _refused(self, status: int, body: bytes) -> TalkFailed:
        shown = self._address.websocket
        said = _error_text(body)
        if status == 401 and self._token:
            return TalkFailed(
                f"{shown} did not accept the token; give the right one with --token or "
                f"{TOKEN_VARIABLE}."
            )
        if status == 401:
            return TalkFailed(
                f"{shown} wants a token; give the one that gptme-server printed at its start with "
                f"--token or {TOKEN_VARIABLE}."
            )
        if status == 403:
            return TalkFailed(f"{shown} refused this client: {said or 'no reason was given.'}")
        if status in (200, 400, 404, 405):
            return TalkFailed(
                f"There is no voice at {shown} (it answered {status}); is gptme-voice-plugin "
                "installed and switched on next to that gptme-server?"
            )
        return TalkFailed(f"{shown} answered {status}{': ' + said if said else '.'}")

    async def _until_ready(self, reader: asyncio.Task[None]) -> wire.Ready:
        either: set[asyncio.Future[Any]] = {self._ready, reader}
        self._last_news = self._loop.time()
        # What the server must fetch first may take long; it says how far it is.
        while (left := self._last_news + READY_SECONDS - self._loop.time()) > 0:
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if any(future.done() for future in either):
                break
        if self._ready.done():
            return self._ready.result()
        if reader.done():
            reader.result()
        raise TalkFailed(f"The session was not ready within {READY_SECONDS:.0f} s.")

    def _ended_early(self, websocket: ClientConnection) -> TalkFailed:
        if self._error is not None:
            return TalkFailed(printable(self._error.message))
        code = websocket.close_code
        if code is None or code == 1006:
            return TalkFailed("The connection to the server was lost.")
        reason = printable(websocket.close_reason or "")
        return TalkFailed(
            f"The server closed the session early ({code}){': ' + reason if reason else '.'}"
        )

    # What is sent

    async def _converse(
        self, websocket: ClientConnection, reader: asyncio.Task[None], pcm: bytes, sample_rate: int
    ) -> None:
        size = round(sample_rate * FRAME_SECONDS) * 2
        silence = bytes(size)
        frames: Iterator[bytes] = (
            pcm[at : at + size].ljust(size, b"\0") for at in range(0, len(pcm), size)
        )
        started = self._last_news = self._loop.time()
        sent = 0
        while not self._is_over(self._loop.time()):
            if reader.done():
                reader.result()
            frame = next(frames, None)
            if frame is None and self._question_end is None:
                self._question_end = self._loop.time()
            await websocket.send(silence if frame is None else frame)
            reports, self._reports = self._reports, []
            for samples in reports:
                await websocket.send(wire.encode(wire.Played(samples)) or "")
            sent += 1
            self._show_progress(sent)
            await asyncio.sleep(started + sent * FRAME_SECONDS - self._loop.time())

    def _is_over(self, now: float) -> bool:
        if self._question_end is None:
            return False
        quiet = now - max(self._last_news, self._question_end)
        waiting = self._user_speaking or self._gptme_works or self._state != "listening"
        if self._answered and not waiting:
            return quiet >= SETTLE_SECONDS
        if not self._noticed and not waiting and quiet >= min(NO_SPEECH_SECONDS, self._timeout):
            raise TalkFailed("No speech was noticed in the file; is it loud enough?")
        if quiet >= self._timeout:
            what = "The answer stopped coming" if self._audio else "No answer came"
            raise TalkFailed(f"{what} for {self._timeout:g} s; --timeout allows for more.")
        return False

    def _show_progress(self, sent: int) -> None:
        if self._question_end is None:
            self._progress("speaking", sent * FRAME_SECONDS)
        elif self._audio:
            self._progress("answer", self.answer_seconds)
        else:
            self._progress("waiting", self._loop.time() - self._question_end)

    # What comes

    async def _read(self, websocket: ClientConnection) -> None:
        """Take in what comes; ends by raising `TalkFailed` or `ConnectionClosed`."""
        while True:
            frame = await websocket.recv()
            if isinstance(frame, bytes):
                self._take_audio(frame)
                continue
            try:
                message = wire.parse_server_message(frame)
            except BadMessage:
                raise TalkFailed("The server sent something that is no voice message.") from None
            if message is not None:
                self._take(message)

    def _take_audio(self, frame: bytes) -> None:
        now = self._last_news = self._loop.time()
        if not self._audio and self._question_end is not None:
            self.delay = now - self._question_end
        self._audio += frame
        self._position += len(frame) // 2
        self._answered = True
        self._reports.append(self._position)

    def _take(self, message: wire.ServerMessage) -> None:
        if not isinstance(message, (wire.Usage, wire.SessionEnding)):
            self._last_news = self._loop.time()
        match message:
            case wire.Ready():
                self._take_ready(message)
            case wire.StateMessage(state):
                self._state = state
            case wire.Preparing(what, share):
                self._progress(printable(what), share or 0.0)
            case wire.SpeechStarted():
                self._noticed = self._user_speaking = True
            case wire.SpeechStopped():
                self._user_speaking = False
            case wire.Transcript():
                said = Said(message.role, printable(message.text), message.final)
                self._items[message.item_id] = said
                self._answered = self._answered or (message.role == "assistant" and message.final)
            case wire.Reply(_, from_sample):
                self._position = from_sample
            case wire.Clear(at_sample):
                # First where it fell silent, then where it goes on.
                self._reports += [self._position, at_sample]
                self._position = at_sample
            case wire.Conversation(conversation_id):
                self.conversation_id = conversation_id
            case wire.ToolStatus(_, status, text):
                self._gptme_works = status in ("working", "confirm")
                if status == "confirm":
                    self.notes.append(f"gptme asks for permission, in the web UI: {text}")
            case wire.ErrorMessage():
                if message.fatal:
                    self._error = message
                else:
                    self.notes.append(printable(message.message))
            case _:
                pass

    def _take_ready(self, ready: wire.Ready) -> None:
        for rate in (ready.input_sample_rate, ready.output_sample_rate):
            if not isinstance(rate, int) or not 8_000 <= rate <= 192_000:
                raise TalkFailed("The server wants a sample rate that cannot be used.")
        self.sample_rate = ready.output_sample_rate
        names = dict.fromkeys([str(ready.backend), str(ready.model)])
        self.backend = printable(" ".join(name for name in names if name))
        if not self._ready.done():
            self._ready.set_result(ready)


async def _leave(websocket: ClientConnection, reader: asyncio.Task[None]) -> None:
    """End the session politely, in bounded time, whatever has happened to it."""
    with suppress(ConnectionClosed, asyncio.TimeoutError):
        await asyncio.wait_for(websocket.send(wire.encode(wire.End()) or ""), CLOSE_SECONDS)
    await websocket.close()
    reader.cancel()
    await asyncio.wait({reader})
    if not reader.cancelled():
        reader.exception()


def _error_text(body: bytes) -> str:
    try:
        data = json.loads(body)
    except ValueError:
        return ""
    text = data.get("error") if isinstance(data, dict) else None
    return printable(text) if isinstance(text, str) else ""
