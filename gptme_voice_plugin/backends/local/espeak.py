"""espeak-ng through ctypes: small, robotic, and in a hundred languages; in the worker only.

The library and its data come with `espeakng-loader`. Its functions are those of its speak_lib.h.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ...errors import ModelMissing, SpeechFailed

__all__ = ["Espeak"]

_RETRIEVAL = 1  # AUDIO_OUTPUT_RETRIEVAL: to the callback, nothing is played
_UTF8 = 1  # espeakCHARS_UTF8
_RATE = 1  # espeakRATE, in words per minute
_WORDS_PER_MINUTE = 165
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class _Properties(ctypes.Structure):
    """espeak_VOICE: what a voice is to be like; what is not set does not matter."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class Espeak:
    """One voice.

    Args:
        voice: As espeak-ng names it: mostly a language, such as "en-us" or "de", or a language that
            a voice of another name speaks, such as "zh".

    Raises:
        ModelMissing: It is not installed, or has no such voice.
    """

    def __init__(self, voice: str) -> None:
        try:
            import espeakng_loader

            library: Any = ctypes.CDLL(str(espeakng_loader.get_library_path()))
            data = str(espeakng_loader.get_data_path())
        except (ImportError, OSError):
            raise ModelMissing(
                "espeak-ng is not installed; pip install 'gptme-voice-plugin[local]'."
            ) from None
        self._library = library
        self.sample_rate: int = library.espeak_Initialize(_RETRIEVAL, 0, data.encode(), 0)
        if self.sample_rate <= 0:
            raise ModelMissing(
                "espeak-ng does not find its data; pip install --force-reinstall espeakng-loader."
            )
        name = voice.encode()
        spoken = _Properties(languages=name)
        if (
            library.espeak_SetVoiceByName(name) != 0
            and library.espeak_SetVoiceByProperties(ctypes.byref(spoken)) != 0
        ):
            raise ModelMissing(
                f"espeak-ng has no voice {voice!r}; set voice to a language such as 'en-us'."
            )
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # kept: the library does not
        library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, speed: float) -> bytes:
        """Return a text as PCM16 LE mono at `sample_rate`."""
        self._pieces.clear()
        self._library.espeak_SetParameter(_RATE, round(_WORDS_PER_MINUTE * speed), 0)
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        if status != 0 or self._library.espeak_Synchronize() != 0:
            raise SpeechFailed("espeak-ng could not say it; see the server's log.")
        return b"".join(self._pieces)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0
