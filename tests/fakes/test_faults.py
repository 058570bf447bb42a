"""Each way to misbehave does what it says."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.speech import speech_like

from .faults import (
    FORBIDDEN,
    OVERLOADED,
    QUOTA,
    RATE_LIMITED,
    SESSION_CAP_REASON,
    After,
    Close,
    Faults,
    Reject,
    session_cap,
)
from .openai_realtime import FakeOpenAI
from .peer import a_turn, asynchronous, bare, official

FAST = 1000.0
AUDIO = "response.output_audio.delta"


def faulty(*faults: Faults, **options: Any) -> FakeOpenAI:
    """A fast fake with these faults on its connections, in order."""
    return FakeOpenAI(faults=faults, **{"speed": FAST, **options})


@pytest.mark.parametrize(
    ("reject", "status", "code"),
    [
        (FORBIDDEN, 403, "unsupported_country_region_territory"),
        (QUOTA, 429, "insufficient_quota"),
        (RATE_LIMITED, 429, "rate_limit_exceeded"),
        (OVERLOADED, 503, None),
    ],
)
@asynchronous
async def test_refused_once_then_fine(reject: Reject, status: int, code: str | None) -> None:
    async with faulty(Faults(reject=reject)) as fake:
        with pytest.raises(InvalidStatus) as refusal:
            async with bare(fake):
                pass
        assert refusal.value.response.status_code == status
        assert refusal.value.response.headers["Content-Type"] == "application/json"
        async with bare(fake) as peer:
            await peer.until("session.created")
        assert [a.status for a in fake.attempts] == [status, 101]
        assert fake.sessions[0].number == 2


@asynchronous
async def test_refused_on_the_socket() -> None:
    reject = Reject(404, "model_not_found", "No such model.", on_socket=True)
    async with faulty(Faults(reject=reject)) as fake, bare(fake) as peer:
        await peer.until("(close)")
        assert peer.close == (4000, "invalid_request_error.model_not_found")
        assert peer.of("error")[0]["error"]["code"] == "model_not_found"


@asynchronous
async def test_slow_and_hanging_handshakes() -> None:
    async with faulty(Faults(handshake_ms=300), Faults(handshake_hang=True)) as fake:
        start = time.monotonic()
        async with bare(fake) as peer:
            assert time.monotonic() - start > 0.3
            await peer.until("session.created")
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio_timeout(0.2), bare(fake):
                pass


class asyncio_timeout:  # noqa: N801 - Python 3.10 has no asyncio.timeout
    """Cancel what takes longer than so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handle = asyncio.get_running_loop().call_later(self._seconds, task.cancel)

    async def __aexit__(self, kind: Any, *_: object) -> None:
        self._handle.cancel()
        if kind is asyncio.CancelledError:
            raise asyncio.TimeoutError


@asynchronous
async def test_hang_after_connect() -> None:
    async with faulty(Faults(hang=True)) as fake, bare(fake) as peer:
        await peer.send("session.update", session={"type": "realtime"})
        await asyncio.sleep(0.2)
        assert peer.events == [] and fake.events == []


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 1013])
@asynchronous
async def test_closes_at_the_moment_it_is_told(code: int) -> None:
    reason = "" if code == 1006 else "so it goes"
    moments = (After(), After(audio_ms=500), After(deltas=3))
    faults = [Faults(close=Close(code, reason, when)) for when in moments]
    async with faulty(Faults(), *faults) as fake:
        async with bare(fake) as peer:
            await peer.say(a_turn())
            await peer.until("response.done")
        async with bare(fake) as peer:
            await peer.until("(close)")
            assert peer.close == (code, reason)
            # An abort may overtake what was written before it.
            assert peer.types() == ["session.created"] or code == 1006
        async with bare(fake) as peer:
            await peer.say(a_turn()[:9600])
            await fake.until(lambda: fake.sessions[-1].audio_ms >= 399)
            await asyncio.sleep(0.05)
            assert peer.close is None
            with suppress(ConnectionClosed):
                await peer.say(a_turn()[:4800])
            await peer.until("(close)")
            assert 500 <= fake.sessions[-1].audio_ms <= 601
        async with bare(fake) as peer:
            await peer.send("response.create")
            await peer.until("(close)")
            assert peer.close == (code, reason)
            assert len(peer.of(AUDIO)) == 3 or code == 1006
            assert [s.type for s in fake.sessions[-1].sent].count(AUDIO) == 3
        async with bare(fake) as peer:
            await peer.until("session.created")


@asynchronous
async def test_the_session_cap() -> None:
    both = [Faults(close=session_cap(error_first=first)) for first in (False, True)]
    async with faulty(*both) as fake:
        for errors in (0, 1):
            async with bare(fake) as peer:
                await peer.until("(close)")
                assert peer.close == (1001, SESSION_CAP_REASON)
                assert len(peer.of("error")) == errors
        assert peer.of("error")[0]["error"]["code"] == "session_expired"


