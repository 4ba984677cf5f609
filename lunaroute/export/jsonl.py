"""A session as the lines of its log file (stores/lines.py), made anew from the database. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lunaroute.records import Exchange
from lunaroute.stores import lines


def pieces(exchanges: Iterable[Exchange]) -> Iterator[str]:
    """One file: a session's line before its first exchange, also where another session follows."""
    number = 0
    session: str | None = None
    for exchange in exchanges:
        made = []
        if exchange.session_id != session:
            session = exchange.session_id
            made.append(lines.session_line)
        made.append(lines.request_line)
        if exchange.state is not None:
            made.append(lines.response_line)
        for each in made:
            number += 1
            yield each(number, exchange).decode("utf-8", "replace")
