"""Events as the relay writes them, made by hand: one place that knows the tap's payloads, for the observer's tests."""

from __future__ import annotations

import json
from typing import Any

from lunaroute import tap
from lunaroute.observe.capture import Allowance
from lunaroute.observe.exchange import Context, Numbers
from lunaroute.observe.mask import Masker
from lunaroute.observe.observer import Observer
from lunaroute.records import Exchange, Record

BOOT = "0123456789ab"
WALL = 1_700_000_000_123_456_789  # 2023-11-14 22:13:20.123
Event = tuple[int, int, int, bytes]
MS = 1_000_000


def observer(*, secrets: tuple[str, ...] = (), limit: int = 1 << 20, budget: int = 1 << 24, **more: Any) -> Observer:
    finished = more.pop("finished", ())
    context = Context(
        boot_id=BOOT,
        masker=Masker(secrets),
        numbers=Numbers(more.pop("last", lambda session: 0)),
        budget=Allowance(budget),
        capture_limit=limit,
        **more,
    )
    return Observer(context, finished)


def head(first: str, *fields: tuple[str, str]) -> bytes:
    return "".join((first, "\r\n", *(f"{n}: {v}\r\n" for n, v in fields), "\r\n")).encode("latin-1")


def opened(number: int, first: str, *fields: tuple[str, str], at: int = 0) -> Event:
    return tap.OPEN, number, at * MS, tap.OPEN_HEADER.pack(WALL, 1, 0) + head(first, *fields)


def attempt(number: int, at: int = 2, *, dialect: str = "anthropic", provider: str = "anthropic", n: int = 1) -> Event:
    said = {"provider": provider, "origin": "https://api.test", "dialect": dialect, "path": "/"}
    return tap.ATTEMPT, number, at * MS, tap.ATTEMPT_HEADER.pack(n, 0, 500, 700) + json.dumps(said).encode()


def answer(number: int, first: str, *fields: tuple[str, str], at: int = 10) -> Event:
    return tap.RESPONSE_HEAD, number, at * MS, head(first, *fields)


def closed(
    number: int, state: str = "ok", at: int = 20, *, why: str = "", lost: int = 0, received: int = 1, sent: int = 4
) -> Event:
    packed = tap.CLOSE_HEADER.pack(tap.STATES.index(state), tap.FLAG_WRITTEN, 0, 0, lost, received * MS, sent * MS)
    return tap.CLOSE, number, at * MS, packed + why.encode()


def post(
    number: int,
    path: str,
    body: bytes,
    reply: bytes,
    *,
    fields: tuple[tuple[str, str], ...] = (),
    status: str = "200 OK",
    reply_fields: tuple[tuple[str, str], ...] = (),
    state: str = "ok",
    dialect: str = "anthropic",
    pieces: int = 64,
) -> list[Event]:
    """A whole exchange."""
    return [
        opened(number, f"POST {path} HTTP/1.1", ("Content-Length", str(len(body))), *fields),
        (tap.REQUEST_BODY, number, MS, body),
        attempt(number, dialect=dialect, provider="anthropic" if dialect == "anthropic" else "openai"),
        answer(number, f"HTTP/1.1 {status}", *reply_fields),
        *(
            (tap.RESPONSE_BODY, number, (11 + i // pieces) * MS, reply[i : i + pieces])
            for i in range(0, len(reply), pieces)
        ),
        closed(number, state, at=500),
    ]


def run(target: Observer, events: list[Event]) -> list[Record]:
    """All records, as if each event were a batch of its own."""
    return [record for event in events for record in (*target.feed(*event), *target.progress())]


def last(records: list[Record]) -> Exchange:
    """The final record of the only exchange."""
    done = [record for record in records if isinstance(record, Exchange) and record.state is not None]
    assert len(done) == 1, records
    return done[0]


def message(text: str = "Hi", model: str = "claude-opus-5-5", **usage: int) -> bytes:
    """A whole Anthropic answer as a stream."""
    usage = usage or {"input_tokens": 12, "output_tokens": 7}
    start = {"id": "msg_1", "model": model, "content": [], "usage": {**usage, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def ask(text: str = "hello", model: str = "claude-opus-5-5", **more: Any) -> bytes:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "tools": [{"name": "Bash"}],
        "stream": True,
    }
    return json.dumps({**body, **more}).encode()
