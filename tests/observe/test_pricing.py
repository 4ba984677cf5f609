"""Costs, each worked by hand: tests/corpus/prices holds the published price of each class beside the tokens.

The expected dollars never come from the shipped table: `worked` is a list of [tokens, dollars per million], `searches`
is [count, dollars per thousand].
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.errors import ConfigError
from lunaroute.observe.pricing import Cost, Prices
from lunaroute.observe.pricing.names import Index
from lunaroute.observe.pricing.table import FOLDER, Entry, Model, Row, read_table, shipped
from lunaroute.records import Usage, UsagePart

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "corpus" / "prices"
CASES = [
    {**{key: table[key] for key in ("provider", "dialect", "at")}, **case}
    for file in sorted(CORPUS.glob("*.json"))
    for table in [json.loads(file.read_text())]
    for case in table["cases"]
]
NOW = "2026-11-20"


def ns(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def cost(prices: Prices, usage: Usage, model: str | None = "claude-opus-5", **other: Any) -> Cost:
    told = {"provider": "anthropic", "dialect": "anthropic", "model_requested": None, "at": NOW, **other}
    at = told.pop("at")
    return prices.cost(usage, model=model, at_ns=ns(at), **told)


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices.load()


def of(case: dict[str, Any], prices: Prices) -> Cost:
    return prices.cost(
        msgspec.convert(case["usage"], Usage),
        provider=case["provider"],
        dialect=case["dialect"],
        model=case["model"],
        model_requested=case.get("requested"),
        at_ns=ns(case["at"]),
    )


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 60
    assert len({(case["name"], case["dialect"], case["provider"]) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_worked_by_hand(case: dict[str, Any], prices: Prices) -> None:
    found = of(case, prices)
    if "unknown" in case:
        assert found.usd is None and found.price_id is None and found.lines == []
        assert found.unknown is not None and case["unknown"] in found.unknown
        return
    count, fee = case.get("searches", (0, 0))
    expected = math.fsum(tokens * price for tokens, price in case["worked"]) / 1_000_000 + count * fee / 1000
    assert found.unknown is None
    assert found.usd == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert found.partial == case.get("partial", False)
    if "id" in case:
        assert found.price_id == case["id"]


@pytest.mark.parametrize("case", [case for case in CASES if case.get("worked")], ids=lambda case: case["name"])
def test_the_lines_are_the_worked_ones(case: dict[str, Any], prices: Prices) -> None:
    found = of(case, prices)
    count, fee = case.get("searches", (0, 0))
    expected = [*case["worked"], *([[count, fee * 1000]] if count else [])]
    assert sorted((line.tokens, round(line.usd_per_million, 9)) for line in found.lines) == sorted(map(tuple, expected))
    assert math.fsum(line.usd for line in found.lines) == pytest.approx(found.usd)


def test_a_cost_says_what_it_is_made_of(prices: Prices) -> None:
    usage = Usage(input_tokens=10, output_tokens=2, cache_write_tokens=7, cache_write_1h_tokens=7)
    found = cost(prices, usage, "claude-haiku-4-5")
    assert [(line.kind, line.model, line.tokens, line.usd_per_million) for line in found.lines] == [
        ("input", "claude-haiku-4-5", 10, 1),
        ("cache_write_1h", "claude-haiku-4-5", 7, 2),
        ("output", "claude-haiku-4-5", 2, 5),
    ]


# --- what holds for all --------------------------------------------------------------------------------------------
counts = st.none() | st.integers(0, 1 << 40)
NAMES = sorted({case["model"] for case in CASES if case["model"]})
CLASSES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
usages = st.builds(
    Usage,
    **{
        field: counts
        for field in Usage.__struct_fields__
        if field.endswith(("tokens", "requests")) and field != "thinking_tokens"
    },
    service_tier=st.sampled_from([None, "default", "batch", "flex", "priority", "fast", "ultrafast", "\udcff odd"]),
    speed=st.sampled_from([None, "standard", "fast"]),
    inference_geo=st.sampled_from([None, "global", "us", "elsewhere"]),
    partial=st.booleans(),
    parts=st.lists(
        st.builds(UsagePart, kind=st.just("message"), model=st.sampled_from([None, *NAMES]), input_tokens=counts),
        max_size=3,
    ),
)


@given(
    usage=usages,
    model=st.sampled_from(NAMES) | st.text(max_size=300) | st.none(),
    requested=st.sampled_from(NAMES) | st.none(),
    provider=st.sampled_from([None, "openai", "anthropic", "x", "openrouter", "bedrock", "vertex-x"]) | st.text(),
    dialect=st.sampled_from([None, "anthropic", "chat", "responses", "other"]),
    at_ns=st.integers(0, 1 << 62),
)
def test_a_cost_is_never_negative_and_unknown_has_a_reason(
    usage: Usage, model: str | None, requested: str | None, provider: str | None, dialect: str | None, at_ns: int
) -> None:
    found = SHARED.cost(
        usage, provider=provider, dialect=dialect, model=model, model_requested=requested, at_ns=at_ns
    )
    if found.usd is None:
        assert found.unknown and not found.lines and found.price_id is None
    else:
        assert found.usd >= 0 and found.price_id and found.unknown is None
        assert all(line.usd >= 0 and line.tokens >= 0 for line in found.lines)


@given(
    first=st.lists(st.integers(0, 20_000), min_size=5, max_size=5),
    second=st.lists(st.integers(0, 20_000), min_size=5, max_size=5),
    model=st.sampled_from(["claude-opus-5", "claude-haiku-5-5", "claude-fable-5-1", "claude-sonnet-4-5"]),
)
def test_a_cost_is_additive_below_the_next_tier(first: list[int], second: list[int], model: str) -> None:
    def price(figures: list[int]) -> float:
        found = cost(SHARED, Usage(**dict(zip(CLASSES, figures, strict=True))), model)
        assert found.usd is not None
        return found.usd

    both = [one + other for one, other in zip(first, second, strict=True)]
    if sum(both) - both[1] <= 100_000:
        assert price(both) == pytest.approx(price(first) + price(second), rel=1e-9, abs=1e-15)


@given(first=st.integers(0, 10**6), more=st.integers(0, 10**6), model=st.sampled_from(["gpt-5.5", "claude-haiku-5-5"]))
def test_more_tokens_never_cost_less(first: int, more: int, model: str) -> None:
    less, all_of_it = (cost(SHARED, Usage(input_tokens=n, output_tokens=n), model) for n in (first, first + more))
    assert less.usd is not None and all_of_it.usd is not None
    assert less.usd <= all_of_it.usd


@given(usage=usages)
def test_unknown_stays_unknown(usage: Usage) -> None:
    usage.parts = [part for part in usage.parts if part.model is None]
    assert cost(SHARED, usage, "claude-nobody-9").usd is None
    assert cost(SHARED, Usage(), "claude-opus-5").usd is None


SHARED = Prices.load()


@pytest.mark.parametrize("order", [1, -1], ids=["short first", "long first"])
def test_the_longest_part_of_a_name_wins(order: int) -> None:
    models = [
        Model(id="short", starts=["big-"]),
        Model(id="long", starts=["big-model"]),
        Model(id="end", ends=["-1"]),
        Model(id="part", has=["-model-tiny"]),
        Model(id="pattern", like=[r"^big-model-\d{8}$"]),
        Model(id="loose", like=[r"^bi"]),
        Model(id="whole", exact=["big-model-whole"]),
    ][::order]
    index = Index(Entry(provider="x", model=model, table="t") for model in models)
    found = {name: entry.model.id if (entry := index.find(name)) else None for name in NAMED}
    assert found == NAMED


NAMED = {
    "big-thing": "short",
    "big-model-large": "long",
    "model-1": "end",
    "a-model-tiny-b": "part",
    "big-model-tiny": "part",
    "big-model-20260101": "pattern",
    "big-model-whole": "whole",
    "nothing": None,
}


def test_what_is_remembered_stays_small() -> None:
    prices = Prices.load()
    for number in range(3000):
        assert cost(prices, Usage(input_tokens=1, output_tokens=1), f"nobody-{number}").usd is None
    assert len(prices._found) <= 1024
    assert cost(prices, Usage(input_tokens=1000, output_tokens=0)).usd == pytest.approx(0.005)


# --- the shipped files ----------------------------------------------------------------------------------------------
def test_the_notice_is_there_and_all_of_it_is_packaged() -> None:
    notice = (FOLDER / "LICENSE-genai-prices").read_text()
    assert "MIT License" in notice and "Copyright (c) Pydantic Services Inc." in notice
    assert "The above copyright notice and this permission notice shall be included" in " ".join(notice.split())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["lunaroute"]
    needed = ["genai-prices.json", "overlay.json", "LICENSE-genai-prices", "README.md"]
    for name in needed:
        path = (FOLDER / name).relative_to(ROOT / "lunaroute")
        assert path.name in {file.name for file in FOLDER.iterdir()}
        assert any(fnmatch(str(path), pattern) for pattern in patterns), name


def test_the_table_is_dated_and_small() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", shipped().date)
    assert (FOLDER / "genai-prices.json").stat().st_size < 400_000
    assert {"anthropic", "openai", "google", "x-ai", "openrouter"} <= set(shipped().entries)


def rows() -> list[tuple[str, Row]]:
    return [
        (f"{vendor}/{entry.model.id}", row)
        for vendor, entries in shipped().entries.items()
        for entry in entries
        for row in [*entry.model.rows, *(row for each in entry.model.modes.values() for row in each)]
    ]


def test_every_row_can_be_read() -> None:
    for name, row in rows():
        for moment in (0, ns(NOW)):
            assert row.holds(moment) in (True, False), name
        assert all(0 <= price < 10_000 for price in row.by_class().values()), name
        starts = [step.tokens for step in row.above]
        assert starts == sorted(set(starts)), name
        assert all(step.by_class() for step in row.above), name
    for entries in shipped().entries.values():
        for entry in entries:
            assert entry.model.rows and "input" in entry.model.rows[0].by_class(), entry.model.id


def test_every_figure_of_ours_says_where_it_was_read() -> None:
    for provider in read_table(FOLDER / "overlay.json").providers:
        told = [*provider.models, *provider.geo, *([provider] if provider.thinking_outside else [])]
        assert told
        assert all(each.source and re.fullmatch(r"20\d\d-\d\d-\d\d", each.read or "") for each in told)
        known = {entry.model.id for entry in shipped().entries[provider.id]}
        assert {name for place in provider.geo for name in place.models} <= known


def test_every_model_is_found_by_its_own_names(prices: Prices) -> None:
    for vendor in ("anthropic", "openai", "x-ai"):
        for entry in shipped().entries[vendor]:
            for name in entry.model.exact:
                assert prices.find(vendor, name, ns(NOW)) is entry, name
            for name in entry.model.starts:
                found = prices.find(vendor, name, ns(NOW))
                assert found is entry or (found is not None and name in found.model.exact), name


# --- the user's file ------------------------------------------------------------------------------------------------
def load(tmp_path: Path, text: str) -> Prices:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return Prices.load(file)


PLAIN = Usage(input_tokens=1000, output_tokens=100)


def test_the_users_price_wins(tmp_path: Path) -> None:
    prices = load(
        tmp_path,
        """
