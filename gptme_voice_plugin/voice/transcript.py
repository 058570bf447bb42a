"""Who said what, in the order it was said: what becomes of it are the turns of the conversation.

An item has its place from the moment it is first mentioned, and is a turn once nothing of it can
change any more: the user's words when they are written down, a reply when it was heard to its end
or stopped. Words often come late; turns wait for each other, so that their order is the spoken one,
but not for ever: what stays away holds nobody up, and is put at the end if it comes after all. Of
words that are known in part by then, that part is the turn.

Times are seconds of any clock that only goes forward.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from ..backends.base import Usage
from ..backends.history import heard_text

__all__ = ["SpokenTurn", "Transcript"]

WORDS_SECONDS = 12.0
"""How long turns that are complete wait for the user's words before them."""
IDS_KEPT = 64
"""Items that are remembered once they are turns, so that what comes late of them is no new one."""
REPLY_SECONDS = 3.0
"""How long a reply that has ended waits for the last word on its text."""


@dataclass(frozen=True)
class SpokenTurn:
    """A turn that is complete."""

    number: int
    """Its place in the session, from 1."""
    role: Literal["user", "assistant"]
    text: str
    """Of an interrupted reply: what was heard."""
    began: float
    """When, by the session's clock."""
    unheard: str = ""
    """The rest of an interrupted reply."""
    seconds: float | None = None
    """How long it was spoken."""
    typed: bool = False
    usage: Usage | None = None
    """Of a reply: what has been used up since the one before."""
    item_id: str = ""
    """The backend's."""


@dataclass
class _Item:
    role: Literal["user", "assistant"]
    item_id: str
    began: float
    text: str = ""
    final: bool = False
    typed: bool = False
    seconds: float | None = None
    audio: bool = False
    """Whether any of it was sent to be heard."""
    ended_at: float | None = None
    """Of a reply: when nothing more of it was to be heard."""
    heard: str | None = None
    """Of a reply that was cut: the words that were heard, once they are known."""
    cut: bool = False
    share: tuple[int, int] = (0, 0)
    """Of a reply that was cut: how much of its sound was heard, and of how much."""


