"""The lines of a session's JSONL file: what each holds, and how a file's end is found again. Must not know folders.

Every line is one JSON object that begins `{"v":1,"seq":N,"type":...,"id":...`, in this order, so that a reader (and we
ourselves after a restart) can tell what a line is from its first bytes.

Bodies: `body` with `body_form`: `json` (the body itself, byte for byte), `json_reflowed` (line ends between JSON tokens
became blanks), `text` (a string), `base64` (a string). An empty body has none of the two.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Any

import msgspec

from lunaroute.records import Closed, Exchange

VERSION = 1
_json = msgspec.json.Encoder()
_START = re.compile(rb'\{"v":\d+,"seq":(\d+),"type":"([a-z]+)"(?:,"id":"([^"]{1,80})")?')
_BLOCK = 65536
MAX_LINE = 1 << 30


def session_line(seq: int, exchange: Exchange) -> bytes:
    """The first line of a file."""
    return _line(
        seq,
        "session",
        {
            "id": exchange.session_id,
            "started_at": exchange.started_at,
            "client": exchange.client,
            "client_version": exchange.client_version,
            "signal": exchange.signal,
            "parent_session_id": exchange.parent_session_id,
        },
    )


def request_line(seq: int, exchange: Exchange) -> bytes:
    """What was asked."""
    names = ("id", "session_id", "sequence", "started_at", "transport", "kind", "method", "target", "http_version")
    more = ("provider", "dialect", "client", "client_version", "title")
    values: dict[str, Any] = {name: getattr(exchange, name) for name in (*names, *more)}
    values["model"] = exchange.model_requested
    values["stream"] = exchange.stream
    values["headers"] = exchange.request_headers
    values["bytes"] = exchange.request_bytes
    if exchange.request_decode_error:
        values["decode_error"] = exchange.request_decode_error
    return _line(seq, "request", values, exchange.request_body)


def response_line(seq: int, exchange: Exchange) -> bytes:
    """How it ended, with the answer."""
    names = ("id", "session_id", "sequence", "state", "error", "status", "reason", "provider", "dialect", "kind")
    values: dict[str, Any] = {name: getattr(exchange, name) for name in names}
    values["model"] = exchange.model_used
    for name in ("stop_reason", "response_id", "title", "usage", "attempts", "timings", "overhead_ms", "truncated"):
        values[name] = getattr(exchange, name)
    values["lost_bytes"] = exchange.lost_bytes
    values["headers"] = exchange.response_headers
    values["bytes"] = exchange.response_bytes
    if exchange.response_decode_error:
        values["decode_error"] = exchange.response_decode_error
    return _line(seq, "response", values, exchange.response_body)


def closed_line(seq: int, closed: Closed) -> bytes:
    """The end of an exchange of which nothing else is known."""
    values = {"id": closed.id, "session_id": closed.session_id, "state": closed.state, "error": closed.error}
    return _line(seq, "response", {**values, "truncated": True})


def _line(seq: int, kind: str, values: dict[str, Any], body: bytes = b"") -> bytes:
    ident = values.pop("id")
    head = _json.encode({"v": VERSION, "seq": seq, "type": kind, "id": ident, **values})
    if not body:
        return head + b"\n"
    form, written = body_of(body)
    return b"".join((head[:-1], b',"body_form":"', form.encode(), b'","body":', written, b"}\n"))


def body_of(body: bytes) -> tuple[str, bytes]:
    """(form, the body as it stands in the line)."""
    try:
        words = body.decode()
    except UnicodeDecodeError:
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
    return "text", _json.encode(words)


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
