"""A store behind a backlog: it may fail as long as it likes, and takes up again by itself. Must not know which store.

Records wait in memory while the store fails, up to a bound in bytes; beyond it the oldest are given up and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from lunaroute.errors import StoreError
from lunaroute.records import Exchange, Record
from lunaroute.stores import Store

MAX_BACKLOG_BYTES = 16 * 1024 * 1024
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 15.0
_RECORD_BYTES = 4096  # about what a record weighs without its bodies


class Sink:
    """One store. `warn(message)` is called when it begins to fail and when it works again, not for each failure."""

    def __init__(
        self, store: Store, *, warn: Callable[[str], None], clock: Callable[[], float], limit: int = MAX_BACKLOG_BYTES
    ) -> None:
        self.store = store
        self._warn = warn
        self._clock = clock
        self._limit = limit
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._pause = FIRST_RETRY_S
        self._next_try = 0.0
        self._opened = False
        self.error: str | None = None
        self.lost = 0
        self.failures = 0  # writes and upkeeps
        self._said_lost = 0

    def __repr__(self) -> str:
        return f"<Sink {self.store.name} {self.error or 'ok'}, {len(self._waiting)} waiting, {self.lost} lost>"

    @property
    def missing(self) -> int:
        """Exchanges that are not in the store: given up here, or refused there."""
        return self.lost + self.store.refused

    @property
    def waiting_bytes(self) -> int:
        """About what waits for the store takes in memory."""
        return self._bytes

    @property
    def clear(self) -> bool:
        """Nothing waits: all that was given is stored (or lost and counted)."""
        return not self._waiting

    def write(self, records: Sequence[Record]) -> None:
        """Store the records, with what waits before them; never raises."""
        for record in records:
            self._waiting.append(record)
            self._bytes += weight(record)
        if self._clock() >= self._next_try:
            self._try()
        while self._bytes > self._limit and self._waiting:
            gone = self._waiting.popleft()
            self._bytes -= weight(gone)
            if isinstance(gone, Exchange) and gone.state is not None:
                self.lost += 1

    def flush(self) -> None:
        """A last attempt, whatever the back-off says; what still waits then is lost."""
        if self._waiting or not self._opened:
            self._try()
        self.lost += sum(1 for record in self._waiting if isinstance(record, Exchange) and record.state is not None)
        if self._waiting:
            self._warn(f"{self.store.name}: {self.lost} exchanges could not be stored: {self.error}")
        self._waiting.clear()
        self._bytes = 0

    def tend(self, now: float) -> Iterator[object]:
        """The store's upkeep, in steps; a failure is a warning."""
        if self.error is None and self._opened:
            try:
                yield from self.store.tend_steps(now)
            except StoreError as error:
                self.failures += 1
                self._warn(f"{self.store.name}: {error}")

    def _try(self) -> None:
        try:
            if not self._opened:
                self.store.open()
                self._opened = True
            if self._waiting:
                self.store.write(list(self._waiting))
        except StoreError as error:
            self._failed(str(error))
            return
        self._waiting.clear()
        self._bytes = 0
        self._pause = FIRST_RETRY_S
        if self.error is not None:
            self.error = None
            lost = self.lost - self._said_lost
            self._said_lost = self.lost
            self._warn(f"{self.store.name}: recording works again; {lost} exchanges were lost meanwhile")

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if self.error is None:
            self._warn(f"{self.store.name}: recording fails, requests are not affected: {reason}")
        self.error = reason
        self._next_try = self._clock() + self._pause
        self._pause = min(self._pause * 2, LAST_RETRY_S)


def weight(record: Record) -> int:
    """About what a record costs in memory."""
    if isinstance(record, Exchange):
        return _RECORD_BYTES + len(record.request_body) + len(record.response_body)
    return 512


def settled(records: Sequence[Record]) -> list[Record]:
    """The batch with only the last word on each exchange, in order of those last words."""
    last: dict[str, Record] = {}
    for record in records:
        last.pop(record.id, None)
        last[record.id] = record
    return list(last.values())
