"""WebSocket tunnels: turns, prewarm, errors, cuts, compression, messages outside a turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


def test_turns_that_are_stored_are_not_told_again() -> None:
    target = observer(finished=(f"{BOOT}-1-1",))
    events = [*begin(), client(create()), server(completed()), client(create()), server(completed()), closed(1)]
    assert [r.id for r in done(run(target, events))] == [f"{BOOT}-1-2", f"{BOOT}-1"]
