"""OpenAI Responses, over HTTP and (as events) over WebSocket. Must not know headers or transport."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import msgspec

from lunaroute.dialects.answer import TEXT_LIMIT, Answer, Gathered
from lunaroute.dialects.blocks import Block, Message, data_url, error_text, error_word, other, said, text_block, word
from lunaroute.dialects.results import result_bytes, success_of
from lunaroute.dialects.values import clean, dumps, fields, items, loads, mapping, pick, strict, text, whole
from lunaroute.records import Usage

NAME = "responses"
FINAL = ("response.completed", "response.incomplete", "response.failed")


class _Response(msgspec.Struct):
    """Of the whole response only this is built: it repeats the request's instructions and tools."""

    id: Any = None
    object: Any = None
    model: Any = None
    service_tier: Any = None
    usage: Any = None
    error: Any = None
    detail: Any = None
    status: Any = None
    incomplete_details: Any = None
    output: Any = None


class _Event(msgspec.Struct):
    response: _Response | None = None


class _Error(msgspec.Struct):
    error: Any = None
    status: Any = None
    status_code: Any = None
    message: Any = None
    code: Any = None


class _Item(msgspec.Struct):
    item: Any = None
    output_index: Any = None
    item_id: Any = None
    text: Any = None
    arguments: Any = None
    input: Any = None


class _Delta(msgspec.Struct):
    delta: str
    output_index: int = 0


class _Kind(msgspec.Struct):
    type: Any = None


_decoder = msgspec.json.Decoder(_Event)
_error = msgspec.json.Decoder(_Error)
_item_decoder = msgspec.json.Decoder(_Item)
_delta = msgspec.json.Decoder(_Delta)
_kind = msgspec.json.Decoder(_Kind)
# delta event -> the item it belongs to
_DELTAS = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.audio.transcript.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "function_call",
    "response.custom_tool_call_input.delta": "custom_tool_call",
    "response.mcp_call_arguments.delta": "mcp_call",
    "response.code_interpreter_call_code.delta": "code_interpreter_call",
    "response.shell_call_command.delta": "shell_call",
    "response.apply_patch_call_operation_diff.delta": "apply_patch_call",
}
# says the whole once more after its deltas: read for servers that send no deltas, or no output_item.done
_WHOLE = {
    "response.output_text.done": "message",
    "response.function_call_arguments.done": "function_call",
    "response.custom_tool_call_input.done": "custom_tool_call",
    "response.mcp_call_arguments.done": "mcp_call",
}
_TOLD = frozenset((*FINAL, "response.created", "response.in_progress", "response.queued"))
# run by the vendor; the others are the client's to run
_SERVER = frozenset(
    ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "program")
)
# beside their tokens they cost by the call, the container or the image, which the answer's usage does not tell
_FOR_A_FEE = frozenset(("file_search_call", "code_interpreter_call", "image_generation_call"))
_KINDS = {"custom_tool_call": "custom", "mcp_call": "mcp"}
_MAX_ITEMS = 16384


def kind_of(name: str, data: bytes) -> str:
    """The event's type: of the data, since some servers send no `event:` lines."""
    if name != "message":
        return name
    found = fields(_kind, data)
    return found.type if found is not None and isinstance(found.type, str) else name


class _Part:
    """An output item on its way."""

    __slots__ = ("blocks", "gathered", "given", "held")

    def __init__(self, given: dict[str, Any], gathered: Gathered) -> None:
        self.given = given
        self.gathered = gathered
        self.held = 0  # room that its beginning has taken
        self.blocks: list[Block] | None = None  # once the item is done


