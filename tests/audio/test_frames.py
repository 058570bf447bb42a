"""FrameSplitter: any chunks in, whole frames out, nothing lost or reordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.audio.frames import FrameSplitter


@pytest.mark.parametrize(
    ("sample_rate", "frame_ms", "frame_bytes"),
    [(16000, 20, 640), (24000, 20, 960), (8000, 20, 320), (22050, 20, 882), (16000, 10, 320)],
)
def test_frame_has_the_length_of_its_duration(
    sample_rate: int, frame_ms: int, frame_bytes: int
) -> None:
    splitter = FrameSplitter(sample_rate, frame_ms)
    assert splitter.push(bytes(frame_bytes - 1)) == []
    assert splitter.pending_samples == frame_bytes // 2 - 1
    assert splitter.push(b"\x01") == [bytes(frame_bytes - 1) + b"\x01"]
    assert splitter.pending_samples == 0


def test_one_push_may_complete_several_frames() -> None:
    splitter = FrameSplitter(1000, 2)
    assert splitter.push(b"abcdefghijk") == [b"abcd", b"efgh"]
    assert splitter.pending_samples == 1
    assert splitter.push(b"l") == [b"ijkl"]


def test_odd_byte_waits_for_its_other_half() -> None:
    splitter = FrameSplitter(1000, 1)
    assert splitter.push(b"a") == []
    assert splitter.pending_samples == 0
    assert splitter.push(b"bc") == [b"ab"]


def test_flush_keeps_a_stray_byte_for_its_other_half() -> None:
    splitter = FrameSplitter(1000, 4)
    splitter.push(b"abcde")
    assert splitter.flush() == b"abcd"
    assert splitter.pending_samples == 0
    assert splitter.flush() == b""
    assert splitter.push(b"f012345") == [b"ef012345"]


@pytest.mark.parametrize(("sample_rate", "frame_ms"), [(0, 20), (-8000, 20), (8000, 0), (8000, -1)])
def test_rate_and_duration_must_be_positive(sample_rate: int, frame_ms: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        FrameSplitter(sample_rate, frame_ms)


def test_frame_must_be_a_whole_number_of_samples() -> None:
    with pytest.raises(ValueError, match="20 ms at 11025 Hz is not a whole number of samples"):
        FrameSplitter(11025)


@given(chunks=st.lists(st.binary(max_size=40), max_size=30), frame_samples=st.integers(1, 12))
def test_every_cut_gives_the_same_frames(chunks: list[bytes], frame_samples: int) -> None:
    splitter = FrameSplitter(1000, frame_samples)
    size = 2 * frame_samples
    stream = b"".join(chunks)
    frames: list[bytes] = []
    received = 0
    for chunk in chunks:
        frames += splitter.push(chunk)
        received += len(chunk)
        assert len(frames) == received // size
        assert splitter.pending_samples == received % size // 2
    complete = len(stream) // size * size
    assert frames == [stream[start : start + size] for start in range(0, complete, size)]
    rest = stream[complete:]
    assert splitter.flush() == rest[: len(rest) // 2 * 2]
