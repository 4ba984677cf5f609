"""`lunaroute stats`: the summary that is also printed when the server stops, and breakdowns of it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores import statistics
from lunaroute.stores.statistics import Breakdown, Group, ToolFigures

if TYPE_CHECKING:
    from rich.table import Table

_NARROW = 100  # columns: below this only what matters most, so that no heading is cut
_PIPE = (
    *("sessions", "requests", "errors", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cost_usd", "cost_kind", "cost_unknown", "duration_ms", "usage_unknown"),
)
_TOOL_PIPE = ("calls", "failures", "unknown", "average_ms", "longest_ms")


@click.command()
@record.database_options
@record.range_options
@click.option("--by", type=click.Choice(list(statistics.BY)), help="One line for each of these instead of the summary.")
@click.option(
    "--limit", "-n", type=click.IntRange(0, statistics.ROWS_LIMIT), help="Sessions (10) or lines (50) at most."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def stats(config: str | None, db: str | None, by: str | None, limit: int | None, as_json: bool, **asked: Any) -> None:
    """Sum up what was recorded: requests, tokens, tools, times, cost.

    Counted are the exchanges that began in the time that was asked for. Days are those of this machine's time zone.
    What is not known is not counted as zero: it says "at least" (in tables ≥). "API-equivalent" (~) is what an API
    would have taken for the traffic of a subscription. A tool's time is at most what is shown.
    """
    since, until = record.moments(asked["since"], asked["until"])
    with record.database(config, db) as connection:
        found = (
            statistics.breakdown(connection, by, since, until, 50 if limit is None else max(1, limit))
            if by
            else statistics.summary(connection, since, until, statistics.LIMIT if limit is None else limit)
        )
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    elif isinstance(found, Breakdown):
        _show(found)
    else:
        from lunaroute.cli.summary import render

        click.echo(render(found))


def _show(found: Breakdown) -> None:
    if not (found.groups or found.tools):
        click.echo("Nothing was recorded in this time.", err=True)
    elif sys.stdout.isatty():
        _print(found)
    elif found.by == "tool":
        record.line("tool", *_TOOL_PIPE)
        for tool in found.tools:
            record.line(tool.name, *(_plain(getattr(tool, name)) for name in _TOOL_PIPE))
    else:
        record.line(found.by, *_PIPE)
        for each in found.groups:
            record.line(each.value, *(_plain(getattr(each, name)) for name in _PIPE))


def _plain(value: Any) -> Any:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _print(found: Breakdown) -> None:
    from rich.text import Text

    console = record.console()
    wide = console.width >= _NARROW
    console.print(_tools(found.tools, wide) if found.by == "tool" else _groups(found, wide))
    if found.left_out:
        console.print(Text(f"{found.left_out:,} more, --limit shows them", "dim"))


def _table(first: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    wide = first in ("session", "project")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=wide)
    table.add_column(
        first.capitalize(), overflow="ellipsis", no_wrap=True, max_width=None if wide else 30, ratio=1 if wide else None
    )
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _groups(found: Breakdown, wide: bool) -> Table:
    from rich.text import Text

    from lunaroute.ui import format

    more = ("Sessions", "Cached", "Avg time") if wide else ()
    names = ("Sessions", "Requests", "Errors", "In", "Cached", "Out", "Avg time", "Cost")
    shown = [name for name in names if name in more or name in ("Requests", "Errors", "In", "Out", "Cost")]
    table = _table(found.by, *shown)
    for each in found.groups:
        cells = {
            "Sessions": f"{each.sessions:,}",
            "Requests": f"{each.requests:,}",
            "Errors": f"{each.errors:,}" if each.errors else "",
            "In": format.least(format.count(each.input_tokens), each.usage_unknown, short=True),
            "Cached": format.count(each.cache_read_tokens),
            "Out": format.least(format.count(each.output_tokens), each.usage_unknown, short=True),
            "Avg time": format.span(each.average_ms),
            "Cost": format.cost(each.cost_usd, each.cost_kind, each.cost_unknown, short=True),
        }
        table.add_row(Text(_named(each)), *(cells[name] for name in shown))
    return table


def _named(each: Group) -> str:
    title = " ".join((each.name or "").split())
    return inert(f"{each.value[:8]} {title}" if title and each.value else each.value or "unknown")


def _tools(tools: list[ToolFigures], wide: bool) -> Table:
    from rich.text import Text

    from lunaroute.ui import format

    table = _table("tool", "Calls", "Failed", "Avg ≤", *(("Longest ≤", "End unknown") if wide else ()))
    for tool in tools:
        cells = [f"{tool.calls:,}", f"{tool.failures:,}" if tool.failures else "", format.span(tool.average_ms)]
        if wide:
            cells += [format.span(tool.longest_ms), f"{tool.unknown:,}" if tool.unknown else ""]
        table.add_row(Text(inert(tool.name)), *cells)
    return table
