"""A worker that speaks as Piper does, but the same each time: `python -m tests.support.mouth`.

Piper draws lots for how a sentence sounds, and now and then it draws one that nobody would
understand. Tests are to hear the same today and tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from piper import PiperVoice, SynthesisConfig

from gptme_voice_plugin.backends.base import Preparing
from gptme_voice_plugin.backends.local import models
from gptme_voice_plugin.backends.local.worker_process import serve


def main() -> None:
    """Run until the parent closes the pipe."""
    voice = PiperVoice.load(models.obtain("tts", models.DEFAULTS["tts"]))

    def handle(
        request: dict[str, Any], payload: bytes, report: Callable[[Preparing], None]
    ) -> tuple[dict[str, Any], bytes]:
        if "text" not in request:
            return {"sample_rate": voice.config.sample_rate}, b""
        config = SynthesisConfig(
            length_scale=1 / request["speed"], noise_scale=0.0, noise_w_scale=0.0, volume=0.8
        )
        chunks = voice.synthesize(request["text"], config)
        return {}, b"".join(chunk.audio_int16_bytes for chunk in chunks)

    serve(handle)


if __name__ == "__main__":
    main()
