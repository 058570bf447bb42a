"""A session's link to its conversation: what the model is told of it, and what is written into it.

Turns are written by `turn_writer.py`; what gptme does meanwhile is the business of `jobs.py`. What
comes of both goes to the session as events; nothing here touches its audio.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..backends.base import Briefing, TextModel, ToolCall
from ..channel import Gptme
from ..characters import short_name
from ..errors import ConversationUnknown, RecordingFailed, VoiceError
from . import events as core
from . import tools, wire
from .answers import Answers
from .conversation import GptmeClient
from .jobs import Jobs
from .recording import Recorder
from .transcript import SpokenTurn
from .turn_writer import TurnWriter

__all__ = ["Link", "Wanted"]

logger = logging.getLogger(__name__)

BRIEF_SECONDS = 4.0
"""How long a session waits to be told of its conversation."""
FLUSH_SECONDS = 5.0
"""How long the last turns of a session may take to be written."""
QUICK_SECONDS = 1.0
"""The same when gptme-server is going down."""


@dataclass(frozen=True)
class Wanted:
    """What a session wants of its conversation."""

    session_id: str
    conversation_id: str | None
    chat_model: str | None
    """Of a conversation that is made; None: gptme's default."""
    history_turns: int
    voice_confirm: bool
    thinks: bool = True
    """Whether the speech backend finds its own answers; else gptme's are spoken."""


