"""Tables as CSV that no spreadsheet takes for a formula. Pure.

A cell of text that begins with one of = + - @, a tab or a line's end gets an apostrophe in front (OWASP, CSV
injection); numbers stay numbers. Lines end as RFC 4180 says.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import msgspec

_ACTING = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
Cell = str | int | float | None


class Sheet(msgspec.Struct):
    """A table. name: of the file, without its ending."""

    name: str
    head: list[str]
    rows: list[list[Cell]]


def csv_of(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The whole file. Unknown values are empty cells."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([safe(name) for name in head])
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return out.getvalue()


def safe(text: str) -> str:
    """The text as a cell that is only text."""
    clean = text.replace("\0", "").encode("utf-8", "replace").decode()
    return f"'{clean}" if clean.lstrip(" ").startswith(_ACTING) else clean


def _cell(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, str):
        return safe(cell)
    return str(cell) if isinstance(cell, int) else f"{cell:.6f}".rstrip("0").rstrip(".")
