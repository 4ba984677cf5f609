"""What an exchange costs the observer: tap events in, rows, index and lines out. CPU time of this process for each.

usage: python -m benchmarks.observing [--profile CASE]

The real parts, SQLite, search index and JSONL on a disk, in the batches that the worker makes (half a second of 100 a
second).
Cases: `new`, 20 kB that nobody has seen; `resent`, 20 kB of which nine tenths are the history, in a conversation of 100
turns; `short`, the same in conversations of ten turns, so that with each tenth request all of it is new; `small`, 2 kB
and 2 kB; `own`, the same, each in a session of its own, with a file of its own; `stream`, requests of 18 to 50 kB and
streamed answers of 107 events, in conversations of 20 turns.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lunaroute import tap
from lunaroute.observe.capture import Allowance
from lunaroute.observe.exchange import Context, Numbers
from lunaroute.observe.mask import Masker
from lunaroute.observe.observer import Observer
from lunaroute.observe.sink import Sink, settled
from lunaroute.records import Record
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.sqlite import SqliteStore

BATCH = 50  # exchanges of a commit
WALL = 1_790_000_000_000_000_000
Event = tuple[int, int, int, bytes]
Exchange = tuple[bytes, bytes, str]  # request body, response body, session


class Words:
    """Text as it flows through such proxies: code, from the standard library of this Python."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        self._text = "\n".join(file.read_text("utf-8", "replace") for file in files)

    def take(self, length: int) -> str:
        at = self._random.randrange(len(self._text) - length)
        return self._text[at : at + length]

    def ident(self, prefix: str) -> str:
        return f"{prefix}{self._random.randrange(1 << 96):024x}"


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def whole_answer(words: Words, length: int) -> bytes:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4000, "output_tokens": 120}
    content = [{"type": "text", "text": words.take(length)}]
    base = {"id": words.ident("msg_"), "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
    return dumps({**base, "content": content, "stop_reason": "end_turn", "usage": usage})


def streamed_answer(words: Words, length: int, call: str) -> bytes:
    """Text, then a tool call, in events of some 15 characters."""
    usage = {"input_tokens": 5, "cache_read_input_tokens": 4000, "output_tokens": 1}
    message = {"id": words.ident("msg_"), "model": "claude-opus-5-5", "content": [], "usage": usage}
    events: list[Any] = [{"type": "message_start", "message": message}]
    said, given = words.take(length), json.dumps({"command": words.take(length // 3)})
    tool = {"type": "tool_use", "id": call, "name": "Bash", "input": {}}
    for index, (block, kind, field, full) in enumerate(
        (({"type": "text", "text": ""}, "text_delta", "text", said), (tool, "input_json_delta", "partial_json", given))
    ):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for at in range(0, len(full), 15):
            piece = {"type": kind, field: full[at : at + 15]}
            events.append({"type": "content_block_delta", "index": index, "delta": piece})
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 120}})
    events.append({"type": "message_stop"})
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), dumps(event)) for event in events)


def request(messages: list[Any], **more: Any) -> bytes:
    return dumps({"model": "claude-opus-5-5", "messages": messages, "max_tokens": 32000, **more, "stream": True})


def new(words: Words) -> Iterator[Exchange]:
    while True:
        session = words.ident("s")
        for _ in range(10):
            messages = [{"role": "user", "content": [{"type": "text", "text": words.take(4900)}]} for _ in range(3)]
            yield request(messages), whole_answer(words, 4500), session


def resent(words: Words, turns: int = 100) -> Iterator[Exchange]:
    """A conversation of turns of 2 kB; then another."""
    while True:
        session = words.ident("s")
        messages: list[Any] = [{"role": "user", "content": words.take(900)} for _ in range(18)]
        for _ in range(turns):
            yield request(messages), whole_answer(words, 1000), session
            messages = messages[2:]
            messages.append({"role": "assistant", "content": words.take(900)})
            messages.append({"role": "user", "content": words.take(900)})


def short(words: Words) -> Iterator[Exchange]:
    return resent(words, 10)


def own(words: Words) -> Iterator[Exchange]:
    return small(words, 1)


def small(words: Words, turns: int = 10) -> Iterator[Exchange]:
    while True:
        session = words.ident("s")
        for _ in range(turns):
            yield request([{"role": "user", "content": words.take(1950)}]), whole_answer(words, 1700), session


def stream(words: Words) -> Iterator[Exchange]:
    while True:
        session = words.ident("s")
        messages: list[Any] = [{"role": "user", "content": words.take(900)} for _ in range(18)]
        for _ in range(20):
            call = words.ident("toolu_")
            yield request(messages), streamed_answer(words, 1200, call), session
            asked = {"type": "tool_use", "id": call, "name": "Bash", "input": {}}
            messages.append({"role": "assistant", "content": [asked]})
            result = {"type": "tool_result", "tool_use_id": call, "content": words.take(900)}
            messages.append({"role": "user", "content": [result]})


