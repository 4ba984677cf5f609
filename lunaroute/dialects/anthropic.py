"""Anthropic Messages: facts of answers, and requests and answers as a conversation. Must not know transport."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.answer import TEXT_LIMIT, Answer, Gathered
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, error_word, other, said, text_block, word
from lunaroute.dialects.results import result_bytes, success_of
from lunaroute.dialects.values import clean, dumps, fields, items, mapping, strict, text, whole
from lunaroute.records import Usage, UsagePart

NAME = "anthropic"


class _Event(msgspec.Struct):
    type: Any = None
    index: Any = None
    message: Any = None
    content_block: Any = None
    delta: Any = None
    usage: Any = None
    error: Any = None


class _Piece(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    content: str | None = None


class _Delta(msgspec.Struct):
    delta: _Piece
    index: int = 0


_decoder = msgspec.json.Decoder(_Event)
_delta = msgspec.json.Decoder(_Delta)
# delta type -> what it adds to, and the type of a block that was never begun
_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "tool_use"),
    "compaction_delta": ("content", "compaction"),
}
_MAX_BLOCKS = 16384


class _Part:
    """A content block on its way.

    takes: the field of the deltas that go into it; held: room that its start has taken; cut: bytes for which there was
    none.
    """

    __slots__ = ("cut", "done", "gathered", "given", "held", "takes")

    def __init__(self, given: dict[str, Any], gathered: Gathered) -> None:
        self.given = given
        self.gathered = gathered
        self.takes = _takes(given.get("type"))
        self.done: Block | None = None
        self.held = self.cut = 0


def _takes(kind: Any) -> str | None:
    if _is_call(kind):
        return "partial_json"
    return {"text": "text", "thinking": "thinking", "compaction": "content"}.get(str(kind))


def _is_call(kind: Any) -> bool:
    # tool_use, server_tool_use, mcp_tool_use, and the ones to come
    return isinstance(kind, str) and kind.endswith("tool_use")


class AnthropicAnswer(Answer):
    """Usage rules (apis.md 7.8): a later figure replaces an earlier one, even by a smaller one; a missing one keeps it.

    Two messages in one stream (told by their ids) are both paid for, so their figures are added.
    """

    deltas = True

    def __init__(self, text_limit: int = TEXT_LIMIT) -> None:
        super().__init__(text_limit)
        self._before: list[tuple[str | None, Usage]] = []  # model and usage of the messages before the current one
        self._current: str | None = None
        self._asked: str | None = None  # the model at the message's start, before any fallback
        self._parts: list[_Part] = []
        self._open: dict[int, _Part] = {}
        self._begun = False

    def event(self, name: str, data: bytes) -> None:
        facts = self.facts
        if name == "content_block_delta":
            # by far the most frequent event; as Anthropic itself writes it, it comes to `delta`
            found = strict(_delta, data)
            if found is not None:
                facts.content = True
                piece = found.delta
                self._add(found.index, piece.type, piece.text or piece.thinking or piece.partial_json or piece.content)
                return
        elif name == "ping":
            return
        self._other(name, data)

    def delta(self, index: int, kind: str, text: str) -> None:
        self.facts.content = True
        self._add(index, kind, text)

    def _other(self, name: str, data: bytes) -> None:
        facts = self.facts
        found = fields(_decoder, data)
        if found is None:
            return
        kind = found.type if isinstance(found.type, str) else name
        if kind == "message_start":
            self._start(mapping(found.message))
        elif kind == "message_delta":
            delta = mapping(found.delta)
            self._diagnose(delta)
            merge(facts.usage, found.usage)
            self._stop(text(delta.get("stop_reason")))
        elif kind == "message_stop":
            facts.done = True
            self._complete()
        elif kind == "error":
            self._fail(found.error)
        elif kind == "content_block_start":
            facts.content = True
            self._begin(whole(found.index) or 0, mapping(found.content_block))
        elif kind == "content_block_stop":
            facts.content = True
            part = self._open.pop(whole(found.index) or 0, None)
            if part is not None:
                self._end(part)
        elif kind == "content_block_delta":
            facts.content = True
            delta = mapping(found.delta)
            told = text(delta.get("type")) or ""
            piece = delta.get(_DELTAS.get(told, ("", ""))[0])
            self._add(whole(found.index) or 0, told, piece if isinstance(piece, str) else None)

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("type") == "error" or ("content" not in value and value.get("error") is not None):
            self._fail(value.get("error"))
            facts.response_id = text(value.get("request_id"))
            return
        facts.response_id = text(value.get("id"))
        facts.model = self._asked = text(value.get("model"))
        facts.stop_reason = text(value.get("stop_reason"))
        self._diagnose(value)
        merge(facts.usage, value.get("usage"))
        self._begun = "content" in value
        for entry in items(value.get("content")):
            self._whole(mapping(entry))

    def blocks(self) -> list[Block] | None:
        if not self._begun:
            return None
        return [part.done if part.done is not None else _joined(part) for part in self._parts]

    def close(self) -> None:
        super().close()
        facts = self.facts
        usage = facts.usage
        _fill_main(usage)
        if self._asked != facts.model:
            for part in usage.parts:
                # a step that names no model was the asked one's, now that another one answered
                part.model = part.model or self._asked
        if self._before:
            self._sum()
        _fill_split(usage)
        _count_steps(facts.usage)

    # --- messages --------------------------------------------------------------------------------------
    def _start(self, message: dict[str, Any]) -> None:
        facts = self.facts
        ident = text(message.get("id"))
        repeated = self._current is not None and (ident is None or ident == self._current)
        if self._current is not None and not repeated:
            self._before.append((facts.model, facts.usage))
            facts.usage = Usage()
            facts.done = False
            self._complete()
        self._current = ident or self._current or ""
        self._begun = True
        facts.response_id = ident or facts.response_id
        facts.model = text(message.get("model")) or facts.model
        self._asked = facts.model
        content = items(message.get("content"))
        facts.content = facts.content or bool(content)
        if not (repeated and self._parts):
            for entry in content:
                self._whole(mapping(entry))
        self._diagnose(message)
        merge(facts.usage, message.get("usage"))
        self._stop(text(message.get("stop_reason")))

    def _stop(self, reason: str | None) -> None:
        if reason is not None:
            self.facts.stop_reason = reason
            # the figures that come with a stop reason are final, whether or not message_stop follows
            self.facts.done = True
            self._complete()

    def _fail(self, error: Any) -> None:
        self.facts.error = error_text(error) or "error"
        self.facts.error_kind = error_word(error)

    def _diagnose(self, told: dict[str, Any]) -> None:
        reason = mapping(told.get("diagnostics")).get("cache_miss_reason")
        found = text(mapping(reason).get("type")) if isinstance(reason, dict) else text(reason)
        self.facts.cache_miss_reason = found or self.facts.cache_miss_reason

    def _sum(self) -> None:
        """Figures of several messages in one: counts are added, and where prices may differ each is a step."""
        facts = self.facts
        total = Usage(partial=facts.usage.partial)
        each = [*self._before, (facts.model, facts.usage)]
        apart = len({model for model, _ in each}) > 1 or any(usage.parts for _, usage in each)
        for model, usage in each:
            _fill_main(usage)
            _fill_split(usage)
            add(total, usage)
            if apart:
                total.parts += usage.parts or [_step(model, usage)]
        facts.usage = total

    # --- content ---------------------------------------------------------------------------------------
    def _part(self, given: dict[str, Any]) -> _Part:
        part = _Part(given, Gathered(self.room))
        if len(self._parts) < _MAX_BLOCKS:
            self._parts.append(part)
        self._begun = True
        return part

    def _begin(self, index: int, given: dict[str, Any]) -> None:
        before = self._open.pop(index, None)
        if before is not None:
            self._end(before)
        part = self._part(given)
        if part.takes is None or len(self._open) >= _MAX_BLOCKS:
            self._end(part)  # all of it is here
        else:
            self._open[index] = part
            self._hold(part)

    def _hold(self, part: _Part) -> None:
        """Keep of an open block's start only what there is room for."""
        given = part.given
        part.given = {"type": given.get("type"), "id": word(given.get("id")), "name": word(given.get("name"))}
        if part.takes != "partial_json":
            begun = given.get(str(part.takes))
            if isinstance(begun, str) and begun:
                part.gathered.add(begun)
        elif given.get("input"):
            whole_input = given["input"] if isinstance(given["input"], str) else dumps(given["input"])
            part.given["input"] = whole_input[: self.room.left]
            part.held = len(part.given["input"])
            part.cut = len(whole_input[part.held :].encode("utf-8", "replace"))
            self.room.left -= part.held

    def _whole(self, given: dict[str, Any]) -> None:
        self._end(self._part(given))

    def _add(self, index: int, kind: str, piece: str | None) -> None:
        known = _DELTAS.get(kind)
        if known is None or not piece:
            return
        part = self._open.get(index)
        if part is None:
            if len(self._parts) >= _MAX_BLOCKS:
                return
            part = self._open[index] = self._part({"type": known[1]})
        if known[0] == part.takes:
            part.gathered.add(piece)

    def _complete(self) -> None:
        """The message is over: so are blocks whose stop was not sent."""
        for part in self._open.values():
            self._end(part)
        self._open.clear()

    def _end(self, part: _Part) -> None:
        block = _joined(part)
        kind = part.given.get("type")
        size = len((block.arguments or "").encode()) + (part.gathered.lost if part.gathered else part.cut)
        part.gathered.release()
        self.room.left += part.held
        part.done = self.bound(block)
        if _is_call(kind):
            self.called(block, _CALL_KINDS.get(str(kind), "function"), size)
        elif block.kind == "tool_result":
            self.returned(block, result_bytes(part.given.get("content")), success_of(part.given))
        elif kind == "fallback":
            self.facts.model = text(mapping(part.given.get("to")).get("model")) or self.facts.model
        part.given = {}  # results of the vendor's tools bring pages with them