models:
  - {model: claude-opus-5, input: 4, output: 20, above: [{tokens: 2000, input: 8}], modes: {batch: {input: 1}}}
  - {model: "claude-*", provider: backup, input: 1, output: 1}
  - {model: "claude-opus-*", input: 3, output: 3}
  - {model: house-model, input: 0, output: 0}
""",
    )
    assert cost(prices, PLAIN).usd == pytest.approx((1000 * 4 + 100 * 20) / 1e6)
    assert cost(prices, PLAIN).price_id == "user:any/claude-opus-5@first"
    assert cost(prices, Usage(input_tokens=2000, output_tokens=0)).usd == pytest.approx(2000 * 4 / 1e6)
    assert cost(prices, Usage(input_tokens=2001, output_tokens=10)).usd == pytest.approx((2001 * 8 + 10 * 20) / 1e6)
    batch = Usage(input_tokens=1000, output_tokens=100, service_tier="batch", inference_geo="us")
    assert cost(prices, batch).usd == pytest.approx((1000 * 1 + 100 * 20) / 1e6)
    assert cost(prices, PLAIN, provider="backup").usd == pytest.approx(1100 / 1e6)
    assert cost(prices, PLAIN, "claude-opus-4-8").usd == pytest.approx(3300 / 1e6)
    assert cost(prices, PLAIN, "claude-haiku-4-5").usd == pytest.approx((1000 * 1 + 100 * 5) / 1e6)
    assert cost(prices, PLAIN, "House-Model", provider="local", dialect="chat").usd == 0
    fast = Usage(input_tokens=1000, output_tokens=100, speed="fast")
    assert "known for fast" in (cost(prices, fast).unknown or "")
    assert "cache_read" in (cost(prices, Usage(input_tokens=1, cache_read_tokens=1, output_tokens=1)).unknown or "")


def test_the_users_prices_have_a_history(tmp_path: Path) -> None:
    prices = load(
        tmp_path,
        """
