"""A real gptme-server in a subprocess, as a user starts it, in a home of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil

from tests.support.ports import free_port

TOKEN = "canary-token-5f3a"
START_SECONDS = 60.0
_PROVIDER_KEYS = re.compile(r"_API_KEY$|^GPTME_|^MODEL$")


class GptmeServer:
    """Starts `gptme-server` and stops it at the end of a `with` block.

    Args:
        folder: An empty folder; home and workspace are made in it.
        args: More arguments for `gptme-server`.
        env: More environment variables.
        config: Content of the plugin's table in gptme's user config, as TOML lines. What `auto`
            takes depends on what is installed, so whoever opens sessions names a backend.
        command: What to run instead of `gptme-server`; gets `--port` and `args` too.
        python: The interpreter whose environment has gptme and the plugin.
    """

    def __init__(
        self,
        folder: Path,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        config: str = 'backend = "echo"',
        command: Sequence[str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.port = free_port()
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        self.log_path = folder / "server.log"
        self._config = config
        self._command = [
            *(command or (str(Path(python).with_name("gptme-server")),)),
            "--port",
            str(self.port),
            *args,
        ]
        clean = {k: v for k, v in os.environ.items() if not _PROVIDER_KEYS.search(k)}
        self.env = {
            **clean,
            "HOME": str(self.home),
            "GPTME_SERVER_TOKEN": TOKEN,
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            self.env.pop(name, None)
        self.process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where it serves the voice WebSocket."""
        return f"ws://127.0.0.1:{self.port}/voice"

    @property
    def auth(self) -> dict[str, str]:
        """The header that opens everything."""
        return {"Authorization": f"Bearer {TOKEN}"}

    def __enter__(self) -> GptmeServer:
        self.workspace.mkdir(parents=True, exist_ok=True)
        settings = self.home / ".config" / "gptme" / "config.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(f"[env]\n\n[plugin.gptme_voice_plugin]\n{self._config}\n")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self.workspace,
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a test can send Ctrl-C to the whole group
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"gptme-server ended at its start:\n{self.log()}")
            try:
                # Any answer tells that it serves, also a 401 or a 404.
                httpx.get(f"{self.url}/api/v2/voice/status", timeout=2)
                return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"gptme-server did not start in time:\n{self.log()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, sig: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Stop the server if it runs; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise

    def log(self) -> str:
        """Return what it has printed."""
        return self.log_path.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """Return what `GET /api/v2/voice/status` says."""
        answer = httpx.get(f"{self.url}/api/v2/voice/status", headers=self.auth, timeout=30)
        answer.raise_for_status()
        data: dict[str, Any] = answer.json()
        return data

    def voice_pid(self) -> int | None:
        """Return the pid of the voice process, if one runs."""
        pid: int | None = self.status()["voice_process"]["pid"]
        return pid

    def usage(self) -> tuple[int, int]:
        """Return how many descriptors and threads the server process has."""
        process = psutil.Process(self.process.pid)
        return process.num_fds(), process.num_threads()


def wait_until(condition: Any, seconds: float = 60.0, step: float = 0.02) -> bool:
    """Poll `condition` until it holds; whether it did in time."""
    waited = threading.Event()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        waited.wait(step)
    return bool(condition())
