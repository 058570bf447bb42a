"""A page with nothing but the modules of webui_patch, and a tap into what they make and get."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext, Page

__all__ = ["AudioPage", "stock_worklet"]

_MODULES = Path(__file__).parents[2] / "webui_patch"
_HELPERS = Path(__file__).parent


def stock_worklet() -> bytes:
    """Return the recorder worklet of the web UI that gptme ships."""
    spec = find_spec("gptme")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "server" / "webui-dist" / "pcm-recorder-worklet.js"
    return path.read_bytes()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {".js": "text/javascript", ".html": "text/html"}

    def __init__(self, made: dict[str, bytes], *args: Any, **named: Any) -> None:
        self.made = made
        super().__init__(*args, directory=str(_MODULES), **named)

    def do_GET(self) -> None:
        body = self.made.get(self.path)
        if body is None:
            return super().do_GET()
        self.send_response(200)
        kind = "text/javascript" if self.path.endswith(".js") else "text/html"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class AudioPage:
    """The page, opened; `helpers.js` is in it as `helpers`."""

    def __init__(self, page: Page, made: dict[str, bytes], url: str) -> None:
        self.page = page
        self._made = made
        self.errors: list[str] = []
        """What the page has thrown and nobody caught."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url)
        page.evaluate("import('/helpers.js').then((module) => { window.helpers = module; })")

    @classmethod
    @contextmanager
    def open(cls, context: BrowserContext) -> Iterator[AudioPage]:
        """Serve and open it while a block runs."""
        made = {
            "/": b"<!doctype html><title>sound</title>",
            "/stock-worklet.js": stock_worklet(),
            "/helpers.js": (_HELPERS / "audio_page.js").read_bytes(),
            "/tap-worklet.js": (_HELPERS / "audio_tap.js").read_bytes(),
        }
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, made))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield cls(context.new_page(), made, f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def give(self, path: str, body: bytes) -> None:
        """Let the page fetch `body` at `path`."""
        self._made[path] = body

    def take(self, expression: str, kind: str = "<i2") -> NDArray[Any]:
        """Return the samples that a typed array in the page has."""
        text = self.page.evaluate(f"helpers.base64({expression})")
        return np.frombuffer(base64.b64decode(text), kind)
