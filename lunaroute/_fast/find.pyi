def find(data: bytes, inside: bytes, start: int = 0) -> int:
    """data.find(inside, start), of a start that is not negative."""

def is_utf8(data: bytes) -> bool:
    """Whether data.decode() would raise nothing."""
