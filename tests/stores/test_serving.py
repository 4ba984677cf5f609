"""Recording fails, traffic does not (mission R9): a real `lunaroute serve`, its disk full, broken, locked or spoilt.

Every answer is what the provider sent, byte for byte; what could not be kept is counted in /metrics and said in the
log; recording goes on by itself once the fault is over.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import PATIENCE, Running, processes_of
from tests.stores.disks import Disk, small_disk

pytestmark = pytest.mark.slow
BIG = 1_000_000  # random bytes of a body, twice that in hex: nine of them are more than may wait in memory
STORES = ("sqlite", "jsonl")
PRELOADED = ("/usr/lib/fiu/fiu_run_preload.so", "/usr/lib/fiu/fiu_posix_preload.so")


async def provider(request: Request, wire: Wire) -> None:
    await wire.answer(200, [("Content-Type", "application/json")], told(await wire.body()))


def told(body: bytes) -> bytes:
    """Another answer to each question."""
    said = hashlib.sha256(body).hexdigest()
    return json.dumps({"type": "message", "id": said, "content": [{"type": "text", "text": said}]}).encode()


class Client:
    """Asks, and looks at each answer."""

    def __init__(self, luna: Running, seed: int) -> None:
        self._luna = luna
        self._random = random.Random(seed)
        self.asked = 0
        self.slowest = 0.0

    def ask(self, size: int = 20, count: int = 1) -> None:
        for _ in range(count):
            text = self._random.randbytes(size).hex()
            body = json.dumps({"model": "claude-opus-5-5", "messages": [{"role": "user", "content": text}]}).encode()
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._luna.port, timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.request("POST", "/v1/messages", body, {"x-api-key": "sk-ant-dummy-0000"})
                answer = connection.getresponse()
                assert (answer.status, answer.read()) == (200, told(body))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.asked += 1


class Recorded:
    """What the server says of its recording."""

    def __init__(self, luna: Running) -> None:
        self._luna = luna

    def figure(self, name: str, store: str) -> float:
        text = self._luna.get("/metrics")[1].decode()
        found = re.search(rf'^lunaroute_store_{name}{{store="{store}"}} (\S+)$', text, re.MULTILINE)
        assert found, text
        return float(found[1])

    def lost(self, store: str) -> int:
        return int(self.figure("lost_exchanges_total", store))

    def until(self, fact: Callable[[], Any], what: str) -> None:
        assert self._luna.process is not None
        end = time.monotonic() + PATIENCE
        while not fact():
            assert time.monotonic() < end, f"never happened: {what}\n{self._luna.log()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._luna.process.wait(0.05)

    def count(self, path: Path) -> int:
        """-1 where there is no database yet."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                return int(db.execute("SELECT count(*) FROM exchanges WHERE state = 'ok'").fetchone()[0])
        except sqlite3.OperationalError:
            return -1


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(provider) as upstream:
        yield upstream


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def at(folder: Path) -> dict[str, Any]:
    """Where it records to."""
    return {
        "session_recording": {
            "sqlite": {"path": str(folder / "s.db")},
            "jsonl": {"directory": str(folder / "sessions")},
        }
    }


def observer_of(luna: Running) -> int:
    assert luna.process is not None
    (pid,) = set(processes_of(luna.process.pid)) - {luna.process.pid}
    return pid


def through_a_fault(
    luna: Running, path: Path, stores: tuple[str, ...], begin: Callable[[], None], end: Callable[[], None]
) -> None:
    """Traffic before, in and after a fault of these stores that takes longer than memory lasts."""
    client, recorded = Client(luna, 7), Recorded(luna)
    client.ask(count=5)
    recorded.until(lambda: recorded.count(path) == 5, "the first are recorded")
    begin()
    client.ask(count=3)
    client.ask(BIG, count=12)
    for store in stores:
        recorded.until(lambda store=store: recorded.figure("ok", store) == 0, f"{store} is said to fail")
        recorded.until(lambda store=store: recorded.lost(store) > 0, f"{store}'s losses are counted")
    assert luna.get("/readyz")[0] == 200, "what cannot be recorded can be served"
    client.ask(count=3)
    end()
    for store in stores:
        recorded.until(lambda store=store: recorded.figure("ok", store) == 1, f"{store} takes up again by itself")
    client.ask(count=4)
    lost = {store: recorded.lost(store) for store in stores}
    assert luna.stop() == 0
    assert client.slowest < 5.0
    print(f"{client.asked} asked, lost {lost}, the slowest answer after {client.slowest:.2f} s")
    if "sqlite" in stores:
        assert recorded.count(path) == client.asked - lost["sqlite"], "each one is stored or counted as lost"
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    log = luna.log()
    for store in stores:
        assert f"{store}: recording fails, requests are not affected" in log
        assert re.search(rf"{store}: recording works again; {lost[store]} exchanges were lost", log), log


