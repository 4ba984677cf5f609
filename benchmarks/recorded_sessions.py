"""A database of 100,000 exchanges as the real store writes it, and one of ten times that: made once and kept.

The large one (100,000 sessions, 1,000,000 exchanges) is ten copies of a small one within the file, seconds after the
one before, with names of its own: rows, packs and the search index are those that the store would have written.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lunaroute.records import Attempt, Exchange, Split, State, Text, Timings, ToolCall, ToolResult, Usage
from lunaroute.stores.sqlite import SqliteStore
from lunaroute.stores.upkeep import Keep

EXCHANGES = 100_000
EACH = 40  # of a session
BATCH = 5_000
START = datetime(2026, 1, 1, tzinfo=UTC)
RARE = "zanzibar"
RARE_PROJECT = "/home/me/once"
_WORDS = [
    f"{before}{stem}{after}"
    for before in ("re", "un", "con", "pro", "in")
    for stem in ("solv", "form", "duc", "port", "ject", "quir")
    for after in ("e", "ing", "er", "ed", "ion", "able", "ment")
]
_MODELS = ("claude-opus-5-5", "claude-sonnet-5", "gpt-5.5", "gpt-5.5-mini")
_CLIENTS = ("claude-code", "codex", "opencode")
_TOOLS = ("Bash", "Read", "Edit", "Grep", "Write", "WebFetch")


def made(path: Path, each: int = EACH, exchanges: int = EXCHANGES, end: datetime | None = None) -> Path:
    """The database at `path`, made where it is not there whole. each: exchanges of a session; end: of the last one."""
    whole = path.with_suffix(".whole")
    if whole.exists():
        return path
    path.unlink(missing_ok=True)
    store = SqliteStore(path, warn=print)
    store.open()
    try:
        batch: list[Exchange] = []
        for exchange in _exchanges(each, exchanges, end):
            batch.append(exchange)
            if len(batch) == BATCH:
                store.write(batch)
                batch = []
        store.write(batch)
        if end is not None:
            roll(store, end)
    finally:
        store.close()
    whole.touch()
    return path


def roll(store: SqliteStore, end: datetime) -> None:
    """Sum the hours, as the upkeep of a server that ran all that time would have."""
    for _ in store.tend_steps(end.timestamp() + 3600, Keep()):
        pass


COPIES = 10
NAME_LENGTH = 34  # of a session that is no copy
_RENAMED = {
    "exchanges": ("id", "session_id"),
    "sessions": ("session_id", "parent_session_id"),
    "tool_calls": ("session_id",),
}
_NUMBERED = {"exchanges": ("row",), "packs": ("exchange", "base"), "attempts": ("exchange",),
             "tool_calls": ("exchange", "result_exchange")}  # fmt: skip
_TIMES = ("started_ns", "called_ns")


def large(path: Path, end: datetime, base: int = EXCHANGES, copies: int = COPIES) -> Path:
    """`copies` times `base` exchanges, ten in a session: all of it within the 30 days before `end`."""
    whole = path.with_suffix(".whole")
    if whole.exists():
        return path
    made(path, each=10, exchanges=base, end=end)  # the text of its exchanges does not depend on the moment
    whole.unlink()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        for copy in range(1, copies):
            for table in ("exchanges", "sessions", "packs", "attempts", "tool_calls"):
                _copy(db, table, copy, base)
            _index(db, copy, base)
        db.execute("COMMIT")
    store = SqliteStore(path, warn=print)
    store.open()
    try:
        roll(store, end)
    finally:
        store.close()
    whole.touch()
    return path


def _copy(db: sqlite3.Connection, table: str, copy: int, base: int) -> None:
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    made = []
    for column in columns:
        if column in _RENAMED.get(table, ()):
            made.append(f"{column} || '-{copy}'")
        elif column in _NUMBERED.get(table, ()):
            made.append(f"CASE WHEN {column} = 0 THEN 0 ELSE {column} + {copy * base} END")
        elif column in _TIMES:
            made.append(f"{column} + {copy * 2_000_000_000}")
        elif column == "thread":
            made.append("NULL")
        else:
            made.append(f'"{column}"')
    first = f"{_NUMBERED[table][0]} <= {base}" if table in _NUMBERED else f"length(session_id) = {NAME_LENGTH}"
    db.execute(f"INSERT INTO {table} SELECT {', '.join(made)} FROM {table} WHERE {first}")


def _index(db: sqlite3.Connection, copy: int, base: int) -> None:
    for exchange in _exchanges(10, base, None):
        words = "\n".join(text.text for text in exchange.texts)
        number = int(exchange.id.rpartition("-")[2]) + 1 + copy * base
        db.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (number, words))


def _exchanges(each: int, count: int, end: datetime | None) -> Iterator[Exchange]:
    """Three minutes apart from START on, or all within the 30 days before `end`."""
    luck = random.Random(4)
    start = START if end is None else end - timedelta(days=30)
    apart = timedelta(minutes=3) if end is None else timedelta(days=30) / count
    for number in range(count):
        session, sequence = divmod(number, each)
        yield _exchange(number, session, sequence + 1, start + apart * number, luck)


def _exchange(number: int, session: int, sequence: int, moment: datetime, luck: random.Random) -> Exchange:
    ns = int(moment.timestamp() * 1e9)
    name = f"{session:06x}-5f3c-4b1e-9a77-{session:012x}"
    model, client = _MODELS[session % 4], _CLIENTS[session % 3]
    said = " ".join(luck.choices(_WORDS, k=120))
    asked = " ".join(luck.choices(_WORDS, k=40))
    rare = f" {RARE}" if number % 9_973 == 5 else ""
    total = 900.0 + 4_000 * luck.random()
    state = State.OK if number % 50 else State.CLIENT_CANCELLED
    calls = [ToolCall(id=f"toolu_{number}", name=luck.choice(_TOOLS), arguments='{"command":"make test"}',
                      arguments_bytes=24, called_ns=ns + int(total * 1e6))]  # fmt: skip
    results = [] if sequence == 1 else [
        ToolResult(id=f"toolu_{number - 1}", text="ok", result_bytes=900, success=number % 11 != 0, seen_ns=ns)
    ]  # fmt: skip
    return Exchange(
        id=f"0123456789ab-{number}", session_id=name, sequence=sequence, started_ns=ns, signal="own", state=state,
        started_at=moment.strftime("%Y-%m-%d %H:%M:%S.000"), title=f"{asked[:60]}", method="POST",
        target="/v1/messages?beta=true", status=200, provider="anthropic" if session % 4 < 2 else "openai",
        dialect="anthropic" if session % 4 < 2 else "responses", client=client, client_version="2.1.330",
        project=RARE_PROJECT if session == 3 else f"/home/me/project-{session % 40}",
        model_requested=model, model_used=model, stream=True, stop_reason="tool_use", response_id=f"msg_{number}",
        usage=Usage(input_tokens=900, output_tokens=300, thinking_tokens=80, cache_read_tokens=20_000,
                    cache_write_tokens=700, service_tier="standard"),
        attempts=[Attempt(number=1, provider="anthropic", origin="https://api.anthropic.com", sent=True, status=200)],
        timings=Timings(head_received=0.1, request_received=0.4, attempt_started=0.5, request_sent=0.9,
                        response_head=400.0, first_body=401.0, first_content=500.0, done=total),
        split=Split(before_ms=0.1, connect_ms=0.0, upload_ms=0.5, wait_ms=399.0, first_content_ms=100.0,
                    generation_ms=total - 500, after_ms=0.02),
        overhead_ms=0.12, cost_usd=0.0123, cost_kind="api", price_id="x", tool_calls=calls, tool_results=results,
        request_headers=[("Host", "127.0.0.1:8081"), ("x-api-key", "***")], response_headers=[("request-id", name)],
        request_body=b'{"messages":[{"role":"user","content":"' + asked.encode() + b'"}]}',
        response_body=b'{"content":"' + said[:200].encode() + b'"}', request_bytes=300, response_bytes=240,
        texts=[Text(kind="prompt", text=f"please {asked}{rare}"), Text(kind="answer", text=f"the answer: {said}"),
               Text(kind="tool_call", text='Bash {"command":"make test"}')],
    )  # fmt: skip
