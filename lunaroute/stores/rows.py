"""What a reader gets of the database: rows as structs. Values only; names are the columns of stores/schema.py."""

from __future__ import annotations

from typing import Any

import msgspec


class SessionRow(msgspec.Struct, kw_only=True):
    """One session with its sums. `running`: exchanges of it that have no end yet.

    requests: all of them; turns: without side calls. usage_unknown, cost_unknown: priced exchanges whose tokens or
    dollars are not in the sums because nobody told them.
    """

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
    turns: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    cost_usd: float | None = None
    cost_kind: str | None = None
    cost_unknown: int = 0
    overhead_ms: float = 0.0
    project: str | None = None
    running: int = 0


class ExchangeRow(msgspec.Struct, kw_only=True):
    """One exchange without its bodies. `row` is its number in this database (0 for one that is not from there)."""

    id: str
    row: int = 0
    session_id: str | None = None
    sequence: int = 0
    started_at: str
    started_ns: int = 0
    state: str | None = None
    error: str | None = None
    error_kind: str | None = None
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
    continues: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    web_search_requests: int | None = None
    service_tier: str | None = None
    usage_state: str | None = None
    usage_more: str | None = None
    cost_usd: float | None = None
    cost_kind: str | None = None
    price_id: str | None = None
    tool_calls: int | None = None
    attempts: int | None = None
    duration_ms: float | None = None
    ttfb_ms: float | None = None
    first_content_ms: float | None = None
    overhead_ms: float | None = None
    before_ms: float | None = None
    connect_ms: float | None = None
    upload_ms: float | None = None
    wait_ms: float | None = None
    content_ms: float | None = None
    generation_ms: float | None = None
    after_ms: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    truncated: int | None = None
    lost_bytes: int | None = None
    cache_miss_reason: str | None = None


class ToolRow(msgspec.Struct, kw_only=True):
    """One tool call. duration_ms: from the finished call to the request that brought the result, an upper bound.

    success: 1, 0, or None where nothing tells. arguments: their beginning. exchange, result_exchange: ExchangeRow.row.
    """

    session_id: str
    call_id: str
    exchange: int
    name: str
    kind: str
    arguments: str | None = None
    arguments_bytes: int | None = None
    called_ns: int | None = None
    result_exchange: int | None = None
    result_bytes: int | None = None
    duration_ms: float | None = None
    success: int | None = None


class Bodies(msgspec.Struct, kw_only=True):
    """What was sent and answered, as kept. `trouble` says why a body cannot be shown.

    *_sha256: hex digests of the bodies on the wire. *_altered: what is kept is not byte for byte what was on the wire
    (content coding undone, masked, redacted, cut). http_version and reason: of the first lines. texts: (kind, text).
    """

    request_headers: list[tuple[str, str]]
    response_headers: list[tuple[str, str]]
    attempts: list[dict[str, Any]]
    timings: dict[str, float]
    request_body: bytes
    response_body: bytes
    request_decode_error: str | None = None
    response_decode_error: str | None = None
    trouble: str | None = None
    http_version: str = "1.1"
    reason: str | None = None
    request_sha256: str | None = None
    response_sha256: str | None = None
    request_altered: bool = False
    response_altered: bool = False
    limits: list[dict[str, Any]] = msgspec.field(default_factory=list)
    texts: list[tuple[str, str]] = msgspec.field(default_factory=list)


class SessionFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which sessions: words are searched in title, model, client, provider and id, all must be there.

    since and until: the database's time text; a session counts by its last activity. project: the folder or its end.
    min_tokens: all that were processed, with what a cache gave or took.
    """

    words: str = ""
    model: str | None = None
    client: str | None = None
    provider: str | None = None
    state: str | None = None
    since: str | None = None
    until: str | None = None
    project: str | None = None
    tool: str | None = None
    min_cost: float | None = None
    min_tokens: int | None = None


class Totals(msgspec.Struct, kw_only=True):
    """Sums over everything that a filter lets through. more: of the newest of it only, as many as were asked for.

    prompt_tokens: the input with what a cache gave or took.
    """

    sessions: int = 0
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd: float = 0.0
    cost_unknown: int = 0
    prompt_tokens: int = 0
    more: bool = False


class SessionPage(msgspec.Struct, kw_only=True):
    """Some rows, and the marks of the pages beside it (None: there is none)."""

    rows: list[SessionRow]
    totals: Totals
    newer: str | None = None
    older: str | None = None


class Snippet(msgspec.Struct, kw_only=True):
    """Where a search found something. kind: prompt, answer, ...; marks: (start, end) of what was found in `text`."""

    kind: str
    text: str
    marks: list[tuple[int, int]] = msgspec.field(default_factory=list)


class Hit(msgspec.Struct, kw_only=True):
    """One exchange that a search found. `row`: its number in this database; title and client: of its session."""

    row: int
    id: str
    session_id: str | None
    sequence: int
    started_at: str
    title: str | None = None
    client: str | None = None
    model: str | None = None
    state: str | None = None
    cost_usd: float | None = None
    cost_kind: str | None = None
    snippets: list[Snippet] = msgspec.field(default_factory=list)


class SearchPage(msgspec.Struct, kw_only=True):
    """Hits, the newest first. older: the mark to go on from, None where there is no more.

    unfinished: time ran out before all older exchanges were looked at; `older` goes on with them.
    """

    hits: list[Hit]
    older: str | None = None
    unfinished: bool = False
