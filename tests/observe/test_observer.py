"""Events in, records out: whole exchanges, faults, states, masks, limits, restarts."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import zstandard

from lunaroute import tap
from lunaroute.observe.observer import Observer
from lunaroute.records import Attempt, Closed, Exchange, Opened, State, Usage
from tests.observe.events import (
    BOOT,
    MS,
    Event,
    answer,
    ask,
    attempt,
    closed,
    head,
    last,
    message,
    observer,
    opened,
    post,
    run,
)

CLAUDE = (
    ("User-Agent", "claude-cli/2.1.330 (external, sdk-cli)"),
    ("X-Claude-Code-Session-Id", "550e8400-e29b-41d4-a716-446655440000"),
    ("x-api-key", "sk-ant-very-secret"),
)


def test_a_whole_stream() -> None:
    records = run(observer(), post(1, "/v1/messages?beta=true", ask(), message(), fields=CLAUDE))
    first, asked, done = records
    assert first == Opened(
        id=f"{BOOT}-1",
        session_id=None,
        started_at="2023-11-14 22:13:20.123",
        started_ns=1_700_000_000_123_456_789,
        method="POST",
        target="/v1/messages?beta=true",
    )
    assert isinstance(asked, Exchange) and asked.state is None and asked.request_body == ask()
    assert isinstance(done, Exchange)
    assert (done.state, done.status, done.error) == (State.OK, 200, None)
    assert done.session_id == "550e8400-e29b-41d4-a716-446655440000"
    assert (done.sequence, done.signal, done.kind) == (1, "x-claude-code-session-id", "turn")
    assert (done.client, done.client_version) == ("claude-code", "2.1.330")
    assert (done.model_requested, done.model_used, done.stop_reason) == (
        "claude-opus-5-5",
        "claude-opus-5-5",
        "end_turn",
    )
    assert done.usage == Usage(input_tokens=12, output_tokens=7)
    assert (done.provider, done.dialect, done.transport, done.stream) == ("anthropic", "anthropic", "http", True)
    assert (done.request_body, done.response_body) == (ask(), message())
    assert (done.request_bytes, done.response_bytes) == (len(ask()), len(message()))
    assert done.title == "hello"
    assert done.attempts == [
        Attempt(
            number=1, provider="anthropic", origin="https://api.test", connect_ms=0.5, tls_ms=0.7, sent=True, status=200
        )
    ]
    assert done.timings.response_head == 10.0
    assert done.timings.first_body == 11.0
    assert done.timings.first_content is not None and done.timings.first_content > 11.0
    assert done.timings.done == 500.0
    # before the request was sent, less connecting, and behind the last byte of the answer
    assert done.overhead_ms == pytest.approx(4 - 1 - 1.2 + 500 - last_byte_of(message()))
    assert done.split is not None and done.split.after_ms == pytest.approx(500 - last_byte_of(message()))
    assert ("x-api-key", "***") in done.request_headers


def last_byte_of(reply: bytes) -> float:
    """When the last piece of an answer comes, in events.post()."""
    return 11.0 + (len(reply) - 1) // 64


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_make_no_difference(size: int) -> None:
    whole = last(run(observer(), post(1, "/v1/messages", ask(), message(), pieces=1 << 20)))
    cut = last(run(observer(), post(1, "/v1/messages", ask(), message(), pieces=size)))
    assert (cut.usage, cut.response_body, cut.stop_reason) == (whole.usage, whole.response_body, whole.stop_reason)


CODINGS = [
    ("gzip", gzip.compress),
    ("zstd", zstandard.ZstdCompressor().compress),
    ("gzip, zstd", lambda body: zstandard.ZstdCompressor().compress(gzip.compress(body))),
]


@pytest.mark.parametrize(("coding", "pack"), CODINGS, ids=[c[0] for c in CODINGS])
def test_coded_bodies_are_kept_decoded(coding: str, pack: Any) -> None:
    field = (("Content-Encoding", coding),)
    events = post(1, "/v1/messages", pack(ask()), pack(message()), fields=field, reply_fields=field, pieces=5)
    done = last(run(observer(), events))
    assert (done.request_body, done.response_body) == (ask(), message())
    assert (done.request_decode_error, done.response_decode_error) == (None, None)
    assert done.usage.output_tokens == 7
    assert done.response_bytes == len(pack(message()))


def test_a_cut_coded_body_keeps_its_start() -> None:
    packed = gzip.compress(message() * 50)[:-30]
    done = last(run(observer(), post(1, "/v1/messages", ask(), packed, reply_fields=(("content-encoding", "gzip"),))))
    assert done.response_body.startswith(message())
    assert done.response_decode_error == "the gzip data ends early"


LIMIT = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'
OVERLOADED = b'\n\nevent: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"o"}}\n\n'
UPSTREAM, LEFT = State.UPSTREAM_ERROR, State.CLIENT_CANCELLED
STATES: list[tuple[str, dict[str, Any], State, str | None]] = [
    ("ok", {}, State.OK, None),
    ("refused", {"status": "429 Too Many Requests", "reply": LIMIT}, UPSTREAM, "rate_limit_error: slow"),
    ("refused-html", {"status": "502 Bad Gateway", "reply": b"<html>"}, UPSTREAM, "the provider answered 502"),
    ("error-in-stream", {"reply": message()[:200] + OVERLOADED}, UPSTREAM, "overloaded_error: o"),
    ("no-final-event", {"reply": message()[:300]}, UPSTREAM, "the stream ended without its final event"),
    ("no-stream-we-know", {"reply": b"data: x\n\n"}, State.OK, None),
    ("left-after-the-end", {"state": "client_cancelled"}, State.OK, None),
    ("left-before-the-end", {"state": "client_cancelled", "reply": message()[:-250]}, LEFT, None),
    ("upstream-cut", {"state": "upstream_error", "reply": message()[:300]}, UPSTREAM, None),
    ("timeout", {"state": "timeout", "reply": b""}, State.TIMEOUT, None),
    ("ours", {"state": "proxy_error", "reply": b""}, State.PROXY_ERROR, None),
]


@pytest.mark.parametrize(("made", "state", "error"), [c[1:] for c in STATES], ids=[c[0] for c in STATES])
def test_states(made: dict[str, Any], state: State, error: str | None) -> None:
    made = dict(made)
    reply = made.pop("reply", message())
    done = last(run(observer(), post(1, "/v1/messages", ask(), reply, **made)))
    assert (done.state, done.error) == (state, error)


def test_a_cut_stream_keeps_what_it_cost_so_far() -> None:
    cut = message(input_tokens=83, output_tokens=9)[:400]
    done = last(run(observer(), post(1, "/v1/messages", ask(), cut, state="upstream_error")))
    assert done.usage == Usage(input_tokens=83, output_tokens=1, partial=True)


def test_count_tokens_is_no_usage() -> None:
    done = last(run(observer(), post(1, "/v1/messages/count_tokens", ask(), b'{"input_tokens": 900}')))
    assert (done.kind, done.usage) == ("count", Usage())


def test_failover_keeps_only_the_answer_that_the_client_got() -> None:
    events = post(1, "/v1/messages", ask(), message())
    refused: list[Event] = [
        attempt(1, n=1),
        answer(1, "HTTP/1.1 529 Overloaded"),
        (tap.RESPONSE_BODY, 1, 3 * MS, b'{"error":"first"}'),
        (tap.ATTEMPT_FAILED, 1, 3 * MS, b"the provider answered 529"),
    ]
    events[2:3] = [*refused, attempt(1, n=2)]
    done = last(run(observer(), events))
    assert [(a.number, a.status, a.error) for a in done.attempts] == [
        (1, 529, "the provider answered 529"),
        (2, 200, None),
    ]
    assert done.response_body == message()
    assert done.state is State.OK


def test_interim_heads_are_not_the_answer() -> None:
    events = post(1, "/v1/messages", ask(), message())
    events.insert(3, answer(1, "HTTP/1.1 103 Early Hints", ("Link", "x")))
    done = last(run(observer(), events))
    assert done.status == 200
    assert ("Link", "x") not in done.response_headers


def test_a_local_answer() -> None:
    body = b'{"error":{"type":"invalid_request_error","message":"no such path"}}'
    events = [
        opened(1, "GET /nope HTTP/1.1", ("Host", "x")),
        (tap.LOCAL_ANSWER, 1, 5 * MS, head("HTTP/1.1 404 Not Found", ("content-type", "application/json")) + body),
        closed(1, "proxy_error", why="no such path"),
    ]
    done = last(run(observer(), events))
    assert (done.status, done.state, done.error, done.attempts) == (404, State.PROXY_ERROR, "no such path", [])
    assert done.response_body == body


def test_a_chunked_request_is_told_when_the_answer_begins_and_again_when_it_grew() -> None:
    target = observer()
    field = ("Transfer-Encoding", "chunked")
    assert [type(r) for r in run(target, [opened(1, "POST /v1/messages HTTP/1.1", field)])] == [Opened]
    assert run(target, [(tap.REQUEST_BODY, 1, MS, b'{"model":')]) == []
    (early,) = run(target, [attempt(1), answer(1, "HTTP/1.1 200 OK")])
    assert isinstance(early, Exchange) and early.request_body == b'{"model":'
    assert target.feed(tap.REQUEST_BODY, 1, 12 * MS, b'"m"}') == []
    again, done = run(target, [closed(1)])
    assert isinstance(again, Exchange) and again.state is None and again.request_body == b'{"model":"m"}'
    assert isinstance(done, Exchange) and done.model_requested == "m"


def test_sequence_goes_on_where_the_store_left_off() -> None:
    target = observer(last=lambda session: 41)
    one = last(run(target, post(1, "/v1/messages", ask(), message(), fields=CLAUDE)))
    two = last(run(target, post(2, "/v1/messages", ask(), message(), fields=CLAUDE)))
    alone = last(run(target, post(3, "/v1/messages", ask(), message())))
    assert [one.sequence, two.sequence, alone.sequence] == [42, 43, 1]
    assert (one.title, two.title) == ("hello", None)
    assert (alone.session_id, alone.signal) == (f"{BOOT}-3", "conversation")


def test_what_belongs_to_no_conversation_shares_a_session() -> None:
    target = observer()
    probes = [(1, "HEAD /api/hello"), (2, "GET /v1/models?client_version=1"), (3, "GET /v1/models")]
    for number, first in probes:
        done = last(
            run(target, [opened(number, f"{first} HTTP/1.1"), answer(number, "HTTP/1.1 200 OK"), closed(number)])
        )
        assert (done.session_id, done.signal, done.sequence) == (f"{BOOT}-other", "none", number)


# --- credentials ------------------------------------------------------------------------------------
def test_credentials_are_nowhere_in_the_record() -> None:
    key, jwt, config = "sk-ant-very-secret", "eyJhbGciOi.dummy.token", 'configured "quoted" key'
    said = json.dumps({"model": "m", "note": f"{key} {jwt}", "c": config}).encode()
    echo = json.dumps({"error": {"type": "authentication_error", "message": f"bad {key} or {config}"}}).encode()
    fields = (
        ("x-api-key", key),
        ("Authorization", f"Bearer {jwt}"),
        ("X-Note", f"has {key}"),
        ("Cookie", "sid=cookie-secret-1"),
    )
    events = post(
        1,
        "/v1/messages?key=query-secret-77&beta=true",
        said,
        echo,
        fields=fields,
        status="401 Unauthorized",
        reply_fields=(("Set-Cookie", "a=setcookie-secret"), ("X-Echo", "cookie-secret-1 query-secret-77")),
    )
    events[-1] = closed(1, "upstream_error", why=f"the provider said {key}")
    records = run(observer(secrets=(config,)), events)
    kept = repr(records)
    for secret in (key, jwt, "configured", "cookie-secret-1", "query-secret-77", "setcookie-secret"):
        assert secret not in kept
    done = last(records)
    assert done.target == "/v1/messages?key=***&beta=true"
    assert json.loads(done.request_body)["note"] == "*** ***"


# --- limits -----------------------------------------------------------------------------------------
def test_the_capture_limit_cuts_the_body_and_not_the_facts() -> None:
    long = message("x" * 5000)
    done = last(run(observer(limit=2000), post(1, "/v1/messages", ask(), long)))
    assert done.truncated
    assert len(done.request_body) + len(done.response_body) == 2000
    assert done.usage == Usage(input_tokens=12, output_tokens=7)
    assert done.response_bytes == len(long)


def test_what_all_keep_together_is_bounded_and_given_back() -> None:
    target = observer(budget=3000)
    for number in (1, 2, 3):
        run(target, post(number, "/v1/messages", b"a" * 1400, b"")[:2])
    assert target._context.budget.used == 3000
    done = [r for n in (1, 2, 3) for r in run(target, [closed(n)]) if isinstance(r, Exchange) and r.state]
    assert [len(r.request_body) for r in done] == [1400, 1400, 200]
    assert [r.truncated for r in done] == [False, False, True]
    assert target._context.budget.used == 0


def test_bytes_that_the_ring_lost_mark_the_record() -> None:
    events = post(1, "/v1/messages", ask(), message())
    events[-1] = closed(1, lost=77)
    done = last(run(observer(), events))
    assert (done.truncated, done.lost_bytes) == (True, 77)


def test_an_exchange_whose_end_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.observe.observer.MAX_OPEN", 2)
    target = observer()
    records = run(target, [opened(n, "POST /v1/messages HTTP/1.1", ("Content-Length", "5")) for n in (1, 2, 3)])
    assert last(records).id == f"{BOOT}-1"
    assert last(records).state is State.INTERRUPTED
    assert target.open == 2


# --- ends and restarts ------------------------------------------------------------------------------
def test_interrupt_closes_what_is_open_with_what_had_come() -> None:
    target = observer()
    run(target, post(1, "/v1/messages", ask(), message()[:300])[:-1])
    done = last(target.interrupt("the proxy process ended"))
    assert (done.state, done.error) == (State.INTERRUPTED, "the proxy process ended")
    assert done.response_body == message()[:300]
    assert done.usage.partial
    assert target.open == 0


def test_marks_pin_the_oldest_open_exchange() -> None:
    target = observer()
    assert target.keep_from() is None
    for number, mark in ((1, 100), (2, 200)):
        target.mark = mark
        run(target, [opened(number, "POST / HTTP/1.1", ("Content-Length", "1"))])
    assert target.keep_from() == 100
    run(target, [closed(1)])
    assert target.keep_from() == 200
    target.unpin()
    assert target.keep_from() is None


def restarted(**more: Any) -> Observer:
    return observer(**more)


def test_a_restarted_observer_skips_what_is_stored() -> None:
    target = restarted(finished=(f"{BOOT}-1",))
    assert run(target, post(1, "/v1/messages", ask(), message())) == []
    assert target.orphans == 0
    assert last(run(target, post(2, "/v1/messages", ask(), message()))).id == f"{BOOT}-2"


def test_a_restarted_observer_keeps_places() -> None:
    target = restarted(places={f"{BOOT}-5": ("s", 9)}, running=frozenset({f"{BOOT}-5"}))
    assert last(run(target, post(5, "/v1/messages", ask(), message(), fields=CLAUDE))).sequence == 9


def test_the_end_of_an_exchange_whose_beginning_is_lost() -> None:
    running = frozenset({f"{BOOT}-5", f"{BOOT}-5-2", f"{BOOT}-55"})
    target = restarted(places=dict.fromkeys(running, ("s", 1)), running=running)
    records = run(target, [(tap.RESPONSE_BODY, 5, MS, b"x"), closed(5, "client_cancelled")])
    assert [(type(r), r.id) for r in records] == [(Closed, f"{BOOT}-5"), (Closed, f"{BOOT}-5-2")]
    assert isinstance(records[0], Closed) and records[0].state is State.CLIENT_CANCELLED
    assert target.orphans == 2


def test_events_out_of_nowhere_are_counted() -> None:
    target = observer()
    assert run(target, [(tap.REQUEST_BODY, 9, 0, b"x"), closed(9)]) == []
    assert target.orphans == 2


# --- looked at while it goes on ---------------------------------------------------------------------------------------
def test_what_runs_can_be_looked_at() -> None:
    target = observer(secrets=("a-configured-secret",))
    asked, told = ask("say a-configured-secret"), message("it is sk-ant-very-secret")
    events = post(1, "/v1/messages", asked, told, fields=CLAUDE, pieces=9999)
    body = next(n for n, event in enumerate(events) if event[0] == tap.RESPONSE_BODY)
    run(target, events[: body + 1])
    found = target.running(f"{BOOT}-1", True)
    assert found is not None
    dialect, request, response = found
    assert dialect == "anthropic" and b"say ***" in request and b"it is ***" in response
    assert b"secret" not in request + response
    assert target.running(f"{BOOT}-1", False) == (dialect, b"", response)
    run(target, events[body + 1 :])
    assert target.running(f"{BOOT}-1", True) is None


@pytest.mark.parametrize("ident", ["", "x", f"{BOOT}-", f"{BOOT}-x", f"{BOOT}-2", f"{BOOT}-1-1", "other-1"])
def test_what_does_not_run_is_not_there(ident: str) -> None:
    target = observer()
    run(target, [opened(1, "POST /v1/messages HTTP/1.1")])
    assert target.running(ident, True) is None


def test_looking_changes_nothing() -> None:
    """Whoever looks in between gets a beginning of the whole, and the record is the same."""
    events = post(1, "/v1/messages", ask("x" * 5000), message("y" * 1_300_000), fields=CLAUDE)
    plain = last(run(observer(limit=1 << 23), events))
    target, records, before = observer(limit=1 << 23), [], b""
    for number, event in enumerate(events):
        records += run(target, [event])
        seen = target.running(f"{BOOT}-1", True) if number % max(1, len(events) // 40) == 0 else None
        if seen is not None:
            assert seen[2].startswith(before) and plain.response_body.startswith(seen[2])
            before = seen[2]
    kept = last(records)
    assert len(before) > 1 << 20 and kept.response_body == plain.response_body
    assert (kept.response_sha256, kept.truncated) == (plain.response_sha256, False)
