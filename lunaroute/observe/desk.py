"""The desk: where commands hand in what the observer, the only one who writes, is to do. A UNIX socket of our own user.

One JSON object in a line is an order; the answers are lines as well: {"done": .., "total": ..} while it is worked on,
at last {"ok": ..} or {"error": ".."}. Whoever hangs up before that gives up what is not done yet.

A thread of its own accepts, reads and answers; it waits for nobody, and what a client sends costs bounded memory. The
work itself is done by the observer's main thread, a step at a time (`step`), the oldest order first. Must not know what
can be asked, nor any store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import socket
import stat
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec

from lunaroute.errors import LunaRouteError, StartError
from lunaroute.folders import private_folder
from lunaroute.records import Json

MAX_LINE = 1024 * 1024
MAX_CLIENTS = 32
PATIENCE_S = 10.0  # for the order, from the connection on; and for a client to take its answer
TOLD_S = 0.1  # between two words on progress
# what a socket's address has room for: 104 bytes on macOS, 108 on Linux
MAX_PATH = 100
STOPPED = "LunaRoute was stopped before all was done; what was done is kept: run the command again"
Work = Callable[[Json], Generator[tuple[int, int], None, Json]]


def desk_path(home: Path, database: Path) -> Path:
    """The socket of whoever writes this database: in the home folder, or below /tmp where that name is too long."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(database)), digest_size=8).hexdigest()
    path = home / "run" / f"desk_{name}.sock"
    if len(os.fsencode(path)) > MAX_PATH:
        path = Path("/tmp") / f"lunaroute-{os.geteuid()}" / f"desk_{name}.sock"
    return path


