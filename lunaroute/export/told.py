"""A session as the forms for reading are given it. Values only."""

from __future__ import annotations

import msgspec

from lunaroute.stores.rows import SessionRow, ToolRow
from lunaroute.ui import format
from lunaroute.ui.transcript import Transcript


class Told(msgspec.Struct):
    """A session, what was said in it, and its tool calls (for their times)."""

    session: SessionRow
    transcript: Transcript
    tools: list[ToolRow]


def facts(row: SessionRow) -> list[tuple[str, str]]:
    """What a heading says of a session: (name, words), the known ones."""
    start, end = format.iso(row.started_at), format.iso(row.last_at)
    found = [
        ("Session", row.session_id),
        ("Client", " ".join(part for part in (format.client(row.client), row.client_version) if part)),
        ("Model", row.model_used or row.model_requested or ""),
        ("Project", row.project or ""),
        ("From", start or row.started_at),
        ("To", end or row.last_at),
        ("Requests", f"{row.requests:,}" + (f", {row.errors:,} with an error" if row.errors else "")),
        ("Tokens", f"{format.exact(row.input_tokens)} in, {format.exact(row.output_tokens)} out"),
        ("Cost", format.cost(row.cost_usd, row.cost_kind, row.cost_unknown)),
        ("Subagent of", row.parent_session_id or ""),
    ]
    return [(name, words) for name, words in found if words]
