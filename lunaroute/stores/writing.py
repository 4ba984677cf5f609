"""The statements that put records into rows: sessions, exchanges, attempts, tool calls, packs, the search index.

Must not know files, locks or transactions (stores/sqlite.py): it is given a connection inside one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from lunaroute._fast.words import words_once
from lunaroute.errors import StoreError
from lunaroute.records import (
    TURNS,
    Closed,
    Exchange,
    Opened,
    Record,
    Split,
    ToolCall,
    ToolResult,
    Usage,
    UsagePart,
)
from lunaroute.stores import findings, packs
from lunaroute.stores.sums import COMPLETE, ERRORS, FEES, ONE_SIDED, PARTIAL, UNKNOWN, unknowns

ARGUMENTS_KEPT = 64  # characters of a tool call's arguments in its row; all of them are in the pack
_SUMMED = ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens")
_summed, _NOTHING = attrgetter(*_SUMMED), (None,) * len(_SUMMED)
_COUNTED = (
    *_SUMMED,
    *("cache_write_5m_tokens", "cache_write_1h_tokens", "audio_input_tokens", "audio_output_tokens"),
    "web_search_requests",
)
_counted = attrgetter(*_COUNTED)
USAGE_COLUMNS = (*_COUNTED, "service_tier", "usage_more", "usage_state")
_json = msgspec.json.Encoder()


class UsageMore(msgspec.Struct, omit_defaults=True):
    """What of a usage has no column of its own: rare, and needed to price it anew."""

    audio_tokens: int | None = None
    web_fetch_requests: int | None = None
    speed: str | None = None
    inference_geo: str | None = None
    parts: list[UsagePart] = msgspec.field(default_factory=list)


_NO_MORE = UsageMore()
_told_more = msgspec.json.Decoder(UsageMore)


def usage_state(usage: Usage, kind: str = "turn") -> str:
    """`unknown` where no figure was told, `partial` where the answer was cut or told only one side, `fees` where all
    tokens were told but not what tools of the vendor took beside them, else `complete`."""
    if _summed(usage) == _NOTHING:
        return UNKNOWN
    half = usage.input_tokens is None or usage.output_tokens is None
    if usage.partial or (half and not usage.parts and kind not in ONE_SIDED):
        return PARTIAL
    return FEES if usage.unpriced_tools else COMPLETE


def usage_more(usage: Usage) -> str | None:
    """The column `usage_more`."""
    more = UsageMore(usage.audio_tokens, usage.web_fetch_requests, usage.speed, usage.inference_geo, usage.parts)
    return None if more == _NO_MORE else _json.encode(more).decode()


def usage_from(row: Mapping[str, Any]) -> Usage:
    """The usage that the columns of `exchanges` tell."""
    more = UsageMore()
    if row["usage_more"]:
        with contextlib.suppress(msgspec.DecodeError):  # damaged: as good as none
            more = _told_more.decode(row["usage_more"])
    return Usage(
        **{name: row[name] for name in (*_COUNTED, "service_tier")},
        **{name: getattr(more, name) for name in UsageMore.__struct_fields__},
        partial=row["usage_state"] == PARTIAL,
        unpriced_tools=row["usage_state"] == FEES,
    )


def row_of(exchange: Exchange) -> dict[str, Any]:
    """The columns of `exchanges` but for `row`."""
    usage, timings = exchange.usage, exchange.timings
    split = exchange.split or Split(connect_ms=_connecting(exchange))
    ended = exchange.state is not None
    row: dict[str, Any] = dict(zip(_PLAIN, _plain(exchange), strict=True))
    row.update(zip(_COUNTED, _counted(usage), strict=True))
    row.update(
        state=exchange.state.value if exchange.state is not None else None,
        service_tier=usage.service_tier,
        usage_state=usage_state(usage, exchange.kind) if ended else None,
        usage_more=usage_more(usage) if ended else None,
        tool_calls=len(exchange.tool_calls) if ended else None,
        attempts=len(exchange.attempts),
        duration_ms=timings.done,
        ttfb_ms=timings.response_head,
        first_content_ms=timings.first_content,
        before_ms=split.before_ms,
        connect_ms=split.connect_ms,
        upload_ms=split.upload_ms,
        wait_ms=split.wait_ms,
        content_ms=split.first_content_ms,
        generation_ms=split.generation_ms,
        after_ms=split.after_ms,
        stream=int(exchange.stream),
        truncated=int(exchange.truncated),
    )
    return row


def _connecting(exchange: Exchange) -> float | None:
    last = exchange.attempts[-1] if exchange.attempts else None
    return None if last is None or last.reused else (last.connect_ms or 0.0) + (last.tls_ms or 0.0)


_PLAIN = (
    *("id", "session_id", "sequence", "started_at", "started_ns", "error", "error_kind", "method", "target", "status"),
    *("provider", "dialect", "client", "client_version", "transport", "kind", "model_requested", "model_used"),
    *("stop_reason", "response_id", "continues", "cost_usd", "cost_kind", "price_id", "overhead_ms", "request_bytes"),
    *("response_bytes", "lost_bytes", "cache_miss_reason"),
)
_plain = attrgetter(*_PLAIN)
_COLUMNS = tuple(row_of(Exchange(id="", session_id="", started_at="", started_ns=0)))
_UPSERT = (
    f"INSERT INTO exchanges ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS if name != 'id')} "
    "WHERE exchanges.state IS NULL"
)
# the session of an exchange is known with its request, so that it is counted there once
_OPENED_COLUMNS = ("id", "started_at", "started_ns", "method", "target", "provider")
_OPENED = (
    f"INSERT INTO exchanges ({', '.join(_OPENED_COLUMNS)}) "
    f"VALUES ({', '.join(':' + name for name in _OPENED_COLUMNS)}) ON CONFLICT (id) DO NOTHING"
)
# a sum over nothing known stays NULL: unknown is never shown as zero
_ADDED = (*_SUMMED, "cost_usd")
_SUMS = ", ".join(
    f"{name} = CASE WHEN excluded.{name} IS NULL THEN {name} ELSE coalesce({name}, 0) + excluded.{name} END"
    for name in _ADDED
)
_TOLD_ONCE = ("client", "client_version", "parent_session_id", "provider", "dialect", "jsonl_path", "cost_kind")
_TALLIES = (
    *("requests", "turns", "errors", "usage_unknown", "cost_unknown", "tool_calls", "tool_failures"),
    *("duration_ms", "overhead_ms"),
)
_NEWEST = ("model_used", "project", "thread")  # the last word on them counts
_SESSION_COLUMNS = (
    *("session_id", "started_at", "last_at", "signal", "model_requested", "model_used", "title", "project", "thread"),
    *_TOLD_ONCE,
    *_ADDED,
    *_TALLIES,
)
# a title call's answer (an exchange that has ended, of that kind) beats words taken from the first question. What a
# batch tells of one session is put together first, by _joined, which must do as this statement does
_SESSION = f"""
INSERT INTO sessions ({", ".join(_SESSION_COLUMNS)})
VALUES ({", ".join(f"?{number}" for number in range(1, len(_SESSION_COLUMNS) + 1))})
ON CONFLICT (session_id) DO UPDATE SET
    last_at = max(last_at, excluded.last_at),
    model_requested = coalesce(model_requested, excluded.model_requested),
    title = CASE WHEN ?{len(_SESSION_COLUMNS) + 1}
        THEN coalesce(excluded.title, title) ELSE coalesce(title, excluded.title) END,
    {", ".join(f"{name} = coalesce(excluded.{name}, {name})" for name in _NEWEST)},
    {", ".join(f"{name} = coalesce({name}, excluded.{name})" for name in _TOLD_ONCE)},
    {", ".join(f"{name} = {name} + excluded.{name}" for name in _TALLIES)},
    {_SUMS}
