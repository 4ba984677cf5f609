"""Full-text search: what is found, where it stands, and that no words of anybody break it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lunaroute.records import State, Text
from lunaroute.stores import search
from lunaroute.stores.readonly import BadQuestion, Connection
from lunaroute.stores.rows import SessionFilter
from tests import recorded
from tests.ui import hostile

SAID: dict[int, list[tuple[str, str]]] = {
    1: [("prompt", "Why does the connection reset in src/main.py?"), ("answer", "Because of C++ and naïve code.")],
    2: [("tool_call", 'Bash {"command": "grep -r reset ."}'), ("tool_result", "no\nconnection   there, 100%")],
    3: [("thinking", "日本語のテストです"), ("answer", "done 😀 \u202edone")],
    4: [("prompt", "connections are many; the reset of them"), ("answer", "x" * 500 + " needle " + "y" * 500)],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = [
        recorded.exchange(
            number, "old" if number < 3 else "new", sequence=number, client="codex" if number < 3 else "claude-code",
            state=State.TIMEOUT if number == 2 else State.OK, project="/home/me/work" if number < 3 else None,
            texts=[Text(kind=kind, text=text) for kind, text in SAID[number]], title=f"session of {number}",
        )
        for number in SAID
    ]  # fmt: skip
    return recorded.write(tmp_path / "sessions.db", made)


def found(path: Path, text: str, **wanted: str) -> list[int]:
    with Connection(path) as db:
        return [hit.sequence for hit in search.search(db, text, SessionFilter(**wanted)).hits]


@pytest.mark.parametrize(
    ("text", "sequences"),
    [
        ("reset", [4, 2, 1]),
        ("RESET", [4, 2, 1]),
        ("connection", [2, 1]),
        ("connection*", [4, 2, 1]),
        ("connection reset", [2, 1]),
        ('"connection reset"', [1]),
        ('"CONNECTION  reset"', [1]),
        ('"reset connection"', []),
        ('"connection there"', [2]),  # whatever blanks stand between
        ('"connection', [2, 1]),
        ("src/main.py", [1]),
        ("main.py?", [1]),
        ("main/src", []),
        ("c++", [1]),
        ("naive", [1]),
        ("NAÏVE", [1]),
        ("100%", [2]),
        ("reset, connection;", [2, 1]),
        ("日本語", [3]),
        ("テスト", [3]),
        ("中文", []),
        ("done テスト", [3]),
        ("😀", [3]),
        ("done 😀", [3]),
        ("needle", [4]),
        ("needl", []),
        ("nee* rese*", [4]),
        ("reset NOT connection", []),  # words, not operators
        ("reset OR nothing", []),
        ("text:reset", []),
        ('NEAR("reset" "connection")', []),
        ("{reset}", [4, 2, 1]),
        ("^reset", []),
        ("reset'; DROP TABLE search; --", []),
        ("re\0set", [4, 2, 1]),
        ("\ud800", []),
        ("***", []),
    ],
)
def test_what_is_found(path: Path, text: str, sequences: list[int]) -> None:
    assert found(path, text) == sequences


@pytest.mark.parametrize(
    ("wanted", "sequences"),
    [
        ({"client": "codex"}, [2, 1]),
        ({"state": "timeout"}, [2]),
        ({"state": "ok"}, [4, 1]),
        ({"state": "running"}, []),
        ({"project": "work"}, [2, 1]),
        ({"since": "2020-01-06 09:30:40"}, [4, 2]),  # the time of the exchange, not of its session
        ({"until": "2020-01-06 09:30:40"}, [1]),
        ({"client": "claude-code", "state": "timeout"}, []),
        ({"model": "gpt"}, []),
    ],
)
def test_filters(path: Path, wanted: dict[str, str], sequences: list[int]) -> None:
    assert found(path, "reset", **wanted) == sequences


def test_a_snippet_shows_the_place_and_marks_it(path: Path) -> None:
    with Connection(path) as db:
        hit = search.search(db, "needle").hits[0]
        snippet = hit.snippets[0]
        assert snippet.kind == "answer" and [snippet.text[a:b] for a, b in snippet.marks] == ["needle"]
        assert snippet.text.startswith("…x") and snippet.text.endswith("y…") and len(snippet.text) < 200
        assert (hit.session_id, hit.title, hit.client) == ("new", "session of 3", "claude-code")
        hit = search.search(db, '"connection reset"').hits[0]
        assert [hit.snippets[0].text[a:b] for a, b in hit.snippets[0].marks] == ["connection reset"]
        hit = search.search(db, "naive c++").hits[0]
        assert [hit.snippets[0].text[a:b] for a, b in hit.snippets[0].marks] == ["C++", "naïve"]
        hit = search.search(db, "connection there").hits[0]
        assert hit.snippets[0].text == "no connection   there, 100%"  # one line


def test_pages(path: Path) -> None:
    with Connection(path) as db:
        seen, mark = [], None
        for _ in range(9):
            page = search.search(db, "reset", limit=1, after=mark)
            seen += [hit.sequence for hit in page.hits]
            mark = page.older
            if mark is None:
                break
        assert seen == [4, 2, 1]
        with pytest.raises(BadQuestion, match="page mark"):
            search.search(db, "reset", after="x")


@pytest.mark.parametrize("text", ["", "   ", '""', '"', "\0"])
def test_nothing_to_search_for_is_said(path: Path, text: str) -> None:
    with pytest.raises(BadQuestion, match="Nothing to search for"):
        found(path, text)


def test_the_index_only_gives_candidates_within_a_budget(tmp_path: Path) -> None:
    made = [recorded.exchange(n, texts=[Text(kind="prompt", text="漢字 here")]) for n in range(1, 300)]
    path = recorded.write(tmp_path / "db", made)
    ticks = iter(range(100_000))
    with Connection(path) as db:
        page = search.search(db, "日本", clock=lambda: next(ticks) * 0.01)  # 12 looks at the clock
        assert page.hits == [] and page.unfinished and page.older is not None
        assert search.search(db, "漢字", after=page.older, limit=5).hits[0].row == int(page.older) - 1
        assert len(search.search(db, "漢字", limit=200).hits) == 200


def test_a_damaged_pack_is_still_found(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE packs SET data = x'00' WHERE exchange = 1")
    raw.close()
    with Connection(path) as db:
        hit = search.search(db, "naive").hits[0]
    assert hit.sequence == 1 and hit.snippets == []


def test_long_questions(path: Path) -> None:
    whole = " ".join(text for _, text in SAID[1])
    assert found(path, whole) == [1]
    assert found(path, f"{whole} " * 200) == [1]  # beyond 10,000 characters
    assert found(path, " ".join(f"word{n}" for n in range(2000))) == []
    assert found(path, "reset " + "z" * 9_000) == []


@pytest.mark.parametrize("words", hostile.STRINGS, ids=lambda words: ascii(words)[:30])
def test_hostile_words_are_found_where_they_were_said(tmp_path: Path, words: str) -> None:
    made = [recorded.exchange(1, texts=[Text(kind="prompt", text=f"before {words} after")])]
    path = recorded.write(tmp_path / "db", made)
    assert found(path, words) == [1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(alphabet=st.characters(), min_size=1, max_size=60))
def test_no_words_break_the_search(path: Path, words: str) -> None:
    with Connection(path) as db:
        try:
            search.search(db, words)
        except BadQuestion as error:
            assert "Nothing to search for" in str(error)
