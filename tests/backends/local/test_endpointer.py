"""Where turns begin and end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gptme_voice_plugin.backends.local.endpointer import (
    MAX_TURN_MS,
    Edge,
    Endpointer,
    Utterance,
)
from gptme_voice_plugin.backends.local.vad import FRAME_MS

SPEECH, SILENCE, BETWEEN = 0.9, 0.1, 0.4
PREFIX, START, PAUSE, END = 9, 3, 6, 16
"""Frames of 300, 100, 200 and 500 ms."""


@dataclass
class Stream:
    """Numbers its frames, so that it is seen which ones are in a turn."""

    endpointer: Endpointer = field(default_factory=lambda: Endpointer(300, 500, 100, 0.5))
    edges: list[tuple[int, Edge]] = field(default_factory=list)
    turns: list[range] = field(default_factory=list)
    pushed: int = 0

    def push(self, probability: float, frames: int = 1) -> Stream:
        """Push frames that are so likely speech."""
        for _ in range(frames):
            number, self.pushed = self.pushed, self.pushed + 1
            edge, utterance = self.endpointer.push(number.to_bytes(4, "big"), probability)
            assert (utterance is not None) == (edge is Edge.STOPPED)
            if edge is not None:
                self.edges.append((number, edge))
            if utterance is not None:
                self.turns.append(numbers(utterance))
        return self


def numbers(utterance: Utterance) -> range:
    """Return which frames a turn consists of; they are to follow one another."""
    audio = utterance.audio()
    found = [int.from_bytes(audio[at : at + 4], "big") for at in range(0, len(audio), 4)]
    assert found == list(range(found[0], found[0] + len(found)))
    return range(found[0], found[0] + len(found))


def test_a_turn() -> None:
    """It begins with some of what was before, and ends after half a second of silence."""
    stream = Stream().push(SILENCE, 50).push(SPEECH, 40).push(SILENCE, END)
    assert stream.edges == [
        (50 + START - 1, Edge.STARTED),
        (90 + PAUSE - 1, Edge.PAUSED),
        (90 + END - 1, Edge.STOPPED),
    ]
    (turn,) = stream.turns
    # The window in which speech is looked for has room for a frame that is none.
    assert turn.start == 50 - PREFIX - 1
    assert turn.stop == 90 + PAUSE


def test_prefix_is_no_longer_than_the_stream() -> None:
    """Who speaks at once is heard from the first frame."""
    stream = Stream().push(SPEECH, 10).push(SILENCE, END)
    assert stream.turns == [range(0, 10 + PAUSE)]


def test_too_little_speech_is_no_turn() -> None:
    """A click, or two of them far apart."""
    stream = Stream().push(SPEECH, START - 1).push(SILENCE, 10).push(SPEECH, START - 1)
    assert not stream.push(SILENCE, 100).edges
    assert stream.endpointer.utterance is None


def test_a_beginning_with_a_gap() -> None:
    """A frame that is none among those of the beginning changes nothing."""
    stream = Stream().push(SPEECH, 2).push(SILENCE).push(SPEECH)
    assert stream.edges == [(3, Edge.STARTED)]


def test_one_frame_is_enough_if_the_settings_say_so() -> None:
    """The least of `min_speech_ms` is one frame."""
    stream = Stream(Endpointer(0, 500, 30, 0.5)).push(SILENCE, 20).push(SPEECH)
    assert stream.edges == [(20, Edge.STARTED)]
    assert stream.push(SILENCE, END).turns == [range(20, 21 + PAUSE)]


def test_a_pause_is_not_the_end() -> None:
    """It is told, and that it was none, and how long it is so far."""
    stream = Stream().push(SPEECH, 10).push(SILENCE, END - 1)
    assert stream.endpointer.quiet_ms == (END - 1) * FRAME_MS
    stream.push(SPEECH)
    assert stream.endpointer.quiet_ms == 0
    stream.push(SPEECH, 9).push(SILENCE, END)
    edges = [edge for _, edge in stream.edges]
    assert edges == [Edge.STARTED, Edge.PAUSED, Edge.RESUMED, Edge.PAUSED, Edge.STOPPED]
    assert stream.turns == [range(0, 10 + END - 1 + 10 + PAUSE)]


def test_a_gap_shorter_than_a_pause_is_not_told() -> None:
    """Between words there is silence, too."""
    stream = Stream().push(SPEECH, 10).push(SILENCE, PAUSE - 1).push(SPEECH, 10)
    assert stream.edges == [(START - 1, Edge.STARTED)]


def test_silence_shorter_than_a_pause() -> None:
    """Where turns end at once, nobody is told of a pause before."""
    stream = Stream(Endpointer(300, 100, 100, 0.5)).push(SPEECH, 10).push(SILENCE, 3)
    assert stream.edges == [(START - 1, Edge.STARTED), (12, Edge.STOPPED)]


def test_between_the_thresholds_all_stays_as_it_is() -> None:
    """It does not begin a turn, nor end one, nor end a pause."""
    stream = Stream().push(BETWEEN, 50)
    assert not stream.edges
    stream.push(SPEECH, 5).push(BETWEEN, 50)
    assert [edge for _, edge in stream.edges] == [Edge.STARTED]
    stream.push(SILENCE).push(BETWEEN, END - 1)
    assert [edge for _, edge in stream.edges] == [Edge.STARTED, Edge.PAUSED, Edge.STOPPED]
    assert stream.turns == [range(50 - PREFIX - 1, 105 + PAUSE)]


def test_a_low_threshold_still_has_an_end() -> None:
    """The lower of the two stays above nothing at all."""
    stream = Stream(Endpointer(300, 500, 100, 0.05)).push(0.06, 10).push(0.0, END)
    assert [edge for _, edge in stream.edges] == [Edge.STARTED, Edge.PAUSED, Edge.STOPPED]


def test_stop() -> None:
    """A turn can be ended at any time; without one nothing happens."""
    stream = Stream().push(SILENCE, 5)
    assert stream.endpointer.stop() is None
    utterance = stream.push(SPEECH, 10).endpointer.stop()
    assert utterance is not None and numbers(utterance) == range(0, 15)
    assert stream.endpointer.stop() is None
    stream.push(SILENCE, 30)
    assert [edge for _, edge in stream.edges] == [Edge.STARTED]


def test_a_turn_has_a_longest() -> None:
    """Who never pauses is heard in parts, without a frame lost between them."""
    longest = -(-MAX_TURN_MS // FRAME_MS)
    stream = Stream().push(SPEECH, longest + 20).push(SILENCE, END)
    assert stream.turns == [range(0, longest), range(longest, longest + 20 + PAUSE)]


def test_who_goes_on_at_once_is_heard_from_the_beginning() -> None:
    """What was left out of the last turn is before the next one."""
    stream = Stream().push(SPEECH, 10).push(SILENCE, END).push(SPEECH, 10).push(SILENCE, END)
    first, second = stream.turns
    assert first == range(0, 10 + PAUSE)
    assert second == range(10 + END - PREFIX - 1, 20 + END + PAUSE)


def test_what_is_known_of_a_turn() -> None:
    """How long it is, how much of it is speech, and how certain that is."""
    stream = Stream().push(SILENCE, 20).push(0.7, 5).push(0.9, 5).push(SILENCE, 3)
    utterance = stream.endpointer.utterance
    assert utterance is not None
    assert utterance.ms == (PREFIX + 1 + 10 + 3) * FRAME_MS
    assert utterance.speech_ms == 10 * FRAME_MS
    assert abs(utterance.certainty - 0.8) < 1e-9


@st.composite
def streams(draw: st.DrawFn) -> list[float]:
    """Stretches that are likely speech, or not, or neither."""
    stretch = st.tuples(st.sampled_from([SPEECH, SILENCE, BETWEEN]), st.integers(1, 40))
    return [p for p, frames in draw(st.lists(stretch, max_size=12)) for _ in range(frames)]


@given(streams(), st.integers(0, 600), st.integers(100, 900), st.integers(30, 300))
def test_no_frame_is_lost_or_heard_twice(
    probabilities: list[float], prefix_ms: int, silence_ms: int, min_speech_ms: int
) -> None:
    """Turns are stretches of the stream, one after the other, and have all of its speech."""
    stream = Stream(Endpointer(prefix_ms, silence_ms, min_speech_ms, 0.5))
    for probability in probabilities:
        stream.push(probability)
    if (last := stream.endpointer.stop()) is not None:
        stream.turns.append(numbers(last))
    ends = [0]
    for turn in stream.turns:
        assert ends[-1] <= turn.start < turn.stop <= stream.pushed
        ends.append(turn.stop)
    starts = [number for number, edge in stream.edges if edge is Edge.STARTED]
    assert len(starts) == len(stream.turns)
    for start, turn in zip(starts, stream.turns, strict=True):
        assert start in turn
    stops = [number for number, edge in stream.edges if edge is Edge.STOPPED]
    for start, stop in zip(starts, [*stops, stream.pushed], strict=False):
        spoken = [n for n in range(start, stop) if probabilities[n] >= 0.5]
        assert all(any(number in turn for turn in stream.turns) for number in spoken)


@given(streams())
def test_edges_come_in_order(probabilities: list[float]) -> None:
    """A pause is in a turn, and ends with it or with speech."""
    stream = Stream()
    for probability in probabilities:
        stream.push(probability)
    follows = {
        None: {Edge.STARTED},
        Edge.STARTED: {Edge.PAUSED, Edge.STOPPED},
        Edge.PAUSED: {Edge.RESUMED, Edge.STOPPED},
        Edge.RESUMED: {Edge.PAUSED, Edge.STOPPED},
        Edge.STOPPED: {Edge.STARTED},
    }
    last = None
    for _, edge in stream.edges:
        assert edge in follows[last]
        last = edge
