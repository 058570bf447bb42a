"""Speaking: answers in writing in, replies as sound out, sentence by sentence.

The first clause is spoken while the rest is still being written. Of each sentence it is known which
part of the sound it is, so that of a reply that is cut off it is known which words were heard.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from ...errors import VoiceError
from ..base import (
    AgentTranscript,
    Audio,
    BackendEvent,
    Failed,
    Interrupted,
    ReplyDone,
)
from ..history import heard_text
from .asking import ask
from .spoken_text import Sentence, SpokenText
from .stages import TextToSpeech
from .stopwatch import Stopwatch

__all__ = ["Heard", "Speaking"]

CHUNK_MS = 100
GAP_MS = 140
"""Silence between sentences."""
AHEAD_SECONDS = 20.0
"""Speech that is made before it is heard; the rest would be in vain if it is cut off."""
KEPT = 64
"""Replies that are over and remembered, to be cut, or to refuse what still comes of them."""


@dataclass(frozen=True)
class Heard:
    """How much of an answer was heard."""

    answer_id: str
    characters: int


@dataclass(eq=False)
class _Reply:
    item_id: str
    answer_id: str  # empty: a notice, which nobody has written
    watch: Stopwatch | None
    complete: bool = False
    text: SpokenText = field(default_factory=SpokenText)
    waiting: deque[Sentence] = field(default_factory=deque)
    spoken: list[tuple[Sentence, float, float]] = field(default_factory=list)
    """Sentences, and from where to where in the reply they sound, in milliseconds."""
    ms: float = 0.0
    dropped: bool = False
    stopped: bool = False

    @property
    def begun(self) -> bool:
        return self.ms > 0

    @property
    def caption(self) -> str:
        return " ".join(sentence.text for sentence, _, _ in self.spoken)


class Speaking:
    """One session's.

    Args:
        tts: Speaks.
        speed: 1 is the voice's own.
        emit: Takes events.
        room: Waits until there is room for more sound.
    """

    def __init__(
        self,
        tts: TextToSpeech,
        speed: float,
        emit: Callable[[BackendEvent], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self.watch: Stopwatch | None = None
        """On the turn that the next replies answer."""
        self.may_begin = asyncio.Event()
        """Cleared while the user speaks: a reply that has not begun waits for what they say."""
        self.may_begin.set()
        self._tts = tts
        self._speed = speed
        self._emit = emit
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._replies: deque[_Reply] = deque()  # the first one is being spoken
        self._past: deque[_Reply] = deque(maxlen=KEPT)
        self._refused: deque[str] = deque(maxlen=KEPT)
        self._news = asyncio.Event()
        self._notices = 0
        self._until = 0.0  # when all that was given out has been heard, at the soonest
        self._spoken_ms = 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing is left to be spoken."""
        return not self._replies

    @property
    def spoken_ms(self) -> int:
        """How much sound was given out, in milliseconds."""
        return int(self._spoken_ms)

    # What is to be spoken

    def piece(self, answer_id: str, text: str) -> None:
        """Take the next piece of an answer."""
        if (reply := self._reply(answer_id)) is not None:
            self._add(reply, reply.text.push(text))

    def end(self, answer_id: str) -> None:
        """Take it that an answer is complete."""
        if (reply := self._reply(answer_id)) is not None:
            reply.complete = True
            self._add(reply, reply.text.finish())

    def notice(self, sentence: str) -> None:
        """Speak something by itself, after what is being spoken."""
        self._notices += 1
        reply = _Reply(f"notice-{self._notices}", "", self.watch, complete=True)
        self._replies.append(reply)
        self._add(reply, [Sentence(sentence, 0)])

    def _reply(self, answer_id: str) -> _Reply | None:
        for reply in self._replies:
            if reply.answer_id == answer_id:
                return None if reply.complete else reply
        over = any(reply.answer_id == answer_id for reply in self._past)
        if over or answer_id in self._refused:
            return None
        reply = _Reply(answer_id, answer_id, self.watch)
        self._replies.append(reply)
        return reply

    def _add(self, reply: _Reply, sentences: list[Sentence]) -> None:
        if sentences and reply.watch is not None:
            reply.watch.sentence(self._loop.time())
        reply.waiting.extend(sentences)
        self._news.set()

    # What is not to be spoken after all

    def drop(self) -> list[Heard]:
        """Drop the replies that have not begun; return those of answers: none of it was heard."""
        return self._stop([reply for reply in self._replies if not reply.begun])

    def stop(self) -> list[Heard]:
        """Stop all that is being made, of which nothing was heard; return as `drop`."""
        return self._stop(list(self._replies))

    def cut(self, item_id: str, heard_ms: int) -> list[Heard]:
        """Stop a reply, of which so many milliseconds were heard, and all that follow it.

        Returns:
            How much was heard of the answers, as far as it is known.
        """
        known = [*self._past, *self._replies]
        at = next((at for at, reply in enumerate(known) if reply.item_id == item_id), None)
        if at is None:
            return self.drop()
        reply = known[at]
        words, characters = _heard(reply, heard_ms)
        self._emit(AgentTranscript(item_id, words, True, cut=True))
        reply.stopped = True
        if reply in self._replies:
            self._discard(reply)
        self._until = self._loop.time()
        heard = [Heard(reply.answer_id, characters)] if reply.answer_id else []
        return heard + self._stop(known[at + 1 :])

    def _stop(self, replies: list[_Reply]) -> list[Heard]:
        unheard = []
        for reply in replies:
            if reply in self._replies:
                self._discard(reply)
            if reply.begun:
                # Its sound is on its way to whoever stops it, who will say how much was heard.
                if not reply.stopped:
                    reply.stopped = True
                    self._emit(Interrupted(reply.item_id))
                self._until = self._loop.time()
            elif reply.answer_id:
                unheard.append(Heard(reply.answer_id, 0))
        return unheard

    def _discard(self, reply: _Reply) -> None:
        reply.dropped = True
        self._replies.remove(reply)
        if reply.answer_id:
            self._refused.append(reply.answer_id)
        if reply.begun:
            self._past.append(reply)
        self._news.set()

    # Speaking

    async def run(self) -> None:
        """Speak what comes, for ever."""
        while True:
            self._news.clear()
            reply = self._replies[0] if self._replies else None
            if reply is None or not (reply.waiting or reply.complete):
                await self._news.wait()
            elif not reply.waiting:
                self._finish(reply)
            elif not reply.begun and not self.may_begin.is_set():
                await self.may_begin.wait()
            elif (early := self._until - self._loop.time() - AHEAD_SECONDS) > 0.01:
                with contextlib.suppress(asyncio.TimeoutError):  # unless it is cut off meanwhile
                    await asyncio.wait_for(self._news.wait(), early)
            else:
                await self._speak(reply, reply.waiting.popleft())

    def _finish(self, reply: _Reply) -> None:
        self._replies.remove(reply)
        self._past.append(reply)
        if reply.spoken:
            self._emit(AgentTranscript(reply.item_id, reply.caption, True))
        # Without any sound, too: whoever waits for an answer is to know that it is over.
        self._emit(ReplyDone(reply.item_id))

    async def _speak(self, reply: _Reply, sentence: Sentence) -> None:
        try:
            pcm = await self._sound(reply, sentence.text)
        except VoiceError as error:
            if not reply.dropped:
                self._fail(reply, error)
            return
        while not (reply.begun or reply.dropped or self.may_begin.is_set()):
            await self.may_begin.wait()  # the user has begun to speak since
        if reply.dropped:
            return
        bytes_per_ms = self._tts.sample_rate * 2 / 1000
        gap = 2 * int(GAP_MS * bytes_per_ms / 2) if reply.begun and pcm else 0
        start = reply.ms + gap / bytes_per_ms
        pcm = bytes(gap) + pcm
        length = len(pcm) / bytes_per_ms
        reply.ms += length
        reply.spoken.append((sentence, start, reply.ms))
        self._until = max(self._until, self._loop.time()) + length / 1000
        self._emit(AgentTranscript(reply.item_id, reply.caption, False))
        size = 2 * int(CHUNK_MS * bytes_per_ms / 2)
        for at in range(0, len(pcm), size):
            await self._room()
            if reply not in self._replies:
                return
            chunk = pcm[at : at + size]
            self._emit(Audio(reply.item_id, chunk))
            self._spoken_ms += len(chunk) / bytes_per_ms
            if reply.watch is not None and (timings := reply.watch.sound(self._loop.time())):
                self._emit(timings)

    async def _sound(self, reply: _Reply, text: str) -> bytes:
        return await ask(
            lambda: self._tts.synthesize(text, self._speed),
            waits=not reply.begun and self._tts.busy,
            emit=self._emit,
            again=lambda: not reply.dropped,
        )

    def _fail(self, reply: _Reply, error: VoiceError) -> None:
        """Go on in writing: the answer is on the screen, and the user is told why not aloud."""
        self._emit(Failed(error.code, error.message, False))
        if reply.answer_id:
            self._refused.append(reply.answer_id)  # the rest of it
        self._finish(reply)


def _heard(reply: _Reply, heard_ms: int) -> tuple[str, int]:
    """Return the words of a reply that were heard, and how much of the answer they are."""
    words: list[str] = []
    characters = 0
    for sentence, start, end in reply.spoken:
        if heard_ms > 0 and heard_ms >= int(end):
            words.append(sentence.text)
            characters = sentence.end
            continue
        part = heard_text(sentence.text, int(heard_ms - start), int(end - start))
        if part:
            words.append(part)
            share = len(part) / max(1, len(sentence.text))
            characters += int((sentence.end - characters) * share)
        break
    return " ".join(words), characters
