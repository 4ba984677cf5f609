"""Recorded sessions for tests: exchanges as the observer makes them, written by the real store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lunaroute.records import Attempt, Exchange, Opened, Record, State, Timings, Usage
from lunaroute.stores.sqlite import SqliteStore

START = datetime(2020, 1, 6, 9, 30, tzinfo=UTC)  # before any clock that runs these tests
BOOT = "0123456789ab"
ORIGIN = "https://api.anthropic.com"


@contextlib.contextmanager
def store_at(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, warn=print)
    store.open()
    try:
        yield store
    finally:
        store.close()


def write(path: Path, records: Iterable[Record]) -> Path:
    """A database with these in it, closed."""
    with store_at(path) as store:
        store.write(list(records))
    return path


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def exchange(number: int, session: str = "session-1", *, at: datetime | None = None, **fields: Any) -> Exchange:
    """One finished exchange; `fields` are those of records.Exchange."""
    moment = at or START + timedelta(seconds=20 * number)
    given: dict[str, Any] = {
        "id": f"{BOOT}-{number}",
        "session_id": session,
        "sequence": number,
        "started_at": stamp(moment),
        "started_ns": int(moment.timestamp() * 1e9),
        "state": State.OK,
        "method": "POST",
        "target": "/v1/messages?beta=true",
        "status": 200,
        "reason": "OK",
        "provider": "anthropic",
        "dialect": "anthropic",
        "client": "claude-code",
        "client_version": "2.1.330",
        "signal": "x-claude-code-session-id",
        "model_requested": "claude-opus-5-5",
        "model_used": "claude-opus-5-5",
        "stop_reason": "end_turn",
        "usage": Usage(input_tokens=900, output_tokens=120, cache_read_tokens=11_000, cache_write_tokens=400),
        "attempts": [Attempt(number=1, provider="anthropic", origin=ORIGIN, sent=True, status=200)],
        "timings": Timings(
            head_received=0.1, request_received=0.6, attempt_started=0.7, request_sent=0.9,
            response_head=412.0, first_body=413.0, first_content=640.0, done=2345.0,
        ),
        "overhead_ms": 0.12,
        "request_headers": [("Host", "127.0.0.1:8081"), ("x-api-key", "***"), ("Content-Type", "application/json")],
        "response_headers": [("content-type", "text/event-stream"), ("request-id", "req_011")],
        **fields,
    }  # fmt: skip
    for side in ("request", "response"):
        given.setdefault(f"{side}_bytes", len(given.get(f"{side}_body", b"")))
    return Exchange(**given)


def opened(number: int, session: str | None = None) -> Opened:
    moment = START + timedelta(seconds=20 * number)
    return Opened(
        id=f"{BOOT}-{number}", session_id=session, started_at=stamp(moment), started_ns=int(moment.timestamp() * 1e9),
        method="POST", target="/v1/messages",
    )  # fmt: skip


def ask(messages: list[dict[str, Any]], system: str = "You are a coding assistant.", **fields: Any) -> bytes:
    """An Anthropic request body."""
    body = {
        "model": "claude-opus-5-5",
        "messages": messages,
        "system": [{"type": "text", "text": system}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}, {"name": "Read"}],
        "max_tokens": 32000,
        "stream": True,
        **fields,
    }
    return json.dumps(body).encode()


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def stream(*blocks: dict[str, Any], stop: str = "end_turn") -> bytes:
    """An Anthropic answer as a stream: one start, delta and stop per block."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"model": "claude-opus-5-5", "content": []}}]
    for index, block in enumerate(blocks):
        empty, delta = dict(block), {}
        if block["type"] == "text":
            empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        elif block["type"] == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            delta = {"type": "thinking_delta", "thinking": block["thinking"]}
        elif block["type"] == "tool_use":
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 120}})
    return sse(*events, {"type": "message_stop"})


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def thinking(words: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": words}


def call(ident: str, name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def result(ident: str, words: str, failed: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": ident, "content": words, "is_error": failed}
    return {"role": "user", "content": [block]}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def tool_loop(session: str = "session-1", first: int = 1) -> list[Exchange]:
    """Three turns as Claude Code makes them: a question, a tool call that works, one that fails, an answer."""
    asked = [user("Why does `make test` fail in **this** folder?")]
    seen = call("toolu_1", "Bash", command="ls -la")
    one = [thinking("I should look at the folder first."), text("Let me look."), seen]
    asked_again = [*asked, assistant(*one), result("toolu_1", "total 4\nREADME.md\nmissing.py")]
    two = [call("toolu_2", "Read", file_path="/src/missing.py")]
    asked_last = [*asked_again, assistant(*two), result("toolu_2", "File is empty.", failed=True)]
    three = [text("The file is **empty**.\n\n```python\nprint('hello')\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n")]
    turns = [(asked, one, "tool_use"), (asked_again, two, "tool_use"), (asked_last, three, "end_turn")]
    return [
        exchange(
            first + index, session, sequence=index + 1, title="Why does `make test` fail in this folder?",
            request_body=ask(messages), response_body=stream(*answer, stop=stop), stop_reason=stop, stream=True,
        )
        for index, (messages, answer, stop) in enumerate(turns)
    ]  # fmt: skip
