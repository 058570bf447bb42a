"""A small Hugging Face hub: it serves files of repositories, and can be told to misbehave.

It speaks what huggingface_hub asks of one to get files: HEAD and GET of
`/<repository>/resolve/<revision>/<file>`, with ranges. Large files have their SHA-256 as ETag, as
the hub's have.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PATH = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


class FakeHub:
    """The hub's files and its faults.

    Attributes:
        files: `organisation/repository/file` → its bytes.
        status: What every request is answered with, if it is not 0.
        broken: Files that a GET of fails with status 500.
        cut: The file whose body is cut short, as often as the number says.
        wrong: The file that is sent with other bytes than it should have, of the same number.
        anonymous: Whether files are sent without what a hub tells of them.
        absent_code: What is said of a repository that is not there.
        requests: `METHOD /path` of every request, with its range if it had one.
        begun: Set when a file has been begun to be sent; it goes on when `go_on` is set.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.status = 0
        self.broken: set[str] = set()
        self.cut: dict[str, int] = {}
        self.wrong: set[str] = set()
        self.anonymous = False
        self.absent_code = "RepoNotFound"
        self.requests: list[str] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.url = ""

    def fetched(self) -> list[str]:
        """Return the names of the files that were got, without their folders."""
        gets = [request for request in self.requests if request.startswith("GET ")]
        return [request.split(" ")[1].rpartition("/")[2] for request in gets]


@contextmanager
def running(files: Mapping[str, bytes]) -> Iterator[FakeHub]:
    """Run a hub with these files at `url`."""
    hub = FakeHub(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            found = _PATH.fullmatch(self.path)
            if found is None:  # huggingface_hub has asked for something that is about itself
                self._refuse(404)
                return
            asked = self.headers.get("Range", "")
            hub.requests.append(" ".join(filter(None, (self.command, self.path, asked))))
            name = f"{found['repository']}/{found['file']}"
            status = hub.status or (500 if body and name in hub.broken else 0)
            if status:
                self._refuse(status)
            elif name in hub.files:
                self._send(name, asked, body)
            elif any(each.startswith(f"{found['repository']}/") for each in hub.files):
                self._refuse(404, "EntryNotFound")
            else:
                self._refuse(404, hub.absent_code)

        def _refuse(self, status: int, code: str = "") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", "It is not there.")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, name: str, asked: str, body: bool) -> None:
            whole = hub.files[name]
            large = name.endswith((".bin", ".onnx"))
            digest = hashlib.sha256(whole) if large else hashlib.sha1(whole)
            begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            data = whole[begin:]
            if name in hub.wrong:
                data = bytes(len(data))
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
            self.send_header("ETag", f'"{digest.hexdigest()}"')
            if not hub.anonymous:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(len(whole)))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if not body:
                return
            hub.begun.set()
            hub.go_on.wait(120)
            if hub.cut.get(name, 0):
                hub.cut[name] -= 1
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
