"""gptme's events in a conversation, and its steps: followed for ever, begun, stopped, seen to end.

Both want a session of gptme's; which one it is, and that it may be forgotten, is known here only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConversationUnknown, GptmeUnreachable, VoiceError
from .conversation import GptmeClient
from .turn_writer import TurnWriter, pause
from .work import News, Work

__all__ = ["CONNECT_SECONDS", "Steps"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""How long a step waits for gptme's events."""
SETTLE_SECONDS = 1.0
"""How long word that a step is complete may take, before gptme-server is asked."""


class Steps:
    """One voice session's.

    Args:
        client: The way to gptme-server.
        writer: Knows the conversation.
        work: What `on_event` makes of the events.
        on_event: Called with every event, in their order.
    """

    def __init__(
        self,
        client: GptmeClient,
        writer: TurnWriter,
        work: Work,
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.gptme_session: str | None = None
        """The session of gptme's that its events come from."""
        self._client = client
        self._writer = writer
        self._work = work
        self._on_event = on_event
        self._may_be_over = asyncio.Event()
        self._connected = asyncio.Event()
        self._renew = asyncio.Event()
        self._came = False  # whether the stream of events has brought any

    async def connected(self) -> None:
        """Wait until the events are followed.

        Raises:
            asyncio.TimeoutError: They cannot be.
        """
        await asyncio.wait_for(self._connected.wait(), CONNECT_SECONDS)

    async def follow(self) -> None:
        """Follow what gptme does, for ever."""
        await self._writer.there.wait()
        tries = 0
        while True:
            stream = asyncio.create_task(self._listen())
            renew = asyncio.create_task(self._renew.wait())
            try:
                await asyncio.wait({stream, renew}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stream.cancel()
                renew.cancel()
                # Not left to itself: its connection is to be closed while there is a loop.
                await asyncio.gather(stream, renew, return_exceptions=True)
            self._connected.clear()
            self._renew.clear()
            tries = 0 if self._came else tries + 1
            await asyncio.sleep(pause(tries))

    async def _listen(self) -> None:
        """Follow one stream to its end."""
        self._came = False
        try:
            async for event in self._client.events(self._writer.known_id, self.gptme_session):
                self._came = True
                if event["type"] == "connected":
                    self.gptme_session = str(event.get("session_id"))
                    self._connected.set()
                self._on_event(event)
                if self._work.may_be_over:
                    self._may_be_over.set()
        except ConversationUnknown as error:
            # gptme 0.34 forgets sessions that were quiet for long, and then knows them no more.
            logger.info("gptme's events end: %s", error.message)
            self.gptme_session = None
        except VoiceError as error:
            logger.info("gptme's events end: %s", error.message)
        except Exception:
            logger.exception("gptme's events cannot be followed.")

    async def settle(self, take: Callable[[list[News]], None]) -> None:
        """Notice the end of work that gptme does not tell, for ever; `take` is given the news."""
        while True:
            await self._may_be_over.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            if not self._work.may_be_over:
                self._may_be_over.clear()
                continue
            try:
                working = await self._client.working(self._writer.known_id)
            except VoiceError:
                continue
            if not working and self._work.may_be_over:
                take(self._work.over())

    async def step(self) -> None:
        """Have gptme go on with the conversation.

        Raises:
            VoiceError: It does not: `ConversationBusy` while it is at work already.
            asyncio.TimeoutError: Its events cannot be followed.
        """
        conversation_id = self._writer.known_id
        try:
            await self._client.step(conversation_id, self.gptme_session or "")
        except ConversationUnknown:
            # gptme has forgotten the session that the events came from: a new stream has a new one.
            self.gptme_session = None
            self._connected.clear()
            self._renew.set()
            await self.connected()
            await self._client.step(conversation_id, self.gptme_session or "")
        except GptmeUnreachable:
            # It may have begun all the same: a model can take longer than an answer may.
            if not await self._client.working(conversation_id):
                raise

    async def interrupt(self) -> None:
        """Stop what gptme does.

        Raises:
            VoiceError: gptme-server does not answer.
        """
        if self.gptme_session is not None:
            await self._client.interrupt(self._writer.known_id, self.gptme_session)