class ResponsesAnswer(Answer):
    """Usage sits in the final event's `response`; `tool_usage` beside it is something else."""

    def __init__(self, text_limit: int = TEXT_LIMIT) -> None:
        super().__init__(text_limit)
        self._parts: dict[int, _Part] = {}
        self._final: list[Block] | None = None  # from the final event, where it tells more than the items did
        self._told: Counter[tuple[str, str, str]] = Counter()
        self._searches: int | None = None
        self._fees = False
        self._spoken = False
        self._begun = False

    def event(self, name: str, data: bytes) -> None:
        kind = name if name != "message" else kind_of(name, data)
        if kind.endswith(".delta"):
            self.facts.content = True
            if kind in _DELTAS:
                self._add(_DELTAS[kind], data)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(kind, data)
        elif kind in _WHOLE:
            if kind != "response.output_text.done" or not self._spoken:
                self._whole(_WHOLE[kind], data)
        elif kind in _TOLD:
            self._state(kind, data)
        elif kind == "error":
            self._error(data)
        elif kind.startswith("response.content_part"):
            self.facts.content = self.facts.content or kind.endswith(".done")

    def document(self, value: dict[str, Any]) -> None:
        facts = self.facts
        facts.done = True
        if value.get("object") != "response" and (value.get("error") is not None or "detail" in value):
            self._fail(value.get("error") or value.get("detail"))
            facts.error = facts.error or "error"
            return
        found = pick(_Response, value)
        self._response(found)
        self._ended(items(found.output))
        self._begun = isinstance(found.output, list)

    def blocks(self) -> list[Block] | None:
        if self._final is not None:
            return self._final
        if not self._parts and not self._begun:
            return None
        found: list[Block] = []
        for _, part in sorted(self._parts.items()):
            found += part.blocks if part.blocks is not None else _joined(part)
        return found

    def close(self) -> None:
        super().close()
        self.facts.usage.web_search_requests = self._searches
        self.facts.usage.unpriced_tools = self._fees

    # --- events ----------------------------------------------------------------------------------------
    def _add(self, kind: str, data: bytes) -> None:
        found = strict(_delta, data)
        if found is None:
            told = mapping(loads(data))
            piece, place = told.get("delta"), whole(told.get("output_index")) or 0
            if not isinstance(piece, str):
                return
        else:
            piece, place = found.delta, found.output_index
        part = self._parts.get(place) or self._part(place, {"type": kind, "role": "assistant"})
        if part is not None and part.blocks is None:
            self._spoken = True
            part.gathered.add(piece)

    def _part(self, place: int, given: dict[str, Any]) -> _Part | None:
        if len(self._parts) >= _MAX_ITEMS:
            return None
        part = self._parts[place] = _Part(given, Gathered(self.room))
        return part

    def _item(self, kind: str, data: bytes) -> None:
        found = fields(_item_decoder, data)
        if found is None:
            return
        item = mapping(found.item)
        place = whole(found.output_index)
        if place is None:
            place = self._place(item)
        done = kind.endswith("done")
        self.facts.content = self.facts.content or done
        part = self._parts.get(place) or self._part(place, {})
        if part is None or part.blocks is not None:
            return
        if not done:
            if len(data) > self.room.left:
                item = {name: word(item.get(name)) for name in ("type", "id", "call_id", "name", "role")}
            else:
                part.held += len(data)
                self.room.left -= len(data)
        part.given = item
        if done:
            self._end(part)

    def _place(self, item: dict[str, Any]) -> int:
        """Of an item that does not tell: the place of the same id, or a new one."""
        ident = item.get("id")
        for place, part in islice(reversed(self._parts.items()), 64):
            if part.blocks is None and (part.given.get("id") == ident or "id" not in part.given):
                return place
        return len(self._parts)

    def _whole(self, kind: str, data: bytes) -> None:
        found = fields(_item_decoder, data)
        if found is None:
            return
        place = whole(found.output_index) or 0
        part = self._parts.get(place) or self._part(place, {"type": kind, "role": "assistant"})
        told = next((each for each in (found.text, found.arguments, found.input) if isinstance(each, str)), "")
        if part is not None and part.blocks is None and told and not part.gathered:
            part.gathered.add(told)

    def _state(self, kind: str, data: bytes) -> None:
        facts = self.facts
        if kind == "response.in_progress" and facts.response_id and facts.model:
            return  # what `created` said, with all of the request once more
        self._begun = True
        found = strict(_decoder, data)
        response = found.response if found else pick(_Response, mapping(loads(data)).get("response"))
        if response is None:
            response = _Response()
        self._response(response)
        if kind not in FINAL:
            return
        facts.done = True
        self._ended(items(response.output))
        if kind == "response.failed" and facts.error is None:
            facts.error = "failed"

    def _error(self, data: bytes) -> None:
        found = fields(_error, data) or _Error()
        flat = {"code": found.code, "message": found.message}
        self.facts.error = error_text(found.error) or error_text(flat) or "error"
        self.facts.error_kind = error_word(found.error) or error_word(flat)
        self.facts.error_status = whole(found.status) or whole(found.status_code)

    def _fail(self, error: Any) -> None:
        self.facts.error = error_text(error) or self.facts.error
        self.facts.error_kind = error_word(error) or self.facts.error_kind

    def _response(self, response: _Response) -> None:
        facts = self.facts
        facts.response_id = text(response.id) or facts.response_id
        facts.model = text(response.model) or facts.model
        # `auto` at the start, the real one at the end: the last wins
        facts.usage.service_tier = text(response.service_tier) or facts.usage.service_tier
        merge(facts.usage, response.usage)
        if response.error is not None:
            self._fail(response.error)
        status = text(response.status)
        if status in ("completed", "incomplete", "failed", "cancelled"):
            reason = text(mapping(response.incomplete_details).get("reason"))
            facts.stop_reason = reason or status

    # --- items -----------------------------------------------------------------------------------------
    def _end(self, part: _Part) -> None:
        item, lost = part.given, 0
        blocks = blocks_of(item)
        if part.gathered and not any(block.kind != "other" and (block.text or block.arguments) for block in blocks):
            item = _with_pieces(item, part.gathered.text())
            blocks, lost = blocks_of(item), part.gathered.lost
        part.gathered.release()
        self.room.left += part.held
        part.held = 0
        part.given = {}
        size = _size(blocks) + lost
        part.blocks = [self.bound(block) for block in blocks]
        self._count(item)
        self._tell(item, part.blocks, size)

    def _ended(self, output: list[Any]) -> None:
        """The final event: items that had no end of their own have ended, and it may tell of some never seen."""
        for part in self._parts.values() if not output else ():
            if part.blocks is None:
                self._end(part)
        done = [part.blocks for part in self._parts.values() if part.blocks is not None]
        if len(output) <= len(done):
            return  # all of it was told, if in another order and under other ids
        for blocks in done:
            self.room.left += sum(len(block.text) + len(block.arguments or "") for block in blocks)
        for part in self._parts.values():
            part.gathered.release()
            self.room.left += part.held
            part.held = 0
        known, self._searches, self._final = Counter(self._told), None, []
        for entry in output[:_MAX_ITEMS]:
            item = mapping(entry)
            blocks = blocks_of(item)
            size = _size(blocks)
            blocks = [self.bound(block) for block in blocks]
            self._final += blocks
            self._count(item)
            key = _key(item, blocks)
            if known[key] > 0:
                known[key] -= 1
            else:
                self._tell(item, blocks, size)

    def _tell(self, item: dict[str, Any], blocks: list[Block], size: int) -> None:
        """Calls and results go to the facts, each once."""
        if not blocks:
            return
        kind, first = str(item.get("type")), blocks[0]
        if first.kind == "tool_result":
            self.returned(first, result_bytes(raw_output(item)), success_of(item))
        if first.kind != "tool_call" or (first.call_id and first.call_id in self._calls):
            return
        self._told[_key(item, blocks)] += 1
        call = self.called(first, _kind_of_call(kind, item), size)
        if call is not None and (kind in _SERVER or kind == "mcp_call") and kind != "program":
            result = blocks[1] if len(blocks) > 1 else Block("tool_result", call_id=first.call_id)
            self.returned(result, result_bytes(raw_output(item)), success_of(item))

    def _count(self, item: dict[str, Any]) -> None:
        """Searches are billed; opening a page that was found, or looking for words in it, is none."""
        kind = str(item.get("type"))
        hosted = kind == "shell_call" and _kind_of_call(kind, item) == "server"
        self._fees = self._fees or hosted or kind in _FOR_A_FEE
        if kind != "web_search_call":
            return
        searched = item.get("status") in (None, "completed") and mapping(item.get("action")).get("type") == "search"
        self._searches = (self._searches or 0) + searched


