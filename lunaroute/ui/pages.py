"""What each page shows, as values: the HTML page and its JSON twin are two renderings of the same struct.

Reads the database through stores/queries.py, one connection per page. Must not know HTML or HTTP.
"""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lunaroute import __version__
from lunaroute.stores import findings, queries
from lunaroute.stores.findings import FindingRow
from lunaroute.stores.queries import SORTS
from lunaroute.stores.readonly import BadQuestion, Connection, NoRecord, NotFound, QueryError
from lunaroute.stores.rows import Bodies, ExchangeRow, SessionFilter, SessionPage, SessionRow, Totals
from lunaroute.ui.transcript import SIDE, Transcript, single, transcript

WINDOW = 30  # exchanges of a session on one page
LOOK_BACK = 20
RANGES = {"1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days"}
ROWS = 50


class Source:
    """Where pages come from: the database, and the two things the observer is asked for."""

    def __init__(
        self, database: Path, status: Callable[[], Mapping[str, object]], metrics: Callable[[], bytes]
    ) -> None:
        self.database = database
        self.status = status
        self.metrics = metrics

    def open(self) -> Connection:
        return Connection(self.database)


class SessionsView(msgspec.Struct, kw_only=True):
    """The list. `note` says why it is empty where that is not the filters' doing."""

    page: SessionPage
    facets: dict[str, list[str]]
    asked: dict[str, str]
    sort: str
    ascending: bool
    pulse: str
    note: str | None = None


class SessionView(msgspec.Struct, kw_only=True):
    """A window of one session; `before` and `after` are the sequence numbers to go on from, where there is more."""

    session: SessionRow
    parent: SessionRow | None
    children: list[SessionRow]
    transcript: Transcript
    before: int | None
    after: int | None
    pulse: str
    found: list[FindingRow]


class ExchangeView(msgspec.Struct, kw_only=True):
    """One exchange with what was sent and answered."""

    exchange: ExchangeRow
    session: SessionRow | None
    previous: str | None
    following: str | None
    kept: Bodies
    transcript: Transcript


class StatusView(msgspec.Struct, kw_only=True):
    """How the recording is doing."""

    observer: dict[str, Any]
    database: dict[str, Any]
    versions: dict[str, str]
    trouble: str | None = None


ASKED = ("q", "model", "client", "provider", "state", "since")


def sessions(source: Source, query: Mapping[str, str]) -> SessionsView:
    """`q`, filters, `sort` and `dir`, `mark` of a page, `limit`."""
    asked = {name: query[name].strip()[:200] for name in ASKED if query.get(name, "").strip()}
    sort = query.get("sort") or "last"
    ascending = query.get("dir") == "up"
    wanted = SessionFilter(
        words=asked.get("q", ""),
        model=asked.get("model"),
        client=asked.get("client"),
        provider=asked.get("provider"),
        state=asked.get("state"),
        since=queries.since(asked["since"], datetime.now(UTC)) if "since" in asked else None,
    )
    if sort not in SORTS:
        raise BadQuestion(f"Sessions can be sorted by {', '.join(SORTS)}.")
    limit = _number(query, "limit") or ROWS
    empty = SessionPage(rows=[], totals=Totals())
    view = SessionsView(page=empty, facets={}, asked=asked, sort=sort, ascending=ascending, pulse="")
    try:
        with source.open() as db:
            view.page = queries.list_sessions(
                db, wanted, sort=sort, ascending=ascending, limit=limit, mark=query.get("mark")
            )
            view.facets = queries.facets(db)
            view.pulse = queries.pulse(db)
    except NoRecord as error:
        view.note = str(error)
    return view


def session(source: Source, session_id: str, query: Mapping[str, str]) -> SessionView:
    """The newest window, or with `after` or `before` the one beside that sequence number."""
    after, before = _number(query, "after"), _number(query, "before")
    with source.open() as db:
        row = queries.session(db, session_id)
        window = queries.exchanges(db, session_id, after=after or 0, before=before, limit=WINDOW, last=after is None)
        first = window[0].sequence if window else 0
        end = window[-1].sequence if window else 0
        former = queries.exchanges(db, session_id, before=first, limit=LOOK_BACK, last=True)
        more = queries.exchanges(db, session_id, after=end, limit=1)
        basis = next((one for one in reversed(former) if (one.kind or "turn") not in SIDE and one.state), None)
        return SessionView(
            session=row,
            parent=_parent(db, row),
            children=queries.children(db, session_id),
            transcript=transcript(window, lambda ident: queries.bodies(db, ident), basis),
            before=first if former else None,
            after=end if more else None,
            pulse=queries.pulse(db, session_id),
            found=findings.of_session(db, session_id),
        )


def exchange(source: Source, exchange_id: str) -> ExchangeView:
    with source.open() as db:
        row = queries.exchange(db, exchange_id)
        previous, following = queries.neighbours(db, row)
        kept = queries.bodies(db, exchange_id)
        return ExchangeView(
            exchange=row,
            session=queries.session(db, row.session_id) if row.session_id else None,
            previous=previous,
            following=following,
            kept=kept,
            transcript=single(row, kept),
        )


def body(source: Source, exchange_id: str, side: str) -> bytes:
    """One recorded body as it is."""
    with source.open() as db:
        queries.exchange(db, exchange_id)
        kept = queries.bodies(db, exchange_id)
    return kept.request_body if side == "request" else kept.response_body


def pulse(source: Source, session_id: str | None) -> str:
    """See queries.pulse; empty while there is no database."""
    try:
        with source.open() as db:
            return queries.pulse(db, session_id)
    except NoRecord:
        return ""


def status(source: Source) -> StatusView:
    view = StatusView(
        observer={},
        database={"path": str(source.database)},
        versions={
            "LunaRoute": __version__,
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
        },
    )
    try:
        view.observer = dict(source.status())
    except Exception as error:  # whatever goes wrong over there, this page must still tell the rest
        view.trouble = f"The recorder did not answer ({type(error).__name__}). `lunaroute logs` may say more."
    try:
        with source.open() as db:
            view.database |= queries.sizes(db)
        view.database["bytes"] = sum(
            file.stat().st_size
            for end in ("", "-wal", "-shm")
            if (file := source.database.with_name(source.database.name + end)).is_file()
        )
    except (QueryError, OSError) as error:
        view.database["error"] = str(error)
    return view


def _parent(db: Connection, row: SessionRow) -> SessionRow | None:
    if not row.parent_session_id:
        return None
    try:
        return queries.session(db, row.parent_session_id)
    except NotFound:
        return None


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadQuestion(f"{name} is a whole number.")
    return int(text)
