"""Relay and observer together, as processes, under a small steady load; and what a backlog of the observer does to the
relay.

    python -m benchmarks.together [idle] [steady] [backlog]

steady: 100 requests of 2 kB a second over one connection, answers of 2 kB; processor time of both processes by
/proc/PID/schedstat, and bytes of database. Four kinds of requests: `same` sends one request again and again; `asked`
puts a question of 200 new bytes behind the same 1.8 kB of instructions; `agent` goes on with a conversation, of which
2 kB are sent (with a session, nine tenths of it history); `new` has 2 kB of text that nobody has seen.

backlog: the observer is stopped (SIGSTOP) while 10,000 requests of 2 kB go through the relay, and let go on. While it
drains them, one request a millisecond is timed, beside the same without a backlog; rounds alternate. Bounded: 10,000
requests and some thousand timed ones a round. Needs two cores and cc.

Figures of a machine that others use at the same time say little: the observer runs when nobody else wants to.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import canned, measure, peers
from benchmarks.observing import Words, request
from benchmarks.peers import Place, Server
from tests.running import Running

RATE = 100
SECONDS = 20.0
BACKLOG = 10_000
ROUNDS = 5
TIMED = 1500
ANSWER = "json 500"  # of the backlog: with answers of 2 kB it is more than the ring holds
PACE_US = 1000
HEADERS = {"Content-Type": "application/json", "x-api-key": canned.KEY, "anthropic-version": "2023-06-01"}
Bodies = Iterator[tuple[bytes, dict[str, str]]]  # with further header fields


def same(words: Words) -> Bodies:
    while True:
        yield canned.prompt(2048), {}


def asked(words: Words) -> Bodies:
    system = words.take(1700)
    while True:
        yield request([{"role": "user", "content": words.take(200)}], system=system), {}


def agent(words: Words) -> Bodies:
    while True:
        session = {"X-Claude-Code-Session-Id": words.ident("s")}
        messages = [{"role": "user", "content": words.take(90)} for _ in range(18)]
        for _ in range(200):
            yield request(messages), session
            messages = messages[2:]
            messages += [{"role": "assistant", "content": words.take(90)}, {"role": "user", "content": words.take(90)}]


def new(words: Words) -> Bodies:
    while True:
        yield request([{"role": "user", "content": words.take(1950)}]), {}


KINDS: dict[str, Callable[[Words], Bodies]] = {"same": same, "asked": asked, "agent": agent, "new": new}


class Pair(NamedTuple):
    """The two processes."""

    running: Running
    relay: int
    observer: int

    def cpu(self) -> tuple[int, int]:
        return peers.cpu_ns(self.relay), peers.cpu_ns(self.observer)


@contextlib.contextmanager
def luna(at: Place, upstream: Server) -> Iterator[Pair]:
    home = at.folder / f"luna{len(os.listdir(at.folder))}"
    running = Running(home, f"http://127.0.0.1:{upstream.port}", {"logging": {"level": "warn"}})
    running.start()
    try:
        assert running.process is not None
        _until_answered(running)
        yield Pair(running, running.process.pid, peers.children(running.process.pid)[0])
    finally:
        running.stop()


def _until_answered(running: Running) -> None:
    """The observer is ready, its pages too."""
    end = time.monotonic() + peers.PATIENCE
    while True:
        try:
            running.get("/healthz", running.ui_url)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def database(pair: Pair) -> Path:
    return next(pair.running.home.rglob("sessions.db"))


def idle(at: Place, upstream: Server) -> None:
    with luna(at, upstream) as pair:
        time.sleep(5)
        before = pair.cpu()
        time.sleep(2 * SECONDS)
        relay, observer = (
            (now - then) / 1e7 / (2 * SECONDS) for now, then in zip(pair.cpu(), before, strict=True)
        )
    print(f"idle: relay {relay:.2f} %, observer {observer:.2f} % of a core")


def steady(at: Place, upstream: Server) -> None:
    for name, kind in KINDS.items():
        with luna(at, upstream) as pair:
            bodies = kind(Words())
            _send(pair.running.port, bodies, RATE * 3)
            time.sleep(1)
            size, before, count = database(pair).stat().st_size, pair.cpu(), int(RATE * SECONDS)
            _send(pair.running.port, bodies, count)
            time.sleep(1)
            relay, observer = ((now - then) / 1e3 / count for now, then in zip(pair.cpu(), before, strict=True))
            file = database(pair)
        grown = (file.stat().st_size - size) / count
        share = (relay + observer) * RATE / 1e4
        print(
            f"{name}: relay {relay:.0f} us, observer {observer:.0f} us a request: {share:.1f} % of a core; "
            f"{grown:.0f} bytes of database each"
        )


def _send(port: int, bodies: Bodies, count: int) -> None:
    """At RATE, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    start = time.monotonic()
    for number in range(count):
        body, fields = next(bodies)
        connection.request("POST", "/v1/messages", body, HEADERS | fields)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"not answered well: {answer.status}")
        time.sleep(max(0.0, start + (number + 1) / RATE - time.monotonic()))
    connection.close()


def backlog(at: Place, upstream: Server) -> None:
    without: list[measure.Quantiles] = []
    beside: list[measure.Quantiles] = []
    drained: list[float] = []
    with luna(at, upstream) as pair:
        peers.pin(pair.relay, 1)
        relay = Server("luna", pair.running.port, pair.relay)
        _timed(at, relay)
        for _ in range(ROUNDS):
            without.append(_timed(at, relay))
            _until_drained(pair)
            os.kill(pair.observer, signal.SIGSTOP)
            _pile_up(at, relay)
            os.kill(pair.observer, signal.SIGCONT)
            start = time.monotonic()
            beside.append(_timed(at, relay))
            behind = _status(pair)["lag_bytes"]
            _until_drained(pair)
            drained.append(time.monotonic() - start)
            print(f"  {behind} bytes were left when the timing ended; nothing after {drained[-1]:.1f} s")
        counters = _status(pair)["counters"]
    for name, found in (("without", without), ("draining", beside)):
        p50, p95, p99 = (statistics.median(each) for each in zip(*found, strict=True))
        every = ", ".join(f"{each.p99:.0f}" for each in found)
        print(f"{name}: p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f} us (p99 of the rounds: {every})")
    print(f"dropped: {counters['tap_dropped_events_total']} events of {counters['tap_events_total']}")


def _timed(at: Place, relay: Server) -> measure.Quantiles:
    line = measure.probe(at, "latency", measure.request_file(at, 2048, ANSWER), TIMED, PACE_US, relay.port)
    return measure.quantiles([int(word) / 1e3 for word in line.split()])


def _pile_up(at: Place, relay: Server) -> None:
    """BACKLOG requests, over eight connections."""
    left = BACKLOG
    while left > 0:
        done = int(measure.probe(at, "load", measure.request_file(at, 2048, ANSWER), relay.port, 8, 0.05).split()[0])
        left -= done


def _status(pair: Pair) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pair.running.get("/api/status", pair.running.ui_url)[1])["observer"]
    return found


def _until_drained(pair: Pair) -> None:
    while _status(pair)["lag_bytes"]:
        time.sleep(0.05)


PARTS: dict[str, Callable[[Place, Server], None]] = {"idle": idle, "steady": steady, "backlog": backlog}


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="together-") as folder:
        at = peers.place(Path(folder), "")
        with peers.upstream(at) as upstream:
            peers.pin(upstream.process, 1)
            for name, part in PARTS.items():
                if not arguments or name in arguments:
                    part(at, upstream)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
