"""What speaks on this machine, by the settings: Piper or espeak-ng, and with which voice.

Nothing heavy is imported: what is installed is looked up, and what it knows is read from its files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ...config import Settings, main_language
from ...errors import ModelMissing
from .model_names import DEFAULTS, as_path, named

__all__ = ["ESPEAK", "PIPER", "Speaker", "speaker"]

PIPER = "piper"
ESPEAK = "espeak-ng"
_ESPEAK_VOICE = "en-us"


@dataclass(frozen=True)
class Speaker:
    """An engine and its voice."""

    engine: str
    voice: str
    ignored: str = ""
    """The voice that the settings name, if this engine has none of that name."""


def speaker(settings: Settings) -> Speaker:
    """Return what speaks where `tts` is no server's address.

    Piper, if it can. Its own voice is English; where another language is spoken and no voice is
    named, one that speaks every language is better than one that mispronounces it. A voice that was
    set for another provider, such as OpenAI's "marin", is none of either, and left out.
    """
    engine = settings.tts or _engine(settings)
    if engine == PIPER:
        usable, default = _is_of_piper(settings.voice), DEFAULTS["tts"]
    else:
        usable, default = _is_of_espeak(settings.voice), _ESPEAK_VOICE
        if _is_of_espeak(settings.language):
            default = settings.language
    if usable:
        return Speaker(engine, settings.voice)
    return Speaker(engine, default, settings.voice)


def _engine(settings: Settings) -> str:
    if find_spec("piper") is None:
        return ESPEAK
    if _is_of_piper(settings.voice):
        return PIPER
    english = main_language(settings.language) in ("", "en")
    return PIPER if english and not _is_of_espeak(settings.voice) else ESPEAK


def _is_of_piper(voice: str) -> bool:
    """Whether it is the name of one of Piper's, or a path: whether there is one is seen later."""
    if not voice or as_path(voice):
        return bool(voice)
    try:
        named("tts", voice)
    except ModelMissing:
        return False
    return True


def _is_of_espeak(voice: str) -> bool:
    """Whether espeak-ng has a voice, or speaks a language, that is called so."""
    name = voice.lower().partition("+")[0]  # "en-us+f3" is a variant
    return bool(name) and not {name, name.split("-")[0]}.isdisjoint(_espeak_names())


@lru_cache(maxsize=1)
def _espeak_names() -> frozenset[str]:
    spec = find_spec("espeakng_loader")
    if spec is None or spec.origin is None:
        return frozenset()
    names: set[str] = set()
    for file in Path(spec.origin).parent.glob("espeak-ng-data/lang/**/*"):
        if file.is_file():
            names.add(file.name.lower())
            lines = file.read_text(errors="replace").splitlines()
            names |= {line.split()[1].lower() for line in lines if line.startswith("language ")}
    return frozenset(names)
