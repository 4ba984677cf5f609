"""What is kept of an exchange: the structs that observe makes, stores keep and ui shows. Plain values, no behaviour.

Times are UTC. `started_at` is text in SQLite's own form (`YYYY-MM-DD HH:MM:SS.mmm`), durations are milliseconds as
float, counts of tokens are int or None where unknown (never 0 for "not told").
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """How an exchange ended; exactly one. A row without a state is still running."""

    OK = "ok"
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_CANCELLED = "client_cancelled"
    TIMEOUT = "timeout"
    PROXY_ERROR = "proxy_error"
    INTERRUPTED = "interrupted"


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tokens by class as the vendor told them. None = not told. `partial`: the answer was cut before its final figures.

    `input_tokens` is normalised to what was neither read from nor written to a cache only in `uncached_input_tokens`;
    `input_tokens` itself keeps the vendor's figure (Anthropic excludes cache, OpenAI includes it: apis.md).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    audio_tokens: int | None = None
    service_tier: str | None = None
    partial: bool = False


class Attempt(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One try at one provider."""

    number: int
    provider: str
    origin: str
    reused: bool = False
    connect_ms: float | None = None
    tls_ms: float | None = None
    sent: bool = False
    status: int | None = None
    error: str | None = None


class Timings(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Milliseconds since the first byte of the request reached us, None where it never happened."""

    head_received: float | None = None
    request_received: float | None = None
    attempt_started: float | None = None
    request_sent: float | None = None
    response_head: float | None = None
    first_body: float | None = None
    first_content: float | None = None
    done: float | None = None


class Exchange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request and its answer, whole.

    id: `<boot id, 12 hex>-<counter>`; sequence: 1, 2, ... inside its session. signal: what the session was read from (a
    header or body field's name, `own` where the client sent nothing). title: words for people, from the first question
    or the client's own title call. overhead_ms: what the proxy itself took of the time. Header lists are
    `[name, value]` pairs in wire order with credentials masked. Bodies are bytes as they came, with content codings
    undone where that could be done within the limits (`*_decode_error` says when not); they are cut at the capture
    limit (`truncated`).
    """

    id: str
    session_id: str
    sequence: int = 0
    started_at: str
    started_ns: int
    signal: str | None = None
    parent_session_id: str | None = None
    title: str | None = None
    state: State | None = None
    error: str | None = None
    method: str = ""
    target: str = ""
    http_version: str = "1.1"
    status: int | None = None
    reason: str | None = None
    provider: str | None = None
    dialect: str | None = None
    client: str | None = None
    client_version: str | None = None
    transport: str = "http"
    kind: str = "turn"
    model_requested: str | None = None
    model_used: str | None = None
    stream: bool = False
    stop_reason: str | None = None
    response_id: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    attempts: list[Attempt] = msgspec.field(default_factory=list)
    timings: Timings = msgspec.field(default_factory=Timings)
    overhead_ms: float | None = None
    request_headers: list[tuple[str, str]] = msgspec.field(default_factory=list)
    response_headers: list[tuple[str, str]] = msgspec.field(default_factory=list)
    request_body: bytes = b""
    response_body: bytes = b""
    request_bytes: int = 0
    response_bytes: int = 0
    request_decode_error: str | None = None
    response_decode_error: str | None = None
    truncated: bool = False
    lost_bytes: int = 0


class SessionKey(msgspec.Struct, frozen=True):
    """Where an exchange belongs. `source` names the signal it was read from; `parent` is the parent session's key."""

    id: str
    source: str
    client: str | None = None
    parent: str | None = None


class Opened(msgspec.Struct, kw_only=True):
    """An exchange that has begun: enough to show it as running, and to close it as `interrupted` if all else dies."""

    id: str
    session_id: str | None
    started_at: str
    started_ns: int
    method: str
    target: str
    provider: str | None = None


class Closed(msgspec.Struct, kw_only=True):
    """The end of an exchange whose beginning was lost with an earlier observer process; nothing else is known."""

    id: str
    session_id: str | None
    state: State
    error: str | None = None


Record = Opened | Exchange | Closed
"""What the observer yields, per exchange in this order: `Opened`; an `Exchange` without a state once the request is
whole (again if more of it came later); the `Exchange` with its state, or `Closed`."""

Json = dict[str, Any]
