"""`lunaroute sessions delete`: what will go is found out here, by reading only; who writes does it (cli/desk.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lunaroute.cli import desk
from lunaroute.cli.options import fail, settings

if TYPE_CHECKING:
    from lunaroute.config import Loaded
    from lunaroute.stores.readonly import Connection

SHOWN = 20


class Doomed(NamedTuple):
    """A session that is to be deleted."""

    session_id: str
    title: str
    exchanges: int
    bytes: int
    running: int


@click.command("delete", short_help="Delete sessions with everything that is kept of them.")
@click.argument("idents", nargs=-1, metavar="[ID]...")
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option("--with-subagents", is_flag=True, help="The sessions of their subagents, too.")
@click.option("--older-than", metavar="TIME", default=None, help="Not active since: 12h, 30d, 4w, or 2026-01-31.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def delete(
    idents: tuple[str, ...],
    config: str | None,
    with_subagents: bool,
    older_than: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete sessions: their rows, bodies, words in the search index and log files, so that nothing of them can be
    found in the files any more. ID may be the beginning of an id. Without ID all that --older-than says; with both,
    those of them that are older. Works while the server runs."""
    if not idents and older_than is None:
        raise click.UsageError("Say which: by ID, or with --older-than 30d.")
    loaded = settings(config, {})
    with desk.failing():
        doomed = _doomed(loaded, idents, older_than, with_subagents)
        if not doomed:
            click.echo("No session fits; nothing was deleted.", err=True)
            answer: dict[str, Any] = {"sessions": 0, "exchanges": 0, "freed_bytes": 0, "rests": None}
        else:
            if not yes:
                _confirm(doomed)
            answer = _delete(loaded, [each.session_id for each in doomed], sum(each.exchanges for each in doomed))
    if as_json:
        click.echo(json.dumps({**answer, "deleted": [each.session_id for each in doomed]}))
    elif doomed:
        click.echo(
            f"Deleted {desk.many(answer['sessions'], 'session')}, {desk.many(answer['exchanges'], 'exchange')};"
            f" {desk.size(answer['freed_bytes'])} freed."
        )
    if answer["rests"]:
        click.echo(
            f"Traces of it may be left in unused parts of the database file: {answer['rests']}."
            " `lunaroute prune --rewrite` removes them.",
            err=True,
        )


def _doomed(loaded: Loaded, idents: Iterable[str], older_than: str | None, with_subagents: bool) -> list[Doomed]:
    from lunaroute.stores import filters, queries
    from lunaroute.stores.jsonl import JsonlStore
    from lunaroute.stores.readonly import BadQuestion, Connection

    recording = loaded.config.session_recording
    files: dict[str, int] = {}
    for each in JsonlStore(Path(recording.jsonl.directory), warn=print).files():
        session = each.path.name.removeprefix("session_").partition(".jsonl")[0]
        files[session] = files.get(session, 0) + each.size
    with Connection(Path(recording.sqlite.path)) as db:
        named = [queries.resolve(db, ident) for ident in idents]
        if older_than is not None:
            try:
                before = filters.since(older_than, datetime.now(UTC))
            except BadQuestion as error:
                raise click.BadParameter(str(error), param_hint="--older-than") from None
            old = [row[0] for row in db.rows("SELECT session_id FROM sessions WHERE last_at < ?", [before])]
            named = [each for each in named if each in set(old)] if named else old
        if with_subagents:
            named = list(_with_children(db, named))
        return [_facts(db, session, files.get(session, 0)) for session in dict.fromkeys(named)]


def _with_children(db: Connection, sessions: list[str]) -> Iterator[str]:
    """The sessions, and those that they started, and so on."""
    seen: set[str] = set()
    waiting = sessions[::-1]
    while waiting:
        session = waiting.pop()
        if session not in seen:
            seen.add(session)
            yield session
            found = db.rows("SELECT session_id FROM sessions WHERE parent_session_id = ?", [session])
            waiting += [row[0] for row in found]


def _facts(db: Connection, session: str, files: int) -> Doomed:
    title = db.value("SELECT title FROM sessions WHERE session_id = ?", [session]) or "Untitled session"
    row = db.rows(
        "SELECT count(*), coalesce(sum(length(data)), 0), count(*) - count(state) FROM exchanges "
        "LEFT JOIN packs ON packs.exchange = exchanges.row WHERE session_id = ?",
        [session],
    )[0]
    return Doomed(session, desk.printable(title), row[0], row[1] + files, row[2])


def _confirm(doomed: list[Doomed]) -> None:
    for each in doomed[:SHOWN]:
        running = ", under way: what it sends from now on is recorded anew" if each.running else ""
        count = desk.many(each.exchanges, "exchange")
        click.echo(f"{each.session_id}  {each.title[:60]}  ({count}, {desk.size(each.bytes)}{running})", err=True)
    if len(doomed) > SHOWN:
        click.echo(f"… and {len(doomed) - SHOWN} more", err=True)
    if not sys.stdin.isatty():
        fail("nothing was deleted: there is no terminal to ask at; say --yes", 2)
    count = desk.many(sum(each.exchanges for each in doomed), "exchange")
    what = f"Delete {desk.many(len(doomed), 'session')} with {count}, {desk.size(sum(each.bytes for each in doomed))}?"
    if not click.confirm(what, err=True):
        fail("nothing was deleted")


def _delete(loaded: Loaded, sessions: list[str], exchanges: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"sessions": 0, "exchanges": 0, "freed_bytes": 0, "rests": None}
    with desk.progress("Deleting") as tell:
        for part in desk.parts(sessions):
            order = {"cmd": "delete", "sessions": part}
            told = desk.ask(loaded, order, desk.onward(tell, answer["exchanges"], exchanges))
            for name in ("sessions", "exchanges", "freed_bytes"):
                answer[name] += max(0, told[name])
            answer["rests"] = told["rests"]
    return answer
