"""What time it is for the upkeep: retention and the like. Must not know what is kept."""

from __future__ import annotations

import time


class Clock:
    """The wall clock as it was at the start, moved on by the steady one: a jump of the system's clock ages no file."""

    def __init__(self) -> None:
        steady = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self._steady = steady
        self._offset = time.time() - time.clock_gettime(steady)

    def now(self) -> float:
        return self._offset + time.clock_gettime(self._steady)
