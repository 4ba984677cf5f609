"""Whatever was written is read back byte for byte: in any order, after restarts, evictions and removals."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lunaroute._fast.cuts import cut
from lunaroute.errors import StoreError
from lunaroute.records import Exchange, State
from lunaroute.stores import packs, queries
from lunaroute.stores.readonly import Connection
from lunaroute.stores.removal import Removal
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.conversations import KINDS, Conversations, canary
from tests.stores.records import BOOT, exchange

FAR = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


class Kept:
    """A database, the store that writes it, and a reader that was there from the beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.there: dict[int, Exchange] = {}
        self.store = SqliteStore(path, warn=self.warned)
        self.store.open()
        self.old_reader = Connection(path)

    def warned(self, message: str) -> None:
        raise AssertionError(message)

    def restart(self) -> None:
        self.store.close()
        self.store = SqliteStore(self.path, warn=self.warned)
        self.store.open()

    def write(self, *batch: Exchange) -> None:
        self.store.write(batch)
        self.there |= {int(each.id.partition("-")[2]): each for each in batch}

    def remove(self, *numbers: int) -> None:
        rows = [self.row(number) for number in numbers]
        with self.store._transaction() as connection:
            removal = Removal(connection)
            assert removal.remove(rows, seconds=100) == len(rows)
            self.store._writing.forget(removal.touched)
        for number in numbers:
            del self.there[number]

    def row(self, number: int) -> int:
        (row,) = self.ask("SELECT row FROM exchanges WHERE id = ?", f"{BOOT}-{number}")
        return int(row)

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """The first column of the store's own connection."""
        assert self.store._connection is not None
        return [row[0] for row in self.store._connection.execute(sql, values)]

    def close(self) -> None:
        self.old_reader.close()
        self.store.close()

    # --- what must hold ---------------------------------------------------------------------------
    def check(self, chance: random.Random) -> None:
        numbers = list(self.there)
        chance.shuffle(numbers)
        with Connection(self.path) as fresh:
            for reader in (fresh, self.old_reader):
                for number in numbers:
                    same(queries.bodies(reader, f"{BOOT}-{number}"), self.there[number])
        assert sorted(self.ask("SELECT id FROM exchanges")) == sorted(e.id for e in self.there.values())
        self.check_tables()

    def check_tables(self) -> None:
        """Nothing is kept that nobody needs, and what is counted is counted right."""
        assert self.ask("PRAGMA integrity_check") == ["ok"]
        self.ask("INSERT INTO search (search) VALUES ('integrity-check')")
        assert self.ask(
            "SELECT exchange FROM packs AS p WHERE exchange NOT IN (SELECT row FROM exchanges) "
            "AND (SELECT count(*) FROM packs WHERE base = p.exchange) < 2"
        ) == [], "packs of exchanges that are gone, and that not two others share"  # fmt: skip
        assert self.ask("SELECT base FROM packs WHERE base != 0 AND base NOT IN (SELECT exchange FROM packs)") == []
        assert self.store._connection is not None
        one = self.store._connection.execute
        shelf = packs.shelf(lambda sql, *values: one(sql, values).fetchone())
        used: Counter[int] = Counter()
        for row in self.ask("SELECT exchange FROM packs"):
            pack = shelf.pack(row)
            assert pack is not None
            used.update(packs.blobs_of(pack))
            if not self.ask("SELECT 1 FROM exchanges WHERE row = ?", row):
                assert (pack.response, pack.more, pack.texts) == (b"", {}, b""), "only the pieces are needed"
        assert used == Counter(dict(one("SELECT blob, uses FROM blobs").fetchall()))

    def check_words(self, made: dict[int, Exchange]) -> None:
        for number, each in made.items():
            found = self.ask("SELECT rowid FROM search WHERE search MATCH ?", f'"{canary(number)}"')
            assert found == ([self.row(number)] if number in self.there and each.texts else []), number


def same(kept: queries.Bodies, given: Exchange) -> None:
    assert kept.trouble is None
    assert kept.request_body == given.request_body
    assert kept.response_body == given.response_body
    assert kept.request_headers == given.request_headers
    assert kept.response_headers == given.response_headers
    assert kept.texts == [(text.kind, text.text) for text in given.texts]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with opened(tmp_path / "s.db") as kept:
        yield kept


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Kept]:
    kept = Kept(path)
    try:
        yield kept
    finally:
        kept.close()


