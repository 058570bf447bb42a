"""How the voice process is told to reach gptme-server: by the address its client came to."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptme_voice_plugin.channel import Gptme
from gptme_voice_plugin.server.reach import address_of
from tests.support.server import TOKEN, GptmeServer

# Addresses


@pytest.mark.parametrize(
    ("family", "listen", "connect", "address"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", "http://127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.2", "http://127.0.0.2"),
        (socket.AF_INET6, "::1", "::1", "http://[::1]"),
        (socket.AF_INET6, "::", "::1", "http://[::1]"),
    ],
)
def test_an_address(family: int, listen: str, connect: str, address: str) -> None:
    """Of the connection, not of the listener, which may be everywhere."""
    with socket.create_server((listen, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((connect, port)):
            accepted, _ = listener.accept()
            with accepted:
                assert address_of(accepted) == f"{address}:{port}"


def test_ipv4_at_a_socket_for_both() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            with accepted:
                url = address_of(accepted)
        assert url == f"http://[::ffff:127.0.0.1]:{port}"
        with socket.create_connection(("::ffff:127.0.0.1", port)):
            pass  # which can be connected to


@pytest.mark.parametrize("name", ["gptme.sock", "\0gptme-voice-test"])
def test_a_unix_socket(tmp_path: Path, name: str) -> None:
    # The name of one that is in no folder is known to the whole machine.
    path = f"{name}-{os.getpid()}" if name.startswith("\0") else str(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        accepted, _ = listener.accept()
        with accepted:
            assert address_of(accepted) == f"unix:{path}"


def test_a_unix_socket_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn leaves `unix:gptme.sock` as it is; the voice process is in another folder."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("gptme.sock")
        listener.listen()
        client.connect("gptme.sock")
        accepted, _ = listener.accept()
        with accepted:
            assert address_of(accepted) == f"unix:{tmp_path / 'gptme.sock'}"


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(Gptme("http://127.0.0.1:1", "localhost", TOKEN))


# Servers

# Stands in for the voice process: writes down what it was offered, and ends.
WRITE_DOWN = """
import json, os, socket, sys
sys.path.insert(0, {root!r})
from gptme_voice_plugin.channel import receive
received = receive(socket.socket(fileno=int(sys.argv[3])))
if received is not None:
    with open({out!r} + ".part", "w") as file:
        json.dump(vars(received[0].gptme), file)
    os.rename({out!r} + ".part", {out!r})
"""

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture
def python(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose interpreter, as voice process, writes its offer to `out`."""
    out, script, fake = (tmp_path / name for name in ("offer.json", "fake.py", "python"))
    root = str(Path(__file__).resolve().parents[2])
    script.write_text(WRITE_DOWN.format(root=root, out=str(out)))
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    fake.chmod(0o755)
    yield {"FAKE_PYTHON": str(fake), "OFFER": str(out)}


WERKZEUG = (
    "import os, sys; sys.executable = os.environ['FAKE_PYTHON']; "
    "from gptme.server.cli import main; main()"
)
GUNICORN = (
    "import os, sys; sys.executable = os.environ['FAKE_PYTHON']; "
    "from gunicorn.app.wsgiapp import run; "
    "port = sys.argv[sys.argv.index('--port') + 1]; "
    "more = ['--bind', 'unix:' + os.environ['SOCKET']] if 'SOCKET' in os.environ else []; "
    "sys.argv = ['gunicorn', '--worker-class', 'gthread', '--workers', '1', '--threads', '4', "
    "'--graceful-timeout', '3', '--bind', '127.0.0.1:' + port, *more, "
    "'gptme_voice_plugin.server.wsgi:create_app()']; run()"
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def offered(connection: http.client.HTTPConnection, out: Path, auth: dict[str, str]) -> Any:
    """Open a voice connection; return what the voice process was told of gptme."""
    connection.request("GET", "/voice", headers={**HANDSHAKE, **auth})
    with pytest.raises((http.client.HTTPException, OSError)):  # the fake serves nobody
        answer = connection.getresponse()
        assert answer.status == 503
        answer.read()
        raise OSError
    connection.close()
    return json.loads(out.read_text())


@pytest.mark.parametrize("command", [WERKZEUG, GUNICORN], ids=["werkzeug", "gunicorn"])
def test_a_server(tmp_path: Path, python: dict[str, str], command: str) -> None:
    launch = [sys.executable, "-c", command]
    with GptmeServer(tmp_path, env=python, command=launch) as server:
        shown = server.log().count(TOKEN)
        connection = http.client.HTTPConnection("localhost", server.port, timeout=30)
        told = offered(connection, Path(python["OFFER"]), server.auth)
        assert told == {
            "url": server.url,
            "host": f"localhost:{server.port}",
            "token": TOKEN,
        }
        assert server.log().count(TOKEN) == shown  # gptme itself shows it at its start


def test_a_server_at_a_path(tmp_path: Path, python: dict[str, str]) -> None:
    path = tmp_path / "gptme.sock"
    env = {**python, "SOCKET": str(path)}
    launch = [sys.executable, "-c", GUNICORN]
    with GptmeServer(tmp_path, env=env, command=launch) as server:
        told = offered(_UnixConnection(path), Path(python["OFFER"]), server.auth)
        assert told == {"url": f"unix:{path}", "host": "localhost", "token": TOKEN}


def test_without_authentication(tmp_path: Path, python: dict[str, str]) -> None:
    """There is nothing to show."""
    env = {**python, "GPTME_DISABLE_AUTH": "1"}
    with GptmeServer(tmp_path, env=env, command=[sys.executable, "-c", WERKZEUG]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        assert offered(connection, Path(python["OFFER"]), {})["token"] is None
