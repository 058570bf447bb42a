"""Real browsers, with fresh profiles, whose sound goes where the environment says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psutil
from playwright.sync_api import Browser as Process
from playwright.sync_api import BrowserContext, sync_playwright

from tests.support.realtime import hurry, hurrying

__all__ = [
    "BROWSERS",
    "Browser",
    "Process",
    "chromium",
    "chromium_process",
    "find_chromium",
    "find_firefox",
    "firefox",
    "profile",
]

_ALLOW = "--use-fake-ui-for-media-stream"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The microphone is allowed without asking, and is the system's, not a fake one.
    _ALLOW,
    "--autoplay-policy=no-user-gesture-required",
    # Sound goes on when the machine is busy for 40 ms.
    "--audio-buffer-size=2048",
)

_FIREFOX_NAMES = ("firefox-esr", "firefox")
_PREFERENCES: dict[str, str | float | bool] = {
    # As above: the microphone is allowed without asking, and is the system's, not a fake one.
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": False,
    "media.autoplay.default": 0,
    "media.cubeb.backend": "pulse",
}
_FIREFOX_SOUND = ("AudioIP", "GraphRunner", "threaded-ml", "IPC I/O")
"""What the names of the threads begin with that play, record, and run worklets."""
_FIREFOX_START_SECONDS = 90


def find_chromium() -> str:
    """Return the path of Chromium: `$CHROMIUM`, or the first one on PATH."""
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else _NAMES:
        if path := shutil.which(name):
            return path
    if named:
        raise RuntimeError(f"CHROMIUM={named} is no program that can be run.")
    raise RuntimeError(
        f"There is no Chromium ({', '.join(_NAMES)} on PATH): install Debian's chromium, or set "
        "CHROMIUM to the path of one. The browser tests are not skipped without it."
    )


@contextmanager
def chromium(env: Mapping[str, str], ask: bool = False) -> Iterator[BrowserContext]:
    """Run Chromium with the environment `env` while a block runs.

    Args:
        env: It leads to a PulseAudio, or to none.
        ask: Whether the microphone is forbidden until `grant_permissions` allows it.
    """
    with chromium_process(env, ask) as browser, profile(browser) as context:
        yield context


@contextmanager
def profile(browser: Process) -> Iterator[BrowserContext]:
    """Give a fresh profile in a browser that runs already."""
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        context.set_default_timeout(30_000)
        yield context


@contextmanager
def chromium_process(
    env: Mapping[str, str], ask: bool = False, beside: Process | None = None
) -> Iterator[Process]:
    """Run Chromium, as `chromium` does, for any number of profiles.

    Args:
        env: As there.
        ask: As there.
        beside: One that runs already.
    """
    path = find_chromium()
    with ExitStack() as stack:
        # There can be only one Playwright at a time.
        kind = beside.browser_type if beside else stack.enter_context(sync_playwright()).chromium
        browser = kind.launch(
            executable_path=path,
            args=[argument for argument in _ARGUMENTS if not (ask and argument == _ALLOW)],
            ignore_default_args=["--mute-audio"],
            env=dict(env),
        )
        stack.callback(browser.close)
        _hurry_sound(browser)
        yield browser


def find_firefox() -> str | None:
    """Return the path of Firefox: `$FIREFOX`, or the first one on PATH; None if there is none."""
    named = os.environ.get("FIREFOX")
    for name in (named,) if named else _FIREFOX_NAMES:
        if path := shutil.which(name):
            return path
    if named:
        raise RuntimeError(f"FIREFOX={named} is no program that can be run.")
    return None


@contextmanager
def firefox(env: Mapping[str, str]) -> Iterator[BrowserContext]:
    """Run a stock Firefox with the environment `env` while a block runs.

    It has to lead to a PulseAudio: Firefox does not start without.
    """
    path = find_firefox()
    if path is None:
        raise RuntimeError("There is no Firefox: install Debian's firefox-esr, or set FIREFOX.")
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.firefox.launch(
            # Over WebDriver BiDi. Otherwise Playwright wants a Firefox it has patched itself. What
            # it cannot do so: tell of WebSockets.
            channel="moz-firefox",
            executable_path=path,
            firefox_user_prefs=_PREFERENCES,
            env=dict(env),
            timeout=_FIREFOX_START_SECONDS * 1000,
        )
        stack.callback(browser.close)
        stack.enter_context(hurrying(*_FIREFOX_SOUND))
        yield stack.enter_context(profile(browser))


@dataclass(frozen=True)
class Browser:
    """A kind of browser to test with."""

    name: str
    open: Callable[[Mapping[str, str]], AbstractContextManager[BrowserContext]]
    """Runs it, with an environment that leads to a PulseAudio."""
    find: Callable[[], str | None]


BROWSERS = {
    browser.name: browser
    for browser in (
        Browser("chromium", chromium, find_chromium),
        Browser("firefox", firefox, find_firefox),
    )
}


def _hurry_sound(browser: Process) -> None:
    """Start the process that plays and records for Chromium, and let it come before the rest.

    Not all of Chromium: then its threads take turns among themselves, and sound waits again.
    """
    page = browser.new_page()
    page.evaluate("new AudioContext().resume()")
    page.close()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any("audio.mojom" in argument for argument in process.cmdline()):
                hurry(process)
