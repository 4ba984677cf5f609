"""A conversation in words that are no vendor's: what people see of a request and its answer. Values only."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lunaroute.dialects.values import clean, dumps, mapping

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
