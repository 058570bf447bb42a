"""The user's turns: from input audio to committed items and their transcripts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .conversation import Item, new_id, to_bytes, to_samples
from .script import Turn, UserText, pick, words
from .speech_clock import SpeechClock, Started
from .validate import Problem

if TYPE_CHECKING:
    from .dialect import Settings
    from .session import Session

MIN_COMMIT_MS = 100
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class Turns:
    """Hears a session's input audio and makes the user's items of it."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self.clock = SpeechClock(settings.input_rate, settings.vad)
        self.transcribed = 0
        """How many user items have been given a transcript so far, or are to get one."""
        self._item_id = ""
        self._buffer_ms = 0.0  # where the audio begins that was not committed yet
        self._idle_from_ms: float | None = None
        self._untold: list[tuple[Item, UserText]] = []

    def configure(self, settings: Settings) -> None:
        """Take changed settings; a new rate starts a new recording, the clock goes on."""
        if settings.input_rate != self.clock.rate:
            self.clock = SpeechClock(settings.input_rate, settings.vad, int(self.clock.now_ms))
        self.clock.vad = settings.vad
        if settings.vad is None and self.clock.speaking:
            self.clock.end_turn()

    async def hear(self, pcm: bytes) -> None:
        """Take input audio, int16 at the input rate."""
        session = self._session
        for noticed in self.clock.feed(pcm):
            if isinstance(noticed, Started):
                await self._started(noticed)
            else:
                end = {} if session.dialect.bare_events else {"audio_end_ms": noticed.at_ms}
                session.send(
                    {"type": "input_audio_buffer.speech_stopped", "item_id": self._item_id, **end}
                )
                self._commit(self._item_id, self.clock.start_ms, noticed.at_ms)
                if session.settings.create_response:
                    session.respond({}, by_client=False)
        self._check_idle()

    async def _started(self, noticed: Started) -> None:
        session = self._session
        self._idle_from_ms = None
        self._item_id = new_id("item")
        start = {} if session.dialect.bare_events else {"audio_start_ms": noticed.at_ms}
        session.send(
            {"type": "input_audio_buffer.speech_started", **start, "item_id": self._item_id}
        )
        if session.settings.interrupt_response:
            await session.interrupt("turn_detected")

    def commit(self) -> None:
        """Commit by hand; no response is created."""
        clock = self.clock
        start = clock.start_ms if clock.speaking else self._buffer_ms
        length = clock.now_ms - start
        if length < MIN_COMMIT_MS:
            raise Problem(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{MIN_COMMIT_MS}ms of audio, but buffer only has {length:.2f}ms of audio.",
            )
        item_id = self._item_id if clock.speaking else new_id("item")
        clock.end_turn()
        self._commit(item_id, start, clock.now_ms)

    def clear(self) -> None:
        """Forget what was not committed."""
        self.clock.end_turn()
        self._buffer_ms = self.clock.now_ms
        self._session.send({"type": "input_audio_buffer.cleared"})

    def _commit(self, item_id: str, start_ms: float, end_ms: float) -> None:
        session = self._session
        self._buffer_ms = end_ms
        audio = to_bytes(self.clock.between(start_ms, end_ms))
        item = Item(item_id, role="user", kind="input_audio", audio=audio, rate=self.clock.rate)
        previous = session.conversation.add(item)
        session.send(
            {
                "type": "input_audio_buffer.committed",
                "previous_item_id": previous,
                "item_id": item_id,
            }
        )
        session.item_added(item, previous)
        session.item_done(item)
        self._transcribe(item)

    # Idle timeout ------------------------------------------------------------------------------

    def arm_idle(self, reply_ms: float) -> None:
        """Start to wait for the user, from when `reply_ms` of reply have been played."""
        self._idle_from_ms = self.clock.now_ms + reply_ms

    def _check_idle(self) -> None:
        session, timeout = self._session, self._session.settings.idle_timeout_ms
        start, now = self._idle_from_ms, self.clock.now_ms
        if timeout is None or start is None or self.clock.speaking or now < start + timeout:
            return
        self._idle_from_ms = None
        item_id = new_id("item")
        session.send(
            {
                "type": "input_audio_buffer.timeout_triggered",
                "audio_start_ms": int(start),
                "audio_end_ms": int(now),
                "item_id": item_id,
            }
        )
        self._commit(item_id, start, now)
        session.respond({}, by_client=False)

    # Transcripts -------------------------------------------------------------------------------

    def _transcribe(self, item: Item) -> None:
        session, settings = self._session, self._session.settings
        if not settings.transcription:
            return
        turn = Turn(self.transcribed, to_samples(item.audio), item.rate, settings.output_rate)
        says = pick(session.provider.user_texts, turn, UserText())
        self.transcribed += 1
        self._untold.append((item, says))
        self.tell("before" if settings.create_response else "after")

    def tell(self, moment: str) -> None:
        """Send the transcripts that are due: before, during or after a reply."""
        order = ("before", "during", "after")
        due = [u for u in self._untold if order.index(u[1].when) <= order.index(moment)]
        self._untold = [u for u in self._untold if u not in due]
        for item, says in due:
            if says.delay_ms:
                self._session.start(self._tell_later(item, says))
            else:
                self._tell(item, says)

    async def _tell_later(self, item: Item, says: UserText) -> None:
        await asyncio.sleep(says.delay_ms / 1000)
        self._tell(item, says)

    def _tell(self, item: Item, says: UserText) -> None:
        session = self._session
        at = {"item_id": item.id, "content_index": 0}
        if says.failed:
            error = {
                "type": "transcription_error",
                "code": "audio_unintelligible",
                "message": "The audio could not be transcribed.",
                "param": None,
            }
            session.send({"type": f"{_TRANSCRIPTION}.failed", **at, "error": error})
            return
        told = ""
        for piece in words(says.text) if says.partials else ():
            told += piece
            if session.dialect.cumulative_transcripts:
                if session.settings.transcript_partials:
                    session.send({"type": f"{_TRANSCRIPTION}.updated", **at, "transcript": told})
            else:
                session.send({"type": f"{_TRANSCRIPTION}.delta", **at, "delta": piece})
        item.transcript = says.text
        tokens = int(item.audio_ms / 100)
        usage = {
            "type": "tokens",
            "input_tokens": tokens,
            "output_tokens": len(says.text) // 4,
            "total_tokens": tokens + len(says.text) // 4,
        }
        session.send(
            {"type": f"{_TRANSCRIPTION}.completed", **at, "transcript": says.text, "usage": usage}
        )
