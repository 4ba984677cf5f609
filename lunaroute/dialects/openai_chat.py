"""OpenAI Chat Completions, and the many servers that speak it. Must not know headers or transport."""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.answer import TEXT_LIMIT, Answer, Gathered, Room
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, error_word, other, said, text_block, word
from lunaroute.dialects.values import fields, items, loads, mapping, pick, strict, text, whole
from lunaroute.records import ToolCall, Usage

NAME = "chat"
_MAX_PARTS = 4096


class _Named(msgspec.Struct):
    name: Any = None
    arguments: Any = None
    input: Any = None


class _ToolDelta(msgspec.Struct):
    index: Any = None
    id: Any = None
    type: Any = None
    function: _Named | None = None
    custom: _Named | None = None


class _Delta(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: list[_ToolDelta] | None = None
    function_call: _Named | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    audio: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: Any = None
    index: int = 0
    finish_reason: Any = None
    usage: Any = None


class _Chunk(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    detail: Any = None


class _Rest(msgspec.Struct):
    """A chunk without what all chunks of a stream begin with."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    id: Any = None
    model: Any = None
    service_tier: Any = None


class _Loose(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    detail: Any = None


_CHOICES = b'"choices":['
_strict = msgspec.json.Decoder(_Chunk)
_rest = msgspec.json.Decoder(_Rest)
_loose = msgspec.json.Decoder(_Loose)


def _tightened(found: _Loose) -> _Chunk:
    choices = []
    for entry in items(found.choices)[:_MAX_PARTS]:
        choice = mapping(entry)
        made = pick(_Choice, choice)
        made.delta = _delta(choice.get("delta"))
        made.message = _delta(choice.get("message"))
        made.index = whole(choice.get("index")) or 0
        choices.append(made)
    return _Chunk(found.id, found.model, choices, found.usage, found.service_tier, found.error, found.detail)


def _delta(value: Any) -> _Delta | None:
    if not isinstance(value, dict):
        return None
    made = pick(_Delta, value)
    made.function_call = _named(value.get("function_call"))
    made.tool_calls = []
    for entry in items(value.get("tool_calls"))[:_MAX_PARTS]:
        call = pick(_ToolDelta, entry)
        call.function, call.custom = _named(mapping(entry).get("function")), _named(mapping(entry).get("custom"))
        made.tool_calls.append(call)
    return made


def _named(value: Any) -> _Named | None:
    return pick(_Named, value) if isinstance(value, dict) else None


class _Call:
    """A tool call on its way."""

    __slots__ = ("arguments", "id", "kind", "name", "told")

    def __init__(self, room: Room) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.kind = "function"
        self.arguments = Gathered(room)
        self.told: ToolCall | None = None

    def block(self) -> Block:
        return Block("tool_call", name=self.name, call_id=self.id, arguments=self.arguments.text())


class _Said:
    """One of the choices on its way."""

    __slots__ = ("at", "calls", "content", "open", "refusal", "thinking")

    def __init__(self, room: Room) -> None:
        self.thinking = Gathered(room)
        self.content = Gathered(room)
        self.refusal = Gathered(room)
        self.calls: list[_Call] = []
        self.at: dict[int, _Call] = {}
        self.open: _Call | None = None

    def blocks(self) -> list[Block]:
        found = []
        if self.thinking:
            found.append(Block("thinking", self.thinking.text()))
        if self.content:
            found.append(Block("text", self.content.text()))
        if self.refusal:
            found.append(Block("text", self.refusal.text(), name="refusal"))
        return found + [call.block() for call in self.calls]


class ChatAnswer(Answer):
    """Usage may sit in any chunk, and a last chunk may say null: the last one told wins."""

    def __init__(self, text_limit: int = TEXT_LIMIT) -> None:
        super().__init__(text_limit)
        self._said: dict[int, _Said] = {}
        self._places = _MAX_PARTS  # for choices and calls
        self._model: Any = None
        self._tier: Any = None
        self._prefix: bytes | None = None  # id, model and so on, as they stood in the last chunk before its choices

    def event(self, name: str, data: bytes) -> None:
        facts = self.facts
        prefix = self._prefix
        if prefix is not None and data.startswith(prefix):
            # tells what the last one told but for the choices: a third of the bytes need not be read
            rest = strict(_rest, b"{" + data[len(prefix) :])
            late = rest is None or rest.error or rest.id or rest.model or rest.service_tier
            if rest is not None and not late and name != "error":
                self._took(rest.choices, rest.usage)
                return
        chunk = strict(_strict, data)
        if chunk is not None:
            place = data.find(_CHOICES)
            self._prefix = data[:place] if place > 0 else None
        else:
            if data.strip() == b"[DONE]":
                facts.done = True
                self._complete()
                return
            loose = fields(_loose, data)
            if loose is None:
                return
            chunk = _tightened(loose)
        if chunk.error is not None or name == "error":
            self._fail(chunk.error)
        self._take(chunk)

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("error") is not None or ("detail" in value and "choices" not in value):
            self._fail(value.get("error") or value.get("detail"))
            return
        self._take(_tightened(pick(_Loose, value)))
        self._complete()

    def _fail(self, error: Any) -> None:
        self.facts.error = error_text(error) or "error"
        self.facts.error_kind = error_word(error)

    def _take(self, chunk: _Chunk) -> None:
        facts = self.facts
        # the first chunk of some servers has an empty id and model
        if facts.response_id is None:
            facts.response_id = text(chunk.id)
        if chunk.model != self._model:
            self._model = chunk.model
            facts.model = text(chunk.model) or facts.model
        if chunk.service_tier != self._tier:
            self._tier = chunk.service_tier
            facts.usage.service_tier = text(chunk.service_tier) or facts.usage.service_tier
        self._took(chunk.choices, chunk.usage)

    def _took(self, choices: list[_Choice] | None, usage: Any) -> None:
        if choices:
            for choice in choices:
                self._choice(choice)
        if usage is not None:
            merge(self.facts.usage, usage)

    def _choice(self, choice: _Choice) -> None:
        facts = self.facts
        said_so_far = self._said.get(choice.index)
        if said_so_far is None:
            if self._places <= 0:
                return
            self._places -= 1
            said_so_far = self._said[choice.index] = _Said(self.room)
        delta = choice.delta or choice.message
        if delta is not None:
            if delta.content:
                facts.content = True
                if isinstance(delta.content, str):
                    said_so_far.content.add(delta.content)
                else:
                    _listed(said_so_far, delta.content)
            if (
                delta.tool_calls
                or delta.reasoning_content
                or delta.reasoning
                or delta.refusal
                or delta.function_call
                or delta.audio
            ):
                facts.content = True
                self._rest(said_so_far, delta)
        if isinstance(choice.text, str) and choice.text:
            facts.content = True
            said_so_far.content.add(choice.text)
        if choice.usage is not None:
            merge(facts.usage, choice.usage)
        if choice.finish_reason is not None:
            reason = text(choice.finish_reason)
            if reason is not None:
                facts.stop_reason = reason
                self._ended(said_so_far)

    def _rest(self, so_far: _Said, delta: _Delta) -> None:
        """What a choice says beside its words."""
        # servers that send both send the same twice
        thought = delta.reasoning_content or delta.reasoning
        if isinstance(thought, str):
            so_far.thinking.add(thought)
        if isinstance(delta.refusal, str):
            so_far.refusal.add(delta.refusal)
        spoken = mapping(delta.audio).get("transcript")
        if isinstance(spoken, str):
            so_far.content.add(spoken)
        if delta.function_call is not None:
            self._call(so_far, 0, _ToolDelta(function=delta.function_call))
        for number, call in enumerate(delta.tool_calls or ()):
            place = call.index if type(call.index) is int else number
            self._call(so_far, place, call)

    def _call(self, so_far: _Said, place: int, delta: _ToolDelta) -> None:
        call = so_far.at.get(place)
        named = delta.function or delta.custom or _Named()
        more = delta.id is None and named.name is None and isinstance(named.arguments, str)
        if more and call is not None and call is so_far.open:
            call.arguments.add(named.arguments)  # nearly all deltas of a call
            return
        ident, name = word(delta.id), word(named.name)
        given = named.input if named.arguments is None else named.arguments
        piece = given if isinstance(given, str) else "" if given is None else said(given)
        if call is None or _another(call, ident, name, piece):
            if self._places <= 0:
                return
            self._places -= 1
            if call is not None:
                self._told(call)
            call = so_far.at[place] = _Call(self.room)
            so_far.calls.append(call)
        if so_far.open is not call:
            if so_far.open is not None:
                self._told(so_far.open)
            so_far.open = call
        call.id = call.id or ident  # repeated in every delta by some servers
        call.name = call.name or name
        if delta.custom is not None or delta.type == "custom":
            call.kind = "custom"
        if piece:
            call.arguments.add(piece)

    def _told(self, call: _Call) -> None:
        """The call is complete as far as can be told; should more of it come, its entry grows."""
        block = call.block()
        size = len((block.arguments or "").encode()) + call.arguments.lost
        if call.told is None:
            call.told = self.called(block, call.kind, size)
        else:
            call.told.arguments = block.arguments or ""
            call.told.arguments_bytes = size

    def _ended(self, so_far: _Said) -> None:
        for call in so_far.calls:
            if call.told is None or call is so_far.open:
                self._told(call)
        so_far.open = None

    def _complete(self) -> None:
        for so_far in self._said.values():
            self._ended(so_far)

    def blocks(self) -> list[Block] | None:
        if not self._said:
            return None
        return [block for _, so_far in sorted(self._said.items()) for block in so_far.blocks()]

    def close(self) -> None:
        # servers that leave [DONE] out have ended with the finish reason
        self.facts.done = self.facts.done or self.facts.stop_reason is not None
        if self.facts.done:
            self._complete()
        super().close()


def _another(call: _Call, ident: str | None, name: str | None, piece: str) -> bool:
    """Whether a delta at the place of a call begins another: some servers count no places, some give no ids."""
    if ident is not None and call.id is not None:
        return ident != call.id
    if name is None or call.name is None or not piece.startswith("{"):
        return False
    if call.arguments.lost:
        return True  # what would tell was not kept
    so_far = call.arguments.text()
    return so_far.endswith("}") and isinstance(loads(so_far.encode()), dict)


def _listed(so_far: _Said, content: Any) -> None:
    for block in _content(content):
        (so_far.thinking if block.kind == "thinking" else so_far.content).add(block.text)


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told; `null` usage tells nothing."""
    if not isinstance(told, dict):
        return
    read = mapping(told.get("prompt_tokens_details"))
    written = mapping(told.get("completion_tokens_details"))
    heard, spoken = whole(read.get("audio_tokens")), whole(written.get("audio_tokens"))
    cached = (read.get("cached_tokens"), told.get("num_cached_tokens"), told.get("prompt_cache_hit_tokens"))
    for name, count in (
        ("input_tokens", whole(told.get("prompt_tokens"))),
        ("output_tokens", _output(told, written)),
        ("thinking_tokens", whole(written.get("reasoning_tokens"))),
        ("cache_read_tokens", next((n for n in map(whole, cached) if n is not None), None)),
        ("cache_write_tokens", whole(read.get("cache_write_tokens"))),
        ("audio_input_tokens", heard),
        ("audio_output_tokens", spoken),
        ("audio_tokens", None if heard is None and spoken is None else (heard or 0) + (spoken or 0)),
    ):
        if count is not None:
            setattr(usage, name, count)


def _output(told: dict[str, Any], details: dict[str, Any]) -> int | None:
    """Some servers count the reasoning beside the output instead of in it; their total gives them away."""
    output, thinking = whole(told.get("completion_tokens")), whole(details.get("reasoning_tokens"))
    asked, total = whole(told.get("prompt_tokens")), whole(told.get("total_tokens"))
    if output is None or not thinking or asked is None or total is None:
        return output
    return output + thinking if total == asked + output + thinking else output


# --- as a conversation ----------------------------------------------------------------------------
def request(body: dict[str, Any]) -> tuple[list[Block], list[Message], list[str]]:
    """(system, messages, names of tools). System messages stay where they are."""
    messages = [message(mapping(entry)) for entry in items(body.get("messages"))]
    tools = []
    for tool in (*items(body.get("tools")), *items(body.get("functions"))):
        entry = mapping(tool)
        named = mapping(entry.get("function")) or mapping(entry.get("custom")) or entry
        if name := word(named.get("name")):
            tools.append(name)
    return [], messages, tools


def message(entry: dict[str, Any]) -> Message:
    """One of `messages`."""
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
        return Block("thinking", "".join(block.text for block in _content(part.get("thinking"))))
    if kind == "image_url":
        url = part.get("image_url")
        shown, media = data_url(mapping(url).get("url") if isinstance(url, dict) else url)
        return Block("image", shown, media_type=media)
    if kind == "file":
        return Block("document", "", name=word(mapping(part.get("file")).get("filename")))
    return other(entry)
