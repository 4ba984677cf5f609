"""`sessions show --timeline`: requests and tool calls on one axis of time, with where the time of each went.

Values in, lines out: must not know the database. In a terminal a waterfall, one stretch of work after the other, each
on an axis of its own (between them somebody thought, or slept); in a pipe a plain table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores.rows import ExchangeRow, ToolRow
from lunaroute.ui import format

if TYPE_CHECKING:
    from rich.text import Text

PAUSE_MS = 3_000.0  # without any request or tool: a new stretch
NAME_WIDTH = 24
NARROW = 90  # columns: below this the name is short
# part, the ExchangeRow's column, its sign and its colour: told apart without colour too
PARTS = (
    ("proxy", "before_ms", "\N{LEFT HALF BLOCK}", "red"),
    ("connect", "connect_ms", "\N{QUADRANT UPPER LEFT AND LOWER RIGHT}", "magenta"),
    ("upload", "upload_ms", "\N{LOWER HALF BLOCK}", "blue"),
    ("waiting", "wait_ms", "\N{LIGHT SHADE}", "yellow"),
    ("first content", "content_ms", "\N{MEDIUM SHADE}", "cyan"),
    ("generating", "generation_ms", "\N{FULL BLOCK}", "green"),
    ("proxy", "after_ms", "\N{LEFT HALF BLOCK}", "red"),
)
OTHER = ("\N{DARK SHADE}", "white")  # time whose parts are not known
AXIS = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
TOOL = ("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "blue")


class Item(msgspec.Struct):
    """A line: a request or a tool call. start_ms: since the session's first request."""

    start_ms: float
    length_ms: float | None
    row: ExchangeRow | None = None
    tool: ToolRow | None = None

    @property
    def end_ms(self) -> float:
        return self.start_ms + (self.length_ms or 0.0)

    @property
    def parts(self) -> list[tuple[float, str, str]]:
        """(milliseconds, sign, colour) in order."""
        if self.tool is not None:
            return [(self.length_ms, *TOOL)] if self.length_ms else []
        known = [(getattr(self.row, column) or 0.0, sign, colour) for _, column, sign, colour in PARTS]
        rest = (self.length_ms or 0.0) - sum(part[0] for part in known)
        return [part for part in (*known, (rest, *OTHER)) if part[0] > 0]


def items(exchanges: list[ExchangeRow], tools: list[ToolRow]) -> list[Item]:
    """Every request and tool call by its start."""
    if not exchanges:
        return []
    zero = min(row.started_ns for row in exchanges)
    started = {row.row: row for row in exchanges}
    out = [Item((row.started_ns - zero) / 1e6, row.duration_ms, row=row) for row in exchanges]
    for tool in tools:
        row = started.get(tool.exchange)
        called = tool.called_ns
        if called is None and row is not None:
            called = row.started_ns + int((row.duration_ms or 0.0) * 1e6)
        if called is not None:
            out.append(Item(max(0.0, (called - zero) / 1e6), tool.duration_ms, tool=tool))
    return sorted(out, key=lambda item: (item.start_ms, item.tool is not None))


def stretches(all_items: list[Item]) -> Iterator[tuple[float, list[Item]]]:
    """Items without a pause between them, and the pause before."""
    current: list[Item] = []
    end = pause = 0.0
    for item in all_items:
        if current and item.start_ms - end >= PAUSE_MS:
            yield pause, current
            pause, current = item.start_ms - end, []
        current.append(item)
        end = max(end, item.end_ms)
    if current:
        yield pause, current


def show(exchanges: list[ExchangeRow], tools: list[ToolRow]) -> None:
    """Print it."""
    found = items(exchanges, tools)
    if sys.stdout.isatty():
        _waterfall(found)
    else:
        _table(found)


def _table(found: list[Item]) -> None:
    columns = [column for _, column, _, _ in PARTS]
    names = ["start_ms", "what", "name", "duration_ms", *columns, "state", "cost_usd"]
    record.line(*names)
    for item in found:
        row, tool = item.row, item.tool
        start, length = f"{item.start_ms:.1f}", _figure(item.length_ms)
        if row is not None:
            what, name = f"#{row.sequence}", row.model_used or row.model_requested or row.kind
            state, cost = row.state or "running", row.cost_usd
            record.line(start, what, name, length, *(_figure(getattr(row, column)) for column in columns), state, cost)
        elif tool is not None:
            record.line(start, "tool", tool.name, length, *[None] * len(columns), _outcome(tool), None)


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _outcome(tool: ToolRow) -> str:
    if tool.result_exchange is None:
        return "no result seen"
    return {0: "failed", 1: "ok"}.get(tool.success if tool.success is not None else -1, "done")


def _waterfall(found: list[Item]) -> None:
    from rich.text import Text

    console = record.console()
    width = console.width
    name_width = NAME_WIDTH if width >= NARROW else 13
    time_width = 11
    room = max(8, width - name_width - time_width - 3)
    for pause, stretch in stretches(found):
        start = stretch[0].start_ms
        length = max(item.end_ms for item in stretch) - start
        if pause:
            console.print(Text(f"\N{HORIZONTAL ELLIPSIS} {format.span(pause)} of pause", "dim italic"))
        end = format.span(length)
        axis = f"0 {AXIS * max(0, room - len(end) - 3)} {end}"
        console.print(Text(f"{'':<{name_width}} {axis}", "dim"), no_wrap=True, overflow="crop")
        for item in stretch:
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f"{_name(item, name_width):<{name_width}} ", "red" if _failed(item) else "")
            line.append_text(_bar(item, start, length, room))
            atmost = "≤ " if item.tool is not None and item.length_ms is not None else ""
            line.append(f" {atmost + format.span(item.length_ms):>{time_width}}", "dim")
            console.print(line)
    console.print()
    legend = Text.assemble(*((f"{sign} {name}  ", colour) for name, _, sign, colour in PARTS[:-1]))
    legend.append(f"{TOOL[0]} tool, at most", TOOL[1])
    console.print(legend)


def _failed(item: Item) -> bool:
    if item.tool is not None:
        return item.tool.success == 0
    return item.row is not None and item.row.state not in (None, "ok")


def _name(item: Item, width: int) -> str:
    if item.tool is not None:
        name = f"  {'!' if item.tool.success == 0 else '>'} {item.tool.name}"
    else:
        assert item.row is not None
        kind = item.row.kind or "turn"
        said = format.KINDS.get(kind, kind) if kind != "turn" else item.row.model_used or item.row.model_requested or ""
        state = "" if item.row.state == "ok" else f" {format.state(item.row.state)}"
        name = f"#{item.row.sequence}{state} {said}"
    name = inert(" ".join(name.split()) if item.tool is None else name.replace("\n", " ").replace("\t", " "))
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _bar(item: Item, start: float, length: float, room: int) -> Text:
    """Blanks up to where it begins, then its parts; whatever has a length has at least one sign."""
    from rich.text import Text

    scale = room / length if length > 0 else 0.0
    begin = min(room - 1, int((item.start_ms - start) * scale))
    cells = max(1, min(room - begin, round((item.length_ms or 0.0) * scale)))
    bar = Text(" " * begin)
    parts = item.parts or [(1.0, "\N{MIDDLE DOT}", "dim")]
    whole = sum(part[0] for part in parts)
    done, drawn = 0.0, 0
    for milliseconds, sign, colour in parts:
        done += milliseconds
        upto = round(cells * done / whole)
        bar.append(sign * (upto - drawn), colour)
        drawn = max(drawn, upto)
    bar.append(" " * (room - begin - drawn))
    return bar
