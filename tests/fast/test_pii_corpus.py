"""What the scanner finds and what it leaves alone, in numbers: planted values in code and chat, and code without any.

`python -m benchmarks.recall` is the same over 20 MB, with the numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis.provisional import get_top_level_domains

from lunaroute._fast.pii import KINDS, Scanner
from tests.background import background, blob, chat, lock, log, made, svg, table
from tests.planted import Values
from tests.scored import Score, mixed, planted, real

ALL = Scanner(KINDS)
SIZE, PLANTS = 4_000_000, 8_000
RECALL = dict.fromkeys(("email", "ssn", "credit_card", "ip", "iban", "secret"), 0.99) | {"phone": 0.95, "named": 0.9}
PER_MEGABYTE = {"email": 0.1, "phone": 1, "ssn": 0.1, "credit_card": 0.1, "ip": 1, "iban": 0.1, "secret": 1}


@cache
def score() -> Score:
    texts = list(background(SIZE))
    result = Score()
    real(ALL, texts, result)
    planted(ALL, mixed(texts, Values(2), PLANTS), result)
    return result


@pytest.mark.parametrize("kind", RECALL)
def test_recall(kind: str) -> None:
    missed = [text for plant, text in score().missed if plant.kind == kind]
    assert score().recall(kind) >= RECALL[kind], missed


def test_no_value_is_left_standing_in_part() -> None:
    assert score().torn == []


@pytest.mark.parametrize("kind", KINDS)
def test_precision(kind: str) -> None:
    assert score().precision(kind) >= 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_false_hits_in_real_code(kind: str) -> None:
    """One hit too many in so little text is chance: the benchmark has the text for the tenths."""
    false = [text for each, text in score().falsely if each == kind]
    assert len(false) <= max(1, PER_MEGABYTE[kind] * SIZE / 1e6), false


@pytest.mark.parametrize("line", [lock, svg, log, table, blob], ids=lambda each: each.__name__)
def test_hardly_anything_is_in_what_has_no_people(line: Callable[[random.Random], str]) -> None:
    """Lock files, paths of SVG, logs, rows of numbers, base64 and hexadecimal: where digits are all there is."""
    text = made(line, 2_000_000, 11)
    false = [text[max(0, a - 30) : b + 20] for a, b, _, _ in ALL.find(text)]
    assert len(false) <= 1, false


def test_nothing_is_in_chat_without_any() -> None:
    text = chat(500_000, 3)
    assert [text[a:b].decode() for a, b, _, _ in ALL.find(text)] == []


@pytest.mark.parametrize("name", sorted(get_top_level_domains()))
def test_every_top_level_domain(name: str) -> None:
    """hypothesis has the list of IANA too, perhaps of another day: what it has, we have."""
    text = f"x joe@mail.posteo.{name.lower()} y"
    if name != "ARPA":
        assert [each[2] for each in ALL.find(text.encode())] == ["email"]
