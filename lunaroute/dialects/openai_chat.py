"""OpenAI Chat Completions, and the many servers that speak it. Must not know headers or transport."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.answer import Answer
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, other, said, text_block, word
from lunaroute.dialects.values import clean, fields, items, loads, mapping, text, whole
from lunaroute.records import Usage

NAME = "chat"


class _Chunk(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class ChatAnswer(Answer):
    """Usage may sit in any chunk, and a last chunk may say null: the last one told wins."""

    def event(self, name: str, data: bytes) -> None:
        facts = self.facts
        if data.strip() == b"[DONE]":
            facts.done = True
            return
        chunk = fields(_decoder, data)
        if chunk is None:
            return
        if chunk.error is not None or name == "error":
            facts.error = error_text(chunk.error) or "error"
        # the first chunk of some servers has an empty id and model
        facts.response_id = facts.response_id or text(chunk.id)
        facts.model = text(chunk.model) or facts.model
        facts.usage.service_tier = text(chunk.service_tier) or facts.usage.service_tier
        for choice in items(chunk.choices):
            self._choice(mapping(choice))
        merge(facts.usage, chunk.usage)

    def _choice(self, choice: dict[str, Any]) -> None:
        facts = self.facts
        delta = mapping(choice.get("delta")) or mapping(choice.get("message"))
        if not facts.content:
            facts.content = any(delta.get(key) for key in _CONTENT) or bool(choice.get("text"))
        reason = text(choice.get("finish_reason"))
        if reason is not None:
            facts.stop_reason = reason

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("error") is not None or "detail" in value:
            facts.error = error_text(value.get("error")) or error_text(value.get("detail")) or "error"
            return
        facts.response_id = text(value.get("id"))
        facts.model = text(value.get("model"))
        facts.usage.service_tier = text(value.get("service_tier"))
        for choice in items(value.get("choices")):
            self._choice(mapping(choice))
        merge(facts.usage, value.get("usage"))

    def close(self) -> None:
        # servers that leave [DONE] out have ended with the finish reason
        self.facts.done = self.facts.done or self.facts.stop_reason is not None
        super().close()


_CONTENT = ("content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning", "audio")


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told; `null` usage tells nothing."""
    if not isinstance(told, dict):
        return
    read = mapping(told.get("prompt_tokens_details"))
    written = mapping(told.get("completion_tokens_details"))
    audio = [whole(read.get("audio_tokens")), whole(written.get("audio_tokens"))]
    cached = read.get("cached_tokens")
    for name, value in (
        ("input_tokens", told.get("prompt_tokens")),
        ("output_tokens", told.get("completion_tokens")),
        ("thinking_tokens", written.get("reasoning_tokens")),
        ("cache_read_tokens", told.get("num_cached_tokens") if cached is None else cached),
        ("cache_write_tokens", read.get("cache_write_tokens")),
        ("audio_tokens", sum(a or 0 for a in audio) if any(a is not None for a in audio) else None),
    ):
        count = whole(value)
        if count is not None:
            setattr(usage, name, count)


# --- as a conversation ----------------------------------------------------------------------------
def request(body: dict[str, Any]) -> tuple[list[Block], list[Message], list[str]]:
    """(system, messages, names of tools). System messages stay where they are."""
    messages = [_message(mapping(entry)) for entry in items(body.get("messages"))]
    tools = []
    for tool in (*items(body.get("tools")), *items(body.get("functions"))):
        entry = mapping(tool)
        named = mapping(entry.get("function")) or mapping(entry.get("custom")) or entry
        if name := word(named.get("name")):
            tools.append(name)
    return [], messages, tools


def _message(entry: dict[str, Any]) -> Message:
    role = entry.get("role")
    if role in ("tool", "function"):
        shown = "\n".join(block.text for block in _content(entry.get("content")))
        return Message(
            "tool", [Block("tool_result", shown, name=word(entry.get("name")), call_id=word(entry.get("tool_call_id")))]
        )
    if role == "assistant":
        return Message("assistant", _assistant(entry))
    return Message("system" if role in ("system", "developer") else "user", _content(entry.get("content")))


def _assistant(entry: dict[str, Any]) -> list[Block]:
    blocks = []
    thought = entry.get("reasoning_content") or entry.get("reasoning")
    if thought:
        blocks.append(Block("thinking", said(thought)))
    blocks += _content(entry.get("content"))
    if entry.get("refusal"):
        blocks.append(Block("text", said(entry["refusal"]), name="refusal"))
    if entry.get("function_call"):
        blocks.append(_call({"function": entry["function_call"]}))
    blocks += [_call(mapping(call)) for call in items(entry.get("tool_calls"))]
    return blocks


