"""Out of the way, and back: scheduling is per thread."""

from __future__ import annotations

import os
import threading

from lunaroute.observe import quiet


def test_only_the_calling_thread_steps_back() -> None:
    seen: list[int] = []

    def run() -> None:
        quiet.step_back()
        seen.append(os.sched_getscheduler(0))
        quiet.step_forward()
        seen.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [os.SCHED_IDLE, os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_memory_can_be_tuned_and_given_back() -> None:
    quiet.tune_memory()
    quiet.trim_memory()
