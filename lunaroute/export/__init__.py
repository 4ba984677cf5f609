"""Recorded sessions in the forms that other programs and people read. Pure: records in, pieces of text out.

Must not know files, terminals or databases. What was recorded is hostile: no form lets it act.
"""

from __future__ import annotations

from lunaroute.export.told import Told

__all__ = ["FORMATS", "Told"]

# name: (ending of a file, what it is)
FORMATS = {
    "jsonl": ("jsonl", "the lines of LunaRoute's own log files"),
    "har": ("har", "HTTP Archive 1.2, for browsers' network panels and HTTP tools"),
    "html": ("html", "one page to read, keep or print"),
    "md": ("md", "Markdown"),
}
