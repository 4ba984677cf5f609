"""`lunaroute sessions import`: which files is found out here; whoever writes reads them (cli/desk.py)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lunaroute.cli import desk
from lunaroute.cli.options import fail, settings

if TYPE_CHECKING:
    from lunaroute.config import Loaded
    from lunaroute.stores.orders import Imported
    from lunaroute.stores.readonly import Connection


@click.command("import", short_help="Import recordings, or the logs of Claude Code and Codex.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, path_type=Path))
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option(
    "--claude-code", metavar="[DIR]", is_flag=False, flag_value="", default=None,
    help="Claude Code's own logs.  [default DIR: ~/.claude/projects]",
)  # fmt: skip
@click.option(
    "--codex", metavar="[DIR]", is_flag=False, flag_value="", default=None,
    help="Codex's own logs.  [default DIR: ~/.codex/sessions]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be imported.")
@click.option("--strict", is_flag=True, help="End with code 1 where something could not be read.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def import_(
    paths: tuple[Path, ...],
    config: str | None,
    claude_code: str | None,
    codex: str | None,
    dry_run: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Import files, or all files in folders: LunaRoute's own session_*.jsonl (also compressed), logs that Claude Code
    and Codex keep for themselves. What is there already is not taken twice, nor are sessions from a client's log that
    the proxy recorded itself. Works while the server runs."""
    loaded = settings(config, {})
    recording = loaded.config.session_recording
    if not recording.enabled or not recording.sqlite.enabled:
        fail("there is no database to import into: session_recording.enabled and .sqlite.enabled must be on")
    with desk.failing():
        files = list(dict.fromkeys(map(str, _files(paths, claude_code, codex))))
        if not files:
            fail("nothing to import: there is no recording, and no log of Claude Code or Codex", 2)
        odd = [file for file in files if not _is_text(file)]
        files = [file for file in files if _is_text(file)]
        answer = _look(loaded, files) if dry_run or not files else _import(loaded, files)
        answer["damaged"] += len(odd)
        answer["troubles"] += [[desk.printable(file), 0, "its name is not UTF-8"] for file in odd]
    if as_json:
        click.echo(json.dumps({**answer, "files": len(files), "dry_run": dry_run}))
    else:
        _summary(answer, len(files), dry_run)
    for path, number, reason in answer["troubles"]:
        place = desk.printable(path) + (f":{number}" if number else "")
        click.echo(f"{place}: {reason}", err=True)
    if answer["damaged"] > len(answer["troubles"]):
        click.echo(f"… and {answer['damaged'] - len(answer['troubles'])} more", err=True)
    days = recording.sqlite.retention.max_age_days
    if answer["expiring"]:
        click.echo(
            f"{desk.many(answer['expiring'], 'exchange')} of them {'is' if answer['expiring'] == 1 else 'are'} older "
            f"than {days} days: retention deletes them within minutes. To keep them, raise "
            "session_recording.sqlite.retention.max_age_days before the import.",
            err=True,
        )
    if strict and answer["damaged"]:
        sys.exit(1)


def _files(paths: Iterable[Path], claude_code: str | None, codex: str | None) -> Iterator[Path]:
    from lunaroute.stores import foreign, importing

    for path in paths:
        full = path.absolute()
        if not path.is_dir():
            yield full
            continue
        yield from importing.files_of(full)
        for each in sorted(full.rglob("*.jsonl")):
            if importing.session_of(each) is None and each.is_file() and foreign.log_of(each) is not None:
                yield each
    if not paths and claude_code is None and codex is None:
        raise click.UsageError("Say what: a PATH, --claude-code or --codex.")
    home = Path(os.environ.get("HOME") or Path.home())
    claude_home = Path(os.environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    codex_home = Path(os.environ.get("CODEX_HOME") or home / ".codex")
    for given, usual, kind in (
        (claude_code, claude_home / "projects", foreign.CLAUDE),
        (codex, codex_home / "sessions", foreign.CODEX),
    ):
        if given is None:
            continue
        folder = Path(given).expanduser().absolute() if given else usual
        if not folder.exists():
            fail(f"{folder} does not exist; say where the logs are: --claude-code DIR, --codex DIR", 2)
        yield from (path for path, log in foreign.logs_below(folder) if log.kind == kind)


def _import(loaded: Loaded, files: list[str]) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []
    whole = sum(map(_size, files))
    done = 0
    with desk.progress("Importing") as tell:
        for part in desk.parts(files):
            order = {"cmd": "import", "paths": part}
            answers.append(desk.ask(loaded, order, desk.onward(tell, done, whole)))
            done += sum(map(_size, part))
    return _joined(answers)


def _joined(answers: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = dict(answers[0])
    for answer in answers[1:]:
        for name in ("imported", "known", "recorded_sessions", "expiring", "damaged"):
            whole[name] += answer[name]
        whole["sessions"] = sorted({*whole["sessions"], *answer["sessions"]})
        whole["troubles"] = whole["troubles"] + answer["troubles"]
    return whole


def _look(loaded: Loaded, files: list[str]) -> dict[str, Any]:
    """What an import would find; only reads."""
    from lunaroute.stores.orders import Imported
    from lunaroute.stores.readonly import Connection, NoRecord

    recording = loaded.config.session_recording
    tally = Imported(time.time(), recording.sqlite.retention.max_age_days)
    try:
        with Connection(Path(recording.sqlite.path)) as db:
            _count(files, tally, db)
    except NoRecord:
        _count(files, tally, None)
    return tally.told()


def _count(files: list[str], tally: Imported, db: Connection | None) -> None:
    from lunaroute.stores.orders import exchanges_of

    seen: set[str] = set()

    def recorded(session: str) -> bool:
        sql = "SELECT 1 FROM exchanges WHERE session_id = ? AND coalesce(transport, '') != 'import' LIMIT 1"
        return db is not None and db.value(sql, [session]) is not None

    with desk.progress("Reading") as tell:
        for number, file in enumerate(files):
            tell(number, len(files))
            for each in exchanges_of(Path(file), tally, recorded):
                here = db is not None and db.value("SELECT 1 FROM exchanges WHERE id = ?", [each.id]) is not None
                if here or each.id in seen:
                    tally.known += 1
                else:
                    seen.add(each.id)
                    tally.take(each)


def _summary(answer: dict[str, Any], files: int, dry_run: bool) -> None:
    count = desk.many(answer["imported"], "exchange")
    did = f"Would import {count}" if dry_run else f"Imported {count}"
    words = [f"{did} of {desk.many(len(answer['sessions']), 'session')} from {desk.many(files, 'file')}"]
    if answer["known"]:
        words.append(f"{answer['known']:,} known already")
    if answer["recorded_sessions"]:
        words.append(f"{desk.many(answer['recorded_sessions'], 'log')} skipped, the proxy recorded those sessions")
    if answer["damaged"]:
        words.append(f"{desk.many(answer['damaged'], 'place')} that could not be read")
    click.echo("; ".join(words) + ".")


def _is_text(name: str) -> bool:
    """Whether it can be said in JSON."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
