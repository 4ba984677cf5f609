"""A session as figures: its timeline, its turns with tokens and cost, how its context grew. Values only.

Reads through stores/queries.py, narrow rows only: a session of thousands of turns is there at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import ExchangeRow, SessionRow, ToolRow
from lunaroute.ui import format, timeline
from lunaroute.ui.pages import number, parent
from lunaroute.ui.plot import Key, Plot, Tick, bars
from lunaroute.ui.source import Source
from lunaroute.ui.transcript import SIDE

TIMELINE_ROWS = 60  # exchanges on one page of the waterfall
TURN_ROWS = 200
COLUMNS_MOST = 150  # of the context chart: beyond this several turns share one
KEYS = [
    Key("k-read", "Cache read"),
    Key("k-write", "Cache written"),
    Key("k-fresh", "Fresh input"),
    Key("k-out", "Output"),
]


class TimelineView(msgspec.Struct, kw_only=True):
    """A window of the waterfall. spent: where the time of the window went."""

    session: SessionRow
    parent: SessionRow | None
    stretches: list[timeline.Stretch]
    spent: list[timeline.Spent]
    before: int | None
    after: int | None
    pulse: str


class TurnsView(msgspec.Struct, kw_only=True):
    """The turns in a table, and the chart of all of them. prompt: what each sent, by `prompt_of`."""

    session: SessionRow
    parent: SessionRow | None
    rows: list[ExchangeRow]
    context: Plot
    before: int | None
    after: int | None
    pulse: str


def timeline_of(source: Source, session_id: str, query: Mapping[str, str]) -> TimelineView:
    """The newest window, or with `after` or `before` the one beside that sequence number."""
    with source.open() as db:
        row = queries.session(db, session_id)
        rows, before, after = _window(db, session_id, query, TIMELINE_ROWS)
        first = queries.exchanges(db, session_id, limit=1)
        found = timeline.items(
            rows, _tools(db, session_id, rows), first[0].started_ns if first else None, time.time_ns()
        )
        return TimelineView(
            session=row,
            parent=parent(db, row),
            stretches=timeline.drawn(found),
            spent=timeline.spent(found),
            before=before,
            after=after,
            pulse=queries.pulse(db, session_id),
        )


def turns_of(source: Source, session_id: str, query: Mapping[str, str]) -> TurnsView:
    """The same for the table of turns."""
    with source.open() as db:
        row = queries.session(db, session_id)
        rows, before, after = _window(db, session_id, query, TURN_ROWS)
        return TurnsView(
            session=row,
            parent=parent(db, row),
            rows=rows,
            context=context(queries.sizes_of_turns(db, session_id)),
            before=before,
            after=after,
            pulse=queries.pulse(db, session_id),
        )


def _window(
    db: Connection, session_id: str, query: Mapping[str, str], limit: int
) -> tuple[list[ExchangeRow], int | None, int | None]:
    after, before = number(query, "after"), number(query, "before")
    rows = queries.exchanges(db, session_id, after=after or 0, before=before, limit=limit, last=after is None)
    first, end = (rows[0].sequence, rows[-1].sequence) if rows else (0, 0)
    former = queries.exchanges(db, session_id, before=first, limit=1, last=True)
    more = queries.exchanges(db, session_id, after=end, limit=1)
    return rows, first if former else None, end if more else None


def _tools(db: Connection, session_id: str, rows: Sequence[ExchangeRow]) -> list[ToolRow]:
    if not rows:
        return []
    shown = {row.row for row in rows}
    return [tool for tool in queries.tools(db, session_id) if tool.exchange in shown]


def prompt_of(row: ExchangeRow) -> tuple[int, int, int]:
    """Tokens read from a cache, written to one, and fresh."""
    read, write, told = row.cache_read_tokens or 0, row.cache_write_tokens or 0, row.input_tokens or 0
    return read, write, told if row.dialect == "anthropic" else max(0, told - read)


def context(rows: Sequence[ExchangeRow]) -> Plot:
    """What each turn sent and got. Of many turns in one column the largest is shown."""
    turns = [row for row in rows if (row.kind or "turn") not in SIDE and row.input_tokens is not None]
    share = -(-len(turns) // COLUMNS_MOST) or 1
    groups = []
    for start in range(0, len(turns), share):
        largest = max(turns[start : start + share], key=lambda row: sum(prompt_of(row)))
        read, write, fresh = prompt_of(largest)
        out = largest.output_tokens or 0
        words = [
            f"#{largest.sequence}{', compaction' if largest.kind == 'compaction' else ''}",
            f"Output\t{format.count(out)}",
            f"Fresh input\t{format.count(fresh)}",
            f"Cache written\t{format.count(write)}",
            f"Cache read\t{format.count(read)}",
            f"Cost\t{format.cost(largest.cost_usd, short=True)}",
        ]
        pieces = [("k-read", read), ("k-write", write), ("k-fresh", fresh), ("k-out", out)]
        groups.append((words, [(kind, float(value)) for kind, value in pieces]))
    ticks = []
    if groups:
        every = max(1, len(groups) // 8)
        ticks = [
            Tick(round(100 * (place + 0.5) / len(groups), 2), groups[place][0][0].partition(",")[0])
            for place in range(0, len(groups), every)
        ]
    made = bars("context", "Context", groups, KEYS, lambda value: format.count(round(value or 0)), ticks)
    made.told = f"Tokens of each of {len(turns)} turns"
    return made
