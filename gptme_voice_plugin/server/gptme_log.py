"""A conversation's log: what is in it, and writing to it, as gptme itself does."""

from __future__ import annotations

import atexit
import contextvars
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConversationBusy, ConversationUnknown, TurnsNotSaved
from .entry import Entry, Key, key_of
from .gptme_sessions import at_work, tell
from .heard import Heard

if TYPE_CHECKING:
    from gptme.logmanager import LogManager
    from gptme.message import Message

__all__ = ["cut", "folder_of", "known", "load", "write"]

logger = logging.getLogger(__name__)


def folder_of(conversation_id: str) -> Path:
    """Return the folder of a conversation that exists.

    Raises:
        ConversationUnknown: It does not.
    """
    from gptme.dirs import get_logs_dir
    from gptme.util.conversation_ids import is_valid_conversation_id

    # LogManager takes a name that ends with .jsonl for a file, and uses the folder it is in.
    if not is_valid_conversation_id(conversation_id) or conversation_id.endswith(".jsonl"):
        raise _unknown()
    folder = get_logs_dir() / conversation_id
    if not (folder / "conversation.jsonl").is_file():
        raise _unknown()
    return folder


def load(conversation_id: str, lock: bool = False) -> LogManager:
    """Read a log; to write to it, it has to be locked against other processes.

    Raises:
        ConversationUnknown: There is none, or no more.
        ConversationBusy: Another process has locked it.
    """
    from gptme.logmanager import LogManager

    folder_of(conversation_id)
    try:
        return LogManager.load(conversation_id, lock=lock)
    except FileNotFoundError:  # deleted just now
        raise _unknown() from None
    except RuntimeError as exc:
        # The `gptme` command has it, and would write over what we append.
        logger.debug("%s", exc)
        raise ConversationBusy(
            "Another gptme has this conversation open; close it there, and try again.", soon=False
        ) from exc


def known(log: LogManager) -> set[Key]:
    """Return the keys of the entries that the log has, also of those compacted away."""
    found = set()
    for message in (*log.master_log, *log.log):
        metadata: dict[str, Any] = dict(message.metadata or {})
        if (key := key_of(metadata.get("voice_call"))) is not None:
            found.add(key)
    return found


def write(conversation_id: str, entries: Sequence[Entry], sync: bool = False) -> list[Entry]:
    """Append those of `entries` that the log does not have, tell open pages, and return them.

    Args:
        conversation_id: The conversation; the caller has its lock.
        entries: In their order.
        sync: Whether they are to be on the disk when it returns.

    Raises:
        ConversationUnknown: There is no such conversation.
        ConversationBusy: It must not be written to now; nothing was.
        TurnsNotSaved: The log cannot be written; what is before the one that failed is in it.
    """
    from gptme.server.api_v2_common import msg2dict

    file = folder_of(conversation_id) / "conversation.jsonl"
    _refuse_at_work(conversation_id)
    appended: list[Entry] = []
    with _locked(conversation_id, file) as log:
        keys = known(log)
        try:
            for entry in entries:
                if entry.key in keys:
                    continue
                message = _message(entry)
                log.append(message)
                keys.add(entry.key)
                appended.append(entry)
                shown = msg2dict(message, log.workspace, log.logdir)
                tell(conversation_id, {"type": "message_added", "message": shown})
            if sync:
                log.write(sync=True)
        except OSError as exc:
            raise _not_saved(exc) from exc
    return appended


def cut(conversation_id: str, heard: Heard) -> str:
    """Cut an answer of gptme's to what was heard of it, and tell open pages.

    It is changed where it is: gptme's own way to edit would leave the old log as a branch, and
    pages a choice between the two.

    Returns:
        Why nothing was changed; empty if it was.

    Raises:
        VoiceError: As `write`.
    """
    file = folder_of(conversation_id) / "conversation.jsonl"
    _refuse_at_work(conversation_id)
    with _locked(conversation_id, file) as log:
        index = heard.find(log.log.messages)
        if index is None:
            return "not found"
        message = log.log[index]
        if _asks_for_tools(log, message.content):
            return "tools"  # what ran must stay to be seen
        shorter = heard.cut(message)
        if shorter is None:
            return "whole"
        try:
            _replace(log, message, shorter)
        except OSError as exc:
            raise _not_saved(exc) from exc
        shown = log.to_dict(branches=True)
        edited = {"log": shown["log"], "branches": shown["branches"]}
        tell(
            conversation_id,
            {"type": "conversation_edited", "index": index, "truncated": False, **edited},
        )
    return ""


