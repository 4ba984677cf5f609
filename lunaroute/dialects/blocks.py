"""A conversation in words that are no vendor's: what people see of a request and its answer. Values only."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lunaroute.dialects.values import clean, dumps, loads, mapping
from lunaroute.records import Text

Role = Literal["user", "assistant", "system", "tool"]
Kind = Literal["text", "thinking", "tool_call", "tool_result", "image", "document", "other"]


class Block(msgspec.Struct, omit_defaults=True):
    """A piece of a message. `arguments` is JSON text as the vendor sent it (it may be cut or invalid)."""

    kind: Kind
    text: str = ""
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    is_error: bool | None = None
    media_type: str | None = None


class Message(msgspec.Struct, omit_defaults=True):
    """What one side said."""

    role: Role
    blocks: list[Block]


class Conversation(msgspec.Struct, omit_defaults=True):
    """A request with its answer; `tools` are names of what the model was offered."""

    system: list[Block] = msgspec.field(default_factory=list)
    messages: list[Message] = msgspec.field(default_factory=list)
    answer: Message | None = None
    tools: list[str] = msgspec.field(default_factory=list)
    error: str | None = None


def said(value: Any) -> str:
    """Anything as text for people: a string as it is, the rest as JSON."""
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else dumps(value)


def word(value: Any) -> str | None:
    """A name or id, or None."""
    return clean(value, 512) if isinstance(value, str) and value else None


def text_block(value: Any) -> Block:
    return Block("text", said(value))


def other(item: Any) -> Block:
    """A block of a type we have no word for: its type as name, itself as JSON."""
    return Block("other", said(item), name=word(mapping(item).get("type")))


def data_url(url: Any) -> tuple[str, str | None]:
    """What to show of an image address: (text, media type). The content of a data: URL is not repeated."""
    shown = said(url)
    if shown.startswith("data:"):
        media = shown[5:60].split(",")[0].split(";")[0]
        return "", media or None
    return shown[:2048], None


def error_text(error: Any) -> str | None:
    """A vendor's error value in one line: `type: message`."""
    if isinstance(error, str):
        return clean(error, 2000) or None
    if not isinstance(error, dict) or not error:
        return None
    kind = word(error.get("type")) or word(error.get("code"))
    message = error.get("message")
    shown = said(message if message is not None else error)
    return clean(f"{kind}: {shown}" if kind else shown, 2000)


def error_word(error: Any) -> str | None:
    """The vendor's own word for an error: its code where that is a word (it says more), else its type."""
    found = mapping(error)
    for key in ("code", "type"):
        value = found.get(key)
        if isinstance(value, str) and value and not value.isdigit() and value != "error":
            return clean(value, 128)
    return None


# --- as text to be searched --------------------------------------------------------------------------
_KINDS = {"user": "prompt", "system": "prompt", "tool": "tool_result", "assistant": "answer"}


def texts_of(message: Message) -> list[Text]:
    """What is worth searching in a message. Images, files and what no word is known for are not."""
    found = []
    for block in message.blocks:
        if block.kind == "text":
            kind, shown = _KINDS[message.role], block.text
        elif block.kind == "thinking":
            kind, shown = "thinking", block.text
        elif block.kind == "tool_call":
            kind, shown = "tool_call", _called(block)
        elif block.kind in ("tool_result", "document"):
            kind, shown = ("tool_result" if block.kind == "tool_result" else "prompt"), block.text
        else:
            continue
        if shown:
            found.append(Text(kind=kind, text=shown))
    return found


def _called(block: Block) -> str:
    """Name and arguments. As JSON text the words would hide behind escapes: a newline is `\\n` there."""
    arguments = block.arguments or ""
    value = loads(arguments.encode("utf-8", "replace")) if arguments.startswith("{") else None
    if isinstance(value, dict):
        arguments = "\n".join(f"{clean(key)}: {said(inner)}" for key, inner in value.items())
    return f"{block.name or ''}\n{arguments}".strip("\n")
