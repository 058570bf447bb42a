"""Pages of other servers, in the very browser that holds gptme's cookie."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.support.browser import chromium
from tests.support.server import GptmeServer, wait_until
from tests.support.stock_ui import StockUi

pytestmark = pytest.mark.browser

PATHS = ("/voice", "/api/v2/voice")
# rich breaks the server's log lines at the width of the terminal.
WIDE_LOG = {"COLUMNS": "300"}
_OPEN = """
(url) => new Promise((resolve) => {
  const events = [];
  const socket = new WebSocket(url);
  socket.onopen = () => { events.push('open'); socket.close(); };
  socket.onerror = () => events.push('error');
  socket.onclose = () => resolve([...events, 'close']);
})
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>Elsewhere</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The origin of another web server on this host: to cookies, it is the same one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    """Chromium, with no sound."""
    # No daemon is there; one must not be started either, for the person whose machine this is.
    with chromium({**os.environ, "PULSE_SERVER": "unix:/nonexistent"}) as context:
        yield context


def attempts(context: BrowserContext, origin: str, server: GptmeServer) -> dict[str, list[str]]:
    """Try to open a voice session from a page of `origin`, at each address."""
    page = context.new_page()
    page.goto(origin)
    host = server.ws_url.removesuffix("/voice")
    return {path: page.evaluate(_OPEN, host + path) for path in PATHS}


REFUSED = {path: ["error", "close"] for path in PATHS}
LET_IN = {path: ["open", "close"] for path in PATHS}


def refusals(server: GptmeServer) -> int:
    return sum("voice HTTP/1.1" in line and "403" in line for line in server.log().splitlines())


def test_another_origin_is_refused(tmp_path: Path, browser: BrowserContext, elsewhere: str) -> None:
    """The cookie comes along, and does not help."""
    with GptmeServer(tmp_path, config='backend = "echo"', env=WIDE_LOG) as server:
        StockUi(browser, server)
        paths = {cookie["path"] for cookie in browser.cookies(server.url + "/voice")}
        assert "/voice" in paths
        assert attempts(browser, elsewhere, server) == REFUSED
        assert wait_until(lambda: refusals(server) == 2)
        assert wait_until(lambda: f"Refused a page from '{elsewhere}'" in server.log())
        assert attempts(browser, server.url, server) == LET_IN


def test_another_origin_is_refused_without_authentication(
    tmp_path: Path, browser: BrowserContext, elsewhere: str
) -> None:
    """A page cannot use that gptme asks nobody for a token."""
    env = {**WIDE_LOG, "GPTME_DISABLE_AUTH": "1"}
    with GptmeServer(tmp_path, config='backend = "echo"', env=env) as server:
        assert attempts(browser, elsewhere, server) == REFUSED
        assert wait_until(lambda: refusals(server) == 2)
        assert attempts(browser, server.url, server) == LET_IN


def test_cors_origin_lets_in(tmp_path: Path, browser: BrowserContext, elsewhere: str) -> None:
    """An origin that gptme-server was started with may, if it has the cookie."""
    with GptmeServer(
        tmp_path, args=["--cors-origin", elsewhere], config='backend = "echo"', env=WIDE_LOG
    ) as server:
        assert attempts(browser, elsewhere, server) == REFUSED, "there is no cookie yet"
        StockUi(browser, server)
        assert attempts(browser, elsewhere, server) == LET_IN
        assert refusals(server) == 0, "it was the cookie only"
