"""Which of two threads does the observer's work: one that runs when nobody else wants to, or the ordinary one.

Out of everybody's way is right as long as the work gets done. Where the machine is busy with something else (a build on
all cores), a thread of the idle class gets a hundredth of a processor: the record lags by minutes, and in the end the
ring is full. A thread that has stepped back cannot step forward again without privileges (sched(7), RLIMIT_NICE), so
there are two of them, and they never work at the same time: what they work on needs no locks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from lunaroute.observe import quiet

WINDOW_S = 1.0
STARVED = 0.5  # of the time the thread wanted to run and could not
FED = 0.2
_SCHEDSTAT = Path("/proc/thread-self/schedstat")  # ns on a processor, ns waiting for one, time slices

LOW_SHARE, HIGH_SHARE, ALL_SHARE = 19, 5, 0  # nice values of the session (autogroup)


def waited_ns() -> int | None:
    """How long this thread has waited for a processor so far; None where the system does not tell."""
    try:
        return int(_SCHEDSTAT.read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None


class Gears:
    """Calls turn() again and again until it says False. Begins low; `run` is called in the ordinary thread.

    waited: for the calling thread, as `waited_ns`; share: sets the session's weight.
    """

    def __init__(
        self,
        turn: Callable[[], bool],
        *,
        waited: Callable[[], int | None] = waited_ns,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[int], None] = quiet.share,
    ) -> None:
        self._turn, self._waited, self._clock, self._share = turn, waited, clock, share
        self._shifted = threading.Condition()
        self._baton = threading.Lock()
        self._low = True
        self._hurry = False
        self._going = True
        self._failure: BaseException | None = None
        self._since = clock()
        self._before: int | None = None

    def __repr__(self) -> str:
        return f"<Gears {'low' if self._low else 'high'}>"

    def run(self) -> None:
        """Raises what a turn raised."""
        low = threading.Thread(target=self._work, args=(True,), name="lunaroute-low", daemon=True)
        low.start()
        self._work(False)
        low.join()
        if self._failure is not None:
            raise self._failure

    def hurry(self) -> None:
        """From the next turn on nothing is done low: somebody waits for us to finish. Called by a turn."""
        if not self._hurry:
            self._hurry = True
            self._share(ALL_SHARE)
            self._low = False

    def _work(self, low: bool) -> None:
        if low:
            quiet.step_back()
        try:
            while self._going:
                with self._shifted:
                    self._shifted.wait_for(lambda: self._low == low or not self._going)
                with self._baton:  # the other's last turn may not be over yet
                    self._window()
                    while self._going and self._low == low:
                        self._going = self._turn()
                        self._look()
                with self._shifted:
                    self._shifted.notify_all()
        except BaseException as error:
            self._failure, self._going = error, False
            with self._shifted:
                self._shifted.notify_all()

    def _window(self) -> None:
        self._since, self._before = self._clock(), self._waited()

    def _look(self) -> None:
        """Once in a while: was there too little of the processor, or is there enough again?"""
        now = self._clock()
        if now - self._since < WINDOW_S or self._hurry:
            return
        after, before, wall = self._waited(), self._before, now - self._since
        self._since, self._before = now, after
        if after is None or before is None:
            return
        share = (after - before) / 1e9 / wall
        if self._low and share > STARVED:
            self._share(HIGH_SHARE)
            self._low = False
        elif not self._low and share < FED:
            self._share(LOW_SHARE)
            self._low = True
