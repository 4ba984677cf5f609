"""The lines of a session's JSONL file: what each holds, and how a file's end is found again. Must not know folders.

Every line is one JSON object that begins `{"v":1,"seq":N,"type":...,"id":...`, in this order, so that a reader (and we
ourselves after a restart) can tell what a line is from its first bytes. stores/reading.py is the way back.

Bodies: `body` with `body_form`: `json` (the body itself, byte for byte), `json_reflowed` (line ends between JSON tokens
became blanks), `text` (a string), `base64` (a string). An empty body has none of the two, and a body comes last.

Facts are named as in records. A longer text that stands in a body as it is (a tool's result in the request that
brought it) is not written twice: instead of `text` there is `request_at` or `response_at`, `[offset, length]` in bytes
of the JSON string's inside in that body. The words of a streamed answer are in its body only in pieces: `texts` has
them whole.

VERSION stays 1 as long as only fields are added: a reader that does not know them misses nothing that it knew.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Any

import msgspec

from lunaroute._fast.find import find, is_utf8
from lunaroute.records import Closed, Exchange, Text, ToolCall, ToolResult

VERSION = 1
_json = msgspec.json.Encoder()
_START = re.compile(rb'\{"v":\d+,"seq":(\d+),"type":"([a-z]+)"(?:,"id":"([^"]{1,80})")?')
_BLOCK = 65536
MAX_LINE = 1 << 30
# what a line says beside its always present fields, where it is known
_SESSION_FACTS = ("signal", "parent_session_id", "project")
_LATE_FACTS = (
    *("error_kind", "cache_miss_reason", "continues", "limits", "credential", "split", "cost_usd", "cost_kind"),
    *("price_id", "request_sha256", "response_sha256", "found"),
)
_ALTERED = ("request_altered", "response_altered")
ASKED = ("prompt", "tool_result")  # kinds of Text that came with the request; the others are the answer's
# a text is looked for in a body from this length on, so many times at most, and not in giants: it must stay cheap
_WORTH = 200
_LOOKS = 64
_GIANT = 16 * 1024 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


def session_line(seq: int, exchange: Exchange) -> bytes:
    """The first line of a file."""
    values = {
        "id": exchange.session_id,
        "started_at": exchange.started_at,
        "client": exchange.client,
        "client_version": exchange.client_version,
        "signal": exchange.signal,
        "parent_session_id": exchange.parent_session_id,
    }
    if exchange.project is not None:
        values["project"] = exchange.project
    return _line(seq, "session", values)


def request_line(seq: int, exchange: Exchange) -> bytes:
    """What was asked."""
    names = ("id", "session_id", "sequence", "started_at", "started_ns", "transport", "kind", "method", "target")
    more = ("http_version", "provider", "dialect", "client", "client_version", "title")
    values: dict[str, Any] = {name: getattr(exchange, name) for name in (*names, *more)}
    _add(values, exchange, _SESSION_FACTS)
    values["model"] = exchange.model_requested
    values["stream"] = exchange.stream
    values["headers"] = exchange.request_headers
    values["bytes"] = exchange.request_bytes
    if exchange.request_decode_error:
        values["decode_error"] = exchange.request_decode_error
    return _line(seq, "request", values, exchange.request_body)


def response_line(seq: int, exchange: Exchange) -> bytes:
    """How it ended, with the answer and with all that was found out about both."""
    names = ("id", "session_id", "sequence", "started_ns", "state", "error", "status", "reason", "provider", "dialect")
    values: dict[str, Any] = {name: getattr(exchange, name) for name in (*names, "kind")}
    values["model"] = exchange.model_used
    for name in ("stop_reason", "response_id", "title", "usage", "attempts", "timings", "overhead_ms", "truncated"):
        values[name] = getattr(exchange, name)
    values["lost_bytes"] = exchange.lost_bytes
    _add(values, exchange, (*_SESSION_FACTS, *_LATE_FACTS, *_ALTERED))
    _add_words(values, exchange)
    values["headers"] = exchange.response_headers
    values["bytes"] = exchange.response_bytes
    if exchange.response_decode_error:
        values["decode_error"] = exchange.response_decode_error
    return _line(seq, "response", values, exchange.response_body)


def closed_line(seq: int, closed: Closed) -> bytes:
    """The end of an exchange of which nothing else is known."""
    values = {"id": closed.id, "session_id": closed.session_id, "state": closed.state, "error": closed.error}
    return _line(seq, "response", {**values, "truncated": True})


def _add(values: dict[str, Any], exchange: Exchange, names: tuple[str, ...]) -> None:
    """The facts that are there: a line says nothing of what is unknown, empty or false."""
    for name in names:
        value = getattr(exchange, name)
        if value is not None and value is not False and value != []:
            values[name] = value


def _add_words(values: dict[str, Any], exchange: Exchange) -> None:
    places = _Places(exchange.request_body, exchange.response_body)
    if exchange.tool_calls:
        values["tool_calls"] = [_call(call, places) for call in exchange.tool_calls]
    if exchange.tool_results:
        values["tool_results"] = [_result(result, places, asked=True) for result in exchange.tool_results]
    if exchange.texts:
        first = {call.id: call.arguments for call in reversed(exchange.tool_calls)}
        arguments = {said: ident for ident, said in first.items() if said}
        values["texts"] = [_words(text, places, arguments) for text in exchange.texts]


def _call(call: ToolCall, places: _Places) -> Any:
    if call.result is None or len(call.result.text) < _WORTH:
        return call
    return {**_named(call), "result": _result(call.result, places, asked=False)}


def _result(result: ToolResult, places: _Places, *, asked: bool) -> Any:
    if len(result.text) < _WORTH:
        return result
    return {**_named(result), **places.place(result.text, asked=asked)}


def _words(text: Text, places: _Places, arguments: dict[str, str]) -> dict[str, Any]:
    if text.kind == "tool_call" and text.text in arguments:
        return {"kind": text.kind, "call": arguments[text.text]}
    return {"kind": text.kind, **places.place(text.text, asked=text.kind in ASKED)}


def _named(struct: msgspec.Struct) -> dict[str, Any]:
    """The struct's fields that are set, without their text."""
    needed = {name: "" for name in ("id", "name") if name in struct.__struct_fields__}
    defaults = type(struct)(**needed)
    named = {name: getattr(struct, name) for name in struct.__struct_fields__ if name != "text"}
    return {name: value for name, value in named.items() if name in needed or value != getattr(defaults, name)}


