"""`lunaroute prices`: what the cost of an exchange is worked out from. Only `recompute` changes something.

Into a pipe go plain lines, cut nowhere; a terminal gets tables.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lunaroute.cli.options import fail, settings
from lunaroute.errors import LunaRouteError
from lunaroute.folders import home_folder

if TYPE_CHECKING:
    from rich.table import Table

    from lunaroute.observe.pricing import Prices
    from lunaroute.observe.pricing.table import Entry, Figures, Row

MAKERS = ("anthropic", "openai")
DASH = "\N{EN DASH}"
_HEADINGS = {
    "input": "Input",
    "output": "Output",
    "cache_read": "Cache read",
    "cache_write": "Cache write",
    "cache_write_1h": "Write 1 h",
    "audio_input": "Audio in",
    "audio_output": "Audio out",
    "web_search": "1k searches",
}
_LISTED = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


@click.group()
def prices() -> None:
    """Show the prices that costs are worked out from, check your own, price anew what was recorded.

    US dollars per million tokens (searches: per thousand). The figures are dated and shipped with the program; nothing
    is looked up. Your own, in prices.yaml of the folder ~/.lunaroute, win; examples/prices.yaml shows how.
    """


def user_file() -> Path:
    """The user's prices: `prices.yaml` of the home folder."""
    return home_folder(os.environ) / "prices.yaml"


def _load() -> Prices:
    from lunaroute.observe.pricing import Prices

    try:
        return Prices.load(user_file())
    except LunaRouteError as error:
        fail(str(error))


def _moment(ctx: click.Context, param: click.Parameter, day: str | None) -> int:
    if day is None:
        return time.time_ns()
    try:
        days = (date.fromisoformat(day) - date(1970, 1, 1)).days
    except ValueError:
        raise click.BadParameter(f"expected a day like 2026-01-31, got {day!r}", ctx, param) from None
    return days * 86_400_000_000_000