@pytest.mark.parametrize(
    "missing",
    [
        "session.created",
        "session.updated",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.done",
    ],
)
@asynchronous
async def test_missing_events(missing: str) -> None:
    async with faulty(Faults(drop={missing})) as fake, official(fake) as peer:
        await peer.send("session.update", session={"type": "realtime"})
        await peer.say(a_turn())
        await peer.until("rate_limits.updated")
        assert missing not in peer.types() and AUDIO in peer.types()


@asynchronous
async def test_late_and_double_events() -> None:
    start = time.monotonic()
    faults = Faults(delay_ms={"session.created": 5000}, duplicate={"response.done", AUDIO})
    async with faulty(faults) as fake, official(fake) as peer:
        await peer.send("session.update", session={"type": "realtime"})
        await peer.until("session.updated")
        assert "session.created" not in peer.types()
        await peer.until("session.created")
        assert time.monotonic() - start > 4.99
        await peer.send("response.create")
        first, second = await peer.until("response.done"), await peer.until("response.done", 2)
        assert first == second
        ids = [e["event_id"] for e in peer.of(AUDIO)]
        assert ids[::2] == ids[1::2]


@asynchronous
async def test_beta_names() -> None:
    async with faulty(Faults(beta_names=True)) as fake, bare(fake) as peer:
        await peer.say(a_turn())
        done = await peer.until("response.done")
        assert done["response"]["output"][0]["content"][0]["type"] == "audio"
        types = set(peer.types())
        assert {
            "response.audio.delta",
            "response.audio.done",
            "response.audio_transcript.delta",
            "conversation.item.created",
        } <= types
        assert not any("output_audio" in t or t.startswith("conversation.item.d") for t in types)


@asynchronous
async def test_errors_that_end_nothing() -> None:
    error = {"type": "server_error", "code": None, "message": "Oops.", "param": None}
    faults = Faults(error=error, error_when=After(deltas=2), string_errors=True)
    async with faulty(faults, Faults(error=error)) as fake:
        async with bare(fake) as peer:
            await peer.say(a_turn())
            await peer.until("response.done")
            assert (await peer.until("error"))["error"] == "Oops."
            assert len(peer.of("error")) == 1
        async with bare(fake) as peer:
            assert (await peer.until("error"))["error"] == error
            await peer.send("response.create")
            await peer.until("response.done")


@asynchronous
async def test_one_huge_delta_and_odd_deltas() -> None:
    faults = (Faults(one_delta=True), Faults(odd_audio=True))
    async with faulty(*faults, reply_seconds=10) as fake:
        for _ in faults:
            async with official(fake) as peer:
                await peer.send("response.create")
                await peer.until("response.done")
                assert np.array_equal(peer.samples, speech_like(24_000, 10))
                lengths = [len(base64.b64decode(e["delta"])) for e in peer.of(AUDIO)]
                if len(fake.sessions) == 1:
                    assert lengths == [480_000]
                else:
                    assert sum(n % 2 for n in lengths) > len(lengths) / 2


@asynchronous
async def test_junk_in_between() -> None:
    async with faulty(Faults(junk_every=2)) as fake, bare(fake) as peer:
        await peer.say(a_turn())
        await peer.until("response.done")
        kinds = set(map(str, peer.types()))
        assert {"(junk)", "(binary)", "future.event.of.some.kind", "None", "5"} <= kinds


@asynchronous
async def test_late_deltas_of_a_cancelled_response() -> None:
    fake = faulty(Faults(late_deltas=3), speed=1.0, reply_seconds=20)
    async with fake, official(fake) as peer:
        await peer.say(a_turn())
        await peer.until(AUDIO)
        await peer.send("response.cancel")
        await peer.until("rate_limits.updated")
        before = len(peer.of(AUDIO))
        await peer.until(AUDIO, before + 3) if peer.types()[-1] != AUDIO else None
        ends = [i for i, e in enumerate(peer.events) if e["type"] == "response.done"]
        late = [e for e in peer.events[ends[0] :] if e["type"] == AUDIO]
        assert len(late) == 3
        assert {e["response_id"] for e in late} == {peer.events[ends[0]]["response"]["id"]}


@asynchronous
async def test_a_server_that_stops_reading() -> None:
    faults = Faults(stall_ms=400, stall_when=After(audio_ms=400))
    async with faulty(faults) as fake, bare(fake) as peer:
        start = time.monotonic()
        await peer.say(a_turn(seconds=2))
        await peer.until("response.done")
        assert time.monotonic() - start > 0.4
        gaps = np.diff([e.at for e in fake.events])
        assert gaps.max() > 0.39
        assert np.array_equal(fake.sessions[0].heard, a_turn(seconds=2))


@asynchronous
async def test_faults_can_change_while_it_runs() -> None:
    async with faulty() as fake:
        fake.faults = Faults(reject=QUOTA)
        with pytest.raises(InvalidStatus):
            async with bare(fake):
                pass
        fake.faults = Faults()
        async with bare(fake) as peer:
            await peer.until("session.created")
            fake.close_sessions(1006)
            await peer.until("(close)")
            assert peer.close == (1006, "")
