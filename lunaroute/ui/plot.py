"""The geometry of charts: numbers in, places in percent of the picture out. Values only; templates/charts.html draws.

A picture is as wide as its place on the page: bars and ticks stand at percents, lines in a box of 100 x 100 that is
stretched. So no script has to lay anything out, and none has to be there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from lunaroute.ui.ranges import Range, moment_of

TOP = 9.0  # percent of the height that stay free above the highest value
GAP = 0.22  # of a column that stays free beside its bar
LEAST = 0.9  # percent: a value that is not zero can be seen
X_TICKS = 7

Words = Callable[[float | None], str]


class Bar(msgspec.Struct):
    """A piece of a column. kind: the colour, as a class of the style sheet."""

    kind: str
    x: float
    y: float
    width: float
    height: float


class Column(msgspec.Struct):
    """What belongs to one stretch of time: its bars, and its figures in words, a line each."""

    x: float
    width: float
    words: list[str]
    bars: list[Bar] = msgspec.field(default_factory=list)


class Tick(msgspec.Struct):
    """A label at a percent of the width or height."""

    at: float
    text: str


class Line(msgspec.Struct):
    """A path through the columns, in a box of 100 x 100; dots: columns that have no neighbour to be joined with."""

    kind: str
    path: str
    dots: list[tuple[float, float]]


class Key(msgspec.Struct):
    """A line of the legend."""

    kind: str
    name: str
    words: str = ""


class Plot(msgspec.Struct, kw_only=True):
    """A chart. edges: seconds since 1970 of the columns, for zooming; empty: there is nothing to show."""

    name: str
    title: str
    told: str
    columns: list[Column]
    lines: list[Line] = msgspec.field(default_factory=list)
    y_ticks: list[Tick] = msgspec.field(default_factory=list)
    x_ticks: list[Tick] = msgspec.field(default_factory=list)
    legend: list[Key] = msgspec.field(default_factory=list)
    edges: list[int] = msgspec.field(default_factory=list)
    empty: bool = False


class Series(msgspec.Struct):
    """Values of one colour; None is a gap. whole: the legend's words, where the sum is no sum of them."""

    kind: str
    name: str
    values: Sequence[float | None]
    whole: str = ""


