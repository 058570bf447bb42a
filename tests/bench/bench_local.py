"""How long the local backend takes to answer, from the end of speech to the first sound.

Each stage is measured alone first: the silence that ends a turn, speech to text of what was said,
text to speech of the first sentence. Then the whole chain, with Whisper base and Piper, an
utterance going in at the speed it is spoken and a text model that answers at once. The stages
overlap, so the whole can take less than the sum. At last two sessions speak at the same time.

    python -m tests.bench.bench_local [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gptme_voice_plugin.backends.base import (
    Answer,
    AnswerEnded,
    AnswerPiece,
    Audio,
    Failed,
    ReplyDone,
    TextModel,
    Timings,
    UserTranscript,
)
from gptme_voice_plugin.backends.local.backend import LocalBackend
from gptme_voice_plugin.backends.local.engines import shut_down, speech_to_text, text_to_speech
from gptme_voice_plugin.backends.local.processes import ProcessSpeech, ProcessTranscriber
from gptme_voice_plugin.config import Settings
from tests.support.voices import said

RATE = 16_000
FRAME_SECONDS = 0.02
STAGES = ("vad", "stt", "text", "tts", "total")
RATIO_BAR = 1.5
"""The whole may take this many times the sum of its stages alone."""
TOTAL_BAR = 2.0
"""Seconds from the end of an utterance of four seconds to the first sound of the answer."""

UTTERANCES = {
    2: "What is the capital of France?",
    4: "Please open the configuration file and show me the first ten lines.",
    8: "Please open the configuration file and show me the first ten lines, and after that explain "
    "to me in a few words what each of them means.",
}
"""By how many seconds they are long, about."""
FIRST = "Sure, here is what I found."
ANSWER = (
    f"{FIRST} The file has forty lines, and the first ten of them set the name of the project and "
    "its version. After that come the packages that it needs. None of them is pinned. The last "
    "part says how the tests are run, and where their results go. I can change any of it, if you "
    "tell me what you would like to have there."
)


class Prompt(TextModel):
    """Answers at once."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self._asked = 0

    def ask(self) -> None:
        """Have it answer."""
        self._asked += 1
        self._answers.put_nowait(AnswerPiece(f"answer-{self._asked}", ANSWER))
        self._answers.put_nowait(AnswerEnded(f"answer-{self._asked}"))

    async def answers(self) -> AsyncIterator[Answer]:
        """See `TextModel.answers`."""
        while True:
            yield await self._answers.get()

    def stop(self) -> None:
        """See `TextModel.stop`."""

    def heard(self, answer_id: str, characters: int | None) -> None:
        """See `TextModel.heard`."""


@dataclass
class Turn:
    """One turn of a session."""

    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""
    text: str = ""
    slack: float = float("inf")
    """Sound that was left to play when more came, at the least, in seconds."""


class Session:
    """One session with the backend."""

    def __init__(self, settings: Settings) -> None:
        self._prompt = Prompt()
        self._backend = LocalBackend(settings)
        self._backend.answer_with(self._prompt)

    async def open(self) -> None:
        """Begin it."""
        await self._backend.open()

    async def close(self) -> None:
        """End it."""
        await self._backend.close()

    async def turn(self, pcm: bytes) -> Turn:
        """Say something, and hear the answer to its end."""
        result, ended = Turn(), 0.0

        async def speak() -> None:
            nonlocal ended
            size = int(FRAME_SECONDS * RATE) * 2
            start = time.perf_counter()
            number = 0
            while True:
                await asyncio.sleep(start + number * FRAME_SECONDS - time.perf_counter())
                frame = pcm[number * size : (number + 1) * size]
                await self._backend.send_audio(frame.ljust(size, b"\0"))
                number += 1
                if number * size >= len(pcm) and not ended:
                    ended = time.perf_counter()

        mouth = asyncio.create_task(speak())
        began, played = 0.0, 0.0
        try:
            async for event in self._backend.events():
                now = time.perf_counter()
                match event:
                    case UserTranscript(text=text, final=True) if text:
                        result.text += text
                        self._prompt.ask()
                    case Audio(pcm=sound):
                        if not began:
                            began = now
                            result.seconds["total"] = now - ended
                        else:
                            result.slack = min(result.slack, played - (now - began))
                        played += len(sound) / 2 / self._backend.output_sample_rate
                    case Timings(seconds=seconds):
                        result.seconds = {**seconds, **result.seconds}
                    case Failed(message=message):
                        raise SystemExit(message)
                    case ReplyDone():
                        return result
        finally:
            mouth.cancel()
        raise SystemExit("The session has ended.")