def is_ours(connection: socket.socket) -> bool:
    """Whether the other end is a process of our own user, where the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder lets nobody else in
    try:
        said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return False
    return bool(struct.unpack("3i", said)[1] == os.geteuid())


class Job:
    """An order that waits or is worked on. Written by both threads, each its own part."""

    __slots__ = ("answer", "gone", "order", "progress")

    def __init__(self, order: Json) -> None:
        self.order = order
        self.gone = False  # set by the desk's thread
        self.progress: tuple[int, int] | None = None
        self.answer: Json | None = None

    def __repr__(self) -> str:
        return f"<Job {self.order.get('cmd')} {self.progress} {'gone' if self.gone else ''}>"


class _Client:
    """A connection, and how far it is."""

    __slots__ = ("job", "last", "read", "since", "socket", "told", "unsent")

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.socket = connection
        self.since = now
        self.read = bytearray()
        self.unsent = b""
        self.job: Job | None = None
        self.told: tuple[int, int] | None = None
        self.last = False  # the answer is given: it is closed when that is sent


class Desk:
    """See the module. wake: makes the main thread look here."""

    def __init__(self, path: Path, work: Work, wake: Callable[[], None]) -> None:
        self.path = path
        self._work = work
        self._wake = wake
        self._jobs: deque[Job] = deque()
        self._job: Job | None = None
        self._steps: Generator[tuple[int, int], None, Json] | None = None
        self._told = 0.0
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._nudged, self._nudge = socket.socketpair()
        self._closing = False
        self._listener: socket.socket | None = None
        self._mine: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)

    def __repr__(self) -> str:
        return f"<Desk {self.path} {self._job} {len(self._jobs)} waiting>"

    def open(self) -> None:
        """Listen; raises LunaRouteError. What an earlier run left there is replaced: only one has the database."""
        try:
            listener = self._listen()
        except LunaRouteError:
            for unused in (self._nudged, self._nudge, self._selector):
                unused.close()
            raise
        self._listener = listener
        for each in (listener, self._nudged, self._nudge):
            each.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._nudged, selectors.EVENT_READ)
        self._thread.start()

    def _listen(self) -> socket.socket:
        private_folder(self.path.parent)
        self._remove_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self.path))
            os.chmod(self.path, 0o600)
            listener.listen(MAX_CLIENTS)
            found = self.path.lstat()
        except OSError as error:
            listener.close()
            raise StartError(f"{self.path}: {error.strerror or error}") from None
        self._mine = (found.st_dev, found.st_ino)
        return listener

    def _remove_stale(self) -> None:
        try:
            found = self.path.lstat()
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                raise StartError(f"{self.path} is not a socket of your own; remove it")
            self.path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StartError(f"{self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Tell who waits that nothing more is done, and end."""
        if self._job is not None:
            self._end({"error": STOPPED})
        while self._jobs:
            self._jobs.popleft().answer = {"error": STOPPED}
        self._closing = True
        if self._thread.is_alive():
            self._tell(now=True)
            self._thread.join(1.0)
        if self._mine is not None:
            with contextlib.suppress(OSError):
                found = self.path.lstat()
                if (found.st_dev, found.st_ino) == self._mine:
                    self.path.unlink()

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return self._job is not None or bool(self._jobs)

    # --- the main thread ---------------------------------------------------------------------------
    def step(self) -> bool:
        """One step of the oldest order; False where there is none. Never raises."""
        if self._job is None:
            if not self._jobs:
                return False
            self._job = self._jobs.popleft()
        if self._job.gone:
            self._end(None)
            return True
        try:
            if self._steps is None:
                self._steps = self._work(self._job.order)
            self._job.progress = next(self._steps)
            self._tell()
        except StopIteration as done:
            self._end({"ok": done.value})
        except LunaRouteError as error:
            self._end({"error": str(error)})
        except Exception as error:  # recording goes on, whatever was asked
            self._end({"error": f"it could not be done: {type(error).__name__} in {_place(error)}"})
        return True

    def _end(self, answer: Json | None) -> None:
        job, steps = self._job, self._steps
        self._job = self._steps = None
        if steps is not None:
            with contextlib.suppress(Exception):
                steps.close()
        if job is not None:
            job.answer = answer
            self._tell(now=True)

    def _tell(self, now: bool = False) -> None:
        """Let the other thread say what is new, not for each step."""
        at = time.monotonic()
        if now or at - self._told >= TOLD_S:
            self._told = at
            with contextlib.suppress(OSError):
                self._nudge.send(b"!")

    # --- the desk's own thread -----------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while True:
                closing = self._closing  # asked before the last answers are looked for
                late = any(client.job is None or client.last for client in self._clients)
                for key, events in self._selector.select(0 if closing else PATIENCE_S / 4 if late else None):
                    self._event(key.fileobj, key.data, events)
                for client in list(self._clients):
                    self._say(client)
                self._drop_late()
                if closing:
                    break
        finally:
            for client in list(self._clients):
                self._drop(client)
            assert self._listener is not None
            for each in (self._listener, self._nudged, self._nudge):
                each.close()
            self._selector.close()

    def _event(self, source: Any, client: _Client | None, events: int) -> None:
        if isinstance(source, socket.socket) and source is self._listener:
            self._accept(source)
        elif client is None:
            with contextlib.suppress(OSError):
                source.recv(65536)
        elif client in self._clients:
            if events & selectors.EVENT_READ:
                self._read(client)
            if events & selectors.EVENT_WRITE and client in self._clients:
                self._send(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if not is_ours(connection) or len(self._clients) >= MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        client = _Client(connection, time.monotonic())
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _read(self, client: _Client) -> None:
        try:
            piece = client.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._drop(client)
        elif client.job is None and not client.last:
            client.read += piece
            if b"\n" in piece:
                self._take(client, bytes(client.read.partition(b"\n")[0]))
            elif len(client.read) > MAX_LINE:
                self._refuse(client, "the order is too long")

    def _take(self, client: _Client, line: bytes) -> None:
        client.read.clear()
        try:
            order: Any = msgspec.json.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            order = None
        if not isinstance(order, dict):
            self._refuse(client, "an order is one JSON object in a line")
            return
        client.job = Job(order)
        self._jobs.append(client.job)
        self._wake()

    def _refuse(self, client: _Client, why: str) -> None:
        client.read.clear()
        self._answer(client, {"error": why})

    def _say(self, client: _Client) -> None:
        """What is new to the client, if it has taken what was said before."""
        job = client.job
        if job is None or client.last or client not in self._clients:
            return
        answer = job.answer
        if answer is not None:
            self._answer(client, answer)
        elif job.progress is not None and job.progress != client.told and not client.unsent:
            client.told = job.progress
            done, total = client.told
            client.unsent += msgspec.json.encode({"done": done, "total": total}) + b"\n"
            self._send(client)

    def _answer(self, client: _Client, answer: Json) -> None:
        client.last = True
        client.since = time.monotonic()
        try:
            client.unsent += msgspec.json.encode(answer) + b"\n"
        except (msgspec.MsgspecError, TypeError, ValueError):
            client.unsent += b'{"error": "the answer cannot be written"}\n'
        self._send(client)

    def _send(self, client: _Client) -> None:
        try:
            sent = client.socket.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.unsent = client.unsent[sent:]
        if client.last and not client.unsent:
            self._drop(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        self._selector.modify(client.socket, events, client)

    def _drop_late(self) -> None:
        """Who says nothing, or does not take the answer, makes room for others."""
        now = time.monotonic()
        for client in list(self._clients):
            if (client.job is None or client.last) and now - client.since > PATIENCE_S:
                self._drop(client)

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        client.socket.close()
        if client.job is not None and client.job.answer is None:
            client.job.gone = True
            self._wake()


def _place(error: Exception) -> str:
    """File and line of the fault, and nothing of what was worked on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
