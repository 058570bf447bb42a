"""Runs `gptme-voice` as a user does, in a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_OURS = re.compile(r"_API_KEY$|^GPTME_|^MODEL$|^XDG_|^(NO_|FORCE_)?COLOR$|^COLUMNS$", re.IGNORECASE)


def clean_environment(home: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a user who has configured nothing but `env`."""
    clean = {name: value for name, value in os.environ.items() if not _OURS.search(name)}
    return {**clean, "HOME": str(home), **(env or {})}


def gptme_voice(
    *args: str | Path,
    home: Path,
    env: Mapping[str, str] | None = None,
    command: tuple[str | Path, ...] = (sys.executable, "-m", "gptme_voice_plugin.cli"),
    seconds: float = 90.0,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in the folder `home`."""
    home.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*command, *args],
        cwd=home,
        env=clean_environment(home, env),
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def one_sentence(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line a failed command has told, after checking that it is all it told."""
    assert result.returncode == 1, result
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    return lines[0].removeprefix("Error: ")


def write_config(home: Path, text: str) -> None:
    """Write gptme's user config."""
    path = home / ".config" / "gptme" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
