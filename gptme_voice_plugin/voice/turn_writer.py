"""Gets a session's turns into its conversation, in their order, whatever happens on the way.

What gptme-server has accepted is safe there; until then a turn waits here and is sent again. From
the welcome page, and from clients that name no conversation, the first turn makes one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from ..backends.base import Usage
from ..characters import whole
from ..errors import (
    ConversationBusy,
    ConversationUnknown,
    GptmeUnreachable,
    InternalError,
    VoiceError,
)
from .conversation import GptmeClient, new_conversation_id
from .transcript import SpokenTurn

__all__ = ["TurnWriter", "pause", "usage_counts"]

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between tries; the last one again and again."""
MAX_AT_ONCE = 50
NAME_CHARS = 50


class TurnWriter:
    """Writes one session's turns.

    Args:
        client: The way to gptme-server.
        conversation_id: Where to; None: a new conversation with the first turn.
        model: Of a new conversation, for gptme; None: its default.
        describe: What is known of all turns: `session`, `backend`, `model`.
        on_created: Called with id and name of a conversation that was made.
        on_trouble: Called when turns can never be written, with why.
    """

    def __init__(
        self,
        client: GptmeClient,
        conversation_id: str | None,
        model: str | None,
        describe: Callable[[], Mapping[str, str]],
        on_created: Callable[[str, str], None],
        on_trouble: Callable[[VoiceError], None],
    ) -> None:
        self.there = asyncio.Event()
        """Set once there is a conversation."""
        self.counts = {"user": 0, "assistant": 0}
        """Turns given to it so far, by role."""
        self.describe = describe
        self._id = conversation_id
        if conversation_id is not None:
            self.there.set()
        self._client = client
        self._model = model
        self._on_created = on_created
        self._on_trouble = on_trouble
        self._new_id: str | None = None
        self._creating = asyncio.Lock()
        self._made: tuple[str, str] | None = None
        self._waiting: deque[dict[str, Any]] = deque()
        self._more = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._given_up = False

    @property
    def known_id(self) -> str:
        """The conversation's id; only once it is `there`."""
        assert self._id is not None
        return self._id

    @property
    def unwritten(self) -> int:
        """How many turns are not safe yet."""
        return len(self._waiting)

    def write(self, turns: tuple[SpokenTurn, ...], now: float) -> None:
        """Take turns; `now` is this moment by their clock."""
        if self._given_up:
            return
        wall = datetime.now(timezone.utc).timestamp() - now
        for turn in turns:
            self.counts[turn.role] += 1
            self._waiting.append(self._message(turn, wall))
        self._written.clear()
        self._more.set()

    async def settled(self) -> None:
        """Wait until all that was taken is safe, or given up."""
        await self._written.wait()

    async def run(self) -> None:
        """Write what comes, for ever."""
        while True:
            await self._more.wait()
            self._more.clear()
            tries, at_once = 0, MAX_AT_ONCE
            while self._waiting and not self._given_up:
                batch = list(islice(self._waiting, at_once))
                try:
                    await self._client.append(await self.ensure(_name(batch)), batch)
                except (GptmeUnreachable, ConversationBusy) as error:
                    if not tries:
                        logger.warning("Turns wait to be written: %s", error.message)
                    await asyncio.sleep(pause(tries))
                    tries += 1
                except VoiceError as error:
                    if isinstance(error, ConversationUnknown) or at_once == 1:
                        self._refused(batch, error)
                    at_once = 1  # one of them may be to blame, but not all
                except Exception as exc:
                    # Whatever it is about these, the next ones are to be written.
                    logger.exception("Turns cannot be sent.")
                    self._refused(batch, InternalError(f"{type(exc).__name__}."))
                else:
                    tries = 0
                    self.announce()
                    for _ in batch:
                        self._waiting.popleft()
            self._written.set()

    def announce(self) -> None:
        """Tell, once, of a conversation that was made; when its first message is in it.

        A page reads a conversation and then follows it, and does not show what comes in between.
        """
        if self._made is not None:
            (id, name), self._made = self._made, None
            self._on_created(id, name)

    def _refused(self, batch: list[dict[str, Any]], error: VoiceError) -> None:
        logger.error("%d turns cannot be written: %s", len(batch), error.message)
        self._on_trouble(error)
        if isinstance(error, ConversationUnknown):  # deleted: nothing more can be
            self._given_up = True
            self._waiting.clear()
            return
        for _ in batch:
            self._waiting.popleft()

    async def ensure(self, name: str) -> str:
        """Return the conversation's id; make it, with a name, if there is none yet: see `announce`.

        Raises:
            VoiceError: See `GptmeClient.create`.
        """
        async with self._creating:
            if self._id is None:
                # The same id with every try: the answer to one may be lost.
                first = self._new_id is None
                self._new_id = self._new_id or new_conversation_id(datetime.now(timezone.utc))
                try:
                    await self._client.create(self._new_id, name, self._model)
                except ConversationBusy:
                    if first:  # somebody has made one in the same moment
                        self._new_id = None
                        raise
                self._id = self._new_id
                self.there.set()
                self._made = (self._id, name)
            return self._id

    def _message(self, turn: SpokenTurn, wall: float) -> dict[str, Any]:
        metadata: dict[str, Any] = dict(self.describe())
        if turn.seconds is not None:
            metadata["seconds"] = round(turn.seconds, 2)
        if turn.usage is not None and (counts := usage_counts(turn.usage)):
            metadata["usage"] = counts
        message = {
            "id": f"voice-{metadata.get('session', '')}-{turn.number}",
            "role": turn.role,
            "text": whole(turn.text),
            "spoken_at": datetime.fromtimestamp(wall + turn.began, timezone.utc).isoformat(),
            "metadata": metadata,
        }
        if turn.unheard:
            message["unheard"] = whole(turn.unheard)
        if turn.typed:
            message["kind"] = "typed"
        return message


def pause(tries: int) -> float:
    """Return how long to wait before another try, after so many; in seconds."""
    return RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]


def usage_counts(usage: Usage) -> dict[str, float]:
    """Return what is known of a usage, by name; what no count can be is not known."""
    counts = {
        "input_audio_ms": usage.input_audio_ms,
        "output_audio_ms": usage.output_audio_ms,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
    # JSON, and what reads it, holds no larger number exactly.
    return {name: count for name, count in counts.items() if count and 0 < count <= 2**53}


def _name(batch: list[dict[str, Any]]) -> str:
    """Return a name for a conversation that begins so."""
    said = [turn["text"] for turn in batch if turn["role"] == "user"] or [batch[0]["text"]]
    words = " ".join(said[0].split())
    if len(words) <= NAME_CHARS:
        return words or "Voice"
    return words[:NAME_CHARS].rsplit(" ", 1)[0] + "…"
