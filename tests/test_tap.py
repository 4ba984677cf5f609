"""The numbers of the tap stand in Python and in the compiled modules: they must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lunaroute import tap

FAST = Path(tap.__file__).parent / "_fast"


def numbers(file: str, pattern: str) -> dict[str, int]:
    """`NAME = 1` lines of a Cython source whose names match."""
    found = re.findall(rf"^    ({pattern}) = (\d+)", (FAST / file).read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_counters_have_the_indexes_of_the_relay() -> None:
    names = (
        "CONNECTIONS_OPEN|CONNECTIONS_TOTAL|REQUESTS_TOTAL|REQUESTS_IN_FLIGHT|UPSTREAM_OPEN|UPSTREAM_IDLE|TUNNELS_OPEN"
    )
    in_relay = numbers("relay.pyx", names + "|REJECTED_TOTAL")
    assert len(in_relay) == 8
    assert {name.lower(): index for name, index in in_relay.items()} == {
        name: index for index, name in enumerate(tap.COUNTERS) if name.upper() in in_relay
    }
    connects = numbers("relay.pyx", "UPSTREAM_CONNECTS|UPSTREAM_REUSES")
    assert {f"{name.lower()}_total": index for name, index in connects.items()} == {
        name: index
        for index, name in enumerate(tap.COUNTERS)
        if name in ("upstream_connects_total", "upstream_reuses_total")
    }


def test_counters_have_the_indexes_of_the_ring() -> None:
    in_ring = numbers("ring.pyx", r"TAP_[A-Z_]+")
    expected = {
        "TAP_EVENTS": "tap_events_total",
        "TAP_DROPPED_EVENTS": "tap_dropped_events_total",
        "TAP_DROPPED_BYTES": "tap_dropped_bytes_total",
        "TAP_DROPPED_EXCHANGES": "tap_dropped_exchanges_total",
    }
    assert {name: tap.COUNTERS[index] for name, index in in_ring.items()} == expected


def test_status_classes_have_the_indexes_of_the_relay() -> None:
    """RESPONSES + class: 2 to 5."""
    first = numbers("relay.pyx", "RESPONSES")["RESPONSES"]
    assert [tap.COUNTERS[first + n] for n in range(2, 6)] == [f"responses_{n}xx_total" for n in range(2, 6)]
    assert tap.COUNTERS[numbers("relay.pyx", "TUNNELS_TOTAL")["TUNNELS_TOTAL"]] == "tunnels_total"


def test_there_is_room_for_all_counters() -> None:
    assert len(tap.COUNTERS) < numbers("ring.pyx", "COUNTER_MAX")["COUNTER_MAX"]


def test_kinds_are_those_of_the_relay() -> None:
    in_relay = numbers("relay.pyx", "TAP_[A-Z_]+")
    assert {name.removeprefix("TAP_").lower(): kind for name, kind in in_relay.items()} == {
        name: kind for kind, name in tap.KINDS.items()
    }


@pytest.mark.parametrize("kind", tap.KINDS)
def test_each_kind_is_a_constant_of_its_name(kind: int) -> None:
    assert getattr(tap, tap.KINDS[kind].upper()) == kind


def test_states_are_those_of_the_relay() -> None:
    in_relay = numbers("relay.pyx", "OK|UPSTREAM_ERROR|CLIENT_CANCELLED|TIMEOUT|PROXY_ERROR")
    assert {name.lower(): index for name, index in in_relay.items()} == {n: i for i, n in enumerate(tap.STATES)}


def test_the_ring_keeps_room_for_every_kind_but_bodies() -> None:
    """The kinds that may be dropped first are those that carry bulk."""
    source = (FAST / "ring.pyx").read_text()
    found = re.search(r"if ((?:kind == \d+(?: or )?)+):\n\s+limit -= self\.reserve", source)
    assert found is not None
    bulk = {int(each) for each in re.findall(r"\d+", found[1])}
    assert bulk == {tap.REQUEST_BODY, tap.RESPONSE_BODY, tap.CLIENT_FRAMES, tap.SERVER_FRAMES}


def test_fixed_parts_have_the_sizes_the_relay_writes() -> None:
    assert (tap.OPEN_HEADER.size, tap.ATTEMPT_HEADER.size, tap.CLOSE_HEADER.size) == (16, 12, 48)
