"""Speech backends, and the choice among them.

A backend is listed in `FACTORIES` once it exists; its module is imported only when it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..config import Settings, is_address
from ..errors import BackendUnavailable, ExtraMissing, KeyMissing
from .base import Backend

__all__ = ["KEYS", "OPTIONAL_KEYS", "Choice", "choose", "create", "shut_down"]

FACTORIES = {
    "openai": ".openai_realtime:OpenAIBackend",
    "xai": ".xai:XaiBackend",
    "local": ".local.backend:LocalBackend",
    "echo": ".echo:EchoBackend",
}
"""Backend name → module and class, which is called with the settings and the API keys."""

KEYS = {"openai": "OPENAI_API_KEY", "xai": "XAI_API_KEY"}
"""Backend name → the key in gptme's config that it needs."""


OPTIONAL_KEYS = {"local": "SPEECH_API_KEY"}
"""Backend name → the key in gptme's config that it passes on if there is one; chooses nothing."""

ECHO_HINT = (
    "Echo test: it plays back what you say. For answers, install gptme-voice-plugin[local] or set "
    "an API key (see the docs)."
)


@dataclass(frozen=True)
class Choice:
    """A backend's name, and in a few words why it was chosen."""

    name: str
    reason: str
    hint: str = ""
    """What the user should know of it, in a sentence; empty: nothing."""


def choose(settings: Settings, keys: Collection[str]) -> Choice:
    """Say which backend a session gets.

    Args:
        settings: The plugin's settings.
        keys: Names of the API keys that are configured, as in `KEYS`.

    Raises:
        BackendUnavailable: The configured backend is not part of this version.
        ExtraMissing: The configured backend needs packages that are not installed.
        KeyMissing: The configured backend needs a key that is not configured.
    """
    own_address = {"openai": settings.openai_base_url, "xai": settings.xai_base_url}
    if settings.backend != "auto":
        if settings.backend not in FACTORIES:
            raise BackendUnavailable(
                f"This version has no {settings.backend!r} backend; set backend to 'auto' or one "
                f"of: {', '.join(FACTORIES)}."
            )
        needed = KEYS.get(settings.backend)
        if needed and needed not in keys and not own_address.get(settings.backend):
            raise KeyMissing(
                f"The {settings.backend!r} backend needs {needed}; set it in gptme's config."
            )
        if settings.backend == "local" and not _local_installed(settings):
            raise ExtraMissing(
                "The 'local' backend is not installed; run: pip install 'gptme-voice-plugin[local]'"
            )
        return Choice(settings.backend, "set in the config")
    for name, key in KEYS.items():
        if key in keys:
            return Choice(name, f"{key} is configured")
    none = f"none of {', '.join(KEYS.values())} is configured"
    if _local_installed(settings):
        return Choice("local", f"{none}; gptme's own model answers")
    return Choice("echo", f"{none}, and local is not installed", ECHO_HINT)


def _local_installed(settings: Settings) -> bool:
    """Whether there is what the local backend needs; none of it is imported."""
    # Voice activity detection uses the network that faster-whisper brings along.
    needed: list[tuple[str, ...]] = [("onnxruntime",), ("faster_whisper",)]
    if not is_address(settings.tts):
        needed.append(("piper", "espeakng_loader"))
    return all(any(importlib.util.find_spec(name) for name in either) for either in needed)


def create(name: str, settings: Settings, keys: Mapping[str, str]) -> Backend:
    """Return a new backend of the kind `name` (one that `choose` returned), not open yet."""
    module, _, attribute = FACTORIES[name].partition(":")
    factory = getattr(importlib.import_module(module, __name__), attribute)
    backend: Backend = factory(settings, keys)
    return backend


async def shut_down() -> None:
    """Free what backends share and keep from session to session, if they were used at all."""
    engines = sys.modules.get(f"{__name__}.local.engines")
    if engines is not None:
        await engines.shut_down()
