"""Records as they may be kept: every field that reaches a disk, looked through. Must not know stores.

A record is never changed, a new one is made where something was found: its maker goes on with the old one. It fails
closed: what cannot be looked through is not kept, whatever the reason.

Of a body that was redacted no digest is kept: with it and with what is left of the body, a number of nine digits would
be found by trying. Names of sessions are part of file names; one that is itself personal data gets another name.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from lunaroute._fast.texts import Edit
from lunaroute._fast.views import apply
from lunaroute.observe.pii.bodies import Bodies
from lunaroute.observe.pii.forms import FAILED, Forms
from lunaroute.observe.pii.key import Key
from lunaroute.observe.pii.rules import Rules, rules_of
from lunaroute.observe.pii.texts import Find, Texts
from lunaroute.records import Closed, Exchange, Finding, Opened, Record, State, Text

Value = TypeVar("Value")
_BROKEN = (State.CLIENT_CANCELLED, State.TIMEOUT, State.INTERRUPTED, State.PROXY_ERROR)
_ASKED = ("prompt", "tool_result")  # kinds of texts that came with the request
# characters from which on a text was shortened by who made it (dialects/request.py, observe/exchange.py)
_TITLE, _ERROR = 110, 2000
_WORD = 256  # characters up to which a text is remembered with what became of it
_WORDS = 4096
_LOOKED = 4096  # bytes by which text is told from what is still coded
# digests, keys of rows, what the observer itself wrote, and what is looked at in a way of its own
_OWN = frozenset((
    *("id", "session_id", "parent_session_id", "started_at", "continues", "credential", "price_id", "cost_kind"),
    *("cuts", "request_sha256", "response_sha256", "state", "provider", "dialect", "transport", "kind", "signal"),
    *("found", "target", "request_headers", "response_headers", "request_body", "response_body", "split", "timings"),
))  # fmt: skip
_FAILED = FAILED.decode()


class Body(msgspec.Struct):
    """A body, redacted. edits: what was done, in the offsets of the old one. found: kind, name, digest to how often."""

    body: bytes
    edits: list[Edit]
    found: Counter[tuple[str, str, str]]


class Redactor:
    """See the module. find: the detectors (Scanner.find of _fast/pii.pyx).

    counts: values taken out, by place and kind; failed: texts of which nothing was kept.
    """

    def __init__(
        self,
        rules: Rules,
        find: Find,
        key: Key,
        *,
        sealed: Callable[[str, str, str, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        again: bool = False,
    ) -> None:
        self.rules = rules
        self.forms = Forms(rules, key, sealed)
        self._texts = Texts(rules, find, self.forms, clock=clock, again=again)
        self._bodies = Bodies(rules, self._texts)
        self._words: dict[tuple[str, str], str] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self._failed = 0

    def __repr__(self) -> str:
        return f"<Redactor {', '.join(self.rules.kinds) or 'nothing'}>"

    @property
    def failed(self) -> int:
        """Texts that could not be looked through, of which nothing was kept."""
        return self._failed + self._texts.failures

    def figures(self) -> tuple[dict[tuple[str, str], int], int]:
        """Counts by place and kind, and what failed: for metrics, from any thread."""
        return dict(self.counts), self.failed

    # --- records -----------------------------------------------------------------------------------------------
    def records(self, batch: Sequence[Record]) -> list[Record]:
        """The batch as it may be kept."""
        return [self.record(each) for each in batch] if self.rules else list(batch)

    def record(self, record: Record) -> Record:
        """The record as it may be kept. Never raises."""
        try:
            if isinstance(record, Exchange):
                return self.exchange(record)
            return self._parts(record, target=self.target(record.target)) if isinstance(record, Opened) else (
                self._parts(record)
            )  # fmt: skip
        except Exception:
            self._failed += 1
            return _skeleton(record)

    def brought(self, exchange: Exchange) -> Exchange:
        """An exchange of another time or program, as it may be kept; its session is called as it may be, too."""
        made = self.record(exchange) if self.rules else exchange
        assert isinstance(made, Exchange)
        session, parent = self.session(made.session_id), made.parent_session_id
        return msgspec.structs.replace(
            made, session_id=session, parent_session_id=self.session(parent) if parent else None
        )

    def exchange(self, exchange: Exchange) -> Exchange:
        """An exchange as it may be kept, with what was found in it."""
        # an answer that did not end well may end in the middle of a word
        broken = exchange.truncated or exchange.state in _BROKEN or (
            exchange.state is State.UPSTREAM_ERROR and exchange.stream
        )  # fmt: skip
        asked = self._side(
            exchange.request_body, exchange.request_headers, exchange.truncated, exchange.request_decode_error
        )
        told = self._side(exchange.response_body, exchange.response_headers, broken, exchange.response_decode_error)
        made = self._parts(
            exchange,
            target=self.target(exchange.target, asked.found),
            request_headers=self.fields(exchange.request_headers, asked.found),
            response_headers=self.fields(exchange.response_headers, told.found),
            title=self._maybe(exchange.title, _TITLE),
            error=self._maybe(exchange.error, _ERROR),
            texts=self._texts_of(exchange.texts, broken),
        )
        if asked.edits:
            made.request_body, made.request_altered = asked.body, True
            made.request_sha256 = made.cuts = None
        if told.edits:
            made.response_body, made.response_altered, made.response_sha256 = told.body, True, None
        made.found = [
            Finding(place=place, kind=kind, name=name, digest=digest, count=count)
            for place, found in (("request", asked.found), ("response", told.found))
            for (kind, name, digest), count in found.items()
        ]
        if exchange.state is not None:
            for each in made.found:
                self.counts[each.place, each.kind] += each.count
        return made

    def _side(self, body: bytes, fields: list[tuple[str, str]], cut: bool, undecoded: str | None) -> Body:
        if undecoded is not None and not is_text(body):
            # still coded: nobody can look into it
            self._failed += 1
            return Body(FAILED, [(0, len(body), FAILED, ())], Counter())
        return self.body(body, content_type(fields), cut)

    # --- their parts -------------------------------------------------------------------------------------------
    def body(self, body: bytes, kind: str = "", cut: bool = False) -> Body:
        """A body as it may be kept. kind: its content type, as far as told; cut: there was more of it."""
        edits = self._bodies.edits(body, kind, cut)
        return Body(apply(body, edits) if edits else body, edits, counted(edits))

    def text(
        self, text: str, context: str = "", found: Counter[tuple[str, str, str]] | None = None, cut: bool = False
    ) -> str:
        """A text as it may be kept; context: the name that it stands under. found: gets what was there. cut: there was
        more of it."""
        if not text:
            return text
        if found is None and not cut and (known := self._words.get((context, text))) is not None:
            return known
        raw = text.encode("utf-8", "replace")
        edits = self._texts.edits(raw, context.lower().encode("utf-8", "replace"), cut)
        made = apply(raw, edits).decode("utf-8", "replace") if edits else text
        if found is not None:
            found.update(counted(edits))
        elif len(text) <= _WORD and not cut:
            if len(self._words) >= _WORDS:
                self._words.clear()
            self._words[context, text] = made
        return made

    def _maybe(self, text: str | None, limit: int) -> str | None:
        """A text that was shortened where it is so long."""
        return None if text is None else self.text(text, cut=len(text) >= limit)

    def _texts_of(self, texts: list[Text], broken: bool) -> list[Text]:
        made = [
            self._any(each)
            if not broken or each.kind in _ASKED
            else Text(kind=each.kind, text=self.text(each.text, cut=True))
            for each in texts
        ]
        return made if made != texts else texts

    def target(self, target: str, found: Counter[tuple[str, str, str]] | None = None) -> str:
        """A request target: its path is a text, its query names and values."""
        raw = target.encode("utf-8", "replace")
        path, mark, _ = raw.partition(b"?")
        try:
            edits = self._texts.edits(path)
            if mark:
                edits += self._bodies.pairs(raw, len(path) + 1)
            made = apply(raw, edits).decode("utf-8", "replace") if edits else target
        except Exception:
            self._failed += 1
            return _FAILED
        if found is not None:
            found.update(counted(edits))
        return made

    def fields(
        self, fields: Iterable[tuple[str, str]], found: Counter[tuple[str, str, str]] | None = None
    ) -> list[tuple[str, str]]:
        """Header fields."""
        found = Counter() if found is None else found
        return [(self._counted("", name, found), self._counted(name, value, found)) for name, value in fields]

    def _counted(self, context: str, text: str, found: Counter[tuple[str, str, str]]) -> str:
        # most come again with each request, and have nothing in them
        if self._words.get((context, text)) == text:
            return text
        made = self.text(text, context, found)
        if made == text:
            self.text(text, context)
        return made

    def session(self, ident: str) -> str:
        """The id of a session, which names its file: another one where it is itself what must not be kept."""
        if not self.rules or self.text(ident) == ident:
            return ident
        return f"redacted-{self.forms.digest('session', ident)}"

    # --- any part ----------------------------------------------------------------------------------------------
    def _parts(self, record: Value, **done: Any) -> Value:
        """The record with every text in it looked through, but for those done."""
        changed: dict[str, Any] = {}
        for name in record.__struct_fields__:  # type: ignore[attr-defined]
            if name in done or name in _OWN:
                continue
            value = getattr(record, name)
            made = self._any(value)
            if made is not value:
                changed[name] = made
        made_record: Value = msgspec.structs.replace(record, **done, **changed)  # type: ignore[type-var]
        return made_record

    def _any(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            made = [self._any(each) for each in value]
            return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
        if isinstance(value, msgspec.Struct):
            changed = {}
            for name in value.__struct_fields__:
                old = getattr(value, name)
                new = self._any(old)
                if new is not old:
                    changed[name] = new
            return msgspec.structs.replace(value, **changed) if changed else value
        return value


def is_text(body: bytes) -> bool:
    """Whether it looks like UTF-8, maybe cut somewhere."""
    start = body[:_LOOKED].decode("utf-8", "replace")
    return "\0" not in start and (start.count("\ufffd") - 1) * 20 <= len(start)


def content_type(fields: Iterable[tuple[str, str]]) -> str:
    """The content type that the fields tell."""
    return next((value for name, value in fields if name.lower() == "content-type"), "")


def counted(edits: Iterable[Edit]) -> Counter[tuple[str, str, str]]:
    """What the edits found, and how often."""
    return Counter(tuple(each) for edit in edits for each in edit[3])


def _skeleton(record: Record) -> Record:
    """Only what the observer itself made of an exchange: states, times, counts."""
    if isinstance(record, Opened):
        return msgspec.structs.replace(record, method="", target=_FAILED)
    if isinstance(record, Closed):
        return msgspec.structs.replace(record, error=_FAILED if record.error else None)
    kept = (*("id", "session_id", "sequence", "started_at", "started_ns", "signal", "parent_session_id", "state"),
            *("status", "provider", "dialect", "transport", "kind", "stream", "timings", "split", "overhead_ms"),
            *("request_bytes", "response_bytes", "truncated", "lost_bytes", "cost_usd", "cost_kind", "price_id"),
            *("continues", "thread"))  # fmt: skip
    usage = msgspec.structs.replace(record.usage, service_tier=None, speed=None, inference_geo=None, parts=[])
    return Exchange(
        **{name: getattr(record, name) for name in kept},
        target=_FAILED,
        error=_FAILED if record.error else None,
        usage=usage,
        request_body=FAILED if record.request_body else b"",
        response_body=FAILED if record.response_body else b"",
        request_altered=bool(record.request_body),
        response_altered=bool(record.response_body),
    )


def redactor_of(
    pii: Mapping[str, Any],
    home: Path | None,
    *,
    warn: Callable[[str], None] = lambda text: None,
    key: str | None = None,
    max_age_days: int = 30,
    again: bool = False,
) -> Redactor:
    """By the settings `session_recording.pii` as plain values.

    home: where key and vault are; None: neither is kept. key: the one of the configuration, if there is one.
    max_age_days: how long the vault keeps a value.
    """
    rules = rules_of(pii)
    keyed = Key(home, key, warn)
    sealed = None
    if rules.vault and home is not None:
        from lunaroute.observe.pii.vault import Vault

        sealed = Vault(home, keyed, max_age_days=max_age_days, warn=warn).keep
    find: Find = _nothing
    if rules.kinds:
        from lunaroute._fast.pii import Scanner

        find = Scanner(
            rules.kinds, private_addresses=rules.private_addresses, reserved_domains=rules.reserved_domains
        ).find
    return Redactor(rules, find, keyed, sealed=sealed, again=again)


def _nothing(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
    return []
