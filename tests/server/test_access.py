"""Who gets a voice session: secrets, tickets, cookies, origins and hosts, before the upgrade."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookiejar import DefaultCookiePolicy

import httpx
import psutil
import pytest

from gptme_voice_plugin.server.access import (
    MAX_TICKETS,
    TICKET_SECONDS,
    Tickets,
    cors_allows,
    normalize_origin,
)
from gptme_voice_plugin.server.routes import rebuild_handshake
from tests.support.http_client import kept_client
from tests.support.server import TOKEN, GptmeServer

PATHS = ["/voice", "/api/v2/voice"]
TICKETS = "/api/v2/voice/tickets"
COOKIE = "/api/v2/auth/cookie"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
BEARER = {"Authorization": f"Bearer {TOKEN}"}

LISTED = ["https://list.example", "http://list.example:3000"]
CORS = ["https://a.example", "http://b.example:3000"]
ECHO = 'backend = "echo"'
SERVERS: dict[str, tuple[list[str], dict[str, str], str]] = {
    # name: arguments, environment, config
    "plain": ([], {}, ECHO),
    "named": (["--cors-origin", ",".join(CORS)], {}, f"{ECHO}\nallowed_origins = {LISTED}"),
    "star": (["--cors-origin", "*"], {"GPTME_VOICE_ALLOWED_ORIGINS": " , ".join(LISTED)}, ECHO),
    "hosts": (["--allowed-hosts", "gptme.example"], {"GPTME_DISABLE_AUTH": "1"}, ECHO),
}

Serve = Callable[..., GptmeServer]

# One for all, because making one takes long; cookies would make the tests depend on each other.
HTTP = kept_client()
HTTP.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Return a server of SERVERS, with or without authentication; each is started once."""
    running: dict[tuple[str, bool], GptmeServer] = {}
    with ExitStack() as stack:

        def start(name: str, open: bool = False) -> GptmeServer:
            if (name, open) not in running:
                args, env, config = SERVERS[name]
                env = {**env, **({"GPTME_DISABLE_AUTH": "1"} if open else {})}
                folder = tmp_path_factory.mktemp("server")
                running[name, open] = stack.enter_context(
                    GptmeServer(folder, args=args, env=env, config=config)
                )
            return running[name, open]

        yield start


@pytest.fixture(params=[False, True], ids=["auth", "no-auth"])
def open_server(request: pytest.FixtureRequest) -> bool:
    """Whether authentication is switched off; what is refused otherwise must stay refused."""
    switched_off: bool = request.param
    return switched_off


def upgrade(
    server: GptmeServer,
    headers: dict[str, str] | None = None,
    path: str = "/voice",
    **params: str,
) -> httpx.Response:
    """Ask for a WebSocket; return the answer, which is an ordinary one if it is refused."""
    return HTTP.get(f"{server.url}{path}", headers={**UPGRADE, **(headers or {})}, params=params)


def ticket(server: GptmeServer) -> str:
    """Return a new ticket."""
    answer = HTTP.post(f"{server.url}{TICKETS}", headers=server.auth)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    data = answer.json()
    assert data["expires_in"] == TICKET_SECONDS == 60
    text: str = data["ticket"]
    return text


def assert_unauthorized(answer: httpx.Response) -> None:
    """It is a plain answer in JSON that says what is wrong."""
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/json"
    assert "upgrade" not in answer.headers
    assert " " in answer.json()["error"]


def assert_origin_refused(answer: httpx.Response) -> None:
    """It is a plain answer in JSON that says what to do, and has a code."""
    assert answer.status_code == 403
    assert answer.headers["Content-Type"] == "application/json"
    assert "upgrade" not in answer.headers
    data = answer.json()
    assert data["code"] == "origin_refused"
    assert "allowed_origins in [plugin.gptme_voice_plugin]" in data["error"]
    assert "--cors-origin" in data["error"]


# Secrets