_CALL_KINDS = {"server_tool_use": "server", "mcp_tool_use": "mcp"}


def _joined(part: _Part) -> Block:
    """The block as it is now."""
    given, pieces = part.given, part.gathered
    if not pieces:
        return _block(given)
    if part.takes == "partial_json":
        return _block({**given, "input": pieces.text()})
    if part.takes is None:
        return _block(given)
    return _block({**given, part.takes: pieces.text()})


_FIGURES = (
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
    *("cache_write_5m_tokens", "cache_write_1h_tokens"),
)


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told."""
    if not isinstance(told, dict):
        return
    served = mapping(told.get("server_tool_use"))
    _figures(usage, told)
    for name, value in (
        ("thinking_tokens", mapping(told.get("output_tokens_details")).get("thinking_tokens")),
        ("web_search_requests", served.get("web_search_requests")),
        ("web_fetch_requests", served.get("web_fetch_requests")),
    ):
        count = whole(value)
        if count is not None:
            setattr(usage, name, count)
    usage.service_tier = text(told.get("service_tier")) or usage.service_tier
    usage.speed = text(told.get("speed")) or usage.speed
    usage.inference_geo = text(told.get("inference_geo")) or usage.inference_geo
    if isinstance(told.get("iterations"), list):
        usage.parts = [_iteration(entry) for entry in told["iterations"][:1024] if isinstance(entry, dict)]


def _figures(usage: Usage | UsagePart, told: dict[str, Any]) -> None:
    split = mapping(told.get("cache_creation"))
    for name, value in (
        ("input_tokens", told.get("input_tokens")),
        ("output_tokens", told.get("output_tokens")),
        ("cache_read_tokens", told.get("cache_read_input_tokens")),
        ("cache_write_tokens", told.get("cache_creation_input_tokens")),
        ("cache_write_5m_tokens", split.get("ephemeral_5m_input_tokens")),
        ("cache_write_1h_tokens", split.get("ephemeral_1h_input_tokens")),
    ):
        count = whole(value)
        if count is not None:
            setattr(usage, name, count)


def _iteration(told: dict[str, Any]) -> UsagePart:
    part = UsagePart(kind=text(told.get("type")) or "message", model=text(told.get("model")))
    _figures(part, told)
    return part


def _step(model: str | None, usage: Usage) -> UsagePart:
    return UsagePart(kind="message", model=model, **{name: getattr(usage, name) for name in _FIGURES})


def _fill_main(usage: Usage) -> None:
    """The answer's own step where only the others are listed: the figures beside the list are its."""
    if usage.parts and not any(part.kind == "message" for part in usage.parts):
        own = _step(None, usage)
        if any(getattr(own, name) for name in _FIGURES):
            usage.parts.insert(0, own)


