"""Our script in the web UI's pages, the files behind it, and everything else left as it was."""

from __future__ import annotations

import gzip
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli
import flask
import httpx
import pytest

from gptme_voice_plugin.server import assets
from gptme_voice_plugin.server.assets import AssetRoutes, load
from tests.support.http_client import kept_client
from tests.support.server import GptmeServer, wait_until

SCRIPT = re.compile(r'<script type="module" src="(/gptme-voice-plugin/[0-9a-f]{20}/)voice\.js">')
TAG = re.compile(rb'<script type="module" src="/gptme-voice-plugin/[^>]*></script>')
SPA = ["/", "/chat", "/chat/abc", "/chat/a?server=b", "/settings/audio", "/computer", "/index.html"]
PLAIN = {"Accept-Encoding": "identity"}
FOLDER = Path(__file__).resolve().parents[2] / "webui_patch"

# One for all, because making one takes long.
HTTP = kept_client()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """The same gptme-server with the plugin switched off."""
    with GptmeServer(tmp_path_factory.mktemp("stock"), env={"GPTME_VOICE": "0"}) as running:
        yield running


def fetch(
    server: GptmeServer, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[httpx.Response, bytes]:
    """Return an answer and its body as it was sent; not compressed unless `headers` ask for it."""
    sent = {**PLAIN, **(headers or {})}
    with HTTP.stream(method, f"{server.url}{path}", headers=sent) as answer:
        return answer, b"".join(answer.iter_raw())


def prefix(server: GptmeServer) -> str:
    """Return where the page has our files, up to the last slash."""
    (found,) = SCRIPT.findall(fetch(server, "/")[1].decode())
    return str(found)


# Pages


@pytest.mark.parametrize("path", SPA)
def test_pages_have_the_script(server: GptmeServer, stock: GptmeServer, path: str) -> None:
    """Once, at the end of the head; without it the page is gptme's, byte for byte."""
    answer, page = fetch(server, path)
    assert answer.status_code == 200
    assert len(TAG.findall(page)) == 1
    assert re.search(TAG.pattern + rb"</head>", page)
    assert TAG.sub(b"", page) == fetch(stock, path)[1]
    assert answer.headers["Content-Length"] == str(len(page))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    # So that a new version is noticed at the next visit.
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Last-Modified" not in answer.headers
    assert "Accept-Ranges" not in answer.headers


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br", "zstd"])
def test_head_tells_the_length(server: GptmeServer, encoding: str) -> None:
    headers = {"Accept-Encoding": encoding}
    whole, page = fetch(server, "/", headers)
    answer, nothing = fetch(server, "/", headers, method="HEAD")
    assert answer.status_code == 200
    assert nothing == b""
    assert answer.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(page))
    assert answer.headers["ETag"] == whole.headers["ETag"]


def unzstd(data: bytes) -> bytes:
    """Decompress with what compresses in gptme: the standard library's, or its backport."""
    try:
        module = importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        module = importlib.import_module("backports.zstd")
    content: bytes = module.decompress(data)
    return content


