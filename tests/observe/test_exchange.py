"""Small parts of an exchange: numbers in a session, stamps of time, the proxy's own share. The whole: test_observer."""

from __future__ import annotations

import pytest

from lunaroute.observe.exchange import Numbers, stamp
from lunaroute.records import SessionKey
from tests.observe.events import answer, ask, attempt, last, message, observer, opened, post, run


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01 00:00:00.000"),
        (1_700_000_000_999_999_999, "2023-11-14 22:13:20.999"),
        (-1, "1969-12-31 23:59:59.999"),
        (4_000_000_000_000_000_000, "2096-10-02 07:06:40.000"),
    ],
)
def test_stamp(ns: int, text: str) -> None:
    assert stamp(ns) == text


def test_numbers_ask_the_store_once_per_session() -> None:
    asked: list[str] = []

    def last_of(session: str) -> int:
        asked.append(session)
        return 7

    numbers = Numbers(last_of)
    named, own = SessionKey("s", "header"), SessionKey("x-1", "own")
    assert [numbers.next(named), numbers.next(named), numbers.next(own, fresh=True)] == [8, 9, 1]
    assert asked == ["s"], "an id of our own has no earlier time"


def test_numbers_know_a_bounded_lot_of_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.observe.exchange._SESSIONS_KNOWN", 3)
    numbers = Numbers(lambda session: 0)
    for name in "abcda":
        numbers.next(SessionKey(name, "header"))
    assert list(numbers._known) == ["c", "d", "a"]


def test_a_title_is_wanted_once() -> None:
    numbers = Numbers(lambda session: 0)
    assert not numbers.wants_title("s")
    numbers.next(SessionKey("s", "header"))
    assert [numbers.wants_title("s"), numbers.wants_title("s")] == [True, False]


def test_the_dialect_that_the_relay_routed_by_counts() -> None:
    events = post(1, "/custom/path", ask(), message(), dialect="anthropic")
    done = last(run(observer(), events))
    assert (done.dialect, done.kind, done.usage.output_tokens) == ("anthropic", "turn", 7)


def test_times_never_run_backwards() -> None:
    target = observer()
    run(target, [opened(1, "POST /v1/messages HTTP/1.1", ("Content-Length", "9"), at=50)])
    run(target, [attempt(1, at=10), answer(1, "HTTP/1.1 200 OK", at=20)])
    done = last(target.interrupt("x"))
    assert (done.timings.attempt_started, done.timings.response_head, done.timings.done) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "", "5, 5"])
def test_odd_lengths_wait_for_the_answer(length: str) -> None:
    target = observer()
    assert (
        len(
            run(
                target,
                [opened(1, "POST /v1/messages HTTP/1.1", ("Content-Length", length), ("Transfer-Encoding", "chunked"))],
            )
        )
        == 1
    )
    assert len(run(target, [answer(1, "HTTP/1.1 200 OK")])) == 1
