"""What all browser tests need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.support.browser import Process, chromium_process, profile
from tests.support.pulse import PulseAudio
from tests.support.server import GptmeServer
from tests.support.voice_ui import warm_up

# A busy machine may be slow: only what never comes is a failure.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A real gptme-server that plays back what it hears."""
    with GptmeServer(tmp_path_factory.mktemp("server"), config='backend = "echo"') as running:
        warm_up(running)
        yield running


@pytest.fixture(scope="module")
def pulse() -> Iterator[PulseAudio]:
    """A sound card of 48 kHz."""
    with PulseAudio(48_000) as running:
        yield running


@pytest.fixture(scope="module")
def process(pulse: PulseAudio) -> Iterator[Process]:
    """A Chromium on that sound card."""
    with chromium_process(pulse.env) as running:
        yield running


@pytest.fixture
def context(process: Process) -> Iterator[BrowserContext]:
    """A profile of the test's own in it."""
    with profile(process) as opened:
        yield opened


@pytest.fixture
def artifacts(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for what a person may want to see or hear after the test."""
    wanted = os.environ.get("BROWSER_ARTIFACTS")
    folder = Path(wanted) / request.node.name if wanted else tmp_path / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
