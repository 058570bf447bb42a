"""What the voice model has gptme do, and what the model and the user are told of it.

gptme's events are followed (`work.py`), tasks are given to it one after the other through its own
steps, and what it asks permission for is put to the user. What comes of it all goes to the session
as events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Literal

from ..backends.base import Told, ToolCall
from ..characters import whole
from ..errors import ConversationBusy, ConversationUnknown, VoiceError
from . import events as core
from . import tools, wire
from .conversation import GptmeClient
from .permissions import Permissions, Refused
from .steps import Steps
from .turn_writer import TurnWriter, pause
from .work import Asks, Finished, News, Outcome, Progress, Typed, Work, gist, shortened

__all__ = ["Jobs"]

logger = logging.getLogger(__name__)

WORDS_SECONDS = 6.0
"""How long a task waits for the words it came from to be in the conversation."""
BUSY_SECONDS = 1.0
"""The longest pause between tries, while gptme is at work on something else."""
MAX_JOBS = 5
MAX_READ_OUT = 2000
"""Characters of what gptme asks permission for, that the model gets."""

_RESULTS = {
    Outcome.DONE: "gptme is done",
    Outcome.FAILED: "gptme has failed",
    Outcome.CANCELLED: "gptme was stopped",
}


class Jobs:
    """One session's.

    Args:
        client: The way to gptme-server.
        writer: Knows the conversation, and makes it if need be.
        voice_confirm: Whether permission can be given by voice.
        post: Lets an event happen to the session.
        replies: Returns the number of the last reply that knows nothing of what is told now.
        awaits_words: Returns whether the user has said something that is not written down yet.
        start: Runs something beside everything else, at most until the session ends.
    """

    def __init__(
        self,
        client: GptmeClient,
        writer: TurnWriter,
        voice_confirm: bool,
        post: Callable[[core.Event], None],
        replies: Callable[[], int],
        awaits_words: Callable[[], bool],
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._start = start
        self._client = client
        self._writer = writer
        self._voice_confirm = voice_confirm
        self._post = post
        self._replies = replies
        self._awaits_words = awaits_words
        self._work = Work()
        self._steps = Steps(client, writer, self._work, self._heard)
        self._permissions = Permissions(asyncio.get_running_loop().time)
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: deque[str] = deque()
        self._asked = asyncio.Event()
        self._next: str | None = None  # is being given to gptme
        self._current: str | None = None  # gptme is at it
        self._stepping = False  # a step was asked for, and is not answered yet
        self._early: Finished | None = None  # an end that came before that answer
        self._typed = False  # what gptme is at was typed into the chat
        self._shown = ""

    @property
    def unfinished(self) -> bool:
        """Whether gptme is at work on something that it was given here."""
        return self._stepping or (self._current is not None and self._work.active)

    def drop_waiting(self) -> bool:
        """Forget the tasks that were not begun; whether there were any."""
        waited = bool(self._waiting) or (self._next is not None and not self._stepping)
        self._waiting.clear()
        self._next = None
        return waited

    # gptme's events

    async def follow(self) -> None:
        """Follow what gptme does, for ever."""
        await self._steps.follow()

    @property
    def gptme_session(self) -> str | None:
        """The session of gptme's that its events come from."""
        return self._steps.gptme_session

    def _heard(self, event: Mapping[str, Any]) -> None:
        waited = bool(self._work.asks)
        self._take_news(self._work.handle(event))
        if waited and not self._work.asks:
            self._permissions.drop()

    def _take_news(self, news: list[News]) -> None:
        for piece in news:
            self._on_news(piece)
        self._note_idle()

    def _note_idle(self) -> None:
        (self._idle.clear if self._work.active else self._idle.set)()

    async def settle(self) -> None:
        """Notice the end of work that gptme does not tell, for ever."""
        await self._steps.settle(self._take_news)

    def _on_news(self, news: News) -> None:
        match news:
            case Progress(text):
                self._show("working", text)
            case Typed(text):
                self._typed = True
                self._post(core.News(Told("user", f"[typed] {shortened(text)}")))
            case Asks():
                self._show("confirm", news.line)
                if news.content or not news.tool_id:
                    self._put_to_user(news)
                else:
                    self._start(self._find_out(news))
            case Finished() if self._stepping:
                self._early = news  # whose it is will be known in a moment
            case Finished():
                self._finished(news)

    def _show(self, status: Literal["working", "confirm"], text: str) -> None:
        """Show how the work goes; once, as long as nothing changes."""
        if self._current is not None and status == "working":
            text = f"{gist(self._current)} ({text})"
        if (shown := f"{status} {text}") != self._shown:
            self._shown = shown
            self._post(core.Notice(wire.ToolStatus(tools.ASK_GPTME, status, text)))

    def _tell(self, text: str, answer: bool) -> None:
        # Not as the system: what gptme reads in files and on the web is in it.
        self._post(core.News(Told("user", f"[gptme] {text}"), answer))

    async def _find_out(self, asks: Asks) -> None:
        """Put to the user what gptme's event does not tell: what a native call would run."""
        content = ""
        with suppress(VoiceError):
            content = (await self._client.waiting(self._writer.known_id)).get(asks.tool_id, "")
        if self._work.asks.get(asks.tool_id) != asks:
            return  # answered meanwhile
        asks = self._work.asks[asks.tool_id] = replace(asks, content=content)
        self._show("confirm", asks.line)
        self._put_to_user(asks)

    def _put_to_user(self, asks: Asks) -> None:
        if not asks.tool_id:
            self._tell(
                f"gptme asks the user: {asks.content}\nIt is to be answered in the chat, on the "
                "screen. Say so.",
                answer=True,
            )
            return
        what = f"gptme asks for permission to use {asks.tool}:\n{asks.content[:MAX_READ_OUT]}\n"
        if self._voice_confirm and 0 < len(asks.content) <= MAX_READ_OUT:
            permission = self._permissions.ask(asks, self._replies())
            what += f"permission_id: {permission.id}. Read it out in short, and ask the user."
        else:
            what += "Tell the user in short what it is, and that it waits in the chat."
        self._tell(what, answer=True)

    def _finished(self, finished: Finished) -> None:
        job, self._current = self._current, None
        typed, self._typed = self._typed, False
        self._permissions.drop()
        self._report(job, finished, typed)

    def _report(self, job: str | None, finished: Finished, typed: bool = False) -> None:
        """Tell the model, and the user, how work has ended."""
        outcome, answer = finished.outcome, finished.answer
        self._shown = ""
        line = gist(job or answer or "what it was doing")
        self._post(core.Notice(wire.ToolStatus(tools.ASK_GPTME, outcome.value, line)))
        what = _RESULTS[outcome]
        if job is not None:
            what += f" with: {gist(job).rstrip('.')}"
        what += f". It says:\n{answer}" if answer else "."
        # What nobody in this call has asked for is good to know; what the user has stopped need
        # not be told to them.
        asked = (job is not None or typed) and outcome is not Outcome.CANCELLED
        if asked:
            what += "\nTell the user the gist, in a sentence or two."
        self._tell(what, asked)

    # Tasks

    async def run(self) -> None:
        """Give tasks to gptme as they come, one after the other, for ever."""
        while True:
            await self._asked.wait()
            await self._idle.wait()
            if not self._waiting:
                self._asked.clear()
                continue
            job = self._next = self._waiting.popleft()
            self._show("working", gist(job))
            problem = ""
            try:
                await self._give(job)
            except _Dropped:
                self._report(job, Finished(Outcome.CANCELLED, ""))
            except VoiceError as error:
                problem = error.message
            except asyncio.TimeoutError:
                problem = "gptme-server does not answer."
            except Exception:
                logger.exception("A task could not be given to gptme.")
                problem = "It could not be given to gptme; see the server's log."
            finally:
                self._next = None
            if problem:
                logger.warning("gptme does not take a task: %s", problem)
                self._report(job, Finished(Outcome.FAILED, problem))

    async def _give(self, job: str) -> None:
        """Write a task into the conversation, and have gptme begin with it.

        Raises:
            _Dropped: It was cancelled meanwhile.
            VoiceError: gptme does not take it.
        """
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._words_written(), WORDS_SECONDS)
        self._still_wanted()
        conversation_id = await self._writer.ensure(gist(job))
        await self._steps.connected()
        turn = {
            "id": f"task-{secrets.token_hex(8)}",
            "role": "user",
            "kind": "task",
            "text": job,
            "spoken_at": datetime.now(timezone.utc).isoformat(),
            "metadata": self._writer.describe(),
        }
        await self._when_free(lambda: self._client.append(conversation_id, [turn], keep=False))
        self._writer.announce()
        await self._when_free(lambda: self._begin(job))

    def _still_wanted(self) -> None:
        if self._next is None:
            raise _Dropped

    async def _when_free(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a call as soon as gptme is not at work on something else."""
        tries = 0
        while True:
            self._still_wanted()
            try:
                return await call()
            except ConversationBusy:
                await asyncio.sleep(min(pause(tries), BUSY_SECONDS))
                tries += 1

    async def _words_written(self) -> None:
        while self._awaits_words():
            await asyncio.sleep(0.05)
        await self._writer.settled()

    async def _begin(self, job: str) -> None:
        """Have gptme begin a step; its events may come before the answer says that it is ours."""
        was_active = self._work.active
        self._stepping, self._early = True, None
        self._work.expect()
        self._note_idle()
        problem: VoiceError | None = None
        try:
            await self._steps.step()
        except VoiceError as error:
            problem = error
        finally:
            self._stepping = False
        early = self._take_early()
        if problem is None or (early is not None and early.outcome is Outcome.FAILED):
            self._current = job
            if early is not None:
                self._finished(early)
            return
        if early is not None:
            self._finished(early)
        elif not was_active:
            self._work.forget()
        self._note_idle()
        raise problem

    def _take_early(self) -> Finished | None:
        early, self._early = self._early, None
        return early

    # Function calls

    async def call(self, call: ToolCall, answers: int) -> None:
        """Carry out a function call of the model's; see `events.CallTool`."""
        try:
            result = await self._carry_out(call, answers)
        except VoiceError as error:
            result = {"error": error.message}
        if result is not None:
            output = json.dumps(result, ensure_ascii=False)
            self._post(core.ToolDone(call.call_id, output))

    async def _carry_out(self, call: ToolCall, answers: int) -> dict[str, Any] | None:
        match call.name:
            case tools.ASK_GPTME:
                return self._take(call.arguments.get("task"))
            case tools.GPTME_STATUS:
                return self._status()
            case tools.CANCEL_GPTME:
                return await self._cancel()
            case tools.END_CALL:
                self._post(core.EndWhenHeard())
                return None  # an answer would have the model speak once more
            case tools.ANSWER_PERMISSION if self._voice_confirm:
                return await self._permit(call.arguments, answers)
        logger.warning("The speech model called %.100r, which it was not given.", call.name)
        return {"error": "there is no such function"}

    def _take(self, task: object) -> dict[str, Any]:
        task = whole(task) if isinstance(task, str) else task
        if not isinstance(task, str) or not task.strip() or len(task) > tools.MAX_TASK:
            return {"error": f"task must be a text of 1 to {tools.MAX_TASK} characters"}
        if len(self._waiting) >= MAX_JOBS:
            return {"error": f"{MAX_JOBS} tasks wait already; wait for them, or cancel"}
        waits = bool(self._waiting) or self._next is not None or self._work.active
        self._waiting.append(task.strip())
        self._asked.set()
        if waits:
            return {"status": "queued", "note": "Begins when gptme is done with what it does now."}
        return {"status": "begun", "note": "Not done yet: you will be told. Do not guess."}

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = {"gptme": self._work.state}
        if (job := self._current or self._next) is not None:
            status |= {"gptme": self._work.state if self._current else "working", "task": job}
        if self._waiting:
            status["queued"] = list(self._waiting)
        if self._work.asks:
            status["asks_permission_for"] = [asks.line for asks in self._work.asks.values()]
        return status

    async def _cancel(self) -> dict[str, Any]:
        waited = self.drop_waiting()
        if self._work.active and self.gptme_session is not None:
            await self._steps.interrupt()
            return {"status": "stopped"}
        return {"status": "stopped" if waited else "nothing was going on"}

    async def interrupt(self) -> None:
        """Stop what gptme does."""
        try:
            await self._steps.interrupt()
        except VoiceError as error:
            logger.warning("gptme cannot be stopped: %s", error.message)

    async def _permit(self, arguments: Mapping[str, Any], answers: int) -> dict[str, Any]:
        allow = arguments.get("allow")
        if not isinstance(allow, bool):
            return {"error": "allow must be true or false"}
        try:
            asks = self._permissions.answer(str(arguments.get("permission_id")), answers)
        except Refused as refused:
            return {"error": str(refused)}
        if self._work.asks.get(asks.tool_id) != asks:
            return {"error": "gptme no longer asks for this."}
        try:
            await self._client.confirm(self._writer.known_id, asks.tool_id, allow)
        except ConversationUnknown:
            return {"error": "gptme no longer asks for this."}
        except VoiceError:
            # The user's answer is not to be lost for a moment's trouble.
            await asyncio.sleep(BUSY_SECONDS)
            await self._client.confirm(self._writer.known_id, asks.tool_id, allow)
        return {"status": "allowed" if allow else "refused", "note": "gptme goes on by itself."}


class _Dropped(Exception):
    """A task was cancelled before gptme had it."""
