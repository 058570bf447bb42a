"""The echo backend: plays back what it hears. No key, no model, no network.

It behaves as a provider does: it detects turns itself, answers faster than real time, and is
interrupted by speech. So it proves the whole path, and it is a microphone test.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from ..audio.frames import FrameSplitter
from ..audio.vad import FRAME_MS, START_FRAMES, EnergyVad, VadEdge
from ..config import Settings
from .base import (
    AgentTranscript,
    Audio,
    Backend,
    BackendEvent,
    Interrupted,
    ReplyDone,
    SpeechStarted,
    SpeechStopped,
    Usage,
    UserTranscript,
)
from .event_queue import EventQueue

__all__ = ["EchoBackend"]

SAMPLE_RATE = 24_000
CHUNK_MS = 100
MAX_TURN_MS = 60_000
"""A turn ends here even if the speaker goes on, so that memory stays bounded."""


class EchoBackend(Backend):
    """See the module.

    Args:
        settings: `prefix_ms` and `silence_ms` are used.
        keys: Needs none.
        speed: How many times faster than real time replies are made.
    """

    name = "echo"
    input_sample_rate = SAMPLE_RATE
    output_sample_rate = SAMPLE_RATE
    model = "echo"
    features = ("interrupt", "mute", "commit", "text")
    converses = False

    def __init__(
        self, settings: Settings, keys: Mapping[str, str] | None = None, speed: float = 10.0
    ) -> None:
        self._speed = speed
        self._splitter = FrameSplitter(SAMPLE_RATE, FRAME_MS)
        self._vad = EnergyVad(settings.silence_ms)
        # The frames before the one that tells speech apart belong to it, besides the prefix.
        self._prefix: deque[bytes] = deque(maxlen=settings.prefix_ms // FRAME_MS + START_FRAMES - 1)
        self._turn: list[bytes] = []
        self._turns = 0
        self._heard_ms = 0
        self._spoken_ms = 0
        self._events = EventQueue(MAX_TURN_MS * SAMPLE_RATE // 1000 * 2)
        self._reply: asyncio.Task[None] | None = None
        self._reply_id = ""

    async def open(self) -> None:
        """Nothing needs to be opened."""

    async def send_audio(self, pcm: bytes) -> None:
        """See `Backend.send_audio`."""
        for frame in self._splitter.push(pcm):
            self._heard_ms += FRAME_MS
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        edge = self._vad.push(frame)
        if edge is VadEdge.STARTED:
            self._emit(SpeechStarted())
            self._turn = [*self._prefix, frame]
            self._prefix.clear()
        elif self._turn:
            self._turn.append(frame)
            if edge is None and len(self._turn) * FRAME_MS >= MAX_TURN_MS:
                edge = self._vad.stop()
            if edge is VadEdge.STOPPED:
                self._answer()
        else:
            self._prefix.append(frame)

    async def commit(self) -> None:
        """See `Backend.commit`."""
        if self._vad.stop() is VadEdge.STOPPED:
            self._turn.append(self._splitter.flush())
            self._answer()

    async def send_text(self, text: str) -> None:
        """See `Backend.send_text`; typed text comes back as a caption."""
        self._turns += 1
        item_id = f"echo-{self._turns}"
        self._emit(AgentTranscript(item_id, text, True))
        self._emit(ReplyDone(item_id))

    async def interrupt(self, item_id: str | None, heard_ms: int) -> None:
        """See `Backend.interrupt`."""
        if item_id is None or item_id == self._reply_id:
            self._stop_reply()

    async def events(self) -> AsyncIterator[BackendEvent]:
        """See `Backend.events`."""
        async for event in self._events:
            yield event

    async def close(self) -> None:
        """See `Backend.close`."""
        reply = self._reply
        self._stop_reply()
        if reply is not None:
            await asyncio.wait([reply])
        self._events.close()

    def _emit(self, event: BackendEvent) -> None:
        self._events.put(event)

    def _stop_reply(self) -> None:
        if self._reply is not None:
            self._reply.cancel()
            self._reply = None

    def _answer(self) -> None:
        pcm = b"".join(self._turn)
        self._turn = []
        self._turns += 1
        seconds = len(pcm) / 2 / SAMPLE_RATE
        self._emit(SpeechStopped())
        self._emit(UserTranscript(f"user-{self._turns}", f"({seconds:.1f} s of speech)", True))
        if self._reply is not None and not self._reply.done():
            self._emit(Interrupted(self._reply_id))
        self._stop_reply()
        self._reply_id = f"echo-{self._turns}"
        self._reply = asyncio.create_task(self._speak(self._reply_id, pcm))

    async def _speak(self, item_id: str, pcm: bytes) -> None:
        self._emit(AgentTranscript(item_id, "(the same, played back)", True))
        size = SAMPLE_RATE * CHUNK_MS // 1000 * 2
        for start in range(0, len(pcm), size):
            chunk = pcm[start : start + size]
            self._spoken_ms += len(chunk) * 1000 // (2 * SAMPLE_RATE)
            await self._events.room()
            self._emit(Audio(item_id, chunk))
            await asyncio.sleep(CHUNK_MS / 1000 / self._speed)
        self._emit(ReplyDone(item_id))
        self._emit(Usage(input_audio_ms=self._heard_ms, output_audio_ms=self._spoken_ms))
