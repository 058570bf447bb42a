"""A fake of OpenAI's chat completions, as gptme's own model.

It answers with what a test has put into `replies`, in their order, then with "OK."; streamed word
by word or whole, as it is asked. A request that the real one would refuse gets its kind of error,
and is kept in `refused`. gptme also asks for the name of a conversation that has none, which takes
one of the replies.

By hand: `python -m tests.fakes.chat_server --port 9200`, which prints gptme's config for it.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, get_type_hints

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

PATH = "/v1/chat/completions"
_PARAMETERS = frozenset(get_type_hints(CompletionCreateParamsStreaming))
_ROLES = ("developer", "system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Call:
    """A function that the model wants called."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the model answers."""

    text: str = "OK."
    calls: tuple[Call, ...] = ()


@dataclass
class _Refusal(Exception):
    message: str
    status: HTTPStatus = HTTPStatus.BAD_REQUEST
    code: str | None = None


@dataclass
class FakeChat:
    """Serves on loopback within a `with` block.

    Attributes:
        port: Its port; 0 takes a free one.
        key: The only API key it accepts.
        model: The only model it has.
        replies: The answers to come.
        requests: The bodies of the requests it has accepted.
        refused: Why it refused others.
    """

    port: int = 0
    key: str = "sk-fake-chat"
    model: str = "fake-chat"
    replies: deque[Reply] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._waiting = 0
        self._pause = 0.0
        self._lock = threading.Lock()
        self._in_order = threading.Condition(self._lock)
        self._numbers = 0
        self._answered = 0
        self._server: ThreadingHTTPServer

    @property
    def url(self) -> str:
        """Its address, as an OpenAI client wants it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def gptme_model(self) -> str:
        """The name that gptme has for its model."""
        return f"fake/{self.model}"

    @property
    def gptme_config(self) -> str:
        """What makes it a provider of gptme's: TOML, for the end of a config file."""
        return (
            f'\n[[providers]]\nname = "fake"\nbase_url = "{self.url}"\n'
            f'api_key = "{self.key}"\ndefault_model = "{self.model}"\n'
        )

    @property
    def waiting(self) -> int:
        """How many requests are held back now."""
        with self._lock:
            return self._waiting

    @contextmanager
    def held(self) -> Iterator[None]:
        """Accept requests, but answer none before the end."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @contextmanager
    def paced(self, seconds: float) -> Iterator[None]:
        """Let so much time pass before each word, as a slow model does."""
        self._pause = seconds
        try:
            yield
        finally:
            self._pause = 0.0

    def pause(self) -> None:
        """Wait as long as a word takes."""
        if self._pause:
            time.sleep(self._pause)

    def __enter__(self) -> FakeChat:
        fake = self

        class Handler(_Handler):
            chat = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: dict[str, Any]) -> tuple[int, Reply]:
        """Keep a request that was accepted, wait while held, return its number and the reply."""
        with self._lock:
            self.requests.append(body)
            self._numbers += 1
            number = self._numbers
            self._waiting += 1
        self._open.wait()
        with self._in_order:
            # Those that were held are let go together, and answered in the order they came.
            self._in_order.wait_for(lambda: self._answered == number - 1)
            self._answered = number
            self._in_order.notify_all()
            self._waiting -= 1
            return number, self.replies.popleft() if self.replies else Reply()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: FakeChat

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        """Answer one request."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = self._accepted(content)
        except _Refusal as refusal:
            self.chat.refused.append(refusal.message)
            error = {"message": refusal.message, "type": "invalid_request_error", "param": None}
            self._answer(refusal.status, {"error": {**error, "code": refusal.code}})
            return
        number, reply = self.chat.take(body)
        shared = {"id": f"chatcmpl-{number}", "created": int(time.time()), "model": body["model"]}
        with suppress(ConnectionError):  # who asked may have stopped listening
            if body.get("stream"):
                usage = (body.get("stream_options") or {}).get("include_usage", False)
                self._stream(_chunks({**shared, "object": "chat.completion.chunk"}, reply, usage))
            else:
                self._answer(HTTPStatus.OK, _whole({**shared, "object": "chat.completion"}, reply))

    do_GET = do_PUT = do_DELETE = do_POST

    def _accepted(self, content: bytes) -> dict[str, Any]:
        if self.path != PATH or self.command != "POST":
            raise _Refusal(f"Unknown request URL: {self.command} {self.path}", HTTPStatus.NOT_FOUND)
        if self.headers.get("Authorization") != f"Bearer {self.chat.key}":
            raise _Refusal(
                "Incorrect API key provided.", HTTPStatus.UNAUTHORIZED, "invalid_api_key"
            )
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise _Refusal("We could not parse the JSON body of your request.")
        if unknown := sorted(set(body) - _PARAMETERS):
            raise _Refusal(f"Unknown parameter: {unknown[0]!r}.", code="unknown_parameter")
        if body.get("model") != self.chat.model:
            raise _Refusal(
                f"The model {body.get('model')!r} does not exist.",
                HTTPStatus.NOT_FOUND,
                "model_not_found",
            )
        if body.get("stream_options") is not None and not body.get("stream"):
            raise _Refusal("The 'stream_options' parameter is only allowed with 'stream'.")
        _check_messages(body.get("messages"))
        for tool in body.get("tools") or ():
            name = (tool.get("function") or {}).get("name")
            if tool.get("type") != "function" or not re.fullmatch(r"[\w-]{1,64}", name or ""):
                raise _Refusal(f"Invalid 'tools': {tool!r:.200}")
        return body

    def _answer(self, status: HTTPStatus, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.chat.pause()
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")


def _check_messages(messages: Any) -> None:
    """Check each message, and that function calls and their results belong together."""
    if not isinstance(messages, list) or not messages:
        raise _Refusal("Invalid 'messages': empty array.")
    owed: set[str] = set()
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _Refusal(f"Invalid value: '{at}.role'.")
        if message["role"] == "tool":
            if message.get("tool_call_id") not in owed:
                raise _Refusal(
                    f"Invalid parameter: '{at}' with role 'tool' must be a response to a "
                    "preceding message with 'tool_calls'."
                )
            owed.remove(message["tool_call_id"])
        elif owed:
            raise _Refusal(
                "An assistant message with 'tool_calls' must be followed by tool messages; "
                f"'{at}' comes before those for {sorted(owed)}."
            )
        calls = message.get("tool_calls")
        if calls is not None:
            if message["role"] != "assistant" or not calls:
                raise _Refusal(f"Invalid '{at}.tool_calls'.")
            owed = {call["id"] for call in calls}
        _check_content(f"{at}.content", message.get("content"), optional=bool(calls))
    if owed:
        raise _Refusal(f"These function calls have no result: {sorted(owed)}.")


def _check_content(at: str, content: Any, optional: bool) -> None:
    if isinstance(content, str) or (content is None and optional):
        return
    parts = content if isinstance(content, list) and content else [None]
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "image_url", "input_audio", "file", "refusal") or kind not in part:
            raise _Refusal(f"Invalid value for '{at}': expected a string or parts.")


