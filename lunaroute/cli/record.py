"""What the commands over the record share: the database, filters, a console, a progress bar, inert text.

Recorded text is hostile here too: a terminal obeys control characters, so none reaches it (see `inert`). Into a pipe go
plain lines without colour, cut nowhere.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lunaroute.cli.options import fail, settings
from lunaroute.stores import filters, queries
from lunaroute.stores.readonly import BadQuestion, Connection, NotFound, QueryError
from lunaroute.stores.rows import ExchangeRow, SessionFilter, SessionRow

if TYPE_CHECKING:
    from rich.console import Console

BATCH = 500
LONG_WORK = 40  # exchanges from which a bar says how far it is
Command = Callable[..., Any]
# control characters but tab and line feed, and the marks that turn the direction of writing (CVE-2021-42574)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def inert(text: str) -> str:
    """The text with every character made visible that a terminal would act on."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else "\ufffd", text)


def line(*cells: object) -> None:
    """One line of a table for a pipe: cells with a tab between them, unknown ones empty."""
    texts = ("" if cell is None else inert(str(cell)).replace("\t", " ").replace("\n", " ") for cell in cells)
    click.echo("\t".join(texts))


def console(stderr: bool = False) -> Console:
    """For a terminal; lines longer than it is wide are wrapped there and nowhere else."""
    from rich.console import Console

    wraps = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not wraps, stderr=stderr)


def database_options(command: Command) -> Command:
    """--config and --db, passed on as `config` and `db`."""
    command = click.option("--db", metavar="FILE", help="Database file.  [default: the configured one]")(command)
    return click.option("--config", metavar="FILE", help="Configuration file (YAML).")(command)


def database_path(config: str | None, db: str | None) -> Path:
    """The file that --db or else the configuration names."""
    return Path(db or settings(config, {}).config.session_recording.sqlite.path).expanduser()


@contextlib.contextmanager
def database(config: str | None, db: str | None) -> Iterator[Connection]:
    """The record, open for reading; what goes wrong with it ends the command in words (2: what was asked is wrong)."""
    try:
        with Connection(database_path(config, db)) as connection:
            yield connection
    except BadQuestion as error:
        raise click.UsageError(str(error)) from None
    except QueryError as error:
        fail(str(error))


_TIME = "30m, 2h, 7d, 4w, or 2026-01-31, or 2026-01-31T14:00"
_RANGE = (
    click.option("--since", metavar="TIME", help=f"Not before: {_TIME}."),
    click.option("--until", metavar="TIME", help="Before this time, written in the same way."),
)
_FILTERS = (
    click.option("--model", metavar="NAME", help="Asked for or answered by this model."),
    click.option("--provider", metavar="NAME", help="Sent to this provider."),
    click.option("--client", metavar="NAME", help="From this client, for instance claude-code or codex."),
    click.option("--project", metavar="FOLDER", help="Of this folder, or a folder whose path ends so."),
    click.option("--state", type=click.Choice(filters.STATES), help="With an exchange in this state."),
    click.option("--min-cost", metavar="USD", type=float, help="Of a session that cost at least so much."),
    click.option("--tool", metavar="NAME", help="Of a session in which this tool was called."),
)


def range_options(command: Command) -> Command:
    """--since and --until."""
    for option in reversed(_RANGE):
        command = option(command)
    return command


def filter_options(command: Command) -> Command:
    """All that sessions can be chosen by; `wanted` makes a filter of it."""
    for option in reversed((*_RANGE, *_FILTERS)):
        command = option(command)
    return command


def moments(since: str | None, until: str | None) -> tuple[str | None, str | None]:
    """Two times of the command line as the database's time text."""
    now = datetime.now(UTC)
    return tuple(_moment(text, name, now) for text, name in ((since, "--since"), (until, "--until")))  # type: ignore[return-value]


def _moment(text: str | None, name: str, now: datetime) -> str | None:
    try:
        return filters.since(text, now) if text else None
    except BadQuestion as error:
        raise click.BadParameter(str(error), param_hint=name) from None


def wanted(words: tuple[str, ...], asked: dict[str, Any]) -> SessionFilter:
    """The filter that was asked for with `filter_options`, whose values are taken out of `asked`."""
    since, until = moments(asked.pop("since"), asked.pop("until"))
    names = ("model", "provider", "client", "project", "state", "min_cost", "tool")
    return SessionFilter(words=" ".join(words), since=since, until=until, **{name: asked.pop(name) for name in names})


def found(db: Connection, ident: str) -> tuple[SessionRow | None, list[ExchangeRow]]:
    """A session, by its id or the beginning of one, with all of its exchanges; or one exchange with its session."""
    try:
        session_id = queries.resolve(db, ident)
    except NotFound:
        try:
            one = queries.exchange(db, ident)
        except NotFound:
            one = None
        if one is None:
            raise
        return queries.session(db, one.session_id) if one.session_id else None, [one]
    return queries.session(db, session_id), list(exchanges(db, session_id))


def exchanges(db: Connection, session_id: str) -> Iterator[ExchangeRow]:
    """All of a session, in their order."""
    after = 0
    while batch := queries.exchanges(db, session_id, after=after, limit=BATCH):
        yield from batch
        after = batch[-1].sequence


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Gives what is to be called for each step. A bar on stderr, where that is a terminal and the work is long."""
    if total < LONG_WORK or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
