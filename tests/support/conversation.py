"""Conversations of a real gptme-server, whose model is a fake, and pages that look at them."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.chat_server import FakeChat
from tests.support.http_client import kept_client
from tests.support.server import GptmeServer, wait_until

NUMBERS = count(1)

# One for all, because making one takes long.
HTTP = kept_client()


def serving(
    folder: Path,
    chat: FakeChat,
    config: str = "",
    plugin: str = 'backend = "echo"\n',
    **options: Any,
) -> GptmeServer:
    """Return a server whose model is `chat`.

    Args:
        folder: See `GptmeServer`, as for more options.
        chat: Its model.
        config: TOML for the end of gptme's config.
        plugin: TOML for the plugin's table.
    """
    # gptme counts tokens with files that it downloads, or estimates them if it cannot: which it is
    # to find out at once wherever the tests run, not after some seconds.
    offline = {"https_proxy": "http://127.0.0.1:9"}
    env = {"MODEL": chat.gptme_model, **offline, **options.pop("env", {})}
    server = GptmeServer(folder, env=env, config=plugin + chat.gptme_config + config, **options)
    server.env.pop("PYTEST_CURRENT_TEST", None)  # with which gptme locks no conversation
    return server


def turn(id: str, text: str = "Hello.", role: str = "user", **fields: Any) -> dict[str, Any]:
    """Return a turn as the voice process sends it."""
    spoken_at = "2026-01-31T12:00:00.250Z"
    return {"id": id, "role": role, "text": text, "spoken_at": spoken_at, **fields}


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """Check that it was refused; return the sentence."""
    assert answer.status_code == status, answer.text
    data = answer.json()
    assert set(data) == {"error", "code"}
    assert data["code"] == code
    assert data["error"].endswith(".")
    return str(data["error"])


class Conversation:
    """A conversation of a server.

    Args:
        server: The server.
        id: Its id, if it exists.
        config: More of its config, if it does not.
        body: More of the request that makes it.
    """

    def __init__(
        self,
        server: GptmeServer,
        id: str | None = None,
        config: dict[str, Any] | None = None,
        **body: Any,
    ) -> None:
        self.server = server
        self.id = id or f"chat-{next(NUMBERS)}"
        self.session = ""
        if id is None:
            # With a name, so that gptme does not ask its model for one.
            chat = {"name": "Talk", **(config or {})}
            body = {"prompt": "none", "messages": [], **body, "config": {"chat": chat}}
            answer = self._send("PUT", "", body)
            assert answer.status_code == 200, answer.text
            self.session = answer.json()["session_id"]
        self.path = server.home / ".local/share/gptme/logs" / self.id / "conversation.jsonl"

    def post(self, *turns: Any, **headers: str) -> httpx.Response:
        """Send turns."""
        return self.post_body({"turns": list(turns)}, **headers)

    def post_body(self, body: Any, **headers: str) -> httpx.Response:
        """Send any body; as JavaScript would write it, which can spell what UTF-8 cannot."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.server.auth, **headers}
        url = f"{self.server.url}/api/v2/voice/conversations/{self.id}/turns"
        return HTTP.post(url, headers=headers, content=content)

    def appended(self, *turns: Any) -> None:
        """Send turns, all of which are new."""
        answer = self.post(*turns)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"appended": [t["id"] for t in turns], "known": []}

    def open(self) -> None:
        """Have a session of gptme's, if there is none yet."""
        if not self.session:
            with Page(self) as page:
                self.session = page.of("connected")[0]["session_id"]

    def type(self, text: str) -> None:
        """Send a message as the web UI does, which waits until gptme is done."""
        self._when_idle("", {"role": "user", "content": text})

    def step(self) -> None:
        """Let gptme answer, when it is done with what it is at."""
        self._when_idle("/step", {"session_id": self.session, "stream": True})

    def confirm(self, tool_id: str) -> None:
        """Allow gptme to run a tool."""
        body = {"session_id": self.session, "tool_id": tool_id, "action": "confirm"}
        answer = self._send("POST", "/tool/confirm", body)
        assert answer.status_code == 200, answer.text

    def allow(self, tool_id: str, allow: bool = True) -> None:
        """Allow gptme to run a tool, or not, as the card of a page does it in its own session."""
        self.open()
        action = "confirm" if allow else "skip"
        body = {"tool_id": tool_id, "action": action, "session_id": self.session}
        answer = self._send("POST", "/tool/confirm", body)
        assert answer.status_code == 200, answer.text

    def pending(self) -> str:
        """Return the id of the tool that waits for permission."""
        url = f"{self.server.url}/api/v2/voice/conversations/{self.id}/work"
        (tool,) = HTTP.get(url, headers=self.server.auth).json()["asks"]
        return str(tool["tool_id"])

    def delete(self) -> None:
        """Delete it."""
        answer = self._send("DELETE", "")
        assert answer.status_code == 200, answer.text

    @staticmethod
    def all(server: GptmeServer) -> set[str]:
        """Return the ids of all conversations of a server."""
        return {path.parent.name for path in server.home.glob(".local/share/gptme/logs/*/*.jsonl")}

    def name(self) -> str:
        """Return its name."""
        return str(self._send("GET", "").json().get("name"))

    def followers(self) -> int:
        """Return how often somebody has begun to follow its events, by the server's log."""
        log = re.sub(r"\w+\.py:\d+|\s", "", self.server.log())
        return log.count(f"GET/api/v2/conversations/{self.id}/events")

    def everything(self) -> list[dict[str, Any]]:
        """Return what is on disk."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def log(self) -> list[dict[str, Any]]:
        """Return what is on disk, but for what gptme says in between and in front."""
        return [line for line in self.everything() if line["role"] != "system"]

    def said(self) -> list[tuple[str, str]]:
        """Return roles and texts of it."""
        return [(line["role"], line["content"]) for line in self.log()]

    def shown(self) -> list[dict[str, Any]]:
        """Return what a page gets."""
        messages = self._send("GET", "").json()["log"]
        return [message for message in messages if message["role"] != "system"]

    def _when_idle(self, path: str, body: Any) -> None:
        answer = self._send("POST", path, body)
        while answer.status_code == 409 and "in progress" in answer.text:
            time.sleep(0.05)
            answer = self._send("POST", path, body)
        assert answer.status_code == 200, answer.text

    def _send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        url = f"{self.server.url}/api/v2/conversations/{self.id}{path}"
        return HTTP.request(method, url, headers=self.server.auth, json=body)


class Page:
    """An open page: listens to a conversation's events within a `with` block."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._listen)
        self._client = httpx.Client(verify=False, timeout=30)
        self._socket: socket.socket | None = None

    def added(self) -> list[tuple[float, dict[str, Any]]]:
        """Return the messages that came, and when."""
        return [(at, e["message"]) for at, e in self.events if e["type"] == "message_added"]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind that came."""
        return [event for _, event in self.events if event["type"] == kind]

    def __enter__(self) -> Page:
        self._thread.start()
        # What happens before the second one is not told: gptme says hello first, and then looks
        # where its events are.
        assert wait_until(lambda: len(self.of("ping")) >= 2)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._client.close()

    def _listen(self) -> None:
        server = self._talk.server
        url = f"{server.url}/api/v2/conversations/{self._talk.id}/events"
        # It ends when its connection does: a stream of events has no other end.
        with (
            suppress(httpx.TransportError),
            self._client.stream("GET", url, headers=server.auth) as answer,
        ):
            self._socket = answer.extensions["network_stream"].get_extra_info("socket")
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    self.events.append((time.monotonic(), json.loads(line[5:])))