@pytest.mark.parametrize(
    ("encoding", "decompress"),
    [("gzip", gzip.decompress), ("br", brotli.decompress), ("zstd", unzstd)],
    ids=["gzip", "br", "zstd"],
)
def test_compressed(
    server: GptmeServer, encoding: str, decompress: Callable[[bytes], bytes]
) -> None:
    """The compressed page is the plain one, has a tag of its own, and can be asked for again."""
    headers = {"Accept-Encoding": encoding}
    plain, page = fetch(server, "/")
    answer, data = fetch(server, "/", headers)
    assert answer.headers["Content-Encoding"] == encoding
    assert answer.headers["Content-Length"] == str(len(data))
    assert decompress(data) == page
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert answer.headers["ETag"] != plain.headers["ETag"]
    again, nothing = fetch(server, "/", headers | {"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, nothing) == (304, b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_is_not_sent_twice(server: GptmeServer, method: str) -> None:
    tag = fetch(server, "/")[0].headers["ETag"]
    for path in SPA:
        answer, nothing = fetch(server, path, {"If-None-Match": f'"x", {tag}'}, method)
        assert (answer.status_code, nothing) == (304, b"")
        assert answer.headers["ETag"] == tag


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_browser_with_the_stock_page_gets_ours(
    server: GptmeServer, stock: GptmeServer, encoding: str
) -> None:
    """Whatever it had in its cache from before the plugin was installed."""
    accept = {"Accept-Encoding": encoding}
    before, _ = fetch(stock, "/", accept)
    modified = fetch(stock, "/")[0].headers["Last-Modified"]
    for condition in (
        {"If-None-Match": before.headers["ETag"]},
        {"If-Modified-Since": modified},
        {"If-None-Match": before.headers["ETag"], "If-Modified-Since": modified},
    ):
        assert fetch(stock, "/", accept | condition)[0].status_code == 304
        answer, page = fetch(server, "/", accept | condition)
        assert answer.status_code == 200
        assert TAG.search(gzip.decompress(page) if encoding == "gzip" else page)


def test_the_rest_is_untouched(server: GptmeServer, stock: GptmeServer) -> None:
    paths = ["/api/docs/", "/api/v2", "/api/nothing", "/panel.html", "/404.html", "/logo.png"]
    for path in paths:
        for method in ("GET", "HEAD"):
            ours, theirs = (fetch(each, path, method=method) for each in (server, stock))
            assert ours[1] == theirs[1], path
            assert TAG.search(ours[1]) is None
            assert ours[0].status_code == theirs[0].status_code
            for header in ("ETag", "Content-Length", "Content-Type", "Accept-Ranges"):
                assert ours[0].headers.get(header) == theirs[0].headers.get(header), (path, header)


def test_a_range_is_of_gptmes_file(server: GptmeServer, stock: GptmeServer) -> None:
    """Nobody asks for part of a page; if so, what comes belongs together by its tag."""
    part, data = fetch(server, "/", {"Range": "bytes=0-99"})
    assert part.status_code == 206
    assert data == fetch(stock, "/")[1][:100]
    # A part of our page cannot be had: the page comes whole.
    ours = fetch(server, "/")[0].headers["ETag"]
    whole, page = fetch(server, "/", {"Range": "bytes=0-99", "If-Range": ours})
    assert whole.status_code == 200
    assert TAG.search(page)


def test_switched_off(stock: GptmeServer) -> None:
    assert TAG.search(fetch(stock, "/")[1]) is None
    answer, page = fetch(stock, "/gptme-voice-plugin/x/voice.js")
    assert (answer.status_code, page) == (200, fetch(stock, "/")[1])  # gptme's for any address


PAGES = {
    "index.html": b"<html><HEAD lang='x'>\n</HEAD ><body></head></body></html>",
    "other.html": b"<html><head></head></html>",
}


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (PAGES["index.html"], b"<html><HEAD lang='x'>\n%s</HEAD ><body></head></body></html>"),
        (b"<html><body>no head</body></html>", None),
        (b"", None),
        ("<head>é</head>".encode("latin-1"), None),
        ("<head></head>".encode("utf-16"), None),
    ],
    ids=["capitals", "no-head", "empty", "latin-1", "utf-16"],
)
def test_other_web_uis(tmp_path: Path, index: bytes, expected: bytes | None) -> None:
    """Only what can take the script safely gets it; the rest stays as it is, to the byte."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "index.html").write_bytes(index)
    (pages / "other.html").write_bytes(PAGES["other.html"])
    with GptmeServer(tmp_path, env={"GPTME_WEBUI_DIR": str(pages)}) as server:
        answer, page = fetch(server, "/")
        if expected is None:
            assert page == index
            again, _ = fetch(server, "/", {"If-None-Match": answer.headers["ETag"]})
            assert again.status_code == 304
        else:
            (tag,) = TAG.findall(page)
            assert page == expected % tag
        assert answer.headers["Content-Length"] == str(len(page))
        assert fetch(server, "/other.html")[1] == PAGES["other.html"]


# Files


def test_every_file_is_served(server: GptmeServer) -> None:
    """By an address relative to the entry's, as imports, style sheets and worklets need it."""
    base = prefix(server)
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
    names = [p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()]
    assert "voice.js" in names
    for name in names:
        answer, content = fetch(server, base + name)
        assert answer.status_code == 200
        assert content == (FOLDER / name).read_bytes()
        assert answer.headers["Content-Type"] == types[Path(name).suffix]
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Length"] == str(len(content))
        again, _ = fetch(server, base + name, {"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
        assert again.headers["Cache-Control"] == answer.headers["Cache-Control"]
        head, nothing = fetch(server, base + name, method="HEAD")
        assert (head.headers["Content-Length"], nothing) == (str(len(content)), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/gptme-voice-plugin/",
        "/gptme-voice-plugin/voice.js",
        "/gptme-voice-plugin/{hash}",
        "/gptme-voice-plugin/{hash}/",
        "/gptme-voice-plugin/{hash}/nothing.js",
        "/gptme-voice-plugin/{hash}/ui",
        "/gptme-voice-plugin/00000000000000000000/voice.js",
        "/gptme-voice-plugin/{hash}/voice.js/",
        "/gptme-voice-plugin/{hash}/Voice.js",
        "/gptme-voice-plugin/{hash}/..%2fpyproject.toml",
        "/gptme-voice-plugin/{hash}/%2e%2e/pyproject.toml",
        "/gptme-voice-plugin/{hash}/..%5cpyproject.toml",
        "/gptme-voice-plugin/{hash}/%2fetc%2fpasswd",
        "/gptme-voice-plugin/{hash}/voice.js%00",
        "/gptme-voice-plugin/{hash}/%ff",
    ],
)
def test_what_is_no_file(server: GptmeServer, path: str) -> None:
    """It is a plain 404 that nobody keeps: a page under a module's address breaks for good."""
    hash = prefix(server).split("/")[2]
    for method in ("GET", "HEAD"):
        answer, content = fetch(server, path.format(hash=hash), method=method)
        assert answer.status_code == 404
        assert content == (b"Not found\n" if method == "GET" else b"")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"


def test_nothing_but_reading(server: GptmeServer) -> None:
    assert HTTP.post(f"{server.url}{prefix(server)}voice.js").status_code == 405


def test_the_hash_is_of_everything(tmp_path: Path) -> None:
    """Any change changes it: of a content, a name, a place; the folder's own place does not."""

    def hash_of(name: str, files: dict[str, str]) -> str:
        folder = tmp_path / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return load(folder).hash

    files = {"voice.js": "a", "ui/strip.js": "b"}
    first = hash_of("1", files)
    assert hash_of("2", files) == first
    others = [
        hash_of("3", files | {"voice.js": "c"}),
        hash_of("4", files | {"ui/strip.js": ""}),
        hash_of("5", {"voice.js": "a", "ui/strop.js": "b"}),
        hash_of("6", {"voice.js": "a", "strip.js": "b"}),
        hash_of("7", files | {"new.css": ""}),
        hash_of("8", {"voice.js": "b", "ui/strip.js": "a"}),
        hash_of("9", {"voice.js": "au", "i/strip.js": "b"}),
    ]
    assert len({first, *others}) == len(others) + 1
    # What editors and systems leave behind is not part of it, and is not served.
    assert hash_of("10", files | {".swp": "x", "ui/.DS_Store": "x"}) == first
    assert load(tmp_path / "10").files == {"ui/strip.js": b"b", "voice.js": b"a"}


# The voice process


def test_opening_a_page_starts_the_voice_process(tmp_path: Path) -> None:
    """Once the script was fetched, and also by a page whose script the browser still has."""

    def runs(server: GptmeServer) -> bool:
        return bool(server.status()["voice_process"]["running"])

    with GptmeServer(tmp_path / "1") as server:
        page, _ = fetch(server, "/", {"Accept-Encoding": "gzip"})
        fetch(server, "/", method="HEAD")
        fetch(server, prefix(server) + "voice.js", method="HEAD")
        fetch(server, prefix(server) + "nothing.js")
        assert not wait_until(lambda: runs(server), 1)
        fetch(server, prefix(server) + "voice.js")
        assert wait_until(lambda: runs(server))
        pid = server.voice_pid()
        fetch(server, prefix(server) + "voice.js")
        assert server.voice_pid() == pid

    with GptmeServer(tmp_path / "2") as server:
        known = {"Accept-Encoding": "gzip", "If-None-Match": page.headers["ETag"]}
        fetch(server, "/", known, method="HEAD")
        assert not wait_until(lambda: runs(server), 1)
        assert fetch(server, "/", known)[0].status_code == 304
        assert wait_until(lambda: runs(server))


# In an application of the test's own


@pytest.fixture
def application(tmp_path: Path) -> flask.Flask:
    """An application whose `root` answers as gptme's does."""
    (tmp_path / "index.html").write_bytes(PAGES["index.html"])
    app = flask.Flask(__name__, static_folder=tmp_path)
    app.add_url_rule("/", "root", lambda: app.send_static_file("index.html"))
    routes = flask.Blueprint("gptme_voice_plugin", __name__)
    AssetRoutes(lambda: None).add_to(routes)
    app.register_blueprint(routes)
    return app


def test_below_a_prefix(application: flask.Flask) -> None:
    """A server that knows it is mounted at /gptme says so in the script's address."""
    with application.test_client() as client:
        page = client.get("/", base_url="http://localhost/gptme", buffered=True).text
    (source,) = re.findall(r'src="([^"]*)"', page)
    assert re.fullmatch(r"/gptme/gptme-voice-plugin/[0-9a-f]{20}/voice\.js", source)


def test_a_prefix_cannot_break_out(application: flask.Flask) -> None:
    with application.test_client() as client:
        mounted = {"SCRIPT_NAME": '/"><script>&'}
        page = client.get("/", environ_overrides=mounted, buffered=True).text
    assert page.count("<script") == 1


def test_without_the_files_pages_are_untouched(
    application: flask.Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that was put together wrongly is no reason for gptme to break."""
    monkeypatch.setattr(assets, "bundle", lambda: load(tmp_path / "missing"))
    with application.test_client() as client:
        assert client.get("/", buffered=True).data == PAGES["index.html"]
        assert client.get("/gptme-voice-plugin/x/voice.js").status_code == 404
