"""Our JSONL files as the exchanges they tell of: the way back into a database. Must not know where the exchanges go.

Ids are kept, so that a store that has an exchange already does not take it twice. What a file does not tell (its line
was torn) is missing in the exchange; what never ended is `interrupted`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from lunaroute.records import Exchange, State, Text
from lunaroute.stores.reading import PACKED, Line, Place, PlacedCall, PlacedText, Trouble, read

UNENDED = "the recording ends before the exchange does"
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_STARTED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")
_LAST_NS = 250_000_000_000 * 1_000_000_000  # in the year 9892: an end some years later can still be written
# requests that wait for their answers; beyond it the oldest is given up as interrupted
_OPEN_BYTES = 256 * 1024 * 1024
_OPEN = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_file_name = re.compile(r"session_(.+)\.jsonl(\.zst)?")
_text = msgspec.json.Decoder(str)

OnTrouble = Callable[[Trouble], None]


def files_of(where: Path | Iterable[Path]) -> list[Path]:
    """The recordings below a folder (or the files named), oldest day first; of a pair only the one that counts."""
    if not isinstance(where, Path):
        return [file for each in where for file in files_of(each)]
    if not where.is_dir():
        return [where]
    named = [path for path in where.rglob("session_*") if _file_name.fullmatch(path.name) and path.is_file()]
    plain = {path for path in named if path.suffix != PACKED}
    # both are there only after a crash, and then the plain one is whole
    return sorted(path for path in named if path in plain or path.with_suffix("") not in plain)


def is_session(ident: str) -> bool:
    """Whether it is an id that names files."""
    return _SESSION_ID.fullmatch(ident) is not None


def session_of(path: Path) -> str | None:
    """The session that a recording tells of, by its name."""
    match = _file_name.fullmatch(path.name)
    return match[1] if match else None


def exchanges_of(where: Path | Iterable[Path], on_trouble: OnTrouble = lambda trouble: None) -> Iterator[Exchange]:
    """All exchanges, each once per file and in a terminal state, in the order in which they ended."""
    for path in files_of(where):
        joining = Joining(path, on_trouble)
        for each in read(path):
            if isinstance(each, Trouble):
                on_trouble(each)
            else:
                yield from joining.line(each)
        yield from joining.rest()


class Joining:
    """One file: what it has told so far. Lines go in, exchanges that have ended come out."""

    def __init__(self, path: Path, on_trouble: OnTrouble) -> None:
        self._path = path
        self._on_trouble = on_trouble
        self._session: dict[str, Any] = {}
        self._session_id = session_of(path)
        self._open: dict[str, tuple[dict[str, Any], bytes, bool]] = {}
        self._bytes = 0
        self._done: set[str] = set()

    def line(self, line: Line, again: bool = False) -> Iterator[Exchange]:
        """What has ended with this line. again: also where the file had told it before."""
        if line.type == "session":
            self._session = {name: value for name, value in line.values.items() if name != "started_ns"}
            self._session_id = line.id
            return
        if line.id in self._done and not again:
            return
        if line.type == "request":
            self._take(line)
            while self._bytes > _OPEN_BYTES or len(self._open) > _OPEN:
                yield from self._unended(next(iter(self._open)))
            return
        asked, body, exact = self._release(line.id)
        if not asked:
            self._trouble(line.number, "the request of this answer is missing")
        yield from self._exchange(line, {**asked, **_known(line.values)}, (body, exact), (line.body, line.exact))

    def forget(self, ident: str) -> None:
        """Nothing more will be told of it."""
        self._release(ident)

    def rest(self) -> Iterator[Exchange]:
        """What never ended."""
        for ident in list(self._open):
            yield from self._unended(ident)

    def _take(self, line: Line) -> None:
        self._release(line.id)  # told again: more of it had come
        self._open[line.id] = (line.values, line.body, line.exact)
        self._bytes += len(line.body)

    def _release(self, ident: str) -> tuple[dict[str, Any], bytes, bool]:
        found = self._open.pop(ident, ({}, b"", True))
        self._bytes -= len(found[1])
        return found

    def _unended(self, ident: str) -> Iterator[Exchange]:
        values, body, exact = self._release(ident)
        line = Line(number=0, seq=0, type="response", id=ident, values={})
        ended = {"state": State.INTERRUPTED, "error": UNENDED, "truncated": True}
        yield from self._exchange(line, {**values, **ended}, (body, exact), (b"", True))

    def _exchange(
        self, line: Line, told: dict[str, Any], asked: tuple[bytes, bool], answered: tuple[bytes, bool]
    ) -> Iterator[Exchange]:
        self._done.add(line.id)
        values = _known({**self._session, "session_id": self._session_id, **told})
        session = values.get("session_id")
        if not _ID.fullmatch(line.id) or not isinstance(session, str) or not _SESSION_ID.fullmatch(session):
            self._trouble(line.number, "its id, or its session's, is none of ours")
            return
        if "state" not in values:
            self._trouble(line.number, "it does not say how the exchange ended")
            values["state"] = State.INTERRUPTED
        if not _timed(values):
            self._trouble(line.number, "when it began is not known")
            return
        self._words(line, values, asked[0], answered[0])
        values["request_altered"] = values.get("request_altered", False) or not asked[1]
        values["response_altered"] = values.get("response_altered", False) or not answered[1]
        yield Exchange(**(values | {"id": line.id, "request_body": asked[0], "response_body": answered[0]}))

    def _words(self, line: Line, values: dict[str, Any], asked: bytes, answered: bytes) -> None:
        """Texts that stand in a body are fetched from there."""

        def text_of(place: Place) -> str:
            text = _text_of(place, asked, answered)
            if text is None:
                self._trouble(line.number, "a text is not where the line says; it is left out")
            return text or ""

        calls: list[PlacedCall] = values.get("tool_calls", [])
        arguments = {call.id: call.arguments for call in reversed(calls)}
        values["tool_calls"] = [
            call.tool_call(None if call.result is None else call.result.result(text_of(call.result))) for call in calls
        ]
        values["tool_results"] = [result.result(text_of(result)) for result in values.get("tool_results", [])]
        texts: list[PlacedText] = values.get("texts", [])
        values["texts"] = [
            Text(kind=each.kind, text=text_of(each) if each.call is None else arguments.get(each.call, ""))
            for each in texts
        ]

    def _trouble(self, number: int, reason: str) -> None:
        self._on_trouble(Trouble(str(self._path), number, reason))


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text_of(place: Place, asked: bytes, answered: bytes) -> str | None:
    for where, body in ((place.request_at, asked), (place.response_at, answered)):
        if where is not None:
            start, length = where
            if start < 0 or length < 0 or start + length > len(body):
                return None
            try:
                return _text.decode(b'"' + body[start : start + length] + b'"')
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return None
    return place.text


def _timed(values: dict[str, Any]) -> bool:
    """Whether both forms of the start are there and can be; either is made from the other where it is missing."""
    ns, text = values.get("started_ns"), values.get("started_at")
    if ns is None and isinstance(text, str) and _STARTED.fullmatch(text):
        try:
            values["started_ns"] = ns = nanoseconds(datetime.fromisoformat(text).replace(tzinfo=UTC))
        except ValueError:
            return False
    if not isinstance(ns, int) or not 0 <= ns <= _LAST_NS:
        return False
    if not isinstance(text, str) or not _STARTED.fullmatch(text):
        values["started_at"] = stamp(ns)
    return True


def nanoseconds(moment: datetime) -> int:
    """Since the epoch, exact to the microsecond."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def stamp(ns: int) -> str:
    """The moment as SQLite writes it, UTC."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ns // 1_000_000 % 1000:03d}"
