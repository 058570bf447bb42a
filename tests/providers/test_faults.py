"""Providers that misbehave: what the user sees, and that the conversation goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from gptme_voice_plugin.backends import openai_realtime, realtime_backend, reconnect
from tests.fakes import faults
from tests.fakes.faults import After, Close, Faults, Reject
from tests.fakes.openai_realtime import FakeOpenAI
from tests.fakes.script import Reply
from tests.providers.test_turns import FAKES, KEYS, ask, both, settings
from tests.support.client import VoiceClient
from tests.support.speech import best_match, resampled, silence, speech_like
from tests.support.voice import voice_host

HELLO = {"input_sample_rates": [16_000]}
LOSSES = [1001, 1006, 1011, 1012, 1013]


async def _error(backend: str, fake: Any, v1: bool = True, **more: Any) -> dict[str, Any]:
    """Connect; return the error that comes, and check how the socket ends."""
    async with (
        voice_host(KEYS, **settings(backend, fake, **more)) as host,
        VoiceClient(host.ws_url, v1=v1, hello=HELLO) as client,
    ):
        code, reason = await client.closed(40)
        assert code == 1011
        errors = client.of("error")
        assert bool(errors) == v1
        if v1:
            assert errors[0]["fatal"]
            assert errors[0]["message"].startswith((reason or "?")[:100].rstrip("…"))
            return errors[0]
        return {"message": reason}


@both
@pytest.mark.parametrize(
    ("reject", "code"),
    [
        (Reject(401, "invalid_api_key", "Incorrect API key provided: test-SECRET"), "key_refused"),
        (faults.FORBIDDEN, "key_refused"),
        (Reject(404, "model_not_found", "The model `x` does not exist."), "model_unknown"),
        (faults.QUOTA, "quota_exhausted"),
        (faults.RATE_LIMITED, "quota_exhausted"),
        (faults.OVERLOADED, "provider_unreachable"),
    ],
)
def test_refused_handshakes(backend: str, reject: Reject, code: str) -> None:
    """One readable sentence with a code, and never the key."""

    async def scenario() -> dict[str, Any]:
        async with FAKES[backend](faults=Faults(reject=reject)) as fake:
            return await _error(backend, fake)

    error = asyncio.run(scenario())
    assert error["code"] == code
    assert "SECRET" not in error["message"]
    assert error["message"].endswith(".") or ":" in error["message"]


def test_a_stock_client_is_told_by_the_close_frame() -> None:
    """The old protocol has no error message; the reason of the close says it."""

    async def scenario() -> dict[str, Any]:
        async with FakeOpenAI(faults=Faults(reject=faults.QUOTA)) as fake:
            return await _error("openai", fake, v1=False)

    assert "credit" in asyncio.run(scenario())["message"]


@both
@pytest.mark.parametrize("fault", [Faults(handshake_hang=True), Faults(hang=True)])
def test_a_provider_that_does_not_answer(
    backend: str, fault: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting has a deadline."""
    monkeypatch.setattr(realtime_backend, "OPEN_SECONDS", 0.8)

    async def scenario() -> dict[str, Any]:
        async with FAKES[backend](faults=fault) as fake:
            return await _error(backend, fake)

    assert asyncio.run(scenario())["code"] == "provider_unreachable"


def test_nobody_listens() -> None:
    """An address where nothing runs is said to be unreachable."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))

        class Nobody:
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"

        assert asyncio.run(_error("openai", Nobody()))["code"] == "provider_unreachable"


@both
def test_no_key(backend: str) -> None:
    """Without a key, and with the provider's own address, nothing is even tried."""

    async def scenario() -> list[dict[str, Any]]:
        async with (
            voice_host({}, backend=backend) as host,
            VoiceClient(host.ws_url) as client,
        ):
            await client.closed()
            return client.of("error")

    assert asyncio.run(scenario())[0]["code"] == "key_missing"


