"""What is the same in every page of gptme's web UI that a test uses."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page

__all__ = ["SET_UP", "WebUi"]

# Someone who has used the web UI before: its setup wizard goes on by itself when a provider is
# configured, and so can be gone in the middle of a click that skips it.
SET_UP = """
if (location.protocol !== 'about:' && !localStorage.getItem('gptme-settings'))
  localStorage.setItem('gptme-settings', '{"hasCompletedSetup":true}');
"""


class WebUi:
    """A page that shows it."""

    page: Page

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for `condition` while the page goes on; it fails with `what` did not happen."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"Not within {seconds} s: {what}.")
            self.page.wait_for_timeout(50)