@pytest.mark.parametrize("path", PATHS)
class TestSecrets:
    """Each of the four ways to show one, on both paths."""

    def test_none(self, serve: Serve, path: str) -> None:
        assert_unauthorized(upgrade(serve("plain"), path=path))

    @pytest.mark.parametrize(
        ("headers", "params"),
        [
            (BEARER, {}),
            ({"Authorization": f"bearer {TOKEN}"}, {}),
            ({"Cookie": f"gptme_auth={TOKEN}"}, {}),
            ({"Cookie": f"other=1; gptme_auth={TOKEN}"}, {}),
            ({}, {"token": TOKEN}),
            # As with gptme's other routes, the first one that is there decides.
            (BEARER | {"Cookie": "gptme_auth=wrong"}, {"token": "wrong"}),
        ],
        ids=["bearer", "lower-case", "cookie", "cookies", "argument", "bearer-first"],
    )
    def test_right(
        self, serve: Serve, path: str, headers: dict[str, str], params: dict[str, str]
    ) -> None:
        assert upgrade(serve("plain"), headers, path, **params).status_code == 101

    @pytest.mark.parametrize(
        ("headers", "params"),
        [
            ({"Authorization": "Bearer wrong"}, {}),
            ({"Authorization": f"Bearer {TOKEN}x"}, {}),
            ({"Authorization": f"Basic {TOKEN}"}, {}),
            ({"Authorization": TOKEN}, {}),
            ({"Authorization": "Bearer"}, {}),
            ({"Cookie": "gptme_auth=wrong"}, {}),
            ({"Cookie": f"other={TOKEN}"}, {}),
            ({}, {"token": "wrong"}),
            ({}, {"token": ""}),
            ({}, {"ticket": "wrong"}),
            ({}, {"ticket": TOKEN}),
            ({"Authorization": "Bearer wrong", "Cookie": f"gptme_auth={TOKEN}"}, {}),
        ],
    )
    def test_wrong(
        self, serve: Serve, path: str, headers: dict[str, str], params: dict[str, str]
    ) -> None:
        assert_unauthorized(upgrade(serve("plain"), headers, path, **params))

    def test_ticket(self, serve: Serve, path: str) -> None:
        """It opens one session, and no second one."""
        server = serve("plain")
        good = ticket(server)
        assert upgrade(server, path=path, ticket=good).status_code == 101
        assert_unauthorized(upgrade(server, path=path, ticket=good))

    def test_wrong_ticket_is_no_obstacle(self, serve: Serve, path: str) -> None:
        server = serve("plain")
        assert upgrade(server, BEARER, path, ticket="wrong").status_code == 101
        assert upgrade(server, path=path, ticket="wrong", token=TOKEN).status_code == 101

    def test_switched_off(self, serve: Serve, path: str) -> None:
        server = serve("plain", True)
        assert upgrade(server, path=path).status_code == 101
        assert upgrade(server, {"Authorization": "Bearer wrong"}, path).status_code == 101


def test_without_upgrade_the_path_is_the_web_ui(serve: Serve) -> None:
    """The address belongs to pages too, as it did before; below /api/ there is nothing."""
    server = serve("plain")
    page = HTTP.get(f"{server.url}/voice")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.text == HTTP.get(f"{server.url}/").text
    missing = HTTP.get(f"{server.url}/api/v2/voice", headers=BEARER)
    assert missing.status_code == 404
    assert missing.headers["Content-Type"] == "application/json"


# Tickets


def test_issuing_a_ticket_needs_authentication(serve: Serve) -> None:
    server = serve("plain")
    url = f"{server.url}{TICKETS}"
    assert_unauthorized(HTTP.post(url))
    assert_unauthorized(HTTP.post(url, headers={"Authorization": "Bearer wrong"}))
    assert_unauthorized(HTTP.post(url, params={"ticket": ticket(server)}))  # no chain of them
    assert HTTP.post(url, headers={"Cookie": f"gptme_auth={TOKEN}"}).status_code == 200
    assert HTTP.get(url, headers=BEARER).status_code in (404, 405)


