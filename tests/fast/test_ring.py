"""The ring between relay and observer: any sizes, round and round, with a slow reader, and with two processes."""

from __future__ import annotations

import mmap
import os
import select
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute import tap
from lunaroute._fast.ring import HEADER_BYTES, Reader, Writer

SMALL = 65_536
Event = tuple[int, int, int, bytes]


def pair_of(size: int = SMALL) -> tuple[Writer, Reader]:
    writer = Writer(size)
    return writer, Reader(writer.ring_fd, writer.wake_fd)


def counted(writer: Writer, name: str) -> int:
    return writer.counter(tap.COUNTERS.index(name))


def drain(reader: Reader) -> list[Event]:
    found: list[Event] = []
    while new := reader.read():
        found += new
    reader.release()
    return found


payloads = st.one_of(
    st.binary(max_size=64),
    st.integers(0, 3).map(lambda n: bytes(n * 7919)),
    st.integers(0, 9000).map(lambda n: b"x" * n),
)
events = st.tuples(st.integers(1, 10), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), payloads)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(events, st.just("read")), max_size=120))
def test_what_is_written_is_read_in_order_however_it_wraps(steps: list[Event | str]) -> None:
    """The oracle is a queue; a drop is told by False and counted, and changes nothing else."""
    writer, reader = pair_of()
    expected: deque[Event] = deque()
    dropped = lost = 0
    for step in steps:
        if isinstance(step, str):
            assert drain(reader) == list(expected)
            expected.clear()
        elif writer.event(*step):
            expected.append(step)
        else:
            dropped += 1
            lost += len(step[3])
    assert drain(reader) == list(expected)
    assert reader.used_bytes == reader.unread_bytes == 0
    assert counted(writer, "tap_dropped_events_total") == dropped
    assert counted(writer, "tap_dropped_bytes_total") == lost


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=300), st.integers(1, 20_000))
def test_a_reader_that_always_comes_loses_nothing(sizes: list[int], at_once: int) -> None:
    writer, reader = pair_of()
    for number, size in enumerate(sizes):
        event = (tap.RESPONSE_BODY, number, number, bytes([number % 256]) * size)
        assert writer.event(*event)
        got: list[Event] = []
        while new := reader.read(at_once):
            got += new
        assert got == [event]
        reader.release()
    assert counted(writer, "tap_dropped_events_total") == 0
    assert counted(writer, "tap_events_total") == len(sizes)


def test_a_full_ring_drops_and_counts_and_never_waits() -> None:
    writer, reader = pair_of()
    written = 0
    while writer.event(tap.RESPONSE_BODY, 1, written, b"x" * 1000):
        written += 1
    assert 40 < written < 66
    assert not writer.event(tap.RESPONSE_BODY, 1, 0, b"x" * 1000)
    assert counted(writer, "tap_dropped_events_total") == 2
    assert counted(writer, "tap_dropped_bytes_total") == 2000
    assert [event[2] for event in drain(reader)] == list(range(written))
    assert writer.event(tap.RESPONSE_BODY, 1, 0, b"x" * 1000), "there is room again"


def test_ends_have_room_where_bodies_have_none() -> None:
    writer, reader = pair_of()
    while writer.event(tap.RESPONSE_BODY, 1, 0, b"x" * 1000):
        pass
    assert writer.event(tap.CLOSE, 1, 5, b"end")
    assert drain(reader)[-1] == (tap.CLOSE, 1, 5, b"end")


def test_what_can_never_fit_is_dropped() -> None:
    writer, reader = pair_of()
    assert not writer.event(tap.OPEN, 1, 0, b"x" * (SMALL + 1))
    assert counted(writer, "tap_dropped_exchanges_total") == 1
    assert drain(reader) == []
    assert writer.event(tap.OPEN, 2, 0, b"ok")
    assert drain(reader) == [(tap.OPEN, 2, 0, b"ok")]


def test_a_restarted_reader_reads_again_what_was_not_released() -> None:
    writer, first = pair_of()
    for number in range(10):
        writer.event(tap.CLOSE, number, 0, b"")
    assert len(first.read()) == 10
    kept = first.position
    writer.event(tap.CLOSE, 10, 0, b"")
    first.read()
    first.release(kept)
    del first
    second = Reader(writer.ring_fd, writer.wake_fd)
    assert [event[1] for event in second.read()] == [10]
    second.release()
    assert [event[1] for event in Reader(writer.ring_fd, writer.wake_fd).read()] == []


def test_only_what_was_read_can_be_released() -> None:
    writer, reader = pair_of()
    writer.event(tap.CLOSE, 1, 0, b"")
    with pytest.raises(ValueError, match="not read"):
        reader.release(reader.position + 8)
    reader.release()
    assert reader.used_bytes > 0, "nothing was read, so nothing was given back"


