"""A store that fails and recovers, against a hand-driven clock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lunaroute.errors import StoreError
from lunaroute.observe.sink import Sink, settled
from lunaroute.records import Record
from tests.stores.records import exchange, opened


class Shelf:
    """A store that fails while it is told to."""

    name = "shelf"
    path = Path("/shelf")

    def __init__(self) -> None:
        self.refused = self.removed = 0
        self.kept: list[str] = []
        self.tries = 0
        self.fault: str | None = None
        self.no_open: str | None = None
        self.tended: list[float] = []

    def open(self) -> None:
        if self.no_open:
            raise StoreError(self.no_open)

    def write(self, batch: Sequence[Record]) -> None:
        self.tries += 1
        if self.fault:
            raise StoreError(self.fault)
        self.kept += [record.id[-1] for record in batch]

    def tend_steps(self, now: float) -> Iterator[object]:
        self.tended.append(now)
        yield
        if self.fault:
            raise StoreError(self.fault)

    @property
    def overfull(self) -> bool:
        return False

    def size(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Made:
    def __init__(self, limit: int = 1 << 20) -> None:
        self.now = 100.0
        self.shelf = Shelf()
        self.warnings: list[str] = []
        self.sink = Sink(self.shelf, warn=self.warnings.append, clock=lambda: self.now, limit=limit)


@pytest.fixture
def made() -> Made:
    return Made()


def test_records_go_through(made: Made) -> None:
    made.sink.write([opened(1), exchange(1)])
    assert made.shelf.kept == ["1", "1"]
    assert made.sink.clear and made.sink.error is None


def test_what_fails_waits_and_keeps_its_order(made: Made) -> None:
    made.shelf.fault = "disk full"
    made.sink.write([exchange(1)])
    assert not made.sink.clear and made.sink.error == "disk full"
    made.sink.write([exchange(2)])
    assert made.shelf.tries == 1, "no second attempt before the pause is over"
    made.shelf.fault = None
    made.now += 1.0
    made.sink.write([exchange(3)])
    assert made.shelf.kept == ["1", "2", "3"]
    assert made.sink.clear and made.sink.error is None
    assert len(made.warnings) == 2 and "0 exchanges were lost" in made.warnings[1]


def test_the_pause_doubles_up_to_its_bound(made: Made) -> None:
    made.shelf.fault = "x"
    tried = []
    for _ in range(120):
        before = made.shelf.tries
        made.sink.write([exchange(1)] if made.shelf.tries == 0 else [])
        if made.shelf.tries > before:
            tried.append(made.now)
        made.now += 1.0
    gaps = [b - a for a, b in itertools.pairwise(tried)]
    assert gaps[:5] == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert set(gaps[5:]) == {15.0}
    assert made.sink.failures == len(tried) and made.sink.waiting_bytes > 0
    assert len(made.warnings) == 1, "one warning for one trouble"


def test_beyond_the_bound_the_oldest_are_lost_and_counted() -> None:
    made = Made(limit=30_000)
    made.shelf.fault = "x"
    made.sink.write([opened(1), *(exchange(n, request_body=b"b" * 6_000) for n in range(1, 6))])
    assert made.sink.lost == 3
    made.shelf.fault = None
    made.now += 1.0
    made.sink.write([])
    assert made.shelf.kept == ["4", "5"]
    assert "3 exchanges were lost" in made.warnings[-1]


def test_a_store_that_cannot_be_opened_yet(made: Made) -> None:
    made.shelf.no_open = "in use by another LunaRoute"
    made.sink.write([])
    assert made.sink.error == "in use by another LunaRoute"
    made.sink.write([exchange(1)])
    made.shelf.no_open = None
    made.now += 1.0
    made.sink.write([])
    assert made.shelf.kept == ["1"] and made.sink.error is None


def test_the_last_attempt_ignores_the_pause(made: Made) -> None:
    made.shelf.fault = "x"
    made.sink.write([exchange(1)])
    made.shelf.fault = None
    made.sink.flush()
    assert made.shelf.kept == ["1"] and made.sink.lost == 0


def test_what_the_last_attempt_cannot_store_is_lost_and_said(made: Made) -> None:
    made.shelf.fault = "x"
    made.sink.write([exchange(1), exchange(2, None)])
    made.sink.flush()
    assert made.sink.lost == 1 and "1 exchanges could not be stored" in made.warnings[-1]


def test_upkeep_only_of_a_store_that_works(made: Made) -> None:
    assert list(made.sink.tend(5.0)) == []
    made.sink.write([])
    assert len(list(made.sink.tend(6.0))) == 1
    made.shelf.fault = "cannot remove"
    assert len(list(made.sink.tend(7.0))) == 1
    assert made.shelf.tended == [6.0, 7.0]
    assert made.warnings == ["shelf: cannot remove"]


def test_what_the_store_refuses_is_missing_too(made: Made) -> None:
    made.sink.write([exchange(1)])
    assert made.sink.missing == 0
    made.shelf.refused = 2
    assert (made.sink.missing, made.sink.lost) == (2, 0)
    made.sink.lost = 3
    assert made.sink.missing == 5


def test_settled_keeps_the_last_word_on_each() -> None:
    batch: list[Record] = [opened(1), opened(2), exchange(1, None), exchange(3), exchange(1), exchange(2, None)]
    assert settled(batch) == [batch[3], batch[4], batch[5]]
