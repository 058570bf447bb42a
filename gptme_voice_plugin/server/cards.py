"""Any page can answer what gptme asks permission for.

A step that was begun by voice belongs to no page's session. gptme tells a permission that it wants
when it begins to want it, and later only to the session that the step belongs to; and a page's card
answers for the page's own session, where gptme does not find the tool. So whoever begins to listen
to a conversation is told what waits in it, and an answer for the wrong session is let find it.
"""

from __future__ import annotations

import threading

from flask import Response, request
from flask.typing import ResponseReturnValue
from gptme.server.auth import require_auth

from .gptme_sessions import tell_pending, waits_elsewhere

__all__ = ["greet", "let_find"]

_PREFIX = "/api/v2/conversations/<string:conversation_id>"
AFTER_SECONDS = (0.5, 2.5)
"""When it is told: a stream of events begins to listen shortly after its request was answered. The
second time is for a server that was slow; pages know a tool by its id."""


def greet(response: Response) -> Response:
    """Have whoever begins to listen to a conversation told what waits; for `after_app_request`."""
    conversation_id = _conversation_of("/events")
    if conversation_id is not None and response.status_code == 200:
        for seconds in AFTER_SECONDS:
            timer = threading.Timer(seconds, tell_pending, (conversation_id,))
            timer.daemon = True
            timer.start()
    return response


def let_find() -> ResponseReturnValue | None:
    """Leave the session out of an answer that names the wrong one; for `before_app_request`.

    gptme looks for the tool in all sessions of the conversation then. The request's JSON is parsed
    once, and what the view reads is what is left here. Whoever may not answer is refused here as
    gptme would refuse them, before anything that they have sent is read.
    """
    conversation_id = _conversation_of("/tool/confirm")
    if conversation_id is None or request.method != "POST":
        return None
    refused: ResponseReturnValue | None = _find(conversation_id)
    return refused


@require_auth  # type: ignore[untyped-decorator]
def _find(conversation_id: str) -> None:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        return
    tool_id, session_id = body.get("tool_id"), body.get("session_id")
    if not isinstance(tool_id, str) or not isinstance(session_id, str):
        return
    if waits_elsewhere(conversation_id, tool_id, session_id):
        del body["session_id"]


def _conversation_of(path: str) -> str | None:
    """Return the conversation of a request to this route of gptme's; None if it is another."""
    if request.url_rule is None or request.url_rule.rule != _PREFIX + path:
        return None
    return str((request.view_args or {})["conversation_id"])
