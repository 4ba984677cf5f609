"""Recorded sessions as files: reads what the forms of lunaroute/export/ are made from, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lunaroute import __version__
from lunaroute.records import Exchange
from lunaroute.stores import queries, rebuilt
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import Bodies, ExchangeRow, SessionRow
from lunaroute.ui.transcript import transcript

NO_LIMIT = 1 << 60
BATCH = 500


def pieces(
    db: Connection,
    rows: Iterable[SessionRow],
    form: str,
    step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda words: None,
) -> Iterable[str]:
    """The text of one file with these sessions, in one of export.FORMATS. step is called for each exchange, say with
    what could not be read."""
    if form == "har":
        from lunaroute.export import har

        known = list(rows)
        return har.pieces(__version__, known, _exchanges(db, known, step, say))
    if form == "jsonl":
        from lunaroute.export import jsonl

        return jsonl.pieces(_exchanges(db, rows, step, say))
    from lunaroute.export import Told, html, markdown

    def told() -> Iterator[Told]:
        for row in rows:

            def load(ident: str) -> Bodies:
                step()
                return queries.bodies(db, ident)

            talk = transcript(list(_of(db, row)), load, text_limit=NO_LIMIT, bytes_limit=NO_LIMIT)
            yield Told(row, talk, queries.tools(db, row.session_id))

    return html.pieces(__version__, told()) if form == "html" else markdown.pieces(told())


def _of(db: Connection, session: SessionRow) -> Iterator[ExchangeRow]:
    after = 0
    while batch := queries.exchanges(db, session.session_id, after=after, limit=BATCH):
        yield from batch
        after = batch[-1].sequence


def _exchanges(
    db: Connection, rows: Iterable[SessionRow], step: Callable[[], None], say: Callable[[str], None]
) -> Iterator[Exchange]:
    for row in rows:
        for one in _of(db, row):
            kept = queries.bodies(db, one.id)
            if kept.trouble:
                say(f"{one.id}: {kept.trouble}")
            yield rebuilt.exchange(db, one, kept)
            step()