class Link:
    """One session's.

    Args:
        gptme: The way to gptme-server.
        wanted: See there.
        post: Lets an event happen to the session.
        replies: Returns the number of the last reply that knows nothing of what is told now.
        awaits_words: Returns whether the user has said something that is not written down yet.
        on_conversation: Called with the id of a conversation that was made.
        on_instructions: Called with instructions that came late.
    """

    def __init__(
        self,
        gptme: Gptme,
        wanted: Wanted,
        post: Callable[[core.Event], None],
        replies: Callable[[], int],
        awaits_words: Callable[[], bool],
        on_conversation: Callable[[str], None],
        on_instructions: Callable[[str], None],
    ) -> None:
        self._recorder: Recorder | None = None
        self._logdir = ""  # empty as long as it is not known
        self._wanted = wanted
        self._post = post
        self._on_conversation = on_conversation
        self._on_instructions = on_instructions
        self._client = GptmeClient(gptme)
        self._loop = asyncio.get_running_loop()
        self._backend = self._model = ""
        self._writer = TurnWriter(
            self._client,
            wanted.conversation_id,
            wanted.chat_model,
            self._describe,
            self._created,
            self._refused,
        )
        self._answers: Answers | None = None
        if wanted.thinks:
            self._gptme: Jobs | Answers = Jobs(
                self._client,
                self._writer,
                wanted.voice_confirm,
                post,
                replies,
                awaits_words,
                self._start,
            )
        else:
            self._gptme = self._answers = Answers(self._client, self._writer, post, self._start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = datetime.now(timezone.utc)
        self._began = self._loop.time()

    @property
    def turns(self) -> Mapping[str, int]:
        """How many turns were spoken so far, by role."""
        return self._writer.counts

    @property
    def answers(self) -> TextModel | None:
        """What answers for a backend that does not think."""
        return self._answers

    async def brief(self) -> Briefing:
        """Return what the model is told before it hears anything.

        Raises:
            ConversationUnknown: There is no such conversation.
        """
        offered = tools.offered(self._wanted.voice_confirm)
        conversation_id = self._wanted.conversation_id
        if conversation_id is None:
            return Briefing(self._instructions(""), (), offered)
        try:
            known = await asyncio.wait_for(
                self._client.brief(conversation_id, self._wanted.history_turns), BRIEF_SECONDS
            )
        except ConversationUnknown:
            raise
        except (VoiceError, asyncio.TimeoutError) as exc:
            logger.warning("A session begins without its conversation's history: %s", exc)
            self._tell_user(
                "history_missing",
                "What was said in this conversation before could not be read, so the voice does "
                "not know it; what is said now is written into it all the same.",
            )
            return Briefing(self._instructions(""), (), offered)
        self._logdir = known.logdir
        return Briefing(self._instructions(known.instructions), known.history, offered)

    def start(self, backend: str, model: str) -> None:
        """Begin to write and to follow gptme, in a session with this backend and model."""
        self._backend, self._model = backend, model
        gptme = self._gptme
        for work in (self._writer.run(), gptme.follow(), gptme.settle(), gptme.run()):
            self._start(work)

    def write(self, turns: tuple[SpokenTurn, ...]) -> None:
        """Write turns down."""
        if self._answers is not None:
            self._answers.write(turns)
        else:
            self._writer.write(turns, self._loop.time())

    def recorder(self, capture_rate: int, sample_rate: int) -> Recorder:
        """Return what records the session beside its conversation, as soon as there is one."""
        name = f"voice-{self._started:%Y-%m-%dT%H-%M-%SZ}-{self._wanted.session_id}"

        def failed(error: RecordingFailed) -> None:
            logger.error("%s", error.message)
            self._loop.call_soon_threadsafe(self._tell_user, error.code, error.message)

        self._recorder = Recorder(name, capture_rate, sample_rate, failed)
        if self._logdir:
            self._recorder.save_in(self._logdir)
        elif self._wanted.conversation_id is not None:
            self._start(self._find_folder(self._recorder))
        return self._recorder

    async def _find_folder(self, recorder: Recorder) -> None:
        """Ask where to save a recording, if that was not to be known at the beginning."""
        while True:
            await asyncio.sleep(BRIEF_SECONDS)
            with suppress(VoiceError):
                known = await self._client.brief(self._writer.known_id, 0)
                if known.logdir:
                    return recorder.save_in(known.logdir)

    def call(self, call: ToolCall, answers: int) -> None:
        """Carry out a function call; see `events.CallTool`."""
        assert isinstance(self._gptme, Jobs)
        self._start(self._gptme.call(call, answers))

    async def close(self, reason: str, usage: Mapping[str, float], quick: bool) -> None:
        """End everything: the last turns are written, and no work is left that nobody follows.

        Args:
            reason: `ended`, `lost`, or the code of an error.
            usage: Of the whole session, by name.
            quick: Do not wait for gptme-server: it is going down.
        """
        self._gptme.drop_waiting()
        seconds = QUICK_SECONDS if quick else FLUSH_SECONDS
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._settled(), seconds)
            if self._writer.unwritten:
                logger.error("%d turns of a voice session are lost.", self._writer.unwritten)
            if self._writer.there.is_set():
                watched = False
                with suppress(asyncio.TimeoutError):
                    watched = await asyncio.wait_for(self._tell_end(reason, usage), seconds)
                if self._gptme.unfinished and not watched and not quick:
                    # Nobody is there to see what gptme does, or to allow it.
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._gptme.interrupt(), seconds)
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=QUICK_SECONDS)
            await self._client.close()

    async def _settled(self) -> None:
        if self._answers is not None:
            await self._answers.settled()
        await self._writer.settled()

    async def _tell_end(self, reason: str, usage: Mapping[str, float]) -> bool:
        """Write down that the session is over; whether a page follows the conversation."""
        summary = {
            **self._describe(),
            "started_at": self._started.isoformat(),
            # Not by the wall clock, which may have been set meanwhile.
            "seconds": round(self._loop.time() - self._began),
            "turns": self._writer.counts,
            "usage": dict(usage),
            "reason": reason,
            "gptme_session": self._gptme.gptme_session,
        }
        try:
            return await self._client.ended(self._writer.known_id, summary)
        except VoiceError as error:
            logger.warning("The end of a session is not written down: %s", error.message)
            return False

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            logger.exception("A part of a voice session's link to its conversation failed.")

    def _instructions(self, about: str) -> str:
        text = tools.tool_instructions(self._wanted.voice_confirm)
        return f"{text}\n\nAbout the user and the project, from gptme:\n{about}" if about else text

    def _describe(self) -> dict[str, str]:
        return {
            "session": self._wanted.session_id,
            "backend": self._backend,
            # Of local models it may be two paths, or whatever a server calls its own.
            "model": short_name(self._model),
        }

    def _created(self, conversation_id: str, name: str) -> None:
        self._post(core.Notice(wire.Conversation(conversation_id, name)))
        self._on_conversation(conversation_id)
        self._start(self._catch_up(conversation_id))

    async def _catch_up(self, conversation_id: str) -> None:
        """Tell the model of a conversation that was made after it had begun."""
        try:
            known = await self._client.brief(conversation_id, 0)
        except VoiceError as error:
            logger.warning("A new conversation's prompt is not known: %s", error.message)
            if self._recorder is not None:
                await self._find_folder(self._recorder)
            return
        if self._recorder is not None and known.logdir:
            self._recorder.save_in(known.logdir)
        if known.instructions:
            self._on_instructions(self._instructions(known.instructions))

    def _refused(self, error: VoiceError) -> None:
        self._tell_user(error.code, f"What is said is not written down: {error.message}")

    def _tell_user(self, code: str, message: str) -> None:
        self._post(core.Notice(wire.ErrorMessage(code, message, False)))
