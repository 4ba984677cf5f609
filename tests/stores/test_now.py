"""What goes on, out of a database with running, ended and failed exchanges."""

from __future__ import annotations

from pathlib import Path

from lunaroute.records import State, Timings, Usage
from lunaroute.stores import now
from lunaroute.stores.readonly import Connection
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.records import BOOT, START_NS, exchange, opened

S = 1_000_000_000


def test_now(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "sessions.db", warn=print)
    store.open()
    long = Timings(done=600_000.0)
    store.write(
        [
            exchange(1, timings=long, usage=Usage(input_tokens=10, output_tokens=600, cache_read_tokens=50)),
            exchange(2, usage=Usage(input_tokens=1000, output_tokens=1000)),
            exchange(580, State.UPSTREAM_ERROR, status=529, error="overloaded", usage=Usage()),
            exchange(581, State.CLIENT_CANCELLED, dialect="responses",
                     usage=Usage(input_tokens=40, output_tokens=60, cache_read_tokens=30)),
            exchange(582, State.TIMEOUT, kind="handshake"),
            exchange(590, None, title="What runs"),
            exchange(591, None, kind="handshake"),
            opened(592),
        ]
    )  # fmt: skip
    with Connection(store.path) as db:
        # 601 s: the first began at 1 s and took 600; the second ended long ago
        assert now.pace(db, START_NS + 610 * S) == now.Pace(requests=3, errors=1, input_tokens=100, output_tokens=660)
        assert now.pace(db, START_NS + 9000 * S) == now.Pace(requests=0, errors=0, input_tokens=0, output_tokens=0)
        found = now.running(db, 9)
        assert [each.id for each in found] == [f"{BOOT}-592", f"{BOOT}-590"]
        assert (found[1].client, found[1].model, found[0].title) == ("codex", "claude-opus-5-5", None)
        assert [each.id for each in now.running(db, 1)] == [f"{BOOT}-592"]
        count, failed = now.failures(db, START_NS, 9)
        assert count == 1 and [(each.id, each.status, each.error) for each in failed] == [
            (f"{BOOT}-580", 529, "overloaded")
        ]
        assert now.failures(db, START_NS + 600 * S, 9) == (0, [])
    store.close()
