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
        return ", ".join(value for key, value in self.fields if key.lower() == name)


def read_head(data: bytes) -> Head:
    """Parse `data` up to its blank line; whatever is no head gives empty parts."""
    end = data.find(b"\r\n\r\n")
    lines = (data if end < 0 else data[:end]).decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    first = (words[0], words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else "")
    fields = []
    by_name: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            continue
        value = value.strip(" \t")
        fields.append((name, value))
        by_name.setdefault(name.lower(), value)
    return Head(first, fields, by_name)


def body_offset(data: bytes) -> int:
    """Where the body begins after a head in `data`."""
    end = data.find(b"\r\n\r\n")
    return len(data) if end < 0 else end + 4


def status_of(head: Head) -> int | None:
    """The status code of a response head."""
    word = head.first[1]
    return int(word) if word.isascii() and word.isdigit() and len(word) == 3 else None
