"""Single pieces of a request: one element of its messages as a message, its texts, its tool results. Pure.

Clients resend their history with every request, so whoever follows a session reads only the elements that are new, one
by one. Must not know which those are.
"""

from __future__ import annotations

from typing import Any

from lunaroute.dialects import anthropic, openai_chat, openai_responses
from lunaroute.dialects.blocks import Block, Message, text_block, texts_of
from lunaroute.dialects.results import result_bytes, success_of
from lunaroute.dialects.values import items, mapping
from lunaroute.records import ToolResult

__all__ = ["RESULT_LIMIT", "message_of", "results_of", "texts_of"]

RESULT_LIMIT = 1024 * 1024


def message_of(dialect: str, key: str, value: Any) -> Message | None:
    """One element of the request's field `key`: of `messages` or `input`; `system` and `instructions` whole or a block.

    None where the field holds no message (`tools`, settings), or where nothing is known of the dialect.
    """
    if key == "messages" and isinstance(value, dict):
        if dialect == anthropic.NAME:
            return anthropic.message(value)
        return openai_chat.message(value) if dialect == openai_chat.NAME else None
    if key == "system" and dialect == anthropic.NAME:
        blocks = anthropic.blocks([value] if isinstance(value, dict) else value)
        return Message("system", blocks) if blocks else None
    if dialect != openai_responses.NAME:
        return Message("user", [text_block(value)]) if key == "prompt" and isinstance(value, str) else None
    if key == "instructions" and isinstance(value, str) and value:
        return Message("system", [text_block(value)])
    if key == "input":
        return _input(value)
    return None


def _input(value: Any) -> Message | None:
    if isinstance(value, str):
        return Message("user", [text_block(value)]) if value else None
    item = mapping(value)
    if not item or item.get("type") == "additional_tools":
        return None
    return openai_responses.message_of(item)


def results_of(dialect: str, element: Any, limit: int = RESULT_LIMIT) -> list[ToolResult]:
    """The tool results in one element of `messages` or `input`; their texts are cut at `limit` characters."""
    entry = mapping(element)
    if dialect == anthropic.NAME:
        return _of_blocks(entry, limit)
    if dialect == openai_chat.NAME:
        if entry.get("role") not in ("tool", "function"):
            return []
        return _made(openai_chat.message(entry).blocks, entry.get("content"), entry, limit)
    if dialect == openai_responses.NAME:
        blocks = [block for block in openai_responses.message_of(entry).blocks if block.kind == "tool_result"]
        return _made(blocks, openai_responses.raw_output(entry), entry, limit) if blocks else []
    return []


def _of_blocks(entry: dict[str, Any], limit: int) -> list[ToolResult]:
    found = []
    for part in items(entry.get("content")):
        block = mapping(part)
        kind = block.get("type")
        if isinstance(kind, str) and kind.endswith("tool_result"):
            found += _made(anthropic.blocks([block]), block.get("content"), block, limit)
    return found


def _made(blocks: list[Block], content: Any, entry: dict[str, Any], limit: int) -> list[ToolResult]:
    size, success = result_bytes(content), success_of(entry)
    return [
        ToolResult(id=block.call_id or "", text=block.text[:limit], result_bytes=size, success=success)
        for block in blocks
    ]
