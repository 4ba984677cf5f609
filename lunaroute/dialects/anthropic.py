"""Anthropic Messages: facts of answers, and requests and answers as a conversation. Must not know transport."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.answer import Answer
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, other, said, text_block, word
from lunaroute.dialects.values import clean, dumps, fields, items, loads, mapping, text, whole
from lunaroute.records import Usage

NAME = "anthropic"


class _Event(msgspec.Struct):
    type: Any = None
    message: Any = None
    delta: Any = None
    usage: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Event)
# by far the most frequent events, and they tell nothing but that content flows
_CONTENT = ("content_block_delta", "content_block_start", "content_block_stop")


class AnthropicAnswer(Answer):
    """Usage rules (apis.md 7.8): a later figure replaces an earlier one, even by a smaller one; a missing one keeps it.

    Two messages in one stream (told by their ids) are both paid for, so their figures are added.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before = Usage()
        self._current: str | None = None

    def event(self, name: str, data: bytes) -> None:
        facts = self.facts
        if name in _CONTENT:
            facts.content = True
            return
        found = fields(_decoder, data)
        if found is None:
            return
        kind = found.type if isinstance(found.type, str) else name
        if kind == "message_start":
            self._start(mapping(found.message))
        elif kind == "message_delta":
            self._stop(text(mapping(found.delta).get("stop_reason")))
            merge(facts.usage, found.usage)
        elif kind == "message_stop":
            facts.done = True
        elif kind == "error":
            facts.error = error_text(found.error) or "error"
        elif kind in _CONTENT:
            facts.content = True

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("type") == "error":
            facts.error = error_text(value.get("error")) or "error"
            facts.response_id = text(value.get("request_id"))
            return
        facts.model = text(value.get("model"))
        facts.response_id = text(value.get("id"))
        facts.stop_reason = text(value.get("stop_reason"))
        merge(facts.usage, value.get("usage"))

    def _start(self, message: dict[str, Any]) -> None:
        facts = self.facts
        ident = text(message.get("id"))
        if self._current is not None and ident is not None and ident != self._current:
            add(self._before, facts.usage)
            facts.usage = Usage()
            facts.done = False
        self._current = ident or self._current
        facts.response_id = ident or facts.response_id
        facts.model = text(message.get("model")) or facts.model
        facts.content = facts.content or bool(items(message.get("content")))
        merge(facts.usage, message.get("usage"))
        self._stop(text(message.get("stop_reason")))

    def _stop(self, reason: str | None) -> None:
        if reason is not None:
            self.facts.stop_reason = reason
            # the figures that come with a stop reason are final, whether or not message_stop follows
            self.facts.done = True

    def close(self) -> None:
        super().close()
        add(self.facts.usage, self._before)


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told."""
    if not isinstance(told, dict):
        return
    split = mapping(told.get("cache_creation"))
    for name, value in (
        ("input_tokens", told.get("input_tokens")),
        ("output_tokens", told.get("output_tokens")),
        ("thinking_tokens", mapping(told.get("output_tokens_details")).get("thinking_tokens")),
        ("cache_read_tokens", told.get("cache_read_input_tokens")),
        ("cache_write_tokens", told.get("cache_creation_input_tokens")),
        ("cache_write_5m_tokens", split.get("ephemeral_5m_input_tokens")),
        ("cache_write_1h_tokens", split.get("ephemeral_1h_input_tokens")),
    ):
        count = whole(value)
        if count is not None:
            setattr(usage, name, count)
    usage.service_tier = text(told.get("service_tier")) or usage.service_tier


def add(total: Usage, part: Usage) -> None:
    """total += part, where None stays None if neither knows."""
    for name in (
        *("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens"),
        *("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_tokens"),
    ):
        value = getattr(part, name)
        if value is not None:
            setattr(total, name, (getattr(total, name) or 0) + value)
    total.service_tier = total.service_tier or part.service_tier


# --- as a conversation ----------------------------------------------------------------------------
def request(body: dict[str, Any]) -> tuple[list[Block], list[Message], list[str]]:
    """(system, messages, names of tools)."""
    messages = [_message(mapping(entry)) for entry in items(body.get("messages"))]
    tools = [name for tool in items(body.get("tools")) if (name := word(mapping(tool).get("name")))]
    return _blocks(body.get("system")), messages, tools


def _message(entry: dict[str, Any]) -> Message:
    role = entry.get("role")
    blocks = _blocks(entry.get("content"))
    if role == "assistant":
        return Message("assistant", blocks)
    if role == "system":
        return Message("system", blocks)
    return Message("tool" if blocks and all(block.kind == "tool_result" for block in blocks) else "user", blocks)


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [text_block(content)] if content else []
    return [_block(entry) for entry in items(content)]


def _block(entry: Any) -> Block:
    block = mapping(entry)
    kind = block.get("type")
    if kind == "text":
        return text_block(block.get("text"))
    if kind == "thinking":
        return Block("thinking", said(block.get("thinking")))
    if kind == "redacted_thinking":
        return Block("thinking", "", name="redacted")
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
        given = block.get("input")
        arguments = given if isinstance(given, str) else dumps({} if given is None else given)
        return Block(
            "tool_call", name=word(block.get("name")), call_id=word(block.get("id")), arguments=clean(arguments)
        )
    if isinstance(kind, str) and kind.endswith("tool_result"):
        failed = block.get("is_error")
        return Block(
            "tool_result",
            _result_text(block.get("content")),
            name=word(block.get("name")),
            call_id=word(block.get("tool_use_id")),
            is_error=failed if isinstance(failed, bool) else None,
        )
    if kind in ("image", "document"):
        source = mapping(block.get("source"))
        shown, media = data_url(source.get("url"))
        if source.get("type") == "text":
            shown = said(source.get("data"))
        media = word(source.get("media_type")) or media
        return Block("image" if kind == "image" else "document", shown, name=word(block.get("title")), media_type=media)
    return other(entry)


def _result_text(content: Any) -> str:
    if not isinstance(content, list):
        return said(content)
    parts = []
    for entry in content:
        block = mapping(entry)
        kind = block.get("type")
        parts.append(said(block["text"]) if "text" in block else f"[{kind}]" if kind == "image" else said(entry))
    return "\n".join(parts)


def answer(value: dict[str, Any]) -> tuple[Message | None, str | None]:
    """(message, error) of a whole answer."""
    if value.get("type") == "error" or ("error" in value and "content" not in value):
        return None, error_text(value.get("error")) or "error"
    if "content" not in value:
        return None, None
    return Message("assistant", _blocks(value.get("content"))), None


class Assembly:
    """Builds the whole message from the events of a stream."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._places: dict[int, dict[str, Any]] = {}
        self._error: str | None = None
        self._begun = False

    def event(self, name: str, data: bytes) -> None:
        value = mapping(loads(data))
        kind = value.get("type") or name
        if kind == "message_start":
            message = mapping(value.get("message"))
            self._begun = True
            self._places.clear()  # a second message counts its blocks from 0 again
            self._blocks += [dict(mapping(block)) for block in items(message.get("content"))]
        elif kind == "content_block_start":
            self._begun = True
            block = dict(mapping(value.get("content_block")))
            self._places[whole(value.get("index")) or 0] = block
            self._blocks.append(block)
        elif kind == "content_block_delta":
            self._begun = True
            self._delta(whole(value.get("index")) or 0, mapping(value.get("delta")))
        elif kind == "error":
            self._error = error_text(value.get("error")) or "error"

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        kind = delta.get("type")
        block = self._places.get(index)
        if block is None:
            block = self._places[index] = {"type": "thinking" if kind == "thinking_delta" else "text"}
            self._blocks.append(block)
        for delta_kind, source, target in (
            ("text_delta", "text", "text"),
            ("thinking_delta", "thinking", "thinking"),
            ("input_json_delta", "partial_json", "_json"),
        ):
            if kind == delta_kind:
                block.setdefault("_" + target, []).append(said(delta.get(source)))

    def result(self) -> tuple[Message | None, str | None]:
        """(message, error); the message holds what had come."""
        for block in self._blocks:
            for name in ("text", "thinking"):
                if pieces := block.pop("_" + name, None):
                    block[name] = said(block.get(name)) + "".join(pieces)
            if pieces := block.pop("__json", None):
                block["input"] = "".join(pieces)
        message = Message("assistant", [_block(block) for block in self._blocks]) if self._begun else None
        return message, self._error