"""
_ABANDON = (
    "UPDATE exchanges SET state = ?, error = ?, usage_state = 'unknown', truncated = 1 WHERE id = ? AND state IS NULL"
)
_ABANDONED = (
    "UPDATE sessions SET errors = errors + ?1, usage_unknown = usage_unknown + ?2, cost_unknown = cost_unknown + ?3 "
    "WHERE session_id = ?4"
)
_PACK = "INSERT INTO packs (exchange, base, data) VALUES (?, ?, ?)"
_ATTEMPT = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# its response was fetched by another request, which is the turn now
_FETCHED = "UPDATE exchanges SET kind = 'background' WHERE id = ? AND session_id = ? AND kind = 'queued'"
_CALLED = (
    "INSERT INTO tool_calls (session_id, call_id, exchange, name, kind, arguments, arguments_bytes, called_ns) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
# some servers count their calls anew with each answer: the id belongs to the newest, earlier ones get their exchange's
_SHORT_ID = 12
_CALLED_BEFORE = (
    "UPDATE tool_calls SET call_id = call_id || '~' || exchange WHERE session_id = ? AND call_id = ? AND exchange != ?"
)
# the first request that brings a result counts, however often the history is sent again
_RESULT = """
UPDATE tool_calls SET result_exchange = ?1, result_bytes = ?2, success = ?3,
    duration_ms = CASE WHEN called_ns IS NULL OR ?4 IS NULL THEN NULL ELSE max(0, (?4 - called_ns) / 1e6) END
