"""`lunaroute sessions show`: a session as a conversation, as a timeline, as JSON, or its bodies as they were."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores import findings, queries
from lunaroute.stores.findings import FindingRow
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import ExchangeRow, SessionRow, ToolRow
from lunaroute.ui import format, found
from lunaroute.ui.transcript import Entry, Transcript, Turn, transcript

RESULT_LINES = 12
TOOLS_NAMED = 6
LEAKS = 10
NO_LIMIT = 1 << 60


@click.command("show")
@record.database_options
@click.argument("ident", metavar="ID")
@click.option("--full", is_flag=True, help="Do not shorten tool results, thinking and the client's own context.")
@click.option("--timeline", is_flag=True, help="Where the time went: each request and each tool call on one axis.")
@click.option("--raw", is_flag=True, help="Print the recorded bodies, each after a line that says what it is.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: the session, its turns, its tool calls.")
def show(config: str | None, db: str | None, ident: str, full: bool, **how: bool) -> None:
    """Show a session as a conversation. ID may be its beginning, the id of one exchange, or the path of a log file
    (.jsonl, .jsonl.zst).

    A tool's time is at most what is shown: it is the time from the end of its call to the request that brought the
    result, in which the client also works and may ask for leave.
    """
    chosen = [f"--{name.removeprefix('as_')}" for name in ("timeline", "raw", "as_json") if how[name]]
    if len(chosen) > 1:
        raise click.UsageError(f"{chosen[0]} and {chosen[1]} exclude each other.")
    with record.log_file(Path(ident)) if record.is_log_file(ident) else record.database(config, db) as connection:
        row, exchanges = record.found(connection, ident)
        if how["raw"]:
            for one in exchanges:
                _print_raw(connection, one)
            return
        tools = _tools(connection, row, exchanges)
        taken = _taken(connection, row, exchanges)
        if how["timeline"]:
            from lunaroute.cli.sessions import timeline

            if row is not None and sys.stdout.isatty():
                _Printer(full).heading(row, tools, taken)
            timeline.show(exchanges, tools)
            return
        talk = transcript(
            exchanges, lambda key: queries.bodies(connection, key), text_limit=NO_LIMIT, bytes_limit=NO_LIMIT
        )
    if how["as_json"]:
        told: dict[str, Any] = {"session": row, "tool_calls": tools, "found": taken}
        told |= {name: getattr(talk, name) for name in talk.__struct_fields__}
        click.echo(json.dumps(msgspec.to_builtins(told), indent=2))
    else:
        _Printer(full).print(row, talk, tools, taken)


def _tools(connection: Connection, row: SessionRow | None, exchanges: list[ExchangeRow]) -> list[ToolRow]:
    """The tool calls of these exchanges."""
    if row is None:
        return []
    shown = {one.row for one in exchanges}
    return [tool for tool in queries.tools(connection, row.session_id) if tool.exchange in shown]


def _taken(connection: Connection, row: SessionRow | None, exchanges: list[ExchangeRow]) -> list[FindingRow]:
    """What was taken out of these exchanges first."""
    if row is None:
        return []
    shown = {one.id for one in exchanges}
    return [each for each in findings.of_session(connection, row.session_id) if each.exchange_id in shown]


def _print_raw(connection: Connection, row: ExchangeRow) -> None:
    kept = queries.bodies(connection, row.id)
    if kept.trouble:
        click.echo(f"{row.id}: {kept.trouble}", err=True)
    for side, body in (("request", kept.request_body), ("response", kept.response_body)):
        click.echo(f"=== {row.id} {side} {len(body)} bytes")
        if sys.stdout.isatty():
            click.echo(inert(body.decode("utf-8", "replace")))
        else:
            sys.stdout.flush()
            click.echo(body)


def tool_line(tools: list[ToolRow]) -> str:
    """`Bash 12 (1 failed), Read 3`, the most used first."""
    counts: dict[str, list[int]] = {}
    for tool in tools:
        count = counts.setdefault(tool.name, [0, 0])
        count[0] += 1
        count[1] += tool.success == 0
    ranked = sorted(counts.items(), key=lambda item: -item[1][0])
    named = [f"{name} {calls}{f' ({failed} failed)' if failed else ''}" for name, (calls, failed) in ranked]
    more = [f"{len(named) - TOOLS_NAMED} more"] if len(named) > TOOLS_NAMED else []
    return ", ".join([*named[:TOOLS_NAMED], *more])


class _Printer:
    """A transcript as lines. Colours only where the console has them."""

    def __init__(self, full: bool) -> None:
        self._full = full
        self._console = record.console()

    def print(
        self, row: SessionRow | None, talk: Transcript, tools: list[ToolRow], taken: list[FindingRow]
    ) -> None:
        if row is not None:
            self.heading(row, tools, taken)
            whole = sum(turn.row.kind != "handshake" for turn in talk.turns) == row.requests > 0
            gone = talk.turns[0].row.sequence - 1 if whole else 0
            if gone > 0:
                began = f"{gone:,} earlier {'request was' if gone == 1 else 'requests were'} removed"
                self._line(f"{began}; all sums are of what is kept\n", "dim")
        for block in talk.system:
            self._folded("System prompt", block.text, block.length)
        for turn in talk.turns:
            self._turn(turn)

    def _line(self, text: str, style: str = "", indent: str = "") -> None:
        from rich.text import Text

        for line in inert(text).split("\n"):
            self._console.print(Text(indent + line, style))

    def heading(self, row: SessionRow, tools: list[ToolRow], taken: list[FindingRow]) -> None:
        """What the session was, came to and cost, and what was taken out of its record."""
        self._line(row.title or "Untitled session", "bold")
        now = datetime.now().astimezone()
        requests = f"{row.requests} {'request' if row.requests == 1 else 'requests'}"
        errors = f"{row.errors} {'error' if row.errors == 1 else 'errors'}" if row.errors else ""
        tokens = f"{format.exact(row.input_tokens)} tokens in, {format.exact(row.output_tokens)} out"
        tokens = format.least(tokens, row.usage_unknown)
        cached = f"{format.exact(row.cache_read_tokens)} from the cache" if row.cache_read_tokens else ""
        cost = f"cost {format.cost(row.cost_usd, row.cost_kind, row.cost_unknown)}"
        who = [format.client(row.client), row.model_used or row.model_requested]
        facts = [*who, requests, errors, tokens, cached, cost]
        self._line(" · ".join(fact for fact in facts if fact), "dim")
        spent = f"{format.span(row.duration_ms)} of requests"
        if row.overhead_ms:
            spent += f", {format.span(row.overhead_ms)} of them the proxy"
        times = f"{format.in_full(row.started_at, now)} to {format.in_full(row.last_at, now)} · {spent}"
        self._line(times, "dim")
        if tools:
            self._line(f"Tools: {tool_line(tools)}", "dim")
        if taken:
            self._line(f"Redacted: {found.counted(taken)}", "dim")
        for each in found.leaks(taken)[:LEAKS]:
            self._line(f"! {found.leak(each)}", "yellow")
        parent = f" · subagent of {row.parent_session_id}" if row.parent_session_id else ""
        project = f" · {row.project}" if row.project else ""
        self._line(f"{row.session_id}{project}{parent}\n", "dim")

    def _turn(self, turn: Turn) -> None:
        row = turn.row
        line = format.turn(row)
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