def _usage(reply: Reply) -> dict[str, int]:
    count = len(reply.text.split()) + len(reply.calls)
    return {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}


def _calls(id: str, reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{id.removeprefix('chatcmpl-')}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for index, call in enumerate(reply.calls)
    ]


def _whole(shared: dict[str, Any], reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
    if reply.calls:
        message["tool_calls"] = _calls(shared["id"], reply)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(reply)}
    return {**shared, "choices": [choice], "usage": _usage(reply)}


def _chunks(shared: dict[str, Any], reply: Reply, usage: bool) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**shared, "choices": [choice], **({"usage": None} if usage else {})}

    yield chunk({"role": "assistant", "content": ""})
    for piece in re.findall(r"\s*\S+|\s+$", reply.text):
        yield chunk({"content": piece})
    for index, call in enumerate(_calls(shared["id"], reply)):
        arguments = call["function"]["arguments"]
        first = {**call["function"], "arguments": ""}
        yield chunk({"tool_calls": [{**call, "index": index, "function": first}]})
        for start in range(0, len(arguments), 16):
            part = {"arguments": arguments[start : start + 16]}
            yield chunk({"tool_calls": [{"index": index, "function": part}]})
    yield chunk({}, _reason(reply))
    if usage:
        yield {**shared, "choices": [], "usage": _usage(reply)}


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.calls else "stop"


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A fake of OpenAI's chat completions.")
    parser.add_argument("--port", type=int, default=9200)
    with FakeChat(port=parser.parse_args().port) as chat, suppress(KeyboardInterrupt):
        print(f"In gptme's config.toml:\n{chat.gptme_config}\nand start it with")
        print(f"MODEL={chat.gptme_model}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