class Transcript:
    """The items of one session."""

    def __init__(self) -> None:
        self._items: list[_Item] = []  # not given out yet
        self._numbers = 0
        self._given: deque[tuple[str, str]] = deque(maxlen=IDS_KEPT)
        self._speech_began: float | None = None
        self._speech: tuple[float, float] | None = None  # the last one that has no item yet
        self.usage = Usage()
        """What the session has used up so far."""
        self._usage_told = Usage()

    @property
    def awaits_words(self) -> bool:
        """Whether the user has said something that is not written down yet."""
        return any(item.role == "user" and not item.final for item in self._items)

    # What happens

    def speech_started(self, now: float) -> None:
        """The user began to speak."""
        self._speech_began = now

    def speech_stopped(self, now: float) -> None:
        """The user stopped."""
        if self._speech_began is None:
            return
        speech = (self._speech_began, now)
        self._speech_began = None
        for item in reversed(self._items):
            if item.role == "user" and not item.typed and item.seconds is None:
                item.began, item.seconds = speech[0], speech[1] - speech[0]
                return
        self._speech = speech

    def said(self, item_id: str, text: str, final: bool, now: float) -> None:
        """Take words of the user's; partial ones are replaced by the next."""
        item = self._find("user", item_id)
        if item is None:
            if ("user", item_id) in self._given:
                return
            item = _Item("user", item_id, now if self._speech_began is None else self._speech_began)
            if self._speech is not None:
                item.began, item.seconds = self._speech[0], self._speech[1] - self._speech[0]
                self._speech = None
            self._items.append(item)
        if not item.final:
            item.text, item.final = text, final

    def typed(self, text: str, now: float) -> None:
        """Take what the user has typed."""
        self._items.append(_Item("user", "", now, text, final=True, typed=True))

    def replying(self, item_id: str, text: str, final: bool, cut: bool, now: float) -> None:
        """Take words of a reply; with `cut` those of it that were heard."""
        item = self._reply(item_id, now)
        if item is None:
            return
        if cut:
            item.heard = text
        elif not item.cut:
            item.text, item.final = text, final

    def sounding(self, item_id: str, now: float) -> None:
        """Sound of a reply was sent."""
        item = self._reply(item_id, now)
        if item is not None and not item.audio:
            item.audio, item.began = True, now

    def generated(self, item_id: str, now: float) -> None:
        """A reply was made to its end; one without sound is over with it."""
        item = self._find("assistant", item_id)
        if item is not None and not item.audio and item.ended_at is None:
            item.ended_at = now

    def heard(self, item_id: str, seconds: float, now: float) -> None:
        """A reply was heard to its end."""
        item = self._find("assistant", item_id)
        if item is not None and item.ended_at is None:
            item.ended_at, item.seconds = now, seconds

    def cut(self, item_id: str, heard_ms: int, total_ms: int, now: float) -> None:
        """A reply was stopped, with so much of its sound heard."""
        item = self._find("assistant", item_id)
        if item is not None and item.ended_at is None:
            item.ended_at, item.seconds = now, heard_ms / 1000
            item.cut, item.share = True, (heard_ms, total_ms)

    def cut_unspoken(self, now: float) -> None:
        """The reply that was being prepared was stopped: nothing of it will be heard."""
        for item in self._items:
            if item.role == "assistant" and not item.audio:
                self.cut(item.item_id, 0, 0, now)

    def used(self, totals: Usage) -> None:
        """Take what the session has used up so far."""
        self.usage = totals

    # What comes of it

    def take(self, now: float) -> list[SpokenTurn]:
        """Return, once, the turns that are complete, in their order."""
        turns: list[SpokenTurn] = []
        while self._items:
            item = self._items[0]
            due = self._due(item)
            if due is None or due > now:
                break
            turns += self._finish(self._items.pop(0))
        return turns

    def next_due(self) -> float | None:
        """Return when `take` has something to give even if nothing happens; None: never."""
        return self._due(self._items[0]) if self._items else None

    def finish(self) -> list[SpokenTurn]:
        """Return all that is left, as far as it is known: nothing more will come."""
        turns = [turn for item in self._items for turn in self._finish(item)]
        self._items = []
        return turns

    def _due(self, item: _Item) -> float | None:
        """Return from when on `item` holds nobody up; None: as long as it takes."""
        if item.role == "user" and item.final:
            return float("-inf")
        if item.role == "user" or (item.ended_at is None and not item.audio):
            # It is waited for only as long as something waits behind it.
            behind = [i.ended_at for i in self._items if i.ended_at is not None]
            return min(behind) + WORDS_SECONDS if behind else None
        if item.ended_at is None:
            return None
        known = item.heard is not None if item.cut else item.final
        return float("-inf") if known else item.ended_at + REPLY_SECONDS

    def _finish(self, item: _Item) -> list[SpokenTurn]:
        text, unheard = item.text.strip(), ""
        if item.role == "assistant" and (item.cut or item.ended_at is None):
            heard = heard_text(text, *item.share) if item.heard is None else item.heard
            heard = heard.strip()
            unheard = text[len(heard) :] if text.startswith(heard) else text
            text, unheard = heard, unheard.strip()
        if item.role == "assistant" or item.final or text:
            self._given.append((item.role, item.item_id))
        if not text and not unheard:
            return []
        self._numbers += 1
        turn = SpokenTurn(
            number=self._numbers,
            role=item.role,
            text=text,
            began=item.began,
            unheard=unheard,
            seconds=item.seconds,
            typed=item.typed,
            item_id=item.item_id,
        )
        if item.role == "user":
            return [turn]
        used, self._usage_told = _since(self._usage_told, self.usage), self.usage
        return [replace(turn, usage=used)]

    def _find(self, role: str, item_id: str) -> _Item | None:
        return next((i for i in self._items if i.role == role and i.item_id == item_id), None)

    def _reply(self, item_id: str, now: float) -> _Item | None:
        """Return the item of a reply, a new one if need be; None if it is a turn already."""
        item = self._find("assistant", item_id)
        if item is None and ("assistant", item_id) not in self._given:
            item = _Item("assistant", item_id, now)
            self._items.append(item)
        return item


def _since(before: Usage, now: Usage) -> Usage:
    cost = None
    if now.cost_usd is not None:
        cost = now.cost_usd - (before.cost_usd or 0.0)
    return Usage(
        now.input_audio_ms - before.input_audio_ms,
        now.output_audio_ms - before.output_audio_ms,
        now.input_tokens - before.input_tokens,
        now.output_tokens - before.output_tokens,
        cost,
    )
