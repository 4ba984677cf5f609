"""A program that writes to both stores until it is killed: `python -m tests.stores.killed`, for test_durability.py.

It imports once and forks: each line on stdin is a round (folder, mode, seed, milliseconds). A fork works in the mode
and tells on stdout what is stored once it is; it is killed with signal 9 after that time, and a line `killed` ends it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from lunaroute.records import Exchange, State, Text, ToolCall, Usage
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.records import START_NS, exchange, opened

SESSIONS = 3
SMALL_MB = 0.4  # the bound of the mode `upkeep`


def told(kind: str, *ids: str) -> None:
    os.write(1, f"{kind} {' '.join(ids)}\n".encode())


def turns(seed: int) -> Iterator[Exchange]:
    """Of a round's own conversations, in sessions that all rounds share."""
    chance = random.Random(seed)
    talks: list[list[str]] = [[] for _ in range(SESSIONS)]
    number = seed % 1000 * 100_000
    while True:
        number += 1
        session = chance.randrange(SESSIONS)
        talk = talks[session]
        talk.append("".join(chance.choices("abcdefgh \n", k=chance.choice((10, 300, 1500)))).replace("\n", "\\n"))
        body = ('{"messages":["' + '","'.join(talk) + '"]}').encode()
        yield exchange(
            number,
            chance.choice((State.OK, State.OK, State.OK, State.TIMEOUT)),
            session_id=f"s{session}",
            started_ns=START_NS + number * 1000,
            request_body=body,
            response_body=chance.randbytes(200),
            usage=Usage(input_tokens=chance.randrange(1000), output_tokens=3),
            cost_usd=chance.choice((None, 0.5)),
            overhead_ms=1.0,
            texts=[Text(kind="prompt", text=talk[-1])],
            tool_calls=[ToolCall(id=f"c{number}", name="Bash")] if chance.random() < 0.3 else [],
        )


def work(folder: Path, mode: str, seed: int) -> None:
    chance = random.Random(seed)
    jsonl = JsonlStore(folder / "sessions", warn=lambda words: told("warned", words))
    sqlite = SqliteStore(
        folder / "s.db",
        warn=lambda words: told("warned", words),
        locate=jsonl.locate,
        max_size_mb=SMALL_MB if mode == "upkeep" else None,
    )
    sqlite.open()
    jsonl.open()
    told("open")
    steps = sqlite.tend_steps(0)
    made = turns(seed)
    while True:
        batch = [next(made) for _ in range(chance.randint(1, 6))]
        begun = [exchange(int(one.id.partition("-")[2]), None, session_id=one.session_id, started_ns=one.started_ns)
                 for one in batch[:2]]  # fmt: skip
        sqlite.write([opened(int(batch[-1].id.partition("-")[2])), *begun])
        jsonl.write(batch)
        told("jsonl", *(one.id for one in batch))
        sqlite.write(batch)
        told("sqlite", *(one.id for one in batch))
        if mode == "checkpoint" and sqlite._connection is not None:
            sqlite._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if mode == "upkeep":
            for _ in range(3):
                if next(steps, None) is None:
                    steps = sqlite.tend_steps(0)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        folder, mode, seed, delay = line.split()
        while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            pass  # word of the round before
        pid = os.fork()
        if not pid:
            try:
                work(Path(folder), mode, int(seed))
            finally:
                os._exit(1)
        signal.sigtimedwait({signal.SIGCHLD}, float(delay) / 1000)
        os.kill(pid, signal.SIGKILL)
        how = os.waitpid(pid, 0)[1]
        told("killed" if os.WIFSIGNALED(how) else "ended")


if __name__ == "__main__":
    main()
