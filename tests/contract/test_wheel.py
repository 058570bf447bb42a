"""The wheel built from this tree: what is in it, and that it works where it is installed."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from gptme_voice_plugin import NAME, __version__
from tests.support.client import VoiceClient
from tests.support.server import GptmeServer

ROOT = Path(__file__).resolve().parents[2]


def _call(command: Sequence[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it for everybody."""
    folder = tmp_path_factory.mktemp("wheel")
    _call(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel, and all else from this one."""
    folder = tmp_path_factory.mktemp("environment")
    _call([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    path = folder / "bin" / "python"
    site = Path(
        _call([path, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    _call(
        [sys.executable, "-m", "pip", "--python", str(path)]
        + ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    )
    # After the wheel on the path, so that it wins over what may be installed here.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return path


def test_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        parser = ConfigParser()
        parser.read_string(
            archive.read(f"{NAME}-{__version__}.dist-info/entry_points.txt").decode()
        )
    assert wheel.name == f"{NAME}-{__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in names} == {NAME, f"{NAME}-{__version__}.dist-info"}
    assert {f"{NAME}/webui_patch/voice.js", f"{NAME}/webui_patch/protocol.js"} <= set(names)
    assert f"{NAME}/voice/process.py" in names
    tools = re.compile(r"(^|/)tests?/|(^|/)test_|\.test\.|__pycache__|node_modules|eslint|\.json$")
    assert not [name for name in names if tools.search(name)]
    assert dict(parser["gptme.plugins"]) == {NAME: f"{NAME}:plugin"}
    assert dict(parser["console_scripts"]) == {"gptme-voice": f"{NAME}.cli:main"}
    shipped = {name for name in names if name.startswith(f"{NAME}/webui_patch/")}
    assert shipped == {
        f"{NAME}/{path.relative_to(ROOT)}"
        for path in (ROOT / "webui_patch").rglob("*")
        if path.is_file()
    }


def test_doctor_is_content(python: Path, tmp_path: Path) -> None:
    """gptme-doctor lists the installed wheel as ok, its security scan and `init` included."""
    env = GptmeServer(tmp_path).env
    (tmp_path / "home").mkdir()
    where = _call([python, "-c", f"import {NAME}; print({NAME}.__file__)"], cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(python.parents[1])
    if find_spec("gptme.plugins.security") is None:
        pytest.skip("this gptme-doctor does not look at plugins")
    # It exits with 1 where other things, such as a model's key, are missing.
    done = subprocess.run(
        [python, "-m", "gptme.cli.doctor", "--json"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    results = json.loads(done.stdout[done.stdout.index("{\n") :])["results"]
    (ours,) = [r for r in results if r["name"] == f"Plugin: {NAME}"]
    assert ours["status"] == "ok", ours
    details = json.dumps(ours["details"])
    assert "security:ok(" in details
    assert "init:ok" in details


def test_sessions_from_the_wheel(python: Path, tmp_path: Path) -> None:
    """The voice process too is the installed one, and so is the page's script."""
    command = [str(python), "-m", "gptme.server"]
    with GptmeServer(tmp_path, command=command) as server:
        page = httpx.get(f"{server.url}/", verify=False, timeout=60).text
        (source,) = re.findall(r'src="(/gptme-voice-plugin/[^"]+/voice\.js)"', page)
        script = httpx.get(f"{server.url}{source}", verify=False, timeout=60)
        assert script.content == (ROOT / "webui_patch" / "voice.js").read_bytes()

        async def scenario() -> None:
            async with VoiceClient(server.ws_url, server.auth) as client:
                await client.until(lambda c: c.ready.is_set())
                process = psutil.Process(server.voice_pid())
                assert Path(process.cwd()).is_relative_to(python.parents[1])
                assert Path(process.cmdline()[0]).is_relative_to(python.parents[1])

        asyncio.run(scenario())
