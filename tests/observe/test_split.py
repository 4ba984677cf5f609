"""Where the time went: a table of timings, and what holds for any."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.observe.split import split
from lunaroute.records import Attempt, Split, Timings

PARTS = Split.__struct_fields__
# a whole exchange: 2 ms in the proxy, dialled in 3, sent at 9, head at 100, content at 150, done at 510
WHOLE = {
    "head_received": 1.0,
    "request_received": 4.0,
    "attempt_started": 5.0,
    "request_sent": 9.0,
    "response_head": 100.0,
    "first_body": 101.0,
    "first_content": 150.0,
    "done": 510.0,
}


def attempt(**more: Any) -> Attempt:
    return Attempt(number=1, provider="anthropic", origin="https://api.test", **more)


def without(*names: str, **other: float) -> dict[str, float]:
    return {name: value for name, value in {**WHOLE, **other}.items() if name not in names}


# (timings, attempts, the answer's last byte, the seven parts in their order)
CASES: dict[str, tuple[dict[str, float], list[Attempt], float | None, tuple[float | None, ...]]] = {
    "a new connection": (WHOLE, [attempt(connect_ms=1.0, tls_ms=2.0)], 500.0, (2.0, 3.0, 4.0, 91.0, 50.0, 350.0, 10.0)),
    "without TLS": (WHOLE, [attempt(connect_ms=1.0)], 500.0, (4.0, 1.0, 4.0, 91.0, 50.0, 350.0, 10.0)),
    "a kept connection": (
        WHOLE,
        [attempt(reused=True, connect_ms=7.0)],
        500.0,
        (5.0, None, 4.0, 91.0, 50.0, 350.0, 10.0),
    ),
    "no figures of dialling": (WHOLE, [attempt()], 500.0, (5.0, None, 4.0, 91.0, 50.0, 350.0, 10.0)),
    "the second attempt": (
        WHOLE,
        [attempt(connect_ms=90.0), attempt(connect_ms=1.0)],
        500.0,
        (4.0, 1.0, 4.0, 91.0, 50.0, 350.0, 10.0),
    ),
    "no content": (without("first_content"), [attempt(reused=True)], 500.0, (5.0, None, 4.0, 91.0, None, 400.0, 10.0)),
    "no last byte": (WHOLE, [attempt(reused=True)], None, (5.0, None, 4.0, 91.0, 50.0, None, 360.0)),
    "cut before the head": (
        without("response_head", "first_body", "first_content"),
        [attempt(reused=True)],
        None,
        (5.0, None, 4.0, None, None, None, 501.0),
    ),
    "cut while sending": (
        without("request_sent", "response_head", "first_body", "first_content"),
        [attempt(reused=True)],
        None,
        (5.0, None, None, None, None, None, 505.0),
    ),
    "no attempt": ({"head_received": 1.0, "done": 2.5}, [], None, (2.5, None, None, None, None, None, None)),
    "an answer before the request was sent": (
        without(request_sent=120.0),
        [attempt(reused=True)],
        500.0,
        (5.0, None, 115.0, 0.0, 30.0, 350.0, 10.0),
    ),
    "a last byte after the end": (WHOLE, [attempt(reused=True)], 600.0, (5.0, None, 4.0, 91.0, 50.0, 360.0, 0.0)),
    "dialling that took longer than there was": (
        WHOLE,
        [attempt(connect_ms=80.0)],
        500.0,
        (0.0, 5.0, 4.0, 91.0, 50.0, 350.0, 10.0),
    ),
    "all at once": ({name: 0.0 for name in WHOLE}, [attempt()], 0.0, (0.0, None, 0.0, 0.0, 0.0, 0.0, 0.0)),
}


@pytest.mark.parametrize(("timings", "attempts", "last", "parts"), CASES.values(), ids=CASES)
def test_the_parts(
    timings: dict[str, float], attempts: list[Attempt], last: float | None, parts: tuple[float | None, ...]
) -> None:
    found = split(Timings(**timings), attempts, last)
    assert found is not None
    assert tuple(getattr(found, name) for name in PARTS) == parts


# what was cut, given up or waited for in vain had nothing left to deliver: (timings, last byte, the seven parts)
CUT: dict[str, tuple[dict[str, float], float | None, tuple[float | None, ...]]] = {
    "within the answer": (WHOLE, 200.0, (5.0, None, 4.0, 91.0, 50.0, 360.0, None)),
    "before any content": (without("first_content"), 101.0, (5.0, None, 4.0, 91.0, None, 410.0, None)),
    "behind the head": (without("first_body", "first_content"), None, (5.0, None, 4.0, 91.0, None, 410.0, None)),
    "before the head": (
        without("response_head", "first_body", "first_content"),
        None,
        (5.0, None, 4.0, 501.0, None, None, None),
    ),
    "while sending": (
        without("request_sent", "response_head", "first_body", "first_content"),
        None,
        (5.0, None, 505.0, None, None, None, None),
    ),
}


@pytest.mark.parametrize(("timings", "last", "parts"), CUT.values(), ids=CUT)
def test_waiting_for_more_is_not_the_proxys_time(
    timings: dict[str, float], last: float | None, parts: tuple[float | None, ...]
) -> None:
    found = split(Timings(**timings), [attempt(reused=True)], last, delivered=False)
    assert found is not None
    assert tuple(getattr(found, name) for name in PARTS) == parts


def test_without_an_end_nothing_is_known() -> None:
    assert split(Timings(**without("done")), [attempt()], 5.0) is None


moments = st.none() | st.floats(0, 1e6)


@given(
    st.fixed_dictionaries({name: moments for name in WHOLE if name != "done"}),
    st.floats(0, 1e6),
    moments,
    st.lists(st.builds(attempt, reused=st.booleans(), connect_ms=moments, tls_ms=moments), max_size=3),
    st.booleans(),
)
def test_the_parts_add_up_and_none_is_negative(
    timings: dict[str, float | None], done: float, last: float | None, attempts: list[Attempt], delivered: bool
) -> None:
    found = split(Timings(**timings, done=done), attempts, last, delivered)
    assert found is not None
    values = [value for name in PARTS if (value := getattr(found, name)) is not None]
    assert all(value >= 0 for value in values)
    assert sum(values) == pytest.approx(done, abs=0.01)
