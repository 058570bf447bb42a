"""A fake of OpenAI's speech endpoints, as the servers that `stt` and `tts` can be the address of.

It serves `POST /v1/audio/transcriptions` and `POST /v1/audio/speech`, and refuses what the real one
would: unknown or missing fields and values of another type, by the `openai` package's own types. It
can be told to misbehave.
"""

from __future__ import annotations

import email.parser
import email.policy
import io
import json
import struct
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai.types.audio.speech_create_params import SpeechCreateParams
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsNonStreaming
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

RATE = 24_000
KEY = "sk-fake-speech"
WORDS = "What was said."

_STRICT: Any = with_config(ConfigDict(extra="forbid"))
_SPEECH: TypeAdapter[Any] = TypeAdapter(_STRICT(SpeechCreateParams))
_TRANSCRIPTION = frozenset(TranscriptionCreateParamsNonStreaming.__annotations__) | {
    "model", "file", "language", "prompt", "response_format", "temperature",
}  # fmt: skip


def wav(
    samples: int = 2400, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1
) -> bytes:
    """Return a WAV file of half of full scale; `kind` 3 is floats."""
    value = {
        (1, 8): b"\xc0", (1, 16): struct.pack("<h", 16384), (1, 24): b"\0\0\x40",
        (1, 32): struct.pack("<i", 2**30), (3, 32): struct.pack("<f", 0.5),
        (3, 64): struct.pack("<d", 0.5), (2, 4): b"\0",
    }[kind, bits]  # fmt: skip
    data = value * samples * channels
    size = max(1, bits // 8) * channels
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * size, size, bits)
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@dataclass
class FakeSpeech:
    """What it answers, and what it was asked.

    Attributes:
        key: The key it wants; empty: none.
        status: What every request is answered with, if it is not 0.
        transcription: The body of the next transcriptions.
        speech: The body of the next speech.
        cut: Whether bodies break off in the middle.
        stalls: Whether it takes requests and answers nothing, until `go_on`.
        requests: The fields of what it has accepted.
        heard: Samples and rate of the audio that came.
        refused: Why it has refused others.
    """

    key: str = KEY
    status: int = 0
    transcription: bytes = json.dumps({"text": WORDS}).encode()
    speech: bytes = field(default_factory=wav)
    cut: bool = False
    stalls: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[int, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class _Refusal(Exception):
    pass


@contextmanager
def running() -> Iterator[FakeSpeech]:
    """Run one at `url`."""
    fake = FakeSpeech()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if fake.stalls:
                fake.go_on.wait(120)
                self.close_connection = True
                return
            if fake.status:
                self._refuse(fake.status, f"No: {self.headers.get('Authorization')}")
            elif fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
                self._refuse(401, f"Incorrect API key: {self.headers.get('Authorization')}")
            else:
                self._take(body)

        def _take(self, body: bytes) -> None:
            try:
                if self.path == "/v1/audio/speech":
                    fake.requests.append(_speech(self.headers["Content-Type"], body))
                    self._send(200, fake.speech, "audio/wav")
                elif self.path == "/v1/audio/transcriptions":
                    fields, heard = _transcription(self.headers["Content-Type"], body)
                    fake.requests.append(fields)
                    fake.heard.append(heard)
                    self._send(200, fake.transcription, "application/json")
                else:
                    self._refuse(404, f"Invalid URL (POST {self.path})")
            except _Refusal as refusal:
                self._refuse(400, str(refusal))

        def _refuse(self, status: int, message: str) -> None:
            fake.refused.append(message)
            error = {"message": message, "type": "invalid_request_error", "code": None}
            self._send(status, json.dumps({"error": error}).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fake.cut:
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield fake
    finally:
        fake.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _speech(kind: str, body: bytes) -> dict[str, Any]:
    if kind != "application/json":
        raise _Refusal(f"Unsupported content type {kind}.")
    try:
        fields: dict[str, Any] = _SPEECH.validate_json(body, strict=True)
    except ValidationError as error:
        raise _Refusal(str(error)) from None
    if not fields["input"] or len(fields["input"]) > 4096:
        raise _Refusal("input must have 1 to 4096 characters.")
    if not 0.25 <= fields.get("speed", 1.0) <= 4.0:
        raise _Refusal("speed must be from 0.25 to 4.0.")
    return fields


def _transcription(kind: str, body: bytes) -> tuple[dict[str, Any], tuple[int, int]]:
    if not kind.startswith("multipart/form-data; boundary="):
        raise _Refusal(f"Unsupported content type {kind}.")
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    fields: dict[str, Any] = {}
    file: bytes | None = None
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name not in _TRANSCRIPTION or name in fields:
            raise _Refusal(f"Unknown parameter: {name!r}.")
        if name == "file":
            if not str(part.get_filename()).endswith(".wav"):
                raise _Refusal("Invalid file format.")
            file = part.get_payload(decode=True)  # type: ignore[assignment]
        else:
            fields[str(name)] = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    if file is None or not fields.get("model"):
        raise _Refusal("Missing required parameter: file or model.")
    if fields.get("response_format", "json") != "json":
        raise _Refusal("This fake knows response_format json only.")
    if not (len(language := fields.get("language", "en")) == 2 and language.islower()):
        raise _Refusal("Language parameter must be specified in ISO-639-1 format.")
    try:
        with wave.open(io.BytesIO(file)) as sound:
            return fields, (sound.getnframes(), sound.getframerate())
    except (wave.Error, EOFError):
        raise _Refusal("Invalid file format.") from None
