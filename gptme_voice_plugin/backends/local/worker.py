"""A worker process, seen from the voice process: requests in turn, answers, one life or several.

Several sessions share one. Whoever asks waits until those before are done; whoever stops waiting
leaves the line. A process that dies, or does not answer, is started again with the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from ... import errors
from ...errors import SpeechFailed, VoiceError
from ..base import Preparing
from . import packets
from .stages import Report

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
ANSWER_SECONDS = 120.0
"""How long an answer may take; far more than any that somebody would wait for."""
OPEN_SECONDS = 600.0
"""How long it may get ready without a word of how far it is."""
REPEAT_SECONDS = 5.0
"""How often it is told how far it is: a large model on a slow line says nothing for long."""

_PACKAGE = Path(__file__).resolve().parents[2]

_Answer = tuple[dict[str, Any], bytes]


class Worker:
    """One process.

    Args:
        module: What it runs.
        opening: The request that gets it ready.
        patience: How long an answer may take, in seconds.
        opening_patience: How long it may get ready without telling how far it is.
    """

    def __init__(
        self,
        module: str,
        opening: dict[str, Any],
        patience: float = ANSWER_SECONDS,
        opening_patience: float = OPEN_SECONDS,
    ) -> None:
        self._module = module
        self._opening = opening
        self._patience = patience
        self._opening_patience = opening_patience
        self._process: asyncio.subprocess.Process | None = None
        self._facts: dict[str, Any] = {}
        self._turn = asyncio.Lock()  # in the order they came
        self._exchanges: set[asyncio.Task[_Answer]] = set()
        self._reports: list[Report] = []
        self._progress: Preparing | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether another request would have to wait."""
        return self._turn.locked()

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def open(self, report: Report) -> dict[str, Any]:
        """Get it ready, if it is not, and return what it says of itself.

        Raises:
            VoiceError: What it says is wrong; `SpeechFailed`: it died, or does not answer.
        """
        if self._progress is not None:  # somebody has it got ready already
            report(self._progress)
        self._reports.append(report)
        try:
            facts, _ = await self._in_turn(self._ready())
        finally:
            self._reports.remove(report)
        return facts

    async def ask(self, request: dict[str, Any], payload: bytes = b"") -> _Answer:
        """Return the answer to a request.

        Raises:
            VoiceError: As `open`.
        """
        return await self._in_turn(self._ask(request, payload))

    async def close(self) -> None:
        """End it; who still waits gets `SpeechFailed`."""
        self._closed = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()  # it ends at once, and so does what is asked of it
        stuck = set(self._exchanges)
        if stuck:
            _, stuck = await asyncio.wait(stuck, timeout=CLOSE_SECONDS)
        if stuck and process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if stuck:
            _, stuck = await asyncio.wait(stuck, timeout=2 * CLOSE_SECONDS)
        for task in stuck:
            task.cancel()
        await self._end()

    async def _in_turn(self, exchange: Coroutine[Any, Any, _Answer]) -> _Answer:
        try:
            await self._turn.acquire()
        except BaseException:
            exchange.close()
            raise
        # Answers come in the order of the requests: one that was begun is seen to its end, also
        # if nobody waits for it any more.
        task = asyncio.create_task(exchange)
        self._exchanges.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[_Answer]) -> None:
        self._turn.release()
        self._exchanges.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it gets it; nobody may

    async def _ask(self, request: dict[str, Any], payload: bytes) -> _Answer:
        await self._ready()
        return await self._exchange(request, payload, self._patience)

    async def _ready(self) -> _Answer:
        if not self._closed and self.pid is None:
            await self._end()
            await self._start()
        if self._closed:
            await self._end()
            raise SpeechFailed("The local backend has ended; start the session again.")
        return self._facts, b""

    async def _start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                # -m puts the current folder first on the path: this finds the package, however the
                # parent has found it, and nothing of a user's workspace stands in for a module.
                cwd=_PACKAGE.parent,
                # Ctrl-C in a terminal is not for it.
                start_new_session=True,
            )
        except OSError as exc:
            raise SpeechFailed(
                "A process of the local backend cannot be started "
                f"({exc.strerror or type(exc).__name__}); see that the machine has room for it."
            ) from exc
        if self._closed:
            return
        repeating = asyncio.create_task(self._repeat())
        try:
            self._facts, _ = await self._exchange(self._opening, b"", self._opening_patience)
        except VoiceError:
            # One that could not get ready is of no use, and may with the next try.
            await self._end()
            raise
        finally:
            repeating.cancel()
            self._progress = None

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_SECONDS)
            self._tell(self._progress or Preparing("Starting the local backend"))

    async def _exchange(self, request: dict[str, Any], payload: bytes, patience: float) -> _Answer:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(packets.pack(request, payload))
            await asyncio.wait_for(process.stdin.drain(), patience)
            while True:
                message, data = await asyncio.wait_for(_read(process.stdout), patience)
                if "preparing" not in message:
                    break
                self._tell(Preparing(message["preparing"], message["share"]))
        except BaseException as exc:
            # What comes now is no answer to anybody's request.
            status = await self._end()
            if self._closed or isinstance(exc, asyncio.CancelledError):
                if isinstance(exc, Exception):
                    raise SpeechFailed(
                        "The local backend has ended; start the session again."
                    ) from exc
                raise
            if isinstance(exc, asyncio.TimeoutError):
                logger.error("%s has not answered for %g s; it was ended.", self._module, patience)
                raise SpeechFailed(
                    "A process of the local backend did not answer and was ended; say it again, or "
                    "set a smaller model if it goes on."
                ) from exc
            if isinstance(exc, (OSError, EOFError, ValueError)):
                logger.error("%s ended with status %s.", self._module, status)
                raise SpeechFailed(
                    "A process of the local backend ended unexpectedly; say it again, and see the "
                    "server's log if it goes on."
                ) from exc
            raise
        if "error" in message:
            raise _error(message)
        return message, data

    def _tell(self, progress: Preparing) -> None:
        self._progress = progress
        for report in list(self._reports):
            report(progress)

    async def _end(self) -> int | None:
        """End the process, if there is one, and return how it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.stdin is not None:
            process.stdin.close()
        try:
            return await asyncio.wait_for(_ended(process), CLOSE_SECONDS)
        except BaseException as exc:  # also if nobody waits for its end any more
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            status = await _ended(process)
            if isinstance(exc, asyncio.TimeoutError):
                return status
            raise


async def _ended(process: asyncio.subprocess.Process) -> int:
    # Waiting for it alone could take for ever: a pipe that is full is not noticed to be closed.
    if process.stdout is not None:
        with contextlib.suppress(OSError):
            await process.stdout.read()
    return await process.wait()


async def _read(stream: asyncio.StreamReader) -> _Answer:
    length = await stream.readexactly(packets.LENGTH.size)
    header = await stream.readexactly(packets.header_size(length))
    message, size = packets.parse(header)
    return message, await stream.readexactly(size)


def _error(message: dict[str, Any]) -> VoiceError:
    kind = getattr(errors, str(message["error"]), None)
    if not (isinstance(kind, type) and issubclass(kind, VoiceError)):
        kind = SpeechFailed
    error: VoiceError = kind(str(message["message"]))
    return error
