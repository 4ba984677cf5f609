class Cuts:
    """A body, cut.

    ends: the offset behind each piece. marks: one signed 64-bit number a piece. elements: (key, start, end, first
    piece, piece behind the last) of each element, in order. whole: the body was no JSON object, there is but one piece.
    """

    ends: list[int]
    marks: list[int]
    elements: list[tuple[str, int, int, int, int]]
    whole: bool

def mark(piece: bytes) -> int:
    """The mark of a piece."""

def cut(body: bytes, long_string: int = 512) -> Cuts:
    """Cut a body; strings of `long_string` bytes and more become pieces of their own."""

def runs(marks: list[int], base: list[int], places: dict[int, int]) -> list[int]:
    """How a sequence of pieces is made of those of another: a flat list of (start, count) pairs, start -1 where the
    next `count` pieces are not in the other one."""
