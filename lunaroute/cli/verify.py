"""`lunaroute verify`: what is kept against what went over the wire, and the database itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection
from lunaroute.stores.rows import Bodies, ExchangeRow

Verdict = Literal["same", "altered", "no digest", "empty", "running", "damaged"]
_SHOWN = 12  # letters of a digest in a terminal


class Side(msgspec.Struct, kw_only=True):
    """A request's or an answer's body.

    verdict: same (what is kept has the digest of what was received), altered (it differs on purpose: see why), no
    digest (none was recorded), empty, running, or damaged. wire_bytes: as the relay counted; kept_bytes: of the copy.
    """

    verdict: Verdict
    why: str | None = None
    wire_sha256: str | None = None
    kept_sha256: str | None = None
    wire_bytes: int = 0
    kept_bytes: int = 0


class Checked(msgspec.Struct, kw_only=True):
    """One exchange. lost_bytes: what the record lacks because the observer could not keep up."""

    id: str
    session_id: str | None
    sequence: int
    request: Side
    response: Side
    lost_bytes: int = 0

    @property
    def damaged(self) -> bool:
        """Whether a side is not what it was recorded as."""
        return "damaged" in (self.request.verdict, self.response.verdict)


@click.command()
@record.database_options
@record.range_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.argument("ident", metavar="[ID]", required=False)
def verify(config: str | None, db: str | None, ident: str | None, as_json: bool, **asked: Any) -> None:
    """Compare what is kept with what went over the wire, and check the database.

    ID is a session, the beginning of its id, or an exchange; without it all is checked (see --since and --until).

    The digest of the wire is a SHA-256 over the body as it was received. There is none of what was sent on: the relay
    writes to the other side the very pieces that it received, and that is how it is built and tested, not measured
    again for each exchange. What is kept is read anew and its digest compared. Where it was changed for keeping (a
    content coding undone, something masked, cut at the limit) it cannot have that digest: then this is said instead.
    Heads are not in the digest.

    Ends with code 1 where something is damaged.
    """
    since, until = record.moments(asked["since"], asked["until"])
    with record.database(config, db) as connection:
        rows = _rows(connection, ident, since, until)
        with record.progress("Checking", len(rows)) as step:
            checked = list(_checked(connection, rows, step))
        troubles = _integrity(connection.path, whole=ident is None)
    damaged = sum(each.damaged for each in checked)
    if as_json:
        told = {"database": {"ok": not troubles, "troubles": troubles}, "damaged": damaged, "exchanges": checked}
        click.echo(json.dumps(msgspec.to_builtins(told), indent=2))
    else:
        _print(checked, troubles, every=ident is not None)
    sys.exit(1 if damaged or troubles else 0)


def _rows(db: Connection, ident: str | None, since: str | None, until: str | None) -> list[ExchangeRow]:
    """The exchanges in question, session by session: so what they share is unpacked once."""
    rows = record.found(db, ident)[1] if ident is not None else list(queries.every_exchange(db, since, until))
    return [row for row in rows if (not since or row.started_at >= since) and (not until or row.started_at < until)]


def _checked(db: Connection, rows: list[ExchangeRow], step: Any) -> Iterator[Checked]:
    for row in rows:
        yield check(row, queries.bodies(db, row.id))
        step()


def check(row: ExchangeRow, kept: Bodies) -> Checked:
    """One exchange against what is kept of it."""
    lost = row.lost_bytes or 0
    request = _side(row, kept, "request", row.request_bytes or 0, lost)
    response = _side(row, kept, "response", row.response_bytes or 0, lost)
    return Checked(
        id=row.id, session_id=row.session_id, sequence=row.sequence, request=request, response=response, lost_bytes=lost
    )


def _side(row: ExchangeRow, kept: Bodies, name: str, counted: int, lost: int) -> Side:
    body: bytes = getattr(kept, f"{name}_body")
    wire: str | None = getattr(kept, f"{name}_sha256")
    made = Side(verdict="same", wire_sha256=wire, wire_bytes=counted, kept_bytes=len(body))
    if kept.trouble:
        made.verdict, made.why = "damaged", kept.trouble
        return made
    if body:
        made.kept_sha256 = hashlib.sha256(body).hexdigest()
    if row.state is None:
        made.verdict, made.why = "running", "it has not ended yet"
    elif wire is not None and wire == made.kept_sha256:
        made.verdict = "same"
    elif getattr(kept, f"{name}_altered"):
        made.verdict, made.why = "altered", _why(row, kept, name, counted, len(body), lost)
    elif not body and not counted:
        made.verdict = "empty"
    elif wire is None:
        made.verdict = "no digest"
        made.why = "none was recorded (an older version's exchange, or one that broke off)"
    else:
        made.verdict, made.why = "damaged", "what is kept has another digest than what was recorded of the wire"
    return made


def _why(row: ExchangeRow, kept: Bodies, name: str, counted: int, size: int, lost: int) -> str:
    reasons = []
    codings = [value for field, value in getattr(kept, f"{name}_headers") if field.lower() == "content-encoding"]
    if codings and not getattr(kept, f"{name}_decode_error"):
        reasons.append(f"content coding {', '.join(codings)} undone")
    if lost:
        reasons.append(f"{lost:,} bytes lost on the way to the recorder")
    elif row.truncated and size < counted:
        reasons.append("cut at the capture limit, or where it broke off")
    return "; ".join(reasons) or "masked or redacted before it was kept"


def _integrity(path: Path, whole: bool) -> list[str]:
    """What SQLite itself finds wrong; empty where nothing is. A quick look where only a part was asked for."""
    pragma = "integrity_check" if whole else "quick_check"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as plain:
            found = [str(row[0]) for row in plain.execute(f"PRAGMA {pragma}(20)")]
    except sqlite3.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _print(checked: list[Checked], troubles: list[str], every: bool) -> None:
    tally: dict[str, int] = {}
    for each in checked:
        for name in ("request", "response"):
            side: Side = getattr(each, name)
            tally[side.verdict] = tally.get(side.verdict, 0) + 1
            if every or side.verdict == "damaged":
                _line(each, name, side)
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(tally.items()))
    number = f"{len(checked):,} {'exchange' if len(checked) == 1 else 'exchanges'}"
    record_of = f" ({counts})" if counts else ""
    if sys.stdout.isatty() or not every:
        click.echo(f"{number}, two bodies each{record_of}. Database: {'ok' if not troubles else 'damaged'}.")
    for trouble in troubles:
        click.echo(f"lunaroute: database: {inert(trouble)}", err=True)


def _line(each: Checked, name: str, side: Side) -> None:
    if not sys.stdout.isatty():
        sums = (side.wire_sha256, side.kept_sha256, side.wire_bytes, side.kept_bytes)
        record.line(each.session_id, each.sequence, each.id, name, side.verdict, *sums, each.lost_bytes, side.why)
        return
    wire = (side.wire_sha256 or "-")[:_SHOWN]
    kept = (side.kept_sha256 or "-")[:_SHOWN]
    sizes = f"{side.wire_bytes:,} B" if side.wire_bytes == side.kept_bytes else (
        f"{side.wire_bytes:,} B on the wire, {side.kept_bytes:,} kept"
    )  # fmt: skip
    words = f"#{each.sequence} {name:<8} {side.verdict:<9} wire {wire:<{_SHOWN}} kept {kept:<{_SHOWN}} {sizes}"
    from rich.text import Text

    console = record.console()
    console.print(Text(words, "red" if side.verdict == "damaged" else ""))
    if side.why:
        console.print(Text(f"    {inert(side.why)}", "dim"))
