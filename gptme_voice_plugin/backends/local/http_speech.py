"""Hearing and speaking on a server that is shaped like OpenAI's: any that has an address.

`POST {base}/audio/transcriptions` with a WAV file, `POST {base}/audio/speech` for one; the base
mostly ends with /v1. Documented at platform.openai.com/docs/api-reference/audio.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import json
import wave
from http import HTTPStatus
from typing import Any

import httpx

from ...audio.resample import StreamResampler
from ...errors import BackendError, KeyMissing, KeyRefused, QuotaExhausted, SpeechFailed
from .received_wav import parse_wav
from .stages import HEARING_RATE, Report, SpeechToText, Stage, TextToSpeech, Transcription

__all__ = ["HttpSpeech", "HttpTranscriber"]

SECONDS = 60.0
"""How long an answer may take, and so may each pause in it."""
WHOLE_SECONDS = 120.0
CONNECT_SECONDS = 5.0
SPEECH_RATE = 24_000
MAX_BYTES = 64 * 2**20


class _Server:
    def __init__(self, url: str, model: str, key: str, what: str) -> None:
        self._what = what
        self._model = model
        self._has_key = bool(key.strip())
        try:
            address = httpx.URL(url)
            host = address.host
            if address.port is not None and address.port > 65_535:
                raise ValueError("no port")
            # A server of one's own is not to be looked for behind a proxy.
            direct = {f"all://{_bracketed(host)}": None} if _is_near(host) else None
            self._http = httpx.AsyncClient(
                base_url=url.rstrip("/") + "/",
                headers=_headers(key.strip()),
                timeout=httpx.Timeout(SECONDS, connect=CONNECT_SECONDS),
                mounts=direct,
            )
        except (httpx.InvalidURL, ValueError):
            raise SpeechFailed(
                f"The address of the {what} server cannot be used; set one such as "
                "http://127.0.0.1:8000/v1, and see the proxies of the environment."
            ) from None
        self._name = f"The {what} server {host}"

    async def post(self, path: str, **request: Any) -> bytes:
        """Return the body of the answer."""
        try:
            return await asyncio.wait_for(self._post(path, request), WHOLE_SECONDS)
        except (httpx.TimeoutException, asyncio.TimeoutError):
            raise SpeechFailed(
                f"{self._name} takes too long; see that it runs, or set another address."
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise SpeechFailed(
                f"{self._name} does not answer; see that it runs, or set another address."
            ) from None

    async def _post(self, path: str, request: dict[str, Any]) -> bytes:
        async with self._http.stream("POST", path, **request) as answer:
            if not answer.is_success:
                raise self._refusal(answer.status_code)
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise SpeechFailed(f"{self._name} answers far too much; see its log.")
            return bytes(body)

    def _refusal(self, status: int) -> BackendError:
        # What the server itself says may repeat the key.
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            if self._has_key:
                return KeyRefused(
                    f"{self._name} refuses the key; check SPEECH_API_KEY in gptme's config."
                )
            return KeyMissing(f"{self._name} wants a key; set SPEECH_API_KEY in gptme's config.")
        if status == HTTPStatus.NOT_FOUND:
            return SpeechFailed(
                f"{self._name} has nothing at that address, which mostly ends with /v1, or has no "
                f"model {self._model!r}."
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return QuotaExhausted(
                f"{self._name} asks to slow down, or the account's credit is used up; wait a "
                "moment, or check its billing page."
            )
        return SpeechFailed(f"{self._name} refuses it with status {status}; see its log.")

    async def close(self) -> None:
        await self._http.aclose()


def _headers(key: str) -> dict[str, str]:
    if not key:
        return {}
    if not all("!" <= character <= "~" for character in key):
        raise KeyRefused(
            "SPEECH_API_KEY has characters that no key has; set it again in gptme's config."
        )
    return {"Authorization": f"Bearer {key}"}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_near(host: str) -> bool:
    """Whether a host is this machine, or one of the same network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local"))
    return address.is_private or address.is_loopback or address.is_link_local


class _Served(Stage):
    _server: _Server

    async def open(self, report: Report) -> None:
        """See `Stage.open`; whether the server answers is known with the first words."""

    @property
    def busy(self) -> bool:
        """See `Stage.busy`."""
        return False  # the server says itself how many it takes at once

    async def close(self) -> None:
        """See `Stage.close`."""
        await self._server.close()


class HttpTranscriber(_Served, SpeechToText):
    """A server's speech to text.

    Args:
        url: Its base address.
        model: The model it is to use.
        key: What opens it; empty: nothing is needed.
    """

    def __init__(self, url: str, model: str, key: str) -> None:
        self.name = model
        self._model = model
        self._server = _Server(url, model, key, "speech to text")

    async def transcribe(self, pcm: bytes, language: str) -> Transcription:
        """See `SpeechToText.transcribe`."""
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(HEARING_RATE)
            wav.writeframes(pcm)
        fields = {"model": self._model, "response_format": "json"}
        if language:
            fields["language"] = language.split("-")[0].lower()  # ISO 639-1
        answer = await self._server.post(
            "audio/transcriptions",
            data=fields,
            files={"file": ("speech.wav", file.getvalue(), "audio/wav")},
        )
        try:
            text = json.loads(answer)["text"]
        except (ValueError, KeyError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            raise SpeechFailed(
                "The speech to text server answers something else than a transcription; see that "
                "its address is one of an OpenAI-compatible server."
            )
        return Transcription(text.strip())


class HttpSpeech(_Served, TextToSpeech):
    """A server's text to speech.

    Args:
        url: Its base address.
        model: The model it is to use.
        voice: The voice.
        key: What opens it; empty: nothing is needed.
    """

    sample_rate = SPEECH_RATE

    def __init__(self, url: str, model: str, voice: str, key: str) -> None:
        self.name = f"{model} {voice}"
        self._fields = {"model": model, "voice": voice, "response_format": "wav"}
        self._server = _Server(url, model, key, "text to speech")

    async def synthesize(self, text: str, speed: float) -> bytes:
        """See `TextToSpeech.synthesize`."""
        body = {**self._fields, "input": text, "speed": speed}
        answer = await self._server.post("audio/speech", json=body)
        return await asyncio.to_thread(_samples, answer)


def _samples(data: bytes) -> bytes:
    """Return a WAV file's sound as PCM16 LE mono at `SPEECH_RATE`.

    Raises:
        SpeechFailed: It is none, or of a kind that is not read.
    """
    try:
        rate, samples = parse_wav(data)
    except ValueError:
        raise SpeechFailed(
            "The text to speech server answers something else than a WAV file; see that its "
            "address is one of an OpenAI-compatible server."
        ) from None
    if rate != SPEECH_RATE:
        resampler = StreamResampler(rate, SPEECH_RATE)
        return resampler.process(samples).tobytes() + resampler.flush().tobytes()
    sound: bytes = samples.tobytes()
    return sound
