"""Measurements that look at any proxy from outside. Each takes the proxies to compare, interleaves them, and returns
plain numbers; beside.py decides what to measure and makes the table.

Core 1 has the client and the upstream; the proxies are on core 0, or on core 1 too where a wake-up across cores would
hide what is looked for (in a virtual machine it costs more than a proxy).
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import canned
from benchmarks.peers import Place, Server, cpu_ns, memory_kb, pin

BATCH = 250


class Cpu(NamedTuple):
    """Medians over the rounds."""

    us: float
    per_second: float
    errors: int


class Quantiles(NamedTuple):
    """Microseconds: medians over batches of 250 requests, so that one disturbance does not decide p99."""

    p50: float
    p95: float
    p99: float

    def minus(self, base: Quantiles) -> Quantiles:
        return Quantiles(*(mine - its for mine, its in zip(self, base, strict=True)))


class Streamed(NamedTuple):
    first_us: float
    piece_p50: float
    piece_p99: float
    joined: int


def request_file(at: Place, size: int = 2048, bench: str = "", server: Server | None = None) -> Path:
    """The request for the probe, in a file. bench: what the upstream shall answer. server: with its fields."""
    fields = server.fields if server else ""
    file = at.folder / f"request-{size}-{bench.replace(' ', '-')}-{server.name if server and fields else ''}"
    if not file.exists():
        extra = f"x-bench: {bench}\n" if bench else ""
        file.write_bytes(canned.request(size, extra + fields, host="127.0.0.1"))
    return file


def probe(at: Place, *words: object) -> str:
    """Run the probe on core 1."""
    command = ["taskset", "-c", "1", str(at.folder / "probe"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the probe failed: {done.stderr}")
    return done.stdout


def cpu(
    at: Place, servers: Sequence[Server], connections: int, size: int, rounds: int, seconds: float
) -> dict[str, Cpu]:
    """Processor time of each request under full load, each proxy alone on core 0. One round more warms up."""
    us: dict[str, list[float]] = {server.name: [] for server in servers}
    rate: dict[str, list[float]] = {server.name: [] for server in servers}
    errors = dict.fromkeys(us, 0)
    for each in range(rounds + 1):
        for server in random.sample(servers, len(servers)):
            pin(server.process, 0)
            file = request_file(at, size, server=server)
            before = cpu_ns(server.process)
            done, failed, took = map(
                int, probe(at, "load", file, server.port, connections, seconds if each else seconds / 2).split()
            )
            spent = cpu_ns(server.process) - before
            errors[server.name] += failed
            if each:
                us[server.name].append(spent / 1e3 / max(done, 1))
                rate[server.name].append(done * 1e9 / took)
    return {name: Cpu(statistics.median(us[name]), statistics.median(rate[name]), errors[name]) for name in us}


def latency(
    at: Place, servers: Sequence[Server], rounds: int, *, core: int, size: int = 2048, pace_us: int = 0
) -> dict[str, Quantiles]:
    """How long one request takes with no other under way; the proxies take turns."""
    for server in servers[1:]:
        pin(server.process, core)
    lines = probe(
        at, "latency", request_file(at, size), rounds, pace_us, *(server.port for server in servers)
    ).splitlines()
    return {
        server.name: quantiles([int(word) / 1e3 for word in line.split()])
        for server, line in zip(servers, lines, strict=True)
    }


def quantiles(took: list[float]) -> Quantiles:
    batches = [sorted(took[at : at + BATCH]) for at in range(0, len(took), BATCH)]
    batches = [batch for batch in batches if len(batch) == BATCH] or [sorted(took)]
    return Quantiles(*(statistics.median(batch[int(len(batch) * q)] for batch in batches) for q in (0.50, 0.95, 0.99)))


def streams(
    at: Place, servers: Sequence[Server], rounds: int, events: int = 200, gap_us: int = 2000
) -> dict[str, Streamed]:
    """Time to the first piece on a new connection, and each piece's way from the upstream's clock to the client's."""
    for server in servers[1:]:
        pin(server.process, 1)
    file = request_file(at, 2048, f"stream {events} {gap_us}")
    found = {}
    lines = probe(at, "stream", file, rounds, *(server.port for server in servers)).splitlines()
    for server, line in zip(servers, lines, strict=True):
        first, pieces, joined = line.split("/")
        delays = sorted(int(word) / 1e3 for word in pieces.split())
        firsts = statistics.median(int(word) / 1e3 for word in first.split())
        found[server.name] = Streamed(firsts, delays[len(delays) // 2], delays[len(delays) * 99 // 100], int(joined))
    return found


class Memory(NamedTuple):
    """Kilobytes."""

    idle: int
    connections: int
    streams: int


def memory(at: Place, server: Server, connections: int = 1000, slow: int = 500) -> Memory:
    """Resident memory with nothing to do, with idle connections that made a request each, with slow streams."""
    request = request_file(at).read_bytes()
    idle = memory_kb(server.process)
    with _open(server.port, connections) as sockets:
        for each in sockets:
            each.sendall(request)
            _read_answer(each)
        with_connections = memory_kb(server.process)
    time.sleep(1)
    stream = request_file(at, 2048, "stream 80 100000").read_bytes()
    with _open(server.port, slow) as sockets:
        for each in sockets:
            each.sendall(stream)
        _read_for(sockets, 5)
        with_streams = memory_kb(server.process)
    return Memory(idle, with_connections, with_streams)


@contextmanager
def _open(port: int, count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(count)]
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def _read_answer(each: socket.socket) -> None:
    got = b""
    while b"\r\n\r\n" not in got:
        got += each.recv(1 << 16)
    if not got.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not answered well: {got[:300]!r}")
    while not got.endswith(b'"output_tokens":503}}'):
        got += each.recv(1 << 16)


def _read_for(sockets: list[socket.socket], seconds: float) -> None:
    """Read and forget, as the client of a stream does."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as ready:
        for each in sockets:
            ready.register(each, selectors.EVENT_READ, each)
        while time.monotonic() < end:
            for key, _ in ready.select(0.1):
                if not key.data.recv(1 << 16):
                    raise RuntimeError("a stream ended early")


def median_ms(times: int, work: Callable[[], object], after: Callable[[], object] = lambda: None) -> float:
    """The median duration of a thing done `times` times, with something unmeasured after each."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1e3)
        after()
    return statistics.median(took)


def machine() -> str:
    """What this runs on, in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores of {model}, Linux {os.uname().release}"
