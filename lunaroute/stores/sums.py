"""How exchanges are counted: each sum of a session as SQL over its exchanges, and the same rules for one record.

The one place for it. The writer adds each exchange to its session, statistics sum ranges, removal and new prices make
sessions' sums anew: all of them by what is here, so that every view tells the same. A session's sums are those of the
exchanges that are kept. `e` is the table exchanges; handshakes of WebSockets are left out by whoever asks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from lunaroute.records import PAID, TURNS, State

ERRORS = (State.UPSTREAM_ERROR, State.TIMEOUT, State.PROXY_ERROR, State.INTERRUPTED)
COMPLETE, PARTIAL, UNKNOWN = "complete", "partial", "unknown"
FEES = "fees"  # all tokens are told, but the vendor took a fee for a tool that no price is known of
ONE_SIDED = ("embedding",)  # kinds whose answers have no tokens to tell
LEAST = (PARTIAL, FEES)  # a cost worked out from such a usage is the least that was spent


def _among(values: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{value}'" for value in sorted(values)) + ")"


def billed(kind: str | None, status: int | None) -> bool:
    """Whether an exchange that has ended has a price. A refusal costs nothing, whether or not somebody says so."""
    return kind in PAID and status != 101 and (status is None or status < 400)


_BILLED = f"e.state IS NOT NULL AND e.kind IN {_among(PAID)} AND ifnull(e.status < 400 AND e.status != 101, 1)"


def unknowns(kind: str | None, status: int | None, usage_state: str, cost_usd: float | None) -> tuple[int, int]:
    """What an ended exchange adds to usage_unknown and to cost_unknown."""
    priced = billed(kind, status)
    silent = priced and usage_state in (PARTIAL, UNKNOWN)
    return int(silent), int(priced and (cost_usd is None or usage_state in LEAST))


# of one row; CASE ends at what is nearly always so
USAGE_UNKNOWN = f"CASE e.usage_state WHEN '{COMPLETE}' THEN 0 WHEN '{FEES}' THEN 0 ELSE {_BILLED} END"
COST_UNKNOWN = (
    f"CASE WHEN e.cost_usd IS NOT NULL AND e.usage_state = '{COMPLETE}' THEN 0 "
    f"WHEN e.cost_usd IS NULL OR e.usage_state IN {_among(LEAST)} THEN {_BILLED} ELSE 0 END"
)
FEW: Mapping[str, str] = {
    "requests": "count(*)",
    "ended": "count(e.duration_ms)",
    "errors": f"sum(CASE e.state WHEN 'ok' THEN 0 ELSE ifnull(e.state IN {_among(ERRORS)}, 0) END)",
    "input_tokens": "sum(e.input_tokens)",
    "output_tokens": "sum(e.output_tokens)",
    "cache_read_tokens": "sum(e.cache_read_tokens)",
    "cost_usd": "sum(e.cost_usd)",
    "least_kind": "min(e.cost_kind)",
    "most_kind": "max(e.cost_kind)",
    "cost_unknown": f"sum({COST_UNKNOWN})",
    "usage_unknown": f"sum({USAGE_UNKNOWN})",
    "duration_ms": "sum(e.duration_ms)",
}
MANY: Mapping[str, str] = {
    **FEW,
    "turns": f"sum(e.kind IN {_among(TURNS)})",
    "thinking_tokens": "sum(e.thinking_tokens)",
    "cache_write_tokens": "sum(e.cache_write_tokens)",
    "overhead_ms": "sum(e.overhead_ms)",
}
# a sum over nothing known stays NULL: unknown is never shown as zero
_OF_SESSION = {
    **{name: MANY[name] for name in ("input_tokens", "output_tokens", "thinking_tokens", "cost_usd")},
    **{name: MANY[name] for name in ("cache_read_tokens", "cache_write_tokens", "requests")},
    **{
        name: f"ifnull({MANY[name]}, 0)"
        for name in ("turns", "errors", "usage_unknown", "cost_unknown", "duration_ms", "overhead_ms")
    },
}
_RESUM = (
    f"UPDATE sessions SET ({', '.join(_OF_SESSION)}) = (SELECT {', '.join(_OF_SESSION.values())} "
    "FROM exchanges AS e WHERE e.session_id = ?1 AND e.kind IS NOT 'handshake'), "
    "(tool_calls, tool_failures) = (SELECT count(*), ifnull(sum(success = 0), 0) FROM tool_calls "
    "WHERE session_id = ?1) WHERE session_id = ?1"
)


def resum(connection: sqlite3.Connection, sessions: Iterable[str]) -> None:
    """Make the sums of these sessions anew, from what is kept of them."""
    connection.executemany(_RESUM, [(session,) for session in sessions])
