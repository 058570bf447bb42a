"""How long a message takes through gptme-server, while gptme itself is busy.

Ten sessions send a 20 ms audio frame and a text every 20 ms; the time from the text to the caption
the echo backend answers it with is the round trip: socket, wire, session, backend and back. In
gptme's own process run none, one and two CPU-bound Python threads, as its tools do. The same is
measured with sessions on a thread there, which is the fallback where descriptors cannot be passed.
Conditions take turns within one run, so that a slow moment of the machine hits all of them.

    python -m tests.bench.bench_latency [--seconds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.support.client import SUBPROTOCOL
from tests.support.server import GptmeServer

SESSIONS = 10
FRAME = b"\0" * 640
BURNERS = (0, 1, 2)
BLOCK_SECONDS = 2.0
BAR = 2.0
"""The round trip's median beside busy threads may be this many times the idle one."""

# Runs gptme-server with threads that compute while a file says how many of them.
WRAPPER = """
import pathlib, sys, threading, time
wanted = pathlib.Path(sys.argv.pop(1))
def burn(number):
    while True:
        try:
            busy = int(wanted.read_text() or 0) > number
        except ValueError:
            busy = False
        end = time.monotonic() + 0.25
        while busy and time.monotonic() < end:
            sum(i * i for i in range(1000))
        if not busy:
            time.sleep(0.05)
for number in range(2):
    threading.Thread(target=burn, args=(number,), daemon=True).start()
from gptme.server.cli import main
main()
"""


async def _open(url: str, headers: dict[str, str]) -> ClientConnection:
    ws = await connect(
        url,
        additional_headers=headers,
        subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
        compression=None,
    )
    await ws.send(json.dumps({"type": "hello", "client": "bench", "input_sample_rates": [16_000]}))
    while json.loads(await ws.recv())["type"] != "ready":
        pass
    return ws


async def _measure(ws: ClientConnection, seconds: float, offset: float) -> list[float]:
    """Return round trips in milliseconds; the pace does not wait for answers."""
    trips: list[float] = []
    sent = 0

    async def listen() -> None:
        while True:
            frame = await ws.recv()
            if isinstance(frame, str) and '"transcript"' in frame:
                trips.append((time.perf_counter() - float(json.loads(frame)["text"])) * 1000)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(offset)
    start = time.perf_counter()
    while (due := start + sent * 0.02) < start + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await ws.send(FRAME)
        await ws.send(json.dumps({"type": "text", "text": repr(time.perf_counter())}))
        sent += 1
    deadline = time.perf_counter() + 10
    while len(trips) < sent and time.perf_counter() < deadline:
        await asyncio.sleep(0.01)
    listener.cancel()
    if len(trips) < sent:
        raise SystemExit(f"{sent - len(trips)} of {sent} round trips were never answered")
    return trips


async def _run(seconds: float) -> dict[tuple[str, int], list[float]]:
    results: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            sessions: dict[str, list[ClientConnection]] = {}
            controls: dict[str, Path] = {}
            for isolation in ("process", "thread"):
                home = Path(folder) / isolation
                home.mkdir()
                controls[isolation] = home / "burners"
                controls[isolation].write_text("0")
                server = stack.enter_context(
                    GptmeServer(
                        home,
                        command=[sys.executable, "-c", WRAPPER, str(controls[isolation])],
                        config=f'backend = "echo"\nisolation = "{isolation}"',
                    )
                )
                httpx.get(f"{server.url}/api/v2/voice/status", headers=server.auth)
                sessions[isolation] = [
                    await stack.enter_async_context(await _open(server.ws_url, server.auth))
                    for _ in range(SESSIONS)
                ]
            for _ in range(max(1, round(seconds / BLOCK_SECONDS))):
                for burners in BURNERS:
                    for isolation, connections in sessions.items():
                        controls[isolation].write_text(str(burners))
                        await asyncio.sleep(0.4)
                        blocks = await asyncio.gather(
                            *(
                                _measure(ws, BLOCK_SECONDS, i * 0.02 / SESSIONS)
                                for i, ws in enumerate(connections)
                            )
                        )
                        controls[isolation].write_text("0")
                        await asyncio.sleep(0.3)
                        for trips in blocks:
                            results[isolation, burners] += trips
    return results


def main() -> int:
    """Print the figures; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="per condition")
    results = asyncio.run(_run(parser.parse_args().seconds))
    print(f"Round trip of {SESSIONS} sessions through gptme-server, ms")
    print(f"{'sessions in':<12}{'busy threads':>13}{'p50':>9}{'p99':>9}{'p50 / idle':>12}{'n':>8}")
    met = True
    for isolation in ("process", "thread"):
        idle = float(np.median(results[isolation, 0]))
        for burners in BURNERS:
            trips = results[isolation, burners]
            p50, p99 = np.percentile(trips, [50, 99])
            ratio = p50 / idle
            verdict = ""
            if isolation == "process" and burners:
                met &= ratio <= BAR
                verdict = f"  bar {BAR}: {'met' if ratio <= BAR else 'MISSED'}"
            print(
                f"{isolation:<12}{burners:>13}{p50:>9.2f}{p99:>9.2f}{ratio:>12.2f}{len(trips):>8}"
                f"{verdict}"
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
