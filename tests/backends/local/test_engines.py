"""Which hearing and speaking the settings mean, and how sessions share it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from gptme_voice_plugin.backends.local import engines, voices
from gptme_voice_plugin.backends.local.engines import (
    IDLE_SECONDS,
    shut_down,
    speech_to_text,
    text_to_speech,
)
from gptme_voice_plugin.backends.local.http_speech import HttpSpeech, HttpTranscriber
from gptme_voice_plugin.backends.local.processes import ProcessSpeech, ProcessTranscriber
from gptme_voice_plugin.backends.local.stages import Report, TextToSpeech
from gptme_voice_plugin.backends.local.voices import ESPEAK, PIPER, Speaker, speaker
from gptme_voice_plugin.config import Settings, parse_settings
from gptme_voice_plugin.errors import ModelMissing
from gptme_voice_plugin.models_command import configured
from tests.support.clock import run_by_clock

JOE = "en_US-joe-medium"
LESSAC = "en_US-lessac-medium"
URL = "http://127.0.0.1:8000/v1"


class Stage(TextToSpeech):
    """A stage that counts how often it was opened and closed."""

    made: list[Stage] = []
    fails = 0

    def __init__(self, engine: str, voice: str) -> None:
        self.name, self.sample_rate = f"{engine} {voice}", 16_000
        self.opened = self.closed = 0
        self.made.append(self)

    async def open(self, report: Report) -> None:
        self.opened += 1
        if Stage.fails:
            Stage.fails -= 1
            raise ModelMissing("There is no voice.")

    @property
    def busy(self) -> bool:
        return False

    async def synthesize(self, text: str, speed: float) -> bytes:
        return b""

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """Stages in place of processes that speak; the list of those that were made."""
    monkeypatch.setattr(engines, "ProcessSpeech", Stage)
    monkeypatch.setattr(Stage, "made", [])
    monkeypatch.setattr(Stage, "fails", 0)
    return Stage.made


# Sharing


def test_the_same_settings_share_one(stages: list[Stage]) -> None:
    """Also those that say what is the default; another voice is another process."""

    async def test() -> None:
        one = text_to_speech(Settings(), {})
        assert text_to_speech(Settings(voice=JOE, speed=1.5), {}) is one
        assert text_to_speech(Settings(voice=LESSAC), {}) is not one
        assert text_to_speech(Settings(tts="espeak-ng"), {}) is not one
        assert one.users == 2 and len(stages) == 3
        await shut_down()
        assert [stage.closed for stage in stages] == [1, 1, 1]

    run_by_clock(test)


def test_what_nobody_uses_is_closed_after_a_while(stages: list[Stage]) -> None:
    """Not before, and not while somebody uses it again."""

    async def test() -> None:
        one, _ = text_to_speech(Settings(), {}), text_to_speech(Settings(), {})
        one.release()
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert not stages[0].closed
        one.release()
        await asyncio.sleep(IDLE_SECONDS - 1)
        assert not stages[0].closed
        again = text_to_speech(Settings(), {})
        assert again is one
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert not stages[0].closed
        again.release()
        await asyncio.sleep(IDLE_SECONDS + 1)
        assert stages[0].closed == 1
        other = text_to_speech(Settings(), {})
        assert other is not one and len(stages) == 2
        await shut_down()

    run_by_clock(test)


def test_shutting_down_frees_all(stages: list[Stage]) -> None:
    """What is used, what is not, and nothing twice; whoever releases later may."""

    async def test() -> None:
        used, idle = text_to_speech(Settings(), {}), text_to_speech(Settings(voice=LESSAC), {})
        idle.release()
        await shut_down()
        await shut_down()
        used.release()
        await asyncio.sleep(2 * IDLE_SECONDS)
        assert [stage.closed for stage in stages] == [1, 1]

    run_by_clock(test)


def test_a_stage_that_does_not_close_keeps_no_other(
    stages: list[Stage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the log."""

    async def test() -> None:
        text_to_speech(Settings(), {})
        text_to_speech(Settings(voice=LESSAC), {})

        async def fail() -> None:
            raise RuntimeError("It does not close.")

        monkeypatch.setattr(stages[0], "close", fail)
        await shut_down()
        assert stages[1].closed

    run_by_clock(test)
    assert "did not end cleanly" in caplog.text


def test_an_opening_that_fails_is_tried_again(stages: list[Stage]) -> None:
    """By the next session, with the same stage."""

    async def test() -> None:
        Stage.fails = 1
        one = text_to_speech(Settings(), {})
        with pytest.raises(ModelMissing):
            await one.stage.open(lambda _: None)
        one.release()
        two = text_to_speech(Settings(), {})
        await two.stage.open(lambda _: None)
        assert len(stages) == 1 and stages[0].opened == 2
        await shut_down()

    run_by_clock(test)


def test_loops_share_nothing(stages: list[Stage]) -> None:
    """As where sessions run in a thread, and then in another."""

    async def test() -> None:
        text_to_speech(Settings(), {})
        await shut_down()

    run_by_clock(test)
    run_by_clock(test)
    assert len(stages) == 2


# What the settings mean