def _replace(log: LogManager, old: Message, new: Message) -> None:
    """Put a message in the place of another, in all that gptme keeps of the conversation."""
    from gptme.logmanager import eventlog

    view, log.current_view = log.current_view, None
    main = log.log
    log.current_view = view
    # A log that was compacted is there twice or three times.
    for kept in (main.messages, log.log.messages, log.master_log.messages):
        for index in range(len(kept) - 1, -1, -1):
            its = kept[index]
            if (its.role, its.timestamp, its.content) == (old.role, old.timestamp, old.content):
                kept[index] = new
                break
    log.write(sync=True)
    eventlog.append_next_event(
        log.logdir, lambda number: eventlog.build_message_edit_event(number, log.log.messages)
    )


def _asks_for_tools(log: LogManager, content: str) -> bool:
    """Whether a message has anything in it that gptme would run, in any of its formats."""
    from gptme.config import ChatConfig
    from gptme.tools import get_toolchain, set_tools
    from gptme.tools.base import ToolUse

    def find() -> bool:
        # Blocks of code are calls only if the conversation has a tool for them. Without MCP, whose
        # servers would be started for it.
        tools = ChatConfig.from_logdir(log.logdir).tools
        set_tools(get_toolchain(tools, strict=False, include_mcp=False))
        return any(
            next(ToolUse.iter_from_content(content, tool_format_override=form), None)
            for form in ("markdown", "xml", "tool")
        )

    # gptme keeps the tools of a thread in it, where they must not stay.
    return contextvars.copy_context().run(find)


@contextmanager
def _locked(conversation_id: str, file: Path) -> Iterator[LogManager]:
    """Yield a log that no other process writes to meanwhile.

    The lock is let go afterwards, or no `gptme` could open the conversation as long as the server
    runs. Where the server had it already, as of conversations that it has made, it keeps it.
    """
    before = _state(file)
    with load(conversation_id, lock=True) as log:
        # Which would keep the lock, and the whole log in memory, until the server ends.
        atexit.unregister(log._release_lock)
        try:
            if _state(file) == before:
                yield log
            else:
                # It is read before it is locked: another process has written to it in between.
                yield load(conversation_id)
        finally:
            if log._lock_fd is not None:
                # Our number must not stay in it: a process that finds the file locked, and its own
                # number in it, takes the lock for its own, also if another has just taken it.
                log._lock_fd.truncate(0)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _message(entry: Entry) -> Message:
    from gptme.message import Message

    hidden: dict[str, Any] = {}
    if entry.ui_only:
        # gptme 0.34 has no such messages, but leaves out those whose time is over: this one's is
        # over before it begins.
        names = {field.name for field in fields(Message)}
        hidden = {"ui_only": True} if "ui_only" in names else {"ephemeral_ttl": -1}
    return Message(
        entry.role,
        entry.content,
        timestamp=entry.at,
        metadata={"voice_call": dict(entry.call)},
        quiet=True,  # a server's terminal is no place for what is said
        **hidden,
    )


def _refuse_at_work(conversation_id: str) -> None:
    if at_work(conversation_id):
        raise ConversationBusy("gptme is at work in this conversation; try again soon.")


def _not_saved(error: OSError) -> TurnsNotSaved:
    return TurnsNotSaved(f"The conversation cannot be written ({error.strerror or error}).")


def _unknown() -> ConversationUnknown:
    return ConversationUnknown("There is no such conversation; it may have been deleted.")