def test_a_full_disk(disk: Disk, upstream: Upstream, serve: Serve) -> None:
    luna = serve(upstream, at(disk.path / "r"))
    through_a_fault(luna, disk.path / "r" / "s.db", STORES, lambda: disk.fill(observer_of(luna)), disk.free)
    for file in (disk.path / "r" / "sessions").glob("*/*.jsonl"):
        for line in file.read_bytes().splitlines():
            json.loads(line)


@pytest.mark.skipif(sys.platform != "linux", reason="libfiu and /proc")
def test_a_disk_that_cannot_be_read_or_written(tmp_path: Path, upstream: Upstream, serve: Serve) -> None:
    """EIO at each write and sync of the database, by libfiu, in the observer alone."""
    prefix = str(tmp_path / "fiu")
    luna = serve(upstream, at(tmp_path / "r"), LD_PRELOAD=" ".join(PRELOADED), FIU_CTRL_FIFO=prefix)
    observer = observer_of(luna)
    points = ("rw/pwrite", "sync/fsync", "sync/fdatasync", "rw/ftruncate")

    def control(*commands: str) -> None:
        for command in commands:
            subprocess.run(["fiu-ctrl", "-f", prefix, "-c", command, str(observer)], check=True, timeout=PATIENCE)

    through_a_fault(
        luna,
        tmp_path / "r" / "s.db",
        ("sqlite",),
        lambda: control(*(f"enable name=posix/io/{point},failinfo=5" for point in points)),
        lambda: control(*(f"disable name=posix/io/{point}" for point in points)),
    )
    assert "disk I/O error" in luna.log()


def test_a_database_that_another_program_holds(tmp_path: Path, upstream: Upstream, serve: Serve) -> None:
    luna = serve(upstream, at(tmp_path / "r"))
    path = tmp_path / "r" / "s.db"
    holder = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(holder):
        through_a_fault(
            luna, path, ("sqlite",), lambda: holder.execute("BEGIN EXCLUSIVE"), lambda: holder.execute("ROLLBACK")
        )
    assert "locked" in luna.log()


def test_a_database_that_is_overwritten(tmp_path: Path, upstream: Upstream, serve: Serve) -> None:
    """The observer dies too: as long as it lives it has in memory what it needs of the file."""
    luna = serve(upstream, at(tmp_path / "r"))
    path = tmp_path / "r" / "s.db"
    client, recorded = Client(luna, 7), Recorded(luna)
    client.ask(count=5)
    recorded.until(lambda: recorded.count(path) == 5, "the first are recorded")
    for file, kept in ((path, 4096), (path.with_name("s.db-wal"), 32)):
        with file.open("r+b") as spoilt:
            spoilt.seek(kept)
            spoilt.write(os.urandom(max(0, file.stat().st_size - kept)))
    os.kill(observer_of(luna), signal.SIGKILL)

    def begun_anew() -> bool:
        client.ask()
        return any("unusable" in file.name for file in path.parent.iterdir())

    recorded.until(begun_anew, "it is set aside")
    recorded.until(lambda: recorded.figure("ok", "sqlite") == 1, "it takes up again by itself")
    before = recorded.count(path)
    client.ask(count=4)
    recorded.until(lambda: recorded.count(path) >= before + 4, "and records")
    assert luna.stop() == 0
    log = luna.log()
    assert "cannot be used" in log and "It was kept as" in log
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
