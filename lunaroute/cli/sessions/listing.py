"""`lunaroute sessions list`: sessions as a table, as lines for a pipe, as JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores import queries
from lunaroute.stores.rows import SessionRow, Totals

if TYPE_CHECKING:
    from rich.text import Text

SHORT_ID = 8
ID_WIDTH = 20
# what a terminal of that many columns has room for
_COLUMNS = (
    *(("Session", 0), ("Title", 0), ("Client", 92), ("Model", 118)),
    *(("Req.", 76), ("In", 136), ("Out", 136), ("Cost", 60), ("Active", 46)),
)
_FIGURES = ("Req.", "In", "Out", "Cost", "Active")


@click.command("list")
@record.database_options
@click.option("--limit", "-n", type=click.IntRange(1, queries.PAGE_LIMIT), default=20, help="How many.  [default: 20]")
@record.filter_options
@click.option("--sort", metavar="WHAT", type=click.Choice(list(queries.SORTS)), default="last",
              help=f"By {', '.join(queries.SORTS)}.  [default: last]")
@click.option("--reverse", is_flag=True, help="The other way round: the oldest or the least first.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.argument("words", nargs=-1)
def list_(config: str | None, db: str | None, words: tuple[str, ...], **asked: Any) -> None:
    """List sessions, the newest first; with WORDS those that have all of them in title, model, client or id.

    A session is in a time by when it was last active. Costs: ~ is what an API would have taken for a subscription's
    traffic, ≥ means that some of the session told no usage or has no known price, or not of all.
    """
    wanted = record.wanted(words, asked)
    with record.database(config, db) as connection:
        page = queries.list_sessions(
            connection, wanted, sort=asked["sort"], ascending=asked["reverse"], limit=asked["limit"]
        )
    if asked["as_json"]:
        click.echo(json.dumps(msgspec.to_builtins(page.rows), indent=2))
    elif not page.rows:
        click.echo("No session fits. Without filters, `lunaroute sessions list` shows all.", err=True)
    elif sys.stdout.isatty():
        _table(page.rows, page.totals)
    else:
        for row in page.rows:
            _line(row)


def _line(row: SessionRow) -> None:
    """For a pipe: whole, in UTC."""
    state = "running" if row.running else "errors" if row.errors else "ok"
    model = row.model_used or row.model_requested
    figures = (row.requests, row.errors, row.input_tokens, row.output_tokens)
    cost = None if row.cost_usd is None else f"{row.cost_usd:.6f}"
    record.line(row.session_id, row.last_at, row.client, model, state, *figures, cost, row.title)


def _table(rows: list[SessionRow], totals: Totals) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lunaroute.ui import format

    console = record.console()
    names = [name for name, needs in _COLUMNS if console.width >= needs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    for name in names:
        wide = name == "Title"
        justify: Any = "right" if name in _FIGURES else "left"
        limit = ID_WIDTH if name == "Session" else None if wide else 24
        table.add_column(
            name, justify=justify, no_wrap=True, overflow="ellipsis", max_width=limit, ratio=1 if wide else None
        )
    now = datetime.now().astimezone()
    short = short_ids([row.session_id for row in rows])
    for row in rows:
        cells = {
            "Session": Text(short[row.session_id], "cyan"),
            "Title": _title(row),
            "Client": Text(inert(format.client(row.client))),
            "Model": Text(inert(row.model_used or row.model_requested or format.UNKNOWN)),
            "Req.": Text(str(row.requests)),
            "In": Text(format.least(format.count(row.input_tokens), row.usage_unknown, short=True)),
            "Out": Text(format.least(format.count(row.output_tokens), row.usage_unknown, short=True)),
            "Cost": Text(format.cost(row.cost_usd, row.cost_kind, row.cost_unknown, short=True)),
            "Active": Text(format.when(row.last_at, now)),
        }
        table.add_row(*(cells[name] for name in names))
    console.print(table)
    more = f"{len(rows)} of {totals.sessions}, more with --limit. " if totals.sessions > len(rows) else ""
    first = short[rows[0].session_id]
    console.print(Text(f"{more}Read one: lunaroute sessions show {first}", "dim"))


def _title(row: SessionRow) -> Text:
    from rich.text import Text

    title = Text(inert(" ".join((row.title or "Untitled session").split())))
    if row.running:
        return Text.assemble(("● ", "blue"), title)
    return Text.assemble(("! ", "red"), title) if row.errors else title


def short_ids(ids: list[str]) -> dict[str, str]:
    """Beginnings that tell these ids apart; of a parent and its subagents (whose ids go on from its own) the parent."""
    short = {}
    for ident in ids:
        others = [other for other in ids if not other.startswith(ident)]
        lengths = range(min(SHORT_ID, len(ident)), len(ident))
        short[ident] = next(
            (ident[:end] for end in lengths if not any(other.startswith(ident[:end]) for other in others)), ident
        )
    return short