def _spoken(text: str) -> bytes:
    """Return an utterance that ends with its last sound."""
    samples = said(text)
    loud = np.flatnonzero(np.abs(samples.astype(int)) > 0.02 * np.abs(samples.astype(int)).max())
    return samples[: loud[-1] + 1].tobytes()


async def _alone(settings: Settings, rounds: int, pcm: bytes) -> dict[str, float]:
    stt, tts = speech_to_text(settings, {}), text_to_speech(settings, {})
    await asyncio.gather(stt.stage.open(lambda _: None), tts.stage.open(lambda _: None))
    # As the endpointer gives it: with what was before, and a pause.
    utterance = bytes(2 * RATE * 3 // 10) + pcm + bytes(2 * RATE // 5)
    times = defaultdict(list)
    for _ in range(rounds):
        start = time.perf_counter()
        await stt.stage.transcribe(utterance, settings.language)
        heard = time.perf_counter()
        await tts.stage.synthesize(FIRST, settings.speed)
        times["stt"].append(heard - start)
        times["tts"].append(time.perf_counter() - heard)
    stt.release()
    tts.release()
    seconds = {stage: statistics.median(values) for stage, values in times.items()}
    seconds |= {"vad": settings.silence_ms / 1000, "text": 0.0}
    return seconds | {"total": sum(seconds.values())}


def _row(name: str, seconds: dict[str, float], verdict: str = "") -> None:
    figures = "".join(f"{seconds.get(stage, float('nan')):>8.2f}" for stage in STAGES)
    print(f"{name:<24}{figures}{verdict}")


def _median(turns: list[Turn]) -> dict[str, float]:
    return {stage: statistics.median(turn.seconds[stage] for turn in turns) for stage in STAGES}


def _bar(value: float, bar: float, unit: str = "") -> tuple[bool, str]:
    met = value <= bar
    return met, f"  {value:.2f}{unit}, bar {bar}{unit}: {'met' if met else 'MISSED'}"


async def _run(rounds: int) -> bool:
    settings = Settings(language="en")
    utterances = {length: _spoken(text) for length, text in UTTERANCES.items()}
    met = True
    one, other = Session(settings), Session(settings)
    await one.open()
    await other.open()
    try:
        print(f"Seconds from the end of speech to the first sound, medians of {rounds}.")
        print(f"{'':<24}" + "".join(f"{stage:>8}" for stage in STAGES))
        single = 0.0
        for length, pcm in utterances.items():
            # The two take turns, so that a slow moment of the machine hits both.
            turns, alone = [], []
            for _ in range(rounds):
                turns.append(await one.turn(pcm))
                alone.append(await _alone(settings, 1, pcm))
            parts = {s: statistics.median(a[s] for a in alone) for s in STAGES}
            chain = _median(turns)
            name = f"{len(pcm) / 2 / RATE:.1f} s of speech"
            _row(f"{name}, alone", parts)
            fits, verdict = _bar(chain["total"] / parts["total"], RATIO_BAR, "x")
            met &= fits
            if length == 4:
                single = chain["total"]
                fits, more = _bar(single, TOTAL_BAR, " s")
                met &= fits
                verdict += more
            _row(f"{name}, chain", chain, verdict)
        print("\nTwo sessions speak at the same time; the one that is answered later:")
        later, slack = [], []
        for _ in range(rounds):
            pair = await asyncio.gather(one.turn(utterances[4]), other.turn(utterances[4]))
            later.append(max(pair, key=lambda turn: turn.seconds["total"]))
            slack += [turn.slack for turn in pair]
        _row("4 s of speech, later", _median(later))
        fits = min(slack) >= 0
        met &= fits
        waited = _median(later)["total"] - single
        print(f"It waits {waited:.2f} s more than alone. Sound left to play when more came, at the")
        print(f"least: {min(slack):.2f} s, bar 0: {'met' if fits else 'MISSED'}")
        stages = (speech_to_text(settings, {}).stage, text_to_speech(settings, {}).stage)
        for stage in stages:
            assert isinstance(stage, ProcessTranscriber | ProcessSpeech)
            print(f"Most memory of {stage.name}: {_peak_mb(stage.worker.pid or 0):.0f} MB")
    finally:
        await one.close()
        await other.close()
        await shut_down()
    return met


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"The process {pid} tells nothing of its memory.")


def main() -> int:
    """Print the figures; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement")
    return 0 if asyncio.run(_run(parser.parse_args().rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
