"""Plausible token numbers: the provider's rates, not its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conversation import Conversation

if TYPE_CHECKING:
    from .response import Response

INPUT_MS_PER_TOKEN = 100
OUTPUT_MS_PER_TOKEN = 50
CHARS_PER_TOKEN = 4


def _text(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def usage_of(conversation: Conversation, response: Response) -> dict[str, Any]:
    """Return the `usage` of a response that has ended."""
    before = [i for i in conversation.items if i not in response.items]
    audio_in = sum(int(i.audio_ms / INPUT_MS_PER_TOKEN) for i in before)
    text_in = sum(_text(len(i.text) + len(str(i.fields or ""))) for i in before)
    # What came before the newest turn is in the provider's cache.
    audio_cached = sum(int(i.audio_ms / INPUT_MS_PER_TOKEN) for i in before[:-1])
    audio_out = sum(int(i.audio_ms / OUTPUT_MS_PER_TOKEN) for i in response.items)
    text_out = sum(_text(len(i.words) + len(str(i.fields or ""))) for i in response.items)
    return {
        "total_tokens": audio_in + text_in + audio_out + text_out,
        "input_tokens": audio_in + text_in,
        "output_tokens": audio_out + text_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": 0,
            "cached_tokens": audio_cached,
            "cached_tokens_details": {
                "text_tokens": 0,
                "audio_tokens": audio_cached,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }
