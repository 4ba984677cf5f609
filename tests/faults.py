"""Faults as scripts for tests/fakes.Upstream. What has to wait waits at a Gate that the test opens; nothing sleeps.

Knows nothing of LunaRoute.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from tests.fakes import Request, Script, Wire


class Gate:
    """Where a script waits for the test. `reached` is set when a script stands there."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            self._open.set()
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        event = asyncio.Event()
        with self._lock:
            if not self._open.is_set():
                self._waiting.append((asyncio.get_running_loop(), event))
                self.reached.set()
            else:
                event.set()
        await event.wait()


def once(fault: Script, then: Script, when: Callable[[Request], bool] = lambda request: True) -> Script:
    """`fault` for the first request that `when` accepts, `then` for all others."""
    left = [fault]

    async def script(request: Request, wire: Wire) -> None:
        await (left.pop() if left and when(request) else then)(request, wire)

    return script


async def reset_before_head(request: Request, wire: Wire) -> None:
    await wire.body()
    wire.reset()


async def closed_before_head(request: Request, wire: Wire) -> None:
    await wire.body()
    wire.close()


def cut_stream(pieces: Iterable[bytes], how: str, media: str = "text/event-stream") -> Script:
    """The pieces as chunks, then no last chunk but `how`: reset, close or half_close."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [("Content-Type", media), ("Transfer-Encoding", "chunked")])
        for piece in pieces:
            await wire.chunk(piece)
        if how == "half_close":
            await wire.half_close()
        else:
            {"reset": wire.reset, "close": wire.close}[how]()

    return script


def refusal(status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> Script:
    """A whole error answer after the request's body."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.answer(status, [("Content-Type", "application/json"), *headers], body)

    return script


def early(status: int, body: bytes) -> Script:
    """A whole answer before the request's body has been read, then the end of the connection."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.answer(status, [("Content-Type", "application/json"), ("Connection", "close")], body)
        await wire.half_close()

    return script


def stall(gate: Gate, then: Script) -> Script:
    """Nothing until the test opens the gate."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await gate.passed()
        await then(request, wire)

    return script


def drip(pieces: Iterable[tuple[bytes, Gate | None]], media: str = "text/event-stream") -> Script:
    """A chunked answer whose pieces each wait at their gate first."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [("Content-Type", media), ("Transfer-Encoding", "chunked")])
        for piece, gate in pieces:
            if gate is not None:
                await gate.passed()
            await wire.chunk(piece)
        await wire.send(b"0\r\n\r\n")

    return script


def held(pieces: Iterable[bytes], reached: threading.Event, media: str = "text/event-stream") -> Script:
    """The pieces, then nothing more until the client's side ends; `reached` is set when that waiting begins."""

    async def script(request: Request, wire: Wire) -> None:
        await wire.body()
        await wire.head(200, [("Content-Type", media), ("Transfer-Encoding", "chunked")])
        for piece in pieces:
            await wire.chunk(piece)
        reached.set()
        while await wire.connection.more():
            pass
        wire.close()

    return script