def _fill_split(usage: Usage) -> None:
    """The TTL split where only the steps tell it, and tell all of it."""
    told = usage.cache_write_5m_tokens is not None or usage.cache_write_1h_tokens is not None
    if told or not usage.cache_write_tokens:
        return
    steps = [part for part in usage.parts if part.kind == "message"]
    short = sum(part.cache_write_5m_tokens or 0 for part in steps)
    long = sum(part.cache_write_1h_tokens or 0 for part in steps)
    if short + long == usage.cache_write_tokens:
        usage.cache_write_5m_tokens, usage.cache_write_1h_tokens = short, long


def _count_steps(usage: Usage) -> None:
    """The top level leaves out compactions, advisors and fallbacks, which are paid for like the rest: where the steps
    are told, what was used is their sum."""
    for name in _FIGURES:
        told = [count for part in usage.parts if (count := getattr(part, name)) is not None]
        if told:
            setattr(usage, name, sum(told))


def add(total: Usage, part: Usage) -> None:
    """total += part, where None stays None if neither knows."""
    for name in (*_FIGURES, "thinking_tokens", "web_search_requests", "web_fetch_requests"):
        value = getattr(part, name)
        if value is not None:
            setattr(total, name, (getattr(total, name) or 0) + value)
    # the last message's word counts
    total.service_tier = part.service_tier or total.service_tier
    total.speed = part.speed or total.speed
    total.inference_geo = part.inference_geo or total.inference_geo


