"""Exchanges made by hand, for the stores' tests."""

from __future__ import annotations

from typing import Any

from lunaroute.observe.exchange import stamp
from lunaroute.records import Attempt, Exchange, Opened, State, Timings, Usage

BOOT = "0123456789ab"
START_NS = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20


def opened(number: int) -> Opened:
    ns = START_NS + number * 1_000_000_000
    return Opened(
        id=f"{BOOT}-{number}",
        session_id=None,
        started_at=stamp(ns),
        started_ns=ns,
        method="POST",
        target="/v1/messages",
    )


def exchange(number: int, state: State | None = State.OK, **more: Any) -> Exchange:
    ns = START_NS + number * 1_000_000_000
    values: dict[str, Any] = {
        "id": f"{BOOT}-{number}",
        "session_id": "sess-1",
        "sequence": number,
        "started_at": stamp(ns),
        "started_ns": ns,
        "signal": "thread-id",
        "state": state,
        "method": "POST",
        "target": "/v1/messages",
        "status": 200,
        "provider": "anthropic",
        "dialect": "anthropic",
        "client": "codex",
        "model_requested": "claude-opus-5-5",
        "request_headers": [("Host", "x"), ("x-api-key", "***")],
        "request_body": b'{"model":"claude-opus-5-5"}',
        "request_bytes": 27,
        "timings": Timings(response_head=10.0, first_content=12.0, done=250.0 if state else None),
        "attempts": [Attempt(number=1, provider="anthropic", origin="https://api.test", connect_ms=1.0, tls_ms=2.0)],
    }
    if state is not None:
        values |= {
            "model_used": "claude-opus-5-5-2026",
            "usage": Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3, service_tier="standard"),
            "response_body": b"event: message_stop\ndata: {}\n\n",
            "response_bytes": 30,
        }
    return Exchange(**(values | more))
