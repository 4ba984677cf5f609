"""What pages show, before it is rendered: windows, parents, the status when something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from lunaroute.stores.readonly import BadQuestion, NotFound
from lunaroute.ui import pages, system
from lunaroute.ui.source import Source
from tests import recorded


def source(path: Path) -> Source:
    return Source(path, dict, lambda: b"")


@pytest.fixture
def long(tmp_path: Path) -> Source:
    """A session of 100 turns, each with the history of all before it, and a title call in between."""
    history = [recorded.user("question 1")]
    made = []
    for number in range(1, 101):
        kind = "title" if number == 70 else "turn"
        answer = recorded.stream(recorded.text(f"answer {number}"))
        body = recorded.ask(history)
        made.append(recorded.exchange(number, "long", kind=kind, request_body=body, response_body=answer))
        if kind == "turn":
            history = [*history, recorded.assistant(recorded.text(f"answer {number}"))]
            history.append(recorded.user(f"question {number + 1}"))
    return source(recorded.write(tmp_path / "db", made))


def shown(view: pages.SessionView) -> list[int]:
    return [turn.row.sequence for turn in view.transcript.turns]


def test_a_session_opens_at_its_newest_window(long: Source) -> None:
    view = pages.session(long, "long", {})
    assert shown(view) == list(range(71, 101)) and (view.before, view.after) == (71, None)
    # right before the window is a title call, which asks nothing new: the history is that of the turn before it
    assert [entry.text for turn in view.transcript.turns[:2] for entry in turn.added] == ["question 70", "question 72"]


def test_windows_meet_without_gap_or_overlap(long: Source) -> None:
    seen, before = [], None
    while True:
        view = pages.session(long, "long", {"before": str(before)} if before else {})
        seen = shown(view) + seen
        before = view.before
        if before is None:
            break
    assert seen == list(range(1, 101))
    seen, after = [], 0
    while after is not None:
        view = pages.session(long, "long", {"after": str(after)})
        seen, after = seen + shown(view), view.after
    assert seen == list(range(1, 101))
    assert shown(pages.session(long, "long", {"after": "1000"})) == []


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\N{FULLWIDTH DIGIT ONE}", "9" * 30])
def test_odd_window_marks_are_refused(long: Source, text: str) -> None:
    with pytest.raises(BadQuestion, match="whole number"):
        pages.session(long, "long", {"before": text})


def test_parents_and_subagents(tmp_path: Path) -> None:
    made = [
        recorded.exchange(1, "boss"),
        recorded.exchange(2, "helper", parent_session_id="boss"),
        recorded.exchange(3, "orphan", parent_session_id="gone"),
        recorded.exchange(4, "odd", parent_session_id="../etc"),
    ]
    db = source(recorded.write(tmp_path / "db", made))
    assert [child.session_id for child in pages.session(db, "boss", {}).children] == ["helper"]
    parent = pages.session(db, "helper", {}).parent
    assert parent is not None and parent.session_id == "boss"
    assert pages.session(db, "orphan", {}).parent is None and pages.session(db, "odd", {}).parent is None


def test_lists_without_a_database_say_why(tmp_path: Path) -> None:
    view = pages.sessions(source(tmp_path / "none"), {"q": "x"})
    assert view.page.rows == [] and view.note is not None and "Nothing has been recorded yet" in view.note
    assert pages.pulse(source(tmp_path / "none"), None) == ""


def test_filters_are_checked(long: Source) -> None:
    for query in ({"sort": "x"}, {"since": "x"}, {"state": "x"}, {"mark": "x"}, {"limit": "x"}):
        with pytest.raises(BadQuestion):
            pages.sessions(long, query)
    assert pages.sessions(long, {"q": "  ", "model": ""}).asked == {}
    assert len(pages.sessions(long, {"limit": "99999"}).page.rows) == 1


def test_the_pulse_beats_when_something_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with recorded.store_at(path) as store:
        beats = []
        for record in (
            recorded.exchange(1, "one", sequence=1),
            recorded.opened(2),
            recorded.exchange(2, "one", sequence=2, state=None),
            recorded.exchange(2, "one", sequence=2),
        ):
            store.write([record])
            beats.append((pages.pulse(source(path), None), pages.pulse(source(path), "one")))
    assert len({everything for everything, _ in beats}) == 4
    assert len({session for _, session in beats}) == 3  # an exchange without a session is none of its business
    with pytest.raises(NotFound):
        pages.pulse(source(path), "../x")


def test_status_tells_what_it_can(tmp_path: Path) -> None:
    def broken() -> dict[str, object]:
        raise TimeoutError("secret words")

    view = system.status(Source(tmp_path / "none", broken, lambda: b""))
    assert view.trouble is not None and "TimeoutError" in view.trouble and "secret" not in view.trouble
    assert "Nothing has been recorded yet" in view.database["error"] and view.versions["SQLite"]
    path = recorded.write(tmp_path / "db", recorded.tool_loop())
    view = system.status(Source(path, lambda: {"lag_events": 3}, lambda: b""))
    assert view.trouble is None and view.observer == {"lag_events": 3}
    assert view.database["sessions"] == 1 and view.database["bytes"] > 4096
