"""Hearing and speaking on a server: what it is sent, and what is said when it does not do it."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import openai
import pytest

from gptme_voice_plugin.backends.local import http_speech
from gptme_voice_plugin.backends.local.http_speech import HttpSpeech, HttpTranscriber
from gptme_voice_plugin.backends.local.received_wav import parse_wav
from gptme_voice_plugin.backends.local.stages import Transcription
from gptme_voice_plugin.errors import (
    KeyMissing,
    KeyRefused,
    QuotaExhausted,
    SpeechFailed,
    VoiceError,
)
from tests.fakes import speech_server
from tests.fakes.speech_server import KEY, WORDS, FakeSpeech, wav
from tests.support.ports import free_port

SECOND = bytes(32_000)
Do = Callable[[HttpTranscriber, HttpSpeech], Awaitable[object]]


@pytest.fixture
def server() -> Iterator[FakeSpeech]:
    """A server that hears and speaks."""
    with speech_server.running() as running:
        yield running


def with_stages(url: str, key: str, do: Do) -> object:
    """Do something with both stages, and close them."""

    async def run() -> object:
        stt, tts = HttpTranscriber(url, "whisper-1", key), HttpSpeech(url, "tts-1", "alloy", key)
        try:
            await stt.open(lambda _: None)
            await tts.open(lambda _: None)
            assert not stt.busy and not tts.busy
            return await do(stt, tts)
        finally:
            await stt.close()
            await tts.close()
            assert KEY not in repr(vars(stt)) + repr(vars(tts)) + repr(vars(stt._server))

    return asyncio.run(asyncio.wait_for(run(), 30))


def hear(url: str, key: str = KEY, language: str = "") -> Transcription:
    """Have a second written down."""
    heard = with_stages(url, key, lambda stt, _: stt.transcribe(SECOND, language))
    assert isinstance(heard, Transcription)
    return heard


def speak(url: str, key: str = KEY, speed: float = 1.0) -> bytes:
    """Have a sentence spoken."""
    pcm = with_stages(url, key, lambda _, tts: tts.synthesize("Hello there.", speed))
    assert isinstance(pcm, bytes)
    return pcm


def failures(url: str, key: str = KEY) -> list[VoiceError]:
    """Return how both fail: in a sentence without any secret."""
    errors = []
    for what in (hear, speak):
        with pytest.raises(VoiceError) as caught:
            what(url, key)
        message = caught.value.message
        assert message.endswith(".") and "\n" not in message and len(message) < 250
        assert not (key and key in message + repr(caught.value) + repr(caught.value.__cause__))
        errors.append(caught.value)
    return errors


@pytest.fixture(autouse=True)
def no_key_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is logged, also by libraries, the key is not."""
    caplog.set_level(logging.DEBUG)
    yield
    assert KEY not in caplog.text


def test_what_is_sent(server: FakeSpeech) -> None:
    """The fields that OpenAI's own types have, and no others."""
    assert hear(server.url) == Transcription(WORDS)
    assert hear(server.url + "/", language="de-AT").text == WORDS
    assert len(speak(server.url, speed=1.5)) == 2 * 2400
    assert server.requests == [
        {"model": "whisper-1", "response_format": "json"},
        {"model": "whisper-1", "response_format": "json", "language": "de"},
        {
            "model": "tts-1",
            "voice": "alloy",
            "response_format": "wav",
            "input": "Hello there.",
            "speed": 1.5,
        },
    ]
    assert server.heard == [(16_000, 16_000)] * 2 and not server.refused


def test_the_fake_is_shaped_as_the_official_client_knows_it(server: FakeSpeech) -> None:
    """And refuses what it should not be sent."""
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        heard = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav()))
        assert heard.text == WORDS
        said = client.audio.speech.create(
            model="tts-1", voice="alloy", input="Hi.", response_format="wav"
        )
        assert said.content == wav()
        with pytest.raises(openai.BadRequestError):
            client.audio.speech.create(
                model="tts-1", voice="alloy", input="Hi.", extra_body={"loud": 1}
            )
        with pytest.raises(openai.BadRequestError):
            client.audio.speech.create(model="tts-1", voice="alloy", input="Hi.", speed=5)
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(
                model="whisper-1", file=("a.wav", wav()), language="de-AT"
            )
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"no sound"))
    with (
        openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.audio.speech.create(model="tts-1", voice="alloy", input="Hi.")


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, KeyRefused, "refuses the key; check SPEECH_API_KEY"),
        (403, KeyRefused, "refuses the key"),
        (404, SpeechFailed, "ends with /v1, or has no model"),
        (429, QuotaExhausted, "asks to slow down"),
        (500, SpeechFailed, "refuses it with status 500; see its log."),
        (307, SpeechFailed, "status 307"),
    ],
)
def test_a_refusal(server: FakeSpeech, status: int, kind: type[VoiceError], said: str) -> None:
    """It is told what to do, and not what the server says, which repeats the key."""
    server.status = status
    for error in failures(server.url):
        assert type(error) is kind and said in error.message
        assert "server 127.0.0.1 " in error.message


