"""Client of gptme's HTTP API, and of the routes the plugin adds to it: one conversation's side.

The only place where the voice process talks to gptme-server. A failure is one of the exceptions of
`errors.py`; what is worth another try is `GptmeUnreachable` or `ConversationBusy`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from ..backends.base import Told
from ..channel import Gptme
from ..characters import whole
from ..errors import ConversationBusy, ConversationUnknown, GptmeFailed, GptmeUnreachable

__all__ = ["Brief", "GptmeClient", "new_conversation_id"]

SECONDS = 10.0
"""How long gptme-server may take to answer."""
STEP_SECONDS = 60.0
"""How long it may take to begin a step: it waits for the model's first words, or error."""
CLOSE_SECONDS = 2.0
SILENCE_SECONDS = 40.0
"""How long its event stream may be silent: it says something every 15 s."""
_ROLES = ("user", "assistant", "system")


@dataclass(frozen=True)
class Brief:
    """What gptme knows of a conversation before a session begins."""

    name: str
    instructions: str
    history: tuple[Told, ...]
    logdir: str
    """The folder of its log, on gptme-server's machine."""


def new_conversation_id(now: datetime) -> str:
    """Return an id like those that the web UI gives."""
    time = now.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return "chat-" + time.removesuffix("+00:00").replace(":", "-").replace(".", "-") + "Z"


