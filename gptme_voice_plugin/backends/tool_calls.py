"""Function calls of a realtime conversation: gathered by response, answered together.

A model may call several functions in one response. All of their outputs have to be there before it
is asked to go on, and they may come late: the user and the model talk on meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .base import ToolCall

__all__ = ["ToolCalls"]

_NO_OBJECT = '{"error": "the arguments are not a JSON object"}'


class ToolCalls:
    """See the module."""

    def __init__(self) -> None:
        self._noted: dict[str, tuple[str, str]] = {}  # of the response under way
        self._outputs: list[dict[str, str | None]] = []  # by response, until all are there

    @property
    def open(self) -> bool:
        """Whether outputs are still to come."""
        return bool(self._outputs)

    def note(self, item: Mapping[str, Any]) -> None:
        """Take note of a `function_call` item, whole or in part; anything else is ignored."""
        call_id = item.get("call_id")
        if item.get("type") == "function_call" and isinstance(call_id, str):
            name, arguments = self._noted.get(call_id, ("", ""))
            self._noted[call_id] = (
                str(item.get("name") or name),
                str(item.get("arguments") or arguments),
            )

    def forget_noted(self) -> None:
        """Drop what was noted of the response under way: it was interrupted, or is over."""
        self._noted.clear()

    def forget(self) -> None:
        """Drop everything: the connection that could take outputs is gone."""
        self._noted.clear()
        self._outputs.clear()

    def make(self) -> tuple[list[ToolCall], list[dict[str, Any]]]:
        """Return the calls to make of a response that is complete, and the outputs to send now.

        A call whose arguments are no JSON object is not made but answered with an error, so there
        are outputs to send when all calls of the response are such.
        """
        calls: list[ToolCall] = []
        outputs: dict[str, str | None] = {}
        for call_id, (name, text) in self._noted.items():
            try:
                arguments = json.loads(text or "{}")
            except (ValueError, RecursionError):
                arguments = None
            usable = isinstance(arguments, dict) and name
            outputs[call_id] = None if usable else _NO_OBJECT
            if usable:
                calls.append(ToolCall(call_id, name, arguments))
        self._noted.clear()
        if outputs:
            self._outputs.append(outputs)
        return calls, self._take_complete()

    def answer(self, call_id: str, output: str) -> list[dict[str, Any]]:
        """Take an output; return the items to send once the response's others are there too."""
        for outputs in self._outputs:
            if call_id in outputs:
                outputs[call_id] = output
        return self._take_complete()

    def _take_complete(self) -> list[dict[str, Any]]:
        complete = [o for o in self._outputs if all(result is not None for result in o.values())]
        self._outputs = [o for o in self._outputs if o not in complete]
        return [
            {"type": "function_call_output", "call_id": call_id, "output": output}
            for outputs in complete
            for call_id, output in outputs.items()
        ]
