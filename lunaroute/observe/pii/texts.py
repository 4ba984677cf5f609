"""One text: what is found in it, and what is to stand there instead. Must not know bodies, nor records.

A text may be JSON (the arguments of a tool), and may be written in escapes; each is undone, some times over, and what
is found in there is changed where it really stands. Escapes are undone on a copy: what is not found stays as it was.

If a text cannot be looked through, by a fault or within its time, nothing of it is kept: FAILED stands there.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from lunaroute._fast.texts import Edit, inside, loose
from lunaroute._fast.views import Known, Look, event_edits, json_edits
from lunaroute.observe.pii.forms import FAILED, Forms, canonical, hidden
from lunaroute.observe.pii.rules import Rules

Find = Callable[[bytes, bytes], list[tuple[int, int, str, str]]]
"""Text and what stood before it to (start, end, kind, name) of what is in it, in order, in bytes."""

DEPTH = 5  # times that escapes are undone, JSON in strings of JSON and the like
LIMIT_S = 0.5  # that a text may take, and for each MB of it another
PER_MB_S = 0.5
LOOKS = 64  # matches of a pattern between two looks at the clock
# names that the APIs give to texts and ids: they say nothing of what is in them
SILENT = frozenset(
    b"text content delta thinking reasoning arguments partial_json input output result message id type role model name "
    b"value title summary signature encrypted_content obfuscation system_fingerprint prompt_cache_key call_id "
    b"tool_use_id tool_call_id item_id response_id previous_response_id request_id session_id thread_id event_id "
    b"idempotency-key x-idempotency-key sec-websocket-key sec-websocket-accept etag x-request-id request-id".split()
)
MEDIA = frozenset(b"data file_data b64_json image image_url audio bytes base64 blob delta".split())
"""Names under which the APIs put base64."""
_DATA_URL = re.compile(rb"data:([\w.+-]{1,64}/[\w.+-]{1,64})?(?:;[\w.=+-]{1,64}){0,4};base64,([A-Za-z0-9+/=_-]{64,})")
CUT = b"[CUT]"
TAIL = 512  # bytes of a text that was cut in which something may have begun
_UNFINISHED = tuple(
    re.compile(pattern + rb"\Z")
    for pattern in (
        rb"[^\s\"'<>,;(){}\[\]]+@[^\s\"'<>,;(){}\[\]]*",
        rb"[+(]?[0-9](?:[\s().\-/]{0,2}[0-9]){5,}[\s().\-/+]{0,3}",
        rb"[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){2,}[ -]?",
        rb"[0-9]{1,3}(?:\.[0-9]{1,3}){1,3}\.?",
        rb"[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,}",
        rb"(?=[A-Za-z0-9_+/=.~-]{0,64}[0-9])[A-Za-z0-9_+/=.~-]{10,}",
        rb"(?i:password|passwd|secret|token|api_?key|authorization)[\"'\s]{0,3}[:=][\"'\s]{0,3}\S*",
        rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*",
    )
)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-\r\n"
_BINARY = 256  # characters from which on base64 is taken for a file
_SOUND = {code: "\x1a" for code in range(0xDC80, 0xDD00)}  # of a byte that is no UTF-8: one byte again


class Found(NamedTuple):
    """What was found, without the value: its kind, the finer name, and the digits of its token."""

    kind: str
    name: str
    digest: str


class Match(NamedTuple):
    """A place in a text, and what is there."""

    start: int
    end: int
    kind: str
    name: str


class SlowError(Exception):
    """A text took too long."""


class Texts:
    """See the module. find: the detectors. again: what comes was redacted before, by other rules perhaps.

    failures: texts of which nothing was kept.
    """

    def __init__(
        self,
        rules: Rules,
        find: Find,
        forms: Forms,
        *,
        clock: Callable[[], float] = time.monotonic,
        again: bool = False,
    ) -> None:
        self._rules, self._find, self._forms, self._clock, self._again = rules, find, forms, clock, again
        self._allowed: dict[str, frozenset[str]] = {}
        self._looks: list[Look] = [self._look(depth) for depth in range(DEPTH + 1)]
        self._looks_last: list[Look] = [self._look(depth, cut=True) for depth in range(DEPTH + 1)]
        # what had nothing in it: said for each depth, since escapes are undone the fewer times the deeper it is
        # (a pattern of the configuration may be of any word)
        self._known = [Known(bits, words=not rules.customs) for bits in (16, 16, 14, 12, 10, 8)]
        self.failures = 0

    def _look(self, depth: int, cut: bool = False) -> Look:
        return lambda text, context: self._guarded(text, context, depth, cut)

    # --- what others ask ---------------------------------------------------------------------------------------
    def edits(self, text: bytes, context: bytes = b"", cut: bool = False) -> list[Edit]:
        """What to change in a text. context: the name that it stands under. cut: there was more of it: then what it
        ends in goes, too, where that may be the beginning of something."""
        return self._guarded(text, context, 0, cut)

    def events(self, body: bytes, cut: bool = False) -> list[Edit]:
        """What to change in server-sent events. cut: there were to be more."""
        return event_edits(body, self._looks[1], self._known[1], self._looks_last[1], cut)

    def matches(self, text: bytes, context: bytes = b"") -> list[Match]:
        """What is found in a text as it stands, nothing undone. Raises SlowError, and what the detectors raise."""
        return self._found(text, context)

    # --- one text ----------------------------------------------------------------------------------------------
    def _guarded(self, text: bytes, context: bytes, depth: int, cut: bool) -> list[Edit]:
        try:
            return self._edits(text, context, depth, cut)
        except Exception:  # whatever it was, the text was not looked through
            self.failures += 1
            return [(0, len(text), FAILED, ())]

    def _edits(self, text: bytes, context: bytes, depth: int, cut: bool) -> list[Edit]:
        if depth < DEPTH and text[:64].lstrip()[:1] in (b"{", b"["):
            last = (self._looks_last if cut or depth == 0 else self._looks)[depth + 1]
            within = json_edits(text, self._looks[depth + 1], self._known[depth + 1], last)
            if within is not None:
                return within
        if self._rules.drop_binary and len(text) >= _BINARY and context.lower() in MEDIA and is_base64(text):
            return [(0, len(text), note("", text), ())]
        edits = [self._edit(text, match) for match in self._found(text, context)]
        if cut and (start := unfinished(text)) is not None:
            start = max(start, edits[-1][1] if edits else 0)
            if start < len(text):
                edits.append((start, len(text), CUT, ()))
        if self._rules.drop_binary and b";base64," in text:
            edits = _joined(edits, [(m.start(), m.end(), note(m[1].decode() if m[1] else "", m[2]), ()) for m in
                                    _DATA_URL.finditer(text)])  # fmt: skip
        if depth < DEPTH:
            deeper = loose(text)
            if deeper is not None:
                within = self._edits(deeper.text, context, depth + 1, False)
                edits = _joined(_trimmed(text, edits), deeper.back(within))
        return edits

    def _edit(self, text: bytes, match: Match) -> Edit:
        value = text[match.start : match.end].decode("utf-8", "replace")
        replacement = self._forms.replacement(match.kind, match.name, value)
        found = Found(match.kind, match.name, self._forms.digest(match.kind, value))
        return match.start, match.end, replacement, (found,)

    def _found(self, text: bytes, context: bytes) -> list[Match]:
        begun = self._clock()
        limit = LIMIT_S + PER_MB_S * len(text) / (1 << 20)
        text = sound(text)
        found = [Match(*each) for each in self._find(text, b"" if context.lower() in SILENT else context)]
        for custom in self._rules.customs:
            own = []
            for number, each in enumerate(custom.regex.finditer(text)):
                if each.end() > each.start():
                    own.append(Match(each.start(), each.end(), custom.name, custom.name))
                if number % LOOKS == 0 and self._clock() - begun > limit:
                    raise SlowError
            found += own
        if self._clock() - begun > limit:
            raise SlowError
        if not found:
            return found
        found = [each for each in found if not self._left(text[each.start : each.end], each.kind)]
        return _apart(found) if self._rules.customs else found

    def _left(self, value: bytes, kind: str) -> bool:
        """Whether a value stays: it is allowed, or it is one of our own forms."""
        if hidden(value, self._again):
            return True
        rules = self._rules
        if not rules.allow and not rules.allow_patterns:
            return False
        text = value.decode("utf-8", "replace")
        if rules.allow:
            allowed = self._allowed.get(kind)
            if allowed is None:
                allowed = self._allowed[kind] = frozenset(canonical(kind, each) for each in rules.allow)
            if canonical(kind, text) in allowed:
                return True
        return any(pattern.fullmatch(value) is not None for pattern in rules.allow_patterns)


def unfinished(text: bytes) -> int | None:
    """Where something begins that the text may end in the middle of: a mail address, a number, a key."""
    tail = text[-TAIL:]
    starts = [found.start() for pattern in _UNFINISHED if (found := pattern.search(tail)) is not None]
    return len(text) - len(tail) + min(starts) if starts else None


def sound(text: bytes) -> bytes:
    """The text in valid UTF-8, of the same length: a byte that does not belong is taken for a control character."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "surrogateescape").translate(_SOUND).encode()
    return text


