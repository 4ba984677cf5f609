"""`lunaroute prune`: retention now, or what it would take out."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lunaroute.cli import desk
from lunaroute.cli.options import fail, settings

if TYPE_CHECKING:
    from lunaroute.config import Loaded

_SPAN = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([hdw]?)")
_DAYS = {"": 1.0, "d": 1.0, "h": 1 / 24, "w": 7.0}
NOTHING = {"sessions": 0, "exchanges": 0, "database_bytes": [0, 0], "files": 0, "file_bytes": [0, 0], "rests": None}


def _days(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter("days are written as 30, 30d, 12h or 4w", ctx, param)
    return float(found[1]) * _DAYS[found[2]]


@click.command()
@click.option("--config", metavar="FILE", default=None, help="Configuration file (YAML).")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--older-than", metavar="DAYS", callback=_days, help="Delete what is older.  [default: as configured]")
@click.option(
    "--max-size", metavar="MB", type=click.FloatRange(min=0), default=None,
    help="Delete the oldest above this size: of the database, and of the log files.  [default: as configured]",
)  # fmt: skip
@click.option(
    "--rewrite",
    is_flag=True,
    help="Then write the database anew; nothing else is stored while that lasts (3 s per GB).",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def prune(
    config: str | None, dry_run: bool, older_than: float | None, max_size: float | None, rewrite: bool, as_json: bool
) -> None:
    """Delete now what retention would delete: exchanges and log files that are too old, then the oldest until the rest
    is small enough. Log files stay while an exchange in them is under way or has just ended (ten seconds). The server
    does all this by itself every ten minutes. Works while the server runs."""
    loaded = settings(config, {})
    with desk.failing():
        if dry_run:
            told = _plan(loaded, older_than, max_size)
            click.echo(json.dumps(told) if as_json else _planned(told))
            return
        order = {"cmd": "prune", "max_age_days": older_than, "max_size_mb": max_size, "rewrite": rewrite}
        recording = loaded.config.session_recording
        answer: dict[str, Any] = dict(NOTHING)
        if not Path(recording.sqlite.path).exists():
            answer |= _files_alone(loaded, older_than, max_size)
        else:
            with desk.progress("Pruning") as tell:
                answer = desk.ask(loaded, order, tell)
    click.echo(json.dumps(answer) if as_json else _done(answer))
    if answer["rests"]:
        fail(f"traces of what was deleted may be left: {answer['rests']}")


def _files_alone(loaded: Loaded, older_than: float | None, max_size: float | None) -> dict[str, Any]:
    """Where there is no database none is made."""
    from lunaroute.stores.jsonl import JsonlStore
    from lunaroute.stores.orders import Prune, bounds
    from lunaroute.stores.upkeep import Keep

    recording = loaded.config.session_recording
    files = recording.jsonl.retention
    store = JsonlStore(Path(recording.jsonl.directory), warn=lambda text: click.echo(f"lunaroute: {text}", err=True))
    before = store.files()
    keep = bounds(Keep(files.max_age_days, files.max_size_mb << 20), Prune(older_than, max_size))
    for _ in store.tend_steps(time.time(), keep):
        pass
    after = store.files()
    sizes = [sum(each.size for each in found) for found in (before, after)]
    return {"files": len(before) - len(after), "file_bytes": sizes}


def _done(answer: dict[str, Any]) -> str:
    before, after = answer["database_bytes"]
    logs, left = answer["file_bytes"]
    return (
        f"Deleted {desk.many(answer['exchanges'], 'exchange')} ({desk.many(answer['sessions'], 'session')} whole), "
        f"{desk.many(answer['files'], 'log file')}.\n"
        f"  database   {desk.size(before)}, now {desk.size(after)}\n"
        f"  log files  {desk.size(logs)}, now {desk.size(left)}"
    )


def _plan(loaded: Loaded, older_than: float | None, max_size: float | None) -> dict[str, Any]:
    from lunaroute.stores import upkeep
    from lunaroute.stores.jsonl import JsonlStore
    from lunaroute.stores.orders import Prune, bounds, reading

    recording = loaded.config.session_recording
    order = Prune(older_than, max_size)
    now = time.time()
    kept, path = recording.sqlite.retention, Path(recording.sqlite.path)
    plan, used = upkeep.Plan(), 0
    keep = bounds(upkeep.Keep(kept.max_age_days, kept.max_size_mb << 20), order)
    if path.exists():
        with reading(path) as connection:
            plan, used = upkeep.plan(connection, now, keep), upkeep.used_bytes(connection)
    files = recording.jsonl.retention
    store = JsonlStore(Path(recording.jsonl.directory), warn=print)
    gone = store.plan(now, bounds(upkeep.Keep(files.max_age_days, files.max_size_mb << 20), order))
    ages = [each.changed for each in gone]
    return {
        "database": {
            "sessions": plan.sessions,
            "exchanges": plan.exchanges,
            "about_bytes": plan.bytes,
            "of_bytes": used,
            "oldest": _day(plan.oldest_ns / 1e9 if plan.oldest_ns is not None else None),
            "newest": _day(plan.newest_ns / 1e9 if plan.newest_ns is not None else None),
        },
        "files": {
            "files": len(gone),
            "bytes": sum(each.size for each in gone),
            "of_bytes": sum(each.size for each in store.files()),
            "oldest": _day(min(ages, default=None)),
            "newest": _day(max(ages, default=None)),
        },
    }


def _day(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _planned(told: dict[str, Any]) -> str:
    database, files = told["database"], told["files"]
    if not database["exchanges"] and not files["files"]:
        return "Nothing would be deleted."

    def dates(part: dict[str, Any]) -> str:
        return f", of {part['oldest'][:10]} to {part['newest'][:10]}" if part["oldest"] else ""

    return (
        "Would be deleted (sizes of the database are estimates):\n"
        f"  database   {desk.many(database['exchanges'], 'exchange')} ({desk.many(database['sessions'], 'session')} "
        f"whole), about {desk.size(database['about_bytes'])} of {desk.size(database['of_bytes'])}{dates(database)}\n"
        f"  log files  {desk.many(files['files'], 'file')}, {desk.size(files['bytes'])} of "
        f"{desk.size(files['of_bytes'])}{dates(files)}"
    )
