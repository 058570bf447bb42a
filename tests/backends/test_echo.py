"""The echo backend: it hears turns, and plays them back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from gptme_voice_plugin.backends import echo
from gptme_voice_plugin.backends.base import (
    AgentTranscript,
    Audio,
    BackendEvent,
    Interrupted,
    ReplyDone,
    SpeechStarted,
    SpeechStopped,
    Usage,
    UserTranscript,
)
from gptme_voice_plugin.backends.echo import SAMPLE_RATE, EchoBackend
from gptme_voice_plugin.config import Settings
from tests.support.speech import speech_like

AT_ONCE = 1e9
NEVER = 1e-6
FRAME = SAMPLE_RATE // 50 * 2


def quiet(ms: int) -> bytes:
    """Return a room's noise, of which no two frames are alike."""
    rng = np.random.default_rng(ms)
    return rng.integers(-9, 10, SAMPLE_RATE * ms // 1000).astype("<i2").tobytes()


def speech(ms: int = 1000, seed: int = 1) -> bytes:
    """Return loud speech."""
    return speech_like(SAMPLE_RATE, ms / 1000, seed).tobytes()


def drive(
    script: Callable[[EchoBackend], Awaitable[None]],
    speed: float = AT_ONCE,
    settings: Settings | None = None,
) -> list[BackendEvent]:
    """Run a script with a backend, close it, and return its events."""

    async def run() -> list[BackendEvent]:
        backend = EchoBackend(settings or Settings(), speed=speed)
        await backend.open()
        await script(backend)
        await backend.close()
        await backend.close()
        events = [event async for event in backend.events()]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return events

    return asyncio.run(run())


async def replied() -> None:
    """Let a reply be spoken to its end, at a speed that takes no time."""
    for _ in range(2000):
        await asyncio.sleep(0)


def said(events: list[BackendEvent]) -> bytes:
    """Return all reply audio."""
    return b"".join(event.pcm for event in events if isinstance(event, Audio))


def kinds(events: list[BackendEvent]) -> list[type]:
    """Return the types of events, runs of audio as one."""
    types = [type(event) for event in events]
    return [kind for index, kind in enumerate(types) if types[index - 1 : index] != [kind]]


def test_plays_back_prefix_speech_and_silence() -> None:
    """The reply is the turn: 300 ms before it, the speech, and the silence that ended it."""
    before, words, after = quiet(1000), speech(), quiet(700)

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(before + words + after)
        await replied()

    events = drive(script)
    assert kinds(events) == [
        SpeechStarted,
        SpeechStopped,
        UserTranscript,
        AgentTranscript,
        Audio,
        ReplyDone,
        Usage,
    ]
    heard = said(events)
    start = heard.index(words)
    assert start == 300 * SAMPLE_RATE // 1000 * 2
    assert heard[:start] == before[-start:]
    tail = heard[start + len(words) :]
    assert after.startswith(tail)
    # The last syllables may already be below the threshold.
    assert 400 <= len(tail) * 1000 // (2 * SAMPLE_RATE) <= 500
    assert len({event.item_id for event in events if isinstance(event, (Audio, ReplyDone))}) == 1


@pytest.mark.parametrize("prefix_ms", [0, 100, 2000])
def test_prefix_is_configurable(prefix_ms: int) -> None:
    """`prefix_ms` of what came before the speech is kept."""
    words = speech()

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(quiet(3000) + words + quiet(700))
        await replied()

    heard = said(drive(script, settings=Settings(prefix_ms=prefix_ms)))
    assert heard.index(words) == prefix_ms * SAMPLE_RATE // 1000 * 2


@pytest.mark.parametrize("size", [1, 84, 1001, 10**9])
def test_cut_of_the_audio_does_not_matter(size: int) -> None:
    """However the audio is cut, the events are the same."""
    audio = quiet(200) + speech(400) + quiet(700)

    async def whole(backend: EchoBackend) -> None:
        await backend.send_audio(audio)
        await replied()

    async def cut(backend: EchoBackend) -> None:
        for at in range(0, len(audio), size):
            await backend.send_audio(audio[at : at + size])
        await replied()

    assert drive(cut) == drive(whole)


def test_silence_is_not_answered() -> None:
    """Nothing said, nothing happens; a commit changes nothing about that."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(quiet(3000))
        await backend.commit()
        await replied()

    assert drive(script) == []


def test_commit_ends_the_turn() -> None:
    """A commit answers at once, with everything up to it, also what made no whole frame."""
    words = speech() + b"\1\0" * 100

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(words)
        await backend.commit()
        await replied()

    assert said(drive(script)) == words


def test_turns_do_not_run_into_each_other() -> None:
    """What belonged to one turn is not part of the next."""
    first, second = speech(600, seed=1), speech(600, seed=2)

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(first)
        await backend.commit()
        await replied()
        await backend.send_audio(second)
        await backend.commit()
        await replied()

    events = drive(script)
    assert said(events) == first + second
    assert [event.item_id for event in events if isinstance(event, ReplyDone)] == [
        "echo-1",
        "echo-2",
    ]


@pytest.mark.parametrize("item_id", [None, "echo-1"])
def test_interrupt_stops_the_reply(item_id: str | None) -> None:
    """An interrupted reply ends where it is; nothing more comes of it."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(speech())
        await backend.commit()
        await asyncio.sleep(0)
        await backend.interrupt(item_id, 0)
        await replied()

    events = drive(script, speed=NEVER)
    assert len(said(events)) == echo.CHUNK_MS * SAMPLE_RATE // 1000 * 2
    assert not any(isinstance(event, (ReplyDone, Usage)) for event in events)


def test_interrupt_of_another_reply_is_ignored() -> None:
    """A reply that is over cannot be stopped in place of the one that speaks."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(speech())
        await backend.commit()
        await backend.interrupt("echo-0", 100)
        await replied()

    events = drive(script)
    assert any(isinstance(event, ReplyDone) for event in events)


def test_next_turn_stops_the_reply() -> None:
    """If nobody interrupts it, a reply still ends where the next one begins."""

    async def script(backend: EchoBackend) -> None:
        for _ in range(2):
            await backend.send_audio(speech())
            await backend.commit()
            await asyncio.sleep(0)

    events = drive(script, speed=NEVER)
    cut = events.index(Interrupted("echo-1"))
    assert [e.item_id for e in events[:cut] if isinstance(e, Audio)] == ["echo-1"]
    assert [e.item_id for e in events[cut:] if isinstance(e, Audio)] == ["echo-2"]


def test_longest_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that does not end is answered in pieces, and none of it is lost."""
    monkeypatch.setattr(echo, "MAX_TURN_MS", 600)
    words = speech(1000)

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(words)
        await backend.commit()
        await replied()

    events = drive(script)
    sizes = [event.text for event in events if isinstance(event, UserTranscript)]
    assert sizes == ["(0.6 s of speech)", "(0.4 s of speech)"]
    assert words.endswith(said(events)[-FRAME * 20 :])


def test_text_comes_back_as_a_caption() -> None:
    """Typed text is answered in text."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_text("hello")

    assert drive(script) == [AgentTranscript("echo-1", "hello", True), ReplyDone("echo-1")]


def test_usage_counts_both_sides() -> None:
    """What was heard and said is counted in milliseconds."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(quiet(1000) + speech(1000))
        await backend.commit()
        await replied()

    events = drive(script)
    (usage,) = [event for event in events if isinstance(event, Usage)]
    assert usage.input_audio_ms == 2000
    assert usage.output_audio_ms == pytest.approx(1300, abs=1)


def test_close_in_the_middle_of_a_reply() -> None:
    """Closing stops the reply, ends the events, and leaves no task behind."""

    async def script(backend: EchoBackend) -> None:
        await backend.send_audio(speech())
        await backend.commit()
        await asyncio.sleep(0)

    events = drive(script, speed=NEVER)
    assert not any(isinstance(event, ReplyDone) for event in events)


def test_close_before_open() -> None:
    """A backend that was never opened can be closed."""

    async def run() -> None:
        backend = EchoBackend(Settings())
        await backend.close()
        assert [event async for event in backend.events()] == []

    asyncio.run(run())
