"""Figures and times in words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from lunaroute.ui import format

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone(timedelta(hours=2), "CAT"))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "\N{EN DASH}"), (0, "0"), (999, "999"), (1000, "1.0k"), (1234, "1.2k"), (9949, "9.9k"), (9960, "10k"),
        (34_499, "34k"), (999_499, "999k"), (999_500, "1.0M"), (22_400_000, "22M"), (10**12, "1,000,000M"),
    ],
)  # fmt: skip
def test_count(number: int | None, text: str) -> None:
    assert format.count(number) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "\N{EN DASH}"), (0, "0 ms"), (0.123, "0.12 ms"), (9.94, "9.9 ms"), (45.2, "45 ms"), (999.4, "999 ms"),
        (999.6, "1.0 s"), (2345, "2.3 s"), (59_940, "59.9 s"), (59_960, "1 min"), (65_000, "1 min 5 s"),
        (3_600_000, "1 h"), (7_380_000, "2 h 3 min"),
    ],
)  # fmt: skip
def test_span(milliseconds: float | None, text: str) -> None:
    assert format.span(milliseconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (None, "\N{EN DASH}"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"),
        (3_400_000, "3.4 MB"), (5_000_000_000, "5.0 GB"),
    ],
)  # fmt: skip
def test_size(octets: int | None, text: str) -> None:
    assert format.size(octets) == text


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("2026-11-23 09:59:00.000", "11:59"),
        ("2026-11-22 22:30:00.000", "00:30"),
        ("2026-11-22 21:30:00.000", "Yesterday 23:30"),
        ("2026-11-03 10:00:00.000", "3 Nov 12:00"),
        ("2025-11-03 10:00:00.000", "3 Nov 2025"),
        ("nonsense", "nonsense"),
    ],
)
def test_when_is_in_the_zone_of_the_reader(stored: str, text: str) -> None:
    assert format.when(stored, NOW) == text


def test_full_and_machine_readable_times() -> None:
    assert format.in_full("2026-11-23 09:59:07.123", NOW) == "2026-11-23 11:59:07 CAT"
    assert format.iso("2026-11-23 09:59:07.123") == "2026-11-23T09:59:07.123000Z"
    assert format.iso("nonsense") == ""


def test_words() -> None:
    assert [format.state(name) for name in (None, "ok", "timeout", "odd")] == ["Running", "OK", "Timed out", "odd"]
    assert format.state_word("running") == "Running"
    assert [format.client(name) for name in (None, "codex", "x")] == ["Unknown client", "Codex", "x"]
    assert format.exact(1234567) == "1,234,567"
