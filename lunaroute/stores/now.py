"""What goes on at the moment, out of the record: for a live view that asks every second or two. Read-only.

Every question is answered by an index and looks at few rows, however much is recorded.
"""

from __future__ import annotations

import msgspec

from lunaroute.stores.readonly import Connection

MINUTE_NS = 60_000_000_000
LONGEST_NS = 60 * MINUTE_NS  # an exchange that ended in the last minute is taken to have begun within this time
_BAD = "state NOT IN ('ok', 'client_cancelled') AND kind IS NOT 'handshake'"


class Running(msgspec.Struct, kw_only=True):
    """An exchange that has begun and not ended."""

    id: str
    started_ns: int
    client: str | None
    provider: str | None
    model: str | None
    title: str | None
    target: str


class Failure(msgspec.Struct, kw_only=True):
    """An exchange that ended badly."""

    id: str
    started_ns: int
    state: str
    status: int | None
    model: str | None
    error: str | None


class Pace(msgspec.Struct, kw_only=True):
    """What ended in the last minute. input_tokens: with what caches gave or took."""

    requests: int
    errors: int
    input_tokens: int
    output_tokens: int


def running(db: Connection, limit: int) -> list[Running]:
    """The newest that run."""
    rows = db.rows(
        "SELECT e.id, e.started_ns, e.client, e.provider, e.model_requested, s.title, e.target FROM exchanges AS e "
        "LEFT JOIN sessions AS s ON s.session_id = e.session_id "
        "WHERE e.state IS NULL AND e.kind IS NOT 'handshake' ORDER BY e.row DESC LIMIT ?",
        [limit],
    )
    names = Running.__struct_fields__
    return [Running(**dict(zip(names, row, strict=True))) for row in rows]


def failures(db: Connection, since_ns: int, limit: int) -> tuple[int, list[Failure]]:
    """How many exchanges that began since then ended badly, and the newest of them."""
    where = f"FROM exchanges WHERE state != 'ok' AND {_BAD} AND started_ns >= ?"
    rows = db.rows(
        f"SELECT id, started_ns, state, status, coalesce(model_used, model_requested), error {where} "
        "ORDER BY started_ns DESC LIMIT ?",
        [since_ns, limit],
    )
    names = Failure.__struct_fields__
    return db.value(f"SELECT count(*) {where}", [since_ns]), [
        Failure(**dict(zip(names, row, strict=True))) for row in rows
    ]


def pace(db: Connection, now_ns: int) -> Pace:
    """The last minute."""
    cached = "coalesce(cache_read_tokens, 0) + coalesce(cache_write_tokens, 0)"
    (row,) = db.rows(
        f"SELECT count(*), coalesce(sum({_BAD}), 0), "
        f"coalesce(sum(coalesce(input_tokens, 0) + CASE WHEN dialect = 'anthropic' THEN {cached} ELSE 0 END), 0), "
        "coalesce(sum(output_tokens), 0) FROM exchanges WHERE started_ns > ? AND state IS NOT NULL "
        "AND kind IS NOT 'handshake' AND started_ns + coalesce(duration_ms, 0) * 1000000 > ?",
        [now_ns - LONGEST_NS, now_ns - MINUTE_NS],
    )
    return Pace(requests=row[0], errors=row[1], input_tokens=row[2], output_tokens=row[3])
