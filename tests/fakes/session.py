"""One connection's session: its state, its responses, and what a test may ask about it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.support.speech import Samples

from .conversation import Conversation, Item, new_id, to_samples
from .dialect import Event
from .faults import After, Faults
from .handlers import ClientEvent, Handlers
from .response import Response
from .script import Reply, Turn, pick
from .turns import Turns
from .validate import Problem
from .wire import Outbox, Sent

if TYPE_CHECKING:
    from .engine import FakeProvider

WAITING = Reply(text="I am still waiting for that.", seconds=1.0)


class Session:
    """A session and everything a test may ask about it afterwards.

    Args:
        provider: The server.
        ws: The connection.
        faults: What goes wrong on it.
        number: Which connection of the server this is, from 1.
        query: The address's query.
        conversation: To go on with; None: a new one.
    """

    def __init__(
        self,
        provider: FakeProvider,
        ws: ServerConnection,
        faults: Faults,
        number: int,
        query: dict[str, str],
        conversation: Conversation | None = None,
    ) -> None:
        self.provider = provider
        self.dialect = provider.dialect
        self.faults = faults
        self.number = number
        self.query = query
        self.id = new_id("sess")
        self.started_at = time.monotonic()
        self.ended = False
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self.config = self.dialect.defaults(query.get("model", ""))
        self.config["id"] = self.id
        self.settings = self.dialect.settings(self.config)
        self.ignored: list[str] = []
        """Keys of the client's `session` that the provider took no notice of."""
        self.conversation = conversation or Conversation()
        self.resumed = conversation is not None
        self.events: list[ClientEvent] = []
        self.problems: list[Problem] = []
        """Everything the client did wrong."""
        self.late_cancels: list[str] = []
        """Responses that the client wanted to stop when they had just ended, each once at most.

        Both sides may stop the same reply, and their words cross on the way: nobody's mistake.
        """
        self.premature_creates = 0
        """`response.create` while a function call had no output yet."""
        self.turns = Turns(self, self.settings)
        self.response: Response | None = None
        self.outbox = Outbox(ws, faults)
        self.outbox.on_delta = self._delta_sent
        self.announcements: list[tuple[str, bool]] = []
        self._replies = 0
        self.outputs: dict[str, str] = {}
        """Function outputs that came since the last reply, by call id."""
        self._ws = ws
        self._client = Handlers(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stall_ms = 0.0
        self._past: set[str] = set()
        self._ended_responses: set[str] = set()

    # For tests ---------------------------------------------------------------------------------

    @property
    def items(self) -> list[Item]:
        """The conversation's items in order."""
        return list(self.conversation.items)

    def item(self, item_id: str) -> Item:
        """Return an item, also a deleted one."""
        known = [*self.conversation.items, *self.conversation.deleted]
        return next(i for i in known if i.id == item_id)

    @property
    def heard(self) -> Samples:
        """All input audio, at the input rate."""
        return self.turns.clock.between(0)

    @property
    def audio_ms(self) -> float:
        """How much input audio has come."""
        return self.turns.clock.now_ms

    @property
    def sent(self) -> list[Sent]:
        """What was written to the socket."""
        return list(self.outbox.sent)

    def of(self, type: str) -> list[dict[str, Any]]:
        """Return the client's events of a type."""
        return [e.data for e in list(self.events) if e.type == type]

    # Life --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self.start(self.outbox.run())
        for event in self.dialect.greeting(self):
            self.send(event)
        self.check_moments(lambda when: when.at_connect)
        if self.dialect.ping_seconds is not None:
            self.start(self._ping(self.dialect.ping_seconds))
        try:
            with contextlib.suppress(ConnectionClosed):
                async for frame in self._ws:
                    await self._client.take(frame)
                    if self._stall_ms:
                        stall, self._stall_ms = self._stall_ms, 0.0
                        await asyncio.sleep(stall / 1000)
        finally:
            self.ended = True
            self.close_code, self.close_reason = self._ws.close_code, self._ws.close_reason
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the reading, at most until the session ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.provider.failures.append(task.exception())

    async def _ping(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.send({"type": "ping", "timestamp": int(time.time() * 1000)})

    def check_moments(self, reached: Callable[[After], bool]) -> None:
        """Make the faults whose moment has come."""
        faults = self.faults
        if faults.error is not None and reached(faults.error_when) and self._first("error"):
            self.send({"type": "error", "error": dict(faults.error)})
        if faults.stall_ms and reached(faults.stall_when) and self._first("stall"):
            self._stall_ms = faults.stall_ms
        # A close after deltas is made by the outbox, to the delta.
        close = faults.close
        if close and close.when.deltas is None and reached(close.when) and self._first("close"):
            self.outbox.put_close(close)

    def _first(self, fault: str) -> bool:
        first = fault not in self._past
        self._past.add(fault)
        return first

    def _delta_sent(self, count: int) -> None:
        self.check_moments(lambda when: when.deltas is not None and count >= when.deltas)

    # Sending -----------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Send an event."""
        self.outbox.put(event)

    def send_rate_limits(self, used_tokens: int) -> None:
        """Tell what is left of the rate limits."""
        limits = [
            {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06},
            {
                "name": "tokens",
                "limit": 50_000,
                "remaining": max(50_000 - used_tokens, 0),
                "reset_seconds": 0.06,
            },
        ]
        self.send({"type": "rate_limits.updated", "rate_limits": limits})

    def item_added(self, item: Item, previous: str | None) -> None:
        """Tell of a new item."""
        shown = item.public()
        if item.status == "in_progress" and item.type == "message":
            shown["content"] = []
        self.send({"type": "conversation.item.added", "previous_item_id": previous, "item": shown})

    def add_item(self, item: Item) -> None:
        """Put an item at the end of the conversation, and tell."""
        self.item_added(item, self.conversation.add(item))

    def item_done(self, item: Item) -> None:
        """Tell that an item is complete, where the provider does."""
        if self.dialect.item_done:
            at = self.conversation.items.index(item) if item in self.conversation.items else 0
            previous = self.conversation.items[at - 1].id if at else None
            self.send(
                {
                    "type": "conversation.item.done",
                    "previous_item_id": previous,
                    "item": item.public(),
                }
            )

    # Responses ---------------------------------------------------------------------------------

    def respond(
        self, params: dict[str, Any], by_client: bool, reply: Reply | None = None
    ) -> Response | None:
        """Start a response, or send the error that says why not."""
        beside = params.get("conversation") == "none"
        if self.response is not None and not beside:
            problem = Problem(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self.response.id}. "
                "Wait until the response is finished before creating a new one.",
            )
            if by_client:
                raise problem
            self.send({"type": "error", "error": problem.to_error(None)})
            return None
        response = Response(self, reply or self._next_reply(by_client), params)
        if not beside:
            self.response = response
        self.start(response.run())
        return response

    def _next_reply(self, by_client: bool) -> Reply:
        items = self.conversation.items
        if by_client and self.conversation.unanswered_calls and items[-1].role != "user":
            self.premature_creates += 1
            return WAITING
        user = self.conversation.last_user()
        turn = Turn(
            self._replies,
            to_samples(user.audio if user else b""),
            user.rate if user else self.settings.input_rate,
            self.settings.output_rate,
            user.text if user else "",
            dict(self.outputs),
            self,
        )
        self._replies += 1
        self.outputs.clear()
        return pick(self.provider.replies, turn, self.provider.default_reply)

    def response_ended(self, response: Response) -> None:
        """Let the next one start; called before `response.done` is sent."""
        self._ended_responses.add(response.id)
        if self.response is response:
            self.response = None
            self.turns.arm_idle(response.audio_ms)

    def next_announcement(self) -> None:
        """Speak the next text that was forced while a response was running."""
        if self.announcements and self.response is None:
            text, interruptible = self.announcements.pop(0)
            # About as long as it takes to say it.
            reply = Reply(text=text, seconds=max(len(text) / 15, 0.3))
            response = self.respond({}, by_client=False, reply=reply)
            if response is not None:
                response.interruptible = interruptible

    def refuse_cancel(self, event: dict[str, Any]) -> None:
        """Answer a client that would stop what is not running."""
        problem = Problem(
            "response_cancel_not_active", "Cancellation failed: no active response found"
        )
        response_id = event.get("response_id")
        if response_id not in self._ended_responses:
            raise problem
        self._ended_responses.remove(response_id)
        self.late_cancels.append(response_id)
        self.send({"type": "error", "error": problem.to_error(event.get("event_id"))})

    async def interrupt(self, reason: str) -> None:
        """Stop the response that is running, and wait for its last event."""
        response = self.response
        if response is not None:
            response.stop(reason)
            while self.response is response:
                await asyncio.sleep(0)
