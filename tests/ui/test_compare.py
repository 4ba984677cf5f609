"""What changed between two requests, and why a cache was not read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lunaroute.stores.rows import ExchangeRow
from lunaroute.ui import compare
from tests.recorded import ask, assistant, call, result, text, user
from tests.ui import hostile


def row(at: float = 0.0, **fields: Any) -> ExchangeRow:
    usage = {"input_tokens": 10, "cache_read_tokens": 0, "cache_write_tokens": 1000}
    given = {"dialect": "anthropic", "model_used": "claude-opus-5-5", "duration_ms": 1000.0, **usage, **fields}
    return ExchangeRow(id="x", started_at="2026-01-01 00:00:00", started_ns=int(at * 1e9), **given)


HISTORY = [user("one"), assistant(text("two"), call("a", "Bash", command="ls"))]
MORE = [*HISTORY, result("a", "README.md"), user("three")]


def test_a_turn_that_only_adds() -> None:
    found = compare.compare((row(), ask(HISTORY)), (row(5, cache_read_tokens=1000), ask(MORE)))
    assert found.appended and found.first_change is None and found.same == found.of == 6
    assert [(change.kind, change.where) for change in found.changes] == [
        ("added", "message 3, user, tool result"), ("added", "message 4, user"),
    ]  # fmt: skip
    assert found.changes[1].lines == [("+", "three")]
    assert found.cache.held is True and (found.cache.could_tokens, found.cache.read_tokens) == (1000, 1000)


def test_what_clients_write_differently_each_time_is_no_change() -> None:
    marked = json.loads(ask(HISTORY))
    marked["messages"][0]["content"] = "one"
    marked["system"][0]["cache_control"] = {"type": "ephemeral"}
    marked["messages"][1]["content"][1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    found = compare.compare((row(), ask(HISTORY)), (row(), json.dumps(marked).encode()))
    assert found.appended and found.changes == [] and found.settings == []


def test_the_first_change_is_named_and_shown_line_by_line() -> None:
    system = "\n".join(f"line {n}" for n in range(20))
    changed = system.replace("line 9", "line nine")
    found = compare.compare((row(), ask(HISTORY, system)), (row(cache_read_tokens=12), ask(MORE, changed)))
    assert not found.appended and found.first_change == "system prompt, part 1" and found.same == 2
    assert found.changes[0].kind == "changed"
    assert ("-", "line 9") in found.changes[0].lines and ("+", "line nine") in found.changes[0].lines
    assert ("-", "line 1") not in found.changes[0].lines and len(found.changes[0].lines) == 8
    assert found.cache.held is False and "changed at system prompt, part 1" in found.cache.words


def test_a_message_taken_out_is_found_as_such() -> None:
    found = compare.compare((row(), ask(MORE)), (row(), ask([MORE[0], *MORE[2:]])))
    assert [change.kind for change in found.changes] == ["removed", "removed"]


def test_settings() -> None:
    found = compare.compare((row(), ask(HISTORY)), (row(), ask(HISTORY, max_tokens=5, thinking={"type": "enabled"})))
    assert found.settings == [("max_tokens", "32000", "5"), ("thinking", "not set", '{"type":"enabled"}')]
    assert "setting thinking changed" in found.cache.words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"at": 400}, "minutes passed"),
        ({}, {"at": 60}, "did not find it"),
        ({}, {"model_used": "claude-sonnet-5"}, "Another model answered"),
        ({}, {"cache_miss_reason": "system_changed"}, "The provider says: system changed."),
        ({"cache_write_tokens": 0}, {}, "left nothing"),
        ({"input_tokens": None}, {}, "not known"),
    ],
)
def test_why_a_cache_was_not_read(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    found = compare.compare((row(**before), ask(HISTORY)), (row(**after), ask(MORE)))
    assert words in found.cache.words


def test_openai_requests() -> None:
    old = {
        "model": "m",
        "instructions": "be kind",
        "input": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "x"}],
    }
    new = {**old, "input": [*old["input"], {"type": "function_call_output", "call_id": "c", "output": "42"}]}
    usage = {"dialect": "responses", "input_tokens": 1000, "cache_write_tokens": None}
    given = (row(**usage), json.dumps(old).encode()), (row(**usage, cache_read_tokens=960), json.dumps(new).encode())
    found = compare.compare(*given)
    assert found.appended and found.changes[0].where == "message 2, function_call_output"
    assert found.cache.held is True


def test_nothing_breaks_it() -> None:
    odd = [b"", b"[]", b"{", b'{"messages": 3, "tools": {"a": 1}}', b"[" * 100_000, b'{"input": [[[[]]]]}', b"\xff"]
    odd += [ask([user(words)], system=words) for words in hostile.STRINGS]
    for one in odd:
        for two in odd[:12]:
            compare.compare((row(), one), (row(), two))


def test_long_texts_and_many_pieces_are_bounded() -> None:
    many = [user(f"{n}") for n in range(5_000)]
    found = compare.compare((row(), ask(many)), (row(), ask([user("x"), *many])))
    assert len(found.changes) == compare.CHANGES_LIMIT and found.more > 0
    long = "\n".join(str(n) for n in range(50_000))
    (change,) = compare.compare((row(), ask([])), (row(), ask([user(long)]))).changes
    assert len(change.lines) <= compare.LINES_LIMIT and change.left_out is not None