@both
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Faults(beta_names=True), id="beta names"),
        pytest.param(Faults(one_delta=True), id="one huge delta"),
        pytest.param(Faults(odd_audio=True), id="half samples"),
        pytest.param(Faults(junk_every=2), id="junk"),
        pytest.param(Faults(drop=["session.created"]), id="no session.created"),
        pytest.param(Faults(drop=["session.updated"]), id="no session.updated"),
        pytest.param(Faults(drop=["response.output_item.added"]), id="no item added"),
        pytest.param(Faults(drop=["response.content_part.added"]), id="no part added"),
        pytest.param(Faults(drop=["response.output_audio.done"]), id="no audio done"),
        pytest.param(Faults(drop=["response.done"]), id="no response done"),
        pytest.param(Faults(drop=["conversation.item.added"]), id="no conversation item"),
        pytest.param(Faults(duplicate=["response.done", "response.created"]), id="twice"),
        pytest.param(
            Faults(error={"type": "server_error", "code": None, "message": "hiccup"}), id="error"
        ),
        pytest.param(
            Faults(string_errors=True, error={"type": "x", "code": "x", "message": "hiccup"}),
            id="string error",
        ),
        pytest.param(Faults(delay_ms={"session.updated": 300}), id="late settings"),
    ],
)
def test_replies_are_whole_all_the_same(backend: str, fault: Faults) -> None:
    """Whatever is odd about a provider's events, two turns in a row are answered and heard."""

    async def scenario(fault: Faults) -> bytes:
        if backend == "xai":  # where bytes are audio, whatever they are
            fault = replace(fault, junk=[junk for junk in faults.JUNK if isinstance(junk, str)])
        async with (
            FAKES[backend](faults=fault, reply_seconds=2.0) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len(c.audio) >= 2 * 48_000)
            await client.say("played", samples=48_000)
            await ask(client)
            await client.until(lambda c: len(c.audio) >= 4 * 48_000)
            assert client.ws.close_code is None
            return client.audio

    heard = np.frombuffer(asyncio.run(scenario(fault)), dtype="<i2")
    made = Reply(seconds=2.0).samples(24_000)
    assert np.array_equal(heard, np.concatenate([made, made]))


