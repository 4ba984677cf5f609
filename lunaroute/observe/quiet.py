"""Keeping the observer out of the way: scheduling class and memory given back. Linux first, harmless elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading

from lunaroute._fast.slice import lengthen

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_SLICE_PERCENT = 7000  # of the usual 1.4 ms: the kernel's bound is 100 ms


def yield_session() -> None:
    """All threads of this process, those made later too: a small share of the processor, and whoever wakes goes first.

    Linux divides the processor between sessions before it looks at their threads (autogroup, sched(7)), so SCHED_IDLE
    or a nice value count for nothing beside the relay's session and the client's. Where there are no autogroups,
    `step_back` is what counts. The long slice lets woken threads go ahead at once (_fast/slice.pyx).
    """
    share(19)
    lengthen(_SLICE_PERCENT)


def step_back() -> None:
    """This thread (only this one, on Linux) runs when nobody else wants to; threads made later inherit it."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        with contextlib.suppress(OSError):
            os.nice(19)


class Aside(threading.local):
    """Keeps each thread that asks off the processor that the relay runs on, as far as the thread may choose.

    Whatever its scheduling class, a thread that reads and compresses megabytes leaves cold caches to the relay, and a
    kernel that does not preempt lets it finish what it does there. The thread's own choice never goes beyond what it
    was allowed; where somebody else has chosen for it since, that is what it is allowed now.
    """

    def __init__(self) -> None:
        self._allowed: set[int] = set()
        self._chosen: set[int] | None = None
        self._off: int | None = None

    def keep_off(self, core: int | None) -> None:
        """From now on not on this processor; None: on any. Does nothing where that is so already."""
        if core == self._off or not hasattr(os, "sched_setaffinity"):
            return
        self._off = core
        now = os.sched_getaffinity(0)
        if now != self._chosen:
            self._allowed = now
        wanted = self._allowed - {core} or self._allowed
        if wanted != now:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, wanted)
        self._chosen = wanted


def share(nice: int) -> None:
    """The session's weight against other sessions, as a nice value."""
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "wb", buffering=0) as autogroup:
        autogroup.write(b"%d" % nice)


def tune_memory() -> None:
    """Large buffers go back to the system when freed (glibc by default learns to keep up to 64 MB of them)."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 512 * 1024)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * 1024 * 1024)


def trim_memory() -> None:
    """Give back what is free now."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