class _Places:
    """Where in the bodies texts stand. A text that is not found, or not worth the look, is written out."""

    __slots__ = ("_bodies", "_known", "_left", "_next")

    def __init__(self, request: bytes, response: bytes) -> None:
        self._bodies = {"request_at": request, "response_at": response}
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        self._next = {"request_at": 0, "response_at": 0}
        self._left = _LOOKS

    def place(self, text: str, *, asked: bool) -> dict[str, Any]:
        if len(text) < _WORTH:
            return {"text": text}
        key = "request_at" if asked else "response_at"
        found = self._known.get((key, text))
        if found is None:
            found = self._known[key, text] = self._look(key, text)
        return found

    def _look(self, key: str, text: str) -> dict[str, Any]:
        body = self._bodies[key]
        if self._left and len(text) <= len(body) <= _GIANT and (text.isascii() or not _SURROGATE.search(text)):
            self._left -= 1
            inside = _json.encode(text)[1:-1]
            # as a rule texts stand in the order in which they were found
            at = find(body, inside, self._next[key])
            if at < 0 and self._next[key]:
                at = find(body, inside)
            if at >= 0:
                self._next[key] = at + len(inside)
                return {key: (at, len(inside))}
        return {"text": text}


def _line(seq: int, kind: str, values: dict[str, Any], body: bytes = b"") -> bytes:
    ident = values.pop("id")
    whole = {"v": VERSION, "seq": seq, "type": kind, "id": ident, **values}
    try:
        head = _json.encode(whole)
    except (UnicodeEncodeError, msgspec.MsgspecError, OverflowError):
        head = _json.encode(_sound(msgspec.to_builtins(whole)))
    if not body:
        return head + b"\n"
    form, written = body_of(body)
    return b"".join((head[:-1], b',"body_form":"', form.encode(), b'","body":', written, b"}\n"))


