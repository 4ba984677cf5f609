"""The user's own prices: `$LUNAROUTE_HOME/prices.yaml`. Strict, like the configuration. Must not know usage nor costs.

    models:
      - model: claude-opus-5*        # a name as the answer gives it; * and ? are allowed
        provider: anthropic          # optional: only for this configured provider
        from: 2026-01-01             # optional: holds from that day (UTC) on; before it the shipped price does
        input: 4.25                  # US dollars per million tokens, by class
        output: 21.25
        cache_read: 0.425
        cache_write: 5.3125          # for 5 minutes (OpenAI: any)
        cache_write_1h: 8.5
        audio_input: 32
        audio_output: 64
        web_search: 10               # US dollars per thousand searches
        above:                       # larger prompts: what changes, for the whole request
          - tokens: 200000           # more than so many
            input: 8.5
        modes:                       # what changes with the answer's tier or speed
          batch:
            input: 2.125
            output: 10.625

An entry replaces the shipped prices of its models whole: a class that it leaves out has no price there, a mode that it
leaves out is unknown. The best entry is the one for this provider, then the one with the whole name, then the longest
pattern; entries of the same `model` and `provider` with other `from` days are one history. `input: 0` and `output: 0`
make a model of your own cost nothing. Factors for places (`inference_geo`) are not applied to your prices.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from lunaroute.config.source import nearest, read_text
from lunaroute.errors import ConfigError
from lunaroute.observe.pricing.table import CLASSES, USER, Above, Entry, Model, Row

_ENTRY = ("model", "provider", "from", *CLASSES, "above", "modes")
_MODE = (*CLASSES, "above")
_ABOVE = ("tokens", *(name for name in CLASSES if name != "web_search"))
_MAX_USD = 1_000_000.0


class UserEntry(msgspec.Struct):
    """The rows of one `model` and `provider`."""

    model: str
    provider: str | None
    entry: Entry


class _File:
    """One reading of the file: nodes keep their lines, so that each problem can name its own."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: dict[tuple[str, str | None], Entry] = {}

    def read(self) -> list[UserEntry]:
        text = read_text(self._file)
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{self._file}:{line}: not valid YAML: {error.problem}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"{self._file}: not valid YAML: {type(error).__name__}") from None
        if root is not None:
            top = self._mapping(root, "", ("models",))
            for number, node in enumerate(self._items(top["models"], "models") if "models" in top else ()):
                self._entry(node, f"models[{number}]")
        return [UserEntry(name, provider, entry) for (name, provider), entry in self._found.items()]

    def _wrong(self, node: yaml.Node, key: str, text: str) -> NoReturn:
        where = f"{self._file}:{node.start_mark.line + 1}"
        raise ConfigError(f"{where}: {key}: {text}" if key else f"{where}: {text}")

    def _mapping(self, node: yaml.Node, key: str, known: tuple[str, ...] | None) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, key, "expected a mapping (`key: value` lines)")
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self._wrong(name, key, "expected a plain name as key")
            full = f"{key}.{name.value}" if key else name.value
            if known is not None and name.value not in known:
                self._wrong(name, full, f"unknown key{nearest(name.value, known)}")
            if name.value in found:
                self._wrong(name, full, "given twice; expected once")
            found[name.value] = value
        return found

    def _items(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._wrong(node, key, "expected a list (lines that begin with `- `)")
        nodes: list[yaml.Node] = node.value
        return nodes

    def _text(self, node: yaml.Node, key: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self._wrong(node, key, "expected a name")
        value: str = node.value
        return value

    def _number(self, node: yaml.Node, key: str) -> float:
        try:
            value: Any = yaml.SafeLoader("").construct_object(node) if isinstance(node, yaml.ScalarNode) else None
        except (ValueError, yaml.YAMLError):
            value = None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_USD:
            return float(value)
        self._wrong(node, key, f"expected US dollars, a number from 0 to {_MAX_USD:,.0f}{_shown(node)}")

    def _day(self, node: yaml.Node, key: str) -> str:
        try:
            return date.fromisoformat(self._text(node, key)).isoformat()
        except ValueError:
            self._wrong(node, key, f"expected a day like 2026-01-31{_shown(node)}")

    def _figures(self, found: dict[str, yaml.Node], key: str) -> dict[str, Any]:
        return {name: self._number(found[name], f"{key}.{name}") for name in CLASSES if name in found}

    def _above(self, node: yaml.Node, key: str) -> list[Above]:
        steps = []
        for number, each in enumerate(self._items(node, key)):
            inner = f"{key}[{number}]"
            found = self._mapping(each, inner, _ABOVE)
            if "tokens" not in found:
                self._wrong(each, inner, "tokens is missing; expected the prompt size above which the prices change")
            size = self._text(found["tokens"], f"{inner}.tokens")
            if not (size.isascii() and size.isdigit() and len(size) < 13):
                self._wrong(
                    found["tokens"], f"{inner}.tokens", f"expected a whole number{_shown(found['tokens'])}"
                )
            steps.append(Above(tokens=int(size), **self._figures(found, inner)))
        return steps

    def _row(self, found: dict[str, yaml.Node], key: str, since: str | None) -> Row:
        above = self._above(found["above"], f"{key}.above") if "above" in found else []
        return Row(since=since, above=above, **self._figures(found, key))

    def _entry(self, node: yaml.Node, key: str) -> None:
        found = self._mapping(node, key, _ENTRY)
        if "model" not in found:
            self._wrong(node, key, "model is missing; expected a model's name")
        if not any(name in found for name in CLASSES):
            self._wrong(node, key, "no price is given; expected at least input and output")
        name = self._text(found["model"], f"{key}.model").lower()
        provider = self._text(found["provider"], f"{key}.provider") if "provider" in found else None
        since = self._day(found["from"], f"{key}.from") if "from" in found else None
        entry = self._found.get((name, provider))
        if entry is None:
            model = Model(id=name, rows=[], modes={})
            entry = self._found[name, provider] = Entry(provider=provider or "any", model=model, table=USER)
        if any(row.since == since for row in entry.model.rows):
            self._wrong(node, key, f"{name} has prices from that day already; expected another `from`")
        entry.model.rows.append(self._row(found, key, since))
        entry.model.rows.sort(key=lambda row: row.since or "")
        if "modes" in found:
            for mode, inner in self._mapping(found["modes"], f"{key}.modes", None).items():
                where = f"{key}.modes.{mode}"
                row = self._row(self._mapping(inner, where, _MODE), where, since)
                rows = entry.model.modes.setdefault(mode, [])
                rows.append(row)
                rows.sort(key=lambda row: row.since or "")


def _shown(node: yaml.Node) -> str:
    return f', got "{node.value[:40]}"' if isinstance(node, yaml.ScalarNode) else ""


def read_user_file(file: Path) -> list[UserEntry]:
    """The entries of a file; a ConfigError names file, line, key and what was expected."""
    return _File(file).read()
