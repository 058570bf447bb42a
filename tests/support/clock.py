"""An event loop whose time passes only when nothing else is left to do, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("Nothing will ever happen any more.")
        ready = super().select(0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready


class ClockLoop(asyncio.SelectorEventLoop):
    """See the module. For code without processes and sockets; threads are none here."""

    def __init__(self) -> None:
        self._selector_of_ours = _Selector()
        super().__init__(self._selector_of_ours)

    def time(self) -> float:
        """Return seconds since its beginning."""
        return self._selector_of_ours.now

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Do it at once: what a thread does would come at a time of its own."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def run_by_clock(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test in a loop of this kind; no task of it may be left."""
    loop = ClockLoop()

    async def whole() -> None:
        await test()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        loop.run_until_complete(whole())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
