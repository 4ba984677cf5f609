"""`lunaroute top`: what goes on, in the terminal. Asks the server's own endpoints, and the record read-only."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lunaroute.cli.options import address_options, settings
from lunaroute.cli.record import console, inert
from lunaroute.config import Loaded
from lunaroute.probe import base_url, get
from lunaroute.stores import now, statistics
from lunaroute.stores.readonly import Connection, QueryError
from lunaroute.ui import format

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

NOT_RUNNING = 3
ROWS, ERRORS_SHOWN = 10, 5
TODAY_EVERY_S = 5.0  # the sums of a day read more rows than the rest
_SAMPLE = re.compile(r"^(lunaroute_[a-z_]+) (\S+)$", re.MULTILINE)
Json = dict[str, Any]


class Snapshot(msgspec.Struct, kw_only=True):
    """All that is shown. counters: families of /metrics without labels; `problems`: as /readyz says, and of our own."""

    at_ns: int
    address: str
    answers: bool
    ready: bool = False
    counters: dict[str, float] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    running: list[now.Running] = msgspec.field(default_factory=list)
    pace: now.Pace | None = None
    errors_today: int | None = None
    errors: list[now.Failure] = msgspec.field(default_factory=list)
    today: statistics.Figures | None = None


class Source:
    """Where snapshots come from. clock: wall clock, seconds."""

    def __init__(self, loaded: Loaded, clock: Callable[[], float] = time.time) -> None:
        config = loaded.config
        self._host, self._port = config.host, config.port
        self._token = config.access_tokens[0] if config.access_tokens else ""
        recording = config.session_recording
        kept = recording.enabled and recording.sqlite.enabled
        self._database = Path(recording.sqlite.path).expanduser() if kept else None
        self._clock = clock
        self._today: tuple[float, statistics.Figures] | None = None

    def look(self) -> Snapshot:
        """How things stand now; never raises for what is missing."""
        taken = Snapshot(at_ns=int(self._clock() * 1e9), address=base_url(self._host, self._port), answers=False)
        status, body = get(self._host, self._port, "/readyz", self._token, timeout=2.0)
        try:
            told = json.loads(body)
        except ValueError:
            told = None
        if status not in (200, 503) or not isinstance(told, dict) or "ready" not in told:
            taken.problems = [f"nothing answers there as LunaRoute does{f' (status {status})' if status else ''}"]
            return taken
        taken.answers, taken.ready, taken.problems = True, told["ready"], list(told["problems"])
        status, body = get(self._host, self._port, "/metrics", self._token, timeout=2.0)
        if status == 200:
            taken.counters = {name: float(value) for name, value in _SAMPLE.findall(body.decode())}
        if self._database is None:
            taken.problems.append("no database is written, so there is no more to see (session_recording)")
        else:
            self._read(taken, self._database)
        return taken

    def _read(self, taken: Snapshot, database: Path) -> None:
        local = datetime.fromtimestamp(taken.at_ns / 1e9).astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            with Connection(database) as db:
                taken.running = now.running(db, ROWS)
                taken.pace = now.pace(db, taken.at_ns)
                since_ns = int(midnight.timestamp() * 1e9)
                taken.errors_today, taken.errors = now.failures(db, since_ns, ERRORS_SHOWN)
                if self._today is None or taken.at_ns / 1e9 - self._today[0] >= TODAY_EVERY_S:
                    since = midnight.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
                    self._today = taken.at_ns / 1e9, statistics.summary(db, since, None, 0).total
                taken.today = self._today[1]
        except QueryError as error:
            taken.problems.append(str(error))


@click.command()
@address_options
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, help="Seconds between two looks.  [default: 1]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def top(config: str | None, flags: dict[str, object], interval: float, as_json: bool) -> None:
    """Watch the server: running requests, tokens of the last minute, cost and errors of today.

    q or Ctrl-C ends it. Into a pipe goes one look. Ends with code 3 if the server does not run.
    """
    source = Source(settings(config, flags))
    taken = source.look()
    if as_json:
        click.echo(msgspec.json.encode(taken))
    elif sys.stdout.isatty() and sys.stdin.isatty() and taken.answers:
        _watch(source, taken, interval)
        return
    else:
        console().print(view(taken))
    sys.exit(0 if taken.answers else NOT_RUNNING)


def _watch(source: Source, taken: Snapshot, interval: float) -> None:
    from rich.live import Live

    try:
        with _keys() as pressed, Live(view(taken), console=console(), screen=True, auto_refresh=False) as live:
            while not pressed(interval):
                live.update(view(source.look()), refresh=True)
    except KeyboardInterrupt:
        return


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Gives what waits some seconds, and says whether q was pressed meanwhile. The terminal is as before after it."""
    import select
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


