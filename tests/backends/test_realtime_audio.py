"""The protocol core: audio both ways, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from gptme_voice_plugin.backends import base
from tests.support.openai_types import assert_client_event
from tests.support.realtime_core import Core, audio, pcm

# Audio


def test_a_huge_delta() -> None:
    """A server that sends the whole reply at once is understood."""
    core = Core()
    assert audio(core.speak(600_000)) == pcm(600_000)


def test_odd_bytes_wait_for_their_other_half() -> None:
    """A sample that is split between deltas comes whole."""
    core = Core()
    heard = core.speak(b"\1\2\3") + core.speak(b"\4") + core.speak(b"\5") + core.speak(b"\6\7\x08")
    assert all(isinstance(e, base.Audio) and len(e.pcm) % 2 == 0 for e in heard)
    assert audio(heard) == bytes(range(1, 9))


def test_odd_bytes_stay_with_their_item() -> None:
    """Half a sample of one reply never gets into another."""
    core = Core()
    core.speak(b"\1\2\3", item="a1")
    assert audio(core.speak(b"\4\5", item="a2")) == b"\4\5"


@pytest.mark.parametrize("delta", ["***", "AAA", "ÄÄÄÄ", 5, None, []])
def test_audio_that_is_no_base64(delta: Any) -> None:
    """It is skipped, and the reply goes on."""
    core = Core()
    core.begin()
    assert core.hear("response.output_audio.delta", item_id="a1", delta=delta) == []
    assert core.speak(10) == [base.Audio("a1", pcm(10))]


def test_binary_audio_belongs_to_the_current_item() -> None:
    """A binary frame is audio of the item that was announced last."""
    core = Core()
    core.begin()
    assert core.receive_binary(pcm(10)) == [base.Audio("a1", pcm(10))]
    core.finish()
    assert core.receive_binary(pcm(10)) == []


def test_binary_frames_that_were_not_agreed_on() -> None:
    """A provider that was asked for none and sends some is not listened to."""
    core = Core(binary_output=False)
    core.begin()
    assert core.receive_binary(pcm(10)) == []
    assert core.unknown == {"(binary)": 1}


def test_binary_audio_of_an_item_known_by_its_part() -> None:
    """The item is known from any event that announces it."""
    core = Core()
    core.hear("response.created", response={"id": "r1"})
    core.hear("response.content_part.added", response_id="r1", item_id="a1", part={})
    assert core.receive_binary(pcm(10)) == [base.Audio("a1", pcm(10))]


@pytest.mark.parametrize(
    ("transport", "message"),
    [
        ("binary", b"\1\2\3\4"),
        ("json", {"type": "input_audio_buffer.append", "audio": "AQIDBA=="}),
        (None, {"type": "input_audio_buffer.append", "audio": "AQIDBA=="}),
    ],
)
def test_captured_audio_goes_out_as_the_provider_takes_it(
    transport: str | None, message: Any
) -> None:
    """As it is if the provider has accepted that, otherwise as base64 in an event."""
    core = Core()
    core.hear("session.updated", session={"audio": {"input": {"transport": transport}}})
    assert core.append(b"\1\2\3\4") == message
    if isinstance(message, dict):
        assert_client_event(message)


def test_what_one_connection_took_the_next_may_not() -> None:
    """Binary audio is agreed on anew by each connection."""
    core = Core()
    core.hear("session.updated", session={"audio": {"input": {"transport": "binary"}}})
    core.connected()
    assert isinstance(core.append(b"\1\2"), dict)


# Usage


def test_usage_adds_up() -> None:
    """The totals of the session are told; what is missing or odd is 0."""
    core = Core()
    assert core.finish("r1", usage={"input_tokens": 5, "output_tokens": 7})[-1] == base.Usage(
        input_tokens=5, output_tokens=7
    )
    core.finish("r2", usage={"input_tokens": "x"})
    done = {"type": "response.done", "response": {"id": "r3"}, "usage": {"output_tokens": 1}}
    assert core.receive(done)[-1] == base.Usage(input_tokens=5, output_tokens=8)


@pytest.mark.parametrize("usage", [None, {}, [], "much"])
def test_no_usage(usage: Any) -> None:
    """A response without usage tells none."""
    assert not any(isinstance(e, base.Usage) for e in Core().finish(usage=usage))
