"""Which hearing and speaking the settings mean, made once and shared by all sessions.

A model takes hundreds of megabytes, so there is one process for each, whoever uses it. What nobody
uses any more stays for a while: the next session begins at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from ...config import Settings, is_address
from .http_speech import HttpSpeech, HttpTranscriber
from .models import DEFAULTS
from .processes import ProcessSpeech, ProcessTranscriber
from .stages import SpeechToText, TextToSpeech
from .voices import speaker

__all__ = ["Shared", "shut_down", "speech_to_text", "text_to_speech"]

logger = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
KEY = "SPEECH_API_KEY"
_SERVER_VOICE = "alloy"

_Stage = TypeVar("_Stage", SpeechToText, TextToSpeech)


@dataclass(eq=False)
class Shared(Generic[_Stage]):
    """A stage that several sessions use; `release` it once each."""

    stage: _Stage
    users: int = 0
    _idle: asyncio.TimerHandle | None = None
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    def use(self) -> None:
        """Count one user more."""
        self.users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def release(self) -> None:
        """Count one user less; without any it is closed after a while."""
        self.users -= 1
        if not self.users and self in _stages().values():  # else it is closed already
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(IDLE_SECONDS, self._retire)

    def _retire(self) -> None:
        stages = _stages()
        for key in [key for key, shared in stages.items() if shared is self]:
            del stages[key]
        task = asyncio.ensure_future(self.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Free it."""
        if self._idle is not None:
            self._idle.cancel()
        await self.stage.close()


_Key = tuple[str, ...]
_Stages = dict[_Key, "Shared[Any]"]
_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Stages] = WeakKeyDictionary()


def _stages() -> _Stages:
    return _by_loop.setdefault(asyncio.get_running_loop(), {})


def speech_to_text(settings: Settings, keys: Mapping[str, str]) -> Shared[SpeechToText]:
    """Return what hears, by the settings; not open yet, and to be released.

    Raises:
        VoiceError: A server's address or its key cannot be used.
    """
    model = settings.stt or DEFAULTS["stt"]
    if is_address(model):
        name, secret = settings.stt_model or "whisper-1", keys.get(KEY, "")
        key = ("stt", model, name, _digest(secret))
        return _shared(key, lambda: HttpTranscriber(model, name, secret))
    return _shared(("stt", model), lambda: ProcessTranscriber(model))


def text_to_speech(settings: Settings, keys: Mapping[str, str]) -> Shared[TextToSpeech]:
    """Return what speaks, by the settings; not open yet, and to be released.

    Raises:
        VoiceError: As `speech_to_text`.
    """
    url = settings.tts
    if is_address(url):
        name, secret = settings.tts_model or "tts-1", keys.get(KEY, "")
        voice = settings.voice or _SERVER_VOICE
        key = ("tts", url, name, voice, _digest(secret))
        return _shared(key, lambda: HttpSpeech(url, name, voice, secret))
    mouth = speaker(settings)
    if mouth.ignored:
        logger.warning(
            "%s has no voice %.80r; it speaks with %s. Set another one, or none.",
            mouth.engine,
            mouth.ignored,
            mouth.voice,
        )
    return _shared(
        ("tts", mouth.engine, mouth.voice), lambda: ProcessSpeech(mouth.engine, mouth.voice)
    )


def _digest(secret: str) -> str:
    """Return what tells one key from another and is none."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _shared(key: _Key, make: Callable[[], _Stage]) -> Shared[_Stage]:
    stages = _stages()
    shared = stages.get(key)
    if shared is None:
        shared = stages[key] = Shared(make())
    shared.use()
    return shared


async def shut_down() -> None:
    """Free all that this loop's sessions have shared."""
    stages = _by_loop.pop(asyncio.get_running_loop(), {})
    ends = (shared.close() for shared in stages.values())
    for failed in filter(None, await asyncio.gather(*ends, return_exceptions=True)):
        logger.error("A part of the local backend did not end cleanly.", exc_info=failed)
