"""The event reader against the shared table, in every split, and its bounds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.wire.sse import SseEvent, SseReader

CASES = json.loads((Path(__file__).parents[1] / "corpus" / "sse_cases.json").read_text())


def read(pieces: list[bytes], *, end: bool = False) -> list[dict[str, str]]:
    reader = SseReader()
    events: list[SseEvent] = []
    for piece in pieces:
        events += reader.feed(piece)
    if end:
        events += reader.finish()
    return [{"event": e.event, "data": e.text, "id": e.id} for e in events]


def pieces_of(case: dict[str, Any]) -> list[bytes]:
    # "|" marks a chunk boundary in the table; `raw` is bytes written as latin-1
    return [piece.encode("latin-1") for piece in case["raw"].split("|")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
class TestTable:
    def test_as_chunked(self, case: dict[str, Any]) -> None:
        assert read(pieces_of(case)) == case["events"]

    def test_whole(self, case: dict[str, Any]) -> None:
        assert read([b"".join(pieces_of(case))]) == case["events"]

    def test_byte_by_byte(self, case: dict[str, Any]) -> None:
        raw = b"".join(pieces_of(case))
        assert read([raw[i : i + 1] for i in range(len(raw))]) == case["events"]

    def test_every_split(self, case: dict[str, Any]) -> None:
        raw = b"".join(pieces_of(case))
        step = 1 if len(raw) < 4096 else len(raw) // 512
        for cut in range(0, len(raw), step):
            assert read([raw[:cut], raw[cut:]]) == case["events"], cut

    def test_finish_adds_nothing_after_a_blank_line(self, case: dict[str, Any]) -> None:
        assert read(pieces_of(case), end=True)[: len(case["events"])] == case["events"]


def test_last_event_without_blank_line() -> None:
    assert read([b"event: x\ndata: a\n\ndata: {", b'"b":1}'], end=True)[-1]["data"] == '{"b":1}'


def test_finish_keeps_an_event_whose_line_has_ended() -> None:
    assert read([b"event: done\ndata: a\n"], end=True) == [{"event": "done", "data": "a", "id": ""}]


def test_event_without_data_is_none() -> None:
    assert read([b"event: x\n\ndata: a\n\n"]) == [{"event": "message", "data": "a", "id": ""}]


def test_id_with_nul_is_ignored() -> None:
    assert read([b"id: 1\0\ndata: a\n\n"])[0]["id"] == ""


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["bytes", "sevens", "whole"])
def test_event_over_the_limit_is_dropped_and_the_next_is_read(size: int) -> None:
    reader = SseReader(limit=64)
    raw = b"data: " + b"x" * 200 + b"\n\ndata: ok\n\n" + b"data: y\n" * 70 + b"\ndata: fine\n\n"
    got = [e.text for i in range(0, len(raw), size) for e in reader.feed(raw[i : i + size])]
    assert got == ["ok", "fine"]
    assert reader.dropped == 2


def test_a_line_without_end_costs_bounded_memory() -> None:
    reader = SseReader(limit=1024)
    for _ in range(1000):
        reader.feed(b"z" * 1000)
    assert 0 < reader.held < 4096


LINES = st.lists(
    st.sampled_from(["data: a", "data:b", "data", ":c", "event: e", "id: 7", "", "retry: 5", "\u20ac", "dat"])
)


@given(LINES, st.sampled_from(["\n", "\r", "\r\n"]), st.lists(st.integers(0, 200)))
def test_any_cut_gives_the_same_events(lines: list[str], end: str, cuts: list[int]) -> None:
    raw = (end.join(lines) + end).encode()
    places = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    pieces = [raw[a:b] for a, b in itertools.pairwise(places)]
    assert read(pieces, end=True) == read([raw], end=True)
