"""What a lost connection must not lose."""

from __future__ import annotations

from gptme_voice_plugin.backends.kept_audio import KeptAudio


def kept(seconds: float = 3.0, lead: float = 1.0) -> KeptAudio:
    """Return one that counts ten bytes a second."""
    return KeptAudio(10, kept_seconds=seconds, lead_seconds=lead)


def test_waiting_audio_keeps_its_order() -> None:
    """What was captured without a connection is sent as it came, once."""
    audio = kept()
    for piece in (b"a", b"b", b"c"):
        audio.wait(piece)
    assert audio.resend(taken=False) == [b"a", b"b", b"c"]
    assert audio.resend(taken=False) == []


def test_the_turn_being_spoken_comes_first() -> None:
    """It went down with the old connection, before what was captured without one."""
    audio = kept()
    audio.sent(b"said", speaking=True)
    audio.wait(b"later")
    assert audio.resend(taken=False) == [b"said", b"later"]


def test_a_taken_turn_comes_back_only_if_asked_for() -> None:
    """Its words may have come back already; then it must not be said twice."""
    for wanted in (False, True):
        audio = kept()
        audio.sent(b"first", speaking=True)
        audio.committed()
        audio.sent(b"second", speaking=True)
        expected = [b"first", b"second"] if wanted else [b"second"]
        assert audio.resend(taken=wanted) == expected


def test_only_the_last_taken_turn_is_kept() -> None:
    """The one before it was answered, or its words are known."""
    audio = kept()
    for turn in (b"one", b"two"):
        audio.sent(turn, speaking=True)
        audio.committed()
    assert audio.resend(taken=True) == [b"two"]


def test_everything_is_bounded() -> None:
    """The oldest goes first; without speech only a lead is kept."""
    audio = kept(seconds=3, lead=1)
    for piece in range(10):
        audio.wait(bytes([piece]) * 10)
    assert [piece[0] for piece in audio.resend(taken=False)] == [7, 8, 9]
    for piece in range(10):
        audio.sent(bytes([piece]) * 5, speaking=False)
    assert [piece[0] for piece in audio.resend(taken=False)] == [8, 9]
