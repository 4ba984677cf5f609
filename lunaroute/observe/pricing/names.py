"""From the names in a record (configured provider, model) to the model whose prices count. Must not know prices.

Rules, in this order; the first that finds a model wins, and what no rule finds is unknown:

1. The user's entries: for this provider before for all, a whole name before a pattern, the longer pattern before the
   shorter.
2. The models of whoever the configured provider's name means (`azure-openai` is Azure), then those of whom it sells.
3. Where that name means nobody, or is one of the default names `anthropic` and `openai` (behind which any gateway may
   be): who alone sets the price of a model with such a name. Models that many serve at prices of their own (Llama,
   Qwen, DeepSeek, gpt-oss, ...) are unknown here.

Within one vendor a whole name beats the longest matching beginning, part or pattern. The name is tried as told, then
without `[1m]`, without a path before it (`models/...`, `anthropic/...`), with `@` as `-`, with a compact date as a
dashed one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate

from lunaroute.observe.pricing.table import Entry, Shipped

MAX_NAME = 256
DEFAULTS = ("anthropic", "openai")
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|\Z)")
_NO_WORD = re.compile(r"[^a-z0-9]+")
# who alone sets the price of models with such names; Bedrock's ids say so themselves (`us.anthropic.claude-...`)
_MAKERS = (
    ("aws", re.compile(r"(?:^|[./])(?:anthropic\.claude|openai\.gpt|amazon\.(?:nova|titan))")),
    ("anthropic", re.compile(r"claude")),
    ("openai", re.compile(r"^(?:ft:)?(?:gpt-|chatgpt-|codex-|o[134](?:-|$))")),
    ("google", re.compile(r"^gemini")),
    ("x-ai", re.compile(r"^grok")),
)


class Index:
    """The names of one vendor's models."""

    __slots__ = ("_exact", "_parts", "_patterns")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._exact: dict[str, Entry] = {}
        self._parts: list[tuple[str, str, Entry]] = []
        self._patterns: list[tuple[re.Pattern[str], Entry]] = []
        for entry in entries:
            model = entry.model
            for name in model.exact:
                self._exact.setdefault(name, entry)
            for kind, parts in (("starts", model.starts), ("ends", model.ends), ("has", model.has)):
                self._parts += [(kind, part, entry) for part in parts]
            self._patterns += [(re.compile(pattern), entry) for pattern in model.like]

    def find(self, name: str) -> Entry | None:
        """The model of this name (small letters), by the most exact match."""
        found = self._exact.get(name)
        if found is not None:
            return found
        best = 0
        for kind, part, entry in self._parts:
            if len(part) > best and part in name:
                fits = name.startswith(part) if kind == "starts" else kind == "has" or name.endswith(part)
                if fits:
                    best, found = len(part), entry
        for pattern, entry in self._patterns:
            match = pattern.search(name)
            if match is not None and len(match[0]) > best:
                best, found = len(match[0]), entry
        return found


class UserIndex:
    """The user's entries: `model` is a whole name or a pattern with `*` and `?`, `provider` may be missing."""

    def __init__(self, entries: Iterable[tuple[str, str | None, Entry]]) -> None:
        self._all: list[tuple[tuple[bool, bool, int], re.Pattern[str], str | None, Entry]] = []
        for name, provider, entry in entries:
            pattern = "*" in name or "?" in name
            rank = (provider is None, pattern, -len(name))
            self._all.append((rank, re.compile(translate(name.lower())), provider, entry))
        self._all.sort(key=lambda each: each[0])

    def find(self, provider: str | None, name: str) -> Iterator[Entry]:
        """All that fit, the best first: an entry may hold from a later day on only."""
        for _, pattern, only, entry in self._all:
            if (only is None or only == provider) and pattern.match(name):
                yield entry


def forms(model: str) -> list[str]:
    """The ways in which a model's name may stand in a table, the most literal first."""
    name = model.strip().lower()
    found = [name]
    if name.endswith("]") and "[" in name:
        found.append(name[: name.rindex("[")])
    for each in tuple(found):
        if "/" in each:
            found.append(each.rpartition("/")[2])
    for each in tuple(found):
        if "@" in each:
            found.append(each.replace("@", "-"))
    for each in tuple(found):
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", each)
        if dashed != each:
            found.append(dashed)
    return list(dict.fromkeys(found))


class Vendors:
    """Finds shipped models. Each vendor's index is made when it is first asked for."""

    def __init__(self, shipped: Shipped) -> None:
        self._shipped = shipped
        self._sells = {provider.id: provider.sells for provider in shipped.providers}
        self._words = [
            (f"-{_NO_WORD.sub('-', word)}-", provider.id) for provider in shipped.providers for word in provider.names
        ]
        self._made: dict[str, Index] = {}

    def _index(self, vendor: str) -> Index:
        index = self._made.get(vendor)
        if index is None:
            index = self._made[vendor] = Index(self._shipped.entries.get(vendor, ()))
        return index

    def vendor(self, provider: str | None) -> str | None:
        """Whom a configured provider's name means."""
        words = f"-{_NO_WORD.sub('-', (provider or '')[:MAX_NAME].lower())}-"
        return next((vendor for word, vendor in self._words if word in words), None)

    def find(self, provider: str | None, model: str) -> Entry | None:
        names = forms(model)
        vendor = self.vendor(provider)
        if vendor is not None:
            for each in (vendor, *self._sells[vendor]):
                found = self._first(each, names)
                if found is not None:
                    return found
        if vendor is None or vendor in DEFAULTS:
            for maker, pattern in _MAKERS:
                if any(pattern.search(name) for name in names):
                    return self._first(maker, names)
        return None

    def _first(self, vendor: str, names: list[str]) -> Entry | None:
        index = self._index(vendor)
        return next((found for name in names if (found := index.find(name)) is not None), None)
