"""Patterns that users write, for google-re2: its time is linear in the text. Must not know what they are for."""

from __future__ import annotations

from typing import Any

MEMORY = 8 << 20  # bytes that one pattern may take while it runs


def compiled(pattern: str) -> Any:
    """The pattern for google-re2. Raises ValueError with the reason where that cannot be."""
    import re2  # type: ignore[import-untyped]  # takes memory that most installations need not spend

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        made = re2.compile(pattern, options)
    except re2.error as error:
        said = error.args[0] if error.args else "it cannot be compiled"
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
    if made.search(b"") is not None:
        raise ValueError("it matches the empty text")
    return made
