"""`lunaroute sessions export`: a session as a file for other programs or for people."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from lunaroute.cli import record
from lunaroute.cli.options import fail
from lunaroute.export import FORMATS
from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection, NotFound
from lunaroute.stores.rows import SessionRow
from lunaroute.ui import exports

_DEEPEST = 20  # generations of subagents


@click.command("export")
@record.database_options
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="html", help="[default: html]")
@click.option("--output", "-o", metavar="FILE", help="File, - for stdout.  [default: session_ID.FORMAT; a pipe]")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option("--with-subagents", is_flag=True, help="The sessions of its subagents too.")
@click.argument("ident", metavar="ID")
def export(config: str | None, db: str | None, form: str, output: str | None, force: bool, with_subagents: bool,
           ident: str) -> None:  # fmt: skip
    """Write the session ID (or the beginning of its id) to a file that only you can read.

    \b
        html    one page to read, keep or print; nothing in it can act or load anything
        md      Markdown
        har     HTTP Archive 1.2: each request and answer with its times
        jsonl   the lines of LunaRoute's own log files

    Credentials were masked before they were recorded; what was said is written as it is.
    """
    with record.database(config, db) as connection:
        rows = list(_sessions(connection, ident, with_subagents))
        total = sum(row.requests for row in rows)
        with record.progress(f"Writing {form}", total) as step:
            pieces = exports.pieces(connection, rows, form, step, _say)
            if output == "-" or (output is None and not sys.stdout.isatty()):
                out = sys.stdout.buffer
                _write(out, pieces)
                out.flush()
                return
            path = Path(output or f"session_{rows[0].session_id}.{FORMATS[form][0]}").expanduser()
            with _private(path, force) as file:
                _write(file, pieces)
    click.echo(f"{path}: {path.stat().st_size:,} bytes", err=True)


def _sessions(db: Connection, ident: str, with_subagents: bool) -> Iterator[SessionRow]:
    """The session, and after it those it started, each before its own."""
    try:
        first = queries.session(db, queries.resolve(db, ident))
    except NotFound as error:
        fail(str(error))
    seen: set[str] = set()
    waiting = [(first, 0)]
    while waiting:
        row, depth = waiting.pop()
        if row.session_id in seen:
            continue
        seen.add(row.session_id)
        yield row
        if with_subagents and depth < _DEEPEST:
            children = queries.children(db, row.session_id, limit=queries.PAGE_LIMIT)
            waiting += [(child, depth + 1) for child in reversed(children)]


def _say(words: str) -> None:
    click.echo(f"lunaroute: {words}", err=True)


def _write(file: BinaryIO, pieces: Iterable[str]) -> None:
    for piece in pieces:
        file.write(piece.encode("utf-8", "replace"))


@contextlib.contextmanager
def _private(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A new file, 0600; it has its name only when it is whole, and a file of that name stays without --force."""
    if not force and os.path.lexists(path):
        fail(f"{path} is there already; --force overwrites it")
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                yield file
            if force:
                os.replace(part, path)
            else:
                os.link(part, path)  # unlike a rename it fails where somebody was faster
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")
