"""Puts the page's half of the plugin, `webui_patch/`, into gptme's web UI.

    GET /gptme-voice-plugin/<hash>/<path>    a file of the folder, kept by browsers for good

The web UI's pages get one script element, and are otherwise as gptme has made them. The hash is one
of all files together: modules import each other by relative addresses, so a change in any of them
has to give all of them new ones.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, Response, current_app, request, url_for
from markupsafe import escape

__all__ = ["AssetRoutes", "Bundle", "load"]

logger = logging.getLogger(__name__)

ENTRY = "voice.js"
"""The module that the pages load."""

_FOLDER = "webui_patch"
_PREFIX = "/gptme-voice-plugin/"
_PAGES = {"root", "chat", "spa_fallback", "computer"}
"""The endpoints of gptme that answer with the web UI's page; `chat` is of gptme 0.34."""
_HEAD_END = re.compile(rb"</head\s*>", re.IGNORECASE)
# The system's table of types cannot be relied upon for what browsers are strict about.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Bundle:
    """The files of the folder as they were when they were first needed.

    In memory, because what is under one hash must never change, even while the package is being
    updated; and so no address can lead out of the folder.
    """

    hash: str
    files: Mapping[str, bytes]
    """Content by path, with `/` in between on all systems."""


def load(folder: Path) -> Bundle:
    """Read all files in `folder`, but for hidden ones."""
    paths = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*"))
    files = {
        name: path.read_bytes()
        for name, path in paths
        if path.is_file() and not any(part.startswith(".") for part in name.split("/"))
    }
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(b"%d %d " % (len(name.encode()), len(content)) + name.encode() + content)
    return Bundle(digest.hexdigest()[:20], files)


def folder() -> Path:
    """Return where the files are: inside of the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / _FOLDER
    return inside if inside.is_dir() else package.parent / _FOLDER


@functools.cache
def bundle() -> Bundle:
    """Return the files that this process serves."""
    found = load(folder())
    if ENTRY not in found.files:
        logger.warning("The voice plugin has no %s: the web UI gets no voice button.", ENTRY)
    return found


class AssetRoutes:
    """The route of the files, and what puts them into pages.

    Args:
        wanted: Called when a page gets our script, so its user may be about to speak.
    """

    def __init__(self, wanted: Callable[[], None]) -> None:
        self._wanted = wanted

    def add_to(self, routes: Blueprint) -> None:
        """Add everything to a blueprint that is not registered yet."""
        # The bare prefix too: whatever is not ours below it must not be the web UI's page.
        routes.add_url_rule(_PREFIX, "no_asset", lambda: self.serve(""), methods=["GET"])
        routes.add_url_rule(f"{_PREFIX}<path:path>", "asset", self.serve, methods=["GET"])
        routes.after_app_request(self.inject)

    def serve(self, path: str) -> Response:
        """Answer with the file at `path`, which begins with the hash."""
        hash, _, name = path.partition("/")
        content = bundle().files.get(name) if hash == bundle().hash else None
        if content is None:
            missing = Response("Not found\n", status=404, mimetype="text/plain")
            missing.headers["Cache-Control"] = "no-store"
            return missing
        if name == ENTRY and request.method == "GET":
            self._wanted()
        response = Response(content, mimetype=_type_of(name))
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.add_etag()
        response.make_conditional(request)
        return response

    def inject(self, response: Response) -> Response:
        """Add our script to `response` if it is a page of the web UI.

        gptme's compression runs after this, and evaluates conditions once more for what it makes.
        """
        if not _is_page(response) or ENTRY not in bundle().files:
            return response
        # Also where the browser has gptme's own page: the file is at hand even if it is not sent.
        response.direct_passthrough = False
        page = _with_script(response.get_data())
        if page is None:
            return response
        response.status_code = 200
        response.set_data(page)
        for header in ("ETag", "Last-Modified", "Accept-Ranges"):
            response.headers.pop(header, None)  # they tell of gptme's file
        response.add_etag()
        if request.method == "GET" and _has_been_sent(response):
            self._wanted()  # the script is in the browser's cache and will not be asked for
        response.make_conditional(request)
        return response


def _is_page(response: Response) -> bool:
    if (
        response.status_code not in (200, 304)
        or request.endpoint not in _PAGES
        or request.method not in ("GET", "HEAD")
        or response.mimetype != "text/html"
        or response.mimetype_params.get("charset", "utf-8").lower() != "utf-8"
        or "Content-Encoding" in response.headers
        or current_app.static_folder is None
    ):
        return False
    # Beside the web UI's page there are others, such as that of its panels, which are files.
    path = (request.view_args or {}).get("path", "index.html")
    return path == "index.html" or not (Path(current_app.static_folder) / path).is_file()


def _with_script(page: bytes) -> bytes | None:
    """Return `page` with our script at the end of its head; None if that cannot be done."""
    end = _HEAD_END.search(page)
    if end is None:
        return None
    try:
        page.decode()
    except UnicodeDecodeError:
        return None
    # Knows the prefix that the server may be mounted at.
    source = escape(url_for("gptme_voice_plugin.asset", path=f"{bundle().hash}/{ENTRY}"))
    script = f'<script type="module" src="{source}"></script>'
    return page[: end.start()] + script.encode() + page[end.start() :]


def _has_been_sent(response: Response) -> bool:
    """Whether the browser has this very page; compression adds to the tag what it has used."""
    etag, _ = response.get_etag()
    return etag is not None and etag in request.headers.get("If-None-Match", "")


def _type_of(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
