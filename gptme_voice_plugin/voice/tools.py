"""The functions that the voice model may call, and what it is told of them."""

from __future__ import annotations

from ..backends.base import Tool

__all__ = [
    "ANSWER_PERMISSION",
    "ASK_GPTME",
    "CANCEL_GPTME",
    "END_CALL",
    "GPTME_STATUS",
    "MAX_TASK",
    "offered",
    "tool_instructions",
]

ASK_GPTME = "ask_gptme"
GPTME_STATUS = "gptme_status"
CANCEL_GPTME = "cancel_gptme"
END_CALL = "end_call"
ANSWER_PERMISSION = "answer_permission"

MAX_TASK = 8000
"""Characters of a task."""

_NOTHING = {"type": "object", "properties": {}}

_TOOLS = (
    Tool(
        ASK_GPTME,
        "Give gptme a task: it works on the user's computer, in this conversation, with a shell, "
        "files, code and the web. Call it for whatever needs those, or a long or exact written "
        "answer (code, diffs, paths, lists): gptme writes it into the chat. It returns at once; "
        "you are told when gptme is done.",
        {
            "type": "object",
            "properties": {
                "task": {
                    "type": "string",
                    "description": "What to do, in full: gptme sees the conversation, but this is "
                    "what it acts on.",
                }
            },
            "required": ["task"],
        },
    ),
    Tool(GPTME_STATUS, "Say what gptme is doing now, and what waits.", _NOTHING),
    Tool(
        CANCEL_GPTME,
        "Stop what gptme is doing, and all that waits. Only when the user wants that; that they "
        "speak or change the subject is no reason.",
        _NOTHING,
    ),
    Tool(
        END_CALL,
        "End this voice session, when the user wants to end it. Say goodbye first.",
        _NOTHING,
    ),
)

_ANSWER = Tool(
    ANSWER_PERMISSION,
    "Tell gptme whether the user allows what it asks permission for. Only with what the user has "
    "said after you have read out what would be run; never on your own account.",
    {
        "type": "object",
        "properties": {
            "permission_id": {"type": "string", "description": "As you were told it."},
            "allow": {"type": "boolean", "description": "Whether the user has clearly said yes."},
        },
        "required": ["permission_id", "allow"],
    },
)

_INSTRUCTIONS = (
    "You are the voice of gptme. You cannot act yourself: whatever touches the user's computer is "
    f"done by gptme, which you ask with {ASK_GPTME}. When you have asked, say in a few words that "
    "gptme is on it, and go on with the conversation. Never say that something is done, or what "
    "came out, before you were told so by gptme; if you do not know, call "
    f"{GPTME_STATUS}. Written detail belongs into the chat, where gptme puts it: say the gist. "
    "Messages that begin with [gptme] come from gptme, not from the user; those that begin with "
    "[typed] the user has typed into the chat, and gptme answers them there. "
)
_BY_CARD = (
    "When gptme asks for permission, tell the user what it wants to run, and that it is allowed or "
    "refused in the chat, on the screen. You cannot allow it."
)
_BY_VOICE = (
    "When gptme asks for permission, read out what it wants to run, ask the user whether it may, "
    f"and call {ANSWER_PERMISSION} with their answer. It can be answered on the screen too."
)


def offered(voice_confirm: bool) -> tuple[Tool, ...]:
    """Return the functions a session has; with `voice_confirm` permission is given by voice."""
    return (*_TOOLS, _ANSWER) if voice_confirm else _TOOLS


def tool_instructions(voice_confirm: bool) -> str:
    """Return what a model must know to use them."""
    return _INSTRUCTIONS + (_BY_VOICE if voice_confirm else _BY_CARD)
