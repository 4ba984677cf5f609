"""`stop`, `status`, `restart`, `logs`: a server that runs already."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lunaroute.cli.options import address_options, arguments, fail, serve_options, settings
from lunaroute.errors import LunaRouteError
from lunaroute.lifecycle import Running, ensure, log_path, readable, running, server_command
from lunaroute.lifecycle import stop as end
from lunaroute.probe import Answer, base_url, get, occupant, probe

if TYPE_CHECKING:
    from lunaroute.config import Loaded
    from lunaroute.config.settings import Kept, Retention

Json = dict[str, Any]
STOP_SECONDS = 40.0
NOT_RUNNING = 3  # as init scripts have it


@click.command()
@address_options
@click.option("--now", is_flag=True, help="Do not wait for running requests.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=STOP_SECONDS, help="Seconds to wait.  [default: 40]")
def stop(config: str | None, flags: dict[str, object], now: bool, timeout: float) -> None:
    """Stop the server that `lunaroute env` or `lunaroute serve` started. Running requests may finish (30 seconds);
    what was recorded is written. Ends with code 3 if no server runs."""
    home, host, port = _where(config, flags)
    server = _find(home, host, port)
    if server is None:
        _not_running(home, host, port)
    if not end(server, timeout, now=now):
        fail(f"pid {server.pid} still runs after {timeout:g} s; `lunaroute stop --now` does not wait for requests")
    click.echo(f"LunaRoute at {base_url(host, port)} stopped (pid {server.pid})", err=True)


@click.command()
@address_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(config: str | None, flags: dict[str, object], as_json: bool) -> None:
    """Say whether the server runs, where, since when, where it records, and what is wrong with it at the moment (the
    same as /readyz). Ends with code 3 if it does not run."""
    loaded = settings(config, flags)
    host, port = loaded.config.host, loaded.config.port
    answer, server = probe(host, port), _find(loaded.home, host, port)
    recording = loaded.config.session_recording
    facts = {
        "running": answer.ours,
        "address": base_url(host, port),
        "pid": answer.pid or (server.pid if server else None),
        "version": answer.version or None,
        "started": answer.started_at or None,
        "ui": answer.ui,
        "log": server.log if server else None,
        "database": recording.sqlite.path if recording.enabled and recording.sqlite.enabled else None,
        "sessions": recording.jsonl.directory if recording.enabled and recording.jsonl.enabled else None,
        "config": str(loaded.file) if loaded.file else None,
        "kept": _kept(loaded),
        "problem": None if answer.ours else _problem(answer, server, port),
    }
    ready = _readiness(host, port, loaded.config.access_tokens) if answer.ours else {}
    if as_json:
        click.echo(json.dumps({**facts, "readiness": ready or None}))
    else:
        _print(facts, server)
        for line in _about(ready):
            click.echo(f"  {line}")
    sys.exit(0 if answer.ours else NOT_RUNNING)


def _problem(answer: Answer, server: Running | None, port: int) -> str | None:
    if server:
        return f"pid {server.pid} does not answer: {answer.what or 'it does not listen yet, or no more'}"
    return f"port {port} is taken by {occupant(port) or answer.what}, not by LunaRoute" if answer.what else None


def _kept(loaded: Loaded) -> dict[str, dict[str, int]]:
    """How large the record is, and what retention lets it be: of the database and of the folder of log files."""
    recording = loaded.config.session_recording
    found = {}
    if recording.enabled and recording.sqlite.enabled:
        path = Path(recording.sqlite.path)
        files = [path, path.with_name(f"{path.name}-wal")]
        found["database"] = _of(recording.sqlite.retention, sum(map(_size, files)))
    if recording.enabled and recording.jsonl.enabled:
        from lunaroute.stores.jsonl import JsonlStore

        store = JsonlStore(Path(recording.jsonl.directory), warn=click.echo)
        found["sessions"] = _of(recording.jsonl.retention, sum(each.size for each in store.files()))
    return found


def _of(retention: Retention | Kept, size: int) -> dict[str, int]:
    return {"bytes": size, "max_bytes": retention.max_size_mb << 20, "max_age_days": retention.max_age_days}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _bounds(kept: dict[str, int]) -> str:
    """`12 MB of at most 1.1 GB, of the last 30 days`."""
    from lunaroute.ui.format import size

    over = ", which is more than it may" if kept["bytes"] > kept["max_bytes"] else ""
    return f"{size(kept['bytes'])} of at most {size(kept['max_bytes'])}, of the last {kept['max_age_days']} days{over}"


def _print(facts: dict[str, Any], server: Running | None) -> None:
    if not facts["running"]:
        click.echo(f"LunaRoute does not run at {facts['address']}")
        if facts["problem"]:
            click.echo(f"  {facts['problem']}")
        return
    click.echo(f"LunaRoute runs at {facts['address']}")
    kept = facts["kept"]
    for name in ("pid", "version", "started", "ui", "log", "database", "sessions", "config"):
        if facts[name] is not None:
            click.echo(f"  {name:<9} {facts[name]}")
        if name in kept:
            click.echo(f"  {'':<9} {_bounds(kept[name])}")
    if server is None:
        click.echo("  It was started by another user or with another LUNAROUTE_HOME; `lunaroute stop` cannot end it.")


def _readiness(host: str, port: int, tokens: list[str]) -> Json:
    """What /readyz says; nothing where it says nothing."""
    _, body = get(host, port, "/readyz", tokens[0] if tokens else "")
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "ready" in found else {}


def _about(ready: Json) -> Iterator[str]:
    """The lines of `status` on how the parts stand."""
    if not ready:
        return
    from lunaroute.cli.record import inert
    from lunaroute.ui.format import size

    yield f"{'ready':<9} {'yes' if ready['ready'] else 'no'}"
    for name, each in ready["providers"].items():
        word = "off" if not each["enabled"] else "failing" if each["error"] else "ok"
        yield f"{'provider':<9} {name} {word}, {each['base_url']}"
    yield f"{'recording':<9} {ready['recording']}{_behind(ready['observer'])}"
    for store in ready["stores"]:
        yield f"{'store':<9} {store['name']} {'ok' if store['ok'] else 'failing'}, {size(store['bytes'])}"
    for problem in ready["problems"]:
        yield from textwrap.wrap(inert(problem), 100, initial_indent="problem   ", subsequent_indent=" " * 10)


def _behind(observer: Json) -> str:
    late = observer["lag_seconds"]
    return f", {late:.0f} s behind" if late is not None and late >= 1 else ""


@click.command()
@serve_options
def restart(config: str | None, flags: dict[str, object]) -> None:
    """Stop the server and start it again in the background, with the options it had, or with the ones given here."""
    home, host, port = _where(config, flags)
    server = _find(home, host, port)
    words = arguments(config, flags)
    if server is not None:
        if not set(flags) - {"host", "port"} and not config:
            words = server.arguments or words
        if not end(server, STOP_SECONDS):
            fail(f"pid {server.pid} still runs after {STOP_SECONDS:g} s; `lunaroute stop --now` ends it")
    try:
        started = ensure(home, host, port, server_command(words), os.environ)
    except LunaRouteError as error:
        fail(str(error))
    click.echo(
        f"LunaRoute {'re' if server else ''}started at {base_url(host, port)} (pid {started.answer.pid})", err=True
    )


@click.command()
@address_options
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, help="Lines to begin with.  [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are, also on a terminal.")
def logs(config: str | None, flags: dict[str, object], follow: bool, lines: int, as_json: bool) -> None:
    """Print the log of the server that runs in the background. On a terminal the lines are made readable; in a pipe
    they stay JSON, one object a line. (`lunaroute serve` in the foreground writes its log to its own stderr.)"""
    log = log_path(_where(config, flags)[0])
    raw = as_json or not sys.stdout.isatty()
    try:
        with log.open("rb") as stream:
            for line in stream.read().splitlines()[-lines:] if lines else []:
                _show(line, raw)
            if follow:
                _follow(log, stream.tell(), raw)
    except FileNotFoundError:
        fail(f"no log yet: {log} is written by servers that `lunaroute env` started")
    except OSError as error:
        fail(f"{log}: {error.strerror}")


def _show(line: bytes, raw: bool) -> None:
    text = line.decode("utf-8", "backslashreplace")
    click.echo(text if raw else readable(text))


def _follow(log: Path, position: int, raw: bool) -> NoReturn:
    """Prints what is added; a file that was cut short or replaced is read from its beginning."""
    inode = log.stat().st_ino
    while True:
        info = log.stat() if log.exists() else None
        if info and (info.st_ino != inode or info.st_size < position):
            inode, position = info.st_ino, 0
        if info and info.st_size > position:
            with log.open("rb") as stream:
                stream.seek(position)
                whole, newline, _ = stream.read().rpartition(b"\n")
            for line in whole.splitlines():
                _show(line, raw)
            sys.stdout.flush()
            position += len(whole) + len(newline)
        time.sleep(0.2)


def _where(config: str | None, flags: dict[str, object]) -> tuple[Path, str, int]:
    loaded = settings(config, flags)
    return loaded.home, loaded.config.host, loaded.config.port


def _find(home: Path, host: str, port: int) -> Running | None:
    return next((s for s in running(home) if (s.host, s.port) == (host, port)), None)


def _not_running(home: Path, host: str, port: int) -> NoReturn:
    """Says what is there instead. Nothing is signalled: whatever it is, we did not start it."""
    lines = [f"LunaRoute does not run at {base_url(host, port)}"]
    answer = probe(host, port)
    if answer.ours:
        lines = [
            f"LunaRoute answers at {base_url(host, port)} as pid {answer.pid}, but not from {home}:"
            " another user or another LUNAROUTE_HOME started it; stop it there"
        ]
    elif answer.what:
        lines.append(f"  port {port} is taken by {occupant(port) or answer.what}")
    lines += [f"  one runs at {base_url(s.host, s.port)}: lunaroute stop --port {s.port}" for s in running(home)]
    fail("\n".join(lines), NOT_RUNNING)