def _call(call: dict[str, Any]) -> Block:
    function = mapping(call.get("function"))
    custom = mapping(call.get("custom"))
    return Block(
        "tool_call",
        name=word(function.get("name") or custom.get("name")),
        call_id=word(call.get("id")),
        arguments=said(function.get("arguments", custom.get("input", ""))),
    )


def _content(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [text_block(content)] if content else []
    return [_part(part) for part in items(content)]


def _part(entry: Any) -> Block:
    part = mapping(entry)
    kind = part.get("type")
    if kind == "text":
        return text_block(part.get("text"))
    if kind == "refusal":
        return Block("text", said(part.get("refusal")), name="refusal")
    if kind == "thinking":
        return Block("thinking", said(part.get("thinking")))
    if kind == "image_url":
        url = part.get("image_url")
        shown, media = data_url(mapping(url).get("url") if isinstance(url, dict) else url)
        return Block("image", shown, media_type=media)
    if kind == "file":
        return Block("document", "", name=word(mapping(part.get("file")).get("filename")))
    return other(entry)


def answer(value: dict[str, Any]) -> tuple[Message | None, str | None]:
    """(message, error) of a whole answer; of several choices the blocks follow each other."""
    if value.get("error") is not None or "detail" in value:
        return None, error_text(value.get("error")) or error_text(value.get("detail")) or "error"
    choices = [mapping(choice) for choice in items(value.get("choices"))]
    if not choices:
        return None, None
    blocks: list[Block] = []
    for choice in choices:
        blocks += _assistant(mapping(choice.get("message")))
        if isinstance(choice.get("text"), str):
            blocks.append(text_block(choice["text"]))
    return Message("assistant", blocks), None


class Assembly:
    """Builds the whole message from the chunks of a stream."""

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}
        self._error: str | None = None

    def event(self, name: str, data: bytes) -> None:
        value = mapping(loads(data))
        if value.get("error") is not None:
            self._error = error_text(value["error"]) or "error"
        for entry in items(value.get("choices")):
            choice = mapping(entry)
            message = self._choices.setdefault(whole(choice.get("index")) or 0, {})
            delta = mapping(choice.get("delta")) or {"content": choice.get("text")}
            for key in ("reasoning_content", "reasoning", "refusal"):
                if isinstance(delta.get(key), str):
                    message.setdefault(key, []).append(delta[key])
            self._text(message, delta.get("content"))
            if isinstance(delta.get("function_call"), dict):
                self._call(message, 0, {"function": delta["function_call"]})
            for number, call in enumerate(items(delta.get("tool_calls"))):
                place = whole(mapping(call).get("index"))
                self._call(message, number if place is None else place, mapping(call))

    def _text(self, message: dict[str, Any], content: Any) -> None:
        parts = [content] if isinstance(content, str) else [mapping(part).get("text") for part in items(content)]
        message.setdefault("content", []).extend(part for part in parts if isinstance(part, str))

    def _call(self, message: dict[str, Any], place: int, delta: dict[str, Any]) -> None:
        calls = message.setdefault("calls", {})
        ident, named = word(delta.get("id")), word(mapping(delta.get("function")).get("name"))
        call = calls.setdefault(place, {"id": ident, "name": named, "arguments": []})
        call["id"] = call["id"] or ident  # repeated in every delta by some servers
        call["name"] = call["name"] or named or word(mapping(delta.get("custom")).get("name"))
        given = mapping(delta.get("function")).get("arguments", mapping(delta.get("custom")).get("input"))
        if isinstance(given, str):
            call["arguments"].append(given)

    def result(self) -> tuple[Message | None, str | None]:
        """(message, error); the message holds what had come."""
        blocks: list[Block] = []
        for _, message in sorted(self._choices.items()):
            whole_message = {key: "".join(pieces) for key, pieces in message.items() if key != "calls"}
            blocks += _assistant(whole_message)
            for _, call in sorted(message.get("calls", {}).items()):
                arguments = clean("".join(call["arguments"]))
                blocks.append(Block("tool_call", name=call["name"], call_id=call["id"], arguments=arguments))
        return (Message("assistant", blocks) if self._choices else None), self._error
