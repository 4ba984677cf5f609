"""Times that people choose: whole columns, days of the calendar whatever the clocks do, and what cannot be."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lunaroute.stores.readonly import BadQuestion
from lunaroute.ui import plot, ranges
from lunaroute.ui.plot import Series

NOW = datetime(2026, 10, 27, 9, 41, 7, tzinfo=UTC)  # two days after the clocks of Berlin went back


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("name", "count"), [("1h", 30), ("24h", 24), ("7d", 28), ("30d", 30)])
def test_named_ranges(zone: str, name: str, count: int) -> None:
    over = ranges.asked({"range": name}, NOW)
    edges = over.stretch.edges
    assert len(edges) == count + 1 and all(one < two for one, two in itertools.pairwise(edges))
    assert all(edge % over.stretch.unit == 0 for edge in edges)
    assert edges[-2] <= NOW.timestamp() * 1e9 < edges[-1] or name in ("7d", "30d")
    assert edges[0] <= NOW.timestamp() * 1e9 < edges[-1]


def test_days_are_those_of_the_calendar(zone: str) -> None:
    starts = [ranges.moment_of(edge).astimezone() for edge in ranges.asked({"range": "7d"}, NOW).stretch.edges]
    hours = {(each.hour, each.minute) for each in starts}
    # where a zone is off by half an hour, so are the hours that sums are kept by
    assert hours <= (
        {(23, 30), (5, 30), (11, 30), (17, 30)} if "Kolkata" in zone else {(0, 0), (6, 0), (12, 0), (18, 0)}
    )


@pytest.mark.parametrize("hours", [0.5, 2, 5, 20, 100, 1000, 9000, 90_000, 900_000])
def test_own_ranges_have_a_bounded_number_of_columns(zone: str, hours: float) -> None:
    over = ranges.custom(NOW - timedelta(hours=hours), NOW)
    columns = len(over.stretch.edges) - 1
    assert 1 <= columns <= ranges.COLUMNS_LIMIT + 1
    assert over.stretch.edges[0] <= (NOW - timedelta(hours=hours)).timestamp() * 1e9
    assert " to " in over.words
    plot.stacked("x", "X", over, [Series("a", "A", [1.0] * columns)], str)


@pytest.mark.parametrize(
    "query",
    [{"range": "2h"}, {"range": "x"}, {"since": "x"}, {"since": "1h", "until": "2h"}, {"until": "1h"},
     {"since": "2027-01-01"}, {"range": "custom"}],
)  # fmt: skip
def test_what_cannot_be(query: dict[str, str]) -> None:
    with pytest.raises(BadQuestion):
        ranges.asked(query, NOW)


# --- what is drawn of it ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("highest", [0.00012, 0.9, 1, 3, 7.3, 12, 99, 4_321, 1e9])
def test_ticks_are_round_and_few(highest: float) -> None:
    top, ticks = plot.scale(highest)
    assert top == highest and 1 <= len(ticks) <= 4 and 0 < ticks[-1] <= highest * 1.000001
    assert all(float(f"{tick:.2g}") == pytest.approx(tick) for tick in ticks)


def test_bars_stack_to_the_top_and_stay_inside() -> None:
    over = ranges.asked({"range": "24h"}, NOW)
    series = [Series("a", "A", [float(n) for n in range(24)]), Series("b", "B", [None, *[2.0] * 23])]
    made = plot.stacked("x", "X", over, series, lambda value: f"{value or 0:.0f}")
    assert not made.empty and len(made.columns) == 24 and len(made.edges) == 25
    for number, column in enumerate(made.columns):
        floor = 100.0
        for bar in column.bars:
            assert bar.y + bar.height == pytest.approx(floor, abs=0.02) and bar.y >= plot.TOP - 0.02
            assert column.x <= bar.x and bar.x + bar.width <= column.x + column.width + 0.01
            floor = bar.y
        assert len(column.bars) == (number > 0) * 2
    assert made.columns[23].words[1:] == ["B\t2", "A\t23", "Total\t25"]


def test_lines_have_gaps_where_nothing_is_known() -> None:
    over = ranges.asked({"range": "24h"}, NOW)
    values = [None, 5.0, None, 1.0, 2.0, *[None] * 19]
    (line,) = plot.lines("x", "X", over, [Series("a", "A", values)], str).lines
    assert line.path.count("M") == 2 and line.path.count("L") == 1 and len(line.dots) == 1
    assert plot.lines("x", "X", over, [Series("a", "A", [None] * 24)], str).empty