def test_a_foreign_page_gets_no_ticket(serve: Serve, open_server: bool) -> None:
    server = serve("plain", open_server)
    for origin in ("https://evil.example", "null"):
        headers = BEARER | {"Origin": origin}
        assert_origin_refused(HTTP.post(f"{server.url}{TICKETS}", headers=headers))
    own = HTTP.post(f"{server.url}{TICKETS}", headers=BEARER | {"Origin": server.url})
    assert own.status_code == 200


def test_a_ticket_does_not_open_for_a_foreign_page(serve: Serve) -> None:
    server = serve("plain")
    answer = upgrade(server, {"Origin": "https://evil.example"}, ticket=ticket(server))
    assert_origin_refused(answer)


class Clock:
    """A clock that stands until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestTickets:
    """The ticket office alone, with a clock of ours."""

    def test_single_use(self) -> None:
        tickets = Tickets(Clock())
        first, second = tickets.issue(), tickets.issue()
        assert first != second
        assert tickets.redeem(second)
        assert not tickets.redeem(second)
        assert tickets.redeem(first)

    @pytest.mark.parametrize(
        ("seconds", "good"),
        [(0.0, True), (TICKET_SECONDS - 0.001, True), (TICKET_SECONDS, False), (1e6, False)],
    )
    def test_expiry(self, seconds: float, good: bool) -> None:
        clock = Clock()
        tickets = Tickets(clock)
        issued = tickets.issue()
        clock.now += seconds
        assert tickets.redeem(issued) is good
        assert not tickets.redeem(issued)

    @pytest.mark.parametrize("text", [None, "", "wrong", "\ud800", "ü" * 10_000])
    def test_wrong(self, text: str | None) -> None:
        tickets = Tickets(Clock())
        issued = tickets.issue()
        assert not tickets.redeem(text)
        assert not tickets.redeem(issued[:-1])
        assert not tickets.redeem(issued + " ")
        assert tickets.redeem(issued)

    def test_the_oldest_make_room(self) -> None:
        """However many are asked for, memory is bounded, and new ones are good."""
        tickets = Tickets(Clock())
        issued = [tickets.issue() for _ in range(MAX_TICKETS + 10)]
        assert not any(tickets.redeem(text) for text in issued[:10])
        assert all(tickets.redeem(text) for text in issued[10:])

    def test_expired_ones_make_room_first(self) -> None:
        clock = Clock()
        tickets = Tickets(clock)
        for _ in range(MAX_TICKETS // 2):
            tickets.issue()
        clock.now += TICKET_SECONDS
        fresh = [tickets.issue() for _ in range(MAX_TICKETS)]
        assert all(tickets.redeem(text) for text in fresh)


# The cookie


def test_the_cookie_is_good_for_both_paths(serve: Serve) -> None:
    """What the web UI does at its start is enough, and signing out ends it."""
    server = serve("plain")
    with httpx.Client(base_url=server.url, verify=False, timeout=30) as browser:
        answer = browser.post(COOKIE, headers=BEARER)
        assert answer.status_code == 200
        ours = [c for c in answer.headers.get_list("Set-Cookie") if "Path=/voice" in c]
        theirs = [c for c in answer.headers.get_list("Set-Cookie") if "Path=/api/" in c]
        assert len(ours) == 1
        # The same in everything but the path.
        assert [c.replace("Path=/api/", "Path=/voice") for c in theirs] == ours
        assert "HttpOnly" in ours[0]
        assert "SameSite=Lax" in ours[0]
        assert "Secure" not in ours[0]
        for path in PATHS:
            assert browser.get(path, headers=UPGRADE).status_code == 101
            assert_origin_refused(
                browser.get(path, headers=UPGRADE | {"Origin": "https://evil.example"})
            )

        answer = browser.delete(COOKIE)
        ours = [c for c in answer.headers.get_list("Set-Cookie") if "Path=/voice" in c]
        assert len(ours) == 1
        assert ours[0].startswith("gptme_auth=;")
        assert "Max-Age=0" in ours[0]
        for path in PATHS:
            assert_unauthorized(browser.get(path, headers=UPGRADE))


def test_no_cookie_without_the_token(serve: Serve) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = HTTP.post(f"{serve('plain').url}{COOKIE}", headers=headers)
        assert answer.status_code == 401
        assert "Set-Cookie" not in answer.headers


# Origins

# Format fields: {url} is the server's own address, {port} its port, {next} another one.
OWN: list[tuple[str | None, dict[str, str]]] = [
    (None, {}),
    ("{url}", {}),
    ("HTTP://127.0.0.1:{port}", {}),
    ("http://localhost:{port}", {"Host": "localhost:{port}"}),
    ("HTTP://LocalHost:{port}", {"Host": "LOCALHOST:{port}"}),
    ("http://[::1]:{port}", {"Host": "[::1]:{port}"}),
    ("http://voice.example", {"Host": "voice.example"}),
    ("http://voice.example:80", {"Host": "voice.example"}),
    ("http://voice.example", {"Host": "voice.example:80"}),
    # Behind a proxy that ends TLS.
    ("https://voice.example", {"Host": "voice.example", "X-Forwarded-Proto": "https"}),
    ("https://voice.example:443", {"Host": "voice.example", "X-Forwarded-Proto": "https"}),
    ("https://voice.example", {"Host": "voice.example:443", "X-Forwarded-Proto": "https"}),
    ("https://voice.example:8443", {"Host": "voice.example:8443", "X-Forwarded-Proto": "https"}),
    ("https://voice.example", {"Host": "voice.example", "X-Forwarded-Proto": "HTTPS, http"}),
]
FOREIGN: list[tuple[str, dict[str, str]]] = [
    ("null", {}),
    ("", {}),
    ("*", {}),
    ("https://evil.example", {}),
    ("http://127.0.0.1:{next}", {}),
    ("http://127.0.0.1", {}),
    ("https://127.0.0.1:{port}", {}),
    ("ws://127.0.0.1:{port}", {}),
    ("http://localhost:{port}", {}),  # not what it says in Host
    ("http://127.0.0.1:{port}", {"Host": "localhost:{port}"}),
    ("http://127.0.0.1:{port}.evil.example", {}),
    ("http://127.0.0.1.evil.example:{port}", {}),
    ("http://evil127.0.0.1:{port}", {}),
    ("http://127.0.0.1:{port}@evil.example", {}),
    ("http://evil.example@127.0.0.1:{port}", {}),
    ("http://127.0.0.1:{port}/", {}),
    ("http://127.0.0.1:{port}/voice", {}),
    ("http://127.0.0.1:{port}?x", {}),
    ("http://127.0.0.1:{port}#x", {}),
    ("http://127.0.0.1:{port}, https://evil.example", {}),
    ("http://127.0.0.1:{port}x", {}),
    ("http://127.0.0.1:99999", {}),
    ("127.0.0.1:{port}", {}),
    ("//127.0.0.1:{port}", {}),
    ("file://", {}),
    ("chrome-extension://abcdef", {}),
    ("http://[::1]:{port}", {}),
    ("http://[", {}),
    ("https://voice.example", {"Host": "voice.example"}),
    ("http://voice.example:443", {"Host": "voice.example", "X-Forwarded-Proto": "https"}),
    ("http://voice.example", {"Host": "voice.example", "X-Forwarded-Proto": "https"}),
    ("http://voice.example", {"Host": "voice.example", "X-Forwarded-Proto": ""}),
    ("https://sub.voice.example", {"Host": "voice.example", "X-Forwarded-Proto": "https"}),
]


def ask_from(
    server: GptmeServer, origin: str | None, headers: dict[str, str], path: str = "/voice"
) -> httpx.Response:
    """Ask for a WebSocket with the right token, as a page of `origin` would."""
    sent = dict(headers) if origin is None else {**headers, "Origin": origin}
    fields = {"url": server.url, "port": server.port, "next": server.port + 1}
    filled = {name: value.format(**fields) for name, value in sent.items()}
    return upgrade(server, BEARER | filled, path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("origin", "headers"), OWN)
def test_own_origin(
    serve: Serve, open_server: bool, path: str, origin: str | None, headers: dict[str, str]
) -> None:
    assert ask_from(serve("plain", open_server), origin, headers, path).status_code == 101


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("origin", "headers"), FOREIGN)
def test_foreign_origin(
    serve: Serve, open_server: bool, path: str, origin: str, headers: dict[str, str]
) -> None:
    assert_origin_refused(ask_from(serve("plain", open_server), origin, headers, path))


def test_origin_is_looked_at_before_the_secret(serve: Serve) -> None:
    """A foreign page learns nothing about a token it tries."""
    server = serve("plain")
    for headers in ({}, BEARER, {"Authorization": "Bearer wrong"}):
        assert_origin_refused(upgrade(server, headers | {"Origin": "https://evil.example"}))
    assert_unauthorized(upgrade(server, {"Origin": server.url}))


@pytest.mark.parametrize("name", ["named", "star"], ids=["config", "environment"])
def test_allowed_origins(serve: Serve, open_server: bool, name: str) -> None:
    server = serve(name, open_server)
    for origin in (
        *LISTED,
        LISTED[0].upper(),
        f"{LISTED[0]}:443",
        server.url,
    ):
        assert ask_from(server, origin, {}).status_code == 101, origin
    for origin in (
        "http://list.example",
        "https://list.example:3000",
        "https://list.example.evil.example",
        "https://evil-list.example",
        "https://a.list.example",
        "https://list.example.",
        "null",
    ):
        assert_origin_refused(ask_from(server, origin, {}))
    if not open_server:
        assert_unauthorized(upgrade(server, {"Origin": LISTED[0]}))


def test_cors_origin_of_the_server(serve: Serve, open_server: bool) -> None:
    server = serve("named", open_server)
    for origin in (*CORS, CORS[0].upper(), server.url):
        assert ask_from(server, origin, {}).status_code == 101, origin
    for origin in (
        "http://a.example",
        "https://a.example:3000",
        "http://b.example",
        "http://b.example:30000",
        "https://a.example.evil.example",
        "https://aaexample",
        "https://xa.example",
        ",".join(CORS),
        "null",
    ):
        assert_origin_refused(ask_from(server, origin, {}))
    if not open_server:
        assert_unauthorized(upgrade(server, {"Origin": CORS[0]}))
    # A page that may open sessions may get tickets for them, and read the answer.
    answer = HTTP.post(f"{server.url}{TICKETS}", headers=BEARER | {"Origin": CORS[0]})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == CORS[0]


def test_cors_for_everybody_names_nobody(serve: Serve, open_server: bool) -> None:
    server = serve("star", open_server)
    assert ask_from(server, server.url, {}).status_code == 101
    for origin in ("https://evil.example", "null", "*", "http://localhost:1"):
        assert_origin_refused(ask_from(server, origin, {}))
        answer = HTTP.post(f"{server.url}{TICKETS}", headers=BEARER | {"Origin": origin})
        assert_origin_refused(answer)


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("http://Host:80", "http://host"),
        ("https://host:443", "https://host"),
        ("https://host:80", "https://host:80"),
        ("tauri://localhost", "tauri://localhost"),
        ("http://[::1]:5700", "http://[::1]:5700"),
        ("null", None),
        ("http://", None),
        ("http://host/", None),
        ("http://user@host", None),
        ("http://@host", None),
        ("http://host:port", None),
        ("http://host:-1", None),
        ("http://[host", None),
    ],
)
def test_normalize_origin(origin: str, normal: str | None) -> None:
    assert normalize_origin(origin) == normal


def test_cors_answers_are_asked_of_the_application() -> None:
    """An application that never heard of CORS allows nobody, and is not harmed by the question."""
    import flask

    assert not cors_allows(flask.Flask(__name__), "https://a.example")


# Hosts


def test_host_check_comes_before_the_upgrade(serve: Serve) -> None:
    server = serve("hosts")
    for host in ("gptme.example", f"gptme.example:{server.port}", f"127.0.0.1:{server.port}"):
        assert upgrade(server, {"Host": host}).status_code == 101
    for path in PATHS:
        answer = upgrade(server, {"Host": f"evil.example:{server.port}"}, path)
        assert answer.status_code == 403
        assert answer.headers["Content-Type"] == "application/json"
        assert "upgrade" not in answer.headers
        assert "--allowed-hosts" in answer.json()["error"]
    # A rebound name is its own origin, so the host check is what stops it.
    host = f"evil.example:{server.port}"
    assert upgrade(server, {"Host": host, "Origin": f"http://{host}"}).status_code == 403
    host = f"gptme.example:{server.port}"
    assert upgrade(server, {"Host": host, "Origin": f"http://{host}"}).status_code == 101
    assert_origin_refused(upgrade(server, {"Host": host, "Origin": "https://evil.example"}))


# Secrets in logs


def test_no_secret_is_logged_or_passed_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Werkzeug's access line repeats the address, `?token=` included; nothing else may."""
    token, wrong = "canary-token-a9", "canary-wrong-b7"
    folder = tmp_path_factory.mktemp("logs")
    env = {
        "GPTME_SERVER_TOKEN": token,
        "XAI_API_KEY": "canary-key-c3",
        "GPTME_VOICE_BACKEND": "echo",
        "COLUMNS": "1000",  # so that no line is wrapped
    }
    with GptmeServer(folder, args=["--verbose"], env=env) as server:
        started = len(server.log())  # gptme itself prints the token for its user at the start
        bearer = {"Authorization": f"Bearer {token}"}
        tickets = [
            HTTP.post(f"{server.url}{TICKETS}", headers=bearer).json()["ticket"] for _ in range(2)
        ]
        cookie = {"Cookie": f"gptme_auth={token}"}
        for path in PATHS:
            assert upgrade(server, bearer, path).status_code == 101
            assert upgrade(server, cookie, path).status_code == 101
            assert upgrade(server, path=path, token=token).status_code == 101
            assert upgrade(server, path=path, ticket=tickets.pop()).status_code == 101
            foreign = {"Origin": "https://evil.example"}
            assert upgrade(server, bearer | foreign, path, ticket=wrong).status_code == 403
            for headers, params in (
                ({"Authorization": f"Bearer {wrong}"}, {}),
                ({"Cookie": f"gptme_auth={wrong}"}, {}),
                ({}, {"token": wrong}),
                ({}, {"ticket": wrong}),
            ):
                assert upgrade(server, headers, path, **params).status_code == 401
        assert HTTP.post(f"{server.url}{COOKIE}", headers=bearer).status_code == 200
        status = HTTP.get(f"{server.url}/api/v2/voice/status", headers=bearer)
        assert not re.search("canary", status.text)
        pid = status.json()["voice_process"]["pid"]
        assert not re.search("canary", " ".join(psutil.Process(pid).cmdline()))
        lines = server.log()[started:].splitlines()

    assert any("routes.py" in line for line in lines)  # ours are among them
    telling = [line for line in lines if re.search("canary|ticket=", line)]
    assert telling
    for line in telling:
        assert re.search(r"GET /(api/v2/)?voice\?(token|ticket)=\S+ HTTP/1.1", line)
        assert re.search(r"_internal\.py:\d+\s*$", line)
        assert "gptme_voice" not in line


def test_the_voice_process_gets_no_secret() -> None:
    request = rebuild_handshake(
        {
            "PATH_INFO": "/voice",
            "QUERY_STRING": f"a=1&token={TOKEN}&ticket={TOKEN}&b=&token={TOKEN}x&c=%20%C3%BC",
            "HTTP_AUTHORIZATION": f"Bearer {TOKEN}",
            "HTTP_COOKIE": f"gptme_auth={TOKEN}",
            "HTTP_HOST": "localhost:5700",
            "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
        }
    )
    assert TOKEN not in request
    assert request == (
        "GET /voice HTTP/1.1\r\nHost: localhost:5700\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