def test_what_hears_and_speaks() -> None:
    """Processes by default, servers by address; no key is in what can be printed."""

    async def test() -> None:
        keys = {"SPEECH_API_KEY": "sk-secret"}
        hears, speaks = speech_to_text(Settings(), keys), text_to_speech(Settings(), keys)
        assert isinstance(hears.stage, ProcessTranscriber) and hears.stage.name == "whisper base"
        assert isinstance(speaks.stage, ProcessSpeech) and speaks.stage.name == f"piper {JOE}"
        remote = Settings(stt=URL, tts=URL, voice="marin")
        hears, speaks = speech_to_text(remote, keys), text_to_speech(remote, keys)
        assert isinstance(hears.stage, HttpTranscriber) and hears.stage.name == "whisper-1"
        assert isinstance(speaks.stage, HttpSpeech) and speaks.stage.name == "tts-1 marin"
        assert speech_to_text(remote, {}) is not hears
        assert speech_to_text(remote, keys) is hears
        everything: list[Any] = [hears, speaks, engines._stages(), vars(hears), vars(speaks)]
        assert "sk-secret" not in repr(everything)
        named = Settings(stt=URL, stt_model="large", tts=URL, tts_model="kokoro")
        assert speech_to_text(named, {}).stage.name == "large"
        assert text_to_speech(named, {}).stage.name == "kokoro alloy"
        await shut_down()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Speaker(PIPER, JOE)),
        ({"language": "en-GB"}, Speaker(PIPER, JOE)),
        ({"language": "en_US"}, Speaker(PIPER, JOE)),
        ({"language": "de_DE"}, Speaker(ESPEAK, "de-DE")),
        ({"language": "de"}, Speaker(ESPEAK, "de")),
        ({"language": "zh"}, Speaker(ESPEAK, "zh")),
        ({"language": "xx"}, Speaker(ESPEAK, "en-us")),
        ({"language": "de", "voice": "de_DE-thorsten-low"}, Speaker(PIPER, "de_DE-thorsten-low")),
        ({"voice": LESSAC}, Speaker(PIPER, LESSAC)),
        ({"voice": "./my.onnx"}, Speaker(PIPER, "./my.onnx")),
        ({"voice": "de"}, Speaker(ESPEAK, "de")),
        ({"voice": "en-us+f3"}, Speaker(ESPEAK, "en-us+f3")),
        ({"tts": "piper", "language": "de"}, Speaker(PIPER, JOE)),
        ({"tts": "espeak-ng"}, Speaker(ESPEAK, "en-us")),
        ({"tts": "espeak-ng", "language": "pt-BR"}, Speaker(ESPEAK, "pt-BR")),
        ({"tts": "espeak-ng", "voice": "fr"}, Speaker(ESPEAK, "fr")),
        ({"voice": "marin"}, Speaker(PIPER, JOE, "marin")),
        ({"voice": "eve"}, Speaker(PIPER, JOE, "eve")),
        ({"voice": "marin", "language": "de"}, Speaker(ESPEAK, "de", "marin")),
        ({"tts": "piper", "voice": "de"}, Speaker(PIPER, JOE, "de")),
        ({"tts": "espeak-ng", "voice": LESSAC}, Speaker(ESPEAK, "en-us", LESSAC)),
        ({"tts": "espeak-ng", "voice": "ash"}, Speaker(ESPEAK, "en-us", "ash")),
    ],
    ids=str,
)
def test_what_speaks_on_this_machine(settings: dict[str, str], expected: Speaker) -> None:
    """And the command for models knows the same."""
    given = parse_settings(settings)
    assert speaker(given) == expected
    wanted = [("tts", expected.voice)] if expected.engine == PIPER else []
    assert configured(given) == [("stt", "base"), *wanted]


def test_what_speaks_without_piper(monkeypatch: pytest.MonkeyPatch) -> None:
    """espeak-ng, whatever is set."""
    real = voices.find_spec
    monkeypatch.setattr(voices, "find_spec", lambda name: None if name == "piper" else real(name))
    assert speaker(Settings()) == Speaker(ESPEAK, "en-us")
    assert speaker(Settings(voice=LESSAC)) == Speaker(ESPEAK, "en-us", LESSAC)
    assert speaker(Settings(tts="piper")) == Speaker(PIPER, JOE)


def test_without_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of its voices, and nothing fails."""
    monkeypatch.setattr(voices, "_espeak_names", frozenset)
    assert speaker(Settings(language="de")) == Speaker(ESPEAK, "en-us")


def test_none_of_the_providers_voices_is_one_of_espeaks() -> None:
    """Some of their names look like languages."""
    names = "alloy ash ballad coral echo sage shimmer verse marin cedar fable nova onyx"
    for name in f"{names} ara eve leo rex sal".split(" "):
        assert not voices._is_of_espeak(name) and not voices._is_of_piper(name)


def test_a_voice_that_is_left_out_is_in_the_log(
    stages: list[Stage], caplog: pytest.LogCaptureFixture
) -> None:
    """With what speaks instead."""
    caplog.set_level(logging.WARNING)

    async def test() -> None:
        text_to_speech(Settings(voice="marin"), {})
        await shut_down()

    run_by_clock(test)
    [message] = caplog.messages
    assert message.startswith(f"piper has no voice 'marin'; it speaks with {JOE}.")
