"""`lunaroute pii`: what would be redacted of a text, what is still in the record, what a token stands for."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lunaroute.cli import desk
from lunaroute.cli.options import fail, settings

if TYPE_CHECKING:
    from rich.text import Text

    from lunaroute._fast.texts import Edit
    from lunaroute.config import Loaded

MOST = 256 << 20  # bytes of a file that is tried
FOUND, CANNOT = 1, 2
STYLES = {
    "email": "bold cyan",
    "phone": "bold green",
    "ssn": "bold magenta",
    "credit_card": "bold yellow",
    "ip": "bold blue",
    "iban": "bold bright_magenta",
    "secret": "bold red",
}
OTHER = "bold bright_white"


class Value(NamedTuple):
    """One thing that was found. line, column: from 1, of its beginning; offsets are bytes."""

    kind: str
    name: str
    line: int
    column: int
    start: int
    end: int
    value: str
    replacement: str


@click.group()
def pii() -> None:
    """See what is redacted; look for what was recorded before; reveal a token.

    What reaches the record is redacted by `session_recording.pii` of the configuration: secrets always, unless that is
    switched off, personal data where it is switched on. The traffic itself is never changed.
    """


@pii.command("test")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option("--all", "everything", is_flag=True, help="Look for everything, whatever is switched off.")
@click.option("--values", is_flag=True, help="List what was found, with its place, instead of the text.")
@click.option("--type", "kind", metavar="TYPE", default="", help="Content type, where the text does not tell its form.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def test(file: str, config: str | None, everything: bool, values: bool, kind: str, as_json: bool) -> None:
    """Show a text as it would be recorded: plain text, JSON, a recorded stream.

    Ends with code 1 where something was found, 0 where nothing was, 2 where the text cannot be read.
    """
    loaded = settings(config, {})
    body = _read(file)
    kept, edits = _redacted(loaded, body, kind, everything)
    found = _values(body, edits)
    if as_json:
        told = {
            "redacted": kept.decode("utf-8", "replace"),
            "counts": Counter(each.kind for each in found),
            "found": [each._asdict() for each in found],
        }
        click.echo(json.dumps(told, indent=2))
    elif values:
        _list(found)
    else:
        _show(body, edits)
    if not as_json:
        _count(found)
    if not everything and not loaded.config.session_recording.pii.enabled and not as_json:
        click.echo("Personal data is not looked for: session_recording.pii.enabled is false (--all does).", err=True)
    sys.exit(FOUND if found else 0)


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(MOST)
        with open(file, "rb") as stream:
            return stream.read(MOST)
    except OSError as error:
        fail(f"{file}: {(error.strerror or 'cannot be read').lower()}", CANNOT)


def _redacted(loaded: Loaded, body: bytes, kind: str, everything: bool) -> tuple[bytes, list[Edit]]:
    import msgspec

    from lunaroute.observe.pii import redactor_of
    from lunaroute.observe.pii.key import NAME

    pii = loaded.config.session_recording.pii
    rules: dict[str, Any] = msgspec.to_builtins(pii) | {"vault": False}
    if everything:
        rules |= {name: True for name in rules if name.startswith("detect_")} | {"enabled": True}
    # a try makes no key: until something is recorded the tokens are of this moment
    home = loaded.home if (loaded.home / NAME).exists() else None
    made = redactor_of(rules, home, key=pii.key).body(body, kind)
    return made.body, made.edits


def _values(body: bytes, edits: list[Edit]) -> list[Value]:
    out: list[Value] = []
    line, begin = 1, 0
    for start, end, replacement, found in edits:
        for each in found:
            line += body.count(b"\n", begin, start)
            begin = start
            column = len(body[body.rfind(b"\n", 0, start) + 1 : start].decode("utf-8", "replace")) + 1
            value = body[start:end].decode("utf-8", "replace")
            shown = replacement.decode("ascii", "replace")
            out.append(Value(each.kind, each.name, line, column, start, end, value, shown))
    return out


def _style(kind: str) -> str:
    return STYLES.get(kind, OTHER)


def _show(body: bytes, edits: list[Edit]) -> None:
    """The text with what would stand in it: in colour on a terminal."""
    from lunaroute.cli import record

    if not sys.stdout.isatty():
        from lunaroute._fast.views import apply

        click.echo(apply(body, edits), nl=False)
        return
    from rich.text import Text

    shown: Text = Text()
    at = 0
    for start, end, replacement, found in edits:
        shown.append(record.inert(body[at:start].decode("utf-8", "replace")))
        shown.append(replacement.decode("ascii", "replace"), _style(found[0].kind) if found else "dim")
        at = end
    shown.append(record.inert(body[at:].decode("utf-8", "replace")))
    record.console().print(shown, end="" if body.endswith(b"\n") else "\n")


def _list(found: list[Value]) -> None:
    from lunaroute.cli import record

    if not sys.stdout.isatty():
        for each in found:
            record.line(each.line, each.column, each.kind, each.name, each.value, each.replacement)
        return
    from rich.text import Text

    console = record.console()
    for each in found:
        text = Text(f"{each.line}:{each.column}  ", "dim")
        text.append(f"{each.name:<20} ", _style(each.kind))
        text.append(record.inert(each.value).replace("\n", " "))
        text.append(f"  {each.replacement}", "dim")
        console.print(text)


def _count(found: list[Value]) -> None:
    """On stderr, beside the text."""
    from rich.text import Text

    from lunaroute.cli import record

    counts = Counter(each.kind for each in found)
    text = Text()
    for number, (kind, count) in enumerate(counts.most_common()):
        text.append(", " if number else "")
        text.append(f"{count:,} {kind.replace('_', ' ')}", _style(kind))
    text.append("Nothing found." if not found else "")
    record.console(stderr=True).print(text)


@pii.command()
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option("--apply", is_flag=True, help="Take out of the record what is found.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def scan(config: str | None, apply: bool, as_json: bool) -> None:
    """Look through all that is recorded for what today's settings would have redacted: database, search index, log
    files. With --apply it is taken out. Works while the server runs (then the server's settings count).

    Ends with code 1 where something was found and left.
    """
    loaded = settings(config, {})
    recording = loaded.config.session_recording
    with desk.failing():
        if not Path(recording.sqlite.path).exists():
            fail(f"nothing has been recorded: there is no database at {recording.sqlite.path}", CANNOT)
        with desk.progress("Redacting" if apply else "Looking") as tell:
            answer = desk.ask(loaded, {"cmd": "scan", "apply": apply}, tell)
    click.echo(json.dumps(answer, indent=2) if as_json else _report(answer, loaded))
    if answer["rests"]:
        fail(f"traces of what was taken out may be left: {answer['rests']}")
    if answer["files"]["not_rewritten"]:
        fail("a log file could not be written anew; run the command again")
    sys.exit(FOUND if answer["found"] and not apply else 0)


def _report(answer: dict[str, Any], loaded: Loaded) -> str:
    from lunaroute.cli.record import inert
    from lunaroute.ui import found as taken

    database, files = answer["database"], answer["files"]
    looked = (
        f"Looked through {desk.many(database['exchanges'], 'exchange')} and {desk.many(files['files'], 'log file')}."
    )
    off = "" if loaded.config.session_recording.pii.enabled else (
        "\nPersonal data is not looked for: session_recording.pii.enabled is false."
    )  # fmt: skip
    unread = database["unreadable"] + files["unreadable"]
    damaged = f"\n{desk.many(unread, 'damaged place')} could not be read." if unread else ""
    if not answer["found"]:
        return f"{looked} Nothing was found.{off}{damaged}"
    lines = [f"{looked} {'Taken out' if answer['applied'] else 'Found'}:"]
    for place, words in (("request", "in requests (this left the machine)"), ("response", "in answers")):
        rows = [row for row in answer["found"] if row["place"] == place]
        if rows:
            lines.append(f"  {words}")
        for row in rows:
            where = f"in {desk.many(row['exchanges'], 'exchange')} of {desk.many(row['sessions'], 'session')}"
            said = inert(taken.name(row["kind"], row["name"]))
            lines.append(f"    {row['values']:>6,} {said:<24} {where}")
    for each in answer["leaks"]:
        where = f"request {each['sequence']} of session {inert(each['session_id'])}"
        lines.append(f"  ! {taken.name('secret', each['name'])} left this machine in {where}")
    if not answer["applied"]:
        lines.append("`lunaroute pii scan --apply` takes it out of the record.")
    return "\n".join(lines) + off + damaged


@pii.command()
@click.argument("token")
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def reveal(token: str, config: str | None, as_json: bool) -> None:
    """Print what a token like [EMAIL:a3f8e9d2] stands for (its eight digits are enough).

    Possible for values that became tokens while `session_recording.pii.vault` was true, for who holds the key.
    """
    from lunaroute.observe.pii.key import Key
    from lunaroute.observe.pii.vault import Vault

    loaded = settings(config, {})
    pii = loaded.config.session_recording.pii
    vault = Vault(loaded.home, Key(loaded.home, pii.key))
    if not os.path.lexists(vault.path):
        hint = "" if pii.vault else ": session_recording.pii.vault is false, so nothing is kept in one"
        fail(f"there is no vault at {vault.path}{hint}")
    try:
        found = vault.reveal(token.strip())
        if not found and not vault.readable():
            fail("the vault was made with another key: set LUNAROUTE_PII_KEY, or bring back the file pii.key")
    except ImportError:
        fail("the vault needs the package cryptography: pip install 'lunaroute[vault]'")
    except OSError as error:
        fail(f"{vault.path}: {error.strerror or error}")
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found], indent=2))
    else:
        for each in found:
            click.echo(each.value)
    if not found:
        days = loaded.config.session_recording.sqlite.retention.max_age_days
        fail(f"the vault has no such token; it keeps values for {days} days")
