"""`gptme-voice talk`, run as a user runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import wavfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from gptme_voice_plugin.address import Address
from gptme_voice_plugin.audio.wav import WavError, read_wav
from gptme_voice_plugin.talk import Talk, TalkFailed
from tests.support.client import SUBPROTOCOL
from tests.support.command import clean_environment, gptme_voice, one_sentence
from tests.support.ports import free_port
from tests.support.server import TOKEN, GptmeServer, wait_until
from tests.support.speech import best_match, resampled, silence, speech_like

ENV = {"GPTME_SERVER_TOKEN": TOKEN}


def write_pcm(path: Path, rate: int, samples: NDArray[Any], width: int = 2) -> Path:
    """Write int16 samples (frames × channels) as a WAV file of `width` bytes a sample."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    wide = samples.astype(np.int32) << 16
    if width == 1:
        data = ((wide >> 24) + 128).astype(np.uint8).tobytes()
    else:
        data = wide.astype("<i4").reshape(-1, 1).view(np.uint8)[:, 4 - width :].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def read_answer(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == 24_000
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def talk(home: Path, question: Path, url: str, *args: str, **options: Any) -> Any:
    """Run `talk` with an answer to `home / "answer.wav"`."""
    options = {"env": ENV, **options}
    return gptme_voice(
        *("talk", "--in", question, "--out", home / "answer.wav", "--url", url, *args),
        home=home,
        **options,
    )


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """A short question."""
    return write_pcm(tmp_path / "question.wav", 16_000, speech_like(16_000, 0.6))


# Answers


def _stereo_24_bit(path: Path) -> tuple[int, NDArray[np.int16]]:
    spoken = speech_like(44_100, 2.0)
    write_pcm(path, 44_100, np.stack([spoken, np.zeros_like(spoken)], axis=1), width=3)
    return 44_100, spoken


def _eight_bit(path: Path) -> tuple[int, NDArray[np.int16]]:
    spoken = speech_like(8_000, 2.0)
    write_pcm(path, 8_000, spoken, width=1)
    return 8_000, spoken


def _float(path: Path) -> tuple[int, NDArray[np.int16]]:
    spoken = speech_like(48_000, 2.0)
    wavfile.write(path, 48_000, (spoken / 32768).astype(np.float32))
    return 48_000, spoken


def _six_channels_32_bit(path: Path) -> tuple[int, NDArray[np.int16]]:
    spoken = speech_like(22_050, 2.0)
    write_pcm(path, 22_050, np.stack([spoken] * 6, axis=1), width=4)
    return 22_050, spoken


@pytest.mark.parametrize("make", [_stereo_24_bit, _eight_bit, _float, _six_channels_32_bit])
def test_the_answer_is_the_question(
    server: GptmeServer, tmp_path: Path, make: Callable[[Path], tuple[int, NDArray[np.int16]]]
) -> None:
    path = tmp_path / "question.wav"
    rate, spoken = make(path)
    log_before = len(server.log())
    began = time.monotonic()
    result = talk(tmp_path, path, server.ws_url)
    took = time.monotonic() - began
    assert result.returncode == 0, result
    assert result.stderr == ""
    you, gptme, summary = result.stdout.splitlines()
    assert re.fullmatch(r"You: \(2\.\d s of speech\)", you)
    assert gptme == "gptme: (the same, played back)"
    told = re.fullmatch(
        r"Question 2\.0 s; answer 2\.\d s, (\d+\.\d) s after the question, by echo: .*/answer\.wav",
        summary,
    )
    # Not before it is sure that the question is over, and not after all of it.
    assert told and 0.4 <= float(told[1]) <= took - 2.0
    correlation, _ = best_match(
        resampled(spoken, rate, 24_000), read_answer(tmp_path / "answer.wav")
    )
    assert correlation > 0.99
    assert TOKEN not in result.stdout + result.stderr + server.log()[log_before:]


def test_several_utterances_get_several_answers(server: GptmeServer, tmp_path: Path) -> None:
    first, second = speech_like(16_000, 1.0, seed=2), speech_like(16_000, 1.5, seed=3)
    both = np.concatenate([first, silence(16_000, 6.0), second])
    result = talk(tmp_path, write_pcm(tmp_path / "both.wav", 16_000, both), server.url)
    assert result.returncode == 0, result
    assert result.stdout.count("You: ") == result.stdout.count("gptme: ") == 2
    answer = read_answer(tmp_path / "answer.wav")
    places = []
    for spoken in (first, second):
        correlation, place = best_match(resampled(spoken, 16_000, 24_000), answer)
        assert correlation > 0.99
        places.append(place)
    assert places[0] < places[1]


def test_an_interrupted_answer(server: GptmeServer, tmp_path: Path) -> None:
    """Speech that goes on while the first answer still comes cuts it off."""
    first, second = speech_like(16_000, 12.0, seed=4), speech_like(16_000, 1.0, seed=5)
    both = np.concatenate([first, silence(16_000, 0.56), second])
    result = talk(tmp_path, write_pcm(tmp_path / "both.wav", 16_000, both), server.url)
    assert result.returncode == 0, result
    assert result.stderr == ""  # every report was one that the server could use
    answer = read_answer(tmp_path / "answer.wav")
    assert best_match(resampled(second, 16_000, 24_000), answer)[0] > 0.99
    assert answer.size < 12 * 24_000


def test_the_servers_own_token_file(tmp_path: Path, question: Path) -> None:
    pytest.importorskip("gptme.server.token_file", reason="gptme 0.34 shares no token")
    with GptmeServer(tmp_path / "server", env={"GPTME_SERVER_TOKEN": ""}) as server:
        result = talk(server.home, question, server.url, env={})
        assert result.returncode == 0, result


def test_progress_on_a_terminal_leaves_stdout_alone(server: GptmeServer, tmp_path: Path) -> None:
    question = write_pcm(tmp_path / "question.wav", 16_000, speech_like(16_000, 2.0))
    command = [sys.executable, "-m", "gptme_voice_plugin.cli", "talk", "--in", question]
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command, "--out", tmp_path / "answer.wav", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=clean_environment(tmp_path, {**ENV, "TERM": "xterm"}),
    )
    os.close(terminal)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([screen], [], [], 1)[0]:
            continue
        try:
            piece = os.read(screen, 4096)
        except OSError:  # how Linux tells that nobody has the terminal open any more
            break
        if not piece:
            break
        seen += piece
    os.close(screen)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.search(rb"Speaking[^\r\n]* [01]\.\d s", seen), seen
    assert [line.split(b" ")[0] for line in output.splitlines()] == [
        b"You:",
        b"gptme:",
        b"Question",
    ]