# --- any conversation -------------------------------------------------------------------------------
LIMITS: dict[str, dict[str, int]] = {
    "as it is": {},
    "short chains": {"DEPTH_MAX": 3, "FIELDS_CHAIN": 2},
    "no memory": {"HEADS_BYTES": 2000, "HEADS_SESSIONS": 2},
    "one head": {"HEADS_EACH": 1, "DICTIONARY_BYTES": 100},
    "small shelves": {"UNPACKED_LIMIT": 1 << 20, "LONG": 64},
}
steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(KINDS), st.sampled_from(("", "", "", "commit", "restart", "remove"))),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@given(steps, st.integers(0, 1 << 32))
@settings(max_examples=60, **FAR)
def test_what_was_written_is_read_back(
    limits: dict[str, int], tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, str]], seed: int
) -> None:
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("packs") / "s.db") as kept:
        for name, value in limits.items():
            patch.setattr(packs, name, value)
        talks = Conversations(seed)
        batch: list[Exchange] = []
        for session, kind, then in steps:
            batch.append(talks.next(session, kind))
            if not then:
                continue
            kept.write(*batch)
            batch.clear()
            if then == "restart":
                kept.restart()
            elif then == "remove":
                kept.remove(*chance.sample(list(kept.there), chance.randint(0, len(kept.there))))
            kept.check(chance)
        kept.write(*batch)
        kept.check(chance)
        kept.check_words(talks.made)
        while kept.there:
            kept.remove(*chance.sample(list(kept.there), chance.randint(1, len(kept.there))))
            kept.check(chance)
        kept.check_words(talks.made)
        for table in ("sessions", "exchanges", "packs", "blobs", "attempts", "tool_calls"):
            assert kept.ask(f"SELECT count(*) FROM {table}") == [0], table


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any", "every other"])
@pytest.mark.parametrize("seed", range(3))
def test_a_long_session_is_removed_piece_by_piece(kept: Kept, order: str, seed: int) -> None:
    print("seed", seed)
    talks = Conversations(seed, sessions=1)
    chance = random.Random(seed)
    kept.write(*(talks.next(0, chance.choice(KINDS[:9])) for _ in range(60)))
    numbers = list(kept.there)
    if order == "any":
        chance.shuffle(numbers)
    elif order == "newest first":
        numbers.reverse()
    elif order == "every other":
        numbers = numbers[::2] + numbers[1::2]
    while numbers:
        kept.remove(*numbers[:7])
        del numbers[:7]
        kept.check(chance)
    assert kept.ask("SELECT count(*) FROM packs") == [0]


def test_a_chain_has_a_bound(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "DEPTH_MAX", 20)
    monkeypatch.setattr(packs, "FIELDS_CHAIN", 5)
    talks = Conversations(1, sessions=1)
    for _ in range(70):
        kept.write(talks.next(0, "grow"))
    assert kept.store._connection is not None
    execute = kept.store._connection.execute
    shelf = packs.shelf(lambda sql, *values: execute(sql, values).fetchone())
    depths = [shelf.depth(row) for row in kept.ask("SELECT row FROM exchanges ORDER BY row")]
    assert max(depths) == 20 and depths.count(0) >= 3
    kept.check(random.Random(1))


def test_a_grown_history_costs_what_is_new(kept: Kept) -> None:
    talks = Conversations(2, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(60)))
    last = kept.there[60].request_body
    (size,) = kept.ask("SELECT length(data) FROM packs ORDER BY exchange DESC LIMIT 1")
    assert len(last) > 20_000 and size < 3000


# --- several sessions -------------------------------------------------------------------------------
def long_body(words: str, text: str = "") -> bytes:
    return b'{"tools":[{"t":"%s"}],"messages":["%s"]}' % (words.encode() * 200, text.encode())


def test_long_pieces_are_shared_and_stay_as_long_as_one_needs_them(kept: Kept) -> None:
    for number, session in enumerate("abc", start=1):
        kept.write(exchange(number, session_id=session, request_body=long_body("shared words ", session)))
    assert kept.ask("SELECT uses FROM blobs") == [3]
    for number, left in ((2, 2), (1, 1)):
        kept.remove(number)
        assert kept.ask("SELECT uses FROM blobs") == [left]
        kept.check(random.Random(0))
    kept.remove(3)
    assert kept.ask("SELECT uses FROM blobs") == []


