"""Taking values out of the JSONL files that are already there: a file is written anew, line by line, and then replaced.

A line in which nothing is found stays byte for byte. The others are made as lines.py makes them, out of what they
told: texts that stood in a body by their place are looked for in the new body. A line that cannot be read is looked
through as plain text.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, State
from lunaroute.stores import lines
from lunaroute.stores.files import open_private
from lunaroute.stores.importing import Joining
from lunaroute.stores.packing import PART
from lunaroute.stores.reading import PACKED, Line, Trouble, numbered, parsed
from lunaroute.stores.rewriting import Redacting, Tally

STEP_BYTES = 1 << 20  # read between two steps
_UNTIMED = "1970-01-01 00:00:00"


def scan(path: Path, redacting: Redacting, tally: Tally, write: Callable[[bytes], object] | None) -> Iterator[int]:
    """Look through a file; each step says how many lines changed by then. write: gets every line, as it may stay."""
    changed = size = 0
    joining = Joining(path, lambda trouble: None)
    for each in numbered(path):
        if isinstance(each, Trouble):
            tally.files.unreadable += 1
            continue
        number, raw = each
        new = _line(path, number, raw, joining, redacting, tally)
        changed += new != raw
        if write is not None:
            write(new + b"\n")
        size += len(raw)
        if size >= STEP_BYTES:
            size = 0
            yield changed
    yield changed


def _line(path: Path, number: int, raw: bytes, joining: Joining, redacting: Redacting, tally: Tally) -> bytes:
    told = list(parsed(str(path), number, raw))
    line = next((each for each in told if isinstance(each, Line)), None)
    if line is None or len(told) > 1:
        tally.files.unreadable += line is None
        return redacting.body(raw).body.replace(b"\n", b" ")
    if line.type == "session":
        list(joining.line(line))
        made = redacting.record(_exchange(line, "session_id"))
        assert isinstance(made, Exchange)
        return raw if made == _exchange(line, "session_id") else lines.session_line(line.seq, made).rstrip(b"\n")
    if line.type == "request":
        list(joining.line(line))
        return _remade(raw, _asked(line), line.seq, redacting, tally)
    if "timings" not in line.values:
        return _closed(raw, line, joining, redacting)
    whole = list(joining.line(line, again=True))
    if not whole:
        return redacting.body(raw).body.replace(b"\n", b" ")
    return _remade(raw, whole[0], line.seq, redacting, tally)


def _remade(raw: bytes, exchange: Exchange, seq: int, redacting: Redacting, tally: Tally) -> bytes:
    made = redacting.record(exchange)
    assert isinstance(made, Exchange)
    for place in ("request", "response"):
        found = Counter({(each.kind, each.name, each.digest): each.count for each in made.found if each.place == place})
        tally.take(exchange.session_id, exchange.id, exchange.sequence, place, found)
    if exchange.state is not None:
        tally.files.exchanges += 1
        tally.files.dirty += bool(made.found)
    if msgspec.structs.replace(made, found=[]) == msgspec.structs.replace(exchange, found=[]):
        return raw
    made.found = exchange.found + made.found
    written = lines.request_line(seq, made) if exchange.state is None else lines.response_line(seq, made)
    return written.rstrip(b"\n")


def _closed(raw: bytes, line: Line, joining: Joining, redacting: Redacting) -> bytes:
    """The end of an exchange of which nothing else is known."""
    joining.forget(line.id)
    old = Closed(
        id=line.id, session_id=line.values.get("session_id"), state=line.values.get("state", State.INTERRUPTED),
        error=line.values.get("error"),
    )  # fmt: skip
    made = redacting.record(old)
    assert isinstance(made, Closed)
    return raw if made == old else lines.closed_line(line.seq, made).rstrip(b"\n")


def _exchange(line: Line, name: str = "id") -> Exchange:
    values = {key: value for key, value in line.values.items() if value is not None}
    known = {"id": "", "session_id": "", "started_at": _UNTIMED, "started_ns": 0}
    return Exchange(**{**known, **values, name: line.id})


def _asked(line: Line) -> Exchange:
    made = _exchange(line)
    made.request_body = line.body
    return made


def rewrite(path: Path, redacting: Redacting, busy: Callable[[], None], attempts: int = 3) -> Iterator[int]:
    """Write a file anew and put it in its place. `busy`: close it where it is open.

    What is written to it meanwhile is not lost: then it is begun again, at last without a pause.
    """
    plain = path.with_suffix("") if path.suffix == PACKED else path
    part = plain.with_name(plain.name + PART)
    for attempt in range(attempts):
        before = path.stat()
        fd = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            with os.fdopen(fd, "wb") as file:
                for step in scan(path, redacting, Tally(), file.write):
                    if attempt + 1 < attempts:
                        yield step
                        if path.stat().st_size != before.st_size:
                            break
                file.flush()
                os.fsync(file.fileno())
            now = path.stat()
            if (now.st_size, now.st_mtime_ns, now.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
                continue
            busy()
            os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.rename(part, plain)
            if plain != path:
                os.unlink(path)
            return
        except OSError as error:
            raise StoreError(f"cannot write {plain} anew: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)
    raise StoreError(f"{path} is written to all the time; run it again")
