"""`lunaroute sessions list` and `lunaroute sessions show`: what was recorded, in the terminal. Read-only.

Recorded text is hostile here too: a terminal obeys control characters, so none reaches it (see `inert`). Into a pipe go
plain lines without colour, cut nowhere; what is not for eyes at all is `--json` and `--raw`.
"""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from lunaroute.cli.options import fail, settings
from lunaroute.cli.record import delete, import_
from lunaroute.stores import queries
from lunaroute.stores.readonly import BadQuestion, Connection, NotFound, QueryError
from lunaroute.stores.rows import ExchangeRow, SessionFilter, SessionRow

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from lunaroute.ui.transcript import Entry, Transcript, Turn

SHORT_ID = 8
ID_WIDTH = 20
# what a terminal of that many columns has room for
_COLUMNS = (
    *(("Session", 0), ("Title", 0), ("Client", 84), ("Model", 110)),
    *(("Req.", 72), ("In", 128), ("Out", 128), ("Active", 60)),
)
RESULT_LINES = 12
BATCH = 500
NO_LIMIT = 1 << 60
# control characters but tab and line feed, and the marks that turn the direction of writing (CVE-2021-42574)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def inert(text: str) -> str:
    """The text with every character made visible that a terminal would act on."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else "\ufffd", text)


@click.group()
def sessions() -> None:
    """List recorded sessions, or show one of them."""


sessions.add_command(delete)
sessions.add_command(import_)


def _database(config: str | None, file: str | None) -> Connection:
    if file is None:
        file = settings(config, {}).config.session_recording.sqlite.path
    return Connection(Path(file).expanduser())


_config = click.option("--config", metavar="FILE", default=None, help="Configuration file (YAML).")
_db = click.option("--db", metavar="FILE", default=None, help="Database file.  [default: the configured one]")


@sessions.command("list")
@_config
@_db
@click.option("--limit", "-n", type=click.IntRange(1, queries.PAGE_LIMIT), default=20, help="How many.  [default: 20]")
@click.option("--since", metavar="TIME", default=None, help="Active since: 30m, 2h, 7d, 4w, or 2026-01-31.")
@click.option("--model", metavar="NAME", default=None, help="Asked for or answered by this model.")
@click.option("--client", metavar="NAME", default=None, help="From this client, for instance claude-code or codex.")
@click.option("--state", type=click.Choice(queries.STATES), default=None, help="With an exchange in this state.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.argument("words", nargs=-1)
def list_(config: str | None, db: str | None, words: tuple[str, ...], as_json: bool, **asked: Any) -> None:
    """List sessions, the newest first; with WORDS those that have all of them in title, model, client or id."""
    try:
        limit, since = asked.pop("limit"), asked.pop("since")
        after = queries.since(since, datetime.now(UTC)) if since else None
        wanted = SessionFilter(words=" ".join(words), since=after, **asked)
        with _database(config, db) as connection:
            page = queries.list_sessions(connection, wanted, limit=limit)
    except BadQuestion as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    except QueryError as error:
        fail(str(error))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(page.rows), indent=2))
    elif not page.rows:
        click.echo("No session fits. Without filters, `lunaroute sessions list` shows all.", err=True)
    elif sys.stdout.isatty():
        _table(page.rows, page.totals.sessions)
    else:
        for row in page.rows:
            click.echo("\t".join(inert(cell).replace("\t", " ").replace("\n", " ") for cell in _cells(row)))


def _cells(row: SessionRow) -> tuple[str, ...]:
    """For a pipe: whole, in UTC."""
    figures = (row.requests, row.errors, row.input_tokens, row.output_tokens)
    model = row.model_used or row.model_requested or ""
    state = "running" if row.running else "errors" if row.errors else "ok"
    counted = ("" if figure is None else str(figure) for figure in figures)
    return (row.session_id, row.last_at, row.client or "", model, state, *counted, row.title or "")


def _table(rows: list[SessionRow], total: int) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from lunaroute.ui import format

    console = _console()
    room = console.width
    names = [name for name, needs in _COLUMNS if room >= needs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    for name in names:
        wide = name == "Title"
        justify: Any = "right" if name in ("Req.", "In", "Out", "Active") else "left"
        limit = ID_WIDTH if name == "Session" else None if wide else 24
        table.add_column(
            name, justify=justify, no_wrap=True, overflow="ellipsis", max_width=limit, ratio=1 if wide else None
        )
    now = datetime.now().astimezone()
    short = _short_ids([row.session_id for row in rows])
    for row in rows:
        cells = {
            "Session": Text(short[row.session_id], "cyan"),
            "Title": _title(row),
            "Client": Text(inert(format.client(row.client))),
            "Model": Text(inert(row.model_used or row.model_requested or format.UNKNOWN)),
            "Req.": Text(str(row.requests)),
            "In": Text(format.count(row.input_tokens)),
            "Out": Text(format.count(row.output_tokens)),
            "Active": Text(format.when(row.last_at, now)),
        }
        table.add_row(*(cells[name] for name in names))
    console.print(table)
    more = f"{len(rows)} of {total}, more with --limit. " if total > len(rows) else ""
    console.print(Text(f"{more}Read one: lunaroute sessions show {short[rows[0].session_id]}", "dim"))


def _title(row: SessionRow) -> Text:
    from rich.text import Text

    title = Text(inert(" ".join((row.title or "Untitled session").split())))
    if row.running:
        return Text.assemble(("● ", "blue"), title)
    return Text.assemble(("! ", "red"), title) if row.errors else title


def _short_ids(ids: list[str]) -> dict[str, str]:
    """Beginnings that tell these ids apart; of a parent and its subagents (whose ids go on from its own) the parent."""
    short = {}
    for ident in ids:
        others = [other for other in ids if not other.startswith(ident)]
        lengths = range(min(SHORT_ID, len(ident)), len(ident))
        short[ident] = next(
            (ident[:end] for end in lengths if not any(other.startswith(ident[:end]) for other in others)), ident
        )
    return short


@sessions.command("show")
@_config
@_db
@click.argument("ident", metavar="ID")
@click.option("--full", is_flag=True, help="Do not shorten tool results, thinking and the client's own context.")
@click.option("--raw", is_flag=True, help="Print the recorded bodies, each after a line that says what it is.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(config: str | None, db: str | None, ident: str, full: bool, **how: bool) -> None:
    """Show a session as a conversation. ID may be its beginning, or the id of one exchange."""
    from lunaroute.ui.transcript import transcript

    raw, as_json = how["raw"], how["as_json"]
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other.")
    try:
        with _database(config, db) as connection:
            row, exchanges = _found(connection, ident)
            if raw:
                for one in exchanges:
                    _print_raw(connection, one)
                return
            talk = transcript(
                exchanges, lambda key: queries.bodies(connection, key), text_limit=NO_LIMIT, bytes_limit=NO_LIMIT
            )
    except QueryError as error:
        fail(str(error))
    if as_json:
        click.echo(json.dumps({"session": msgspec.to_builtins(row), **msgspec.to_builtins(talk)}, indent=2))
    else:
        _Printer(full).print(row, talk)


def _found(connection: Connection, ident: str) -> tuple[SessionRow | None, list[ExchangeRow]]:
    """A session with all of its exchanges, or one exchange with its session."""
    try:
        session_id = queries.resolve(connection, ident)
    except NotFound:
        try:
            one = queries.exchange(connection, ident)
        except NotFound:
            one = None
        if one is None:
            raise
        return queries.session(connection, one.session_id) if one.session_id else None, [one]
    row = queries.session(connection, session_id)
    exchanges: list[ExchangeRow] = []
    while batch := queries.exchanges(
        connection, session_id, after=exchanges[-1].sequence if exchanges else 0, limit=BATCH
    ):
        exchanges += batch
    return row, exchanges


def _print_raw(connection: Connection, row: ExchangeRow) -> None:
    kept = queries.bodies(connection, row.id)
    for side, body in (("request", kept.request_body), ("response", kept.response_body)):
        click.echo(f"=== {row.id} {side} {len(body)} bytes")
        if sys.stdout.isatty():
            click.echo(inert(body.decode("utf-8", "replace")))
        else:
            sys.stdout.flush()
            click.echo(body)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


class _Printer:
    """A transcript as lines. Colours only where the console has them."""

    def __init__(self, full: bool) -> None:
        self._full = full
        self._console = _console()

    def print(self, row: SessionRow | None, talk: Transcript) -> None:
        if row is not None:
            self._heading(row)
        for block in talk.system:
            self._folded("System prompt", block.text, block.length)
        for turn in talk.turns:
            self._turn(turn)

    def _line(self, text: str, style: str = "", indent: str = "") -> None:
        from rich.text import Text

        for line in inert(text).split("\n"):
            self._console.print(Text(indent + line, style))

    def _heading(self, row: SessionRow) -> None:
        from lunaroute.ui import format

        self._line(row.title or "Untitled session", "bold")
        now = datetime.now().astimezone()
        requests = f"{row.requests} {'request' if row.requests == 1 else 'requests'}"
        tokens = f"{format.exact(row.input_tokens)} tokens in, {format.exact(row.output_tokens)} out"
        facts = [format.client(row.client), row.model_used or row.model_requested, requests, tokens]
        self._line(" · ".join(fact for fact in facts if fact), "dim")
        parent = f" · subagent of {row.parent_session_id}" if row.parent_session_id else ""
        self._line(f"{row.session_id} · {format.in_full(row.started_at, now)}{parent}\n", "dim")

    def _turn(self, turn: Turn) -> None:
        from lunaroute.ui import format

        row = turn.row
        used = f"{format.count(row.input_tokens)} in, {format.count(row.output_tokens)} out"
        facts = [f"#{row.sequence}", row.model_used or row.model_requested, used, format.span(row.duration_ms)]
        if row.state != "ok":
            facts.append(format.state(row.state))
        line = " · ".join(fact for fact in facts if fact)
        if turn.side:
            said = " ".join(entry.text for entry in turn.answer)[:120]
            self._line(f"{line} · {format.KINDS.get(row.kind or '', row.kind or '')}  {said}\n", "dim")
            return
        if turn.replaced:
            self._line(f"--- the client replaced {turn.replaced} earlier parts of the conversation ---\n", "yellow")
        for entry in turn.added:
            self._entry(entry, "Assistant" if entry.role == "assistant" else "User")
        self._line(f"Assistant  {line}", "bold magenta" if row.state == "ok" else "bold red")
        for entry in turn.answer:
            self._entry(entry, "")
        for trouble in (turn.error or row.error, turn.note):
            if trouble:
                self._line(trouble, "red")
        self._line("")

    def _entry(self, entry: Entry, who: str) -> None:
        if entry.kind == "text":
            if who:
                self._line(who, "bold blue")
            self._line(entry.text.strip("\n") + "\n")
        elif entry.kind == "tool_call":
            failed = entry.result is not None and entry.result.is_error
            self._line(f"> {entry.name or 'tool'}  {entry.summary}", "red" if failed else "green")
            if self._full and entry.arguments:
                self._line(entry.arguments, "dim", "  ")
            if entry.result is not None:
                self._result(entry.result)
        elif entry.kind == "tool_result":
            self._result(entry)
        elif entry.kind in ("image", "document"):
            self._line(f"[{' '.join(part for part in (entry.kind, entry.name, entry.media_type) if part)}]", "dim")
        else:
            name = "Thinking" if entry.kind == "thinking" else entry.name or entry.kind
            self._folded(name, entry.text, entry.length)

    def _result(self, entry: Entry) -> None:
        lines = entry.text.split("\n")
        shown = lines if self._full else lines[:RESULT_LINES]
        self._line("\n".join(shown), "red" if entry.is_error else "dim", "  ")
        if len(lines) > len(shown):
            self._line(f"… {len(lines) - len(shown)} more lines, --full shows them", "dim", "  ")
        self._line("")

    def _folded(self, name: str, text: str, length: int) -> None:
        if self._full:
            self._line(f"[{name}]", "dim bold")
            self._line(text + "\n", "dim")
        else:
            first: Any = next((line.strip() for line in text.split("\n") if line.strip()), "")
            self._line(f"[{name}, {length:,} characters] {first[:100]}\n", "dim")