def test_a_number_of_a_blob_is_never_used_again(kept: Kept) -> None:
    """A reader keeps what it read: the same number must not mean another piece one day."""
    kept.write(exchange(1, request_body=long_body("one")))
    same(queries.bodies(kept.old_reader, f"{BOOT}-1"), kept.there[1])
    kept.remove(1)
    kept.write(exchange(2, request_body=long_body("other")))
    kept.check(random.Random(0))


def test_the_same_piece_twice_in_a_body(kept: Kept) -> None:
    body = b'{"a":["%s","%s","%s"]}' % ((b"twice " * 200,) * 3)
    kept.write(exchange(1, request_body=body), exchange(2, session_id="b", request_body=body))
    assert sum(kept.ask("SELECT uses FROM blobs")) == 6
    kept.remove(1)
    kept.check(random.Random(0))
    kept.remove(2)
    assert kept.ask("SELECT uses FROM blobs") == []


# --- rows that are given again, undone, abandoned ---------------------------------------------------
def test_the_same_exchange_twice_in_one_batch(kept: Kept) -> None:
    one = exchange(1, request_body=long_body("one"))
    kept.write(exchange(1, None), one, one, exchange(1, State.TIMEOUT, request_body=b"other"))
    kept.there[1] = one
    kept.check(random.Random(0))
    assert kept.ask("SELECT uses FROM blobs") == [1]


def test_a_batch_that_failed_leaves_nothing_to_build_on(kept: Kept) -> None:
    """Heads of exchanges that were never stored are forgotten, also where others of the batch were based on them."""
    talks = Conversations(5, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(3)))
    lost = [talks.next(0, "grow") for _ in range(3)]
    assert kept.store._connection is not None
    pages = kept.ask("PRAGMA page_count")[0]
    kept.ask(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full"):
        kept.store.write([*lost, exchange(99, request_body=random.Random(0).randbytes(1 << 20))])
    kept.ask("PRAGMA max_page_count = 100000")
    kept.check(random.Random(0))
    kept.write(*lost[1:])  # the first is given up meanwhile
    kept.write(talks.next(0, "grow"))
    kept.check(random.Random(0))


def test_after_a_restart_a_session_goes_on_from_its_conversation(kept: Kept) -> None:
    """Not from a side call, nor from what was cut off and has no pack."""
    talks = Conversations(3, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(40)))
    kept.write(talks.next(0, "side"))
    kept.store.write([exchange(900, None, session_id="s0", sequence=900)])
    assert kept.store.interrupt_former("ffffffffffff") == 1
    kept.restart()
    kept.write(talks.next(0, "grow"))
    base, size = kept.store._connection.execute(  # type: ignore[union-attr]
        "SELECT base, length(data) FROM packs ORDER BY exchange DESC LIMIT 1"
    ).fetchone()
    assert base == kept.row(40) and size < 5000


def test_what_no_column_takes_is_left_out_alone(tmp_path: Path) -> None:
    warnings: list[str] = []
    store = SqliteStore(tmp_path / "s.db", warn=warnings.append)
    store.open()
    odd = exchange(2)
    odd.usage.input_tokens = 1 << 70
    store.write([exchange(1), odd, exchange(3, error="half \ud800"), exchange(4)])
    assert store._connection is not None
    assert [row[0] for row in store._connection.execute("SELECT id FROM exchanges")] == [f"{BOOT}-1", f"{BOOT}-4"]
    assert store.refused == 2 and len(warnings) == 2 and f"{BOOT}-2" in warnings[0]
    assert store._connection.execute("SELECT requests, input_tokens FROM sessions").fetchone() == (2, 20)
    store.close()


# --- readers ----------------------------------------------------------------------------------------
def test_a_reader_sees_one_moment(kept: Kept) -> None:
    """Between two statements of a reader others write and remove: it sees the state that it began with."""
    talks = Conversations(7, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(10)))
    before = dict(kept.there)
    with kept.old_reader.snapshot():
        assert kept.old_reader.value("SELECT count(*) FROM exchanges") == 10
        kept.remove(*range(1, 9))
        kept.write(talks.next(0, "grow"))
        for number, given in before.items():
            same(queries.bodies(kept.old_reader, f"{BOOT}-{number}"), given)
        assert kept.old_reader.value("SELECT count(*) FROM exchanges") == 10
    assert kept.old_reader.value("SELECT count(*) FROM exchanges") == 3
    kept.check(random.Random(0))


