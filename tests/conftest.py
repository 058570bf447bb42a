"""Fixtures that many tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.server import GptmeServer

if TYPE_CHECKING:
    from tests.support.browser import Browser

# A shell makes the jobs it starts in the background ignore Ctrl-C, and their children inherit that:
# then no test could send it to one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Time is not what properties are about: a busy machine takes its own. What fails here fails again;
# `make soak` looks for other examples each time.
_PROPERTIES = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_PROPERTIES)
settings.register_profile("other", **_PROPERTIES)
settings.load_profile("same")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GptmeServer]:
    """A real gptme-server with the plugin, shared by the tests of a module."""
    with GptmeServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=["chromium", "firefox"])
def browser_kind(request: pytest.FixtureRequest) -> Browser:
    """Each kind of browser in turn; Firefox may be missing where nobody could install it."""
    return _browser(request.param)


@pytest.fixture(scope="session")
def firefox_kind() -> Browser:
    """Firefox alone."""
    return _browser("firefox")


def _browser(name: str) -> Browser:
    from tests.support.browser import BROWSERS

    kind = BROWSERS[name]
    if kind.find() is None:
        message = (
            f"THERE IS NO {kind.name.upper()}, SO THIS WAS NOT TESTED WITH IT: install Debian's "
            f"firefox-esr, or set {kind.name.upper()} to the path of one."
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return kind
