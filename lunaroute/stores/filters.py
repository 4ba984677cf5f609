"""What people filter sessions and exchanges by, as conditions of SQL. Read-only; words reach SQL as parameters only.

Knows the schema; must not know pages, lists or connections.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from lunaroute.records import State
from lunaroute.stores.readonly import BadQuestion
from lunaroute.stores.rows import SessionFilter

RUNNING = "running"
STATES = (RUNNING, *(state.value for state in State))
_SEARCHED = ("title", "model_used", "model_requested", "client", "provider", "session_id")
_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
WORDS_LIMIT = 8
# all of the input, with what a cache gave or took: Anthropic's figure leaves that out
PROMPT = (
    "(input_tokens + CASE WHEN dialect = 'anthropic' "
    "THEN COALESCE(cache_read_tokens, 0) + COALESCE(cache_write_tokens, 0) ELSE 0 END)"
)


def since(text: str, now: datetime) -> str:
    """`2h`, `7d`, `2026-01-31` or `2026-01-31 14:00` as the database's own time text (UTC; dates are local)."""
    if span := _SPAN.fullmatch(text.strip()):
        try:
            moment = now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        except OverflowError:
            moment = datetime(1970, 1, 1, tzinfo=UTC)
    else:
        try:
            moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadQuestion("A time is written as 30m, 2h, 7d, 4w or as 2026-01-31 or 2026-01-31T14:00.") from None
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def of_sessions(wanted: SessionFilter) -> tuple[list[str], list[Any]]:
    """Conditions about a row of `sessions`, and their values."""
    where: list[str] = []
    values: list[Any] = []
    for word in wanted.words.split()[:WORDS_LIMIT]:
        pattern = "%" + re.sub(r"([\\%_])", r"\\\1", word) + "%"
        where.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in _SEARCHED) + ")")
        values += [pattern] * len(_SEARCHED)
    if wanted.model:
        where.append("(model_used = ? OR model_requested = ?)")
        values += [wanted.model, wanted.model]
    for name, value in (("client", wanted.client), ("provider", wanted.provider)):
        if value:
            where.append(f"{name} = ?")
            values.append(value)
    if wanted.state:
        where.append(_STATE_OF_SESSION.get(_known_state(wanted.state), _STATE_RARE))
        if wanted.state not in _STATE_OF_SESSION:
            values.append(wanted.state)
    for condition, value in (("last_at >= ?", wanted.since), ("last_at < ?", wanted.until)):
        if value:
            where.append(condition)
            values.append(value)
    if wanted.project:
        where.append("(project = ? OR project LIKE ? ESCAPE '\\')")
        values += [wanted.project, "%/" + re.sub(r"([\\%_])", r"\\\1", wanted.project.strip("/"))]
    if wanted.tool:
        # the calls of a session lie together; all calls of a tool lie nowhere
        where.append("EXISTS (SELECT 1 FROM tool_calls AS t WHERE t.session_id = sessions.session_id AND t.name = ?)")
        values.append(wanted.tool)
    if wanted.min_cost is not None:
        where.append("cost_usd >= ?")
        values.append(wanted.min_cost)
    if wanted.min_tokens is not None:
        where.append(f"{_TOKENS} >= ?")
        values.append(wanted.min_tokens)
    return where, [bindable(value) if isinstance(value, str) else value for value in values]


_TOKENS = f"(COALESCE({PROMPT}, 0) + COALESCE(output_tokens, 0))"
# written so that the partial indexes exchanges_running and exchanges_state serve, and `ok` ends at the first that is
_STATE_RARE = "session_id IN (SELECT session_id FROM exchanges WHERE state = ? AND state != 'ok')"
_STATE_OF_SESSION = {
    RUNNING: "session_id IN (SELECT session_id FROM exchanges WHERE state IS NULL)",
    "ok": "EXISTS (SELECT 1 FROM exchanges AS e WHERE e.session_id = sessions.session_id AND e.state = 'ok')",
}


def _known_state(state: str) -> str:
    if state not in STATES:
        raise BadQuestion(f"A state is one of {', '.join(STATES)}.")
    return state


def bindable(text: str) -> str:
    """Without NUL, which ends a text inside SQLite's LIKE, and lone surrogates, which cannot be bound at all."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def exchange_conditions(
    wanted: SessionFilter,
) -> tuple[tuple[str, list[Any]] | None, tuple[list[str], list[Any]] | None]:
    """A filter as questions about exchanges: (a statement that gives their numbers, its values), and conditions.

    What is a session's (client, project, ...) goes into the statement; time and state are asked of the exchange `e`.
    """
    of_session, values = of_sessions(msgspec.structs.replace(wanted, words="", until=None, state=None))
    if wanted.until:
        of_session.append("started_at < ?")
        values.append(bindable(wanted.until))
    sets = []
    if of_session:
        sets.append(
            f"SELECT row FROM exchanges WHERE session_id IN (SELECT session_id FROM sessions {where_of(of_session)})"
        )
    own: list[str] = []
    asked: list[Any] = []
    for condition, value in (("e.started_at >= ?", wanted.since), ("e.started_at < ?", wanted.until)):
        if value:
            own.append(condition)
            asked.append(bindable(value))
    if wanted.state and _known_state(wanted.state) == "ok":
        own.append("e.state = 'ok'")
    elif wanted.state:
        rare = "state IS NULL" if wanted.state == RUNNING else "state = ? AND state != 'ok'"
        sets.append(f"SELECT row FROM exchanges WHERE {rare}")
        values += [] if wanted.state == RUNNING else [wanted.state]
    return (" INTERSECT ".join(sets), values) if sets else None, (own, asked) if own else None


def exchange_checks(wanted: SessionFilter) -> tuple[list[str], list[Any]]:
    """The same as conditions that are asked of one exchange `e` after the other: for filters that let many through."""
    of_session, values = of_sessions(msgspec.structs.replace(wanted, words="", since=None, until=None, state=None))
    checks = []
    if of_session:
        inner = f"session_id = e.session_id AND {' AND '.join(of_session)}"
        checks.append(f"EXISTS (SELECT 1 FROM sessions WHERE {inner})")
    for condition, value in (("e.started_at >= ?", wanted.since), ("e.started_at < ?", wanted.until)):
        if value:
            checks.append(condition)
            values.append(bindable(value))
    if wanted.state and _known_state(wanted.state) == RUNNING:
        checks.append("e.state IS NULL")
    elif wanted.state:
        checks.append("e.state = ?")
        values.append(wanted.state)
    return checks, values


def where_of(conditions: list[str]) -> str:
    """The clause of these, nothing where there are none."""
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""