def test_a_snapshot_ends_with_its_block_also_after_an_error(kept: Kept) -> None:
    with pytest.raises(ZeroDivisionError), kept.old_reader.snapshot():
        kept.old_reader.value("SELECT count(*) FROM exchanges")
        raise ZeroDivisionError
    kept.write(exchange(1))
    assert kept.old_reader.value("SELECT count(*) FROM exchanges") == 1


def test_a_shelf_with_packs_from_before_a_removal(kept: Kept) -> None:
    """The reader has read the beginning; it is folded into the middle; then the reader wants the rest."""
    talks = Conversations(9, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(30)))
    for number in (5, 10, 15):
        same(queries.bodies(kept.old_reader, f"{BOOT}-{number}"), kept.there[number])
        kept.remove(*(n for n in list(kept.there) if n <= number))
        kept.check(random.Random(number))


def test_readers_while_everything_is_written_and_removed(kept: Kept) -> None:
    """Two threads read what is there while it is removed behind them: right bytes, or nothing, never wrong ones."""
    talks = Conversations(11, sessions=2)
    stop = threading.Event()
    wrong: list[str] = []
    seen: Counter[bool] = Counter()

    def reading(seed: int) -> None:
        chance = random.Random(seed)
        with Connection(kept.path) as db:
            while not stop.is_set():
                given = talks.made.get(chance.randint(1, max(1, len(talks.made))))
                if given is None:
                    continue
                found = queries.bodies(db, given.id)
                there = bool(found.request_headers)
                seen[there] += 1
                if found.trouble or (there and (found.request_body, found.response_body) != (
                    given.request_body, given.response_body
                )):  # fmt: skip
                    wrong.append(f"{given.id}: {found.trouble}")

    threads = [threading.Thread(target=reading, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(40):
            kept.write(*(talks.next(n % 2, "grow") for n in range(6)))
            if turn % 3 == 2:
                kept.remove(*random.Random(turn).sample(sorted(kept.there), len(kept.there) // 2))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert seen[True] > 20 and seen[False] > 20


def test_unpacking_in_threads(kept: Kept) -> None:
    """An object of zstandard used by two threads at once crashes the process."""
    chance = random.Random(4)
    plain = [chance.randbytes(1000) * chance.randint(1, 300) for _ in range(20)]
    packed = [packs.squeeze(each) for each in plain]
    wrong: list[int] = []

    def unpacking(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(150):
            number = order.randrange(20)
            if packs.unfold(packed[number]) != plain[number]:
                wrong.append(number)

    threads = [threading.Thread(target=unpacking, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- damage -----------------------------------------------------------------------------------------
def test_another_dictionary_is_an_error_not_other_bytes() -> None:
    base, other = b"the words of the base " * 50, b"quite another text here " * 50
    data = packs.squeeze(b"what is new: the words of the base " * 5, base)
    assert packs.unfold(data, base) == b"what is new: the words of the base " * 5
    with pytest.raises(StoreError, match="damaged"):
        packs.unfold(data, other)


def damaged(kind: str, data: bytes) -> bytes | None:
    match kind:
        case "cut":
            return data[: len(data) // 2]
        case "flipped":
            return data[:-6] + bytes([data[-6] ^ 0x10]) + data[-5:]
        case "empty":
            return b""
        case "words":
            return b"no frame at all"
        case "other":
            return packs.squeeze(b"\xc1 no pack")
        case "misfit":
            return packs.squeeze(packs.encode(packs.Pack(body=[packs.NEW, 5])))
        case "odd":
            return packs.squeeze(packs.encode(packs.Pack(body=[packs.NEW])))
        case _:
            return None


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "words", "other", "misfit", "odd", "gone"])
def test_a_damaged_pack_harms_only_those_above_it(kept: Kept, kind: str) -> None:
    talks = Conversations(13, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(6)))
    (data,) = kept.ask("SELECT data FROM packs WHERE exchange = ?", kept.row(3))
    broken = damaged(kind, data)
    if broken is None:
        kept.ask("DELETE FROM packs WHERE exchange = ?", kept.row(3))
    else:
        kept.ask("UPDATE packs SET data = ? WHERE exchange = ?", broken, kept.row(3))
    with Connection(kept.path) as db:
        for number in (1, 2):
            same(queries.bodies(db, f"{BOOT}-{number}"), kept.there[number])
        for number in (4, 5, 6):
            assert "cannot be read" in (queries.bodies(db, f"{BOOT}-{number}").trouble or "")
    kept.restart()
    talks.made.clear()
    kept.there = {}
    kept.write(exchange(50, session_id="s0", request_body=b'{"messages":["new"]}'))  # the session goes on
    with Connection(kept.path) as db:
        same(queries.bodies(db, f"{BOOT}-50"), kept.there[50])
    assert [step.done for step in kept.store.delete(["s0"])]
    for table in ("exchanges", "packs", "sessions"):
        assert kept.ask(f"SELECT count(*) FROM {table}") == [0], table
    assert kept.ask("PRAGMA integrity_check") == ["ok"]


def test_a_ring_of_bases_has_an_end(kept: Kept) -> None:
    talks = Conversations(13, sessions=1)
    kept.write(*(talks.next(0, "grow") for _ in range(4)))
    kept.ask("UPDATE packs SET base = ? WHERE exchange = ?", kept.row(4), kept.row(2))
    with Connection(kept.path) as db:
        assert "cannot be read" in (queries.bodies(db, f"{BOOT}-4").trouble or "")
    list(kept.store.delete(["s0"]))
    assert kept.ask("SELECT count(*) FROM exchanges") == [0]


# --- the parts --------------------------------------------------------------------------------------
fields = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "2"])), max_size=6)
texts = st.lists(st.sampled_from(["one", "two", "three", "long " * 120, "other " * 120]), max_size=6)


@given(st.lists(st.tuples(fields, texts, fields), min_size=2, max_size=5))
@settings(max_examples=150)
@example([([("a", "1")] * 3, ["one"] * 3, []), ([("a", "1")] * 2, ["one"] * 4, []), ([], ["one", "two"], [])])
def test_folding_a_pack_into_the_next_changes_nothing(made: list[tuple[Any, list[str], Any]]) -> None:
    """A chain of packs, each on the one before; then the links below the last are folded into it, one by one."""
    numbers: dict[bytes, int] = {}
    chain: list[packs.Pack] = []
    head: packs.Head | None = None
    for number, (asked, said, answered) in enumerate(made, start=1):
        body = b'{"m":[%s]}' % ",".join(f'"{text}"' for text in said).encode()
        one = exchange(number, request_body=body, request_headers=asked, response_headers=answered, cuts=cut(body))
        packed = packs.pack(one, [head] if head else [], lambda piece: numbers.setdefault(piece, len(numbers) + 1), {})
        chain.append(packs.decode(packed.plain))
        head = packed.as_head(number)
    blobs = {number: packs.squeeze(piece) for piece, number in numbers.items()}

    def whole(links: list[packs.Pack]) -> packs.Whole:
        based = {n: (n - 1, packs.squeeze(packs.encode(link), None)) for n, link in enumerate(links, start=1)}
        for n in range(2, len(links) + 1):
            based[n] = (n - 1, packs.squeeze(packs.encode(links[n - 1]), packs.encode(links[n - 2])))
        found = packs.Shelf(based.get, blobs.get).whole(len(links))
        assert found is not None
        return found

    expected = whole(chain)
    while len(chain) > 1:
        last = chain.pop()
        chain[-1] = packs.fold(last, chain[-1])
        found = whole(chain)
        assert (found.head, found.pieces, found.answer_head) == (expected.head, expected.pieces, expected.answer_head)
    assert all(start < 0 for start in (*chain[0].head[::2], *chain[0].body[::2], *chain[0].answer_head[::2]))


def test_heads_of_sessions_without_any_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "HEADS_SESSIONS", 10)
    heads = packs.Heads(lambda session: None)
    for number in range(1000):
        assert heads.of(f"s{number}") == []
    assert len(heads._known) <= 10


def test_a_shelf_counts_what_it_keeps() -> None:
    piece = random.Random(1).randbytes(100_000)
    packed = packs.squeeze(packs.encode(packs.Pack(body=[packs.BLOB, 1])))
    read: list[int] = []

    def blob(number: int) -> bytes:
        read.append(number)
        return packs.squeeze(piece)

    shelf = packs.Shelf(lambda number: (0, packed), blob, keep_bytes=150_000)
    for number in range(1, 6):
        found = shelf.whole(number)
        assert found is not None and found.pieces == [piece]
    assert read == [1]
    small = packs.Shelf(lambda number: (0, packed), blob, keep_bytes=50_000)
    for number in range(1, 6):
        small.whole(number)
    assert len(read) == 6