models:
  - {model: claude-opus-5, from: 2026-10-01, input: 3, output: 15, modes: {fast: {input: 6, output: 30}}}
  - {model: claude-opus-5, from: 2026-09-01, input: 4, output: 20}
  - {model: house-model, from: 2026-09-01, input: 1, output: 1}
""",
    )
    fast = Usage(input_tokens=1000, output_tokens=100, speed="fast")
    days = {"2026-08-31": 5, "2026-09-01": 4, "2026-09-30": 4, "2026-10-01": 3}
    assert {day: cost(prices, Usage(input_tokens=10**6, output_tokens=0), at=day).usd for day in days} == days
    assert cost(prices, fast, at="2026-10-01").usd == pytest.approx((1000 * 6 + 100 * 30) / 1e6)
    assert cost(prices, fast, at="2026-09-01").usd is None
    assert cost(prices, PLAIN, "house-model", at="2026-08-31").usd is None


def test_without_a_file_the_shipped_prices_hold(tmp_path: Path) -> None:
    assert cost(Prices.load(tmp_path / "none.yaml"), PLAIN).usd == pytest.approx((1000 * 5 + 100 * 25) / 1e6)
    assert cost(load(tmp_path, ""), PLAIN).usd == pytest.approx((1000 * 5 + 100 * 25) / 1e6)


def test_the_example(tmp_path: Path) -> None:
    prices = load(tmp_path, (ROOT / "examples" / "prices.yaml").read_text())
    chat = {"provider": "local", "dialect": "chat"}
    assert cost(prices, PLAIN, "qwen3-coder-30b", **chat).usd == 0
    assert cost(prices, PLAIN, "qwen3-coder-30b", provider="other", dialect="chat").usd is None
    assert cost(prices, PLAIN, "claude-opus-5-5-20260922").usd == pytest.approx((1000 * 3.4 + 100 * 17) / 1e6)
    assert cost(prices, PLAIN, "claude-opus-5-5", at="2026-09-30").usd == pytest.approx((1000 * 4 + 100 * 20) / 1e6)
    long = Usage(input_tokens=200_001, output_tokens=100, cache_read_tokens=1)
    assert cost(prices, long, "acme-large", **chat).usd == pytest.approx((200_000 * 4 + 0.4 + 100 * 12) / 1e6)


WRONG = {
    "no yaml": ("models: [", ":1: not valid YAML"),
    "a list": ("- 1\n", ":1: expected a mapping"),
    "unknown section": ("modles: []\n", ':1: modles: unknown key; did you mean "models"?'),
    "unknown key": ("models:\n- model: a\n  inptu: 1\n", ':3: models[0].inptu: unknown key; did you mean "input"?'),
    "no list": ("models: 3\n", ":1: models: expected a list"),
    "no model": ("models:\n- input: 1\n", ":2: models[0]: model is missing"),
    "no price": ("models:\n- model: a\n", ":2: models[0]: no price is given"),
    "text": ("models:\n- model: a\n  input: cheap\n", ':3: models[0].input: expected US dollars, a number from 0 to'),
    "negative": ("models:\n- model: a\n  input: -1\n", ":3: models[0].input: expected US dollars"),
    "not a number": ("models:\n- model: a\n  input: .nan\n", ":3: models[0].input: expected US dollars"),
    "endless": ("models:\n- model: a\n  input: .inf\n", ":3: models[0].input: expected US dollars"),
    "yes": ("models:\n- model: a\n  input: true\n", ":3: models[0].input: expected US dollars"),
    "a list for a price": ("models:\n- model: a\n  input: [1]\n", ":3: models[0].input: expected US dollars"),
    "day": ("models:\n- model: a\n  from: soon\n  input: 1\n", ":3: models[0].from: expected a day like 2026-01-31"),
    "twice": ("models:\n- model: a\n  input: 1\n  input: 2\n", ":4: models[0].input: given twice"),
    "same day": ("models:\n- {model: a, input: 1}\n- {model: A, input: 2}\n", ":3: models[1]: a has prices from that"),
    "tokens": ("models:\n- model: a\n  input: 1\n  above: [{input: 2}]\n", ":4: models[0].above[0]: tokens is missing"),
    "tokens as text": ("models:\n- {model: a, input: 1, above: [{tokens: 1e3}]}\n", "tokens: expected a whole number"),
    "mode": ("models:\n- model: a\n  input: 1\n  modes: {fast: {in: 1}}\n", ":4: models[0].modes.fast.in: unknown key"),
    "odd name": ("models:\n- model: a\n  ? [1]\n  : 1\n", ":3: models[0]: expected a plain name as key"),
    "name": ("models:\n- model: [a]\n  input: 1\n", ":2: models[0].model: expected a name"),
}


@pytest.mark.parametrize("text, said", WRONG.values(), ids=WRONG)
def test_a_bad_file_says_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/prices.yaml:")
    assert said in str(caught.value)
