"""The two threads that take turns: who works when, that they never do at the same time, and how it ends."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from lunaroute.observe.gears import ALL_SHARE, FED, HIGH_SHARE, LOW_SHARE, STARVED, WINDOW_S, Gears, waited_ns


class Machine:
    """A clock by hand, and how much of the time the working thread waits for a processor."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited = 0
        self.shares: list[int] = []
        self.worked: list[str] = []
        self.at_work = threading.Lock()

    def gears(self, turns: list[float], then: Callable[[Gears, int], None] = lambda gears, number: None) -> Gears:
        """Turns of a window's length, of which those parts are waiting."""
        left = iter(enumerate(turns))

        def turn() -> bool:
            assert self.at_work.acquire(blocking=False), "two turns at the same time"
            number, part = next(left)
            self.worked.append("low" if threading.current_thread() is not threading.main_thread() else "high")
            self.now += WINDOW_S
            self.waited += int(part * WINDOW_S * 1e9)
            then(gears, number)
            self.at_work.release()
            return number < len(turns) - 1

        gears = Gears(turn, waited=lambda: self.waited, clock=lambda: self.now, share=self.shares.append)
        return gears


LITTLE, MUCH, BETWEEN = FED / 2, STARVED * 1.5, (FED + STARVED) / 2


@pytest.mark.parametrize(
    ("turns", "worked", "shares"),
    [
        ([LITTLE, LITTLE, LITTLE], ["low"] * 3, []),
        ([LITTLE, MUCH, MUCH, LITTLE, LITTLE], ["low", "low", "high", "high", "low"], [HIGH_SHARE, LOW_SHARE]),
        ([MUCH, BETWEEN, BETWEEN], ["low", "high", "high"], [HIGH_SHARE]),
        ([BETWEEN, BETWEEN], ["low"] * 2, []),
    ],
    ids=["undisturbed", "starved, then fed", "still disturbed", "disturbed a little"],
)
def test_who_works(turns: list[float], worked: list[str], shares: list[int]) -> None:
    machine = Machine()
    machine.gears(turns).run()
    assert (machine.worked, machine.shares) == (worked, shares)


def test_a_hurry_is_for_good() -> None:
    machine = Machine()
    machine.gears([LITTLE] * 5, lambda gears, number: gears.hurry() if number == 1 else None).run()
    assert machine.worked == ["low", "low", "high", "high", "high"]
    assert machine.shares == [ALL_SHARE]


def test_a_shift_at_any_moment_hands_over_and_ends() -> None:
    """Both threads shift as fast as they can; each turn is done by one alone, and none is lost."""
    at_work, done = threading.Lock(), [0]

    def turn() -> bool:
        assert at_work.acquire(blocking=False), "two turns at the same time"
        done[0] += 1
        gears._low = not gears._low
        at_work.release()
        return done[0] < 5000

    gears = Gears(turn, waited=lambda: None, share=lambda nice: None)
    running = threading.Thread(target=gears.run, daemon=True)
    running.start()
    running.join(30)
    assert not running.is_alive()
    assert done[0] == 5000


@pytest.mark.parametrize("gear", ["low", "high"])
def test_what_a_turn_raises_is_raised(gear: str) -> None:
    machine = Machine()

    def fail(_: Gears, number: int) -> None:
        if machine.worked[-1] == gear:
            raise ValueError(gear)

    with pytest.raises(ValueError, match=gear):
        machine.gears([MUCH] * 5, fail).run()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread waited")
def test_the_low_thread_is_of_the_idle_class_and_the_other_is_not() -> None:
    seen: list[int] = []
    parts = iter([MUCH, LITTLE])
    machine = Machine()

    def turn() -> bool:
        seen.append(os.sched_getscheduler(0))
        machine.now += WINDOW_S
        machine.waited += int(next(parts) * WINDOW_S * 1e9)
        return len(seen) < 2

    Gears(turn, waited=lambda: machine.waited, clock=lambda: machine.now, share=machine.shares.append).run()
    assert seen == [os.SCHED_IDLE, os.SCHED_OTHER]
    assert waited_ns() is not None
