"""Hearing: a stream of audio in, turns of words out.

While somebody speaks, what was said so far is shown, as far as the machine keeps up. At the first
short pause the transcription of the whole is begun: if the pause turns out to be the end of the
turn, its words are there almost at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ...audio.frames import FrameSplitter
from ...config import Settings, main_language
from ...errors import SpeechFailed, VoiceError
from ..base import BackendEvent, Failed, SpeechStarted, SpeechStopped, UserTranscript
from .asking import ask
from .endpointer import Edge, Endpointer, Utterance
from .stages import HEARING_RATE, SpeechToText, Transcription
from .stopwatch import Stopwatch
from .vad import FRAME_MS
from .verdict import was_said

__all__ = ["Hearing"]

logger = logging.getLogger(__name__)

THRESHOLD = 0.5
PARTIAL_MS = 2000
"""Speech that is worth showing how far it got. A short turn is over before: its words would have to
wait for what is shown of its beginning."""
PARTIAL_SHARE = 3
"""What is shown meanwhile may take a third of the time."""


_LOST = "What you said could not be written down; say it again, and see the server's log."


class _Vad(Protocol):
    def probability(self, frame: bytes) -> float: ...


class Hearing:
    """One session's.

    Args:
        settings: Those for turns, and the language.
        vad: Tells speech from the rest.
        stt: Writes it down.
        emit: Takes events.
        on_speech: Called with whether the user speaks, when that changes; False comes once it is
            known what was said.
        on_words: Called with a turn's words, and the watch on it.
        on_nothing: Called when a turn was none.
    """

    def __init__(
        self,
        settings: Settings,
        vad: _Vad,
        stt: SpeechToText,
        emit: Callable[[BackendEvent], None],
        on_speech: Callable[[bool], None],
        on_words: Callable[[str, Stopwatch], None],
        on_nothing: Callable[[], None],
    ) -> None:
        self.heard_ms = 0
        self._language = main_language(settings.language)  # what Whisper knows of it
        self._vad = vad
        self._stt = stt
        self._emit = emit
        self._on_speech = on_speech
        self._on_words = on_words
        self._on_nothing = on_nothing
        self._loop = asyncio.get_running_loop()
        self._splitter = FrameSplitter(HEARING_RATE, FRAME_MS)
        self._endpointer = Endpointer(
            settings.prefix_ms,
            settings.silence_ms,
            settings.min_speech_ms,
            THRESHOLD if settings.threshold is None else settings.threshold,
        )
        self._turns = 0
        self._open = 0  # turns whose words are not known yet, and the one that is being spoken
        self._speech_end = 0.0
        self._ahead: asyncio.Task[Transcription] | None = None
        self._partial: asyncio.Task[None] | None = None
        self._partial_at = 0
        self._in_order = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def push(self, pcm: bytes) -> None:
        """Take the next piece of audio."""
        for frame in self._splitter.push(pcm):
            self.heard_ms += FRAME_MS
            self._take(frame)

    def commit(self) -> None:
        """End the turn now, if there is one."""
        if rest := self._splitter.flush():
            self._take(rest + bytes(max(0, 2 * HEARING_RATE * FRAME_MS // 1000 - len(rest))))
        if (utterance := self._endpointer.stop()) is not None:
            self._stopped(utterance)

    async def close(self) -> None:
        """Stop everything."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self, frame: bytes) -> None:
        probability = self._vad.probability(frame)
        edge, utterance = self._endpointer.push(frame, probability)
        if edge is Edge.STARTED:
            self._turns += 1
            self._open += 1
            self._partial_at = 0
            self._ahead = None
            self._on_speech(True)
            self._emit(SpeechStarted())
        elif edge is Edge.PAUSED:
            self._speech_end = self._loop.time() - self._endpointer.quiet_ms / 1000
            self._work_ahead()
        elif edge is Edge.RESUMED:
            self._ahead = None
        elif edge is Edge.STOPPED:
            assert utterance is not None
            self._stopped(utterance)
        elif self._endpointer.utterance is not None and not self._endpointer.quiet_ms:
            self._speech_end = self._loop.time()
            self._show_partial(self._endpointer.utterance)

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # While somebody speaks

    def _show_partial(self, utterance: Utterance) -> None:
        due = utterance.ms - self._partial_at >= PARTIAL_MS
        if due and not self._stt.busy and (self._partial is None or self._partial.done()):
            self._partial = self._start(self._caption(self._item_id, utterance))

    async def _caption(self, item_id: str, utterance: Utterance) -> None:
        began = self._loop.time()
        try:
            heard = await self._stt.transcribe(utterance.audio(), self._language)
        except VoiceError:
            return  # what matters is whether it works at the end
        took_ms = (self._loop.time() - began) * 1000
        pause = int(took_ms * (PARTIAL_SHARE - 1))
        self._partial_at = utterance.ms + max(0, pause - PARTIAL_MS)
        if self._endpointer.utterance is utterance:
            self._show(item_id, utterance, heard)

    def _show(self, item_id: str, utterance: Utterance, heard: Transcription) -> None:
        if was_said(heard, utterance.speech_ms, utterance.certainty):
            self._emit(UserTranscript(item_id, heard.text, False))

    def _work_ahead(self) -> None:
        """Begin with what may be the whole, unless others would have to wait for a maybe."""
        ours = self._partial is not None and not self._partial.done()
        utterance = self._endpointer.utterance
        if utterance is not None and (ours or not self._stt.busy):
            self._ahead = self._start(self._guess(self._item_id, utterance))

    async def _guess(self, item_id: str, utterance: Utterance) -> Transcription:
        heard = await self._stt.transcribe(utterance.audio(), self._language)
        if self._endpointer.utterance is utterance:
            self._show(item_id, utterance, heard)
        return heard

    # Afterwards

    @property
    def _item_id(self) -> str:
        return f"user-{self._turns}"

    def _stopped(self, utterance: Utterance) -> None:
        ahead, self._ahead = self._ahead, None
        now = self._loop.time()
        watch = Stopwatch(min(self._speech_end or now, now), now)
        self._emit(SpeechStopped())
        self._start(self._finish(self._item_id, utterance, ahead, watch))

    async def _finish(
        self,
        item_id: str,
        utterance: Utterance,
        ahead: asyncio.Task[Transcription] | None,
        watch: Stopwatch,
    ) -> None:
        async with self._in_order:
            text = ""
            try:
                heard = await self._words(utterance, ahead)
                if was_said(heard, utterance.speech_ms, utterance.certainty):
                    text = heard.text
            except VoiceError as error:
                self._emit(Failed(error.code, error.message, False))
            except Exception:  # of whatever kind: the session goes on, and is not deaf to replies
                logger.exception("What was said could not be written down.")
                self._emit(Failed(SpeechFailed.code, _LOST, False))
            # Also without words: what was shown of them is to go.
            self._emit(UserTranscript(item_id, text, True))
            if text:
                watch.words(self._loop.time())
                self._on_words(text, watch)
            else:
                self._on_nothing()
            self._open -= 1
            if not self._open:
                self._on_speech(False)

    async def _words(
        self, utterance: Utterance, ahead: asyncio.Task[Transcription] | None
    ) -> Transcription:
        if ahead is not None:
            try:
                return await ahead
            except SpeechFailed:
                pass
        audio = utterance.audio()
        waits = self._stt.busy and (self._partial is None or self._partial.done())
        return await ask(lambda: self._stt.transcribe(audio, self._language), waits, self._emit)
