"""The price table: what the files say, and which of a model's prices holds at a time. Must not know usage nor costs.

Prices are US dollars per million tokens (`web_search`: per thousand searches). The shipped figures and our overlay are
JSON files of one form (prices/README.md); the user's file becomes the same structs. A model has rows, of which the last
one that holds at a time is the price; a mode (batch, flex, priority, fast, ...) changes single classes of it; above a
prompt size every token of the request has the higher price.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path

import msgspec

FOLDER = Path(__file__).resolve().parent.parent / "prices"
CLASSES = (
    *("input", "output", "cache_read", "cache_write", "cache_write_1h"),
    *("audio_input", "audio_output", "web_search"),
)
USER = "user"
_DAY_NS = 86_400_000_000_000
_DAY_SECONDS = 86_400


class Figures(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Dollars by class; None: no price of its own."""

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    web_search: float | None = None

    def by_class(self) -> dict[str, float]:
        return {name: value for name in CLASSES if (value := getattr(self, name)) is not None}


class Above(Figures):
    """What changes, for the whole request, when its prompt has more than so many tokens."""

    tokens: int


class Row(Figures, rename={"since": "from"}):
    """Prices that hold from a day on (UTC), maybe only in some hours, maybe only on weekdays.

    max_prompt: the figures are published for prompts up to that size; for longer ones nothing is known.
    """

    since: str | None = None
    hours: str | None = None
    weekdays: bool = False
    max_prompt: int | None = None
    above: list[Above] = []

    def holds(self, at_ns: int) -> bool:
        if self.since is not None and at_ns < _starts(self.since):
            return False
        day, rest = divmod(at_ns, _DAY_NS)
        if self.weekdays and (day + 3) % 7 > 4:  # 1970-01-01 was a Thursday
            return False
        if self.hours is None:
            return True
        start, end = _hours(self.hours)
        second = rest // 1_000_000_000
        return start <= second < end if start <= end else not end <= second < start


class Model(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, rename={"exact": "is"}):
    """A model with its names (whole, beginnings, ends, parts, patterns) and prices. source, read: where and when."""

    id: str
    exact: list[str] = []
    starts: list[str] = []
    ends: list[str] = []
    has: list[str] = []
    like: list[str] = []
    rows: list[Row] = []
    modes: dict[str, list[Row]] = {}
    source: str | None = None
    read: str | None = None


class Geo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A factor on all token prices where the answer says that it was made in this place."""

    geo: str
    times: float
    models: list[str]
    source: str | None = None
    read: str | None = None


class Provider(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Who sets the prices. names: words in a configured provider's name that mean it; sells: whose models it has too.

    thinking_outside: the dialects in which its output figure leaves the thinking out, though that is paid as output.
    """

    id: str
    names: list[str]
    models: list[Model]
    sells: list[str] = []
    geo: list[Geo] = []
    thinking_outside: list[str] = []
    source: str | None = None
    read: str | None = None


class Table(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One file. table: its name and version; date: the day of its figures."""

    table: str
    date: str
    providers: list[Provider]


class Entry(msgspec.Struct, kw_only=True):
    """A model as it is priced: the shipped figures with the overlay laid over them, or an entry of the user."""

    provider: str
    model: Model
    table: str
    geo: dict[str, float] = {}
    thinking_outside: frozenset[str] = frozenset()

    def price(self, at_ns: int) -> Row | None:
        """The row that holds then. Of shipped prices the first is taken for all earlier times."""
        held = _last(self.model.rows, at_ns)
        return self.model.rows[0] if held is None and self.table != USER else held

    def mode(self, name: str, at_ns: int) -> Row | None:
        """What a mode changes then; None where that is not known."""
        return _last(self.model.modes.get(name, ()), at_ns)


def _last(rows: list[Row] | tuple[()], at_ns: int) -> Row | None:
    return next((row for row in reversed(rows) if row.holds(at_ns)), None)


@cache
def _starts(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * _DAY_NS


@cache
def _hours(text: str) -> tuple[int, int]:
    """`16:30-00:30` as seconds of the day; the end is not part of it."""
    start, end = ((int(part[:2]) * 60 + int(part[3:])) * 60 for part in text.split("-"))
    return start, end or _DAY_SECONDS


class Shipped(msgspec.Struct):
    """The shipped prices by provider, in the order in which a configured provider's name is looked for."""

    table: str
    date: str
    overlay: str
    providers: list[Provider]
    entries: dict[str, list[Entry]]


def read_table(file: Path) -> Table:
    """One of the shipped files."""
    return msgspec.json.decode(file.read_bytes(), type=Table)


@cache
def shipped() -> Shipped:
    """The packaged figures with our overlay. Some milliseconds, the first time."""
    base, overlay = read_table(FOLDER / "genai-prices.json"), read_table(FOLDER / "overlay.json")
    ours = f"{overlay.table}-{overlay.date}"
    own = {provider.id: provider for provider in overlay.providers}
    entries = {}
    for provider in base.providers:
        over = own.get(provider.id)
        entries[provider.id] = _laid_over(provider, over, base.table, ours)
    return Shipped(base.table, base.date, ours, base.providers, entries)


def _laid_over(provider: Provider, over: Provider | None, table: str, ours: str) -> list[Entry]:
    found = [Entry(provider=provider.id, model=model, table=table) for model in provider.models]
    if over is None:
        return found
    known = {entry.model.id: entry for entry in found}
    for model in over.models:
        entry = known.get(model.id)
        if entry is None:
            found.append(Entry(provider=provider.id, model=model, table=ours))
        else:
            entry.model.modes = {**entry.model.modes, **model.modes}
            entry.model.source, entry.model.read = model.source, model.read
    for entry in found:
        entry.geo = {place.geo: place.times for place in over.geo if entry.model.id in place.models}
        entry.thinking_outside = frozenset(over.thinking_outside)
    return found