# --- as a conversation ----------------------------------------------------------------------------
def request(body: dict[str, Any]) -> tuple[list[Block], list[Message], list[str]]:
    """(system, messages, names of tools)."""
    messages = [message(mapping(entry)) for entry in items(body.get("messages"))]
    tools = [name for tool in items(body.get("tools")) if (name := word(mapping(tool).get("name")))]
    return blocks(body.get("system")), messages, tools


def message(entry: dict[str, Any]) -> Message:
    """One of `messages`."""
    role = entry.get("role")
    found = blocks(entry.get("content"))
    if role == "assistant":
        return Message("assistant", found)
    if role == "system":
        return Message("system", found)
    return Message("tool" if found and all(block.kind == "tool_result" for block in found) else "user", found)


def blocks(content: Any) -> list[Block]:
    """Content or `system`: a string, or a list of blocks."""
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
    if kind == "compaction":
        return Block("text", said(block.get("content")), name="compaction")
    if _is_call(kind):
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
        if "text" in block:
            parts.append(said(block["text"]))
        elif kind == "web_search_result":
            # the page itself is there only encrypted
            parts.append(f"{said(block.get('title'))}\n{said(block.get('url'))}")
        else:
            parts.append(f"[{kind}]" if kind == "image" else said(entry))
    return "\n".join(parts)