def stacked(name: str, title: str, over: Range, series: Sequence[Series], words: Words) -> Plot:
    """Bars over time, one series on top of the other."""
    heights = [sum(each.values[n] or 0.0 for each in series) for n in range(len(over.stretch.edges) - 1)]
    top, ticks = scale(max(heights, default=0.0))
    columns = _columns(over)
    for number, column in enumerate(columns):
        _stack(column, [(each.kind, each.values[number] or 0.0) for each in series], top)
        several = len(series) > 1
        column.words += [f"{each.name}\t{words(each.values[number])}" for each in reversed(series)]
        if several:
            column.words.append(f"Total\t{words(heights[number])}")
    return Plot(
        name=name,
        title=title,
        told=f"{title}, {over.words.lower()}: {words(sum(heights))}",
        columns=columns,
        y_ticks=[Tick(_y(value, top), words(value)) for value in ticks],
        x_ticks=_x_ticks(over),
        legend=[
            Key(each.kind, each.name, each.whole or words(sum(value or 0.0 for value in each.values)))
            for each in series
        ],
        edges=[edge // 1_000_000_000 for edge in over.stretch.edges],
        empty=not any(heights),
    )


def lines(name: str, title: str, over: Range, series: Sequence[Series], words: Words) -> Plot:
    """Lines over time."""
    known = [value for each in series for value in each.values if value is not None]
    top, ticks = scale(max(known, default=0.0))
    columns = _columns(over)
    for number, column in enumerate(columns):
        column.words += [f"{each.name}\t{words(each.values[number])}" for each in series]
    return Plot(
        name=name,
        title=title,
        told=f"{title}, {over.words.lower()}: {', '.join(f'{each.name} {each.whole}' for each in series)}",
        columns=columns,
        lines=[_line(each, columns, top) for each in series],
        y_ticks=[Tick(_y(value, top), words(value)) for value in ticks],
        x_ticks=_x_ticks(over),
        legend=[Key(each.kind, each.name, each.whole) for each in series],
        edges=[edge // 1_000_000_000 for edge in over.stretch.edges],
        empty=not known,
    )


def bars(
    name: str, title: str, groups: Sequence[tuple[list[str], Sequence[tuple[str, float]]]], legend: list[Key],
    words: Words, x_ticks: list[Tick],
) -> Plot:  # fmt: skip
    """Columns that are no stretches of time: (words of the column, pieces of (colour, value) from below)."""
    top, ticks = scale(max((sum(value for _, value in pieces) for _, pieces in groups), default=0.0))
    width = 100 / max(1, len(groups))
    columns = []
    for number, (said, pieces) in enumerate(groups):
        column = Column(round(number * width, 3), round(width, 3), list(said))
        _stack(column, pieces, top, gap=GAP if len(groups) < 120 else 0.0)
        columns.append(column)
    return Plot(
        name=name,
        title=title,
        told=title,
        columns=columns,
        y_ticks=[Tick(_y(value, top), words(value)) for value in ticks],
        x_ticks=x_ticks,
        legend=legend,
        empty=not any(value for _, pieces in groups for _, value in pieces),
    )


def scale(highest: float) -> tuple[float, list[float]]:
    """The value at the top, and two or three round ones up to it."""
    if highest <= 0:
        return 1.0, []
    power = 10.0 ** math.floor(math.log10(highest))
    step = next(power * part for part in (0.2, 0.25, 0.5, 1, 2, 2.5, 5) if highest / (power * part) < 4)
    ticks = [step * number for number in range(1, int(highest / step + 1e-9) + 1)]
    return highest, ticks


def _y(value: float, top: float) -> float:
    return round(100 - (100 - TOP) * value / top, 2)


def _columns(over: Range) -> list[Column]:
    edges = over.stretch.edges
    width = 100 / (len(edges) - 1)
    return [
        Column(round(number * width, 3), round(width, 3), [_named(moment_of(edge), moment_of(edges[number + 1]), over)])
        for number, edge in enumerate(edges[:-1])
    ]


def _named(start: datetime, end: datetime, over: Range) -> str:
    begin, finish = start.astimezone(), end.astimezone()
    day = f"{begin:%a} {begin.day} {begin:%b}"
    if over.step >= 7 * 86400:
        return f"{day} to {finish.day} {finish:%b}"
    return day if over.step >= 86400 else f"{day}, {begin:%H:%M} to {finish:%H:%M}"


def _stack(column: Column, pieces: Sequence[tuple[str, float]], top: float, gap: float = GAP) -> None:
    x, width = column.x + column.width * gap / 2, column.width * (1 - gap)
    floor = 100.0
    for kind, value in pieces:
        if value > 0:
            height = max(LEAST if floor == 100.0 else 0.0, (100 - TOP) * value / top)
            column.bars.append(Bar(kind, round(x, 2), round(floor - height, 2), round(width, 2), round(height, 2)))
            floor -= height


def _line(series: Series, columns: list[Column], top: float) -> Line:
    path, dots = "", []
    joined = False
    for number, column in enumerate(columns):
        value = series.values[number]
        if value is None:
            joined = False
            continue
        x, y = round(column.x + column.width / 2, 2), _y(value, top)
        following = series.values[number + 1] if number + 1 < len(columns) else None
        if not joined and following is None:
            dots.append((x, y))
        path += f"{'L' if joined else 'M'}{x} {y}"
        joined = True
    return Line(series.kind, path, dots)


def _x_ticks(over: Range) -> list[Tick]:
    """At edges where a day or a round hour begins, so many as there is room for."""
    edges = [moment_of(edge).astimezone() for edge in over.stretch.edges]
    count = len(edges) - 1
    if over.step >= 86400:
        every = max(1, math.ceil(count / X_TICKS))
        places = [n for n in range(count - 1, -1, -1) if (count - 1 - n) % every == 0]
        return [Tick(round(100 * (n + 0.5) / count, 2), f"{edges[n].day} {edges[n]:%b}") for n in reversed(places)]
    if over.step == 6 * 3600:
        days = [n for n in range(count) if edges[n].hour == 0]
        return [Tick(round(100 * (n + 2) / count, 2), f"{edges[n]:%a} {edges[n].day}") for n in days if n + 2 <= count]
    seconds = over.step * count / X_TICKS
    unit = next((each for each in (300, 600, 900, 1800, 3600, 10800, 14400, 21600, 43200) if each >= seconds), 86400)
    found = []
    for n in range(count):
        at = edges[n]
        if (at.hour * 3600 + at.minute * 60) % unit == 0:
            found.append(Tick(round(100 * n / count, 2), f"{at:%H:%M}"))
    return found
