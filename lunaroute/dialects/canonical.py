"""Requests and answers of any dialect as one conversation for people. Pure; never raises, whatever the bytes are."""

from __future__ import annotations

from typing import Any

from lunaroute._fast.sse import Events
from lunaroute.dialects import anthropic, openai_chat, openai_responses
from lunaroute.dialects.answer import Answer
from lunaroute.dialects.blocks import Block, Conversation, Message, error_text
from lunaroute.dialects.values import loads
from lunaroute.wire.sse import BOM

__all__ = ["Block", "Conversation", "Message", "conversation"]

_DIALECTS = {module.NAME: module for module in (anthropic, openai_chat, openai_responses)}
_ANSWERS: dict[str, type[Answer]] = {
    anthropic.NAME: anthropic.AnthropicAnswer,
    openai_chat.NAME: openai_chat.ChatAnswer,
    openai_responses.NAME: openai_responses.ResponsesAnswer,
}
_BLANKS = b" \t\r\n"


def conversation(dialect: str, request_body: bytes, response_body: bytes) -> Conversation:
    """What was said. Cut or broken bodies give what can be read of them, unknown dialects nothing."""
    module = _DIALECTS.get(dialect)
    if module is None:
        return Conversation(error=_plain_error(response_body))
    found = Conversation()
    asked = loads(request_body) if request_body else None
    if isinstance(asked, dict):
        found.system, found.messages, found.tools = module.request(asked)
    start = response_body[:4096].removeprefix(BOM).lstrip(_BLANKS)
    if not start:
        return found
    answer = _ANSWERS[dialect](text_limit=len(response_body) + 4096)
    if start[:1] in (b"{", b"[", b"<"):
        value = loads(response_body)
        if not isinstance(value, dict):
            return found
        answer.document(value)
    else:
        events = Events(deltas=answer.deltas)
        for event in (*events.feed((response_body,)), *events.finish()):
            answer.take(event)
    found.answer, found.error = answer.message(), answer.facts.error
    return found


def _plain_error(body: bytes) -> str | None:
    value: Any = loads(body) if body[:1] == b"{" and len(body) < 65536 else None
    if isinstance(value, dict):
        return error_text(value.get("error")) or error_text(value.get("detail"))
    return None
