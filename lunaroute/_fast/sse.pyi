from collections.abc import Iterable

class Events:
    """Server-sent events out of bytes in any pieces; see the module.

    limit: bytes of an event's data; larger ones are dropped. deltas: whether Anthropic's are read, too.
    """

    dropped: int
    def __init__(self, limit: int = ..., deltas: bool = False) -> None: ...
    @property
    def held(self) -> int:
        """Bytes kept of a line whose end has not come."""

    def feed(self, pieces: Iterable[bytes]) -> list[tuple[str, bytes, str, int] | tuple[int, str, str, int]]:
        """The events that end in these pieces: (name, data, id, piece), or (index, kind, text, piece) of deltas.

        piece: the number of the piece that ended the event, or the first of the deltas; the first one fed is 0.
        """

    def finish(self) -> list[tuple[str, bytes, str, int] | tuple[int, str, str, int]]:
        """What the end of the stream left without its blank line."""
