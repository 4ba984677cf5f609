"""How a database grows with a long session whose client sends all of its history with each turn.

300 turns as Claude Code has them: 31 kB of tools, 7 kB of system prompt and 9 kB of surroundings in each request, a
streamed answer with text and a tool call, its result in the next request; the cache mark moves to the last message, and
a message that loses it is written anew as a text. The last request has 800 kB. Words are source code.

Measured: the database's growth (index, tool calls and rows included; after an upkeep, the log taken in) against what is
new in each turn compressed by itself, and against each body compressed by itself, by zstd, level 3. Without a clock.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.observing import Observing, Words, dumps, events, streamed_answer
from lunaroute.stores import queries
from lunaroute.stores.readonly import Connection

TURNS = 300
OF_NEW, OF_BODIES = 1.5, 30.0  # goals: growth is at most so many times what is new, the bodies at least so many its
SESSION = "550e8400-e29b-41d4-a716-446655440000"
Json = dict[str, Any]
Turn = tuple[bytes, bytes, bytes]  # request, answer, what is new in them


def conversation(words: Words, turns: int) -> Iterator[Turn]:
    tools = [tool(words, number) for number in range(18)]
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.abc; cc_entrypoint=cli;"},
        {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."},
        {"type": "text", "text": words.take(7000), "cache_control": {"type": "ephemeral"}},
    ]
    messages: list[Json] = [
        {"role": "user", "content": [{"type": "text", "text": words.take(size)} for size in (9000, 300)]}
    ]
    fixed = {"system": system, "tools": tools, "metadata": {"user_id": dumps({"device_id": "a" * 64}).decode()}}
    new: Json = {**fixed, "messages": messages}
    for _ in range(turns):
        marked(messages)
        body = dumps({"model": "claude-opus-5-5", "messages": messages, **fixed, "max_tokens": 128000, "stream": True})
        call = words.ident("toolu_")
        answer = streamed_answer(words, 500, call)
        yield body, answer, dumps(new) + answer
        said, given = told(answer)
        fresh = [
            {"role": "assistant", "content": [{"type": "text", "text": said}, {**CALL, "id": call, "input": given}]},
            {"role": "user", "content": [{**RESULT, "tool_use_id": call, "content": words.take(1600)}]},
        ]
        messages += fresh
        new = {"messages": fresh}


CALL = {"type": "tool_use", "name": "Bash"}
RESULT = {"type": "tool_result"}


def tool(words: Words, number: int) -> Json:
    field = {"type": "string", "description": words.take(150)}
    return {
        "name": f"Tool{number}",
        "description": words.take(1350),
        "input_schema": {"type": "object", "properties": {"command": field}, "required": ["command"]},
    }


def marked(messages: list[Json]) -> None:
    """The cache mark is on the last message alone; a list of one text that had it becomes a text."""
    for message in messages[-4:]:
        if isinstance(message["content"], list):
            for block in message["content"]:
                block.pop("cache_control", None)
            if [block["type"] for block in message["content"]] == ["text"]:
                message["content"] = message["content"][0]["text"]
    messages[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}


def told(answer: bytes) -> tuple[str, Json]:
    """Text and arguments of a streamed answer."""
    deltas = [json.loads(line[6:]).get("delta", {}) for line in answer.split(b"\n") if line.startswith(b"data: ")]
    arguments = "".join(delta.get("partial_json", "") for delta in deltas)
    return "".join(delta.get("text", "") for delta in deltas), json.loads(arguments)


def size(path: Path) -> int:
    """Of the database after its log was taken in."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def test_a_session_grows_with_what_is_new(tmp_path: Path) -> None:
    for name in ("empty", "full"):
        (tmp_path / name).mkdir(mode=0o700)
    nothing = Observing(tmp_path / "empty")
    nothing.close()
    observing = Observing(tmp_path / "full")
    squeeze = zstandard.ZstdCompressor(level=3).compress
    raw = new = alone = 0
    body = answer = b""
    for number, (body, answer, fresh) in enumerate(conversation(Words(), TURNS), start=1):
        observing.take([events(number, (body, answer, SESSION), number * 10**10)])
        raw += len(body) + len(answer)
        new += len(squeeze(fresh))
        alone += len(squeeze(body)) + len(squeeze(answer))
    for store in observing.sinks:
        for _ in store.tend(0.0):  # what the worker does every ten minutes
            pass
    observing.close()
    grown = size(observing.database) - size(nothing.database)
    print(
        f"\n{TURNS} turns, {len(body):,} bytes in the last request, {raw:,} in all; the database grew by {grown:,}:"
        f"\n{grown / new:.2f} times what was new, compressed turn by turn ({new:,}; goal at most {OF_NEW}),"
        f"\n{alone / grown:.0f} times smaller than each body by itself ({alone:,}; goal at least {OF_BODIES:.0f})"
    )
    assert 700_000 < len(body) < 900_000
    with Connection(observing.database) as db:
        (last,) = db.rows("SELECT id FROM exchanges ORDER BY row DESC LIMIT 1")
        kept = queries.bodies(db, last[0])
        assert (kept.request_body, kept.response_body) == (body, answer), "and the last is there, byte for byte"
    with contextlib.closing(sqlite3.connect(observing.database)) as raw_db:
        assert raw_db.execute("SELECT count(*) FROM tool_calls").fetchone() == (TURNS,)
        assert raw_db.execute("SELECT count(*) FROM search WHERE search MATCH 'import'").fetchone()[0] > 20
    assert grown <= OF_NEW * new
    assert alone >= OF_BODIES * grown
