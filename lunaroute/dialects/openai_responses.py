"""OpenAI Responses, over HTTP and (as events) over WebSocket. Must not know headers or transport."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.answer import Answer
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, other, said, text_block, word
from lunaroute.dialects.values import clean, dumps, fields, items, loads, mapping, text, whole
from lunaroute.records import Usage

NAME = "responses"
FINAL = ("response.completed", "response.incomplete", "response.failed")


class _Event(msgspec.Struct):
    type: Any = None
    response: Any = None
    error: Any = None
    status: Any = None
    status_code: Any = None
    message: Any = None
    code: Any = None


class _Kind(msgspec.Struct):
    type: Any = None


_decoder = msgspec.json.Decoder(_Event)
_kind = msgspec.json.Decoder(_Kind)


def kind_of(name: str, data: bytes) -> str:
    """The event's type: of the data, since some servers send no `event:` lines."""
    if name != "message":
        return name
    found = fields(_kind, data)
    return found.type if found is not None and isinstance(found.type, str) else name


class ResponsesAnswer(Answer):
    """Usage sits in the final event's `response`; `tool_usage` beside it is something else."""

    def event(self, name: str, data: bytes) -> None:
        facts = self.facts
        kind = kind_of(name, data)
        if kind.endswith(".delta"):
            facts.content = True
            return
        if kind.startswith("response.output_item") or kind.startswith("response.content_part"):
            facts.content = facts.content or kind.endswith(".done")
            return
        if kind not in _TOLD:
            return
        found = fields(_decoder, data)
        if found is None:
            return
        if kind == "error":
            facts.error = (
                error_text(found.error) or error_text({"code": found.code, "message": found.message}) or "error"
            )
            facts.error_status = whole(found.status) or whole(found.status_code)
            return
        self._response(mapping(found.response))
        facts.done = facts.done or kind in FINAL
        if kind == "response.failed" and facts.error is None:
            facts.error = "failed"

    def _response(self, response: dict[str, Any]) -> None:
        facts = self.facts
        facts.response_id = text(response.get("id")) or facts.response_id
        facts.model = text(response.get("model")) or facts.model
        # `auto` at the start, the real one at the end: the last wins
        facts.usage.service_tier = text(response.get("service_tier")) or facts.usage.service_tier
        merge(facts.usage, response.get("usage"))
        if response.get("error") is not None:
            facts.error = error_text(response["error"]) or facts.error
        status = text(response.get("status"))
        if status in ("completed", "incomplete", "failed", "cancelled"):
            reason = text(mapping(response.get("incomplete_details")).get("reason"))
            facts.stop_reason = reason or status

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("object") != "response" and (value.get("error") is not None or "detail" in value):
            facts.error = error_text(value.get("error")) or error_text(value.get("detail")) or "error"
            return
        self._response(value)


