"""HTTP heads as the tap copied them, read for the record. Judges nothing: the relay has let them pass already."""

from __future__ import annotations

import msgspec


class Head(msgspec.Struct):
    """A request or status line with its header fields in wire order, values as latin-1."""

    first: tuple[str, str, str]
    fields: list[tuple[str, str]]
    by_name: dict[str, str]

    def get(self, name: str) -> str:
        """The first value of a field (name in lower case), "" where there is none."""
        return self.by_name.get(name, "")

    def joined(self, name: str) -> str:
        """All values of a list-valued field."""
        if name not in self.by_name:
            return ""
        return ", ".join(value for key, value in self.fields if key.lower() == name)


def read_head(data: bytes) -> Head:
    """Parse `data` up to its blank line; whatever is no head gives empty parts."""
    end = data.find(b"\r\n\r\n")
    lines = (data if end < 0 else data[:end]).split(b"\r\n")
    words = lines[0].decode("latin-1").split(" ", 2)
    first = (words[0], words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else "")
    fields = []
    by_name: dict[str, str] = {}
    for line in lines[1:]:
        known = _lines.get(line) or _read_line(line)
        if known[0] is not None:
            fields.append(known[1])
            by_name.setdefault(known[0], known[1][1])
    return Head(first, fields, by_name)


# clients and providers send nearly the same head each time. Of lines seen before: (name in lower case, field); the name
# is None where a line is no field
_lines: dict[bytes, tuple[str | None, tuple[str, str]]] = {}
_KNOWN = 1024


def _read_line(line: bytes) -> tuple[str | None, tuple[str, str]]:
    # a head that was refused may have blanks where none may be: whose credential it carries must be seen all the same
    name, colon, value = line.decode("latin-1").partition(":")
    folded = line[:1] in (b" ", b"\t")
    found = name.strip().lower() if colon and not folded else None, (name, value.strip(" \t"))
    if len(line) <= _KNOWN:
        if len(_lines) >= _KNOWN:
            _lines.clear()
        _lines[line] = found
    return found


def body_offset(data: bytes) -> int:
    """Where the body begins after a head in `data`."""
    end = data.find(b"\r\n\r\n")
    return len(data) if end < 0 else end + 4


def status_of(head: Head) -> int | None:
    """The status code of a response head."""
    word = head.first[1]
    return int(word) if word.isascii() and word.isdigit() and len(word) == 3 else None
