"""Makes the shipped price table from the package genai-prices; run by hand, never by the server (README.md beside it).

    python make.py 2026-11-25      in an environment that has genai-prices; the date is the day of its figures

Must not know anything of the server: it reads the other package's tables and writes ours, nothing else.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Our provider: the words of a configured provider's name that mean it. The order is the order of the search: who
# resells comes before whose models are resold (`azure-openai` is Azure).
PROVIDERS = {
    "openrouter": ["openrouter"],
    "aws": ["aws", "bedrock", "amazon"],
    "azure": ["azure"],
    "groq": ["groq"],
    "cerebras": ["cerebras"],
    "fireworks": ["fireworks"],
    "together": ["together", "togetherai"],
    "google": ["google", "vertex", "gemini"],
    "deepseek": ["deepseek"],
    "mistral": ["mistral"],
    "moonshotai": ["moonshot", "moonshotai", "kimi"],
    "minimax": ["minimax"],
    "zai": ["zai", "z-ai"],
    "x-ai": ["xai", "x-ai", "grok"],
    "anthropic": ["anthropic", "claude"],
    "openai": ["openai", "chatgpt", "codex"],
}
# Their price key: ours. Other keys are for what no usage of our dialects tells.
KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "web_searches_kcount": "web_search",
}
# A model whose price hangs on one of these cannot be priced from what a usage tells: better unknown than wrong.
UNTOLD = re.compile(r"image|video|citation|reasoning|pages|requests|messages|mchars|gpixels")
# Figures that the source itself took from elsewhere and marks as not checked with the vendor.
UNCHECKED = re.compile(r"verify against|Seen on OpenRouter|trusting the original source")
CHECKED = re.compile(r"Verified against")
# Peak hours that hold from Monday to Friday only, which the source can say in words only (its issue 582).
WEEKDAYS = ("deepseek-flash", "deepseek-v4-flash", "deepseek-v4-pro")


def number(value: Any) -> int | float:
    """A decimal as the shortest JSON number."""
    return int(value) if value == int(value) else float(value)


def prices(told: Any) -> Json | None:
    """One set of prices, with what changes above a prompt size; None where a price hangs on what no usage tells."""
    row: Json = {}
    above: dict[int, Json] = {}
    for key, value in vars(told).items():
        if value is None:
            continue
        if UNTOLD.search(key):
            return None
        if key not in KEYS:
            continue
        row[KEYS[key]] = number(getattr(value, "base", value))
        for tier in getattr(value, "tiers", ()):
            above.setdefault(tier.start, {})[KEYS[key]] = number(tier.price)
    if above:
        row["above"] = [{"tokens": start, **above[start]} for start in sorted(above)]
    return row


def when(constraint: Any) -> Json:
    """From which day, or in which hours (UTC) a price holds."""
    if constraint is None:
        return {}
    if hasattr(constraint, "start_date"):
        return {"from": constraint.start_date.isoformat()}
    return {"hours": f"{constraint.start_time:%H:%M}-{constraint.end_time:%H:%M}"}


def rows(model: Any) -> list[Json] | None:
    """The model's prices, the last that holds at a time is the price."""
    told = model.prices if isinstance(model.prices, list) else None
    if told is None:
        only = prices(model.prices)
        return [only] if only is not None else None
    found: list[Json] = []
    since: Json = {}
    for each in told:
        row = prices(each.prices)
        if row is None:
            return None
        limits = when(each.constraint)
        since = limits if "from" in limits else since
        if "hours" in limits and model.id in WEEKDAYS:
            limits = {**since, **limits, "weekdays": True}
        found.append({**limits, **row})
    return found


def modes(model: Any, standard: list[Json]) -> Json:
    """Prices by service tier or speed. What is published for short prompts only is limited to them."""
    found: Json = {}
    tiers = {key: tier["tokens"] for tier in reversed(standard[-1].get("above", [])) for key in tier if key != "tokens"}
    for variant in model.price_variants or ():
        [(kind, name)] = variant.when.items()
        if kind not in ("service_tier", "processing", "speed") or name == "default":
            continue
        row = {**when(variant.constraint), **(prices(variant.prices) or {})}
        flat = [tiers[key] for key in row if key in tiers and not any(key in tier for tier in row.get("above", []))]
        if flat:
            row["max_prompt"] = min(flat)
        found.setdefault(name, []).append(row)
    return found


def match(clause: Any, into: dict[str, list[str]]) -> None:
    """Their clauses as lists of whole names, beginnings, ends, parts and patterns."""
    kind = type(clause).__name__
    if kind == "ClauseOr":
        for each in clause.or_:
            match(each, into)
    elif kind == "ClauseAnd":
        first, second = clause.and_
        assert second.regex.startswith("^(?!"), second
        into.setdefault("like", []).append(second.regex + re.escape(first.starts_with.lower()))
    else:
        name, field = {
            "ClauseEquals": ("is", "equals"),
            "ClauseStartsWith": ("starts", "starts_with"),
            "ClauseEndsWith": ("ends", "ends_with"),
            "ClauseContains": ("has", "contains"),
            "ClauseRegex": ("like", "regex"),
        }[kind]
        value = getattr(clause, field)
        found = into.setdefault(name, [])
        value = value if name == "like" else value.lower()
        if value not in found:
            found.append(value)


def models(provider: Any) -> list[Json]:
    found = []
    for model in provider.models:
        comment = model.price_comments or ""
        if provider.id != "openrouter" and UNCHECKED.search(comment) and not CHECKED.search(comment):
            continue
        standard = rows(model)
        if not standard or "input" not in standard[0]:
            continue
        names: dict[str, list[str]] = {}
        match(model.match, names)
        entry = {"id": model.id, **names, "rows": standard}
        if special := modes(model, standard):
            entry["modes"] = special
        found.append(entry)
    return found


def main(date: str) -> None:
    told = {provider.id: provider for provider in importlib.import_module("genai_prices.data").providers}
    head = {"table": f"genai-prices-{metadata.version('genai-prices')}", "date": date}
    lines = []
    for name, words in PROVIDERS.items():
        provider = told[name]
        entry = {"id": name, "names": words}
        if provider.fallback_model_providers:
            entry["sells"] = [each for each in provider.fallback_model_providers if each in PROVIDERS]
        inner = ",\n".join(json.dumps(model, separators=(",", ":")) for model in models(provider))
        lines.append(json.dumps(entry, separators=(",", ":"))[:-1] + ',"models":[\n' + inner + "\n]}")
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"providers":[\n' + ",\n".join(lines) + "\n]}\n"
    json.loads(text)
    (Path(__file__).parent / "genai-prices.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
