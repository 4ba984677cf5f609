"""The relay's time slice: a little longer than everybody else's, nothing else of its scheduling changed."""

import ctypes
import os
import struct
import threading
import time
from pathlib import Path

from lunaroute._fast.slice import lengthen
from tests.conftest import Serve
from tests.running import processes_of

_ATTR = struct.Struct("<IIQiIQQQ")  # sched_setattr(2): size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}


def attributes(pid: int) -> tuple[int, ...] | None:
    """As the kernel tells them; None on other systems."""
    number = _SCHED_GETATTR.get(os.uname().machine) if os.uname().sysname == "Linux" else None
    if number is None:
        return None
    room = ctypes.create_string_buffer(_ATTR.size)
    assert ctypes.CDLL(None).syscall(number, pid, room, _ATTR.size, 0) == 0
    return _ATTR.unpack(room.raw)


def test_longer_by_a_tenth() -> None:
    seen: list[tuple[tuple[int, ...] | None, int, tuple[int, ...] | None]] = []

    def run() -> None:
        seen.append((attributes(0), lengthen(10), attributes(0)))

    thread = threading.Thread(target=run)  # the slice belongs to a thread: this process keeps its own
    thread.start()
    thread.join()
    before, now, after = seen[0]
    if before is None or after is None:
        assert now == 0 or os.uname().sysname == "Linux"
        return
    policy, nice, slice_ns = before[1], before[3], before[5]
    assert now == (slice_ns * 11 // 10 if slice_ns else 0)  # a kernel before 6.12 tells no slice and is left alone
    assert (after[1], after[3], after[5]) == (policy, nice, now or slice_ns)


def test_another_policy_is_left_alone() -> None:
    seen: list[int] = []

    def run() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        seen.append(lengthen(10))

    if hasattr(os, "sched_setscheduler"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert seen == [0]


def test_relay_and_observer_as_they_run(serve: Serve) -> None:
    """The relay's slice is longer than ours, the observer's longest, and its session has the smallest share."""
    running = serve("http://127.0.0.1:9")
    assert running.process
    family = processes_of(running.process.pid)
    # the server answers before its observer is there: what only the observer can tell comes once it has settled
    until = time.monotonic() + 20
    while running.get("/metrics")[0] != 200 and time.monotonic() < until:
        pass
    own, *slices = (attributes(pid) for pid in (0, *family))
    shares = [Path(f"/proc/{pid}/autogroup") for pid in family]
    if all(share.exists() for share in shares):
        assert [share.read_text().endswith("nice 19\n") for share in shares] == [False, True]
    if own is not None and own[5]:
        found = [each[5] for each in slices if each is not None]
        assert own[5] < found[0] < found[1] == 100_000_000