# --- how it looks ----------------------------------------------------------------------------------------------------
def view(taken: Snapshot) -> Group:
    """The whole page, for any width from 60 columns on."""
    from rich.console import Group
    from rich.text import Text

    state = "ready" if taken.ready else "cannot serve" if taken.answers else "does not run"
    first = Text.assemble(
        ("LunaRoute", "bold"), f" {taken.address}  ", (state, "green" if taken.ready else "red"),
        (f"  {datetime.fromtimestamp(taken.at_ns / 1e9):%H:%M:%S}", "dim"),
    )  # fmt: skip
    lines: list[Any] = [first, *(Text(f"! {inert(problem)}", "yellow") for problem in taken.problems)]
    if taken.answers:
        lines += ["", _figures(taken)]
        lines += ["", Text(f"Running ({_whole(_in_flight(taken))})", "bold"), _running(taken)]
    if taken.errors:
        lines += ["", Text(f"Errors today ({taken.errors_today:,})", "bold"), _errors(taken)]
    return Group(*lines)


def _in_flight(taken: Snapshot) -> float | None:
    """Without the request that asked for it."""
    found = taken.counters.get("lunaroute_requests_in_flight")
    return None if found is None else max(0.0, found - 1)


def _whole(number: float | None) -> str:
    return format.exact(number)


def _figures(taken: Snapshot) -> Table:
    from rich.table import Table
    from rich.text import Text

    figures, pace, today = taken.counters, taken.pace, taken.today
    spent = format.cost(today.cost_usd, today.cost_kind, today.cost_unknown, short=True) if today else format.UNKNOWN
    cells = [
        ("running", _whole(_in_flight(taken))),
        ("tokens/s out", f"{pace.output_tokens / 60:,.1f}" if pace else format.UNKNOWN),
        ("tokens/s in", f"{pace.input_tokens / 60:,.1f}" if pace else format.UNKNOWN),
        ("requests/min", _whole(pace.requests if pace else None)),
        ("cost today", spent),
        ("errors today", _whole(taken.errors_today)),
        ("requests today", _whole(today.requests if today else None)),
        ("tokens today", format.count(today.total_tokens if today else None)),
        ("clients", _whole(figures.get("lunaroute_connections_open"))),
        ("upstream", _whole(figures.get("lunaroute_upstream_connections_open"))),
        ("tunnels", _whole(figures.get("lunaroute_tunnels_open"))),
        ("record behind", format.size(int(figures.get("lunaroute_observer_lag_bytes", 0)))),
    ]
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for _ in range(4):
        table.add_column(justify="left", no_wrap=True)
    for at in range(0, len(cells), 4):
        table.add_row(*(Text.assemble((value, "bold"), " ", (name, "dim")) for name, value in cells[at : at + 4]))
    return table


def _table(*columns: tuple[str, int]) -> Table:
    """Columns with their share of the width; 0: as wide as what is in them."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="dim", show_edge=False)
    for name, share in columns:
        table.add_column(
            name, ratio=share or None, no_wrap=True, overflow="ellipsis", justify="left" if share else "right"
        )
    return table


def _running(taken: Snapshot) -> Table:
    from rich.text import Text

    table = _table(("for", 0), ("client", 2), ("model", 3), ("session", 5))
    for each in taken.running:
        title = " ".join((each.title or each.target).split())
        client = format.CLIENTS.get(each.client or "", each.client or format.UNKNOWN)
        passed = format.span(max(0.0, (taken.at_ns - each.started_ns) / 1e6))
        table.add_row(Text(passed), *(Text(inert(cell)) for cell in (client, each.model or format.UNKNOWN, title)))
    return table


def _errors(taken: Snapshot) -> Table:
    from rich.text import Text

    table = _table(("at", 0), ("status", 0), ("model", 2), ("what", 5))
    for each in taken.errors:
        at = f"{datetime.fromtimestamp(each.started_ns / 1e9):%H:%M:%S}"
        what = " ".join((each.error or format.STATES.get(each.state, each.state)).split())
        cells = (at, str(each.status or format.UNKNOWN), each.model or format.UNKNOWN, what)
        table.add_row(*(Text(inert(cell)) for cell in cells))
    return table
