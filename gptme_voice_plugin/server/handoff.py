"""Hands accepted sockets to the voice process, and looks after that process.

A WSGI server owns the socket it hands us and will shut it down and close it. So the voice process
gets a copy, and a dead socket is put in the place of the original: the WSGI thread is free at once.
One more copy stays here, unused, for two moments: if the voice process dies before it has taken the
connection, the next one gets it; if it dies later, the client can still be told why.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import metrics
from ..channel import CAN_PASS_SOCKETS, Adopt, Adopted, Closed, Ended, Timed, receive, send
from ..errors import ServerStopping, VoiceError, close_reason

__all__ = ["VoiceLost", "VoiceProcess", "VoiceUnavailable", "Workings"]

logger = logging.getLogger(__name__)

ADOPT_SECONDS = 20.0
"""How long the voice process may take to take a connection, its own start included."""
SEND_SECONDS = 5.0
EXIT_SECONDS = 4.0
ATTEMPTS = 3

_PACKAGE = Path(__file__).resolve().parents[1]


class VoiceLost(VoiceError):
    """The voice process died under a session."""

    code = "voice_process_lost"


class VoiceUnavailable(VoiceError):
    """The voice process cannot be started."""

    code = "voice_process_unavailable"


@dataclass(frozen=True)
class Workings:
    """What runs, for `GET /api/v2/voice/status`; `tasks` is as of the last session's end."""

    running: bool
    isolation: str
    pid: int | None = None
    sessions: int = 0
    tasks: int = 0


@dataclass
class _Connection:
    """A connection that was handed over."""

    sock: socket.socket
    settled: threading.Event = field(default_factory=threading.Event)
    """Set once it is adopted, or never will be."""
    adopted: bool = False
    ended: threading.Event = field(default_factory=threading.Event)


class VoiceProcess:
    """The voice process of this server; started when it is needed, and again if it dies.

    Args:
        threaded: Run it as a thread of this process instead.
    """

    def __init__(self, threaded: bool = not CAN_PASS_SOCKETS) -> None:
        self.threaded = threaded
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._pid = os.getpid()
        self._ids = itertools.count(1)
        atexit.register(self.stop)
        metrics.follow(lambda: self.workings().sessions)

    def prepare(self) -> None:
        """Start it in the background, so that the first session need not wait for it."""
        threading.Thread(target=self._prepare, name="gptme-voice-start", daemon=True).start()

    def _prepare(self) -> None:
        try:
            self._current()
        except VoiceError as error:
            logger.warning("%s", error.message)

    def hand_off(self, sock: socket.socket, offer: Adopt) -> Callable[[], None]:
        """Give the connection `sock` away.

        Returns:
            What must be called before the WSGI server gets `sock` back.

        Raises:
            VoiceUnavailable: Nobody took it; `sock` can still be answered.
        """
        connection = _Connection(sock.dup())
        try:
            for _ in range(ATTEMPTS):
                run = self._current()
                if run.adopt(replace(offer, id=next(self._ids)), connection):
                    return lambda: _release(sock, connection)
        except VoiceUnavailable:
            connection.sock.close()
            raise
        connection.sock.close()
        raise VoiceUnavailable("The voice process does not start; see the server's log.")

    def workings(self) -> Workings:
        """Say what runs."""
        isolation = "thread" if self.threaded else "process"
        run = self._run
        if run is None or run.dead or self._pid != os.getpid():
            return Workings(False, isolation)
        return Workings(True, isolation, run.pid, run.sessions, run.tasks)

    def stop(self) -> None:
        """End all sessions and the process; another start is possible."""
        with self._lock:
            run, self._run = self._run, None
        if run is not None and self._pid == os.getpid():
            run.stop()

    def _current(self) -> _Run:
        with self._lock:
            if self._pid != os.getpid():  # forked since: the process belongs to the parent
                self._run, self._pid = None, os.getpid()
            if self._run is None or self._run.dead:
                self._run = _ThreadRun() if self.threaded else _ProcessRun()
            return self._run


