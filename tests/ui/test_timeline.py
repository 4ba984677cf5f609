"""Requests and tools on an axis of time: stretches, pieces in percent, and where the time went."""

from __future__ import annotations

from typing import Any

import pytest

from lunaroute.stores.rows import ExchangeRow, ToolRow
from lunaroute.ui import timeline


def row(number: int, start: float, length: float | None, **parts: float) -> ExchangeRow:
    given: dict[str, Any] = {"state": "ok" if length is not None else None, "duration_ms": length, **parts}
    return ExchangeRow(
        id=f"x-{number}", row=number, sequence=number, started_at="", started_ns=int(start * 1e6), **given
    )


def tool(number: int, called: float | None, length: float | None, success: int | None = 1) -> ToolRow:
    at = None if called is None else int(called * 1e6)
    return ToolRow(session_id="s", call_id=f"c{number}", exchange=number, name="Bash", kind="function", called_ns=at,
                   duration_ms=length, success=success)  # fmt: skip


ROWS = [
    row(1, 1000, 2000, before_ms=10, wait_ms=1000, content_ms=90, generation_ms=900),
    row(2, 5000, 1000, wait_ms=400, generation_ms=600),
    row(3, 60_000, 500),
]
TOOLS = [tool(1, 3000, 2000), tool(2, None, 100, success=0)]


def test_stretches_and_pieces() -> None:
    first, second = timeline.drawn(timeline.items(ROWS, TOOLS))
    assert (first.pause_ms, first.length_ms, second.pause_ms) == (0.0, 5100.0, 53_900.0)
    assert [line.item.tool is not None for line in first.lines] == [False, True, False, True]
    for stretch in (first, second):
        for line in stretch.lines:
            assert sum(piece.ms for piece in line.pieces) == pytest.approx(line.item.length_ms)
            assert all(piece.x >= 0 and piece.x + piece.width <= 100.01 for piece in line.pieces)
    assert [piece.part for piece in first.lines[0].pieces] == ["proxy", "waiting", "first content", "generating"]
    assert [piece.part for piece in second.lines[0].pieces] == ["other"]
    assert first.lines[3].item.failed and not first.lines[0].item.failed


def test_each_moment_is_spent_once() -> None:
    spent = {each.part: each.ms for each in timeline.spent(timeline.items(ROWS, TOOLS))}
    assert sum(spent.values()) == pytest.approx(59_500) and spent["human"] == pytest.approx(53_900)
    assert spent["tool"] == pytest.approx(2100) and spent["generating"] == pytest.approx(1500)
    both = [row(1, 0, 1000, wait_ms=1000), row(2, 0, 1000, generation_ms=1000)]  # at the same time
    shares = {each.part: each.ms for each in timeline.spent(timeline.items(both, []))}
    assert shares == {"waiting": 500, "generating": 500}


def test_what_runs_lasts_until_now() -> None:
    (item,) = timeline.items([row(1, 1000, None)], [], now_ns=int(3500 * 1e6))
    assert item.length_ms == 2500 and item.parts == [(timeline.RUNNING, 2500)] and not item.failed
    (unknown,) = timeline.items([row(1, 1000, None)], [])
    assert unknown.length_ms is None and timeline.drawn([unknown])[0].lines[0].pieces[0].width == timeline.LEAST


def test_nothing() -> None:
    assert timeline.items([], []) == [] and timeline.spent([]) == [] and timeline.drawn([]) == []
