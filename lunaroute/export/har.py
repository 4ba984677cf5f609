"""Exchanges as an HTTP Archive (HAR 1.2). Pure: records in, pieces of JSON text out.

A page is a session. What HAR has no place for is under `_lunaroute`. A turn of a WebSocket is an entry of its own, with
its messages under `_webSocketMessages` as browsers write them. Headers are as stored: credentials are masked.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lunaroute.records import Exchange
from lunaroute.stores.rows import SessionRow
from lunaroute.wire.sse import SseReader

_KEPT = (
    *("id", "session_id", "sequence", "state", "error", "error_kind", "kind", "transport", "provider", "dialect"),
    *("client", "client_version", "model_requested", "model_used", "stop_reason", "response_id", "continues"),
    *("usage", "cost_usd", "cost_kind", "price_id", "overhead_ms", "split", "attempts", "limits", "tool_calls"),
    *("request_sha256", "response_sha256", "request_altered", "response_altered", "truncated", "lost_bytes"),
)


def pieces(version: str, sessions: Iterable[SessionRow], exchanges: Iterable[Exchange]) -> Iterator[str]:
    """The archive."""
    pages = [_page(row) for row in sessions]
    creator = {"name": "LunaRoute", "version": version}
    yield f'{{"log":{{"version":"1.2","creator":{_text(creator)},"pages":{_text(pages)},"entries":['
    comma = "\n"
    for exchange in exchanges:
        yield comma + _text(entry(exchange))
        comma = ",\n"
    yield "\n]}}\n"


def _text(value: Any) -> str:
    # ASCII: half a surrogate that a body told of cannot be written otherwise
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _page(row: SessionRow) -> dict[str, Any]:
    return {
        "startedDateTime": _moment(row.started_at),
        "id": row.session_id,
        "title": row.title or "Untitled session",
        "pageTimings": {},
    }


def entry(exchange: Exchange) -> dict[str, Any]:
    """One exchange."""
    timings = _timings(exchange)
    made: dict[str, Any] = {
        "pageref": exchange.session_id,
        "startedDateTime": _moment(exchange.started_at),
        "time": round(sum(value for name, value in timings.items() if name != "ssl" and value > 0), 3),
        "request": _request(exchange),
        "response": _response(exchange),
        "cache": {},
        "timings": timings,
        "_lunaroute": {name: msgspec.to_builtins(getattr(exchange, name)) for name in _KEPT},
    }
    if exchange.transport == "websocket":
        made["_resourceType"] = "websocket"
        made["_webSocketMessages"] = _messages(exchange)
        made["comment"] = "one turn of a WebSocket"
    return made


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=None)
        return f"{moment.isoformat(timespec='milliseconds')}Z"
    except ValueError:
        return "1970-01-01T00:00:00.000Z"


def _request(exchange: Exchange) -> dict[str, Any]:
    target = exchange.target
    made: dict[str, Any] = {
        "method": exchange.method or "GET",
        "url": _url(exchange),
        "httpVersion": f"HTTP/{exchange.http_version}",
        "cookies": [],
        "headers": _headers(exchange.request_headers),
        "queryString": _query(target),
        "headersSize": -1,
        "bodySize": exchange.request_bytes,
    }
    if exchange.request_body:
        text, encoding = _body(exchange.request_body)
        made["postData"] = {"mimeType": _mime(exchange.request_headers), "params": [], "text": text}
        if encoding:
            made["postData"]["_encoding"] = encoding
    return made


def _response(exchange: Exchange) -> dict[str, Any]:
    text, encoding = _body(exchange.response_body)
    content: dict[str, Any] = {
        "size": len(exchange.response_body),
        "compression": len(exchange.response_body) - exchange.response_bytes,
        "mimeType": _mime(exchange.response_headers),
        "text": text,
    }
    if encoding:
        content["encoding"] = encoding
    return {
        "status": exchange.status or 0,
        "statusText": exchange.reason or "",
        "httpVersion": f"HTTP/{exchange.http_version}",
        "cookies": [],
        "headers": _headers(exchange.response_headers),
        "content": content,
        "redirectURL": next((value for name, value in exchange.response_headers if name.lower() == "location"), ""),
        "headersSize": -1,
        "bodySize": exchange.response_bytes,
    }


def _url(exchange: Exchange) -> str:
    """Where it went; of one that went nowhere, where it was sent."""
    if exchange.attempts:
        return exchange.attempts[-1].origin + exchange.target
    host = next((value for name, value in exchange.request_headers if name.lower() == "host"), "")
    return f"http://{host}{exchange.target}"


def _query(target: str) -> list[dict[str, str]]:
    try:
        pairs = parse_qsl(target.partition("?")[2], keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        pairs = []
    return [{"name": name, "value": value} for name, value in pairs]


def _headers(headers: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _mime(headers: list[tuple[str, str]]) -> str:
    return next((value for name, value in headers if name.lower() == "content-type"), "application/octet-stream")


def _body(body: bytes) -> tuple[str, str | None]:
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def _timings(exchange: Exchange) -> dict[str, float]:
    """HAR's parts of the time, which add up to the whole; -1 for what did not happen, 0 for what is not known."""
    split, times = exchange.split, exchange.timings
    if split is not None and split.wait_ms is not None:
        after = (split.first_content_ms or 0.0) + (split.generation_ms or 0.0) + (split.after_ms or 0.0)
        parts = [split.before_ms, split.connect_ms, split.upload_ms, split.wait_ms, after]
    else:
        connect = split.connect_ms if split is not None else None
        sent, head = times.request_sent, times.response_head
        begun = times.attempt_started
        upload = None if sent is None or begun is None else sent - begun - (connect or 0.0)
        wait = None if head is None or sent is None else head - sent
        receive = None if head is None or times.done is None else times.done - head
        parts = [begun, connect, upload, wait, receive]
    blocked, connect, send, wait, receive = parts
    tls = exchange.attempts[-1].tls_ms if exchange.attempts else None
    return {
        "blocked": _figure(blocked, -1),
        "dns": -1,
        "connect": _figure(connect or None, -1),
        "ssl": _figure(tls if connect else None, -1),
        "send": _figure(send, 0),
        "wait": _figure(wait, 0),
        "receive": _figure(receive, 0),
    }


def _figure(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else max(0.0, round(value, 3))


def _messages(exchange: Exchange) -> list[dict[str, Any]]:
    """What went each way. When each message of the answer came is not kept: only the first moment and the last are."""
    begin = exchange.started_ns / 1e9
    text, _ = _body(exchange.request_body)
    first = begin + (exchange.timings.response_head or 0.0) / 1000
    last = begin + (exchange.timings.done or exchange.timings.response_head or 0.0) / 1000
    reader = SseReader()
    answers = [*reader.feed(exchange.response_body), *reader.finish()]
    made = [{"type": "send", "time": begin, "opcode": 1, "data": text}]
    for number, answer in enumerate(answers, 1):
        moment = last if number == len(answers) and number > 1 else first
        said = answer.data.decode("utf-8", "replace")
        made.append({"type": "receive", "time": moment, "opcode": 1, "data": said})
    return made
