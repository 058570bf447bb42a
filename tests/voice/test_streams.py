"""The two audio streams: regrouped, resampled, and kept apart."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gptme_voice_plugin.voice.streams import CaptureStream, ReplyStream, design_filter
from tests.support.speech import best_match, resampled, speech_like


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut `data` into pieces of the given sizes, over and over."""
    pieces, at, index = [], 0, 0
    while at < len(data):
        pieces.append(data[at : at + sizes[index % len(sizes)]])
        at += len(pieces[-1])
        index += 1
    return pieces


@pytest.mark.parametrize("sizes", [[84], [1], [640], [5000], [7, 300, 1]])
def test_capture_regroups_into_frames_of_20_ms(sizes: list[int]) -> None:
    """However the client cuts its audio, the backend gets whole frames and all of it."""
    spoken = speech_like(16_000, 0.25).tobytes()
    stream = CaptureStream(16_000, 16_000)
    frames = [frame for piece in cut(spoken, sizes) for frame in stream.push(piece)]
    assert {len(frame) for frame in frames} == {640}
    assert b"".join(frames) + stream.rest() == spoken
    assert stream.rest() == b""


@pytest.mark.parametrize("sizes", [[84], [333], [100_000]])
def test_capture_resamples(sizes: list[int]) -> None:
    """At the backend's rate it is the same sound, in frames of 20 ms, however it was cut."""
    spoken = speech_like(16_000, 1.0)
    stream = CaptureStream(16_000, 24_000)
    frames = [frame for piece in cut(spoken.tobytes(), sizes) for frame in stream.push(piece)]
    assert {len(frame) for frame in frames} == {960}
    heard = np.frombuffer(b"".join(frames), dtype="<i2")
    assert best_match(heard[2400:-2400], resampled(spoken, 16_000, 24_000))[0] > 0.999


def test_reply_of_the_same_rate_passes() -> None:
    """Without resampling a reply is not touched, and has no tail."""
    stream = ReplyStream(24_000, 24_000)
    assert stream.push("a", b"1234") == b"1234"
    assert stream.finish("a") == b""


def test_reply_is_complete_with_its_tail() -> None:
    """Pieces and tail together are the whole reply at the client's rate."""
    spoken = speech_like(16_000, 1.0)
    stream = ReplyStream(16_000, 24_000)
    pieces = [stream.push("a", piece) for piece in cut(spoken.tobytes(), [2000])]
    heard = np.frombuffer(b"".join(pieces) + stream.finish("a"), dtype="<i2")
    wanted = resampled(spoken, 16_000, 24_000)
    correlation, offset = best_match(wanted[:-240], heard)
    assert correlation > 0.999
    assert heard.size >= wanted.size
    assert offset <= 60  # 2.5 ms


def test_replies_do_not_run_into_each_other() -> None:
    """A reply sounds the same whatever came before it, finished or not."""
    first, second = speech_like(16_000, 0.2, 1).tobytes(), speech_like(16_000, 0.2, 2).tobytes()
    alone = ReplyStream(16_000, 24_000)
    wanted = alone.push("b", second) + alone.finish("b")
    for finished in (True, False):
        stream = ReplyStream(16_000, 24_000)
        stream.push("a", first)
        if finished:
            stream.finish("a")
        assert stream.push("b", second) + stream.finish("b") == wanted


def test_finish_of_another_reply_changes_nothing() -> None:
    """Only the reply that is being resampled has a tail, and only once."""
    stream = ReplyStream(16_000, 24_000)
    stream.push("a", bytes(640))
    assert stream.finish("b") == b""
    assert stream.finish("a") != b""
    assert stream.finish("a") == b""


@pytest.mark.parametrize("rates", [(16_000, 16_000), (16_000, 24_000), (48_000, 24_000)])
def test_filters_are_designed_ahead(rates: tuple[int, int]) -> None:
    """Designing ahead works for any pair, and more than once."""

    async def run() -> None:
        await design_filter(*rates)
        await design_filter(*rates)

    asyncio.run(run())
    assert CaptureStream(*rates).push(bytes(2 * rates[0] // 50)) == [bytes(2 * rates[1] // 50)]
