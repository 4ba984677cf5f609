"""What the pages about sessions show, as values: a page and its JSON twin are two renderings of the same struct.

Reads the database through stores/queries.py, one connection per page. Must not know HTML or HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from lunaroute.stores import filters, findings, queries, search
from lunaroute.stores.findings import FindingRow
from lunaroute.stores.queries import SORTS
from lunaroute.stores.readonly import BadQuestion, Connection, NoRecord, NotFound
from lunaroute.stores.rows import Bodies, ExchangeRow, SearchPage, SessionFilter, SessionPage, SessionRow, Totals
from lunaroute.ui.compare import Comparison, compare
from lunaroute.ui.source import Source
from lunaroute.ui.transcript import SIDE, Transcript, single, transcript

WINDOW = 30  # exchanges of a session on one page
LOOK_BACK = 20
ROWS = 50
HITS = 25
COUNTED = 5_000  # sessions that are summed up above the list
NAMED = 5
SEARCH_S = 0.03  # for reading texts that an index cannot answer for; then the page says that there is more


class SessionsView(msgspec.Struct, kw_only=True):
    """The list, or with words the places that have them (`found`) and the sessions that are called so (`named`).

    `note` says why it is empty where that is not the filters' doing.
    """

    page: SessionPage
    facets: dict[str, list[str]]
    asked: dict[str, str]
    sort: str
    ascending: bool
    pulse: str
    found: SearchPage | None = None
    named: list[SessionRow] = msgspec.field(default_factory=list)
    trouble: str | None = None
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


class ChangesView(msgspec.Struct, kw_only=True):
    """An exchange beside an earlier one of its session. comparison: None where there is nothing to compare with."""

    exchange: ExchangeRow
    session: SessionRow | None
    previous: str | None
    following: str | None
    before: ExchangeRow | None
    comparison: Comparison | None
    note: str | None = None


ASKED = ("q", "model", "client", "provider", "project", "tool", "state", "since", "until", "cost", "tokens")


def wanted(query: Mapping[str, str]) -> tuple[SessionFilter, dict[str, str]]:
    """The filter that was asked for (without its words), and what was asked as it was written. Raises BadQuestion."""
    asked = {name: query[name].strip()[:200] for name in ASKED if query.get(name, "").strip()}
    now = datetime.now(UTC)
    times = {name: filters.since(asked[name], now) for name in ("since", "until") if name in asked}
    tokens = _amount(asked, "tokens")
    made = SessionFilter(
        model=asked.get("model"),
        client=asked.get("client"),
        provider=asked.get("provider"),
        project=asked.get("project"),
        tool=asked.get("tool"),
        state=asked.get("state"),
        since=times.get("since"),
        until=times.get("until"),
        min_cost=_amount(asked, "cost"),
        min_tokens=None if tokens is None else int(tokens),
    )
    return made, asked


def sessions(source: Source, query: Mapping[str, str]) -> SessionsView:
    """`q`, filters, `sort` and `dir`, `mark` of a page, `limit`."""
    asked_for, asked = wanted(query)
    sort = query.get("sort") or "last"
    ascending = query.get("dir") == "up"
    if sort not in SORTS:
        raise BadQuestion(f"Sessions can be sorted by {', '.join(SORTS)}.")
    limit = number(query, "limit")
    view = SessionsView(
        page=SessionPage(rows=[], totals=Totals()), facets={}, asked=asked, sort=sort, ascending=ascending, pulse=""
    )
    try:
        with source.open() as db:
            view.facets = queries.facets(db)
            view.pulse = queries.pulse(db)
            if "q" in asked:
                _find(db, view, asked_for, limit or HITS, query.get("mark"))
            else:
                view.page = queries.list_sessions(
                    db, asked_for, sort=sort, ascending=ascending, limit=limit or ROWS, mark=query.get("mark"),
                    counted=COUNTED,
                )  # fmt: skip
    except NoRecord as error:
        view.note = str(error)
    return view


def _find(db: Connection, view: SessionsView, asked_for: SessionFilter, limit: int, mark: str | None) -> None:
    words = view.asked["q"]
    if not mark:
        view.named = queries.named(db, words, NAMED)
    try:
        view.found = search.search(db, words, asked_for, limit=limit, after=mark, budget_s=SEARCH_S)
    except BadQuestion as error:
        if mark:
            raise
        view.found, view.trouble = SearchPage(hits=[]), str(error)


def session(source: Source, session_id: str, query: Mapping[str, str]) -> SessionView:
    """The newest window, or with `after` or `before` the one beside that sequence number."""
    after, before = number(query, "after"), number(query, "before")
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
            parent=parent(db, row),
            children=queries.children(db, session_id),
            transcript=transcript(window, lambda ident: kept_of(source, db, ident), basis),
            before=first if former else None,
            after=end if more else None,
            pulse=queries.pulse(db, session_id),
            found=findings.of_session(db, session_id),
        )


def kept_of(source: Source, db: Connection, ident: str) -> Bodies:
    """What is kept of an exchange; of one that goes on its request, whose answer comes by itself (live.py)."""
    kept = queries.bodies(db, ident)
    if not kept.request_headers and not kept.request_body:
        found = source.running(ident, True)
        if found is not None:
            return msgspec.structs.replace(kept, request_body=found[1])
    return kept


def exchange(source: Source, exchange_id: str) -> ExchangeView:
    """One exchange by its id."""
    with source.open() as db:
        row = queries.exchange(db, exchange_id)
        previous, following = queries.neighbours(db, row)
        kept = kept_of(source, db, exchange_id)
        return ExchangeView(
            exchange=row,
            session=queries.session(db, row.session_id) if row.session_id else None,
            previous=previous,
            following=following,
            kept=kept,
            transcript=single(row, kept),
        )


def changes(source: Source, exchange_id: str, query: Mapping[str, str]) -> ChangesView:
    """An exchange beside the turn before it, or beside the one with the sequence number `with`."""
    other = number(query, "with")
    with source.open() as db:
        row = queries.exchange(db, exchange_id)
        previous, following = queries.neighbours(db, row)
        view = ChangesView(
            exchange=row,
            session=queries.session(db, row.session_id) if row.session_id else None,
            previous=previous,
            following=following,
            before=_earlier(db, row, other),
            comparison=None,
        )
        if view.before is None:
            view.note = "There is no earlier turn of this session to compare with."
            return view
        one, two = (queries.bodies(db, each.id) for each in (view.before, row))
        if not one.request_body or not two.request_body:
            view.note = "The request of one of the two was not kept."
        elif row.transport == "websocket" and row.continues:
            view.note = (
                "Over its WebSocket this client sends only what is new: nothing of the earlier prompt is repeated."
            )
        if view.note is None or row.transport == "websocket":
            view.comparison = compare((view.before, one.request_body), (row, two.request_body))
    return view


def _earlier(db: Connection, row: ExchangeRow, other: int | None) -> ExchangeRow | None:
    if row.session_id is None:
        return None
    if other is not None:
        found = queries.exchanges(db, row.session_id, after=other - 1, before=other + 1, limit=1)
        if not found:
            raise NotFound(f"This session has no exchange {other}.")
        return found[0]
    former = queries.exchanges(db, row.session_id, before=row.sequence, limit=LOOK_BACK, last=True)
    side = (row.kind or "turn") in SIDE
    return next((one for one in reversed(former) if ((one.kind or "turn") in SIDE) == side and one.state), None)


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


def parent(db: Connection, row: SessionRow) -> SessionRow | None:
    """The session that started this one, where it is recorded."""
    if not row.parent_session_id:
        return None
    try:
        return queries.session(db, row.parent_session_id)
    except NotFound:
        return None


def number(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of the query; None where it is not there. Raises BadQuestion."""
    text = query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadQuestion(f"{name} is a whole number.")
    return int(text)


def _amount(asked: Mapping[str, str], name: str) -> float | None:
    if name not in asked:
        return None
    try:
        amount = float(asked[name])
    except ValueError:
        amount = math.nan
    if not 0 <= amount <= 1e15:
        raise BadQuestion(f"{name} is a number, for instance {'0.50' if name == 'cost' else '100000'}.")
    return amount
