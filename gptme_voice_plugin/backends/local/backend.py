"""The local backend: hears and speaks on this machine, and has gptme itself think.

Voice activity detection → speech to text → gptme's own step → text to speech, each while the one
before is still at it. It needs no key and no cloud, and any model of gptme's answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

from ...config import Settings
from ...errors import SpeechFailed
from ..base import (
    AnswerEnded,
    AnswerFailed,
    AnswerPiece,
    Backend,
    BackendEvent,
    Briefing,
    Failed,
    ReplyDone,
    TextModel,
    Told,
    Usage,
)
from ..event_queue import EventQueue
from .engines import Shared, speech_to_text, text_to_speech
from .hearing import Hearing
from .speaking import Heard, Speaking
from .stages import HEARING_RATE, SpeechToText, TextToSpeech
from .stopwatch import Stopwatch
from .vad import SileroVad

__all__ = ["LocalBackend"]

logger = logging.getLogger(__name__)

MAX_AUDIO_SECONDS = 60
NOBODY = "There is no gptme here that could answer; open this page from gptme-server itself."


class LocalBackend(Backend):
    """See the module.

    Args:
        settings: `stt`, `tts`, `voice`, `language`, `speed`, and those for turns.
        keys: `SPEECH_API_KEY` opens servers that need it.
    """

    name = "local"
    input_sample_rate = HEARING_RATE
    features = ("interrupt", "mute", "commit", "text")
    thinks = False

    def __init__(self, settings: Settings, keys: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        self._keys = keys or {}
        self._stt: Shared[SpeechToText] | None = None
        self._tts: Shared[TextToSpeech] | None = None
        self._model: TextModel | None = None
        self._hearing: Hearing | None = None
        self._speaking: Speaking | None = None
        self._events = EventQueue(0)
        self._tasks: list[asyncio.Task[None]] = []
        self._awaited = False  # gptme is to answer what was said, and has not begun
        self._nothings = 0
        self._closed = False

    def answer_with(self, model: TextModel) -> None:
        """See `Backend.answer_with`."""
        self._model = model

    def brief(self, briefing: Briefing) -> None:
        """See `Backend.brief`; gptme knows its conversation."""

    async def instruct(self, instructions: str) -> None:
        """See `Backend.instruct`; gptme has its own."""

    async def open(self) -> None:
        """See `Backend.open`."""
        if self._closed:
            raise SpeechFailed("The session has ended; start it again.")
        self._stt = speech_to_text(self._settings, self._keys)
        self._tts = text_to_speech(self._settings, self._keys)
        stt, tts = self._stt.stage, self._tts.stage
        opening = (
            asyncio.create_task(asyncio.to_thread(SileroVad)),
            asyncio.create_task(stt.open(self.on_preparing)),
            asyncio.create_task(tts.open(self.on_preparing)),
        )
        try:
            vad, *_ = await asyncio.gather(*opening)
        except BaseException:
            # What one of them lacks is known: nobody waits for the others any more.
            for task in opening:
                task.cancel()
            await asyncio.gather(*opening, return_exceptions=True)
            raise
        if self._closed:
            raise SpeechFailed("The session has ended; start it again.")
        self.model = f"{stt.name}, {tts.name}"
        self.output_sample_rate = tts.sample_rate
        self._events = EventQueue(MAX_AUDIO_SECONDS * tts.sample_rate * 2)
        self._speaking = Speaking(tts, self._settings.speed, self._events.put, self._events.room)
        self._hearing = Hearing(
            self._settings,
            vad,
            stt,
            self._events.put,
            self._on_speech,
            self._on_words,
            self._on_nothing,
        )
        for work in (self._speaking.run(), self._listen()):
            self._tasks.append(asyncio.create_task(self._guard(work)))

    @property
    def _mouth(self) -> Speaking:
        assert self._speaking is not None
        return self._speaking

    async def send_audio(self, pcm: bytes) -> None:
        """See `Backend.send_audio`."""
        assert self._hearing is not None
        self._hearing.push(pcm)

    async def commit(self) -> None:
        """See `Backend.commit`."""
        assert self._hearing is not None
        self._hearing.commit()

    async def send_text(self, text: str) -> None:
        """See `Backend.send_text`; it is answered as what is in the conversation."""
        self._on_words(text, None)

    async def tell(self, told: Told | None, answer: bool) -> None:
        """See `Backend.tell`; gptme knows it."""

    async def interrupt(self, item_id: str | None, heard_ms: int) -> None:
        """See `Backend.interrupt`."""
        mouth = self._mouth
        self._awaited = False
        self._tell_heard(mouth.stop() if item_id is None else mouth.cut(item_id, heard_ms))
        if self._model is not None:
            self._model.stop()

    async def events(self) -> AsyncIterator[BackendEvent]:
        """See `Backend.events`."""
        async for event in self._events:
            yield event

    async def close(self) -> None:
        """See `Backend.close`."""
        self._closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if self._hearing is not None:
            await self._hearing.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        used, self._stt, self._tts = (self._stt, self._tts), None, None
        for shared in used:
            if shared is not None:
                shared.release()
        self._events.close()

    # The user

    def _on_speech(self, speaks: bool) -> None:
        # What was not begun waits until it is known whether these are words, or a cough.
        (self._mouth.may_begin.clear if speaks else self._mouth.may_begin.set)()

    def _on_words(self, text: str, watch: Stopwatch | None) -> None:
        self._tell_heard(self._mouth.drop())
        self._mouth.watch = watch
        self._awaited = self._model is not None
        if self._model is None:
            self._mouth.notice(f"I heard: {text.rstrip('.')}. {NOBODY}")

    def _on_nothing(self) -> None:
        if self._mouth.silent and not self._awaited:
            # Nobody is to wait for an answer to nothing. Each has an id of its own: a reply that
            # is done is not done again.
            self._nothings += 1
            self._events.put(ReplyDone(f"nothing-{self._nothings}"))

    def _tell_heard(self, parts: list[Heard]) -> None:
        for part in parts:
            if self._model is not None:
                self._model.heard(part.answer_id, part.characters)

    # gptme

    async def _listen(self) -> None:
        if self._model is None:
            return
        async for answer in self._model.answers():
            self._awaited = False
            match answer:
                case AnswerPiece(answer_id, text):
                    self._mouth.piece(answer_id, text)
                case AnswerEnded(answer_id):
                    self._mouth.end(answer_id)
                    self._tell_usage()
                case AnswerFailed(sentence):
                    self._mouth.notice(sentence)

    def _tell_usage(self) -> None:
        assert self._hearing is not None
        self._events.put(
            Usage(
                input_audio_ms=self._hearing.heard_ms,
                output_audio_ms=self._mouth.spoken_ms,
            )
        )

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("A part of the local backend failed.")
            with contextlib.suppress(Exception):
                self._events.put(
                    Failed(
                        "speech_failed",
                        "The local backend failed; start the session again, and see the server's "
                        "log.",
                        True,
                    )
                )