def is_base64(text: bytes) -> bool:
    """Whether it is nothing but base64."""
    return not text.translate(None, _BASE64)


def note(media: str, written: bytes) -> bytes:
    """What is kept of a file: what and how large it was, and a digest by which two are told apart."""
    kind = f"{media} " if media else ""
    return f"[BINARY {kind}{len(written)} bytes sha256:{hashlib.sha256(written).hexdigest()[:16]}]".encode()


def _apart(found: list[Match]) -> list[Match]:
    """What overlaps is one: as long as both, called what the longer one is called."""
    found.sort(key=lambda each: (each.start, -each.end))
    out: list[Match] = []
    for each in found:
        if out and each.start < out[-1].end:
            last = out[-1]
            longer = each if each.end - each.start > last.end - last.start else last
            out[-1] = longer._replace(start=last.start, end=max(last.end, each.end))
        else:
            out.append(each)
    return out


def _trimmed(text: bytes, edits: list[Edit]) -> list[Edit]:
    """What was found before escapes were undone may begin with the letter of one (`\\nbob@...`), which is no part."""
    out: list[Edit] = []
    for start, end, replacement, found in edits:
        low, high = inside(text, start)[1], inside(text, end)[0]
        if low < high:
            out.append((low, high, replacement, found))
    return out


def _joined(first: list[Edit], second: list[Edit]) -> list[Edit]:
    """Two readings of one text: what overlaps is one, and the longer one says what it is; of equal ones the second."""
    if not first or not second:
        return first or second
    out: list[Edit] = []
    for each in sorted([*second, *first], key=_place):
        if out and each[0] < out[-1][1]:
            last = out[-1]
            longer = each if each[1] - each[0] > last[1] - last[0] else last
            out[-1] = (last[0], max(last[1], each[1]), longer[2], longer[3])
        else:
            out.append(each)
    return out


def _place(edit: Edit) -> tuple[int, int]:
    return edit[0], -edit[1]