WHERE session_id = ?5 AND call_id = ?6 AND result_exchange IS NULL
"""
_LIMIT = (
    "INSERT INTO limits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET seen_ns = excluded.seen_ns, "
    '"limit" = excluded."limit", remaining = excluded.remaining, used = excluded.used, '
    "resets_ns = excluded.resets_ns, window_minutes = excluded.window_minutes, status = excluded.status "
    "WHERE seen_ns <= excluded.seen_ns"
)
RECALLED = 8
_ELSEWHERE = 500  # results that are looked for among the calls of other sessions
FACETS = ("model_used", "client", "provider", "project")
FACETS_KNOWN = 10_000


class _Later:
    """What a batch writes at its end, in one go: nothing in the batch asks for it."""

    __slots__ = ("attempts", "limits", "packs", "sessions", "uses", "words")

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.attempts: list[tuple[Any, ...]] = []
        self.packs: list[tuple[int, int, bytes]] = []
        self.uses: Counter[int] = Counter()
        self.limits: dict[tuple[str, str, str], tuple[Any, ...]] = {}
        self.words: list[tuple[int, str]] = []

    def session(self, values: dict[str, Any]) -> dict[str, Any]:
        """What is known by now of the session, with these values."""
        known = self.sessions.setdefault(values["session_id"], values)
        if known is not values:
            _joined(known, values)
        return known

    def write(self, connection: sqlite3.Connection) -> None:
        connection.executemany(
            _SESSION, [(*map(each.__getitem__, _SESSION_COLUMNS), each["titled"]) for each in self.sessions.values()]
        )
        connection.executemany(_ATTEMPT, self.attempts)
        connection.executemany(_PACK, self.packs)
        connection.executemany(
            "UPDATE blobs SET uses = uses + ? WHERE blob = ?", [(count, blob) for blob, count in self.uses.items()]
        )
        connection.executemany(_LIMIT, self.limits.values())
        # last of all: a statement with a savepoint of its own makes the index write out what it has gathered so far
        connection.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", self.words)


def _joined(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Put what is told later of a session to what was told before."""
    known["last_at"] = max(known["last_at"], more["last_at"])
    for name in _TALLIES:
        known[name] += more[name]
    for name in _ADDED:
        if more[name] is not None:
            known[name] = more[name] if known[name] is None else known[name] + more[name]
    for name in ("model_requested", *_TOLD_ONCE):
        if known[name] is None:
            known[name] = more[name]
    for name in _NEWEST:
        if more[name] is not None:
            known[name] = more[name]
    if more["title"] is not None and (more["titled"] or known["title"] is None):
        known["title"], known["titled"] = more["title"], more["titled"]


