"""What an exchange cost: tokens by class times the price of each class. Pure; must not know files nor records' stores.

How the figures are read (apis.md 7.8). Anthropic's `input_tokens` leaves out what was read from or written to a cache;
OpenAI's includes both. So, by dialect:

- anthropic: the classes as told. A cache write without its split is priced at 5 minutes, the API's default; what the
  split leaves out of the total has the split's only TTL, else 5 minutes. A class without a price: unknown.
- chat, responses: input less cache read, cache write and audio is the plain input. A cached part without a price of its
  own is plain input, which is OpenAI's rule (a discount or surcharge exists where it is published). Where the parts
  exceed the input, the server counts in its own way: unknown. Audio beside a cache read: unknown, for it is not told
  how much of the cached part is audio.
- any other dialect: input and output; a cache figure is unknown there.

Thinking is part of the output, except for vendors whose figure leaves it out (the table says so). Web fetches are free.
`usage.parts` replace the top-level figures, each priced by its own model. A prompt's size for the tiers is all of it,
cached or not.
"""

from __future__ import annotations

import msgspec

from lunaroute.observe.pricing.table import Entry, Row
from lunaroute.records import Usage, UsagePart

MILLION = 1_000_000
OPENAI = ("chat", "responses")
# words for the ordinary tier; `auto` is what a request says, and an answer only before it knows better
STANDARD = frozenset((None, "", "default", "standard", "auto", "on_demand"))
ANYWHERE = frozenset((None, "", "global", "not_available"))


class CostLine(msgspec.Struct, kw_only=True):
    """One class of one step. kind: the class; usd = tokens * usd_per_million / 1e6.

    For `web_search` tokens are searches (the published price per thousand, times a thousand).
    """

    kind: str
    model: str
    tokens: int
    usd_per_million: float
    usd: float


class Cost(msgspec.Struct, kw_only=True):
    """usd: None where unknown, and `unknown` says why. price_id: the rows it was worked out from.

    partial: an answer was cut, told only one side, or used tools whose fees nobody told, so that `usd` is what is known
    to have been spent: a lower bound.
    """

    usd: float | None = None
    price_id: str | None = None
    lines: list[CostLine] = []
    unknown: str | None = None
    partial: bool = False


class Unknown(Exception):
    """Why there is no cost. Never leaves this package."""


class Rates(msgspec.Struct):
    """The prices of one model at one time in one mode: by class, per prompt size, the largest first."""

    price_id: str
    model: str
    levels: list[tuple[int, dict[str, float]]]
    max_prompt: int | None
    thinking_outside: bool

    def at(self, prompt: int) -> dict[str, float]:
        if self.max_prompt is not None and prompt > self.max_prompt:
            raise Unknown(f"no price of {self.price_id} is published for prompts over {self.max_prompt} tokens")
        return next(prices for above, prices in self.levels if prompt > above)


def rates(entry: Entry, row: Row, mode: str | None, special: Row | None, geo: str | None, dialect: str | None) -> Rates:
    """The row, with what the mode changes, times the factor of the place."""
    steps = {-1: row.by_class()} | {above.tokens: above.by_class() for above in row.above}
    levels = _levels(steps)
    if special is not None:
        changed = special.by_class()
        own = _levels({-1: changed} | {above.tokens: above.by_class() for above in special.above})
        # a class that the mode prices has the mode's steps, the others keep the row's
        edges = sorted({edge for edge, _ in levels} | {edge for edge, _ in own}, reverse=True)
        levels = [(edge, _under(levels, edge) | _under(own, edge)) for edge in edges]
    times = entry.geo.get(geo, 1.0) if geo is not None else 1.0
    if times != 1.0:
        levels = [
            (edge, {name: price * times if name != "web_search" else price for name, price in prices.items()})
            for edge, prices in levels
        ]
    limits = [each.max_prompt for each in (row, special) if each is not None and each.max_prompt is not None]
    return Rates(
        price_id=_price_id(entry, row, mode, special, geo),
        model=entry.model.id,
        levels=levels,
        max_prompt=min(limits, default=None),
        thinking_outside=dialect in entry.thinking_outside,
    )


def _levels(steps: dict[int, dict[str, float]]) -> list[tuple[int, dict[str, float]]]:
    """(more than so many tokens, all prices then), the largest first; a step says only what it changes."""
    merged: dict[str, float] = {}
    found = []
    for edge in sorted(steps):
        merged = merged | steps[edge]
        found.append((edge, merged))
    return found[::-1]


def _under(levels: list[tuple[int, dict[str, float]]], edge: int) -> dict[str, float]:
    return next(prices for start, prices in levels if start <= edge)


def _price_id(entry: Entry, row: Row, mode: str | None, special: Row | None, geo: str | None) -> str:
    """`genai-prices-0.2.3:anthropic/claude-opus-4-6@2026-03-13+batch@2026-10-14+us`; `@first`: since ever."""
    name = f"{entry.table}:{entry.provider}/{entry.model.id}@{row.since or 'first'}"
    if row.hours is not None:
        name += f"T{row.hours}"
    if special is not None:
        name += f"+{mode}@{special.since or 'first'}"
    return f"{name}+{geo}" if geo is not None and geo in entry.geo else name