class GptmeClient:
    """Talks to one gptme-server.

    Args:
        gptme: Where it is, and what opens it.
    """

    def __init__(self, gptme: Gptme) -> None:
        headers = {"Host": gptme.host}
        if gptme.token is not None:
            headers["Authorization"] = f"Bearer {gptme.token}"
        socket_path = gptme.url.removeprefix("unix:") if gptme.url.startswith("unix:") else None
        self._http = httpx.AsyncClient(
            base_url="http://gptme" if socket_path else gptme.url,
            # It is on this machine; a proxy of the environment is for others.
            transport=httpx.AsyncHTTPTransport(uds=socket_path),
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
        )
        self._sending: set[asyncio.Task[httpx.Response]] = set()

    async def close(self) -> None:
        """Free the connections."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=CLOSE_SECONDS)
        for task in self._sending:
            task.cancel()
        await self._http.aclose()

    async def _send(self, request: httpx.Request, stream: bool = False) -> httpx.Response:
        """Send a request, to its answer also if nobody waits for that any more.

        A connection that is given up while it is being made would stay open.
        """
        task = asyncio.create_task(self._http.send(request, stream=stream))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        try:
            return await asyncio.shield(task)
        except httpx.HTTPError as exc:
            raise _unreachable() from exc

    async def brief(self, conversation_id: str, turns: int) -> Brief:
        """Return what a session in a conversation begins with.

        Raises:
            VoiceError: `ConversationUnknown`, `GptmeUnreachable`, `GptmeFailed`.
        """
        path = f"{_voice(conversation_id)}/briefing"
        data = await self._ask("GET", path, params={"turns": str(turns)})
        history = data.get("history")
        return Brief(
            name=str(data.get("name") or ""),
            instructions=str(data.get("instructions") or ""),
            history=tuple(
                Told(turn["role"], str(turn["text"]))
                for turn in (history if isinstance(history, list) else ())
                if turn.get("role") in _ROLES and turn.get("text")
            ),
            logdir=str(data.get("logdir") or ""),
        )

    async def create(self, conversation_id: str, name: str, model: str | None) -> None:
        """Make a conversation, as the web UI does.

        Raises:
            VoiceError: `ConversationBusy`: there is one of that id; `GptmeUnreachable`,
                `GptmeFailed`.
        """
        chat: dict[str, Any] = {"name": name, "stream": True, "workspace": "."}
        if model:
            chat["model"] = model
        await self._ask("PUT", _api(conversation_id), {"messages": [], "config": {"chat": chat}})

    async def append(
        self, conversation_id: str, turns: Sequence[Mapping[str, Any]], keep: bool = True
    ) -> None:
        """Append turns; with `keep` they are accepted also while gptme is at work.

        Raises:
            VoiceError: `ConversationBusy` (only without `keep`), `ConversationUnknown`,
                `GptmeUnreachable`, `GptmeFailed`: what was asked will never do.
        """
        body = {"turns": list(turns), "keep": keep}
        await self._ask("POST", f"{_voice(conversation_id)}/turns", body)

    async def heard(
        self, conversation_id: str, answer: str, heard: int, metadata: Mapping[str, Any]
    ) -> bool:
        """Have an answer that gptme has written end where the listening did; whether it does now.

        It may not: it asks for tools, was heard whole, or is not there (yet: gptme writes what it
        has of an answer a moment after it was interrupted, or never).

        Args:
            conversation_id: Which one.
            answer: All of the answer, as it came.
            heard: How many characters of that were heard.
            metadata: As a turn's.

        Raises:
            VoiceError: `ConversationBusy`: gptme is at work, try again; and as above.
        """
        body = {"answer": whole(answer), "heard": heard, "metadata": dict(metadata)}
        data = await self._ask("POST", f"{_voice(conversation_id)}/heard", body)
        return data.get("cut") is True

    async def ended(self, conversation_id: str, summary: Mapping[str, Any]) -> bool:
        """Write down that a session is over; whether anybody else follows the conversation."""
        data = await self._ask("POST", f"{_voice(conversation_id)}/ended", summary)
        return data.get("watched") is True

    async def working(self, conversation_id: str) -> bool:
        """Return whether gptme is at work in the conversation."""
        return (await self._ask("GET", f"{_voice(conversation_id)}/work")).get("at_work") is True

    async def waiting(self, conversation_id: str) -> dict[str, str]:
        """Return what waits for permission: exactly what would be run, by tool id."""
        asks = (await self._ask("GET", f"{_voice(conversation_id)}/work")).get("asks")
        return {
            str(ask["tool_id"]): str(ask["content"])
            for ask in (asks if isinstance(asks, list) else ())
            if isinstance(ask, dict) and ask.get("tool_id") and ask.get("content")
        }

    async def step(self, conversation_id: str, session_id: str) -> None:
        """Have gptme go on with the conversation: answer, and use its tools.

        Raises:
            VoiceError: `ConversationBusy`: it is at work already; and as above.
        """
        body = {"session_id": session_id, "stream": True}
        await self._ask("POST", f"{_api(conversation_id)}/step", body, seconds=STEP_SECONDS)

    async def confirm(self, conversation_id: str, tool_id: str, allow: bool) -> None:
        """Allow a tool, or not; `ConversationUnknown` if it no longer waits."""
        body = {"tool_id": tool_id, "action": "confirm" if allow else "skip"}
        await self._ask("POST", f"{_api(conversation_id)}/tool/confirm", body)

    async def interrupt(self, conversation_id: str, session_id: str) -> None:
        """Stop what gptme does in the conversation."""
        await self._ask("POST", f"{_api(conversation_id)}/interrupt", {"session_id": session_id})

    async def events(
        self, conversation_id: str, session_id: str | None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what happens in a conversation, until the stream ends.

        Args:
            conversation_id: Which one.
            session_id: gptme's session from an earlier stream (`connected`), to go on with.

        Raises:
            VoiceError: As above.
        """
        params = {"session_id": session_id} if session_id else {}
        timeout = httpx.Timeout(SECONDS, read=SILENCE_SECONDS)
        path = f"{_api(conversation_id)}/events"
        answer = await self._send(
            self._http.build_request("GET", path, params=params, timeout=timeout), stream=True
        )
        try:
            if answer.status_code != HTTPStatus.OK:
                await answer.aread()
                raise _error(answer)
            async for line in answer.aiter_lines():
                event = _event(line)
                if event is not None:
                    yield event
        except httpx.HTTPError as exc:
            raise _unreachable() from exc
        finally:
            await answer.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        answer = await self._send(
            self._http.build_request(method, path, json=body, params=params, timeout=seconds)
        )
        if not answer.is_success:
            raise _error(answer)
        data = _json(answer)
        return data if isinstance(data, dict) else {}


def _api(conversation_id: str) -> str:
    return f"/api/v2/conversations/{quote(conversation_id, safe='')}"


def _voice(conversation_id: str) -> str:
    return f"/api/v2/voice/conversations/{quote(conversation_id, safe='')}"


def _event(line: str) -> Mapping[str, Any] | None:
    """Return the event of a line of the stream (each is one line, unnamed)."""
    if not line.startswith("data:"):
        return None
    try:
        event = json.loads(line[5:])
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _unreachable() -> GptmeUnreachable:
    return GptmeUnreachable("gptme-server does not answer; see its log, or start it again.")


def _error(
    answer: httpx.Response,
) -> ConversationBusy | ConversationUnknown | GptmeFailed | GptmeUnreachable:
    data = _json(answer)
    said = data.get("error") if isinstance(data, dict) else None
    words = f"{said if isinstance(said, str) else answer.reason_phrase:.300}".rstrip(".")
    if answer.status_code == HTTPStatus.CONFLICT:
        return ConversationBusy(f"{words}.")
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return ConversationUnknown(f"{words}.")
    if answer.is_server_error or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return GptmeUnreachable(f"gptme-server cannot do it now: {words}.")
    return GptmeFailed(f"gptme-server refuses it: {words}.")
