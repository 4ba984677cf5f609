"""WebSocket tunnels: turns, prewarm, errors, cuts, compression, messages outside a turn."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute import tap
from lunaroute.records import Exchange, Record, State, Usage
from tests.observe.events import BOOT, MS, Event, answer, attempt, closed, observer, opened, run
from tests.wire.test_websocket import KEY, Deflater, frame

HANDSHAKE = (
    ("Upgrade", "websocket"),
    ("session-id", "sess-1"),
    ("thread-id", "thread-1"),
    ("user-agent", "codex_exec/0.169.0 (Debian)"),
    ("authorization", "Bearer sk-secret-token"),
)


def begin(*agreed: tuple[str, str]) -> list[Event]:
    return [
        opened(1, "GET /v1/responses HTTP/1.1", *HANDSHAKE),
        attempt(1, dialect="responses", provider="openai"),
        answer(1, "HTTP/1.1 101 Switching Protocols", *agreed),
    ]


def client(value: Any, at: int = 30, pack: Deflater | None = None) -> Event:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    data = frame(pack(raw), rsv1=True, mask=KEY) if pack else frame(raw, mask=KEY)
    return tap.CLIENT_FRAMES, 1, at * MS, data


def server(value: Any, at: int = 40, pack: Deflater | None = None) -> Event:
    raw = json.dumps(value).encode()
    return tap.SERVER_FRAMES, 1, at * MS, frame(pack(raw), rsv1=True) if pack else frame(raw)


def create(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {
        "type": "response.create",
        "model": "gpt-5.5",
        "input": [{"role": "user", "content": text}],
        "tools": [{"name": "sh"}],
        **more,
    }


def created(ident: str = "resp_1") -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": ident, "model": "gpt-5.5", "status": "in_progress"}}


def delta(text: str = "Hello") -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": 0, "delta": text}


def completed(ident: str = "resp_1", tokens: int = 70) -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 3}
    return {
        "type": "response.completed",
        "response": {"id": ident, "model": "gpt-5.5", "status": "completed", "usage": usage},
    }


def done(records: list[Record]) -> list[Exchange]:
    return [r for r in records if isinstance(r, Exchange) and r.state is not None]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflate"])
def test_prewarm_and_turns_are_exchanges_of_their_own(packed: bool) -> None:
    agreed = (("Sec-WebSocket-Extensions", "permessage-deflate"),) if packed else ()
    up, down = (Deflater(), Deflater()) if packed else (None, None)
    events = [
        *begin(*agreed),
        client(create(generate=False), 30, up),
        server(created("resp_0"), 31, down),
        server(completed("resp_0", 5), 32, down),
        client(create("second", previous_response_id="resp_0"), 50, up),
        server(created(), 60, down),
        server(delta(), 70, down),
        server(completed(), 80, down),
        server({"type": "codex.rate_limits", "x": 1}, 81, down),
        closed(1, at=90),
    ]
    warm, turn, shake = done(run(observer(), events))
    assert (warm.id, warm.kind, warm.usage.input_tokens) == (f"{BOOT}-1-1", "prewarm", 5)
    assert (turn.id, turn.kind, turn.transport, turn.status) == (f"{BOOT}-1-2", "turn", "websocket", 200)
    assert (turn.state, turn.response_id, turn.model_used) == (State.OK, "resp_1", "gpt-5.5")
    assert turn.usage == Usage(input_tokens=70, output_tokens=3)
    assert turn.session_id == "thread-1" and turn.parent_session_id == "sess-1"
    assert (turn.timings.response_head, turn.timings.first_content, turn.timings.done) == (10.0, 20.0, 30.0)
    assert turn.started_at == "2023-11-14 22:13:20.173"
    assert json.loads(turn.request_body) == create("second", previous_response_id="resp_0")
    assert turn.response_body.startswith(b'event: response.created\ndata: {"type": "response.created"')
    assert turn.response_body.count(b"\n\n") == 3
    assert turn.title == "second"
    assert (shake.kind, shake.status, shake.state) == ("handshake", 101, State.OK)
    assert b"codex.rate_limits" in shake.response_body
    assert "sk-secret-token" not in repr((warm, turn, shake))


def test_a_turn_names_its_own_session() -> None:
    said = create(client_metadata={"thread_id": "thread-9", "session_id": "sess-9"})
    records = run(observer(), [*begin(), client(said), server(completed()), closed(1)])
    assert done(records)[0].session_id == "thread-9"


def test_a_turn_is_shown_while_it_runs() -> None:
    target = observer()
    run(target, begin())
    first, asked = run(target, [client(create())])
    assert first.id == f"{BOOT}-1-1"
    assert isinstance(asked, Exchange) and asked.state is None and asked.model_requested == "gpt-5.5"


def test_an_error_ends_the_turn() -> None:
    said = {"type": "error", "status": 429, "error": {"type": "usage_limit_reached", "message": "limit"}}
    turn, _ = done(run(observer(), [*begin(), client(create()), server(said), closed(1)]))
    assert (turn.state, turn.status, turn.error) == (State.UPSTREAM_ERROR, 429, "usage_limit_reached: limit")


CUTS: list[tuple[str, list[Event], str, State, str | None]] = [
    ("client-leaves", [], "ok", State.CLIENT_CANCELLED, None),
    ("relay-says", [], "upstream_error", State.UPSTREAM_ERROR, "why"),
    (
        "server-closes",
        [(tap.SERVER_FRAMES, 1, 45 * MS, frame(b"\x03\xf3oops", 8))],
        "ok",
        State.UPSTREAM_ERROR,
        "the provider closed the WebSocket (1011) oops",
    ),
    (
        "unreadable",
        [(tap.SERVER_FRAMES, 1, 45 * MS, frame(b"", 3))],
        "ok",
        State.CLIENT_CANCELLED,
        "the record ends early: unknown opcode 3",
    ),
]


@pytest.mark.parametrize(("more", "relay", "state", "error"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS])
def test_a_tunnel_that_ends_in_a_turn(more: list[Event], relay: str, state: State, error: str | None) -> None:
    events = [*begin(), client(create()), server(created()), server(delta()), *more]
    events.append(closed(1, relay, why="why" if relay != "ok" else ""))
    turn = done(run(observer(), events))[0]
    assert (turn.state, turn.error) == (state, error)
    assert b"Hello" in turn.response_body


def test_codex_leaves_without_a_close_frame() -> None:
    """Its normal end: the turn was complete, so nothing is wrong with it."""
    turn, shake = done(
        run(observer(), [*begin(), client(create()), server(completed()), closed(1, "client_cancelled")])
    )
    assert turn.state is State.OK
    assert (shake.kind, shake.state) == ("handshake", State.OK)


def test_two_requests_before_the_first_answer_are_answered_in_order() -> None:
    events = [
        *begin(),
        client(create("a")),
        client(create("b")),
        server(completed("r1")),
        server(completed("r2")),
        closed(1),
    ]
    one, two, _ = done(run(observer(), events))
    assert [(one.title, one.response_id), (two.title, two.response_id)] == [("a", "r1"), (None, "r2")]


def test_a_socket_without_signals_is_one_session() -> None:
    shake = [opened(1, "GET /v1/responses HTTP/1.1", ("Upgrade", "websocket")), *begin()[1:]]
    one, two, end = done(
        run(
            observer(),
            [*shake, client(create()), server(completed()), client(create()), server(completed()), closed(1)],
        )
    )
    assert {one.session_id, two.session_id, end.session_id} == {f"{BOOT}-1"}
    assert sorted((one.sequence, two.sequence, end.sequence)) == [1, 2, 3]


def test_what_is_no_turn_stays_with_the_handshake() -> None:
    events = [
        *begin(),
        client({"type": "response.processed"}),
        client(b"\xff\xfe no json"),
        server({"type": "x"}),
        closed(1),
    ]
    (shake,) = done(run(observer(), events))
    assert shake.request_body == b'{"type": "response.processed"}\n\xff\xfe no json\n'
    assert shake.response_body == b'event: x\ndata: {"type": "x"}\n\n'


def test_a_refused_handshake() -> None:
    events = [*begin()[:2], answer(1, "HTTP/1.1 426 Upgrade Required"), closed(1)]
    (shake,) = done(run(observer(), events))
    assert (shake.kind, shake.status, shake.transport) == ("handshake", 426, "websocket")


def test_interrupt_closes_turns_too() -> None:
    target = observer()
    run(target, [*begin(), client(create())])
    assert [r.id for r in done(target.interrupt("gone"))] == [f"{BOOT}-1-1", f"{BOOT}-1"]


def error(code: str, status: int = 400, **more: Any) -> dict[str, Any]:
    return {"type": "error", "status": status, "error": {"code": code, "message": "why"}, "headers": {}, **more}


ERRORS: list[tuple[str, dict[str, Any], int | None, str]] = [
    ("rate-limit", error("rate_limit_exceeded", 429, headers={"retry-after": "2"}), 429, "rate_limit_exceeded: why"),
    ("overloaded", {"type": "error", "status": 503, "error": {"message": "busy"}}, 503, "busy"),
    ("previous-not-found", error("previous_response_not_found"), 400, "previous_response_not_found: why"),
    ("sixty-minutes", error("websocket_connection_limit_reached"), 400, "websocket_connection_limit_reached: why"),
    ("status-code", {"type": "error", "status_code": 500, "message": "broke", "code": "x"}, 500, "x: broke"),
    ("failed", {"type": "response.failed", "response": {"id": "r", "error": {"message": "no"}}}, None, "no"),
]


@pytest.mark.parametrize(("said", "status", "why"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors_end_their_turn_and_the_next_is_good(said: dict[str, Any], status: int | None, why: str) -> None:
    """Codex sends the whole input again, over this connection or another."""
    events = [*begin(), client(create("a", previous_response_id="gone")), server(said)]
    bad, good, shake = done(run(observer(), [*events, client(create("a")), server(completed()), closed(1)]))
    assert (bad.state, bad.status, bad.error) == (State.UPSTREAM_ERROR, status, why)
    assert (good.state, good.status, good.kind, good.sequence) == (State.OK, 200, "turn", bad.sequence + 1)
    assert (shake.state, shake.response_body) == (State.OK, b"")


def test_a_reconnect_goes_on_with_the_session() -> None:
    target = observer()
    cap = [server(error("websocket_connection_limit_reached"), 50), (tap.SERVER_FRAMES, 1, 51 * MS, frame(b"", 8))]
    run(target, [*begin(), client(create()), *cap, closed(1)])
    again = [(kind, 2, at, data) for kind, _, at, data in [*begin(), client(create()), server(completed()), closed(1)]]
    turn, _ = done(run(target, again))
    assert (turn.id, turn.session_id, turn.sequence, turn.state) == (f"{BOOT}-2-1", "thread-1", 4, State.OK)


def test_a_turn_has_its_own_metadata_and_not_the_handshakes() -> None:
    """The handshake of Codex tells of the prewarm it was made for."""
    first, *rest = begin()
    told = (*HANDSHAKE, ("x-codex-turn-metadata", '{"request_kind":"prewarm"}'))
    shake = [opened(1, "GET /v1/responses HTTP/1.1", *told), *rest]
    compact = create(client_metadata={"x-codex-turn-metadata": '{"request_kind":"compaction"}'})
    events = [*shake, client(create()), server(completed()), client(compact), server(completed()), closed(1)]
    assert [r.kind for r in done(run(observer(), events))] == ["turn", "compaction", "handshake"]
    assert first[0] == tap.OPEN


def test_what_is_answered_before_it_is_whole() -> None:
    """A refusal may overtake the rest of a large request; what came late of the turn before it is none of it."""
    raw = json.dumps(create("x" * 1000)).encode()
    start, rest = frame(raw[:200], fin=False, mask=KEY), frame(raw[200:], 0, mask=KEY)
    refusal = error("rate_limit_exceeded", 429)
    events = [
        *begin(),
        (tap.CLIENT_FRAMES, 1, 30 * MS, start),
        server({"type": "codex.rate_limits"}, 31),
        server(refusal, 32),
        (tap.CLIENT_FRAMES, 1, 33 * MS, rest),
        client(create()),
        server(completed()),
        closed(1),
    ]
    early, good, shake = done(run(observer(), events))
    assert (early.status, early.state, json.loads(early.request_body)) == (429, State.UPSTREAM_ERROR, json.loads(raw))
    assert (good.state, good.response_id) == (State.OK, "resp_1")
    assert shake.response_body == b'event: codex.rate_limits\ndata: {"type": "codex.rate_limits"}\n\n'


def test_a_request_that_was_cut_on_its_way() -> None:
    raw = json.dumps(create("x" * 1000)).encode()
    cut = frame(raw, mask=KEY)[:300]
    events = [*begin(), (tap.CLIENT_FRAMES, 1, 30 * MS, cut), server(error("too_large", 413), 32), closed(1)]
    turn, shake = done(run(observer(), events))
    assert (turn.state, turn.status, turn.truncated) == (State.UPSTREAM_ERROR, 413, True)
    assert raw.startswith(turn.request_body) and turn.model_requested == "gpt-5.5"
    assert (shake.request_body, shake.response_body) == (b"", b"")


def test_early_words_that_fit_no_turn_stay_with_the_handshake() -> None:
    part = frame(b'{"type":"response.pro', fin=False, mask=KEY)
    events = [*begin(), (tap.CLIENT_FRAMES, 1, 30 * MS, part), server(error("odd"), 31), closed(1)]
    (shake,) = done(run(observer(), events))
    assert b'"code": "odd"' in shake.response_body
    assert shake.request_body == b'{"type":"response.pro\n'


def test_early_words_are_bounded() -> None:
    part = frame(b"{", fin=False, mask=KEY)
    loud = {"type": "response.in_progress", "x": "y" * 300_000}
    target = observer(limit=1 << 22)
    run(target, [*begin(), (tap.CLIENT_FRAMES, 1, 30 * MS, part), *[server(loud)] * 8])
    (shake,) = done(run(target, [closed(1)]))
    assert shake.response_body.count(b"event: ") == 8
    rest = [*begin(), (tap.CLIENT_FRAMES, 1, 30 * MS, part), *[server(loud)] * 8]
    run(target, rest)
    tunnel = target._tunnels[1]
    assert sum(len(event.text) for event in tunnel._early) <= 1 << 20


def test_messages_over_the_limit_begin_and_end_their_turns() -> None:
    ends = completed()
    ends["response"]["output"] = ["y" * 20_000]
    events = [*begin(), client(create("x" * 20_000)), server(created()), server(ends), closed(1)]
    turn, shake = done(run(observer(limit=10_000), events))
    assert (turn.truncated, turn.model_requested, turn.status) == (True, "gpt-5.5", 200)
    assert (shake.request_body, shake.response_body) == (b"", b"")


def test_binary_frames_are_what_they_say() -> None:
    """An error to the provider, which answers it as one."""
    raw = json.dumps(create()).encode()
    events = [*begin(), (tap.CLIENT_FRAMES, 1, 30 * MS, frame(raw, 2, mask=KEY)), server(error("bad_frame")), closed(1)]
    turn, _ = done(run(observer(), events))
    assert (turn.state, turn.status) == (State.UPSTREAM_ERROR, 400)


def test_an_unmasked_client_and_control_frames_between_fragments() -> None:
    raw = json.dumps(create("split")).encode()
    words = [
        frame(raw[:9], fin=False),
        frame(b"p", 9),
        frame(raw[9:], 0),
        frame(b"p", 10),
    ]
    events = [*begin(), *((tap.CLIENT_FRAMES, 1, 30 * MS, word) for word in words), server(completed()), closed(1)]
    assert done(run(observer(), events))[0].title == "split"


def names(turn: Exchange) -> list[bytes]:
    return [line[7:] for line in turn.response_body.split(b"\n") if line.startswith(b"event: ")]


def test_line_ends_inside_a_message_make_no_other_event() -> None:
    said = b'{"type":"response.created",\r"x":1,\r\n\r\n"response":{"id":"r9"}}'
    words = [(tap.SERVER_FRAMES, 1, 40 * MS, frame(said)), server(completed(""))]
    events = [*begin(), client(create()), *words, closed(1)]
    turn = done(run(observer(), events))[0]
    assert (turn.response_body.count(b"\n\n"), names(turn)) == (2, [b"response.created", b"response.completed"])
    assert turn.response_id == "r9"


@pytest.mark.parametrize("kind", ["a\nevent: x", "\ud800", "x" * 1000, "", "ü", "a\r\rdata: x", 5, None])
def test_no_type_can_pretend(kind: Any) -> None:
    events = [*begin(), client(create()), server({"type": kind}), server(completed()), closed(1)]
    turn = done(run(observer(), events))[0]
    assert names(turn) == [b"message", b"response.completed"]


def test_open_turns_are_bounded() -> None:
    records = run(observer(), [*begin(), *[client(create())] * 100])
    lost = done(records)
    assert len(lost) == 36
    assert {(r.state, r.error) for r in lost} == {(State.INTERRUPTED, "its end was never seen")}


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=10), st.booleans())
def test_any_frames_never_raise(said: list[tuple[bool, bytes]], framed: bool) -> None:
    target = observer()
    run(target, [*begin(), client(create())])
    for ours, data in said:
        raw = frame(data, mask=KEY if ours else b"") if framed else data
        run(target, [(tap.CLIENT_FRAMES if ours else tap.SERVER_FRAMES, 1, 40 * MS, raw)])
    assert done(run(target, [closed(1)]))[-1].kind == "handshake"


@given(st.lists(st.integers(1, 600), max_size=12))
def test_any_cut_gives_the_same_turns(cuts: list[int]) -> None:
    up = b"".join(frame(json.dumps(each).encode(), mask=KEY) for each in (create("a"), create("b", generate=False)))
    down = b"".join(frame(json.dumps(each).encode()) for each in (created(), completed(), completed("resp_2")))
    events = begin()
    for kind, raw in ((tap.CLIENT_FRAMES, up), (tap.SERVER_FRAMES, down)):
        places = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
        events += [(kind, 1, 40 * MS, raw[a:b]) for a, b in itertools.pairwise(places)]
    found = done(run(observer(), [*events, closed(1)]))
    assert [(r.kind, r.state, r.response_id) for r in found] == [
        ("turn", State.OK, "resp_1"),
        ("prewarm", State.OK, "resp_2"),
        ("handshake", State.OK, None),
    ]


def test_turns_that_are_stored_are_not_told_again() -> None:
    target = observer(finished=(f"{BOOT}-1-1",))
    events = [*begin(), client(create()), server(completed()), client(create()), server(completed()), closed(1)]
    assert [r.id for r in done(run(target, events))] == [f"{BOOT}-1-2", f"{BOOT}-1"]


def test_a_turn_that_runs_can_be_looked_at() -> None:
    target = observer()
    run(target, [*begin(), client(create("say it")), server(created()), server(delta("Hel"))])
    found = target.running(f"{BOOT}-1-1", True)
    assert found is not None and found[0] == "responses"
    assert b"say it" in found[1] and b"Hel" in found[2]
    assert target.running(f"{BOOT}-1-2", True) is None
    run(target, [server(completed())])
    assert target.running(f"{BOOT}-1-1", True) is None
