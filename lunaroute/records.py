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


PAID = frozenset(("turn", "queued", "title", "prewarm", "compaction", "probe", "embedding"))
"""Kinds of exchanges that a vendor bills. Counts, lists of models and handshakes cost nothing.

A response in the background is `queued`, what it costs unknown, until somebody has fetched it: then the request that
brought it is the turn, and the one that asked for it is `background`. All other looks at it are a `poll`.
"""

TURNS = ("turn", "queued")
"""Kinds that count as turns of a session: without side calls, and without the client's own compactions."""


class UsagePart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One step of an answer that is billed by itself, maybe under another model (Anthropic's `usage.iterations[]`).

    kind: message, compaction, advisor_message, fallback_message, or what the vendor called it. Classes as in Usage.
    """

    kind: str
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tokens by class as the vendor told them. None = not told. `partial`: the answer was cut before its final figures.

    `input_tokens` keeps the vendor's figure: Anthropic's excludes what was read from or written to a cache, OpenAI's
    includes it. `thinking_tokens` and the audio classes are part of the input or output they belong to. `parts`: the
    billed steps where the vendor lists them: the counts are their sums, the price that of each by its own model.
    `unpriced_tools`: the vendor ran tools for a fee that is not told; a price is then the least that was spent.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    audio_tokens: int | None = None
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    partial: bool = False
    unpriced_tools: bool = False
    parts: list[UsagePart] = msgspec.field(default_factory=list)


class ToolCall(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tool that an answer asked for.

    id: the vendor's call id (`<exchange>-t1`, ... where there is none). kind: function, custom, mcp or server (run by
    the vendor). arguments: the model's words, JSON text or free form. called_ns: wall clock ns when the call was
    complete in the answer. result and success are set here only for tools whose result is in the same answer.
    """

    id: str
    name: str
    kind: str = "function"
    arguments: str = ""
    arguments_bytes: int = 0
    called_ns: int | None = None
    result: ToolResult | None = None


class ToolResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What came of a tool call, seen in a later request (or in the same answer). success: None where nothing tells."""

    id: str
    text: str = ""
    result_bytes: int = 0
    success: bool | None = None
    seen_ns: int | None = None


class Text(msgspec.Struct, kw_only=True):
    """What was new in this exchange, for the search. kind: prompt, answer, thinking, tool_call, tool_result."""

    kind: str
    text: str


class Finding(msgspec.Struct, kw_only=True):
    """A value that was taken out of what is kept. The value itself is nowhere.

    place: request (it left this machine) or response. kind: email, secret, ...; name: finer (`aws_access_key`). digest:
    of the value, under the key of the installation: the same in all exchanges and in its token. count: how often.
    """

    place: str
    kind: str
    name: str
    digest: str
    count: int = 1


class Limit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One rate-limit or quota window as the answer's headers told it.

    name: `requests`, `tokens`, `5h`, `7d`, `primary`, ... as in the header. used: share 0..1. resets_ns: wall clock.
    """

    name: str
    limit: float | None = None
    remaining: float | None = None
    used: float | None = None
    resets_ns: int | None = None
    window_minutes: float | None = None
    status: str | None = None


class Split(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where the time of an exchange went, milliseconds, None where it cannot be told. All seven add up to the whole.

    before: the proxy, from the request's first byte until the attempt; connect: dial and TLS of a new connection;
    upload: until the request was sent whole; wait: until the first byte of the answer; first_content: from there to the
    first piece of what was asked for; generation: to the answer's last byte; after: the proxy, until the client had it.
    """

    before_ms: float | None = None
    connect_ms: float | None = None
    upload_ms: float | None = None
    wait_ms: float | None = None
    first_content_ms: float | None = None
    generation_ms: float | None = None
    after_ms: float | None = None


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

    project: the folder the client works in, where it says so. tool_calls: of this answer; tool_results: that this
    request brought (the new ones, not the resent history). texts: what is new here, for the search. cost_usd: None
    where unknown; cost_kind: `api`, or `api_equivalent` for traffic of a subscription; price_id: the row of the price
    table. *_sha256: hex digests of the body's bytes on the wire (content coding as sent, transfer coding undone).
    *_altered: the stored copy differs from the wire's bytes (decoded, masked, redacted, cut). continues: the exchange
    whose answer this one goes on from without repeating it (`previous_response_id`). thread: a digest of the
    conversation up to and with this answer, by which a client without signals is found again. credential: a keyed
    digest that tells accounts apart, for their limits. found: personal data and secrets that were taken out. cuts: how
    the request body can be cut (_fast/cuts.pyx), made once for all who need it; not kept.
    """

    id: str
    session_id: str
    sequence: int = 0
    started_at: str
    started_ns: int
    signal: str | None = None
    parent_session_id: str | None = None
    title: str | None = None
    project: str | None = None
    state: State | None = None
    error: str | None = None
    error_kind: str | None = None
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
    continues: str | None = None
    cache_miss_reason: str | None = None
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
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    tool_results: list[ToolResult] = msgspec.field(default_factory=list)
    texts: list[Text] = msgspec.field(default_factory=list)
    limits: list[Limit] = msgspec.field(default_factory=list)
    found: list[Finding] = msgspec.field(default_factory=list)
    split: Split | None = None
    cost_usd: float | None = None
    cost_kind: str | None = None
    price_id: str | None = None
    credential: str | None = None
    thread: bytes | None = None
    cuts: Any = None
    request_sha256: str | None = None
    response_sha256: str | None = None
    request_altered: bool = False
    response_altered: bool = False


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