@both
@pytest.mark.parametrize("code", LOSSES)
def test_a_lost_connection_is_made_again(backend: str, code: int) -> None:
    """After a turn the provider hangs up; the next turn is answered, and it knows the first."""

    async def scenario() -> None:
        async with (
            FAKES[backend](replies=[Reply(text="It rains.", seconds=1.0)]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len([t for t in c.of("transcript") if t["final"]]) == 2)
            await client.say("played", samples=24_000)
            fake.close_sessions(code)
            await client.until(lambda c: "reconnecting" in [s["state"] for s in c.of("state")])
            await client.until(lambda c: c.of("state")[-1]["state"] == "listening")
            await ask(client)
            await client.until(lambda c: len(c.of("reply")) == 2)
            assert client.of("error") == []
            texts = [item.words for item in fake.sessions[1].items]
            assert texts[:2] == ["Hello there, how are you?", "It rains."]

    asyncio.run(scenario())


@both
@pytest.mark.parametrize("moment", [300, 900, 1900], ids=["at its start", "inside", "at its end"])
def test_words_spoken_while_the_line_breaks_are_kept(backend: str, moment: int) -> None:
    """A turn that the provider lost with the connection reaches it whole on the next."""

    async def scenario() -> None:
        broken = Faults(close=Close(1006, when=After(audio_ms=moment)))
        async with (
            FAKES[backend](faults=[broken]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            spoken = speech_like(16_000, 1.5)
            await client.speak(spoken, speed=2)
            await client.speak(silence(16_000, 1.2), speed=2)
            await client.until(lambda c: c.of("reply"))
            rate = 24_000 if backend == "openai" else 16_000
            heard = np.concatenate([s.heard for s in fake.sessions[1:]])
            correlation, _ = best_match(resampled(spoken, 16_000, rate), heard)
            assert correlation > 0.999
            assert len(client.of("reply")) == 1

    asyncio.run(scenario())


def test_a_reply_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of a reply is played; the session goes on."""

    async def scenario() -> None:
        broken = Faults(close=Close(1011, when=After(deltas=5)))
        async with (
            FakeOpenAI(faults=[broken], reply_seconds=5.0) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len(fake.sessions) == 2)
            heard = len(client.audio) // 2
            assert heard > 0
            await client.say("played", samples=heard)
            await client.until(lambda c: c.of("state")[-1]["state"] == "listening")
            await ask(client)
            await client.until(lambda c: len(c.of("reply")) == 2)

    asyncio.run(scenario())


@both
def test_a_provider_that_stays_away(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again ends after a while, with a sentence."""
    monkeypatch.setattr(reconnect, "TOTAL", 1.0)

    async def scenario() -> dict[str, Any]:
        refused = Faults(reject=faults.OVERLOADED)
        lost = Faults(close=Close(1001, when=After(audio_ms=100)))
        async with (
            FAKES[backend](faults=[lost, *[refused] * 50]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            with contextlib.suppress(ConnectionClosed):
                await client.speak(silence(16_000, 0.5))
            assert (await client.closed())[0] == 1011
            return client.of("error")[-1]

    error = asyncio.run(scenario())
    assert error["code"] == "provider_unreachable" and error["fatal"]


@both
def test_a_key_that_is_revoked_meanwhile(backend: str) -> None:
    """What is final is not tried again."""

    async def scenario() -> dict[str, Any]:
        lost = Faults(close=Close(1001, when=After(audio_ms=100)))
        revoked = Faults(reject=Reject(401, "invalid_api_key", "no"))
        async with (
            FAKES[backend](faults=[lost, revoked]) as fake,
            voice_host(KEYS, **settings(backend, fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            with contextlib.suppress(ConnectionClosed):
                await client.speak(silence(16_000, 0.5))
            await client.closed()
            assert len(fake.attempts) == 2
            return client.of("error")[-1]

    assert asyncio.run(scenario())["code"] == "key_refused"


def test_a_provider_that_ends_every_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that accepts and hangs up at once is given up, not hammered."""
    monkeypatch.setattr(realtime_backend, "MAX_SHORT_LIVES", 2)

    async def scenario() -> dict[str, Any]:
        ends = Faults(close=Close(1000, when=After(audio_ms=20)))
        async with (
            FakeOpenAI(faults=[ends] * 20) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            talking = asyncio.create_task(client.speak(silence(16_000, 30.0)))
            await client.closed()
            talking.cancel()
            with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
                await talking
            assert len(fake.sessions) <= 4
            return client.of("error")[-1]

    assert asyncio.run(scenario())["code"] == "provider_unreachable"


def test_renewed_ahead_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old connection is replaced in a quiet moment, and what was said is told again."""
    monkeypatch.setattr(openai_realtime.OpenAIBackend, "renew_seconds", 3.0)

    async def scenario() -> None:
        async with (
            FakeOpenAI(reply_seconds=1.0) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: len([t for t in c.of("transcript") if t["final"]]) == 2)
            await fake.until(lambda: len(fake.sessions) >= 2, 15)
            await fake.until(lambda: len(fake.sessions[1].items) >= 2)
            assert client.ws.close_code is None

    asyncio.run(scenario())


def test_a_provider_that_reads_slowly() -> None:
    """It gets everything in the end, and the client is not disturbed."""

    async def scenario() -> None:
        stall = Faults(stall_ms=1500, stall_when=After(audio_ms=300))
        async with (
            FakeOpenAI(faults=stall) as fake,
            voice_host(KEYS, **settings("openai", fake)) as host,
            VoiceClient(host.ws_url, hello=HELLO) as client,
        ):
            await client.until(lambda c: c.ready.is_set())
            await ask(client)
            await client.until(lambda c: c.of("reply"))
            spoken = resampled(speech_like(16_000, 1.5), 16_000, 24_000)
            correlation, _ = best_match(spoken, fake.sessions[0].heard)
            assert correlation > 0.999

    asyncio.run(scenario())


@both
def test_keys_stay_secret(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in any log, at any level, nor in anything the client gets."""
    caplog.set_level(logging.DEBUG)
    key = "sk-canary-0123456789abcdef0123456789abcdef"
    keys = {"OPENAI_API_KEY": key, "XAI_API_KEY": key}

    async def scenario() -> str:
        quoting = Reject(401, None, f"Incorrect API key provided: {key}.")
        async with (
            FAKES[backend](api_key=key, faults=[Faults(), Faults(reject=quoting)]) as fake,
            voice_host(keys, **settings(backend, fake)) as host,
        ):
            async with VoiceClient(host.ws_url, hello=HELLO) as client:
                await client.until(lambda c: c.ready.is_set())
                await ask(client)
                await client.until(lambda c: len(c.audio) > 0)
            async with VoiceClient(host.ws_url, hello=HELLO) as refused:
                await refused.closed()
            assert all(key not in str(a.path) + str(a.query) for a in fake.attempts)
            return repr(client.messages + refused.messages)

    seen = asyncio.run(scenario())
    assert "canary" not in seen
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("gptme_voice_plugin")]
    assert not [line for line in ours if "canary" in line]
