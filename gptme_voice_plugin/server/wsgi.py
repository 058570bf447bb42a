"""gptme-server for a WSGI server such as gunicorn, with its plugins loaded.

    gunicorn --worker-class gthread --workers 1 --threads 16 --bind 127.0.0.1:5700 \\
        'gptme_voice_plugin.server.wsgi:create_app()'

gptme's own `create_app` alone discovers no plugins: that is `init`'s work, which `gptme-server`
does first, and so does this. One worker, because gptme keeps its sessions in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["create_app"]


def create_app(model: str | None = None, **options: Any) -> Flask:
    """Return gptme-server's application as `gptme-server serve` would serve it.

    Args:
        model: gptme's default model; None: from its config.
        options: Passed on to `gptme.server.app.create_app`, such as `cors_origin` and `host`.
    """
    # Imported before init, whose plugins attach to the server's modules if they are there.
    from gptme.config import set_config_from_workspace
    from gptme.init import init
    from gptme.server.app import create_app as create_gptme_app

    set_config_from_workspace(Path.cwd())
    # Without a model it still serves, and pages can choose one, as with gptme-server.
    init(
        model,
        interactive=False,
        tool_allowlist=None,
        tool_format="markdown",
        server=True,
        require_llm=False,
    )
    return create_gptme_app(**options)