def test_a_gap_is_not_taken_for_the_end() -> None:
    """The writer begins anew at the front where the ring is empty: a gap larger than what one read takes."""
    writer, reader = pair_of(8 << 20)
    for _ in range(6):
        writer.event(tap.RESPONSE_BODY, 1, 0, b"x" * 250_000)
    drain(reader)
    writer.event(tap.OPEN, 2, 0, b"far away")
    assert reader.read() == [(tap.OPEN, 2, 0, b"far away")]


@pytest.mark.parametrize("rewound_by", ["the next exchange", "a pause"])
def test_a_ring_begun_anew_has_all_its_room(rewound_by: str) -> None:
    """The gap that is skipped then is no data: nothing may be dropped for it until the reader comes by."""
    writer, reader = pair_of(8 << 20)
    for _ in range(6):
        writer.event(tap.RESPONSE_BODY, 1, 0, b"x" * 250_000)
    drain(reader)
    if rewound_by == "a pause":
        assert writer.idle()
    told = [event for number in range(40) for event in exchange_of(number)]
    for event in told:
        assert writer.event(*event), "there was room"
    assert counted(writer, "tap_dropped_events_total") == 0
    assert reader.used_bytes == writer.used() < 5 << 20
    assert drain(reader) == told
    assert reader.used_bytes == 0


def exchange_of(number: int) -> list[Event]:
    return [
        (tap.OPEN, number, 0, b"POST / HTTP/1.1\r\n\r\n"),
        (tap.REQUEST_BODY, number, 1, b"x" * 100_000),
        (tap.CLOSE, number, 2, b""),
    ]


def test_light_load_loses_nothing() -> None:
    """Through several rewinds, with a reader that comes by only now and then, as the observer does."""
    writer, reader = pair_of(4 << 20)
    got: list[Event] = []
    told: list[Event] = []
    for number in range(400):
        for event in exchange_of(number)[::2]:
            told.append(event)
            assert writer.event(*event)
        body = (tap.RESPONSE_BODY, number, 1, b"y" * 20_000)
        told.append(body)
        assert writer.event(*body)
        if number % 11 == 10:
            got += drain(reader)
    assert got + drain(reader) == told
    assert counted(writer, "tap_dropped_events_total") == 0


def test_reading_is_bounded() -> None:
    writer, reader = pair_of()
    for number in range(20):
        writer.event(tap.CLOSE, number, 0, b"x" * 1000)
    got = reader.read(3000)
    assert 1 <= len(got) <= 4
    assert [event[1] for event in got + drain(reader)] == list(range(20))


def test_waiting_ends_when_something_comes_and_when_the_ring_is_closed() -> None:
    writer, reader = pair_of()
    assert not reader.wait(0)
    writer.event(tap.CLOSE, 1, 0, b"")
    assert reader.wait(10)
    reader.read()
    assert not reader.closed
    writer.close()
    assert reader.closed
    reader.wait(10)
    assert reader.read() == []


def test_what_was_written_is_counted_without_the_gaps_of_a_new_beginning() -> None:
    writer, reader = pair_of(4 << 20)
    for _ in range(5):
        for number in range(1500):
            writer.event(tap.CLOSE, number, 0, bytes(1000))
        drain(reader)
        reader.release()
    assert writer.written == 5 * 1500 * 1024
    assert writer.position >= writer.written
    before = writer.written
    assert writer.idle()  # begins anew
    assert writer.written == before


def test_pages_that_were_made_ready_and_never_used_are_given_back() -> None:
    writer, _ = pair_of(4 << 20)
    assert writer.populate(2 << 20) == 2 << 20
    assert writer.idle()
    assert os.stat(f"/proc/self/fd/{writer.ring_fd}").st_blocks * 512 <= HEADER_BYTES
    assert not writer.idle(), "nothing is left to give back"


def test_a_sleeping_reader_is_woken_by_an_end_and_by_much_but_not_by_a_beginning() -> None:
    writer, _ = pair_of(4 << 20)
    with mmap.mmap(writer.ring_fd, HEADER_BYTES) as header:

        def rings(kind: int, size: int) -> bool:
            header[192:200] = (1).to_bytes(8, "little")  # as a reader does before it sleeps
            writer.event(kind, 1, 0, bytes(size))
            ready, _, _ = select.select([writer.wake_fd], [], [], 0)
            if ready:
                os.read(writer.wake_fd, 8)
            return bool(ready)

        assert [rings(kind, 100) for kind in (tap.OPEN, tap.REQUEST_BODY, tap.RESPONSE_BODY)] == [False] * 3
        assert rings(tap.CLOSE, 0)
        assert not rings(tap.OPEN, 100)
        assert rings(tap.RESPONSE_BODY, 1 << 20)


