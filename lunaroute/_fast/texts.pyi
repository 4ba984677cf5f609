from typing import Any

Edit = tuple[int, int, bytes, Any]

class Text:
    """A text, and the raw bytes that it stands for. text: UTF-8."""

    text: bytes

    def back(self, edits: list[Edit]) -> list[Edit]:
        """The edits of the text as edits of the raw bytes, in order. What lies in pieces is replaced in the first one,
        and taken out of the others."""

def string(raw: bytes, start: int, end: int) -> Text:
    """The inside of a JSON string."""

def form(raw: bytes, start: int, end: int) -> Text:
    """A name or a value of a query or of a form body."""

def loose(raw: bytes) -> Text | None:
    """The text with escapes of any kind undone once; None where it has none."""

def inside(raw: bytes, at: int) -> tuple[int, int]:
    """(start, end) of the backslash escape that `at` lies inside of; (at, at) where in none."""