_at = click.option("--at", metavar="DATE", callback=_moment, help="Prices of that day (UTC).  [default: today]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@prices.command("list")
@click.option("--model", metavar="GLOB", default=None, help="Only models like this, for instance 'claude-opus-*'.")
@click.option("--provider", metavar="NAME", default=None, help="Only prices of this provider, for instance openrouter.")
@click.option("--all", "everything", is_flag=True, help="All providers, not only Anthropic, OpenAI and yours.")
@_at
@_json
def list_(model: str | None, provider: str | None, everything: bool, at: int, as_json: bool) -> None:
    """List models and what they cost."""
    from lunaroute.observe.pricing.table import USER, shipped

    loaded = _load()
    wide = everything or provider is not None or model is not None
    found: list[tuple[str, Entry, Row]] = []
    for vendor, entry in loaded.entries():
        if not (wide or vendor in MAKERS or entry.table == USER) or provider not in (None, vendor):
            continue
        row = entry.price(at)
        if row is not None and _fits(entry, model):
            found.append((vendor, entry, row))
    if as_json:
        click.echo(json.dumps([_facts(vendor, entry, row) for vendor, entry, row in found], indent=2))
    elif not found:
        click.echo("No price fits. `lunaroute prices list --all` shows all there are.", err=True)
    elif not sys.stdout.isatty():
        for vendor, entry, row in found:
            click.echo("\t".join((vendor, _inert(entry.model.id), row.since or "", *_plain(row))))
    else:
        table = _table("Model", "Provider", *(_HEADINGS[name] for name in _LISTED), "Above")
        for vendor, entry, row in found:
            above = ", ".join(_size(step.tokens) for step in row.above)
            table.add_row(_inert(entry.model.id), vendor, *(_dollars(getattr(row, name)) for name in _LISTED), above)
        _print(table)
        known = shipped()
        many = "1 model" if len(found) == 1 else f"{len(found)} models"
        _print(f"{many}. Figures of {known.table}, {known.date}, and our own of {known.overlay}.", "dim")
        _print("One in full: lunaroute prices show MODEL", "dim")


def _fits(entry: Entry, glob: str | None) -> bool:
    names = (entry.model.id.lower(), *entry.model.exact)
    return glob is None or any(fnmatch(name, glob.lower()) for name in names)


@prices.command("show", short_help="Show a model's price in full, with its history.")
@click.argument("model")
@click.option("--provider", metavar="NAME", default=None, help="As configured: the price may differ by provider.")
@_at
@_json
def show(model: str, provider: str | None, at: int, as_json: bool) -> None:
    """Show the price of MODEL: by class, prompt size, service tier, with its history and source."""
    entry = _load().find(provider, model, at)
    row = entry.price(at) if entry is not None else None
    if entry is None or row is None:
        fail(_inert(f"no price of {model} is known: its cost is unknown{_similar(model)}"))
    if as_json:
        click.echo(json.dumps(_facts(entry.provider, entry, row), indent=2))
        return
    _print(f"{_inert(entry.model.id)}  ({entry.provider}, {entry.table})", "bold")
    columns = [name for name in _HEADINGS if any(getattr(each, name) is not None for each in _all_figures(entry))]
    table = _table("", *(_HEADINGS[name] for name in columns))
    for label, figures, style in _steps(entry, row):
        table.add_row(label, *(_dollars(getattr(figures, name)) for name in columns), style=style)
    if sys.stdout.isatty():
        _print(table)
    else:
        click.echo("\t".join(("", *columns)))
        for label, figures, _ in _steps(entry, row):
            click.echo("\t".join((label, *(_dollars(getattr(figures, name)) for name in columns))))
    for geo, times in entry.geo.items():
        _print(f"inference_geo {geo}: all token prices times {times:g}")
    if entry.model.source:
        _print(f"our own figures: {entry.model.source}, read {entry.model.read}", "dim")


def _all_figures(entry: Entry) -> list[Figures]:
    rows = [*entry.model.rows, *(row for rows in entry.model.modes.values() for row in rows)]
    return [*rows, *(step for row in rows for step in row.above)]


def _steps(entry: Entry, current: Row) -> list[tuple[str, Figures, str]]:
    """(what it is, the figures, style): the history with what is in force marked, then the modes."""
    found: list[tuple[str, Figures, str]] = []
    rows = [("", row) for row in entry.model.rows]
    rows += [(mode, row) for mode, each in entry.model.modes.items() for row in each]
    for mode, row in rows:
        style = "bold" if row is current else ""
        words = [mode, f"from {row.since}" if row.since else "", f"{row.hours} UTC" if row.hours else ""]
        words += ["Mon-Fri" if row.weekdays else "", f"up to {_size(row.max_prompt)}" if row.max_prompt else ""]
        label = " ".join(word for word in words if word) or "standard"
        found.append((f"{label} *" if row is current else label, row, style))
        found += [(f"  above {_size(step.tokens)} tokens", step, style) for step in row.above]
    return found


def _similar(model: str) -> str:
    from difflib import get_close_matches

    from lunaroute.observe.pricing.table import shipped

    names = [entry.model.id for maker in MAKERS for entry in shipped().entries[maker]]
    close = get_close_matches(model[:80].lower(), names, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


@prices.command(short_help="Check a file of your own prices.")
@click.argument("file", required=False)
def check(file: str | None) -> None:
    """Check a file of your own prices; without FILE the one that is used. Ends with code 1 where it is not fine."""
    from lunaroute.observe.pricing.userfile import read_user_file

    path = Path(file) if file else user_file()
    if file is None and not path.exists():
        click.echo(f"no {path}: only the shipped prices are used")
        return
    try:
        entries = read_user_file(path)
    except LunaRouteError as error:
        fail(str(error))
    click.echo(f"{path}: fine, prices for {len(entries)} {'model' if len(entries) == 1 else 'models'}")


@prices.command(short_help="Work out all recorded costs anew.")
@click.option("--config", metavar="FILE", default=None, help="Configuration file (YAML).")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@_json
def recompute(config: str | None, dry_run: bool, as_json: bool) -> None:
    """Work out the cost of every recorded exchange anew, by the prices as they are now (yours included), with the sums
    of the sessions. A running server takes the new prices for what comes, too."""
    from lunaroute.cli import desk

    loaded = settings(config, {})
    path = Path(loaded.config.session_recording.sqlite.path)
    with desk.failing():
        if not path.exists():
            fail(f"nothing has been recorded yet: there is no database at {path}")
        with desk.progress("Pricing") as tell:
            answer = _look(path, loaded.home, tell) if dry_run else desk.ask(loaded, {"cmd": "reprice"}, tell)
    if as_json:
        click.echo(json.dumps({**answer, "dry_run": dry_run}))
        return
    changed = f"{answer['changed']:,} of {desk.many(answer['exchanges'], 'exchange')}"
    unknown = f"{answer['unknown']:,} of unknown price"
    click.echo(f"{changed} {'would change' if dry_run else 'changed'}, {unknown}")
    click.echo(f"total ${answer['old_usd']:,.4f}, {'would be' if dry_run else 'now'} ${answer['new_usd']:,.4f}")


def _look(path: Path, home: Path, tell: Callable[[int, int], None]) -> dict[str, Any]:
    """What pricing anew would change; only reads."""
    import contextlib

    from lunaroute.observe import billing
    from lunaroute.observe.pricing import Prices
    from lunaroute.stores import upkeep
    from lunaroute.stores.orders import Repriced, reading

    tally = Repriced(billing.of_row(Prices.load(home / "prices.yaml")))
    with reading(path) as connection:
        for step in upkeep.reprice(lambda: contextlib.nullcontext(connection), tally, dry_run=True):
            tell(*step)
    return tally.told()


def _facts(vendor: str, entry: Entry, row: Row) -> dict[str, Any]:
    import msgspec

    told = msgspec.to_builtins(entry.model)
    return {
        "provider": vendor,
        "model": entry.model.id,
        "table": entry.table,
        "price": msgspec.to_builtins(row),
        "history": told.get("rows", []),
        "modes": told.get("modes", {}),
        "geo": entry.geo,
        "source": entry.model.source,
    }


def _plain(row: Figures) -> list[str]:
    return ["" if (value := getattr(row, name)) is None else f"{value:.10g}" for name in _HEADINGS]


def _dollars(value: float | None) -> str:
    return DASH if value is None else f"{value:.10g}" if round(value, 2) != value else f"{value:.2f}"


def _size(tokens: int) -> str:
    return f"{tokens // 1000}k" if tokens % 1000 == 0 else f"{tokens:,}"


def _inert(text: str) -> str:
    """Without the characters that a terminal acts on: names may come from a file or an argument."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True, overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "Provider" else "right")
    return table


def _print(what: Table | str, style: str = "") -> None:
    from rich.console import Console
    from rich.text import Text

    if isinstance(what, str) and not sys.stdout.isatty():
        click.echo(what)
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(Text(what, style) if isinstance(what, str) else what)