def _size(blocks: list[Block]) -> int:
    return result_bytes(blocks[0].arguments) if blocks else 0


def _key(item: dict[str, Any], blocks: list[Block]) -> tuple[str, str, str]:
    """A call by what it says, since ids may rotate."""
    first = blocks[0] if blocks else Block("other")
    return str(item.get("type")), first.name or "", first.arguments or ""


def _kind_of_call(kind: str, item: dict[str, Any]) -> str:
    hosted = str(mapping(item.get("environment")).get("type")).startswith("container")
    if kind in _SERVER or item.get("execution") == "server" or (kind == "shell_call" and hosted):
        return "server"
    return _KINDS.get(kind, "function")


def _joined(part: _Part) -> list[Block]:
    """The item as it is now."""
    return blocks_of(_with_pieces(part.given, part.gathered.text()) if part.gathered else part.given)


def _with_pieces(item: dict[str, Any], pieces: str) -> dict[str, Any]:
    kind = item.get("type")
    if kind == "message":
        return {**item, "content": [{"type": "output_text", "text": pieces}]}
    if kind == "reasoning":
        return {**item, "summary": [{"type": "summary_text", "text": pieces}], "content": []}
    field = {"custom_tool_call": "input", "code_interpreter_call": "code"}.get(str(kind), "arguments")
    return {**item, field: pieces}


