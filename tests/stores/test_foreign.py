"""Claude Code's and Codex's own logs as exchanges: synthetic logs in the form that the programs write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.canonical import conversation
from lunaroute.records import Exchange, State
from lunaroute.stores import foreign
from lunaroute.stores.foreign import CLAUDE, CODEX, Log
from lunaroute.stores.reading import Trouble
from lunaroute.stores.sqlite import SqliteStore

LOGS = Path(__file__).parents[1] / "corpus" / "logs"
CLAUDE_SESSION = "0bb052c9-9b96-4701-a0fa-4df163250f2d"
CODEX_SESSION = "01a2121f-c22b-7423-9928-a5eb91077148"


def told(name: str, troubles: list[Trouble] | None = None) -> list[Exchange]:
    return list(foreign.exchanges_of(LOGS / name, (troubles if troubles is not None else []).append))


KINDS: dict[str, Log] = {
    "claude.jsonl": Log(CLAUDE, CLAUDE_SESSION),
    "claude-agent.jsonl": Log(CLAUDE, f"{CLAUDE_SESSION}-a780f1fce0e4a2a75"),
    "claude-older.jsonl": Log(CLAUDE, "11111111-2222-3333-4444-555555555555"),
    "codex.jsonl": Log(CODEX, CODEX_SESSION),
    "codex-agent.jsonl": Log(CODEX, "01a2121f-dddd-7423-9928-a5eb91077148"),
    "codex-older.jsonl": Log(CODEX, "0199-older"),
}


def test_whose_log_it_is() -> None:
    assert {path.name: log for path, log in foreign.logs_below(LOGS)} == KINDS
    assert list(foreign.logs_below(LOGS / "codex.jsonl")) == [(LOGS / "codex.jsonl", KINDS["codex.jsonl"])]


@pytest.mark.parametrize("content", ["", "{}\n", '{"a":1}\n', '{"v":1,"seq":1,"type":"session","id":"x"}\n', "\0\xff"])
def test_a_file_of_somebody_else(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    assert foreign.log_of(path) is None
    assert list(foreign.exchanges_of(path)) == []


# name, per exchange: (model asked, model answered, input, output, thinking, cache read, cache write, stop, ms)
FIGURES: dict[str, list[tuple[Any, ...]]] = {
    "claude.jsonl": [
        ("claude-opus-5-5", "claude-opus-5-5-20260901", 101, 21, 4, 1001, 31, "tool_use", 1000.0),
        ("claude-opus-5-5", "claude-opus-5-5-20260901", 102, 22, 0, 1002, 32, "end_turn", 1000.0),
    ],
    "claude-agent.jsonl": [("claude-opus-5-5", "claude-opus-5-5-20260901", 50, 9, None, 0, 0, "end_turn", 1000.0)],
    "claude-older.jsonl": [
        ("claude-sonnet-4-20250514", "claude-sonnet-4-20250514", 4, 41, None, None, None, None, 4500.0),
        (None, None, None, None, None, None, None, None, 1000.0),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-20250514", 7, 3, None, 400, None, None, 1000.0),
    ],
    "codex.jsonl": [
        ("gpt-5.5", "gpt-5.5", 3001, 81, 10, 701, 0, "completed", 18.0),
        ("gpt-5.5", "gpt-5.5", 3002, 82, 11, 702, 0, "completed", 38.0),
    ],
    "codex-agent.jsonl": [("gpt-5.5", "gpt-5.5", 10, 2, 0, 0, 0, "completed", 897.0)],
    "codex-older.jsonl": [
        ("gpt-5-codex", "gpt-5-codex", 100, 10, 5, 0, None, "completed", 1001.0),
        ("gpt-5-codex", "gpt-5-codex", 200, 15, 0, 90, None, "completed", 1096.0),
    ],
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name: str) -> None:
    """The last line on an answer counts, and each answer once: snapshots and repeated totals are not added up."""
    figures = []
    for each in told(name):
        usage = each.usage
        counts = (usage.input_tokens, usage.output_tokens, usage.thinking_tokens)
        cache = (usage.cache_read_tokens, usage.cache_write_tokens)
        models = (each.model_requested, each.model_used)
        figures.append((*models, *counts, *cache, each.stop_reason, each.timings.done))
    assert figures == FIGURES[name]


# per exchange: texts as (kind, words), tool calls as (id, name), tool results as (id, success)
WORDS: dict[str, list[tuple[list[tuple[str, str]], list[tuple[str, str]], list[tuple[str, bool | None]]]]] = {
    "claude.jsonl": [
        (
            [
                ("prompt", "Why does it fail?"),
                ("thinking", "Look first."),
                ("answer", "Let me look."),
                ("tool_call", '{"command":"make test"}'),
            ],
            [("toolu_1", "Bash")],
            [],
        ),
        ([("tool_result", "1 failed"), ("answer", "A test fails: ü → 🌙")], [], [("toolu_1", False)]),
    ],
    "claude-older.jsonl": [
        (
            [
                ("prompt", "Two things."),
                ("answer", "First this."),
                ("tool_call", '{"file_path":"a"}'),
                ("tool_call", '{"file_path":"b"}'),
            ],
            [("toolu_a", "Read"), ("toolu_b", "Read")],
            [],
        ),
        (
            [("tool_result", "content of a"), ("tool_result", "content of b")],
            [],
            [("toolu_a", None), ("toolu_b", None)],
        ),
        ([("prompt", "continue"), ("answer", "Done.")], [], []),
    ],
    "codex-older.jsonl": [
        (
            [("prompt", "first"), ("tool_call", '{"command":["ls"]}'), ("tool_call", '{"command":["pwd"]}')],
            [("call_a", "shell"), ("call_b", "shell")],
            [],
        ),
        (
            [
                ("tool_result", '{"output":"a\\n","metadata":{"exit_code":0,"duration_seconds":0.1}}'),
                ("tool_result", "aborted"),
                ("answer", "second"),
            ],
            [],
            [("call_a", True), ("call_b", None)],
        ),
    ],
}


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    found = [
        (
            [(text.kind, text.text) for text in each.texts],
            [(call.id, call.name) for call in each.tool_calls],
            [(result.id, result.success) for result in each.tool_results],
        )
        for each in told(name)
    ]
    assert found == WORDS[name]


def test_exit_codes_tell_success() -> None:
    assert [(r.id, r.success) for each in told("codex.jsonl") for r in each.tool_results] == [
        ("call_1", False),
        ("call_2", True),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_where_an_exchange_belongs(name: str) -> None:
    for number, each in enumerate(told(name), start=1):
        assert (each.session_id, each.signal, each.sequence) == (KINDS[name].session_id, KINDS[name].kind, number)
        assert (each.project, each.transport) == ("/home/user/project", "import")
        assert (each.request_altered, each.response_altered) == (True, True)
        assert each.started_at[:10] in ("2026-11-25", "2025-08-01", "2025-09-20")


def test_subagents_belong_to_their_parents() -> None:
    assert [each.parent_session_id for each in told("claude-agent.jsonl")] == [CLAUDE_SESSION]
    assert [each.parent_session_id for each in told("codex-agent.jsonl")] == [CODEX_SESSION]
    assert [each.parent_session_id for each in told("claude.jsonl")] == [None, None]


def test_the_programs_own_errors_are_no_answers() -> None:
    troubles: list[Trouble] = []
    states = [(each.state, each.error) for each in told("claude-older.jsonl", troubles)]
    assert states == [(State.OK, None), (State.UPSTREAM_ERROR, "API Error: 529 Overloaded"), (State.OK, None)]
    assert [(t.number, t.reason) for t in troubles] == [(14, "it is not one JSON object")]


@pytest.mark.parametrize("name", KINDS)
def test_the_bodies_read_as_a_conversation(name: str) -> None:
    for each in told(name):
        talk = conversation(each.dialect or "", each.request_body, each.response_body)
        said = [block.text for message in talk.messages for block in message.blocks if block.kind == "text"]
        assert [text.text for text in each.texts if text.kind == "prompt"] == [
            words for words in said if words != "You are Codex."
        ]
        assert json.loads(each.request_body)["model"] == each.model_requested


def test_a_second_import_changes_nothing(tmp_path: Path) -> None:
    """Nor does a log that was copied under another name."""
    shutil.copytree(LOGS, tmp_path / "logs")
    shutil.copy(LOGS / "claude.jsonl", tmp_path / "logs" / "copy.jsonl")
    store = SqliteStore(tmp_path / "s.db", warn=print)
    store.open()
    counts = []
    for _ in range(2):
        for path, _ in foreign.logs_below(tmp_path / "logs"):
            store.write(list(foreign.exchanges_of(path)))
        with store._transaction() as connection:
            counts.append(
                connection.execute("SELECT sum(requests), sum(output_tokens), count(*) FROM sessions").fetchone()
            )
    store.close()
    assert counts == [(11, 21 + 22 + 9 + 41 + 3 + 81 + 82 + 2 + 10 + 15, 6)] * 2


def test_a_log_that_grew_adds_only_what_is_new(tmp_path: Path) -> None:
    whole = (LOGS / "claude.jsonl").read_bytes()
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:8]))
    before = [each.id for each in foreign.exchanges_of(path)]
    path.write_bytes(whole)
    assert [each.id for each in foreign.exchanges_of(path)][:1] == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_no_value_anywhere_breaks_it(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """Any value in the place of any other: exchanges come out, or nothing, and a store takes them."""
    lines = [json.loads(line) for line in (LOGS / name).read_text().splitlines() if not line.endswith('"assis')]
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = data.draw(st.sampled_from(lines))
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            deeper = place[key]
            if not isinstance(deeper, dict | list) or not deeper or data.draw(st.booleans()):
                place[key] = data.draw(JSON)
                break
            place = deeper
    folder = tmp_path_factory.mktemp("log")
    path = folder / "x.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    store = SqliteStore(folder / "s.db", warn=print)
    store.open()
    store.write(list(foreign.exchanges_of(path)))
    store.close()
