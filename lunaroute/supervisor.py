"""The observer's life, seen from the relay: started, restarted with back-off when it dies, asked, drained and ended.

The observer is one child process over the same ring (design.md section 1). It may crash, be slow or be killed; no
request notices. Talk with it is one JSON object a line over a socket pair; nothing of it is on the data path.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import msgspec

from lunaroute import logs, tap
from lunaroute._fast.ring import Writer

RESTARTS = tap.COUNTERS.index("observer_restarts_total")
FIRST_PAUSE = 0.2  # seconds before a dead observer is started again; doubled each time up to LAST_PAUSE
LAST_PAUSE = 30.0
STEADY = 60.0  # seconds of life after which the back-off begins anew
PATIENCE = 5.0  # seconds that an answer of the observer may take

log = logs.get("supervisor")
Reply = Callable[[dict[str, Any] | None], None]


class Control(asyncio.Protocol):
    """The relay's end of the socket pair: lines of JSON."""

    def __init__(self, received: Callable[[dict[str, Any]], None], closed: Callable[[], None]) -> None:
        self._received, self._closed = received, closed
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's classes do not derive from asyncio's

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._received(msgspec.json.decode(line))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closed()

    def send(self, message: dict[str, Any]) -> bool:
        """False where nobody listens any more."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(msgspec.json.encode(message) + b"\n")
        return True


class Supervisor:
    """One observer over one ring. start: the first line it gets (config, secrets, ...)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Writer, start: dict[str, Any]) -> None:
        self.loop, self.ring = loop, ring
        self._start = start
        self._control: Control | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, tuple[Reply, asyncio.TimerHandle]] = {}
        self._number = 0
        self._pause = FIRST_PAUSE
        self._born = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._launching: asyncio.Task[None] | None = None
        self._ending = False
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ui_url: str | None = None
        self.ui_error: str | None = None

    @property
    def running(self) -> bool:
        """The observer is there and has said that it is ready."""
        return self._control is not None and self.ready.done()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def launch(self) -> None:
        """Start the process. It gets the ring, the bell and the control socket as inherited descriptors."""
        ours, theirs = socket.socketpair()
        fds = (self.ring.ring_fd, self.ring.wake_fd, theirs.fileno())
        command = [sys.executable, "-P", "-m", "lunaroute.observe.worker"]
        for name, fd in zip(("--ring", "--wake", "--control"), fds, strict=True):
            command += [name, str(fd)]
        with theirs:
            # a session of its own: Ctrl-C in the terminal is for the relay, which then drains the observer, and the
            # session's share of the processor can be made small (observe/quiet.py)
            self._process = subprocess.Popen(
                command,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=2,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        ours.setblocking(False)
        self._born = self.loop.time()
        _, control = await self.loop.create_unix_connection(lambda: Control(self._received, self._lost), sock=ours)
        self._control = control
        control.send({"cmd": "start", **self._start})

    def ask(self, message: dict[str, Any], reply: Reply, patience: float = PATIENCE) -> None:
        """Send a request; reply gets the answer, or None where none came in time (seconds)."""
        self._number += 1
        number = self._number
        if self._control is None or not self._control.send({"id": number, **message}):
            self.loop.call_soon(reply, None)
            return
        timer = self.loop.call_later(float(message.get("timeout_s", 0)) + patience, self._answered, number, None)
        self._asked[number] = (reply, timer)

    def learn(self, secret: str) -> None:
        """A credential that the configuration does not have: to be masked in the record from now on."""
        self._start["secrets"] = [*self._start["secrets"], secret]
        if self._control is not None:
            self._control.send({"cmd": "secret", "value": secret})

    async def end(self, timeout: float) -> bool:
        """Let the observer write what is in the ring, within timeout seconds, and go. False: something was left."""
        self._ending = True
        if self._again is not None:
            self._again.cancel()
        if self._launching is not None:
            await asyncio.wait([self._launching])
        if self._process is None:
            return True
        if not await self._drain(timeout) and self._control is None and self.ring.used():
            # it died just now, or had died before: what is in the ring gets one successor
            self._process.kill()
            self._process.wait()
            with contextlib.suppress(OSError):
                await self.launch()
            await self._drain(timeout)
        for _ in range(100):
            if self._process.poll() is not None:
                return not self.ring.used()
            await asyncio.sleep(0.02)
        self._process.kill()
        self._process.wait()
        return False

    async def _drain(self, timeout: float) -> bool:
        """Tell the observer to write the rest and go. False: nobody was there to say that it did."""
        done: asyncio.Future[dict[str, Any] | None] = self.loop.create_future()
        self.ask({"cmd": "stop", "timeout_s": timeout}, done.set_result)
        return await done is not None

    # --- what comes from the observer -----------------------------------------------------------------------------

    def _received(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answered(message["id"], message)
        elif message.get("event") in ("ready", "ui"):
            self.ui_url, self.ui_error = message.get("ui_url"), message.get("ui_error")
            if message["event"] == "ready" and not self.ready.done():
                self.ready.set_result(None)
        elif message.get("event") == "log":
            level = message.get("level", "warn")
            write = {"error": log.error, "warn": log.warn, "info": log.info}.get(level, log.debug)
            write(str(message.get("message", "")), **message.get("fields", {}))

    def _answered(self, number: int, message: dict[str, Any] | None) -> None:
        waiting = self._asked.pop(number, None)
        if waiting is not None:
            waiting[1].cancel()
            waiting[0](message)

    def _lost(self) -> None:
        """The control socket is closed: the observer is gone."""
        self._control = None
        for number in list(self._asked):
            self._answered(number, None)
        if self._ending:
            return
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            self._process.kill()
            code = self._process.wait()
        if self.loop.time() - self._born > STEADY:
            self._pause = FIRST_PAUSE
        self.ring.add(RESTARTS)
        log.warn("the observer ended and is started again; requests are not affected", code=code, in_secs=self._pause)
        self._again = self.loop.call_later(self._pause, self._restart)
        self._pause = min(self._pause * 2, LAST_PAUSE)

    def _restart(self) -> None:
        self._again = None
        self._launching = self.loop.create_task(self.launch())
        self._launching.add_done_callback(self._launched)

    def _launched(self, task: asyncio.Task[None]) -> None:
        self._launching = None
        if task.cancelled() or task.exception() is None:
            return
        log.error("the observer cannot be started", reason=str(task.exception()))
        if not self._ending:
            self._again = self.loop.call_later(self._pause, self._restart)
            self._pause = min(self._pause * 2, LAST_PAUSE)
