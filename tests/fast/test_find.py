"""Against what Python itself finds and decodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.find import find, is_utf8


@given(st.binary(max_size=80), st.binary(max_size=4), st.integers(0, 90), st.booleans())
def test_find(data: bytes, inside: bytes, start: int, there: bool) -> None:
    if there:
        data = data[:40] + inside + data[40:]
    assert find(data, inside, start) == data.find(inside, start)


LONG = st.integers(60, 70).map(lambda size: b"a" * size)


@given(st.lists(st.one_of(LONG, st.sampled_from([b"b", b"aab"])), max_size=30).map(b"".join), LONG, st.integers(0, 200))
def test_long_ones(data: bytes, begin: bytes, start: int) -> None:
    """That begin alike in many places."""
    for inside in (begin, begin + b"b", begin + b"baab", b"b" + begin):
        assert find(data, inside, start) == data.find(inside, start)


def decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


PIECES = st.one_of(st.text(max_size=20).map(str.encode), st.binary(max_size=5), st.just(b"a" * 15))


@given(st.lists(PIECES, max_size=6).map(b"".join))
def test_utf8(data: bytes) -> None:
    assert is_utf8(data) == decodes(data)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_utf8_at_its_edges(length: int) -> None:
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5)
    tried = [b""]
    for _ in range(length):
        tried = [begun + bytes((edge,)) for begun in tried for edge in edges]
    for data in tried:
        assert is_utf8(data) == decodes(data), data