def merge(usage: Usage, told: Any) -> None:
    """Overwrite field by field what is told."""
    if not isinstance(told, dict):
        return
    read = mapping(told.get("input_tokens_details"))
    written = mapping(told.get("output_tokens_details"))
    heard, spoken = whole(read.get("audio_tokens")), whole(written.get("audio_tokens"))
    for name, count in (
        ("input_tokens", whole(told.get("input_tokens"))),
        ("output_tokens", whole(told.get("output_tokens"))),
        ("thinking_tokens", whole(written.get("reasoning_tokens"))),
        ("cache_read_tokens", whole(read.get("cached_tokens"))),
        ("cache_write_tokens", whole(read.get("cache_write_tokens"))),
        ("audio_input_tokens", heard),
        ("audio_output_tokens", spoken),
        ("audio_tokens", None if heard is None and spoken is None else (heard or 0) + (spoken or 0)),
    ):
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
        message = message_of(item)
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


def message_of(item: dict[str, Any]) -> Message:
    """One item of `input` or `output`."""
    kind = item.get("type")
    if kind in (None, "message") and "content" in item:
        blocks = _content(item.get("content"))
        role = item.get("role")
        if role == "assistant":
            return Message("assistant", blocks)
        return Message("system" if role in ("system", "developer") else "user", blocks)
    if kind == "reasoning":
        return Message("assistant", [Block("thinking", _reasoning(item))])
    if isinstance(kind, str) and kind.endswith(("_call_output", "program_output", "tool_search_output")):
        failed = item.get("status") in ("failed", "incomplete") or None
        ident = word(item.get("call_id")) or (word(item.get("id")) if kind == "local_shell_call_output" else None)
        return Message("tool", [Block("tool_result", _output(item), call_id=ident, is_error=failed)])
    if isinstance(kind, str) and kind.endswith(("_call", "program")):
        return Message("assistant", _call(kind, item))
    return Message("user", [other(item)])


def blocks_of(item: dict[str, Any]) -> list[Block]:
    """What an item of `output` says by itself. A compaction repeats the user's messages: no answer, those."""
    if item.get("type") in (None, "message") and item.get("role") not in (None, "assistant"):
        return []
    return message_of(item).blocks


def _call(kind: str, item: dict[str, Any]) -> list[Block]:
    """The call, and its result where the vendor ran it."""
    given = next((item[key] for key in _ARGUMENTS if item.get(key) is not None), "")
    arguments = given if isinstance(given, str) else dumps(given)
    call = Block(
        "tool_call",
        name=word(item.get("name")) or kind.removesuffix("_call"),
        call_id=word(item.get("call_id")) or word(item.get("id")),
        arguments=clean(arguments),
    )
    returned = _output(item) if raw_output(item) is not None and kind != "image_generation_call" else ""
    if not returned:
        return [call]
    failed = item.get("status") in ("failed", "incomplete") or bool(item.get("error")) or None
    return [call, Block("tool_result", returned, call_id=call.call_id, is_error=failed)]


_ARGUMENTS = ("arguments", "input", "action", "actions", "operation", "code", "queries")
_OUTPUTS = ("output", "outputs", "results", "result", "error", "tools")


def raw_output(item: dict[str, Any]) -> Any:
    """What a tool returned, as it stands in the item; None where there is nothing."""
    return next((item[key] for key in _OUTPUTS if item.get(key) is not None), None)


def _output(item: dict[str, Any]) -> str:
    output = raw_output(item)
    if isinstance(output, list):
        return "\n".join(_shown(mapping(part), part) for part in output)
    return (error_text(output) or "") if output is item.get("error") else said(output)


def _shown(part: dict[str, Any], entry: Any) -> str:
    """One part of a result: text, logs of an interpreter, a command's streams, a file that was found."""
    words = [part[key] for key in ("filename", "text", "logs", "stdout", "stderr") if isinstance(part.get(key), str)]
    if words:
        return "\n".join(clean(each) for each in words if each)
    block = _part(entry)
    return block.text if block.kind == "other" else f"[{block.kind}]"


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
