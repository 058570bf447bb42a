"""The ASGI application of the voice process: one WebSocket endpoint.

gptme-server has checked host, token and Origin before a connection gets here, and has chosen the
path, so any path will do. What it says about the connection is in the scope's state.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from .. import backends
from ..backends.base import Backend
from ..channel import Adopt, Ended, Timed
from ..config import Settings
from ..errors import InternalError, VoiceError, close_reason
from . import wire
from .claims import Claims
from .link import Link, Wanted
from .relay import Relay
from .session import Session
from .wire import Dialect

__all__ = ["VoiceApp", "new_session_id"]

logger = logging.getLogger(__name__)


def new_session_id() -> str:
    """Return an id that nobody guesses: whoever knows it can take the session over.

    Only letters and digits: it is part of names of files and of ids in the conversation's log,
    which may not begin with just any character.
    """
    return secrets.token_hex(16)


@dataclass
class VoiceApp:
    """Serves voice sessions, and can end them all.

    Attributes:
        on_news: Called with what a session was, when it is over, and how long its turns took.
    """

    on_news: Callable[[Ended | Timed], None]
    stopping: bool = False
    _relays: set[Relay] = field(default_factory=set)
    _claims: Claims = field(default_factory=Claims)

    def asgi(self) -> Starlette:
        """Return the application."""
        return Starlette(routes=[WebSocketRoute("/{path:path}", self.serve)])

    def stop(self) -> None:
        """Tell every session that the server goes down; new ones are told at once."""
        self.stopping = True
        for relay in list(self._relays):
            relay.stop()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        try:
            await self._serve(websocket)
        except Exception:
            logger.exception("A voice session failed.")
            error = InternalError()
            await websocket.close(error.close_code, close_reason(error.message))

    async def _serve(self, websocket: WebSocket) -> None:
        offer: Adopt = websocket.scope["state"]["offer"]
        v1 = wire.SUBPROTOCOL in websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=wire.SUBPROTOCOL if v1 else None)
        session = Session(new_session_id(), Dialect.V1 if v1 else Dialect.STOCK)

        def create_backend(hello: wire.Hello | None) -> Backend:
            settings = Settings.from_wire(offer.settings)
            if hello is not None and hello.test:
                # Whoever has not configured anything yet, or wrongly, has sound to test too.
                return backends.create("echo", settings, {})
            if offer.error is not None:
                raise _Told(*offer.error)
            choice = backends.choose(settings, offer.keys)
            backend = backends.create(choice.name, settings, offer.keys)
            backend.hint = choice.hint or backend.hint
            return backend

        async def create_link(relay: Relay, hello: wire.Hello | None, thinks: bool) -> Link:
            assert offer.gptme is not None
            settings = Settings.from_wire(offer.settings)
            conversation_id = hello.conversation_id if hello is not None else None
            if conversation_id is not None:
                assert hello is not None
                await self._claims.take(conversation_id, relay, hello.resume)
            return Link(
                offer.gptme,
                Wanted(
                    session_id=session.session_id,
                    conversation_id=conversation_id,
                    chat_model=hello.chat_model if hello is not None else None,
                    history_turns=settings.history_turns,
                    voice_confirm=settings.voice_confirm,
                    thinks=thinks,
                ),
                post=relay.post,
                replies=lambda: session.replies,
                awaits_words=lambda: session.transcript.awaits_words,
                on_conversation=lambda cid: self._claims.add(cid, relay),
                on_instructions=relay.instruct,
            )

        relay = Relay(
            websocket,
            session,
            create_backend,
            create_link if offer.gptme is not None else None,
            record=offer.error is None and Settings.from_wire(offer.settings).record,
            on_timings=lambda name, timings: self.on_news(Timed(name, dict(timings.seconds))),
        )
        self._relays.add(relay)
        began = time.monotonic()
        try:
            if self.stopping:
                relay.stop()
            await relay.run()
        finally:
            self._relays.discard(relay)
            self._claims.drop(relay)
            self.on_news(_summary(relay, time.monotonic() - began))


def _summary(relay: Relay, seconds: float) -> Ended:
    usage = relay.session.transcript.usage
    return Ended(
        backend=relay.backend_name,
        reason=relay.session.end_reason,
        seconds=seconds,
        user_turns=relay.turns.get("user", 0),
        agent_turns=relay.turns.get("assistant", 0),
        input_audio_ms=usage.input_audio_ms,
        output_audio_ms=usage.output_audio_ms,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
    )


class _Told(VoiceError):
    """An error that gptme-server found before it handed the connection over."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
