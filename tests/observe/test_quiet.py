"""Out of the way: scheduling is per thread."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from lunaroute.observe import quiet


def test_only_the_calling_thread_steps_back() -> None:
    seen: list[int] = []

    def run() -> None:
        quiet.step_back()
        seen.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a thread choose its processors")
def test_a_thread_keeps_off_the_relays_processor_within_what_it_is_allowed() -> None:
    seen: list[set[int]] = []
    all_of_them = os.sched_getaffinity(0)
    assert len(all_of_them) > 1, "this test needs two processors"
    first, second, *_ = sorted(all_of_them)

    def run() -> None:
        aside = quiet.Aside()
        for core in (first, second, None):
            aside.keep_off(core)
            seen.append(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {first})  # somebody else's choice is the frame from now on
        for core in (second, first, None):
            aside.keep_off(core)
            seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [all_of_them - {first}, all_of_them - {second}, all_of_them, {first}, {first}, {first}]
    assert os.sched_getaffinity(0) == all_of_them


def test_memory_can_be_tuned_and_given_back() -> None:
    quiet.tune_memory()
    quiet.trim_memory()