class _Run:
    """One life of the voice process, from start to end."""

    pid: int | None = None

    def __init__(self) -> None:
        self.dead = False
        self.sessions = 0
        self.tasks = 0
        self._stopping = False
        self._send_lock = threading.Lock()
        self._connections_lock = threading.Lock()
        self._connections: dict[int, _Connection] = {}
        self._down, their_down = socket.socketpair()
        self._up, their_up = socket.socketpair()
        self._down.settimeout(SEND_SECONDS)
        try:
            self._begin(their_down, their_up)
        except OSError as exc:
            self._down.close()
            self._up.close()
            raise VoiceUnavailable(f"The voice process does not start: {exc.strerror}.") from exc
        threading.Thread(target=self._read, name="gptme-voice-channel", daemon=True).start()

    def adopt(self, offer: Adopt, connection: _Connection) -> bool:
        """Hand a connection over; False if this run died before it took it."""
        with self._connections_lock:
            if self.dead:
                return False
            connection.settled.clear()
            self._connections[offer.id] = connection
        try:
            with self._send_lock:
                self._send(offer, connection.sock)
        except OSError:
            self._end()
        if not connection.settled.wait(ADOPT_SECONDS):
            logger.error("The voice process does not answer and is ended.")
            self._end()
            connection.settled.wait(EXIT_SECONDS)
        return connection.adopted

    def stop(self) -> None:
        """End the run in good order."""
        self._stopping = True
        with suppress(OSError):
            self._down.shutdown(socket.SHUT_RDWR)
        self._wait()

    def _read(self) -> None:
        while (received := receive(self._up)) is not None:
            message, _ = received
            if isinstance(message, Adopted):
                self.sessions += 1
                self._settle(message.id, True)
            elif isinstance(message, Closed):
                self.sessions, self.tasks = message.sessions, message.tasks
                self._forget(message.id)
            elif isinstance(message, Timed):
                metrics.time(message)
            elif isinstance(message, Ended):
                metrics.count(message)
        with self._connections_lock:
            self.dead = True
        for id in list(self._connections):
            self._lose(id)
        self._wait()
        self._up.close()
        self._down.close()

    def _settle(self, id: int, adopted: bool) -> None:
        connection = self._connections.get(id)
        if connection is not None:
            connection.adopted = adopted
            connection.settled.set()

    def _forget(self, id: int) -> None:
        connection = self._connections.pop(id, None)
        if connection is not None:
            connection.sock.close()
            connection.ended.set()
            # Nothing is to be tried again, even if it ended before it was adopted.
            connection.adopted = True
            connection.settled.set()

    def _lose(self, id: int) -> None:
        connection = self._connections[id]
        if not connection.adopted:
            # Whoever hands it over still waits, and will try the next run.
            del self._connections[id]
            connection.settled.set()
            return
        error: VoiceError
        if self._stopping:
            error = ServerStopping("gptme-server is stopping; connect again when it is back.")
        else:
            error = VoiceLost("The voice process ended unexpectedly; start the session again.")
        _send_close(connection.sock, error)
        self._forget(id)

    def _begin(self, down: socket.socket, up: socket.socket) -> None:
        raise NotImplementedError

    def _send(self, offer: Adopt, sock: socket.socket) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """End it by force."""
        raise NotImplementedError

    def _wait(self) -> None:
        """Wait for its end, and see to it if it takes too long."""
        raise NotImplementedError


class _ProcessRun(_Run):
    def _begin(self, down: socket.socket, up: socket.socket) -> None:
        with down, up:
            fds = (down.fileno(), up.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gptme_voice_plugin.voice.process", *map(str, fds)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                # -m puts the current folder first on the path, and gptme's is a user's workspace,
                # whose files must not stand in for modules.
                cwd=_PACKAGE.parent,
            )
        self.pid = self._process.pid
        logger.debug("Started the voice process, pid %d.", self.pid)

    def _send(self, offer: Adopt, sock: socket.socket) -> None:
        send(self._down, offer, sock.fileno())

    def _end(self) -> None:
        self._process.kill()

    def _wait(self) -> None:
        try:
            code = self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if not self._stopping:
            logger.warning("The voice process ended (exit code %d).", code)


class _ThreadRun(_Run):
    """The same code on a thread here, for systems that cannot pass descriptors."""

    def _begin(self, down: socket.socket, up: socket.socket) -> None:
        self.pid = os.getpid()
        self._thread = threading.Thread(
            target=_serve_in_thread, args=(down, up), name="gptme-voice", daemon=True
        )
        self._thread.start()

    def _send(self, offer: Adopt, sock: socket.socket) -> None:
        send(self._down, replace(offer, fd=sock.dup().detach()))

    def _end(self) -> None:
        with suppress(OSError):
            self._down.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join(EXIT_SECONDS)


def _serve_in_thread(down: socket.socket, up: socket.socket) -> None:
    # The one place where this side runs the other's code, and so imports it.
    import asyncio

    from ..voice.process import serve

    asyncio.run(serve(down, up))


def _release(sock: socket.socket, connection: _Connection) -> None:
    """Make `sock` harmless to the connection, before a WSGI server shuts it down and closes it."""
    if not CAN_PASS_SOCKETS:
        # Without descriptors to replace, the WSGI thread has to wait for the end.
        connection.ended.wait()
        return
    dead, other = socket.socketpair()
    other.close()
    with dead:
        os.dup2(dead.fileno(), sock.fileno(), inheritable=False)


def _send_close(sock: socket.socket, error: VoiceError) -> None:
    """Close a WebSocket whose server has died.

    If it died in the middle of a frame the client cannot read this, and sees the connection end.
    """
    from websockets.frames import Close, Frame, Opcode

    frame = Frame(Opcode.CLOSE, Close(error.close_code, close_reason(error.message)).serialize())
    with suppress(OSError):
        sock.setblocking(False)
        sock.send(frame.serialize(mask=False))
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