def test_ctrl_c_ends_politely(server: GptmeServer, tmp_path: Path) -> None:
    assert wait_until(lambda: server.status()["voice_process"]["sessions"] == 0)  # of the last test
    long = write_pcm(tmp_path / "long.wav", 16_000, speech_like(16_000, 20.0))
    command = [sys.executable, "-m", "gptme_voice_plugin.cli", "talk", "--in", long]
    process = subprocess.Popen(
        [*command, "--out", tmp_path / "answer.wav", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(tmp_path, ENV),
    )
    try:
        assert wait_until(lambda: server.status()["voice_process"]["sessions"] == 1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert errors == b"Stopped.\n"
    assert wait_until(lambda: server.status()["voice_process"]["sessions"] == 0)
    assert not (tmp_path / "answer.wav").exists()


# What can be wrong before the call


def test_a_missing_question(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    assert one_sentence(talk(tmp_path, path, "ws://127.0.0.1:1")) == f"There is no file {path}."


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"RIFF\x24\0\0\0WAVE", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e"],
)
def test_a_question_that_is_no_wav(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "question.wav"
    path.write_bytes(content)
    with pytest.raises(WavError, match="is not a WAV file that can be read"):
        read_wav(path)


def test_a_question_without_audio(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "empty.wav", 16_000, np.zeros(0, np.int16))
    assert one_sentence(talk(tmp_path, path, "ws://127.0.0.1:1")) == f"{path} holds no audio."


def test_an_answer_that_cannot_be_written(tmp_path: Path, question: Path) -> None:
    for out in (tmp_path, tmp_path / "none" / "answer.wav"):
        result = gptme_voice("talk", "--in", question, "--out", out, home=tmp_path)
        assert one_sentence(result).startswith(f"{out} cannot be written: ")


def test_an_answer_in_place_of_the_question(tmp_path: Path, question: Path) -> None:
    before = question.read_bytes()
    result = gptme_voice("talk", "--in", question, "--out", question, home=tmp_path)
    assert one_sentence(result) == "--out is the same file as --in; the question would be lost."
    assert question.read_bytes() == before


def test_nothing_answers(tmp_path: Path, question: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert one_sentence(talk(tmp_path, question, url)) == (
        f"Nothing answers at ws{url[4:]}/voice; start the server with: gptme-voice serve"
    )
    assert not (tmp_path / "answer.wav").exists()


# What the server can refuse


@pytest.mark.parametrize(
    ("token", "expected"),
    [("wrong-secret", "did not accept the token"), (None, "wants a token; give the one")],
)
def test_the_token(
    server: GptmeServer, tmp_path: Path, question: Path, token: str | None, expected: str
) -> None:
    args = ("--token", token) if token else ()
    sentence = one_sentence(talk(tmp_path, question, server.url, *args, env={}))
    assert expected in sentence
    assert "--token or GPTME_SERVER_TOKEN" in sentence
    assert "wrong-secret" not in sentence + server.log()


def test_a_backend_that_cannot_be_used(tmp_path: Path, question: Path) -> None:
    env = {"GPTME_VOICE_BACKEND": "xai"}
    with GptmeServer(tmp_path / "server", env=env) as server:
        result = talk(tmp_path, question, server.url)
    assert "'xai' backend" in one_sentence(result)


def test_a_server_without_the_plugin(tmp_path: Path, question: Path) -> None:
    with GptmeServer(tmp_path / "server", env={"GPTME_VOICE": "0"}) as server:
        result = talk(tmp_path, question, server.url)
    assert one_sentence(result).startswith(f"There is no voice at {server.ws_url} ")


def test_a_server_that_stops(tmp_path: Path) -> None:
    long = write_pcm(tmp_path / "long.wav", 16_000, speech_like(16_000, 20.0))
    with GptmeServer(tmp_path / "server") as server:

        def stop() -> None:
            wait_until(lambda: server.status()["voice_process"]["sessions"] == 1, 30)
            server.stop()

        stopping = threading.Thread(target=stop)
        stopping.start()
        result = talk(tmp_path, long, server.url)
        stopping.join()
    assert one_sentence(result) == (
        "The server closed the session early (1012): gptme-server is stopping; connect again when "
        "it is back."
    )


def test_a_silent_question(server: GptmeServer, tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "quiet.wav", 16_000, silence(16_000, 0.5))
    assert one_sentence(talk(tmp_path, path, server.url, "--timeout", "2")) == (
        "No speech was noticed in the file; is it loud enough?"
    )


def test_an_answer_that_does_not_come(tmp_path: Path, question: Path) -> None:
    with GptmeServer(tmp_path / "server", config='backend = "echo"\nsilence_ms = 5000') as server:
        result = talk(tmp_path, question, server.url, "--timeout", "3")
    assert one_sentence(result) == "No answer came for 3 s; --timeout allows for more."


# What is no gptme-server, or a strange one


@contextmanager
def web_server(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"<html>", "There is no voice at {} (it answered 200)"),
        (404, b"{}", "There is no voice at {} (it answered 404)"),
        (403, b'{"error": "No\\u001b[31m such host."}', "{} refused this client: No [31m such"),
        (403, b"", "{} refused this client: no reason was given."),
        (503, b'{"error": "Not now."}', "{} answered 503: Not now."),
        (500, b"[]", "{} answered 500."),
    ],
)
def test_what_else_may_answer(
    tmp_path: Path, question: Path, status: int, body: bytes, expected: str
) -> None:
    with web_server(status, body) as url:
        sentence = one_sentence(talk(tmp_path, question, url))
    assert expected.format(f"ws{url[4:]}/voice") in sentence


@contextmanager
def voice_server(
    handle: Callable[[ServerConnection], None], subprotocol: str | None = SUBPROTOCOL
) -> Iterator[str]:
    """A WebSocket server that does what `handle` does."""
    names = [Subprotocol(subprotocol)] if subprotocol else None
    with serve(handle, "127.0.0.1", 0, subprotocols=names, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def say(websocket: ServerConnection, type: str, **fields: Any) -> None:
    websocket.send(json.dumps({"type": type, **fields}))


def say_ready(websocket: ServerConnection) -> None:
    assert json.loads(websocket.recv())["type"] == "hello"
    say(
        websocket,
        "ready",
        session_id="s",
        input_sample_rate=16_000,
        output_sample_rate=24_000,
        backend="b",
        model="m",
    )


def test_a_websocket_that_is_no_voice(tmp_path: Path, question: Path) -> None:
    with voice_server(lambda websocket: None, subprotocol=None) as url:
        sentence = one_sentence(talk(tmp_path, question, url))
    assert sentence == f"{url}/voice is a WebSocket, but does not speak {SUBPROTOCOL}."


def test_a_clear_is_answered(tmp_path: Path, question: Path) -> None:
    """First where it fell silent, then where it goes on; and what had arrived stays."""
    played: list[int] = []

    def handle(websocket: ServerConnection) -> None:
        say_ready(websocket)
        say(websocket, "unheard_of", of=1)
        say(websocket, "speech_started")
        say(websocket, "reply", item_id="a", from_sample=0)
        websocket.send(b"\1\0" * 480)
        say(websocket, "transcript", role="assistant", item_id="a", text="One\x1b[2J", final=False)
        say(websocket, "clear", at_sample=2400)
        say(websocket, "speech_stopped")
        say(websocket, "transcript", role="user", item_id="u", text="Stop.\nNow", final=True)
        say(websocket, "reply", item_id="b", from_sample=2400)
        websocket.send(b"\2\0" * 480)
        say(websocket, "transcript", role="assistant", item_id="b", text="Two", final=True)
        say(websocket, "error", code="bad_message", message="Odd.", fatal=False)
        for frame in websocket:
            if isinstance(frame, str) and json.loads(frame)["type"] == "played":
                played.append(json.loads(frame)["samples"])

    with voice_server(handle) as url:
        result = talk(tmp_path, question, url)
    assert result.returncode == 0, result
    assert played == [480, 480, 2400, 2880]
    assert result.stdout.splitlines()[:3] == ["gptme: One [2J …", "You: Stop. Now", "gptme: Two"]
    assert "by b m: " in result.stdout
    assert result.stderr == "Note: Odd.\n"
    assert read_answer(tmp_path / "answer.wav").tolist() == [1] * 480 + [2] * 480


def _fatal(websocket: ServerConnection) -> None:
    websocket.recv()
    say(websocket, "error", code="x", message="The model is away.", fatal=True)
    websocket.close(1011, "The model is away.")


def _gone(websocket: ServerConnection) -> None:
    say_ready(websocket)
    websocket.socket.close()


def _nonsense(websocket: ServerConnection) -> None:
    websocket.send("{")
    _listen(websocket)


def _text_only(websocket: ServerConnection) -> None:
    say_ready(websocket)
    say(websocket, "transcript", role="assistant", item_id="a", text="Hm.", final=True)
    _listen(websocket)


def _odd_rate(websocket: ServerConnection) -> None:
    rates = {"input_sample_rate": 0, "output_sample_rate": 24_000}
    say(websocket, "ready", session_id="s", backend="b", model="m", **rates)
    _listen(websocket)


def _listen(websocket: ServerConnection) -> None:
    try:
        while True:
            websocket.recv()
    except ConnectionClosed:
        pass


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (_fatal, "The model is away."),
        (_gone, "The connection to the server was lost."),
        (_nonsense, "The server sent something that is no voice message."),
        (_text_only, "The answer was text only, so there is no audio to write."),
        (_odd_rate, "The server wants a sample rate that cannot be used."),
        (lambda websocket: None, "The server closed the session early (1000)."),
    ],
)
def test_how_a_session_may_end(
    tmp_path: Path, question: Path, handle: Callable[[ServerConnection], None], expected: str
) -> None:
    with voice_server(handle) as url:
        assert one_sentence(talk(tmp_path, question, url)) == expected
    assert not (tmp_path / "answer.wav").exists()


def test_what_the_server_must_do_first_is_shown(question: Path) -> None:
    """Such as a model that it fetches: with how far it is, before the question is asked."""
    shown: list[tuple[str, float]] = []

    def behave(websocket: ServerConnection) -> None:
        say(websocket, "preparing", what="Fetching the speech model base", share=0.25)
        say(websocket, "preparing", what="Loading the speech model")
        say_ready(websocket)
        websocket.recv()
        websocket.send(bytes(48_000))
        websocket.close()

    async def run(url: str) -> None:
        recording = read_wav(question)
        session = Talk(
            Address.parse(url), None, recording, 5, lambda *progress: shown.append(progress)
        )
        with contextlib.suppress(TalkFailed):  # it ends early: nothing more is asked of it
            await session.run()

    with voice_server(behave) as url:
        asyncio.run(run(url))
    assert shown[:2] == [
        ("Fetching the speech model base", 0.25),
        ("Loading the speech model", 0.0),
    ]
    assert shown[2][0] == "speaking"
