"""Server-sent events to the pages that are looked at: that something was recorded, and a running answer word by word.

One watcher serves all pages, and runs only while at least one listens: a page that is hidden hangs up. It looks at the
database's own change counter; only where that moved, or an answer is under way in a session that somebody has open, is
anything read. Must not know what pages show.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lunaroute.dialects.canonical import conversation
from lunaroute.stores import glance, queries
from lunaroute.stores.readonly import Connection, QueryError
from lunaroute.ui.source import Source

EVERY_S = 0.4
LISTENERS_MOST = 128
WAITING_MOST = 64  # events of one page that does not take them
ALIVE_S = 15.0  # between two signs of life, by which a page that is gone is noticed
RETRY_MS = 2000
ANSWER_BYTES = 4 << 20  # of a running answer that are read: beyond, the page waits for its end


class Said(msgspec.Struct):
    """More of one block of an answer. at: characters that the page has of it already; 0 begins it anew."""

    block: int
    kind: str
    name: str | None
    at: int
    text: str


class Listener:
    """One open page. session: what it shows; None: everything."""

    def __init__(self, session: str | None, seen: str) -> None:
        self.session = session
        self.seen = seen
        self.events: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MOST)
        self.told: dict[str, list[int]] = {}

    def tell(self, event: str, value: Any) -> None:
        """Put it into the queue; a page that takes nothing misses it, and sees all of it with its next look."""
        text = msgspec.json.encode(value)
        with contextlib.suppress(asyncio.QueueFull):
            self.events.put_nowait(b"event: " + event.encode() + b"\ndata: " + text + b"\n\n")


class Live:
    """The watcher and who listens."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def watching(self) -> bool:
        return self._task is not None and not self._task.done()

    async def endpoint(self, request: Request) -> Response:
        """`session`: of one session; `seen`: the pulse that the page shows already."""
        session = request.query_params.get("session") or None
        if session is not None and not queries.ID.fullmatch(session):
            return JSONResponse({"error": "This is not an id of a session."}, 404)
        if len(self._listeners) >= LISTENERS_MOST:
            return JSONResponse({"error": "Too many pages are open."}, 503)
        listener = Listener(session, request.query_params.get("seen", ""))
        return StreamingResponse(
            self._events(listener), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def _events(self, listener: Listener) -> AsyncIterator[bytes]:
        self._listeners.add(listener)
        try:
            if not self.watching:
                self._task = asyncio.get_running_loop().create_task(self._watch())
            yield f"retry: {RETRY_MS}\n\n".encode()
            while True:
                try:
                    yield await asyncio.wait_for(listener.events.get(), ALIVE_S)
                except TimeoutError:
                    yield b": here\n\n"
        finally:
            self._listeners.discard(listener)

    async def _watch(self) -> None:
        """Until nobody listens any more."""
        look = _Look(self._source)
        try:
            while self._listeners:
                listeners = list(self._listeners)
                try:
                    await run_in_threadpool(look.once, {each.session for each in listeners})
                except QueryError:
                    look.close()  # not there yet, locked, moved: the next look may find it again
                for each in listeners:
                    _tell(each, look)
                await asyncio.sleep(EVERY_S)
        finally:
            look.close()


def _tell(listener: Listener, look: _Look) -> None:
    pulse = look.pulses.get(listener.session)
    if pulse is not None and pulse != listener.seen:
        listener.seen = pulse
        listener.tell("pulse", {"pulse": pulse})
    if listener.session is None:
        return
    for ident, blocks in look.answers.get(listener.session, {}).items():
        told = listener.told.setdefault(ident, [])
        said = list(more(blocks, told))
        if said:
            listener.told[ident] = [len(text) for _, _, text in blocks]
            listener.tell("answer", {"exchange": ident, "said": said})
    for ident in [each for each in listener.told if each not in look.answers.get(listener.session, {})]:
        del listener.told[ident]


Blocks = list[tuple[str, str | None, str]]


def more(blocks: Blocks, told: list[int]) -> list[Said]:
    """What of an answer's blocks (kind, name, text) was not told yet; all of one that began anew."""
    found = []
    for number, (kind, name, text) in enumerate(blocks):
        before = told[number] if number < len(told) else -1
        at = before if 0 <= before <= len(text) else 0
        if before != len(text):
            found.append(Said(number, kind, name, at, text[at:]))
    return found


class _Look:
    """What the watcher saw last. Used by one thread at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._db: Connection | None = None
        self._version: tuple[int, int] | None = None
        self._running: dict[str, list[str]] = {}
        self.pulses: dict[str | None, str] = {}
        self.answers: dict[str, dict[str, Blocks]] = {}

    def once(self, sessions: set[str | None]) -> None:
        """Look. sessions: that somebody has open (None: everything)."""
        db = self._connected()
        version = self._version
        now = int(db.value("PRAGMA data_version")), db.path.stat().st_ino
        if now != version or not sessions <= set(self.pulses):
            self._version = now
            self.pulses = {session: queries.pulse(db, session) for session in sessions}
            self._running = {session: glance.running_of(db, session) for session in sessions if session is not None}
        self.answers = {
            session: {ident: blocks for ident in idents if (blocks := self._answer(ident)) is not None}
            for session, idents in self._running.items()
            if idents
        }

    def _connected(self) -> Connection:
        if self._db is not None:
            with contextlib.suppress(OSError):
                if self._version is None or self._db.path.stat().st_ino == self._version[1]:
                    return self._db
            self.close()
        self._db = self._source.open(any_thread=True)
        return self._db

    def _answer(self, ident: str) -> Blocks | None:
        found = self._source.running(ident, False)
        if found is None or not 0 < len(found[2]) <= ANSWER_BYTES:
            return None
        dialect, _, body = found
        answer = conversation(dialect, b"", body).answer
        if answer is None:
            return None
        return [
            (block.kind, block.name, (block.arguments or "") if block.kind == "tool_call" else block.text)
            for block in answer.blocks
        ]

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db, self._version, self.pulses, self.answers = None, None, {}, {}
