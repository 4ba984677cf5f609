"""A single-producer single-consumer ring of events in shared memory. See ring.pyx for the layout."""

from collections.abc import Iterable

HEADER_BYTES: int

class Writer:
    """The relay's end. Appends, never waits; what has no room is dropped and counted.

    size: bytes of the data area, a power of two, at least 64 KiB.
    """

    ring_fd: int
    wake_fd: int
    boot_id: str
    def __init__(self, size: int = ...) -> None: ...
    def event(self, kind: int, exchange: int, time_ns: int, payload: bytes) -> bool:
        """Append one event; False when it was dropped."""
    def add(self, counter: int, by: int = 1) -> None:
        """Bump a counter (an index into tap.COUNTERS)."""
    def counter(self, counter: int) -> int: ...
    def used(self) -> int:
        """Bytes written and not yet released by the reader."""
    @property
    def position(self) -> int:
        """Bytes written so far, fillings included."""
    @property
    def written(self) -> int:
        """Bytes of all events so far, without fillings."""
    def idle(self) -> bool:
        """To be called now and then: where the ring is empty, its pages are given back to the system. True if so."""
    def populate(self, ahead: int) -> int:
        """Make the next `ahead` bytes' pages present (Linux); bytes done. Releases the GIL; call it off the loop."""
    def close(self) -> None:
        """Mark the ring as ended cleanly and wake the reader."""

class Reader:
    """The observer's end, over descriptors inherited from the relay."""

    boot_id: str
    size: int
    def __init__(self, ring_fd: int, wake_fd: int) -> None: ...
    @property
    def position(self) -> int:
        """Where the next read begins; a value for release()."""
    @property
    def used_bytes(self) -> int:
        """Bytes written and not yet released."""
    @property
    def unread_bytes(self) -> int: ...
    @property
    def closed(self) -> bool:
        """The relay ended cleanly; what is still unread is all there will be."""
    @property
    def core(self) -> int | None:
        """The processor that the relay ran on when an exchange last ended; None where that is not known."""
    def read(self, max_bytes: int = ...) -> list[tuple[int, int, int, bytes]]:
        """Events (kind, exchange, time_ns, payload) up to about max_bytes; empty when there are none. Never waits."""
    def release(self, keep_from: int | None = None) -> None:
        """Give space back: all before `keep_from` (default: all that was read)."""
    def wait(self, timeout_s: float) -> bool:
        """Sleep until an exchange has ended, much is unread or the time is over; True if there is something to read.
        Releases the GIL."""
    def counters(self, names: Iterable[str] = ...) -> dict[str, int]:
        """The relay's counters, by name (tap.COUNTERS order when names is not given)."""
