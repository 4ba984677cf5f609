"""Drives the relay with canned bytes, for callgrind (instructions.py). No loop, no I/O but sends into a sink.

Each phase runs the same exchange many times between two marks. A mark is a call of getppid, which nothing else here
makes: callgrind writes what it counted since the mark before (`--dump-before=getppid`). The phases come in pairs, one
twice as long as the other; their difference holds the exchanges alone.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import canned
from benchmarks.line import Line

ROUNDS = 500
CHUNKS = 50


class Phase(NamedTuple):
    """One stretch between two marks: `rounds` exchanges with an answer in `chunks` pieces (0: one whole answer)."""

    name: str
    recording: bool
    chunks: int
    rounds: int


def phases() -> list[Phase]:
    """In the order in which they run."""
    found = []
    for recording in (False, True):
        state = "on" if recording else "off"
        for rounds in (ROUNDS, 2 * ROUNDS):
            found.append(Phase(f"request, recording {state}", recording, 0, rounds))
        for chunks in (CHUNKS, 2 * CHUNKS):
            found.append(Phase(f"streamed piece, recording {state}", recording, chunks, ROUNDS // 10))
    return found


def run(line: Line, phase: Phase) -> None:
    request = canned.request()
    pieces = canned.stream(phase.chunks) if phase.chunks else [canned.answer()]
    exchange: Callable[[bytes, list[bytes]], None] = line.exchange
    for _ in range(phase.rounds):
        exchange(request, pieces)


def main() -> None:
    """All phases. The first round of each kind is outside the marks: plans, parsers and caches are made then."""
    lines = {recording: Line(recording) for recording in (False, True)}
    for line in lines.values():
        line.check()
        for chunks in (0, CHUNKS):
            run(line, Phase("", False, chunks, 2))
    gc.collect()
    gc.freeze()
    gc.disable()
    os.getppid()
    for phase in phases():
        run(lines[phase.recording], phase)
        os.getppid()
    for line in lines.values():
        line.close()


if __name__ == "__main__":
    main()