def test_keys(server: FakeSpeech) -> None:
    """None where none is needed; one that is missing, wrong, or cannot be one."""
    assert {type(error) for error in failures(server.url, "")} == {KeyMissing}
    assert {type(error) for error in failures(server.url, "sk-wrong")} == {KeyRefused}
    for key in ("sk-\nbroken", "schlüssel", "two words"):
        assert {type(error) for error in failures(server.url, key)} == {KeyRefused}
    server.key = ""
    assert hear(server.url, "").text == WORDS
    server.key = KEY
    assert hear(server.url, f" {KEY}\n").text == WORDS


def test_nobody_there(server: FakeSpeech) -> None:
    """No server, no such host, no address at all, another path."""
    for url in (f"http://127.0.0.1:{free_port()}/v1", "http://nowhere.invalid/v1"):
        assert all("does not answer" in error.message for error in failures(url))
    for url in ("http://127.0.0.1:99999/v1", "http://[::1/v1", "http://a\nb/v1"):
        assert all("cannot be used" in error.message for error in failures(url))
    errors = failures(server.url.removesuffix("/v1"))
    assert all("ends with /v1" in error.message for error in errors)


def test_one_that_is_slow(server: FakeSpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, be it for the answer or for its end."""
    server.stalls = True
    monkeypatch.setattr(http_speech, "SECONDS", 0.1)
    assert all("takes too long" in error.message for error in failures(server.url))
    monkeypatch.setattr(http_speech, "SECONDS", 60.0)
    monkeypatch.setattr(http_speech, "WHOLE_SECONDS", 0.1)
    assert all("takes too long" in error.message for error in failures(server.url))


def test_bodies_that_break_off_or_never_end(
    server: FakeSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not whole is not used."""
    server.cut = True
    assert all("does not answer" in error.message for error in failures(server.url))
    server.cut = False
    monkeypatch.setattr(http_speech, "MAX_BYTES", 10)
    assert all("far too much" in error.message for error in failures(server.url))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"not json", b'{"text": null}', b"\xff\xfe", b"[" * 99999]
)
def test_what_is_no_transcription(server: FakeSpeech, body: bytes) -> None:
    """An address of something else, mostly."""
    server.transcription = body
    with pytest.raises(SpeechFailed) as caught:
        hear(server.url)
    assert "something else than a transcription" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [b"", b"ID3 an mp3", wav()[:20], wav()[:40], wav(bits=4, kind=2), wav(rate=100)],
    ids=["empty", "mp3", "header", "half header", "adpcm", "rate"],
)
def test_what_is_no_wav(server: FakeSpeech, body: bytes) -> None:
    """Also a kind of WAV that nobody can be expected to read."""
    server.speech = body
    with pytest.raises(SpeechFailed) as caught:
        speak(server.url)
    assert "something else than a WAV file" in caught.value.message


@pytest.mark.parametrize(
    ("rate", "channels", "bits", "kind"),
    [
        (24_000, 1, 16, 1),
        (24_000, 2, 16, 1),
        (44_100, 1, 16, 1),
        (22_050, 2, 24, 1),
        (16_000, 1, 8, 1),
        (48_000, 1, 32, 1),
        (24_000, 1, 32, 3),
        (24_000, 2, 64, 3),
    ],
)
def test_any_usual_wav(server: FakeSpeech, rate: int, channels: int, bits: int, kind: int) -> None:
    """Its sound is as long, and as loud, as it was."""
    server.speech = wav(rate, rate, channels, bits, kind)
    pcm = np.frombuffer(speak(server.url), "<i2")
    assert abs(pcm.size - 24_000) <= 100
    assert abs(int(np.median(pcm)) - 16384) <= 40


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 10**6])
@pytest.mark.parametrize("whole", [0, 0xFFFFFFFF])
def test_a_header_that_does_not_know_the_length(size: int, whole: int) -> None:
    """As servers write it that stream."""
    file = wav(2400)
    file = file[:4] + struct.pack("<I", whole) + file[8:]
    at = file.index(b"data") + 4
    file = file[:at] + struct.pack("<I", size) + file[at + 4 :]
    rate, samples = parse_wav(file + b"\1")
    assert (rate, samples.tolist()) == (24_000, [16384] * 2400)


def test_an_extensible_header() -> None:
    """Some write it for what needs no such thing."""
    data = struct.pack("<h", 16384) * 10
    form = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 8000, 16_000, 2, 16, 22, 16, 4, 1) + bytes(14)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    file = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    assert parse_wav(file)[1].tolist() == [16384] * 10


def test_a_proxy_is_not_asked_for_what_is_near(
    server: FakeSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine and its network are reached without; other hosts through it."""
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert hear(server.url).text == WORDS
    assert hear(server.url.replace("127.0.0.1", "localhost")).text == WORDS
    for host, near in (
        ("127.0.0.1", True),
        ("[::1]", True),
        ("192.168.1.5", True),
        ("10.0.0.5", True),
        ("[fd00::5]", True),
        ("whisper", True),
        ("nas.local", True),
        ("api.openai.com", False),
        ("8.8.8.8", False),
    ):
        stage = HttpTranscriber(f"https://{host}/v1", "m", "")
        client = stage._server._http
        transport = client._transport_for_url(client.base_url)
        assert (transport is client._transport) is near, host
        asyncio.run(stage.close())


def test_proxies_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's mistake is told as one."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://x")
    with pytest.raises(SpeechFailed, match="proxies of the environment"):
        HttpSpeech("https://api.openai.com/v1", "m", "v", "")
