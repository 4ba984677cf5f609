"""The questions that people ask of the recorded sessions: lists, one session, one exchange. Read-only.

Knows the schema of stores/sqlite.py; must not know HTML, terminals or HTTP. Words of people reach SQL as parameters
only; columns to sort by come from a table; ids are checked before anything is done with them.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import zstandard

from lunaroute.errors import StoreError
from lunaroute.stores import packs
from lunaroute.stores.filters import PROMPT, WORDS_LIMIT, bindable, of_sessions, where_of
from lunaroute.stores.readonly import BadQuestion, Connection, NotFound
from lunaroute.stores.rows import Bodies, ExchangeRow, SessionFilter, SessionPage, SessionRow, ToolRow, Totals

Value = TypeVar("Value")

ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
BODY_LIMIT = 64 << 20  # bytes of one body after decompression: above any capture limit in use
PAGE_LIMIT = 500
FACET_ROWS = 200  # of one kind
NAMED_AMONG = 2_000
ID_BEGINS = 6  # letters of an id from which it is looked for

SORTS: Mapping[str, str] = {
    "last": "last_at",
    "started": "started_at",
    "requests": "COALESCE(requests, 0)",
    "errors": "COALESCE(errors, 0)",
    "input": "COALESCE(input_tokens, -1)",
    "prompt": f"COALESCE({PROMPT}, -1)",
    "output": "COALESCE(output_tokens, -1)",
    "duration": "COALESCE(duration_ms, -1)",
    "cost": "COALESCE(cost_usd, -1)",
    "model": "COALESCE(model_used, model_requested, '')",
    "client": "COALESCE(client, '')",
    "title": "COALESCE(title, '')",
}
FACETS = ("model_used", "client", "provider", "project")


_SESSION_COLUMNS = ", ".join(name for name in SessionRow.__struct_fields__ if name != "running")
EXCHANGE_COLUMNS = ", ".join(ExchangeRow.__struct_fields__)


def valid_id(text: str) -> str:
    """The id, or NotFound: no other text goes on to SQL or a path."""
    if not ID.fullmatch(text):
        raise NotFound("This is not an id of a session or an exchange: letters, digits, - and _ only, at most 64.")
    return text


def list_sessions(
    db: Connection,
    wanted: SessionFilter,
    *,
    sort: str = "last",
    ascending: bool = False,
    limit: int = 50,
    mark: str | None = None,
    counted: int | None = None,
) -> SessionPage:
    """One page. `mark` is `newer` or `older` of another page: the row it begins after, so that pages do not shift.

    counted: so many sessions at most are summed up for the totals; None: all.
    """
    if sort not in SORTS:
        raise BadQuestion(f"Sessions can be sorted by {', '.join(SORTS)}.")
    limit = max(1, min(limit, PAGE_LIMIT))
    where, values = of_sessions(wanted)
    unmarked = where, values
    key = SORTS[sort]
    backwards, edge = _read_mark(mark)
    rising = ascending != backwards
    if edge is not None:
        where = [*where, f"({key}, session_id) {'>' if rising else '<'} (?, ?)"]
        values = [*values, *edge]
    way = "ASC" if rising else "DESC"
    found = db.rows(
        f"SELECT {_SESSION_COLUMNS}, {key} AS sort_key FROM sessions {where_of(where)}"
        f" ORDER BY {key} {way}, session_id {way} LIMIT ?",
        [*values, limit + 1],
    )
    more = len(found) > limit
    found = found[:limit]
    if backwards:
        found.reverse()
    rows = [_session(row) for row in found]
    # a page that holds all there is need not be summed up by another look at every session
    whole = not more and edge is None
    page = SessionPage(rows=rows, totals=_summed(rows) if whole else _totals(db, *unmarked, counted))
    if found:
        if more if backwards else edge is not None:
            page.newer = _mark("<", found[0])
        if backwards or more:
            page.older = _mark(">", found[-1])
    _count_running(db, page.rows)
    return page


def recent(db: Connection, wanted: SessionFilter, limit: int) -> list[SessionRow]:
    """The sessions that were active last."""
    where, values = of_sessions(wanted)
    found = db.rows(
        f"SELECT {_SESSION_COLUMNS} FROM sessions {where_of(where)} ORDER BY last_at DESC, session_id DESC LIMIT ?",
        [*values, max(1, min(limit, PAGE_LIMIT))],
    )
    rows = [_session(row) for row in found]
    _count_running(db, rows)
    return rows


def every_session(db: Connection, wanted: SessionFilter, most: int) -> Iterator[SessionRow]:
    """All that a filter lets through, the newest first, a page at a time."""
    mark: str | None = None
    while most > 0:
        page = list_sessions(db, wanted, limit=min(most, PAGE_LIMIT), mark=mark, counted=1)
        yield from page.rows
        most -= len(page.rows)
        mark = page.older
        if mark is None:
            return


def named(db: Connection, words: str, limit: int) -> list[SessionRow]:
    """Sessions whose id begins so, and of the newest those whose title has every word: what no text search finds."""
    asked = bindable(words)
    parts = asked.split()[:WORDS_LIMIT]
    if not parts:
        return []
    titled = " AND ".join("title LIKE ? ESCAPE '\\'" for _ in parts)
    found = db.rows(
        f"SELECT {_SESSION_COLUMNS} FROM (SELECT * FROM sessions ORDER BY last_at DESC LIMIT ?) WHERE {titled} LIMIT ?",
        [NAMED_AMONG, *("%" + re.sub(r"([\\%_])", r"\\\1", part) + "%" for part in parts), limit],
    )
    if len(parts) == 1 and ID.fullmatch(parts[0]) and len(parts[0]) >= ID_BEGINS:
        found = [
            *db.rows(
                f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE session_id >= ? AND session_id < ? LIMIT ?",
                [parts[0], parts[0] + "{", limit],
            ),
            *found,
        ]
    return list({row.session_id: row for row in map(_session, found)}.values())[:limit]


def session(db: Connection, session_id: str) -> SessionRow:
    """One session by its whole id."""
    found = db.rows(f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE session_id = ?", [valid_id(session_id)])
    if not found:
        raise NotFound("No session of this id is recorded. It may have been removed by the retention settings.")
    row = _session(found[0])
    _count_running(db, [row])
    return row


def children(db: Connection, session_id: str, limit: int = 200) -> list[SessionRow]:
    """The sessions of subagents that this one started, oldest first."""
    found = db.rows(
        f"SELECT {_SESSION_COLUMNS} FROM sessions WHERE parent_session_id = ? ORDER BY started_at, session_id LIMIT ?",
        [valid_id(session_id), limit],
    )
    return [_session(row) for row in found]


def resolve(db: Connection, text: str) -> str:
    """The id that `text` is, or is the only beginning of; NotFound names the nearest."""
    valid_id(text)
    if db.value("SELECT 1 FROM sessions WHERE session_id = ?", [text]):
        return text
    found = [
        row[0]
        for row in db.rows(
            "SELECT session_id FROM sessions WHERE session_id >= ? AND session_id < ? ORDER BY session_id LIMIT 6",
            [text, text + "{"],  # "{" sorts right after "z", the last letter an id can have
        )
    ]
    if found and all(other.startswith(found[0]) for other in found):
        return str(found[0])  # a subagent's id may go on from its parent's
    if found:
        raise NotFound(f"{text} is the beginning of several sessions: {', '.join(found[:5])}{', …' * (len(found) > 5)}")
    recent = [row[0] for row in db.rows("SELECT session_id FROM sessions ORDER BY last_at DESC LIMIT 1000")]
    near = difflib.get_close_matches(text, recent, n=3, cutoff=0.6)
    near = near or [name for name in recent if text.lower() in name.lower()][:3]
    hint = f" Nearest: {', '.join(near)}." if near else " `lunaroute sessions list` shows what there is."
    raise NotFound(f"No session {text} is recorded.{hint}")


def exchanges(
    db: Connection, session_id: str, *, after: int = 0, before: int | None = None, limit: int = 50, last: bool = False
) -> list[ExchangeRow]:
    """Exchanges with `after < sequence < before`, in order: the first `limit` of them, or with `last` the last."""
    found = db.rows(
        f"SELECT {EXCHANGE_COLUMNS} FROM exchanges WHERE session_id = ? AND sequence > ? AND sequence < ?"
        f" ORDER BY sequence {'DESC' if last else 'ASC'} LIMIT ?",
        [valid_id(session_id), after, before if before is not None else 1 << 62, max(1, min(limit, PAGE_LIMIT))],
    )
    rows = [exchange_of(row) for row in found]
    return rows[::-1] if last else rows


def every_exchange(db: Connection, since: str | None = None, until: str | None = None) -> Iterator[ExchangeRow]:
    """All that began in this time, session by session and those of none last; a few hundred in memory at a time."""
    ids = [
        row[0]
        for row in db.rows(
            "SELECT session_id FROM sessions WHERE last_at >= ? AND started_at < ? ORDER BY started_at, session_id",
            [bindable(since or ""), bindable(until or "9")],
        )
    ]
    for session_id in ids:
        after = 0
        while batch := exchanges(db, session_id, after=after, limit=PAGE_LIMIT):
            yield from (row for row in batch if _within(row, since, until))
            after = batch[-1].sequence
    edge = 0
    while loose := db.rows(
        f"SELECT {EXCHANGE_COLUMNS} FROM exchanges WHERE session_id IS NULL AND row > ? ORDER BY row LIMIT ?",
        [edge, PAGE_LIMIT],
    ):
        yield from (row for each in loose if _within(row := exchange_of(each), since, until))
        edge = loose[-1]["row"]


def _within(row: ExchangeRow, since: str | None, until: str | None) -> bool:
    return (since or "") <= row.started_at < (until or "9999")


def exchange(db: Connection, exchange_id: str) -> ExchangeRow:
    """One exchange by its id."""
    found = db.rows(f"SELECT {EXCHANGE_COLUMNS} FROM exchanges WHERE id = ?", [valid_id(exchange_id)])
    if not found:
        raise NotFound("No exchange of this id is recorded. It may have been removed by the retention settings.")
    return exchange_of(found[0])


def neighbours(db: Connection, row: ExchangeRow) -> tuple[str | None, str | None]:
    """The ids of the exchanges before and after in the same session."""
    if row.session_id is None:
        return None, None
    before = exchanges(db, row.session_id, before=row.sequence, limit=1, last=True)
    after = exchanges(db, row.session_id, after=row.sequence, limit=1)
    return before[0].id if before else None, after[0].id if after else None


def bodies(db: Connection, exchange_id: str) -> Bodies:
    """Headers and bodies of an exchange; all empty while it has none yet."""
    with db.snapshot():
        return _bodies(db, exchange_id)


def _bodies(db: Connection, exchange_id: str) -> Bodies:
    found = db.rows("SELECT row FROM exchanges WHERE id = ?", [valid_id(exchange_id)])
    try:
        whole = _whole(db, found[0][0]) if found else None
    except StoreError as error:
        return msgspec.structs.replace(_NOTHING, trouble=f"What is stored of this exchange cannot be read: {error}.")
    if whole is None:
        return _old_bodies(db, exchange_id)
    more = whole.pack.more
    altered = more.get("altered", 0)
    return Bodies(
        request_headers=whole.head,
        response_headers=whole.answer_head,
        attempts=_attempts(db, found[0][0]),
        timings=more.get("timings", {}),
        request_body=b"".join(whole.pieces),
        response_body=whole.pack.response,
        request_decode_error=more.get("request_error"),
        response_decode_error=more.get("response_error"),
        http_version=more.get("http", "1.1"),
        reason=more.get("reason"),
        request_sha256=more["request_sha256"].hex() if "request_sha256" in more else None,
        response_sha256=more["response_sha256"].hex() if "response_sha256" in more else None,
        request_altered=bool(altered & 1),
        response_altered=bool(altered & 2),
        limits=more.get("limits", []),
        texts=packs.texts_of(whole.pack),
    )


def _whole(db: Connection, row: int) -> packs.Whole | None:
    try:
        return db.shelf.whole(row)
    except StoreError:
        # the shelf may hold what it read before a removal that others' packs were written anew for
        db.shelf.forget()
        return db.shelf.whole(row)


_NOTHING = Bodies(request_headers=[], response_headers=[], attempts=[], timings={}, request_body=b"", response_body=b"")


def _attempts(db: Connection, row: int) -> list[dict[str, Any]]:
    """As records.Attempt has them: without what is not known."""
    names = ("number", "provider", "origin", "status", "error", "sent", "reused", "connect_ms", "tls_ms")
    found = db.rows(f"SELECT {', '.join(names)} FROM attempts WHERE exchange = ? ORDER BY number", [row])
    return [{name: each[name] for name in names if each[name] is not None} for each in found]


def _old_bodies(db: Connection, exchange_id: str) -> Bodies:
    """Of an exchange that schema version 1 wrote, or that has not ended."""
    found = db.rows("SELECT * FROM bodies WHERE exchange_id = ?", [exchange_id])
    if not found:
        return _NOTHING
    row = found[0]
    request, request_trouble = _unpacked(row["request_body"])
    response, response_trouble = _unpacked(row["response_body"])
    return Bodies(
        request_headers=_parsed(row["request_headers"], list[tuple[str, str]], []),
        response_headers=_parsed(row["response_headers"], list[tuple[str, str]], []),
        attempts=_parsed(row["attempts"], list[dict[str, Any]], []),
        timings=_parsed(row["timings"], dict[str, float], {}),
        request_body=request,
        response_body=response,
        request_decode_error=row["request_decode_error"],
        response_decode_error=row["response_decode_error"],
        trouble=request_trouble or response_trouble,
    )


_TURN_COLUMNS = (
    *("id", "row", "sequence", "started_at", "started_ns", "state", "dialect", "kind", "cost_usd", "input_tokens"),
    *("output_tokens", "cache_read_tokens", "cache_write_tokens"),
)


def sizes_of_turns(db: Connection, session_id: str) -> list[ExchangeRow]:
    """Every exchange of a session with its tokens and cost, without the rest."""
    found = db.rows(
        f"SELECT {', '.join(_TURN_COLUMNS)} FROM exchanges WHERE session_id = ? AND sequence > 0 ORDER BY sequence",
        [valid_id(session_id)],
    )
    return [ExchangeRow(**dict(zip(_TURN_COLUMNS, tuple(row), strict=True))) for row in found]


def tools(db: Connection, session_id: str) -> list[ToolRow]:
    """The tool calls of a session in the order of their exchanges."""
    names = ToolRow.__struct_fields__
    found = db.rows(
        f"SELECT {', '.join(names)} FROM tool_calls WHERE session_id = ? ORDER BY exchange, called_ns, call_id",
        [valid_id(session_id)],
    )
    return [ToolRow(**{name: row[name] for name in names}) for row in found]


def facets(db: Connection) -> dict[str, list[str]]:
    """What the filters can offer, sorted."""
    return {
        name: [
            str(row[0])
            for row in db.rows("SELECT value FROM facets WHERE kind = ? ORDER BY value LIMIT ?", [name, FACET_ROWS])
        ]
        for name in FACETS
    }


def pulse(db: Connection, session_id: str | None = None) -> str:
    """A short text that is another one when something has been recorded since: of one session, or of all."""
    if session_id is None:
        found = db.rows("SELECT (SELECT MAX(last_at) FROM sessions), COUNT(*) FROM exchanges WHERE state IS NULL")
    else:
        found = db.rows(
            "SELECT MAX(sequence), COUNT(*) FILTER (WHERE state IS NULL) FROM exchanges WHERE session_id = ?",
            [valid_id(session_id)],
        )
    return f"{found[0][0] or 'none'}, {found[0][1]} running"


def sizes(db: Connection) -> dict[str, int]:
    """Facts about the database for the status page."""
    return {
        "sessions": int(db.value("SELECT COUNT(*) FROM sessions")),
        "exchanges": int(db.value("SELECT COUNT(*) FROM exchanges")),
        "schema_version": int(db.value("PRAGMA user_version")),
    }


def _totals(db: Connection, where: list[str], values: list[Any], counted: int | None) -> Totals:
    names = [name for name in Totals.__struct_fields__ if name not in ("sessions", "more")]
    sums = ", ".join(f"COALESCE(SUM({name}), 0) AS {name}" for name in names)
    columns = ", ".join(f"{PROMPT} AS {name}" if name == "prompt_tokens" else name for name in names)
    source = f"(SELECT {columns} FROM sessions {where_of(where)})"
    if counted is not None:
        source = f"(SELECT {columns} FROM sessions {where_of(where)} ORDER BY last_at DESC LIMIT ?)"
        values = [*values, counted]
    row = db.rows(f"SELECT COUNT(*) AS sessions, {sums} FROM {source}", values)[0]
    return Totals(
        sessions=row["sessions"],
        more=counted is not None and row["sessions"] >= counted,
        **{name: row[name] for name in names},
    )


def _summed(rows: list[SessionRow]) -> Totals:
    totals = Totals(sessions=len(rows))
    for row in rows:
        for name in Totals.__struct_fields__:
            if name not in ("sessions", "more", "prompt_tokens"):
                setattr(totals, name, getattr(totals, name) + (getattr(row, name) or 0))
        cached = (row.cache_read_tokens or 0) + (row.cache_write_tokens or 0) if row.dialect == "anthropic" else 0
        totals.prompt_tokens += (row.input_tokens + cached) if row.input_tokens is not None else 0
    return totals


def _count_running(db: Connection, rows: list[SessionRow]) -> None:
    if not rows:
        return
    marks = ",".join("?" * len(rows))
    found = db.rows(
        f"SELECT session_id, COUNT(*) FROM exchanges WHERE state IS NULL AND session_id IN ({marks}) GROUP BY 1",
        [row.session_id for row in rows],
    )
    running = {row[0]: row[1] for row in found}
    for row in rows:
        row.running = running.get(row.session_id, 0)


def _session(row: Any) -> SessionRow:
    return SessionRow(**{name: row[name] for name in SessionRow.__struct_fields__ if name != "running"})


def exchange_of(row: Any) -> ExchangeRow:
    kept = {name: row[name] for name in ExchangeRow.__struct_fields__}
    return ExchangeRow(
        **{**kept, "sequence": kept["sequence"] or 0}
    )  # an exchange has no number until it has a session


def _mark(direction: str, row: Any) -> str:
    text = msgspec.json.encode([direction, row["sort_key"], row["session_id"]])
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _read_mark(mark: str | None) -> tuple[bool, tuple[str | int | float, str] | None]:
    if not mark:
        return False, None
    try:
        raw = base64.urlsafe_b64decode(mark + "=" * (-len(mark) % 4))
        direction, key, session_id = msgspec.json.decode(raw, type=tuple[str, str | int | float, str])
        if isinstance(key, int) and abs(key) >= 1 << 63:
            raise ValueError
    except (ValueError, msgspec.DecodeError):
        raise BadQuestion("This page mark is not one of ours. Begin at the first page again.") from None
    return direction == "<", (key, session_id)


def _parsed(text: str | None, kind: type[Value], otherwise: Value) -> Value:
    if not text:
        return otherwise
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return otherwise


def _unpacked(blob: bytes | None) -> tuple[bytes, str | None]:
    """The body and, where it cannot be had whole, why."""
    if not blob:
        return b"", None
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(blob) as reader:
            body = reader.read(BODY_LIMIT + 1)
    except zstandard.ZstdError:
        return b"", "The stored body is damaged and cannot be unpacked."
    if len(body) > BODY_LIMIT:
        return body[:BODY_LIMIT], f"Only the first {BODY_LIMIT >> 20} MiB of the stored body are shown."
    return body, None
