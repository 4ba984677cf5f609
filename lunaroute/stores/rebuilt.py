"""An exchange out of the database as the record it was made from: what exports and recomputing go on from. Read-only.

Everything that is stored comes back. What is not stored stays at its default: the keyed digest of the credential, the
cuts of the body. A title and a folder are the session's, since they are kept there. The database has the beginning of a
tool's arguments and no result; the whole of both is read out of the bodies again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lunaroute.dialects.canonical import conversation
from lunaroute.records import (
    Attempt,
    Exchange,
    Limit,
    Split,
    State,
    Text,
    Timings,
    ToolCall,
    ToolResult,
)
from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import Bodies, ExchangeRow
from lunaroute.stores.writing import USAGE_COLUMNS, usage_from

_SAME = (
    *("id", "sequence", "started_at", "started_ns", "error", "error_kind", "status", "provider", "dialect", "client"),
    *("client_version", "model_requested", "model_used", "stop_reason", "response_id", "continues", "cost_usd"),
    *("cost_kind", "price_id", "overhead_ms", "cache_miss_reason"),
)
_OF_SESSION = ("signal", "parent_session_id", "title", "project", "thread")
_FROM_BODIES = (
    *("request_headers", "response_headers", "request_body", "response_body", "request_decode_error"),
    *("response_decode_error", "http_version", "reason", "request_sha256", "response_sha256", "request_altered"),
    "response_altered",
)
_PARTS = ("before", "connect", "upload", "wait", "first_content", "generation", "after")


def exchange(db: Connection, row: ExchangeRow, kept: Bodies | None = None) -> Exchange:
    """The record of a row. kept: its bodies, where they have been read already."""
    kept = kept if kept is not None else queries.bodies(db, row.id)
    facts: dict[str, Any] = {name: getattr(row, name) for name in _SAME}
    facts |= {name: getattr(kept, name) for name in _FROM_BODIES}
    facts |= _of_session(db, row.session_id)
    made = Exchange(
        **facts,
        session_id=row.session_id or "",
        state=State(row.state) if row.state is not None else None,
        method=row.method or "",
        target=row.target or "",
        transport=row.transport or "http",
        kind=row.kind or "turn",
        stream=bool(row.stream),
        truncated=bool(row.truncated),
        lost_bytes=row.lost_bytes or 0,
        request_bytes=row.request_bytes or 0,
        response_bytes=row.response_bytes or 0,
        usage=usage_from({name: getattr(row, name) for name in USAGE_COLUMNS}),
        split=_split(row),
        attempts=_converted(kept.attempts, list[Attempt], []),
        timings=_converted(kept.timings, Timings, Timings()),
        limits=_converted(kept.limits, list[Limit], []),
        texts=[Text(kind=kind, text=text) for kind, text in kept.texts],
    )
    if row.row:
        _put_tools(db, row, made)
    return made


def _of_session(db: Connection, session_id: str | None) -> dict[str, Any]:
    found = db.rows(f"SELECT {', '.join(_OF_SESSION)} FROM sessions WHERE session_id = ?", [session_id])
    return {name: found[0][name] for name in _OF_SESSION} if found else {}


def _split(row: ExchangeRow) -> Split | None:
    parts = [row.before_ms, row.connect_ms, row.upload_ms, row.wait_ms, row.content_ms, row.generation_ms, row.after_ms]
    if all(part is None for part in parts):
        return None
    return Split(**{f"{name}_ms": part for name, part in zip(_PARTS, parts, strict=True)})


def _put_tools(db: Connection, row: ExchangeRow, made: Exchange) -> None:
    found = db.rows(
        "SELECT call_id, exchange, name, kind, arguments, arguments_bytes, called_ns, result_exchange, result_bytes, "
        "duration_ms, success FROM tool_calls WHERE session_id = ? AND (exchange = ? OR result_exchange = ?) "
        "ORDER BY called_ns, call_id",
        [row.session_id, row.row, row.row],
    )
    if not found:
        return
    arguments, results = _said(made)
    for each in found:
        ident = each["call_id"].partition("~")[0]
        result = None
        if each["result_exchange"] == row.row:
            seen = each["called_ns"] is not None and each["duration_ms"] is not None
            result = ToolResult(
                id=ident,
                text=results.get(ident, ""),
                result_bytes=each["result_bytes"] or 0,
                success=None if each["success"] is None else bool(each["success"]),
                seen_ns=each["called_ns"] + round(each["duration_ms"] * 1e6) if seen else None,
            )
        if each["exchange"] != row.row:
            made.tool_results += [result] if result else []
            continue
        call = ToolCall(
            id=ident,
            name=each["name"],
            kind=each["kind"],
            arguments=arguments.get(ident) or each["arguments"] or "",
            arguments_bytes=each["arguments_bytes"] or 0,
            called_ns=each["called_ns"],
            result=result,
        )
        made.tool_calls.append(call)


def _said(made: Exchange) -> tuple[dict[str, str], dict[str, str]]:
    """Whole arguments of the answer's calls and whole results of the request, by call id."""
    talk = conversation(made.dialect or "other", made.request_body, made.response_body)
    answer = talk.answer.blocks if talk.answer else []
    asked = [block for message in talk.messages for block in message.blocks]
    arguments = {b.call_id: b.arguments or b.text for b in answer if b.kind == "tool_call" and b.call_id}
    results = {b.call_id: b.text for b in (*asked, *answer) if b.kind == "tool_result" and b.call_id}
    return arguments, results


def _json(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text) if text else {}
    except (msgspec.DecodeError, RecursionError):
        return {}


def _converted(value: Any, kind: Any, otherwise: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)  # the database has 0 and 1 for what is true
    except msgspec.ValidationError:
        return otherwise