_TOLD = frozenset((*FINAL, "error", "response.created", "response.in_progress", "response.queued"))


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told."""
    if not isinstance(told, dict):
        return
    read = mapping(told.get("input_tokens_details"))
    for name, value in (
        ("input_tokens", told.get("input_tokens")),
        ("output_tokens", told.get("output_tokens")),
        ("thinking_tokens", mapping(told.get("output_tokens_details")).get("reasoning_tokens")),
        ("cache_read_tokens", read.get("cached_tokens")),
        ("cache_write_tokens", read.get("cache_write_tokens")),
    ):
        count = whole(value)
        if count is not None:
            setattr(usage, name, count)


# --- as a conversation ----------------------------------------------------------------------------
def request(body: dict[str, Any]) -> tuple[list[Block], list[Message], list[str]]:
    """(system, messages, names of tools). Developer messages stay where they are, as system."""
    system = [text_block(body["instructions"])] if body.get("instructions") else []
    given = body.get("input")
    tools = _tools(body.get("tools"))
    if isinstance(given, str):
        return system, [Message("user", [text_block(given)])], tools
    messages: list[Message] = []
    for entry in items(given):
        item = mapping(entry)
        if item.get("type") == "additional_tools":
            tools += _tools(item.get("tools"))
            continue
        message = _item(item, entry)
        # the model's reasoning, words and calls are items of their own: together they are one turn
        if messages and message.role == messages[-1].role and message.role in ("assistant", "tool"):
            messages[-1].blocks += message.blocks
        else:
            messages.append(message)
    return system, messages, tools


def _tools(tools: Any) -> list[str]:
    names = []
    for tool in items(tools):
        entry = mapping(tool)
        if entry.get("type") == "namespace":
            names += [name for inner in items(entry.get("tools")) if (name := word(mapping(inner).get("name")))]
        elif name := word(entry.get("name")) or word(entry.get("type")):
            names.append(name)
    return names


def _item(item: dict[str, Any], entry: Any) -> Message:
    kind = item.get("type")
    if kind in (None, "message") and "content" in item:
        blocks = _content(item.get("content"))
        role = item.get("role")
        if role == "assistant":
            return Message("assistant", blocks)
        return Message("system" if role in ("system", "developer") else "user", blocks)
    if kind == "reasoning":
        return Message("assistant", [Block("thinking", _reasoning(item))])
    if isinstance(kind, str) and kind.endswith("_call_output"):
        failed = item.get("status") in ("failed", "incomplete") or None
        return Message(
            "tool", [Block("tool_result", _output(item), call_id=word(item.get("call_id")), is_error=failed)]
        )
    if isinstance(kind, str) and kind.endswith("_call"):
        return Message("assistant", [_call(kind, item)])
    return Message("user", [other(entry)])


def _call(kind: str, item: dict[str, Any]) -> Block:
    given = next(
        (item[key] for key in ("arguments", "input", "action", "code", "queries") if item.get(key) is not None), ""
    )
    arguments = given if isinstance(given, str) else dumps(given)
    return Block(
        "tool_call",
        name=word(item.get("name")) or kind.removesuffix("_call"),
        call_id=word(item.get("call_id")) or word(item.get("id")),
        arguments=clean(arguments),
    )


def _output(item: dict[str, Any]) -> str:
    output = item.get("output")
    if isinstance(output, list):
        return "\n".join(block.text or f"[{block.kind}]" for block in _content(output))
    return said(output)


def _reasoning(item: dict[str, Any]) -> str:
    parts = [*items(item.get("summary")), *items(item.get("content"))]
    return "\n\n".join(said(mapping(part).get("text")) for part in parts)


def _content(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [text_block(content)] if content else []
    return [_part(part) for part in items(content)]


def _part(entry: Any) -> Block:
    part = mapping(entry)
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return text_block(part.get("text"))
    if kind == "refusal":
        return Block("text", said(part.get("refusal")), name="refusal")
    if kind == "input_image":
        shown, media = data_url(part.get("image_url"))
        return Block("image", shown, media_type=media)
    if kind == "input_file":
        return Block("document", "", name=word(part.get("filename")))
    return other(entry)


def _answer_of(output: list[Any]) -> Message:
    blocks: list[Block] = []
    for entry in output:
        blocks += _item(mapping(entry), entry).blocks
    return Message("assistant", blocks)


def answer(value: dict[str, Any]) -> tuple[Message | None, str | None]:
    """(message, error) of a whole answer."""
    error = value.get("error") if value.get("error") is not None else value.get("detail")
    message = _answer_of(items(value["output"])) if isinstance(value.get("output"), list) else None
    return message, (error_text(error) if error is not None else None)


# delta event -> the item it belongs to, and where the pieces go
_DELTAS = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "function_call",
    "response.custom_tool_call_input.delta": "custom_tool_call",
}


class Assembly:
    """Builds the whole answer from the events of a stream: finished items as they are, the last one from its pieces."""

    def __init__(self) -> None:
        self._items: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, list[str]] = {}
        self._final: list[Any] | None = None
        self._error: str | None = None
        self._begun = False

    def event(self, name: str, data: bytes) -> None:
        kind = kind_of(name, data)
        value = mapping(loads(data))
        place = whole(value.get("output_index")) or 0
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._items[place] = mapping(value.get("item"))
            if kind.endswith("done"):
                self._pieces.pop(place, None)
        elif kind in _DELTAS:
            self._items.setdefault(place, {"type": _DELTAS[kind], "role": "assistant"})
            self._pieces.setdefault(place, []).append(said(value.get("delta")))
        elif kind in FINAL or kind == "response.created":
            response = mapping(value.get("response"))
            self._begun = True
            self._final = items(response.get("output")) if kind in FINAL else None
            if response.get("error") is not None:
                self._error = error_text(response["error"]) or "error"
        elif kind == "error":
            self._error = error_text(value.get("error")) or error_text(value) or "error"

    def result(self) -> tuple[Message | None, str | None]:
        """(message, error); the message holds what had come. The final event's output counts, if it has any."""
        if self._final:
            return _answer_of(self._final), self._error
        output = []
        for place, item in sorted(self._items.items()):
            output.append(self._with_pieces(item, "".join(self._pieces.get(place, ()))))
        message = _answer_of(output) if output or self._begun else None
        return message, self._error

    def _with_pieces(self, item: dict[str, Any], pieces: str) -> dict[str, Any]:
        if not pieces:
            return item
        kind = item.get("type")
        if kind == "message":
            return {**item, "content": [{"type": "output_text", "text": pieces}]}
        if kind == "reasoning":
            return {**item, "summary": [{"type": "summary_text", "text": pieces}], "content": []}
        return {**item, "arguments" if kind == "function_call" else "input": pieces}
