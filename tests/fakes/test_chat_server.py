"""The fake chat server, as the official client sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.chat_server import Call, FakeChat, Reply
from tests.support.server import wait_until

SAY_HI: list[Any] = [{"role": "user", "content": "Say hi."}]
CALLS: Any = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "shell", "arguments": "{}"}}
    ],
}
RESULT: Any = {"role": "tool", "tool_call_id": "c1", "content": "done"}
NOT_TEXT: Any = {"role": "user", "content": [{"type": "text"}]}


@pytest.fixture
def chat() -> Iterator[FakeChat]:
    """A fake that serves."""
    with FakeChat() as chat:
        yield chat


@pytest.fixture
def client(chat: FakeChat) -> Iterator[openai.OpenAI]:
    """The official client, which knows it."""
    with openai.OpenAI(base_url=chat.url, api_key=chat.key, max_retries=0) as client:
        yield client


def test_whole(chat: FakeChat, client: openai.OpenAI) -> None:
    chat.replies.append(Reply("Hi there."))
    answers = [client.chat.completions.create(model=chat.model, messages=SAY_HI) for _ in range(2)]
    assert [a.choices[0].message.content for a in answers] == ["Hi there.", "OK."]
    assert answers[0].choices[0].finish_reason == "stop"
    assert answers[0].usage and answers[0].usage.completion_tokens == 2
    assert [r["messages"] for r in chat.requests] == [SAY_HI, SAY_HI]


def test_streamed(chat: FakeChat, client: openai.OpenAI) -> None:
    """With function calls in pieces, and the usage last."""
    chat.replies.append(Reply("  Two\n\nlines. ", (Call("shell", {"command": "ls " * 20}),)))
    with client.chat.completions.stream(
        model=chat.model, messages=SAY_HI, stream_options={"include_usage": True}
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        final = stream.get_final_completion()
    assert len(chunks) > 6
    message = final.choices[0].message
    assert message.content == "  Two\n\nlines. "
    assert message.tool_calls and message.tool_calls[0].function.name == "shell"
    assert '"ls ls' in message.tool_calls[0].function.arguments
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage and final.usage.total_tokens == 13


def test_held(chat: FakeChat, client: openai.OpenAI) -> None:
    """Requests wait as long as a test wants, and are answered then."""
    answers: list[str | None] = []

    def ask() -> None:
        answer = client.chat.completions.create(model=chat.model, messages=SAY_HI)
        answers.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    with chat.held():
        for thread in threads:
            thread.start()
        assert wait_until(lambda: chat.waiting == 2)
        assert answers == []
    for thread in threads:
        thread.join(10)
    assert answers == ["OK.", "OK."]
    assert chat.waiting == 0


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": "gpt-5"}, openai.NotFoundError, "does not exist"),
        ({"messages": []}, openai.BadRequestError, "empty array"),
        ({"messages": [{"role": "me", "content": "x"}]}, openai.BadRequestError, "[0].role"),
        ({"messages": [NOT_TEXT]}, openai.BadRequestError, "string or parts"),
        ({"messages": [{"role": "assistant"}]}, openai.BadRequestError, "string or parts"),
        ({"messages": [RESULT]}, openai.BadRequestError, "preceding message"),
        ({"messages": [CALLS]}, openai.BadRequestError, "no result"),
        ({"messages": [CALLS, *SAY_HI, RESULT]}, openai.BadRequestError, "followed by tool"),
        ({"extra_body": {"top_q": 1}}, openai.BadRequestError, "'top_q'"),
        ({"stream_options": {}}, openai.BadRequestError, "only allowed with"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "'tools'"),
    ],
)
def test_refused(
    chat: FakeChat,
    client: openai.OpenAI,
    change: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    """As the real one does it."""
    request: dict[str, Any] = {"model": chat.model, "messages": SAY_HI, **change}
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**request)
    assert message in str(caught.value)
    assert len(chat.refused) == 1
    assert chat.requests == []


def test_calls_with_their_results(chat: FakeChat, client: openai.OpenAI) -> None:
    client.chat.completions.create(model=chat.model, messages=[*SAY_HI, CALLS, RESULT])
    assert chat.refused == []


def test_who_and_where(chat: FakeChat, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-other").chat.completions.create(
            model=chat.model, messages=SAY_HI
        )
    with pytest.raises(openai.NotFoundError):
        client.models.list()
    headers = {"Authorization": f"Bearer {chat.key}"}
    with httpx.Client(trust_env=False) as plain:
        answer = plain.post(f"{chat.url}/chat/completions", headers=headers, content=b"{")
    assert answer.status_code == 400