class Writing:
    """See the module. locate: the path of a session's JSONL file, or None."""

    def __init__(self, locate: Callable[[str, int], str | None]) -> None:
        self.locate = locate
        self._connection: sqlite3.Connection | None = None
        self._heads = packs.Heads(self._recall)
        self._facets: set[tuple[str, str]] = set()
        self._later = _Later()

    def forget(self, sessions: Iterable[str]) -> None:
        """What is stored of these sessions has changed."""
        for session in sessions:
            self._heads.forget(session)

    def reset(self) -> None:
        """Another database is behind the connection, or a transaction was undone."""
        self._heads = packs.Heads(self._recall)
        self._facets.clear()

    def write(self, connection: sqlite3.Connection, batch: Sequence[Record]) -> None:
        """Every record of the batch; a record that is there already changes nothing."""
        self._connection = connection
        self._later = _Later()
        for record in batch:
            if isinstance(record, Exchange):
                self._exchange(connection, record)
            elif isinstance(record, Opened):
                connection.execute(_OPENED, {name: getattr(record, name) for name in _OPENED_COLUMNS})
            else:
                self._finish(connection)  # the session's row must be there
                self.abandon(connection, record)
        self._finish(connection)

    def _finish(self, connection: sqlite3.Connection) -> None:
        later, self._later = self._later, _Later()
        later.write(connection)

    def abandon(self, connection: sqlite3.Connection, closed: Closed) -> None:
        """The end of an exchange of which nothing else is known."""
        if connection.execute(_ABANDON, (closed.state.value, closed.error, closed.id)).rowcount:
            session, kind, status = connection.execute(
                "SELECT session_id, kind, status FROM exchanges WHERE id = ?", (closed.id,)
            ).fetchone()
            counted = int(closed.state in ERRORS and kind != "handshake")
            connection.execute(_ABANDONED, (counted, *unknowns(kind, status, UNKNOWN, None), session))

    # --- one exchange -----------------------------------------------------------------------------
    def _exchange(self, connection: sqlite3.Connection, exchange: Exchange) -> None:
        found = connection.execute(
            "SELECT session_id, state, row, kind FROM exchanges WHERE id = ?", (exchange.id,)
        ).fetchone()
        if found is not None and found[1] is not None:
            return  # given again
        row = row_of(exchange)
        made = connection.execute(_UPSERT, tuple(row.values())).lastrowid or 0
        number: int = found[2] if found is not None else made
        # the handshake of a WebSocket is kept but is no request of its own: its turns are
        counted = exchange.kind != "handshake"
        first = counted and (found is None or found[0] is None)
        session = self._later.session(self._session(exchange, row, first))
        # what a request is for may only be known at its end
        was_turn = found is not None and found[0] is not None and found[3] in TURNS
        session["turns"] += int(exchange.kind in TURNS) - int(was_turn)
        for name in FACETS:
            value = getattr(exchange, name)
            if value and (name, value) not in self._facets:
                self._facet(connection, name, value)
        if exchange.state is None:
            return
        if exchange.kind == "turn" and exchange.continues and not exchange.request_body:
            self._fetched(connection, exchange, session)
        later = self._later
        later.attempts += [
            (number, a.number, a.provider, a.origin, a.status, a.error, a.sent, a.reused, a.connect_ms, a.tls_ms)
            for a in exchange.attempts
        ]
        self._pack(connection, exchange, number)
        if exchange.tool_calls or exchange.tool_results:
            self._tools(connection, exchange, number, session)
        if exchange.texts:
            later.words.append((number, words_once([text.text for text in exchange.texts])))
        if exchange.found:
            findings.add(connection, exchange, number)
        for limit in exchange.limits:
            told = _limit_row(exchange, limit)
            known = later.limits.get(told[:3])
            if known is None or known[3] <= told[3]:
                later.limits[told[:3]] = told

    def _fetched(self, connection: sqlite3.Connection, exchange: Exchange, session: dict[str, Any]) -> None:
        if connection.execute(_FETCHED, (exchange.continues, exchange.session_id)).rowcount:
            for name in ("turns", "usage_unknown", "cost_unknown"):
                session[name] -= 1

    def _session(self, exchange: Exchange, row: dict[str, Any], first: bool) -> dict[str, Any]:
        ended = exchange.state is not None
        values: dict[str, Any] = {name: row.get(name) for name in _SESSION_COLUMNS}
        counted = exchange.kind != "handshake"
        duration = (exchange.timings.done or 0.0) if ended else 0.0
        values.update(
            session_id=exchange.session_id,
            last_at=_later(exchange, duration) if ended else exchange.started_at,
            signal=exchange.signal,
            parent_session_id=exchange.parent_session_id,
            project=exchange.project,
            thread=exchange.thread,
            title=exchange.title,
            titled=exchange.kind == "title" and ended,
            jsonl_path=self.locate(exchange.session_id, exchange.started_ns),
            requests=int(first),
            turns=0,
            model_used=exchange.model_used if ended and exchange.kind != "title" else None,
            # a refused handshake (426) is how a client is told to use HTTP
            errors=int(ended and exchange.state in ERRORS and counted),
            usage_unknown=0,
            cost_unknown=0,
            tool_calls=0,
            tool_failures=0,
            duration_ms=duration if counted else 0.0,
            overhead_ms=(exchange.overhead_ms or 0.0) if ended and counted else 0.0,
        )
        if not ended:
            values.update({name: None for name in _ADDED})
        else:
            values["usage_unknown"], values["cost_unknown"] = unknowns(
                exchange.kind, exchange.status, row["usage_state"], exchange.cost_usd
            )
        return values

    def _pack(self, connection: sqlite3.Connection, exchange: Exchange, number: int) -> None:
        heads = self._heads.of(exchange.session_id)
        later = self._later

        def blob(piece: bytes) -> int:
            kept = blob_of(connection, piece)
            later.uses[kept] += 1
            return kept

        packed = packs.pack(exchange, heads, blob, _more(exchange))
        later.packs.append((number, packed.base.exchange if packed.base else 0, packed.data))
        if exchange.request_body:
            self._heads.add(exchange.session_id, packed.as_head(number), packed.base if packed.goes_on else None)

    def _recall(self, session: str) -> packs.Head | None:
        """Of the last exchanges of a session that nobody here remembers, the one that had most to say."""
        connection = self._connection
        assert connection is not None
        found = connection.execute(
            # the very last may be a side call with a conversation of its own, or have been cut off without a pack
            "SELECT row FROM (SELECT row, request_bytes FROM exchanges JOIN packs ON exchange = row "
            "WHERE session_id = ? ORDER BY sequence DESC LIMIT ?) ORDER BY request_bytes DESC, row DESC LIMIT 1",
            (session, RECALLED),
        ).fetchone()
        if found is None:
            return None
        try:
            return packs.head_of(packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone()), found[0])
        except StoreError:
            return None  # a damaged pack is nothing to build on

    def _tools(self, connection: sqlite3.Connection, exchange: Exchange, number: int, values: dict[str, Any]) -> None:
        session = exchange.session_id
        # results first: an answer may use the id of the call that its request has brought the result of
        missing = [each for each in exchange.tool_results if not self._result(connection, values, number, each)]
        if missing:
            self._results_elsewhere(connection, number, missing)
        for call in exchange.tool_calls:
            if len(call.id) < _SHORT_ID:
                connection.execute(_CALLED_BEFORE, (session, call.id, number))
            values["tool_calls"] += connection.execute(_CALLED, _call_row(session, number, call)).rowcount
            if call.result is not None:
                self._result(connection, values, number, call.result)

    def _result(self, connection: sqlite3.Connection, of: dict[str, Any], number: int, result: ToolResult) -> bool:
        """Whether a call of this session has waited for it; a failure is added to the session's."""
        success = None if result.success is None else int(result.success)
        values = (number, result.result_bytes, success, result.seen_ns, of["session_id"], result.id)
        first = connection.execute(_RESULT, values).rowcount
        of["tool_failures"] += first if success == 0 else 0
        return bool(first)

    def _results_elsewhere(self, connection: sqlite3.Connection, number: int, results: list[ToolResult]) -> None:
        """A conversation that is forked or resumed goes on under another id than its last calls were made under."""
        long = {result.id: result for result in results[-_ELSEWHERE:] if len(result.id) >= _SHORT_ID}
        marks = ", ".join("?" * len(long))
        waiting = connection.execute(
            f"SELECT session_id, call_id FROM tool_calls WHERE result_exchange IS NULL AND call_id IN ({marks})",
            list(long),
        ).fetchall()
        for session, ident in waiting:
            told = self._later.sessions.get(session)
            of = told if told is not None else {"session_id": session, "tool_failures": 0}
            self._result(connection, of, number, long[ident])
            if told is None and of["tool_failures"]:
                connection.execute(
                    "UPDATE sessions SET tool_failures = tool_failures + 1 WHERE session_id = ?", (session,)
                )

    def _facet(self, connection: sqlite3.Connection, name: str, value: str) -> None:
        if len(self._facets) >= FACETS_KNOWN:
            self._facets.clear()
        self._facets.add((name, value))
        connection.execute("INSERT INTO facets VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))


def _later(exchange: Exchange, duration_ms: float) -> str:
    seconds, rest = divmod(exchange.started_ns + int(duration_ms * 1e6), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _more(exchange: Exchange) -> dict[str, Any]:
    """What the pack keeps beside the bodies."""
    more: dict[str, Any] = {
        "timings": msgspec.to_builtins(exchange.timings),
        "http": exchange.http_version,
        "reason": exchange.reason,
        "request_error": exchange.request_decode_error,
        "response_error": exchange.response_decode_error,
        "request_sha256": bytes.fromhex(exchange.request_sha256) if exchange.request_sha256 else None,
        "response_sha256": bytes.fromhex(exchange.response_sha256) if exchange.response_sha256 else None,
        "altered": int(exchange.request_altered) | int(exchange.response_altered) << 1,
        "limits": msgspec.to_builtins(exchange.limits),
    }
    return {name: value for name, value in more.items() if value}


def _call_row(session: str, number: int, call: ToolCall) -> tuple[Any, ...]:
    size = call.arguments_bytes or len(call.arguments.encode("utf-8", "replace"))
    begin = call.arguments[:ARGUMENTS_KEPT]
    return (session, call.id, number, call.name, call.kind, begin, size, call.called_ns)


def _limit_row(exchange: Exchange, limit: Any) -> tuple[Any, ...]:
    return (
        *(exchange.provider or "", exchange.credential or "", limit.name, exchange.started_ns, limit.limit),
        *(limit.remaining, limit.used, limit.resets_ns, limit.window_minutes, limit.status),
    )


def blob_of(connection: sqlite3.Connection, piece: bytes) -> int:
    """The number of the blob of these bytes, which is made where there is none."""
    key = packs.digest(piece)
    found = connection.execute("SELECT blob FROM blobs WHERE hash = ?", (key,)).fetchone()
    if found is not None:
        return int(found[0])
    made = connection.execute("INSERT INTO blobs (hash, data) VALUES (?, ?)", (key, packs.squeeze(piece)))
    return int(made.lastrowid or 0)
