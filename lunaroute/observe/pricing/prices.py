"""The prices in force, and the cost of an exchange by them. Must not know the store; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lunaroute.observe.pricing.cost import Cost, Rates, Sum, Unknown, geo_of, mode_of, rates
from lunaroute.observe.pricing.names import DEFAULTS, MAX_NAME, UserIndex, Vendors, forms
from lunaroute.observe.pricing.table import USER, Entry, shipped
from lunaroute.observe.pricing.userfile import UserEntry, read_user_file
from lunaroute.records import Usage, UsagePart

_KNOWN = 1024
_RatesKey = tuple[int, int, str | None, str | None, str | None]


class Prices:
    """Shipped prices, our overlay and the user's file.

    The shipped table is read when it is first needed. What was found for a name is remembered; threads may share it,
    since whoever looks for the same finds the same.
    """

    def __init__(self, user: list[UserEntry] | None = None) -> None:
        self.user = user or []
        self._user = UserIndex((each.model, each.provider, each.entry) for each in self.user)
        self._vendors: Vendors | None = None
        self._found: dict[tuple[str | None, str], tuple[list[Entry], Entry | None]] = {}
        self._rates: dict[_RatesKey, Rates] = {}

    @staticmethod
    def load(user_file: Path | None = None) -> Prices:
        """With the user's prices where that file exists; a ConfigError says what is wrong in it."""
        return Prices(read_user_file(user_file) if user_file is not None and user_file.exists() else None)

    def cost(
        self,
        usage: Usage,
        *,
        provider: str | None,
        dialect: str | None,
        model: str | None,
        model_requested: str | None,
        at_ns: int,
    ) -> Cost:
        """The cost by the answered model (the requested one where the answer names none), tier and place, at a time.

        Never raises, never guesses: what cannot be priced whole has no price, and `unknown` says why.
        """
        total = Sum()
        try:
            steps: list[UsagePart] | list[Usage] = usage.parts or [usage]
            if not any(map(_told, steps)):
                raise Unknown("the answer told no usage")
            main = model or model_requested
            mode, geo = mode_of(usage), geo_of(usage)
            for step in steps:
                named = step.model or main if isinstance(step, UsagePart) else main
                total.step(step, dialect, self._rates_of(provider, named, at_ns, mode, geo, dialect))
            if usage.web_search_requests:
                total.fees(usage, self._rates_of(provider, main, at_ns, mode, geo, dialect))
        except Unknown as reason:
            return Cost(unknown=str(reason))
        cut = usage.partial or usage.unpriced_tools
        cut = cut or any(step.input_tokens is None or step.output_tokens is None for step in steps)
        return Cost(usd=total.usd, price_id=",".join(total.ids), lines=total.lines, partial=cut)

    def find(self, provider: str | None, model: str, at_ns: int) -> Entry | None:
        """The model that a name means at a time: the user's entries first."""
        if len(model) > MAX_NAME:
            return None
        found = self._found.get((provider, model))
        if found is None:
            if len(self._found) >= _KNOWN:
                self._found.clear()
                self._rates.clear()
            own = [entry for name in forms(model) for entry in self._user.find(provider, name)]
            found = self._found[provider, model] = (own, self._shipped().find(provider, model))
        for entry in found[0]:
            if entry.price(at_ns) is not None:
                return entry
        return found[1]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """All there is as (provider, model): the user's first, then the makers', then the resellers'."""
        for each in self.user:
            yield each.provider or "any", each.entry
        known = shipped().entries
        for vendor in (*DEFAULTS, *(vendor for vendor in known if vendor not in DEFAULTS)):
            for entry in known[vendor]:
                yield vendor, entry

    def _shipped(self) -> Vendors:
        if self._vendors is None:
            self._vendors = Vendors(shipped())
        return self._vendors

    def _rates_of(
        self,
        provider: str | None,
        model: str | None,
        at_ns: int,
        mode: str | None,
        geo: str | None,
        dialect: str | None,
    ) -> Rates:
        if not model:
            raise Unknown("no model was named")
        entry = self.find(provider, model, at_ns)
        if entry is None:
            raise Unknown(f"no price of {model[:80]} is known")
        row = entry.price(at_ns)
        if row is None:
            raise Unknown(f"no price of {model[:80]} is known for that time")
        special = None
        if mode is not None:
            special = entry.mode(mode, at_ns)
            if special is None:
                raise Unknown(f"no price of {entry.model.id} is known for {mode[:40]} at that time")
        if geo is not None and geo not in entry.geo:
            if entry.table != USER:
                raise Unknown(f"no price of {entry.model.id} is known for {geo[:40]}")
            geo = None
        # rows live as long as the table does, so their identity names them
        key = (id(row), id(special), mode, geo, dialect)
        found = self._rates.get(key)
        if found is None:
            found = self._rates[key] = rates(entry, row, mode, special, geo, dialect)
        return found


def _told(step: Usage | UsagePart) -> bool:
    return (
        step.input_tokens is not None
        or step.output_tokens is not None
        or step.cache_read_tokens is not None
        or step.cache_write_tokens is not None
        or step.cache_write_5m_tokens is not None
        or step.cache_write_1h_tokens is not None
    )
