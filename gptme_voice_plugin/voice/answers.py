"""gptme's own answers, for backends that only hear and speak.

Each thing the user says is written into the conversation and makes gptme begin a step; what it
writes goes to the backend as it comes (`writing.py`). gptme writes its answer into the log itself.
An answer that was not heard to its end is cut there afterwards; one that was stopped before gptme
had written it is written by us, as far as it was heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Literal

from ..backends.base import Answer, AnswerFailed, TextModel
from ..errors import ConversationBusy, VoiceError
from . import events as core
from . import tools, wire
from .conversation import GptmeClient
from .excuses import excuse
from .steps import Steps
from .transcript import SpokenTurn
from .turn_writer import TurnWriter, pause
from .work import Asks, Finished, News, Outcome, Progress, Work, gist
from .writing import Writing, Written

__all__ = ["Answers"]

logger = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""How long gptme may take to stop, before it is told again and the user is told."""
LOOK_SECONDS = 0.1
TRIES = 12
FIRST_WORD_SECONDS = 20.0
"""How long a model may think before the user is told that it does."""
_NO_SERVER = "gptme-server does not answer; see its log, or start it again."


class Answers(TextModel):
    """One session's.

    Args:
        client: The way to gptme-server.
        writer: Writes turns, and makes the conversation if need be.
        post: Lets an event happen to the session.
        start: Runs something beside everything else, at most until the session ends.
    """

    def __init__(
        self,
        client: GptmeClient,
        writer: TurnWriter,
        post: Callable[[core.Event], None],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._client = client
        self._writer = writer
        self._post = post
        self._start = start
        self._work = Work()
        self._steps = Steps(client, writer, self._work, self._on_event)
        self._out: asyncio.Queue[Answer] = asyncio.Queue()
        self._writing = Writing(self._out.put_nowait)
        self._asked = False  # gptme is at what was said here
        self._before = 0  # how many answers were begun before it
        self._stops = 0  # how often the user has stopped what is done
        self._asked_at = 0  # how often before what gptme is at
        self._stopping: asyncio.Task[None] | None = None
        self._ending = False
        self._slow: asyncio.TimerHandle | None = None
        # What is to get into the log, and how often was stopped before; the first is dealt with.
        self._turns: deque[tuple[SpokenTurn | Written, int]] = deque()
        self._more = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()
        self._shown = ""
        self._last_words = ""

    @property
    def gptme_session(self) -> str | None:
        """The session of gptme's that its events come from."""
        return self._steps.gptme_session

    @property
    def unfinished(self) -> bool:
        """Whether gptme is at work on something that was said here."""
        return self._asked and self._work.active

    def drop_waiting(self) -> bool:
        """The session ends: what was said is written, and not answered any more."""
        self._ending = True
        self._said_something()
        return False

    # For the backend

    async def answers(self) -> AsyncIterator[Answer]:
        """See `TextModel.answers`."""
        while True:
            yield await self._out.get()

    def stop(self) -> None:
        """See `TextModel.stop`."""
        self._stops += 1
        self._said_something()
        if self._work.active:
            self._writing.silence()
            if self._stopping is None or self._stopping.done():
                self._stopping = self._start(self.interrupt())

    def heard(self, answer_id: str, characters: int) -> None:
        """See `TextModel.heard`."""
        written = self._writing.find(answer_id)
        if written is None:
            return
        written.heard = characters
        if not characters:  # a reply that was not begun is none of the session's turns
            self._queue(written)

    # gptme's events

    async def follow(self) -> None:
        """Follow what gptme does, for ever."""
        await self._steps.follow()

    async def settle(self) -> None:
        """Notice the end of work that gptme does not tell, for ever."""
        await self._steps.settle(self._take)

    def _on_event(self, event: Mapping[str, Any]) -> None:
        # That a generation has started only says that the model was asked.
        if event["type"] in ("generation_progress", "generation_complete", "tool_pending"):
            self._said_something()
        self._writing.handle(event)
        self._take(self._work.handle(event))

    def _take(self, news: list[News]) -> None:
        for piece in news:
            match piece:
                case Progress(text) if text != "thinking":
                    self._show("working", text)
                case Asks() if not self._writing.silent:
                    self._said_something()
                    self._show("confirm", piece.line)
                    self._say(_request(piece))
                case Finished():
                    self._finished(piece)

    def _finished(self, finished: Finished) -> None:
        asked, self._asked = self._asked, False
        silent, self._writing.silent = self._writing.silent, False
        self._said_something()
        shown, self._shown = self._shown, ""
        if shown:
            line = gist(finished.answer or "what it was doing")
            self._post(core.Notice(wire.ToolStatus(tools.ASK_GPTME, finished.outcome.value, line)))
        if not asked or silent:
            return
        if finished.outcome is Outcome.FAILED:
            self._fail(finished.answer)
        elif self._writing.begun == self._before:
            self._writing.nothing()

    def _said_something(self) -> None:
        """Nobody is to be told any more that it takes long."""
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _think_long(self) -> None:
        self._slow = None
        self._say(
            "gptme's model has not answered yet; it may be slow, or cannot be reached. I wait; say "
            "something to stop it."
        )

    def _show(self, status: Literal["working", "confirm"], text: str) -> None:
        if (shown := f"{status} {text}") != self._shown:
            self._shown = shown
            self._post(core.Notice(wire.ToolStatus(tools.ASK_GPTME, status, text)))

    def _say(self, sentence: str) -> None:
        self._out.put_nowait(AnswerFailed(sentence))

    def _fail(self, problem: str) -> None:
        """Say that there is no answer, and why; and show it."""
        why = excuse(problem, self._last_words)
        # Neither what a provider says, which may hold a key, nor what the user has said.
        logger.warning("gptme does not answer (%s); the page says why.", why.code)
        self._post(core.Notice(wire.ErrorMessage(why.code, why.shown, False)))
        self._out.put_nowait(AnswerFailed(why.spoken))

    # What is said

    def write(self, turns: tuple[SpokenTurn, ...]) -> None:
        """Take turns of the session, to be written or to be put right in the log."""
        for turn in turns:
            if turn.role == "user":
                self.stop()  # who speaks has the floor
            self._queue(turn)

    def _queue(self, turn: SpokenTurn | Written) -> None:
        self._turns.append((turn, self._stops))
        self._done.clear()
        self._more.set()

    async def settled(self) -> None:
        """Wait until all that was taken is in the conversation, or given up."""
        await self._done.wait()

    async def run(self) -> None:
        """Have the turns written, and answered, for ever."""
        while True:
            if not self._turns:
                self._more.clear()
                self._done.set()
            await self._more.wait()
            turn, stops = self._turns[0]
            try:
                if isinstance(turn, Written):
                    await self._put_right(turn, None)
                elif turn.role == "assistant":
                    written = self._writing.find(turn.item_id)
                    if written is not None:  # else it was a notice of ours
                        await self._put_right(written, turn)
                else:
                    await self._ask(turn, stops)
            except VoiceError as error:
                self._fail(error.message)
            except asyncio.TimeoutError:
                self._fail(_NO_SERVER)
            except Exception:
                # Whatever it is about this one, the next ones are to be written.
                logger.exception("Something that was said could not be dealt with.")
            finally:
                self._turns.popleft()

    async def _ask(self, turn: SpokenTurn, stops: int) -> None:
        """Write what the user said, and have gptme answer, unless that was stopped meanwhile."""
        self._last_words = turn.text
        # What was stopped is to be over: only then are the words in the log that the step reads.
        await self._free()
        for written in self._writing.take_unseen():
            await self._cut(written, 0)  # gptme 0.34 writes even what it had not begun
        self._writer.write((turn,), asyncio.get_running_loop().time())
        if self._ending:
            return
        await self._writer.settled()
        if not self._writer.there.is_set():
            return  # it could not be written, which was said
        await self._steps.connected()
        await self._stopped()
        if self._ending or self._stops != stops:
            return  # or more was said: then all is answered together
        self._writing.silent, self._before = False, self._writing.begun
        self._asked, self._asked_at = True, stops
        self._work.expect()
        loop = asyncio.get_running_loop()
        self._said_something()
        self._slow = loop.call_later(FIRST_WORD_SECONDS, self._think_long)
        # Not waited for: gptme-server answers with the model's first word, and more may be said.
        self._start(self._step(stops))

    async def _step(self, stops: int) -> None:
        problem = ""
        try:
            if await self._begin_step(stops):
                return
        except VoiceError as error:
            problem = error.message
        except asyncio.TimeoutError:
            problem = _NO_SERVER
        if self._asked and self._asked_at == stops:  # else its events have said so
            self._asked = False
            self._said_something()
            self._work.forget()
            if problem and self._stops == stops:
                self._fail(problem)

    async def _begin_step(self, stops: int) -> bool:
        """Have gptme begin; return whether it has, and was not stopped before."""
        for tries in range(TRIES):
            try:
                await self._steps.step()
                return True
            except ConversationBusy:
                if tries == TRIES - 1:
                    raise
            await asyncio.sleep(pause(min(tries, 2)))
            if self._stops != stops:
                break
        return False

    async def _free(self) -> None:
        """Wait until gptme is at nothing in the conversation, however long that takes."""
        told = False
        with suppress(VoiceError):  # the writer sees to it that nothing is lost
            await self._stopped()
            while not await self._quiet() and not self._ending:
                if not told:
                    self._say("gptme has not stopped yet with what it was at. I wait for that.")
                told = True
                await self.interrupt()
        # Its events tell so a little later. They are not to be taken for those of the next step.
        for _ in range(TRIES):
            if self._work.may_be_over:
                self._take(self._work.over())
            if not self._work.active or self._ending:
                break
            await asyncio.sleep(LOOK_SECONDS)

    async def _stopped(self) -> None:
        while self._stopping is not None and not self._stopping.done():
            await asyncio.wait({self._stopping})

    async def _quiet(self) -> bool:
        """Wait until gptme is at nothing in the conversation; return whether it is.

        Raises:
            VoiceError: That cannot be asked.
        """
        if not self._writer.there.is_set():
            return True
        deadline = asyncio.get_running_loop().time() + IDLE_SECONDS
        while await self._client.working(self._writer.known_id):
            if self._ending or asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def interrupt(self) -> None:
        """Stop what gptme does."""
        try:
            await self._steps.interrupt()
        except VoiceError as error:
            logger.warning("gptme cannot be stopped: %s", error.message)

    # What was heard

    async def _put_right(self, written: Written, turn: SpokenTurn | None) -> None:
        """Have the log end where the listening ended."""
        if turn is not None and not turn.unheard and written.over and not written.stopped:
            self._writer.counts["assistant"] += 1
            return
        await self._stopped()
        with suppress(VoiceError):
            if not await self._quiet():
                return  # it is being written on: somebody reads it
        for _ in range(TRIES):  # until the event is here that says what has become of it
            if written.over:
                break
            await asyncio.sleep(LOOK_SECONDS)
        if written.settled:
            return
        written.settled = True
        # Asked for also if gptme has not told that it has written it: it may be about to.
        there = await self._cut(written, written.heard) or written.committed
        if turn is not None and not there:
            self._writer.write((turn,), asyncio.get_running_loop().time())
        elif turn is not None:
            self._writer.counts["assistant"] += 1

    async def _cut(self, written: Written, heard: int | None) -> bool:
        """Have an answer end in the log where the listening ended; return whether it does now."""
        if heard is None or (
            written.committed and not written.stopped and heard >= len(written.text)
        ):
            return False
        metadata = dict(self._writer.describe())
        for tries in range(TRIES):
            text = written.text  # more of it may become known
            try:
                return await self._client.heard(
                    self._writer.known_id, text, min(heard, len(text)), metadata
                )
            except ConversationBusy:
                await asyncio.sleep(pause(min(tries, 2)))
            except VoiceError as error:
                logger.warning("An answer cannot be cut: %s", error.message)
                return False
        logger.warning("An answer that was not heard to its end is whole in the log.")
        return False


def _request(asks: Asks) -> str:
    if not asks.tool_id:
        return "gptme has a question; it waits on the screen."
    return f"gptme asks for permission to use {asks.tool}; it waits on the screen."
