"""Careful reading of foreign JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.values import clean, dumps, loads, text, whole


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud800"', "\ud800"),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"[1e999]", [float("inf")]),
        (b"[NaN]", [None]),
        (b"1" * 5000, None),
        (b"{", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_loads(raw: bytes, value: Any) -> None:
    assert loads(raw) == value


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (0, 0),
        (7, 7),
        (7.0, 7),
        (7.5, None),
        (-1, None),
        (True, None),
        ("7", None),
        (None, None),
        (1 << 70, None),
        (float("inf"), None),
    ],
)
def test_whole(value: Any, count: int | None) -> None:
    assert whole(value) == count


def test_text_is_short_clean_and_not_empty() -> None:
    assert text("") is None
    assert text(5) is None
    assert text("a" * 1000, 10) == "a" * 10
    assert text("a\0b\ud800") == "a\ufffdb?"


@given(st.text())
def test_clean_can_always_be_stored(value: str) -> None:
    assert "\0" not in clean(value).encode().decode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_dumps_round_trips(value: Any) -> None:
    assert json.loads(dumps(value)) == value


def test_dumps_of_what_is_no_json() -> None:
    assert dumps({"a": object()}) == ""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert dumps(deep) == ""