Case = Callable[[Words], Iterator[Exchange]]
CASES: dict[str, Case] = {
    "new": new, "resent": resent, "short": short, "small": small, "own": own, "stream": stream,
}  # fmt: skip
# microseconds of CPU that an exchange may cost (issue "record"; a hundred of the small ones a second: 5 % of a core)
GOALS = {"new": 1000.0, "resent": 400.0, "small": 450.0, "stream": 600.0}


def head(first: str, fields: dict[str, str]) -> bytes:
    return "".join((first, "\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n")).encode()


def events(number: int, one: Exchange, at: int) -> list[Event]:
    """As the relay tells of it."""
    body, reply, session = one
    sse = reply.startswith(b"event:")
    asked = head(
        "POST /v1/messages?beta=true HTTP/1.1",
        {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "claude-cli/2.1.330 (external, sdk-cli)",
            "X-Claude-Code-Session-Id": session,
            "X-Stainless-Retry-Count": "0",
            "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,effort-2025-11-24",
            "anthropic-version": "2023-06-01",
            "x-api-key": "sk-ant-dummy-0000",
            "Host": "127.0.0.1:8081",
            "Accept-Encoding": "gzip, deflate, br, zstd",
            "Content-Length": str(len(body)),
        },
    )
    answered = head(
        "HTTP/1.1 200 OK",
        {
            "Content-Type": "text/event-stream" if sse else "application/json",
            "request-id": f"req_{number:024x}",
            "anthropic-ratelimit-requests-remaining": "999",
            "Date": "Mon, 23 Nov 2026 10:00:00 GMT",
        },
    )
    origin = dumps({"provider": "anthropic", "origin": "http://127.0.0.1:9", "dialect": "anthropic", "path": "/"})
    done = tap.CLOSE_HEADER.pack(0, tap.FLAG_WRITTEN, len(body), len(reply), 0, at + 1000, at + 2000)
    step = 120 if sse else 16384
    return [
        (tap.OPEN, number, at, tap.OPEN_HEADER.pack(WALL + at, 1, 0) + asked),
        (tap.REQUEST_BODY, number, at, body),
        (tap.ATTEMPT, number, at, tap.ATTEMPT_HEADER.pack(1, 1, 0, 0) + origin),
        (tap.RESPONSE_HEAD, number, at + 10**6, answered),
        *((tap.RESPONSE_BODY, number, at + 10**6 + i, reply[i : i + step]) for i in range(0, len(reply), step)),
        (tap.CLOSE, number, at + 2 * 10**6, done),
    ]


class Observing:
    """The observer with its stores, as observe/worker.py builds them, without processes."""

    def __init__(self, folder: Path) -> None:
        jsonl = JsonlStore(folder / "sessions", warn=print)
        sqlite = SqliteStore(folder / "sessions.db", warn=print, locate=jsonl.locate)
        self.sinks = [Sink(store, warn=print, clock=time.monotonic) for store in (jsonl, sqlite)]
        for sink in self.sinks:
            sink.write([])
        self.observer = Observer(
            Context(
                boot_id="0123456789ab",
                masker=Masker(),
                numbers=Numbers(sqlite.last_sequence),
                budget=Allowance(32 << 20),
                capture_limit=16 << 20,
            )
        )
        self.database = folder / "sessions.db"

    def take(self, batch: list[list[Event]]) -> None:
        records: list[Record] = [r for one in batch for event in one for r in self.observer.feed(*event)]
        done = settled([*records, *self.observer.progress()])
        for sink in self.sinks:
            sink.write(done)

    def close(self) -> None:
        for sink in self.sinks:
            sink.flush()
            sink.store.close()


def measured(case: str, count: int, profile: bool = False) -> tuple[float, float]:
    """(CPU microseconds, bytes of database) per exchange."""
    with tempfile.TemporaryDirectory() as folder:
        observing = Observing(Path(folder))
        source = CASES[case](Words())
        prepared = [events(n + 1, next(source), n * 10**7) for n in range(count)]
        warm = count // 5
        profiler = cProfile.Profile()
        began, size = 0.0, observing.database.stat().st_size
        for at in range(0, count, BATCH):
            if at == warm:
                began = time.process_time()
                if profile:
                    profiler.enable()
            observing.take(prepared[at : at + BATCH])
        spent = time.process_time() - began
        profiler.disable()
        observing.close()
        grown = observing.database.stat().st_size - size
        if profile:
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(90)
        return spent / (count - warm) * 1e6, grown / count


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--profile"]:
        measured(arguments[1], 500, profile=True)
        return 0
    late = []
    for case in CASES:
        cost, size = min(measured(case, 500) for _ in range(3))
        goal = GOALS.get(case)
        aim = f" (goal {goal:.0f})" if goal else ""
        print(f"{case:8} {cost:7.0f} us per exchange{aim}, {size:7.0f} bytes of database")
        if goal and cost > goal:
            late.append(case)
    return 1 if late else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
