"""One body, whatever its form: JSON, lines of it, server-sent events, forms, parts, plain text. Must not know records.

Which form it is the bytes themselves say, where they can: a content type may be wrong, missing or behind a proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lunaroute._fast.texts import Edit, form
from lunaroute.observe.pii.forms import FAILED
from lunaroute.observe.pii.rules import Rules
from lunaroute.observe.pii.texts import Texts, note

PARTS = 1000  # of a multipart body; what is behind them is left out
NESTED = 3  # parts in parts
_FIELD = re.compile(rb"(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:")
_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))""", re.IGNORECASE)
_WIDE = re.compile(r"charset=\"?(?:utf-?(?:16|32|7)|ucs)", re.IGNORECASE)
_PAIR = re.compile(rb"[^&;]+")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_TYPE = re.compile(rb"^content-type:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_LEFT_OUT = ("image/", "audio/", "video/", "font/")
_LOOKED = 8192  # bytes in which a zero byte tells that it is no text


class Bodies:
    """Edits of bodies by the rules."""

    def __init__(self, rules: Rules, texts: Texts) -> None:
        self._rules, self._texts = rules, texts

    def edits(self, body: bytes, content_type: str = "", cut: bool = False) -> list[Edit]:
        """What to change in a body; in order. Never raises: of what cannot be looked through nothing is left.

        cut: there was more of it.
        """
        try:
            return self._edits(body, content_type, NESTED, cut) if body else []
        except Exception:
            self._texts.failures += 1
            return [(0, len(body), FAILED, ())]

    def _edits(self, body: bytes, content_type: str, nested: int, cut: bool = False) -> list[Edit]:
        if _WIDE.search(content_type):
            raise ValueError  # no text that the detectors read
        kind = content_type.partition(";")[0].strip().lower()
        if kind.startswith("multipart/") and nested:
            boundary = _BOUNDARY.search(content_type)
            if boundary is not None:
                return list(self._parts(body, (boundary[1] or boundary[2]).encode("utf-8", "replace"), nested))
        if kind == "application/x-www-form-urlencoded":
            return self.pairs(body, 0)
        if self._rules.drop_binary and (b"\0" in body[:_LOOKED] or kind.startswith(_LEFT_OUT)):
            return [(0, len(body), note(kind, body), ())]
        if kind == "text/event-stream" or (body[:1] not in b"{[<" and _FIELD.match(body)):
            return self._texts.events(body, cut)
        return self._texts.edits(body, b"", cut)

    def pairs(self, raw: bytes, start: int) -> list[Edit]:
        """What to change in the names and values of a query, which begins at `start`."""
        out: list[Edit] = []
        for pair in _PAIR.finditer(raw, start):
            middle = raw.find(b"=", pair.start(), pair.end())
            name = form(raw, pair.start(), middle if middle >= 0 else pair.end())
            out += name.back(self._texts.edits(name.text))
            if middle >= 0:
                value = form(raw, middle + 1, pair.end())
                out += value.back(self._texts.edits(value.text, name.text))
        return out

    def _parts(self, body: bytes, boundary: bytes, nested: int) -> Iterator[Edit]:
        """RFC 2046: parts between lines that begin with two dashes and the boundary."""
        line = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r?\n|$)")
        at = 0
        for number, found in enumerate(line.finditer(body)):
            yield from self._part(body, at, found.start(), nested, preamble=number == 0)
            at = found.end()
            if number == PARTS:
                yield at, len(body), FAILED, ()
                return
        yield from self._part(body, at, len(body), nested, preamble=not at)

    def _part(self, body: bytes, start: int, end: int, nested: int, preamble: bool) -> Iterator[Edit]:
        part = body[start:end]
        if preamble:
            yield from _moved(self._texts.edits(part), start)
            return
        # behind the line of the boundary; a part without a head begins with a blank line
        split = _HEAD_END.search(part)
        head = part[: split.start()] if split else part
        yield from _moved(self._texts.edits(head), start)
        if split is None:
            return
        told = _TYPE.search(head)
        kind = told[1].decode("latin-1") if told else ""
        inner = self._edits(part[split.end() :], kind, nested - 1)
        yield from _moved(inner, start + split.end())


def _moved(edits: list[Edit], by: int) -> list[Edit]:
    return [(start + by, end + by, replacement, found) for start, end, replacement, found in edits]
