"""Stores: where records are kept. Each is used by one thread only, and may fail at any time without harm to the rest.

Must not know where records come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from lunaroute.records import Record


class Store(Protocol):
    """One place for records.

    `write` keeps a batch whole or not at all as far as the medium allows, and raises StoreError where it could not. It
    is idempotent by exchange id: a batch may be given again after an error, and a restarted observer gives again what
    its predecessor may have written.
    """

    name: str
    path: Path
    refused: int  # records that it cannot take whatever is done, left out so that the others are kept
    removed: int  # what upkeep removed for its age, or for want of room

    def open(self) -> None:
        """Make ready to write; raises StoreError. May be called again after a failure."""

    def write(self, batch: Sequence[Record]) -> None:
        """Keep the batch; raises StoreError."""

    def tend_steps(self, now: float) -> Iterator[object]:
        """Regular upkeep (retention), `now` in seconds since the epoch; may raise StoreError.

        In steps of some milliseconds: between two of them records may be written. An upkeep that is given up half way
        leaves nothing wrong behind.
        """

    @property
    def overfull(self) -> bool:
        """Whether upkeep should come early: more is kept than may be."""

    def size(self) -> int:
        """Bytes on disk, as far as known."""

    def close(self) -> None:
        """Give everything back; never raises."""
