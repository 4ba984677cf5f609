"""LunaRoute beside nginx and other proxies, interleaved in one run; prints Markdown tables.

    python -m benchmarks.beside [--quick] [--only cpu,latency,stream,pace,memory,env,idle] [--peers FOLDER]

--quick: seconds instead of minutes, for trying things out; its figures mean little. --peers: the `bin` folder of a
virtual environment that has aiohttp, mitmproxy or litellm, where they are not beside this Python or on PATH, and
node_modules/.bin of Portkey's gateway (folders with a colon between).
Needs two cores, cc, nginx; what else is missing is skipped, with a line that says so.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import json
import os
import ssl
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import canned, measure, peers, test_size
from benchmarks.measure import Quantiles
from benchmarks.observing import Words
from benchmarks.peers import Place, Server
from tests.running import Running

PARTS = ("cpu", "latency", "stream", "pace", "memory", "env", "idle")
ON, OFF, NGINX = "luna, recording", "luna, not recording", "nginx"
Row = list[str]


class Bench:
    """One run. The proxies stay up for all of it; each table asks them again."""

    def __init__(self, at: Place, stack: contextlib.ExitStack, quick: bool) -> None:
        self.at, self.stack, self.quick = at, stack, quick
        self.upstream = stack.enter_context(peers.upstream(at))
        peers.pin(self.upstream.process, 1)
        fast, slow, self.missing = peers.available(at)
        self.fast = [stack.enter_context(start(at, self.upstream.port)) for start in fast]
        self.lunas = {name: self.luna(name, f"http://127.0.0.1:{self.upstream.port}") for name in (ON, OFF)}
        self.fast += self.lunas.values()
        self.slow = []
        for start in slow:
            try:
                self.slow.append(stack.enter_context(start(at, self.upstream.port)))
            except RuntimeError as error:
                self.missing.append(f"skipped: {error}")

    def luna(self, name: str, upstream: str, extra: dict[str, Any] | None = None) -> Server:
        """A LunaRoute with its own home."""
        recording = {"session_recording": {"enabled": name == ON}, "logging": {"level": "warn"}, **(extra or {})}
        running = Running(self.at.folder / f"luna{len(os.listdir(self.at.folder))}", upstream, recording)
        running.start()
        self.stack.callback(running.stop)
        assert running.process is not None
        return Server(name, running.port, running.process.pid)

    # --- the tables -----------------------------------------------------------------------------------------------

    def cpu(self) -> None:
        rounds, seconds = (2, 0.5) if self.quick else (7, 2.0)
        print_table(
            "CPU µs per request, requests per second in brackets (x nginx)",
            ["", *(f"{what}" for what in ("2 kB, 32 connections", "2 kB, 64", "100 kB, 32", "2 kB, TLS upstream"))],
            self._columns([
                measure.cpu(self.at, self.fast, 32, 2048, rounds, seconds),
                measure.cpu(self.at, self.fast, 64, 2048, rounds, seconds),
                measure.cpu(self.at, self.fast, 32, 102400, rounds, seconds),
                measure.cpu(self.at, self._with_tls(), 32, 2048, rounds, seconds),
            ], measure.cpu(self.at, self.slow, 32, 2048, 2, 2 * seconds) if self.slow else {}),
        )  # fmt: skip

    def _with_tls(self) -> list[Server]:
        front = self.stack.enter_context(peers.tls_front(self.at, self.upstream.port))
        peers.pin(front.process, 1)
        nginx = self.stack.enter_context(peers.nginx_to_tls(self.at, front.port))
        return [nginx, *(self.luna(name, f"https://localhost:{front.port}", self._trust()) for name in (ON, OFF))]

    def _trust(self) -> dict[str, Any]:
        ca = {"ca_file": str(self.at.authority)}
        return {"providers": {"openai": ca, "anthropic": ca}}

    def _columns(self, columns: list[dict[str, measure.Cpu]], slow: dict[str, measure.Cpu]) -> list[Row]:
        rows = []
        for name in [server.name for server in self.fast] + list(slow):
            row = [name]
            for column in [{**columns[0], **slow}, *columns[1:]]:
                if name not in column:
                    row.append("")
                    continue
                mine, base = column[name], column[NGINX]
                failed = f" {mine.errors} errors" if mine.errors else ""
                rate = f"{mine.per_second:,.0f}, {times(mine.per_second, base.per_second)}"
                row.append(f"{mine.us:,.1f} ({times(mine.us, base.us)}) [{rate}]{failed}")
            rows.append(row)
        return rows

    def latency(self) -> None:
        rounds = 500 if self.quick else 5000
        for core, where in ((1, "everything on one core"), (0, "the proxy on a core of its own")):
            self._latency(where, measure.latency(self.at, [self.upstream, *self.fast], rounds, core=core))
        if self.slow:
            told = [each for each in self.slow if not each.fields]  # the probe sends each the same request
            servers = [self.upstream, self.fast[0], self.lunas[ON], *told]
            self._latency(
                "the slow ones, everything on one core",
                measure.latency(self.at, servers, 250 if self.quick else 1000, core=1),
            )

    def _latency(self, where: str, found: dict[str, Quantiles]) -> None:
        base = found.pop("direct")
        nginx = found[NGINX].minus(base)
        rows = [["(direct)", *(f"{each:.1f}" for each in base)]]
        for name, each in found.items():
            added = each.minus(base)
            rows.append([name, *(f"{mine:,.1f} ({times(mine, its)})" for mine, its in zip(added, nginx, strict=True))])
        print_table(
            f"Added latency, µs (x nginx); one request at a time, 2 kB, {where}", ["", "p50", "p95", "p99"], rows
        )

    def stream(self) -> None:
        rounds = 2 if self.quick else 12
        servers = [self.upstream, *self.fast, *(each for each in self.slow if each.name == "aiohttp")]
        found = measure.streams(self.at, servers, rounds)
        base = found.pop("direct")
        rows = [
            ["(direct)", f"{base.first_us:.0f}", f"{base.piece_p50:.1f}", f"{base.piece_p99:.1f}", str(base.joined)]
        ]
        nginx = found[NGINX]
        for name, each in found.items():
            first, p50, p99 = (
                each.first_us - base.first_us,
                each.piece_p50 - base.piece_p50,
                each.piece_p99 - base.piece_p99,
            )
            rows.append([
                name,
                f"{first:,.0f} ({times(first, nginx.first_us - base.first_us)})",
                f"{p50:,.1f} ({times(p50, nginx.piece_p50 - base.piece_p50)})",
                f"{p99:,.1f}",
                str(each.joined),
            ])  # fmt: skip
        print_table(
            "Streams, added µs (x nginx): first piece on a new connection; each of 200 pieces 2 ms apart",
            ["", "first piece", "piece p50", "piece p99", "reads with two pieces"], rows,
        )  # fmt: skip

    def pace(self) -> None:
        rounds = 500 if self.quick else 4000
        servers = [self.upstream, self.lunas[OFF], self.lunas[ON]]
        rows = []
        for words, context in (("", contextlib.nullcontext()), (", its pages being read", self._reading_pages())):
            with context:
                start = time.monotonic()
                found = measure.latency(self.at, servers, rounds, core=0, size=102400, pace_us=1100)
                rate = rounds / (time.monotonic() - start)
            more = found[ON].minus(found[OFF])
            rows += [[f"{name}{words}", *(f"{each:,.0f}" for each in found[name])] for name in found]
            rows.append([f"recording adds{words} ({rate:.0f} requests/s)", *(f"{each:+,.0f}" for each in more)])
        print_table("100 kB requests at a steady rate, µs", ["", "p50", "p95", "p99"], rows)

    @contextlib.contextmanager
    def _reading_pages(self) -> Iterator[None]:
        """Somebody turns to the slowest page of the recording server's UI again and again; its name is printed."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.lunas[ON].port}/healthz") as answer:
            ui = json.loads(answer.read())["ui"]
        took = {path: measure.median_ms(3, lambda path=path: _get(ui + path)) for path in self._heavy_pages(ui)}
        worst = max(took, key=lambda path: took[path])
        print(f"\nThe slowest page: {worst.partition('?')[0]}, {took[worst]:.0f} ms")
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    _get(ui + worst)
                done.wait(0.05)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _heavy_pages(self, ui: str) -> list[str]:
        """Addresses of the pages that cost most, with a session of 300 turns and 800 kB in the record."""
        fields = {"X-Claude-Code-Session-Id": test_size.SESSION}
        turns = 30 if self.quick else 300
        for body, _, _ in test_size.conversation(Words(), turns):
            post("127.0.0.1", self.lunas[ON].port, None, body, fields)
        end = time.monotonic() + 120
        while True:
            found = json.loads(_get(f"{ui}/api/sessions?client=claude-code&limit=1"))["page"]["rows"]
            if found and found[0]["requests"] >= turns:
                break
            if time.monotonic() > end:
                raise RuntimeError("the session is not recorded after two minutes")
            time.sleep(0.5)
        session = f"/sessions/{found[0]['session_id']}"
        last = json.loads(_get(f"{ui}/api{session}"))["transcript"]["turns"][-1]["row"]["id"]
        exchange = [f"/exchanges/{last}{view}" for view in ("", "?view=request", "?view=response")]
        pages = ["/", "/?range=30d", "/sessions?q=word", "/analytics", session, f"{session}/timeline"]
        pages += [f"{session}/turns", f"/api{session}", *exchange, f"/api/exchanges/{last}"]
        return [*pages, "/api/stats", "/settings"]

    def memory(self) -> None:
        connections, slow = (100, 50) if self.quick else (1000, 500)
        rows = []
        fresh = self.luna(ON, f"http://127.0.0.1:{self.upstream.port}")
        for server in (fresh, self.fast[0]):
            found = measure.memory(self.at, server, connections, slow)
            each = (found.connections - found.idle) / connections
            grown = f"{found.connections / 1024:.1f} MB ({each:.1f} kB each)"
            rows.append([server.name, f"{found.idle / 1024:.1f} MB", grown, f"{found.streams / 1024:.1f} MB"])
        observers = [peers.memory_kb(pid) / 1024 for pid in peers.children(self.lunas[ON].process)]
        rows.append(["its observer, after all of this", *(f"{each:.1f} MB" for each in observers), "", ""])
        print_table(
            "Resident memory (without the shared ring)",
            ["", "idle", f"{connections} idle connections", f"{slow} slow streams"],
            rows,
        )

    def env(self) -> None:
        running = Running(self.at.folder / "env", f"http://127.0.0.1:{self.upstream.port}")
        command = ("env", "--config", str(running.file))

        def stop() -> None:
            running.lunaroute("stop", "--config", str(running.file))

        times_ = 2 if self.quick else 7
        cold = measure.median_ms(times_, lambda: running.lunaroute(*command).check_returncode(), stop)
        running.lunaroute(*command)
        warm = measure.median_ms(times_, lambda: running.lunaroute(*command).check_returncode())
        stop()
        print_table("`lunaroute env`, ms wall", ["", "cold", "warm"], [["", f"{cold:.0f}", f"{warm:.0f}"]])

    def idle(self) -> None:
        """The provider closes idle connections after 30 s; LunaRoute keeps a spare one warm."""
        front = self.stack.enter_context(peers.tls_front(self.at, self.upstream.port, keepalive=30))
        luna = self.luna(ON, f"https://localhost:{front.port}", self._trust())
        trust = ssl.create_default_context(cafile=str(self.at.authority))
        through, direct = [], []
        post("127.0.0.1", luna.port, None)
        for _ in range(1 if self.quick else 3):
            time.sleep(2 if self.quick else 61)
            through.append(post("127.0.0.1", luna.port, None))
            direct.append(post("localhost", front.port, trust))
        print_table(
            f"First request after an idle minute over TLS, ms, {len(through)} times", ["", *("" for _ in through)],
            [["through LunaRoute", *(f"{each:.1f}" for each in through)],
             ["direct, connecting", *(f"{each:.1f}" for each in direct)]],
        )  # fmt: skip


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as page:
        return bytes(page.read())


