"""The scripted assistant: answers in the three dialects, with usage figures that the tests know.

A request that offers tools and holds no tool result yet is answered with one harmless shell call, one that brings the
result with a closing sentence, one without tools (a title) with a plain text. Everything told is kept in `told`. The
figures differ in every answer, so that a sum or a mix-up shows. Knows nothing of LunaRoute.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import Request, Socket, Wire

MARKER = "lunaroute-tool-ran"
COMMAND = f"echo {MARKER}-$((40 + 2))"
RAN = f"{MARKER}-42"
FINAL = "All done: ü → 🌙"
SHELLS = ("Bash", "bash", "exec_command", "shell")
Json = dict[str, Any]


@dataclass(kw_only=True)
class Told:
    """One answer given. `usage` is named by the columns of the record; what this dialect does not tell is missing.

    calls: (id, name, arguments as JSON or free text) of the tools it asked for.
    """

    dialect: str
    kind: str
    id: str
    asked: str
    model: str
    stop: str
    stream: bool
    usage: dict[str, int]
    text: str = ""
    number: int = 0
    calls: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Assistant:
    """The script. `compress`: gzip what clients accept gzip for. `websocket`: accept handshakes, or refuse with 426.

    `deflate`: accept permessage-deflate.
    """

    compress: bool = False
    websocket: bool = True
    deflate: bool = False
    told: list[Told] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    async def __call__(self, request: Request, wire: Wire) -> None:
        if request.header("upgrade") == "websocket":
            if self.websocket:
                await self._converse(await wire.websocket(deflate=self.deflate))
            else:
                await wire.answer(426, [*JSON_HEAD, ("Upgrade", "h2c"), ("Connection", "Upgrade")], b"{}")
            return
        await wire.body()
        path = request.path
        if request.method == "HEAD" or path in ("/", "/api/hello"):
            await wire.answer(200, [("Content-Type", "text/plain")], b"")
        elif "/wham/" in path:
            await wire.answer(200, JSON_HEAD, b"{}")
        elif path.endswith("/models"):
            await wire.answer(200, JSON_HEAD, dump({"object": "list", "data": [], "models": []}))
        elif path.endswith("/messages/count_tokens"):
            await wire.answer(200, JSON_HEAD, dump({"input_tokens": 4242}))
        elif path.endswith(("/messages", "/chat/completions", "/responses")):
            await self._give(request, wire, *self.answer(request))
        else:
            self.unknown.append(request.start)
            await wire.answer(404, JSON_HEAD, dump({"detail": "not scripted"}))

    def answer(self, request: Request) -> tuple[bool, list[bytes], Json]:
        """(whether it is to be streamed, its events, the same as one JSON object); told from now on."""
        kinds = {"messages": self._anthropic, "completions": self._chat, "responses": self._responses}
        return kinds[request.path.rsplit("/", 1)[1]](request.json())

    async def _give(self, request: Request, wire: Wire, stream: bool, events: list[bytes], whole: Json) -> None:
        """Ends as the vendors do: event streams chunked, other answers with a length."""
        encoder = None
        headers = list(VENDOR_HEAD)
        if self.compress and "gzip" in (request.header("accept-encoding") or ""):
            encoder = zlib.compressobj(wbits=31)
            headers.append(("Content-Encoding", "gzip"))
        if stream:
            await wire.stream(
                [("Content-Type", "text/event-stream; charset=utf-8"), *headers], squeezed(events, encoder)
            )
        else:
            body = b"".join(squeezed([dump(whole)], encoder))
            await wire.answer(200, [*JSON_HEAD, *headers], body)

    async def _converse(self, socket: Socket) -> None:
        """Responses over WebSocket: each `response.create` gets the same events as over HTTP, one message each."""
        while (message := await socket.receive()) is not None:
            asked = json.loads(message)
            if asked["type"] == "response.create":
                for event in self._responses(asked | {"stream": True})[1]:
                    await socket.send(event.split(b"data: ", 1)[1].rstrip(b"\n").decode())

    def _tell(self, dialect: str, asked: Json, kind: str, stop: str, text: str) -> Told:
        number = len(self.told) + 1
        # as each vendor writes the date of what answered
        model = f"{asked['model']}-{'20260901' if dialect == 'anthropic' else '2026-04-24'}"
        told = Told(
            dialect=dialect, kind=kind, id=f"{PREFIX[dialect]}{number:04d}e2e", asked=asked["model"], model=model,
            stop=stop, stream=bool(asked.get("stream")), usage={}, text=text, number=number,
        )  # fmt: skip
        self.told.append(told)
        return told

    # --- Anthropic Messages -------------------------------------------------------------------------------------------

    def _anthropic(self, asked: Json) -> tuple[bool, list[bytes], Json]:
        tool = shell(t["name"] for t in asked.get("tools") or [] if "name" in t)
        results = [b for m in asked["messages"] if isinstance(m["content"], list) for b in m["content"]]
        call = tool is not None and not any(b.get("type") == "tool_result" for b in results)
        kind = "call" if call else "final" if tool else "plain"
        told = self._tell("anthropic", asked, kind, "tool_use" if call else "end_turn", "On it." if call else FINAL)
        n = told.number
        told.usage = {"input_tokens": 100 + n, "output_tokens": 20 + n, "thinking_tokens": 3 + n,
                      "cache_read_tokens": 1000 + n, "cache_write_tokens": 30 + n}  # fmt: skip
        start = {
            "input_tokens": 100 + n, "cache_creation_input_tokens": 30 + n, "cache_read_input_tokens": 1000 + n,
            "cache_creation": {"ephemeral_5m_input_tokens": 30 + n, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 1, "service_tier": "standard",
        }  # fmt: skip
        final = {"output_tokens": 20 + n, "output_tokens_details": {"thinking_tokens": 3 + n}}
        blocks: list[Json] = [{"type": "text", "text": told.text}]
        if asked.get("thinking", {}).get("type") in ("enabled", "adaptive"):
            blocks.insert(0, {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl"})
        if call:
            arguments = {"command": COMMAND, "description": "Say a word"}
            blocks.append({"type": "tool_use", "id": f"toolu_{n:04d}e2e", "name": tool, "input": arguments})
            told.calls.append((f"toolu_{n:04d}e2e", str(tool), json.dumps(arguments)))
        message = {
            "id": told.id, "type": "message", "role": "assistant", "model": told.model, "content": blocks,
            "stop_reason": told.stop, "stop_sequence": None, "usage": start | final,
        }  # fmt: skip
        opening = message | {"content": [], "stop_reason": None, "usage": start}
        events = [sse("message_start", {"message": opening}), sse("ping", {})]
        for index, block in enumerate(blocks):
            events += anthropic_block(index, block)
        delta = {"delta": {"stop_reason": told.stop, "stop_sequence": None}, "usage": final}
        return told.stream, [*events, sse("message_delta", delta), sse("message_stop", {})], message

    # --- OpenAI Chat Completions --------------------------------------------------------------------------------------

    def _chat(self, asked: Json) -> tuple[bool, list[bytes], Json]:
        tool = shell(t["function"]["name"] for t in asked.get("tools") or [])
        call = tool is not None and not any(m["role"] == "tool" for m in asked["messages"])
        kind = "call" if call else "final" if tool else "plain"
        told = self._tell("chat", asked, kind, "tool_calls" if call else "stop", "On it." if call else FINAL)
        n = told.number
        usage = {
            "prompt_tokens": 2000 + n, "completion_tokens": 60 + n, "total_tokens": 2060 + 2 * n,
            "prompt_tokens_details": {"cached_tokens": 512 + n},
            "completion_tokens_details": {"reasoning_tokens": 7 + n},
        }  # fmt: skip
        told.usage = {"input_tokens": 2000 + n, "output_tokens": 60 + n, "thinking_tokens": 7 + n,
                      "cache_read_tokens": 512 + n}  # fmt: skip
        base = {"id": told.id, "object": "chat.completion.chunk", "created": 1795000000, "model": told.model}
        message: Json = {"role": "assistant", "content": told.text}
        deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": p} for p in halves(told.text))]
        if call:
            arguments = json.dumps({"command": COMMAND, "description": "Say a word"})
            function = {"name": tool, "arguments": arguments}
            told.calls.append((f"call_{n:04d}e2e", str(tool), arguments))
            message["tool_calls"] = [{"id": f"call_{n:04d}e2e", "type": "function", "function": function}]
            first = message["tool_calls"][0] | {"index": 0, "function": {"name": tool, "arguments": ""}}
            deltas.append({"tool_calls": [first]})
            deltas += ({"tool_calls": [{"index": 0, "function": {"arguments": p}}]} for p in halves(arguments))
        chunks: list[Json] = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": told.stop}]})
        if asked.get("stream_options", {}).get("include_usage"):
            chunks.append({"choices": [], "usage": usage})
        elif told.stream:
            told.usage = {}
        events = [b"data: " + dump(base | c) + b"\n\n" for c in chunks] + [b"data: [DONE]\n\n"]
        whole = base | {"object": "chat.completion", "usage": usage}
        whole["choices"] = [{"index": 0, "message": message, "finish_reason": told.stop}]
        return told.stream, events, whole

    # --- OpenAI Responses ---------------------------------------------------------------------------------------------

    def _responses(self, asked: Json) -> tuple[bool, list[bytes], Json]:
        prewarm = asked.get("generate") is False
        given = asked["input"] if isinstance(asked["input"], list) else []
        tool = responses_shell(asked, given)
        call = tool is not None and not prewarm and not any(str(i.get("type")).endswith("_call_output") for i in given)
        # Over WebSocket the second turn sends only what is new and names the answer it continues.
        kind = (
            "prewarm"
            if prewarm
            else "call"
            if call
            else "final"
            if tool or asked.get("previous_response_id")
            else "plain"
        )
        told = self._tell("responses", asked, kind, "completed", "" if prewarm else "On it." if call else FINAL)
        n = told.number
        usage = {
            "input_tokens": 3000 + n, "input_tokens_details": {"cached_tokens": 700 + n}, "output_tokens": 80 + n,
            "output_tokens_details": {"reasoning_tokens": 9 + n}, "total_tokens": 3080 + 2 * n,
        }  # fmt: skip
        told.usage = {"input_tokens": 3000 + n, "output_tokens": 80 + n, "thinking_tokens": 9 + n,
                      "cache_read_tokens": 700 + n}  # fmt: skip
        items: list[Json] = []
        if call:
            made = responses_call(n, str(tool))
            items.append(made)
            told.calls.append((made["call_id"], made["name"], made.get("arguments") or made["input"]))
        elif not prewarm:
            part = {"type": "output_text", "text": told.text, "annotations": [], "logprobs": []}
            items.append({"type": "message", "id": f"msg_{n:04d}e2e", "status": "completed", "role": "assistant",
                          "content": [part]})  # fmt: skip
        response: Json = {
            "id": told.id, "object": "response", "created_at": 1795000000, "status": "in_progress", "model": told.model,
            "output": [], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [], "usage": None,
            "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "service_tier": "auto",
        }  # fmt: skip
        done = response | {"status": "completed", "output": items, "usage": usage, "service_tier": "default"}
        bodies: list[Json] = [{"type": "response.created", "response": response}]
        bodies.append({"type": "response.in_progress", "response": response})
        for index, item in enumerate(items):
            bodies += responses_item(index, item)
        bodies.append({"type": "response.completed", "response": done})
        events = [sse(b["type"], b | {"sequence_number": s}) for s, b in enumerate(bodies)]
        return told.stream, events, done


PREFIX = {"anthropic": "msg_", "chat": "chatcmpl-", "responses": "resp_"}
JSON_HEAD = [("Content-Type", "application/json")]
# Odd case, a repeated name, an empty value and one with inner blanks: all of it must arrive at the client as it is.
VENDOR_HEAD = [
    ("request-id", "req_e2e"),
    ("X-Odd-CASE", "one"),
    ("x-odd-case", "two;  three"),
    ("x-empty", ""),
    ("anthropic-ratelimit-requests-remaining", "49"),
    ("Server", "scripted"),
]


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(name: str, data: Json) -> bytes:
    return f"event: {name}\ndata: ".encode() + dump({"type": name} | data) + b"\n\n"


def squeezed(pieces: Iterable[bytes], encoder: Any) -> Iterable[bytes]:
    """The pieces, compressed where there is an encoder, each flushed so that it can be read when it comes."""
    if encoder is None:
        yield from pieces
        return
    for piece in pieces:
        yield encoder.compress(piece) + encoder.flush(zlib.Z_SYNC_FLUSH)
    yield encoder.flush()


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def shell(offered: Iterable[str]) -> str | None:
    return next((name for name in offered if name in SHELLS), None)


def anthropic_block(index: int, block: Json) -> list[bytes]:
    deltas: list[Json]
    if block["type"] == "tool_use":
        opening = block | {"input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in ("", *halves(json.dumps(block["input"])))]
    elif block["type"] == "thinking":
        opening = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": p} for p in halves(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    else:
        opening = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": p} for p in halves(block["text"])]
    events = [sse("content_block_start", {"index": index, "content_block": opening})]
    events += (sse("content_block_delta", {"index": index, "delta": d}) for d in deltas)
    return [*events, sse("content_block_stop", {"index": index})]


def responses_shell(asked: Json, given: list[Json]) -> str | None:
    """The shell tool among the tools offered; of the "lite" form too, where they come as an input item."""
    tools = list(asked.get("tools") or [])
    for item in given:
        if item.get("type") == "additional_tools":
            tools += item["tools"]
    names = [t.get("name") for t in tools]
    for tool in tools:
        names += (t.get("name") for t in tool.get("tools") or [])
    return shell(n for n in names if n) or ("exec" if "exec" in names else None)


def responses_call(n: int, tool: str) -> Json:
    base = {"id": f"fc_{n:04d}e2e", "status": "completed", "call_id": f"call_{n:04d}e2e", "name": tool}
    if tool == "exec":
        code = f"const r = await tools.exec_command({json.dumps({'cmd': COMMAND})});\ntext(JSON.stringify(r));"
        return base | {"type": "custom_tool_call", "input": code}
    argument = "cmd" if tool == "exec_command" else "command"
    arguments = {argument: COMMAND} if tool == "exec_command" else {argument: COMMAND, "description": "Say a word"}
    return base | {"type": "function_call", "arguments": json.dumps(arguments)}


def responses_item(index: int, item: Json) -> list[Json]:
    where = {"output_index": index, "item_id": item["id"]}
    fields = {"message": "content", "function_call": "arguments", "custom_tool_call": "input"}
    emptied: Json = {"status": "in_progress", fields[item["type"]]: [] if item["type"] == "message" else ""}
    events: list[Json] = [{"type": "response.output_item.added", "output_index": index, "item": item | emptied}]
    if item["type"] == "message":
        (part,) = item["content"]
        where["content_index"] = 0
        events.append({"type": "response.content_part.added", **where, "part": part | {"text": ""}})
        events += (
            {"type": "response.output_text.delta", **where, "delta": p, "logprobs": []} for p in halves(part["text"])
        )
        events.append({"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []})
        events.append({"type": "response.content_part.done", **where, "part": part})
    else:
        kind = "function_call_arguments" if item["type"] == "function_call" else "custom_tool_call_input"
        value = fields[item["type"]]
        events += ({"type": f"response.{kind}.delta", **where, "delta": p} for p in halves(item[value]))
        events.append({"type": f"response.{kind}.done", **where, value: item[value]})
    return [*events, {"type": "response.output_item.done", "output_index": index, "item": item}]
