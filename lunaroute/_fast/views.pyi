from collections.abc import Callable

from lunaroute._fast.texts import Edit

Look = Callable[[bytes, bytes], list[Edit]]

class Known:
    """Texts that have been looked at and had nothing in them. bits: of the size of the table. words: a short word that
    is the name of a member, or one of the API's own (`type`, `id`), is known without a look."""

    hits: int
    words: bool
    def __init__(self, bits: int = 16, words: bool = True) -> None: ...

def json_edits(body: bytes, look: Look, known: Known, look_last: Look | None = None) -> list[Edit] | None:
    """Edits of JSON values, one or several after another; None where it is none. What is cut at its end is taken.

    look_last: instead of look, for a text that the bytes end in.
    """

def event_edits(
    body: bytes, look: Look, known: Known, look_last: Look | None = None, cut: bool = False
) -> list[Edit]:
    """Edits of server-sent events (WHATWG HTML section 9.2), whatever is in them.

    look_last: as for json_edits; cut: there should have been more events, so the last text is one that was cut.
    """

def apply(raw: bytes, edits: list[Edit]) -> bytes:
    """The bytes with the edits done; they are in order and do not overlap."""
