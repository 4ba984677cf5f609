"""Stores: where records are kept. Each is used by one thread only, and may fail at any time without harm to the rest.

Must not know where records come from.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def open(self) -> None:
        """Make ready to write; raises StoreError. May be called again after a failure."""

    def write(self, batch: Sequence[Record]) -> None:
        """Keep the batch; raises StoreError."""

    def tend(self, now: float) -> None:
        """Regular upkeep (retention), `now` in seconds since the epoch; raises StoreError."""

    def size(self) -> int:
        """Bytes on disk, as far as known."""

    def close(self) -> None:
        """Give everything back; never raises."""
