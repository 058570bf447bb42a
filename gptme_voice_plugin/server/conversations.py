"""What voice has to do with conversations, as routes.

    POST /api/v2/voice/conversations/<id>/turns       write turns into it, in their order
    POST /api/v2/voice/conversations/<id>/heard       cut an answer of gptme's to what was heard
    GET  /api/v2/voice/conversations/<id>/briefing    what a speech model is told of it
    POST /api/v2/voice/conversations/<id>/ended       a session in it is over
    GET  /api/v2/voice/conversations/<id>/work        what gptme is at in it, and what it asks

gptme's own route for messages would run a spoken "/help" as a command, and has no place for what is
known of a turn. Each turn has an id, which is kept in its message: one that is in the log already
is not written again, so that whoever lost the answer can ask once more.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from ..errors import BadTurns, ConversationBusy, ConversationUnknown, TurnsError, TurnsNotSaved
from . import briefing, gptme_log, spool, turns
from .cards import greet, let_find
from .endings import parse_ending
from .entry import Entry
from .flusher import Flusher
from .gptme_sessions import asks, at_work, generating, watched
from .heard import parse_heard
from .spoken import parse_turns

__all__ = ["MAX_BODY", "ConversationRoutes"]

logger = logging.getLogger(__name__)

View = Callable[..., ResponseReturnValue]

MAX_BODY = 4 * 2**20
"""Bytes of a request."""

_PREFIX = "/api/v2/voice/conversations/<string:conversation_id>"
_STATUS: dict[type[TurnsError], HTTPStatus] = {
    BadTurns: HTTPStatus.BAD_REQUEST,
    ConversationUnknown: HTTPStatus.NOT_FOUND,
    ConversationBusy: HTTPStatus.CONFLICT,
    TurnsNotSaved: HTTPStatus.SERVICE_UNAVAILABLE,
}


class ConversationRoutes:
    """The routes, and what they leave to be done later. The views know not who asks."""

    def __init__(self) -> None:
        self._flusher = Flusher(turns.flush)
        self._recovered: int | None = None

    def add_to(self, routes: Blueprint, guard: Callable[[View], View]) -> None:
        """Add everything to a blueprint that is not registered yet; `guard` lets in who may."""
        for name, method, view in (
            ("turns", "POST", self.append),
            ("heard", "POST", self.heard),
            ("briefing", "GET", self.brief),
            ("ended", "POST", self.end),
            ("work", "GET", self.work),
        ):
            routes.add_url_rule(
                f"{_PREFIX}/{name}", name, guard(_answering(view)), methods=[method]
            )
        routes.before_app_request(self.recover)
        routes.before_app_request(let_find)
        routes.after_app_request(greet)

    def recover(self) -> None:
        """Write what an earlier server has left, before anything is asked of this one.

        Not when the routes are made: a server may be forked after that.
        """
        if self._recovered != os.getpid():
            self._recovered = os.getpid()
            threading.Thread(target=self._find, name="gptme-voice-recover", daemon=True).start()

    def append(self, conversation_id: str) -> ResponseReturnValue:
        """Write the request's turns, or keep them; answer what has become of which."""
        body = _body()
        said = [turn.entry for turn in parse_turns(body)]
        keep = body.get("keep", True) if isinstance(body, dict) else True
        if not isinstance(keep, bool):
            raise BadTurns("keep must be true or false.")
        outcome = self._put(conversation_id, said, keep)
        answer = {
            "appended": [entry.key[1] for entry in outcome.appended],
            "known": [entry.key[1] for entry in outcome.known],
        }
        if not outcome.kept:
            return jsonify(answer)
        answer["kept"] = [entry.key[1] for entry in outcome.kept]
        return jsonify(answer), HTTPStatus.ACCEPTED

    def heard(self, conversation_id: str) -> ResponseReturnValue:
        """Cut an answer of gptme's to what was heard of it; answer whether that was done."""
        why = turns.cut(conversation_id, parse_heard(_body()))
        return jsonify({"cut": False, "why": why} if why else {"cut": True})

    def brief(self, conversation_id: str) -> ResponseReturnValue:
        """Answer with what there is to know before speaking in a conversation."""
        count = request.args.get("turns", "20")
        if not re.fullmatch("[0-9]{1,4}", count):
            raise BadTurns("turns must be a whole number of at most four digits.")
        turns.flush(conversation_id)  # if it can be; whoever kept something sees to the rest
        log = gptme_log.load(conversation_id)
        return jsonify(
            {
                "name": log.name,
                "instructions": briefing.instructions(log.log.messages),
                "history": briefing.history(log.log.messages, int(count)),
                "logdir": str(log.logdir),
            }
        )

    def end(self, conversation_id: str) -> ResponseReturnValue:
        """Write down that a session is over; answer whether somebody looks at the conversation."""
        ending = parse_ending(_body())
        gptme_log.folder_of(conversation_id)
        if ending.entry is not None:
            self._put(conversation_id, [ending.entry])
        return jsonify({"watched": watched(conversation_id, ending.gptme_session)})

    def work(self, conversation_id: str) -> ResponseReturnValue:
        """Answer what gptme is at in the conversation; it tells that only to its pages."""
        gptme_log.folder_of(conversation_id)
        return jsonify(
            {
                "at_work": at_work(conversation_id),
                "generating": generating(conversation_id),
                "asks": asks(conversation_id),
            }
        )

    def _put(self, conversation_id: str, entries: list[Entry], keep: bool = True) -> turns.Outcome:
        outcome = turns.put(conversation_id, entries, keep)
        if outcome.kept:
            self._flusher.add(conversation_id)
        return outcome

    def _find(self) -> None:
        from gptme.dirs import get_logs_dir

        for conversation_id in spool.left_in(get_logs_dir()):
            logger.info("Spoken turns were left for %r.", conversation_id)
            self._flusher.add(conversation_id)


def _answering(view: View) -> View:
    """Let `view` answer with its errors."""

    @functools.wraps(view)
    def answering(conversation_id: str) -> ResponseReturnValue:
        try:
            return view(conversation_id)
        except TurnsError as error:
            return jsonify({"error": error.message, "code": error.code}), _STATUS[type(error)]

    return answering


def _body() -> Any:
    if (request.content_length or MAX_BODY + 1) > MAX_BODY:
        raise BadTurns(f"The request must tell its length, of at most {MAX_BODY} bytes.")
    return request.get_json(silent=True)