def _sound(value: Any) -> Any:
    """The value without what JSON cannot say: lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_sound(key): _sound(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_sound(each) for each in value]
    return value


def body_of(body: bytes) -> tuple[str, bytes]:
    """(form, the body as it stands in the line)."""
    if not is_utf8(body):
        return "base64", b'"' + base64.b64encode(body) + b'"'
    start = body[:256].lstrip(b" \t\r\n")[:1]
    if start in (b"{", b"["):
        try:
            # checks the grammar without building values; line ends can only stand between tokens
            msgspec.json.decode(body, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            if b"\n" not in body and b"\r" not in body:
                return "json", body
            return "json_reflowed", body.replace(b"\r", b" ").replace(b"\n", b" ")
    return "text", _json.encode(body.decode())


# --- the end of a file ------------------------------------------------------------------------------
def repair(fd: int) -> int:
    """Cut a torn last line off (or end a whole one that lacks its line end); the size afterwards."""
    size = os.fstat(fd).st_size
    start = _line_start(fd, size)
    if start == size:
        return size
    torn = _read(fd, start, size)
    try:
        msgspec.json.decode(torn, type=msgspec.Raw)
        whole = torn.startswith(b"{") and torn.endswith(b"}")
    except (msgspec.DecodeError, RecursionError):
        whole = False
    if whole:
        os.write(fd, b"\n")
        return size + 1
    os.ftruncate(fd, start)
    return start


def last_seq(fd: int, size: int) -> int:
    """The number of the last line of a repaired file; of a file without numbers, how many lines it has."""
    if not size:
        return 0
    start = _line_start(fd, size - 1)
    match = _START.match(_read(fd, start, min(size, start + 256)))
    if match:
        return int(match[1])
    return sum(_read(fd, at, min(size, at + _BLOCK)).count(b"\n") for at in range(0, size, _BLOCK))


def told(fd: int, size: int, within: int) -> dict[str, int]:
    """Which exchanges the last `within` bytes tell of: 1 the request, 2 the response too."""
    found: dict[str, int] = {}
    at = max(0, size - within)
    if at:
        at = _line_start(fd, at)
    rest = b""
    fresh = True  # whether `rest` begins a line
    while at < size:
        block = _read(fd, at, min(size, at + _BLOCK))
        at += len(block)
        lines = (rest + block).split(b"\n")
        for line in lines[:-1]:
            if fresh:
                _note(found, line)
            fresh = True
        rest = lines[-1]
        if len(rest) > _BLOCK:
            # only a line's first bytes tell what it is
            if fresh:
                _note(found, rest)
            fresh = False
            rest = b""
    return found


def _note(found: dict[str, int], line: bytes) -> None:
    match = _START.match(line)
    if match and match[3] and match[2] in (b"request", b"response"):
        ident = match[3].decode("ascii", "replace")
        found[ident] = max(found.get(ident, 0), 1 if match[2] == b"request" else 2)


def _line_start(fd: int, end: int) -> int:
    """Where the line begins that holds the byte before `end`."""
    while end > 0:
        start = max(0, end - _BLOCK)
        place = _read(fd, start, end).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def _read(fd: int, start: int, end: int) -> bytes:
    return os.pread(fd, min(end - start, MAX_LINE), start)
