"""`sessions show --timeline`: requests and tool calls on one axis of time, with where the time of each went.

Values in, lines out: must not know the database. In a terminal a waterfall (ui/timeline.py); in a pipe a plain table.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lunaroute.cli import record
from lunaroute.cli.record import inert
from lunaroute.stores.rows import ExchangeRow, ToolRow
from lunaroute.ui import format
from lunaroute.ui.timeline import OTHER, PARTS, TOOL, Item, items, stretches

if TYPE_CHECKING:
    from rich.text import Text

NAME_WIDTH = 24
NARROW = 90  # columns: below this the name is short
# each part's sign and colour: told apart without colour too
SIGNS = {
    "proxy": ("\N{LEFT HALF BLOCK}", "red"),
    "connect": ("\N{QUADRANT UPPER LEFT AND LOWER RIGHT}", "magenta"),
    "upload": ("\N{LOWER HALF BLOCK}", "blue"),
    "waiting": ("\N{LIGHT SHADE}", "yellow"),
    "first content": ("\N{MEDIUM SHADE}", "cyan"),
    "generating": ("\N{FULL BLOCK}", "green"),
    OTHER: ("\N{DARK SHADE}", "white"),
    TOOL: ("\N{BOX DRAWINGS HEAVY HORIZONTAL}", "blue"),
}
AXIS = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"


def show(exchanges: list[ExchangeRow], tools: list[ToolRow]) -> None:
    """Print it."""
    found = items(exchanges, tools)
    if sys.stdout.isatty():
        _waterfall(found)
    else:
        _table(found)


def _table(found: list[Item]) -> None:
    columns = [column for _, column in PARTS]
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
            line.append(f"{_name(item, name_width):<{name_width}} ", "red" if item.failed else "")
            line.append_text(_bar(item, start, length, room))
            atmost = "≤ " if item.tool is not None and item.length_ms is not None else ""
            line.append(f" {atmost + format.span(item.length_ms):>{time_width}}", "dim")
            console.print(line)
    console.print()
    legend = Text.assemble(*((f"{SIGNS[name][0]} {name}  ", SIGNS[name][1]) for name, _ in PARTS[:-1]))
    legend.append(f"{SIGNS[TOOL][0]} tool, at most", SIGNS[TOOL][1])
    console.print(legend)


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
    parts = [(ms, *SIGNS[name]) for name, ms in item.parts] or [(1.0, "\N{MIDDLE DOT}", "dim")]
    whole = sum(part[0] for part in parts)
    done, drawn = 0.0, 0
    for milliseconds, sign, colour in parts:
        done += milliseconds
        upto = round(cells * done / whole)
        bar.append(sign * (upto - drawn), colour)
        drawn = max(drawn, upto)
    bar.append(" " * (room - begin - drawn))
    return bar
