"""Talk with gptme: live voice in gptme-server's own web UI.

The `gptme.plugins` entry point names `plugin`. gptme loads it in every process of its own, the
plain command line included, and the voice process imports this package too: so nothing but the
manifest is here, and gptme itself is imported only when gptme asks for the manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptme.config import Config
    from gptme.plugins.plugin import GptmePlugin

__all__ = ["NAME", "__version__", "plugin"]

__version__ = "0.1.0"

NAME = "gptme_voice_plugin"
"""The one name gptme knows us by: module, entry point, manifest and config table."""


def plugin() -> GptmePlugin:
    """Return the manifest; gptme calls this once when it discovers its plugins."""
    from gptme.plugins.plugin import GptmePlugin

    return GptmePlugin(name=NAME, init=_init)


def _init(config: Config) -> None:
    from .server.attach import attach

    attach(config)
