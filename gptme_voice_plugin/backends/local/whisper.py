"""Speech to text with faster-whisper, in less time than it takes by itself.

Whisper works on windows of 30 s, and faster-whisper fills every one up with zeros, which in its
features are no silence but a moderate hum. A turn is mostly a few seconds long: it gets a window
of 15 s, or as much more as it needs, filled up with what silence really looks like. That costs half
and gives no more wrong words; in shorter windows the network goes round in circles now and then.
What comes out doubtful, mostly a single word, is looked at again in a whole window and with care.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from .stages import Transcription
from .verdict import DOUBT, MAX_REPETITION, NOISE

__all__ = ["Whisper"]

_FRAMES_PER_SECOND = 100
_LEAST_FRAMES = 1500
"""Measured: in 8 s every sixth word is wrong, since much is there twice; in 10 s a sentence was
there three times, once in some three hundred; in 15 s never. 20 s and 30 s are no better."""
_MARGIN_FRAMES = 400
"""Silence that the network needs at the end."""
_WINDOW_FRAMES = 3000
_DYNAMIC_RANGE = 2.0
"""How far below the loudest its features go: silence is there."""
_TOKENS_PER_SECOND = 8
"""More than anybody speaks."""
_BEAMS = 5
"""What is tried at once, with care; otherwise the likeliest word is taken, which is as good."""


class Whisper:
    """One model.

    Args:
        path: Its folder.
        threads: Processors it may use.
    """

    def __init__(self, path: str, threads: int) -> None:
        from faster_whisper import WhisperModel

        self._model: Any = WhisperModel(
            path, device="auto", compute_type="int8", cpu_threads=threads, local_files_only=True
        )

    def transcribe(self, pcm: bytes, language: str) -> Transcription:
        """Return what was said in PCM16 LE mono at 16 kHz.

        Args:
            pcm: The audio.
            language: Such as "en"; one that it does not know, or none: it is detected.
        """
        if language not in self._model.supported_languages:
            language = ""
        audio = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        features = self._model.feature_extractor(audio)
        frames = features.shape[-1]
        if frames + _MARGIN_FRAMES > _WINDOW_FRAMES:
            return self._long(audio, language)
        window = max(_LEAST_FRAMES, frames + _MARGIN_FRAMES)
        heard, ended = self._short(features, language, window, 1)
        sure = ended and heard.log_probability >= DOUBT and heard.repetition <= MAX_REPETITION
        # Where nobody spoke, care finds nothing either.
        if not sure and heard.no_speech < NOISE:
            again, _ = self._short(features, language, _WINDOW_FRAMES, _BEAMS)
            # More silence around it makes it likelier that there was nothing else.
            heard = replace(again, no_speech=heard.no_speech)
        return heard

    def _short(
        self, features: Any, language: str, window: int, beams: int
    ) -> tuple[Transcription, bool]:
        """Return what was said, and whether it came to an end by itself."""
        from faster_whisper.tokenizer import Tokenizer

        frames = features.shape[-1]
        silence = float(features.max()) - _DYNAMIC_RANGE
        padded = np.pad(features, ((0, 0), (0, window - frames)), constant_values=silence)
        encoded = self._model.encode(padded)
        if self._model.model.is_multilingual and not language:
            language = self._model.model.detect_language(encoded)[0][0][0].strip("<|>")
        tokenizer = Tokenizer(
            self._model.hf_tokenizer,
            self._model.model.is_multilingual,
            task="transcribe",
            language=language or "en",
        )
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        most = 12 + frames * _TOKENS_PER_SECOND // _FRAMES_PER_SECOND
        result = self._model.model.generate(
            encoded,
            [prompt],
            beam_size=beams,
            max_length=min(448, len(prompt) + most),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
        )[0]
        tokens = result.sequences_ids[0]
        text = tokenizer.decode(tokens).strip()
        heard = Transcription(
            text,
            result.no_speech_prob,
            result.scores[0] if result.scores else 0.0,
            _repetition(text),
        )
        return heard, len(tokens) < most

    def _long(self, audio: Any, language: str) -> Transcription:
        segments, _ = self._model.transcribe(
            audio,
            language=language or None,
            beam_size=1,
            # No dice where it is in doubt.
            temperature=0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        parts = list(segments)
        text = "".join(part.text for part in parts).strip()
        if not parts:
            return Transcription("", no_speech=1.0)
        return Transcription(
            text,
            min(part.no_speech_prob for part in parts),
            sum(part.avg_logprob for part in parts) / len(parts),
            _repetition(text),
        )


def _repetition(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 1.0