def mode_of(usage: Usage) -> str | None:
    """How it was served, where that changes the price: the answer's tier or speed."""
    tier, speed = usage.service_tier, usage.speed
    if speed in STANDARD:
        return None if tier in STANDARD else tier
    if tier in STANDARD or tier == speed:
        return speed
    raise Unknown(f"no price is published for tier {str(tier)[:40]} and speed {str(speed)[:40]} together")


def geo_of(usage: Usage) -> str | None:
    """Where it was made, where that may change the price."""
    return None if usage.inference_geo in ANYWHERE else usage.inference_geo


class Sum:
    """Lines being added up."""

    __slots__ = ("ids", "lines", "usd")

    def __init__(self) -> None:
        self.usd = 0.0
        self.lines: list[CostLine] = []
        self.ids: list[str] = []

    def add(self, rates: Rates, kind: str, tokens: int, price: float) -> None:
        usd = tokens * price / MILLION
        self.usd += usd
        self.lines.append(CostLine(kind=kind, model=rates.model, tokens=tokens, usd_per_million=price, usd=usd))

    def step(self, told: Usage | UsagePart, dialect: str | None, rates: Rates) -> None:
        """Everything that one step's figures say."""
        self._name(rates)
        if dialect == "anthropic":
            self._anthropic(told, rates)
        elif dialect in OPENAI:
            self._openai(told, rates)
        else:
            self._plain(told, rates)

    def _name(self, rates: Rates) -> None:
        if rates.price_id not in self.ids:
            self.ids.append(rates.price_id)

    def fees(self, usage: Usage, rates: Rates) -> None:
        """What the vendor's own tools cost beside their tokens."""
        searches = _count(usage.web_search_requests)
        if searches:
            self._name(rates)
            self.add(rates, "web_search", searches, _price(rates.levels[-1][1], "web_search", rates) * 1000)

    def _anthropic(self, told: Usage | UsagePart, rates: Rates) -> None:
        fresh, read, output = _count(told.input_tokens), _count(told.cache_read_tokens), _count(told.output_tokens)
        short, long = _written(told)
        prices = rates.at(fresh + read + short + long)
        for kind, name, tokens in (
            ("input", "input", fresh),
            ("cache_read", "cache_read", read),
            ("cache_write_5m", "cache_write", short),
            ("cache_write_1h", "cache_write_1h", long),
            ("output", "output", output),
        ):
            if tokens:
                self.add(rates, kind, tokens, _price(prices, name, rates))

    def _openai(self, told: Usage | UsagePart, rates: Rates) -> None:
        prompt = fresh = _count(told.input_tokens)
        output = _count(told.output_tokens)
        read, written = _count(told.cache_read_tokens), _count(told.cache_write_tokens)
        prices = rates.at(prompt)
        heard = spoken = 0
        if isinstance(told, Usage):
            heard, spoken = _audio(told)
            if rates.thinking_outside:
                output += _count(told.thinking_tokens)
        if heard and (read or written):
            raise Unknown("how much of the cached input is audio is not told")
        parts = [("audio_input", heard)]
        parts += [(name, count) for name, count in (("cache_read", read), ("cache_write", written)) if name in prices]
        if read + written + heard > fresh or spoken > output:
            raise Unknown("the parts of the tokens exceed their total: this server counts in its own way")
        for name, tokens in parts:
            if tokens:
                fresh -= tokens
                self.add(rates, name, tokens, _price(prices, name, rates))
        if fresh:
            self.add(rates, "input", fresh, _price(prices, "input", rates))
        if spoken:
            self.add(rates, "audio_output", spoken, _price(prices, "audio_output", rates))
        if output > spoken:
            self.add(rates, "output", output - spoken, _price(prices, "output", rates))

    def _plain(self, told: Usage | UsagePart, rates: Rates) -> None:
        if told.cache_read_tokens or told.cache_write_tokens:
            raise Unknown("whether the input includes the cached part is not known of this API")
        fresh, output = _count(told.input_tokens), _count(told.output_tokens)
        prices = rates.at(fresh)
        for name, tokens in (("input", fresh), ("output", output)):
            if tokens:
                self.add(rates, name, tokens, _price(prices, name, rates))


def _count(tokens: int | None) -> int:
    if tokens is None:
        return 0
    if tokens < 0:
        raise Unknown("a figure of the usage is negative")
    return tokens


def _price(prices: dict[str, float], name: str, rates: Rates) -> float:
    price = prices.get(name)
    if price is None:
        raise Unknown(f"no price of {name} is known for {rates.model}")
    return price


def _written(told: Usage | UsagePart) -> tuple[int, int]:
    """Cache writes for 5 minutes and for an hour. The total is the later figure: it may outgrow its split."""
    short, long = _count(told.cache_write_5m_tokens), _count(told.cache_write_1h_tokens)
    if told.cache_write_tokens is None:
        return short, long
    total = _count(told.cache_write_tokens)
    if not long:
        return total, 0
    if not short:
        return 0, total
    if total < short + long:
        if not total:
            return 0, 0
        raise Unknown("the cache writes by lifetime exceed their total")
    return total - long, long


def _audio(usage: Usage) -> tuple[int, int]:
    """Audio tokens in the input and in the output."""
    heard, spoken = usage.audio_input_tokens, usage.audio_output_tokens
    if usage.audio_tokens and heard is None and spoken is None:
        raise Unknown("whether the audio was heard or spoken is not told")
    return _count(heard), _count(spoken)