def test_the_reader_knows_the_processor_of_the_relay() -> None:
    writer, reader = pair_of()
    assert reader.core is None
    writer.event(tap.CLOSE, 1, 0, b"")
    if sys.platform == "linux":
        assert reader.core in os.sched_getaffinity(0)
    else:
        assert reader.core is None


def test_idle_pages_are_given_back_and_the_ring_goes_on() -> None:
    writer, reader = pair_of(1 << 20)
    for _ in range(3):
        for number in range(100):
            writer.event(tap.CLOSE, number, 0, b"x" * 4000)
        if not drain(reader):
            raise AssertionError
        assert writer.idle()
        assert not writer.idle(), "there is nothing to give back any more"
        writer.event(tap.CLOSE, 7, 0, b"after")
        assert drain(reader) == [(tap.CLOSE, 7, 0, b"after")]


def test_a_ring_that_is_not_empty_keeps_its_pages() -> None:
    writer, reader = pair_of()
    writer.event(tap.CLOSE, 1, 0, b"kept")
    assert not writer.idle()
    assert drain(reader) == [(tap.CLOSE, 1, 0, b"kept")]


def test_populating_changes_nothing_that_is_read() -> None:
    writer, reader = pair_of(1 << 20)
    writer.event(tap.CLOSE, 1, 0, b"before")
    writer.populate(1 << 20)
    writer.event(tap.CLOSE, 2, 0, b"after")
    assert [event[3] for event in drain(reader)] == [b"before", b"after"]


@pytest.mark.parametrize("size", [0, 4096, 65_537, 100_000])
def test_sizes_are_powers_of_two(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Writer(size)


def test_a_foreign_file_is_no_ring() -> None:
    fd = os.memfd_create("other") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
    os.ftruncate(fd, SMALL + 4096)
    with pytest.raises(ValueError, match="not a tap ring"):
        Reader(fd, fd)
    os.close(fd)


def test_counters_are_shared_and_bounded() -> None:
    writer, reader = pair_of()
    for index, name in enumerate(tap.COUNTERS):
        writer.add(index, index + 1)
        assert reader.counters()[name] == index + 1
    with pytest.raises(IndexError):
        writer.add(64)
    with pytest.raises(IndexError):
        writer.counter(-1)
    assert reader.boot_id == writer.boot_id != Writer(SMALL).boot_id


READING = """
import hashlib, sys
from lunaroute._fast.ring import Reader
reader = Reader(int(sys.argv[1]), int(sys.argv[2]))
seen, digest, last = 0, hashlib.sha256(), -1
while True:
    closed = reader.closed
    for kind, exchange, time_ns, payload in reader.read(20_000):
        assert exchange > last and time_ns == -exchange and len(payload) == exchange % 1999
        assert payload == bytes([exchange % 256]) * len(payload)
        last = exchange
        seen += 1
        digest.update(payload)
    reader.release()
    if closed and not reader.unread_bytes:
        break
    reader.wait(1)
print(seen, digest.hexdigest())
"""


@pytest.mark.parametrize(("size", "burst"), [(SMALL, 0), (4 << 20, 2000)], ids=["full", "begun anew"])
def test_two_processes_at_full_speed_agree(size: int, burst: int) -> None:
    """The writer never waits: what the reader did not get must be exactly what was counted as dropped. Where it lets
    the reader catch up after each burst, the ring is begun anew again and again, under the reader's eyes."""
    import hashlib

    writer = Writer(size)
    process = subprocess.Popen(
        [sys.executable, "-c", READING, str(writer.ring_fd), str(writer.wake_fd)],
        pass_fds=(writer.ring_fd, writer.wake_fd),
        stdout=subprocess.PIPE,
        cwd=Path(tap.__file__).parent.parent,
    )
    kept, digest = 0, hashlib.sha256()
    kinds = (tap.OPEN, tap.RESPONSE_BODY)  # a ring is begun anew with an exchange
    for number in range(200_000):
        payload = bytes([number % 256]) * (number % 1999)
        if writer.event(kinds[number % 2] if burst else tap.RESPONSE_BODY, number, -number, payload):
            kept += 1
            digest.update(payload)
        if burst and number % burst == 0:
            until = time.monotonic() + 20
            while writer.used() and time.monotonic() < until:
                pass
    writer.close()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.decode().split() == [str(kept), digest.hexdigest()]
    assert kept + counted(writer, "tap_dropped_events_total") == 200_000
    assert not burst or counted(writer, "tap_dropped_events_total") == 0
