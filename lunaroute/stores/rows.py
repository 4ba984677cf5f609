"""What a reader gets of the database: rows as structs. Values only; names are the columns of stores/schema.py."""

from __future__ import annotations

from typing import Any

import msgspec


class SessionRow(msgspec.Struct, kw_only=True):
    """One session with its sums. `running`: exchanges of it that have no end yet."""

    session_id: str
    started_at: str
    last_at: str
    client: str | None = None
    client_version: str | None = None
    signal: str | None = None
    parent_session_id: str | None = None
    provider: str | None = None
    dialect: str | None = None
    model_requested: str | None = None
    model_used: str | None = None
    title: str | None = None
    requests: int = 0
    errors: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    usage_unknown: int | None = None
    duration_ms: float | None = None
    jsonl_path: str | None = None
    running: int = 0


class ExchangeRow(msgspec.Struct, kw_only=True):
    """One exchange without its bodies."""

    id: str
    session_id: str | None = None
    sequence: int = 0
    started_at: str
    started_ns: int = 0
    state: str | None = None
    error: str | None = None
    method: str | None = None
    target: str | None = None
    status: int | None = None
    provider: str | None = None
    dialect: str | None = None
    client: str | None = None
    client_version: str | None = None
    transport: str | None = None
    kind: str | None = None
    model_requested: str | None = None
    model_used: str | None = None
    stream: int | None = None
    stop_reason: str | None = None
    response_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    service_tier: str | None = None
    usage_state: str | None = None
    attempts: int | None = None
    duration_ms: float | None = None
    ttfb_ms: float | None = None
    first_content_ms: float | None = None
    overhead_ms: float | None = None
    connect_ms: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    truncated: int | None = None
    lost_bytes: int | None = None


class Bodies(msgspec.Struct, kw_only=True):
    """What was sent and answered, as kept. `trouble` says why a body cannot be shown."""

    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]]
    attempts: list[dict[str, Any]]
    timings: dict[str, float]
    request_body: bytes
    response_body: bytes
    request_decode_error: str | None = None
    response_decode_error: str | None = None
    trouble: str | None = None


class SessionFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which sessions: words are searched in title, model, client, provider and id, all must be there."""

    words: str = ""
    model: str | None = None
    client: str | None = None
    provider: str | None = None
    state: str | None = None
    since: str | None = None


class Totals(msgspec.Struct, kw_only=True):
    """Sums over everything that a filter lets through."""

    sessions: int = 0
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0


class SessionPage(msgspec.Struct, kw_only=True):
    """Some rows, and the marks of the pages beside it (None: there is none)."""

    rows: list[SessionRow]
    totals: Totals
    newer: str | None = None
    older: str | None = None
