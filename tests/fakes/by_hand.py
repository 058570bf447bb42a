"""Running a fake provider from the command line, to try the user interface without a key."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from .engine import FakeProvider
from .script import echo


def main(make: Callable[..., FakeProvider], settings: str, description: str) -> None:
    """Serve until Ctrl-C.

    Args:
        make: Makes the provider.
        settings: The environment that points the plugin to it; `{url}` is the address.
        description: For `--help`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--reply-seconds", type=float, default=3.0, metavar="S")
    parser.add_argument("--paced", action="store_true", help="reply in real time, not in a burst")
    parser.add_argument("--echo", action="store_true", help="reply with the user's own words")
    args = parser.parse_args()
    fake = make(
        port=args.port,
        reply_seconds=args.reply_seconds,
        speed=1.0 if args.paced else 10.0,
        replies=echo if args.echo else (),
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(fake, settings))


async def _serve(fake: FakeProvider, settings: str) -> Any:
    async with fake:
        print(f"{settings.format(url=fake.url)} gptme-voice serve", flush=True)
        await asyncio.Event().wait()
