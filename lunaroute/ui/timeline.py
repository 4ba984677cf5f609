"""Requests and tool calls on one axis of time, with where the time of each went. Values only.

One stretch of work after the other, each on an axis of its own: between them somebody thought, or slept. The waterfall
of the pages and that of `lunaroute sessions show --timeline` are drawn from this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lunaroute.stores.rows import ExchangeRow, ToolRow

PAUSE_MS = 3_000.0  # without any request or tool: a new stretch
# part, the ExchangeRow's column
PARTS = (
    ("proxy", "before_ms"),
    ("connect", "connect_ms"),
    ("upload", "upload_ms"),
    ("waiting", "wait_ms"),
    ("first content", "content_ms"),
    ("generating", "generation_ms"),
    ("proxy", "after_ms"),
)
OTHER = "other"  # time whose parts are not known
RUNNING = "running"  # so far
TOOL = "tool"
LEAST = 0.25  # percent of the axis: what has a length can be seen


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
    def parts(self) -> list[tuple[str, float]]:
        """(name, milliseconds) in order, those that are not nothing."""
        if self.tool is not None:
            return [(TOOL, self.length_ms)] if self.length_ms else []
        if self.row is not None and self.row.state is None:
            return [(RUNNING, self.length_ms)] if self.length_ms else []
        known = [(name, getattr(self.row, column) or 0.0) for name, column in PARTS]
        rest = (self.length_ms or 0.0) - sum(part[1] for part in known)
        return [part for part in (*known, (OTHER, rest)) if part[1] > 0]

    @property
    def failed(self) -> bool:
        if self.tool is not None:
            return self.tool.success == 0
        return self.row is not None and self.row.state not in (None, "ok")


class Piece(msgspec.Struct):
    """A part of a line, in percent of its axis."""

    part: str
    x: float
    width: float
    ms: float


class Drawn(msgspec.Struct):
    """A line with its pieces."""

    item: Item
    pieces: list[Piece]


class Stretch(msgspec.Struct):
    """Work without a pause in it. pause_ms: how long nothing was asked before it; start_ms: since the session began."""

    pause_ms: float
    start_ms: float
    length_ms: float
    lines: list[Drawn]


class Spent(msgspec.Struct):
    """Where the time of a session went: (part, milliseconds, share 0..1), the human's own last."""

    part: str
    ms: float
    share: float


def items(
    exchanges: list[ExchangeRow], tools: list[ToolRow], zero_ns: int | None = None, now_ns: int | None = None
) -> list[Item]:
    """Every request and tool call by its start. zero_ns: when the session began, if not with the first of these;
    now_ns: until then lasts what runs."""
    if not exchanges:
        return []
    zero = min(row.started_ns for row in exchanges) if zero_ns is None else zero_ns
    started = {row.row: row for row in exchanges}
    out = [Item((row.started_ns - zero) / 1e6, _length(row, now_ns), row=row) for row in exchanges]
    for tool in tools:
        row = started.get(tool.exchange)
        called = tool.called_ns
        if called is None and row is not None:
            called = row.started_ns + int((row.duration_ms or 0.0) * 1e6)
        if called is not None:
            out.append(Item(max(0.0, (called - zero) / 1e6), tool.duration_ms, tool=tool))
    return sorted(out, key=lambda item: (item.start_ms, item.tool is not None))


def _length(row: ExchangeRow, now_ns: int | None) -> float | None:
    if row.state is None and now_ns is not None:
        return max(0.0, (now_ns - row.started_ns) / 1e6)
    return row.duration_ms


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


def drawn(all_items: list[Item]) -> list[Stretch]:
    """The waterfall: each stretch as wide as the page."""
    found = []
    for pause, members in stretches(all_items):
        start = members[0].start_ms
        length = max(max(item.end_ms for item in members) - start, 1.0)
        found.append(Stretch(pause, start, length, [Drawn(item, _pieces(item, start, length)) for item in members]))
    return found


def _pieces(item: Item, start: float, length: float) -> list[Piece]:
    x = 100 * (item.start_ms - start) / length
    if not item.parts:
        return [Piece(OTHER if item.tool is None else TOOL, min(round(x, 3), 100 - LEAST), LEAST, 0.0)]
    pieces = []
    for part, ms in item.parts:
        width = 100 * ms / length
        pieces.append(Piece(part, round(x, 3), round(width, 3), ms))
        x += width
    whole = sum(piece.width for piece in pieces)
    if whole < LEAST:
        pieces = [Piece(pieces[-1].part, min(pieces[0].x, 100 - LEAST), LEAST, sum(piece.ms for piece in pieces))]
    return pieces


def spent(all_items: list[Item]) -> list[Spent]:
    """The whole time of these: each moment counts once, for the model before a tool, for a tool before the human."""
    if not all_items:
        return []
    whole = max(item.end_ms for item in all_items) - all_items[0].start_ms
    rows = [item for item in all_items if item.row is not None]
    model = _covered([(item.start_ms, item.end_ms) for item in rows])
    either = _covered([(item.start_ms, item.end_ms) for item in all_items])
    parts: dict[str, float] = {}
    for item in rows:
        for part, ms in item.parts:
            parts[part] = parts.get(part, 0.0) + ms
    overlap = sum(parts.values())
    # requests at the same time: their parts share the time that both took
    scale = model / overlap if overlap > model > 0 else 1.0
    names = dict.fromkeys([*(name for name, _ in PARTS), OTHER, RUNNING])
    found = [(name, parts[name] * scale) for name in names if parts.get(name)]
    found += [(TOOL, either - model), ("human", whole - either)]
    return [Spent(name, ms, ms / whole if whole else 0.0) for name, ms in found if ms > 0]


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    total, end = 0.0, float("-inf")
    for begin, finish in sorted(spans):
        total += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    return total