def post(
    host: str, port: int, context: ssl.SSLContext | None, body: bytes = b"", more: dict[str, str] | None = None
) -> float:
    """Milliseconds for one request on a new connection. more: further fields of its head."""
    body = body or canned.prompt(2048)
    fields = {"x-api-key": canned.KEY, "Content-Type": "application/json", **(more or {})}
    start = time.perf_counter()
    if context is None:
        connection = http.client.HTTPConnection(host, port)
    else:
        connection = http.client.HTTPSConnection(host, port, context=context)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/messages", body, fields)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"answered with {answer.status}")
    return (time.perf_counter() - start) * 1e3


def times(mine: float, base: float) -> str:
    return f"{mine / base:.2f} x" if base > 0 else "-"


def print_table(title: str, heads: Row, rows: list[Row]) -> None:
    print(f"\n**{title}**\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that all works")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--peers", default="", help="folder with programs to compare with that are not on PATH")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if sys.platform != "linux" or (os.cpu_count() or 1) < 2:
        print("skipped: the comparison reads /proc and needs two cores", file=sys.stderr)
        return 0
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="beside-") as folder, contextlib.ExitStack() as stack:
        bench = Bench(peers.place(Path(folder), options.peers), stack, options.quick)
        print(f"{datetime.date.today()}, {measure.machine()}\n`python -m benchmarks.beside {' '.join(sys.argv[1:])}`")
        for line in bench.missing:
            print(line)
        for part in PARTS:
            if part in wanted:
                getattr(bench, part)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
