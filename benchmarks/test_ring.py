"""What one event costs the relay: the ring in shared memory beside a socketpair (one system call each, and batched).

Reading is not measured: it happens in another process. So everything is drained between rounds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lunaroute._fast.ring import Reader, Writer

ROUNDS = 200
EVENTS = 32  # of one round: about eight exchanges
SIZES = {"piece of a stream, 142 B": 142, "small body, 2 kB": 2048, "piece of a large body, 64 kB": 65536}
HEADER = struct.Struct("=IHHQq")

pytestmark = pytest.mark.benchmark(disable_gc=True, warmup=False)


@pytest.fixture(params=list(SIZES.values()), ids=lambda size: f"{size} B")
def payload(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> bytes:
    names = {size: name for name, size in SIZES.items()}
    benchmark.group = f"{EVENTS} events, {names[request.param]}"
    return b"x" * int(request.param)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """As roomy as the system allows without privileges; the reader never lets it fill."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        each.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def drain(theirs: socket.socket) -> None:
    try:
        while theirs.recv(1 << 20):
            pass
    except BlockingIOError:
        return


@pytest.mark.parametrize("pages", ("ready", "fresh"))
def test_ring(benchmark: BenchmarkFixture, payload: bytes, pages: str) -> None:
    """One memcpy into shared memory, no system call. Fresh pages cost a fault each: the server's ticks make them ready
    ahead of the writer."""
    writer = Writer(1 << 30)
    if pages == "ready":
        writer.populate(EVENTS * ROUNDS * (len(payload) + 64))
    reader = Reader(writer.ring_fd, writer.wake_fd)
    sizes = []

    def setup() -> None:
        sizes.append(len(reader.read(1 << 30)))
        reader.release()

    def write() -> None:
        for number in range(EVENTS):
            writer.event(5, number, 1, payload)

    benchmark.pedantic(write, setup=setup, rounds=ROUNDS)
    setup()
    assert set(sizes[1:]) == {EVENTS}


def test_socketpair(benchmark: BenchmarkFixture, payload: bytes, pair: tuple[socket.socket, socket.socket]) -> None:
    """One send for each event: what a relay does that must not wait and keeps nothing back."""
    ours, theirs = pair
    per_round = min(EVENTS, 100_000 // (len(payload) + HEADER.size) or 1)

    def write() -> None:
        for at in range(0, EVENTS, per_round):
            for number in range(at, min(EVENTS, at + per_round)):
                ours.sendmsg((HEADER.pack(len(payload), 5, 0, number, 1), payload))
            if per_round < EVENTS:
                drain(theirs)

    benchmark.pedantic(write, setup=lambda: drain(theirs), rounds=ROUNDS)


def test_socketpair_batched(
    benchmark: BenchmarkFixture, payload: bytes, pair: tuple[socket.socket, socket.socket]
) -> None:
    """One send for as many events as fit: events wait for a flusher then, and are lost with the process."""
    ours, theirs = pair
    room = max(1, 100_000 // (len(payload) + HEADER.size))

    def write() -> None:
        for at in range(0, EVENTS, room):
            pieces: list[bytes] = []
            for number in range(at, min(EVENTS, at + room)):
                pieces += (HEADER.pack(len(payload), 5, 0, number, 1), payload)
            ours.sendmsg(pieces)
            if room < EVENTS:
                drain(theirs)

    benchmark.pedantic(write, setup=lambda: drain(theirs), rounds=ROUNDS)
