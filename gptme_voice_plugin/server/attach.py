"""The hook into gptme-server: from the plugin's `init` to routes in its Flask application.

gptme has no plugin hook for routes, and Flask refuses blueprints once an application is in use. But
gptme calls `init` before it makes the application, and Flask's `Blueprint.record` is public: a
callback on one of gptme's own blueprints gets the application while it is being made, every time
one is.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import enabled, load_settings
from ..errors import VoiceError

if TYPE_CHECKING:
    from flask.blueprints import BlueprintSetupState
    from gptme.config import Config

__all__ = ["attach"]

logger = logging.getLogger(__name__)

_SERVER_MODULES = ("gptme.server.app", "gptme.server.auth")
_attached = False


def attach(config: Config) -> None:
    """Add the plugin to every application gptme-server makes from now on.

    Does nothing outside of gptme-server, when it is switched off, or when called again. Never
    raises: gptme starts without voice rather than not at all.
    """
    global _attached
    if _attached or not enabled() or not any(name in sys.modules for name in _SERVER_MODULES):
        return
    try:
        load_settings(config)
    except VoiceError as error:
        logger.warning("Voice: %s", error.message)

    from gptme.server.auth import auth_api

    from .routes import VoiceRoutes

    routes = VoiceRoutes(Path.cwd())

    def register(state: BlueprintSetupState) -> None:
        state.app.register_blueprint(routes.blueprint())

    try:
        auth_api.record(register)
    except AssertionError:
        logger.warning("Voice is off: gptme-server was made before its plugins were loaded.")
        return
    _attached = True
