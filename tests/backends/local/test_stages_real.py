"""The process that speaks, with what it really runs: Piper and espeak-ng."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from gptme_voice_plugin.backends.base import Preparing
from gptme_voice_plugin.backends.local.processes import ProcessSpeech
from gptme_voice_plugin.errors import ModelMissing

VOICES = [("piper", "en_US-joe-medium"), ("espeak-ng", "en-us")]
SENTENCE = "The tests pass, and I have pushed the branch."


def with_voice(
    engine: str, voice: str, test: Callable[[ProcessSpeech], Coroutine[Any, Any, None]]
) -> list[Preparing]:
    """Run a test with a voice; return what was told before it was ready."""
    told: list[Preparing] = []

    async def run() -> None:
        speech = ProcessSpeech(engine, voice)
        try:
            await speech.open(told.append)
            await test(speech)
        finally:
            await speech.close()

    asyncio.run(asyncio.wait_for(run(), 200))
    return told


def samples(pcm: bytes) -> Any:
    """Return sound as numbers."""
    return np.frombuffer(pcm, "<i2").astype(np.int64)


@pytest.mark.parametrize(("engine", "voice"), VOICES)
def test_what_it_says(engine: str, voice: str) -> None:
    """As long as a person takes, loud enough, not clipped, without a click at either end."""

    async def test(speech: ProcessSpeech) -> None:
        assert speech.sample_rate == 22_050 and speech.name == f"{engine} {voice}"
        seconds = {}
        for speed in (0.5, 1.0, 1.5):
            sound = samples(await speech.synthesize(SENTENCE, speed))
            seconds[speed] = sound.size / speech.sample_rate
            loudest = int(abs(sound).max())
            assert 3000 < loudest < 32_767
            assert abs(sound[:20]).max() < 0.05 * loudest > abs(sound[-20:]).max()
        assert 1.5 < seconds[1.0] < 5
        assert 1.5 < seconds[0.5] / seconds[1.0] < 2.4
        assert 0.55 < seconds[1.5] / seconds[1.0] < 0.85

    told = with_voice(engine, voice, test)
    assert (Preparing("Loading the voice") in told) is (engine == "piper")


@pytest.mark.parametrize(("engine", "voice"), VOICES)
def test_whatever_it_is_given(engine: str, voice: str) -> None:
    """Nothing ends the process: what cannot be spoken has little sound, or none."""

    async def test(speech: ProcessSpeech) -> None:
        pid = speech.worker.pid
        for text in ("", " ", "😀🎉", "…", "\n\n", "\0", "a\0b", "<b>&amp;</b>", "[[x]]", "'\"`$;"):
            sound = await speech.synthesize(text, 1.0)
            assert len(sound) % 2 == 0 and len(sound) < 2 * 22_050 * 8, repr(text)
        for text in ("Grüße, Zoë! 東京 и Москва, λ.", "e\u0301", "\u202eabc", "\ud800a"):
            assert len(await speech.synthesize(text, 1.0)) % 2 == 0
        short = await speech.synthesize("Again and again.", 1.0)
        long = await speech.synthesize("Again and again. " * 60, 1.0)
        assert len(long) > 20 * len(short)
        for speed in (0.25, 1.5):
            assert await speech.synthesize("Yes.", speed)
        assert speech.worker.pid == pid

    with_voice(engine, voice, test)


def test_voices_of_espeak() -> None:
    """Languages, regions, variants; one that is not there is told in a sentence."""

    async def test(speech: ProcessSpeech) -> None:
        assert samples(await speech.synthesize("Guten Tag.", 1.0)).size > 8000

    for voice in ("de", "en-us+f3", "pt-BR", "fr-fr", "zh"):
        with_voice("espeak-ng", voice, test)
    for voice in ("xx", "nobody's"):
        with pytest.raises(ModelMissing) as caught:
            with_voice("espeak-ng", voice, test)
        message = f"espeak-ng has no voice {voice!r}; set voice to a language such as 'en-us'."
        assert caught.value.message == message


def test_a_voice_of_piper_that_is_not_there() -> None:
    """The path is named."""

    async def test(speech: ProcessSpeech) -> None:
        raise AssertionError

    with pytest.raises(ModelMissing, match="There is no voice at /nowhere/voice.onnx"):
        with_voice("piper", "/nowhere/voice.onnx", test)
