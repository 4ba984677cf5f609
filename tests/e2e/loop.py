"""One tool loop of one client, run directly against the scripted upstream and once more through a tap and LunaRoute.

Compared: what the client sent and got with what the upstream got and sent, byte for byte; the run through the proxy
with the direct one; and the record with both (mission P1 to P4, R1 to R3).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.answers import RAN, Assistant, Told
from tests.e2e import programs
from tests.e2e.programs import Ran
from tests.e2e.same import Fresh, Pair, Target, both_sides, like_direct
from tests.fakes import Tap, Upstream
from tests.messages import Message, decode
from tests.running import Running

Json = dict[str, Any]
USAGE = ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens")


def no_session(message: Message) -> str | None:
    return None


def same_target(target: str) -> str:
    return target


@dataclass(frozen=True, kw_only=True)
class Case:
    """One assistant in one manner. `kinds`: the answers that its tool loop takes. `extra`: configuration, which then
    refuses WebSocket. `refused`: so does the proxy or the upstream. `coding`: of the request bodies."""

    id: str
    run: Callable[[Path, str], Ran]
    said: Callable[[Ran], Any]
    fresh: Fresh
    client: str
    version: str
    dialect: str
    session: Callable[[Message], str | None] = no_session
    kinds: tuple[str, ...] = ("call", "final")
    transport: str = "http"
    target: Target = same_target
    extra: Json = field(default_factory=dict)
    script: Callable[[], Assistant] = Assistant
    refused: bool = False
    coding: str | None = None

    @property
    def named(self) -> bool:
        """Whether the client tells its session."""
        return self.session is not no_session


def proved(case: Case, tmp_path: Path, serve: Callable[..., Running]) -> None:
    """Runs the case directly and through the proxy and asserts all that must hold."""
    home = tmp_path / "client"
    alone = case.script()
    with Upstream(alone) as direct:
        expected = case.run(programs.fresh_home(home), direct.url)
    assert expected.code == 0, expected
    assistant = case.script()
    with Upstream(assistant) as upstream:
        luna = serve(upstream, case.extra)
        with Tap(luna.port) as tap:
            ran = case.run(programs.fresh_home(home), tap.url)
            assert ran.code == 0, (ran, luna.log())
            client = both_sides(tap, upstream, case.target, refused_handshake if case.refused else nothing)
        assert luna.stop() == 0
    assert case.said(ran) == case.said(expected)
    assert assistant.told == alone.told
    assert tuple(told.kind for told in assistant.told) == case.kinds
    asked = [r for r in direct.requests if not (case.extra and r.header("upgrade"))]
    like_direct(asked, upstream.requests, case.fresh, case.target)
    tool_ran(upstream)
    assert {r.header("content-encoding") for r in upstream.requests if r.method == "POST"} <= {case.coding}
    recorded(case, luna, assistant.told, client, upstream)


def nothing(pair: Pair) -> bool:
    return False


def refused_handshake(pair: Pair) -> bool:
    """The one answer that the proxy words itself: the client shall use HTTP."""
    return pair.status == 426


def tool_ran(upstream: Upstream) -> None:
    """The last turn carried what the tool printed, so that the loop was a real one."""
    turns = [b for r in upstream.requests for b in [r.content, *r.messages] if b]
    assert RAN in turns[-1].decode()


def recorded(case: Case, luna: Running, told: list[Told], client: list[Pair], upstream: Upstream) -> None:
    """The record holds every answer with its figures, its bodies and its session."""
    rows = luna.exchanges()
    assert not [r["target"] for r in rows if r["target"] in ("/healthz", "/readyz")], "its own probes are recorded"
    shaken = [r for r in rows if r["kind"] == "handshake"]
    assert [r["status"] for r in shaken] == ([426] if case.refused else [101] if case.transport == "websocket" else [])
    states = {r["state"] for r in rows if r["status"] != 426}
    assert states == {"ok"}, [(r["target"], r["state"], r["error"]) for r in rows]
    by_id = {row["response_id"]: row for row in rows if row["response_id"]}
    assert sorted(by_id) == sorted(t.id for t in told)
    sessions = {m for m in (case.session(r) for r in asked_of(client)) if m}
    for answer in told:
        row = by_id[answer.id]
        assert {name: row[name] for name in USAGE} == {name: answer.usage.get(name) for name in USAGE}
        assert (row["model_requested"], row["model_used"]) == (answer.asked, answer.model)
        assert (row["dialect"], row["client"], row["client_version"]) == (case.dialect, case.client, case.version)
        assert (row["transport"], row["truncated"], row["stream"]) == (case.transport, 0, int(answer.stream))
        assert row["usage_state"] == ("complete" if answer.usage else "unknown")
        assert row["kind"] == ("prewarm" if answer.kind == "prewarm" else "turn")
        assert row["stop_reason"] == answer.stop
    bodies(case, by_id, told, client, upstream)
    if case.named:
        (session,) = sessions
        assert {by_id[t.id]["session_id"] for t in told} == {session}
        summed(luna, session, told)
    lines(luna, told, by_id)


def asked_of(client: list[Pair]) -> list[Message]:
    return [Message(head=_head(p.start, p.headers)) for p in client]


def _head(start: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    return "\r\n".join([start, *(f"{n}: {v}" for n, v in headers), "", ""]).encode("latin-1")


def summed(luna: Running, session: str, told: list[Told]) -> None:
    """The session's row adds up what its answers told."""
    (row,) = [s for s in luna.sessions() if s["session_id"] == session]
    for name in USAGE:
        figures = [t.usage[name] for t in told if name in t.usage]
        assert row[name] == (sum(figures) if figures else None), name
    assert (row["errors"], row["usage_unknown"]) == (0, 0)
    assert row["model_used"] == told[-1].model
    assert row["jsonl_path"]
    query = (
        "SELECT model_used, COUNT(*), SUM(input_tokens), SUM(output_tokens) FROM sessions "
        "WHERE started_at > datetime('now', '-7 days') GROUP BY model_used;"
    )
    assert any(
        r["model_used"] == told[-1].model and r["SUM(output_tokens)"] == row["output_tokens"] for r in luna.rows(query)
    )


def bodies(case: Case, by_id: dict[str, Json], told: list[Told], client: list[Pair], upstream: Upstream) -> None:
    """What is stored is what crossed the wire, content codings undone."""
    if case.transport == "websocket":
        messages = [m for r in upstream.requests for m in r.messages]
        for answer, message in zip(told, messages, strict=True):
            row = by_id[answer.id]
            assert row["request_body"] == message
            assert f'"id":"{answer.id}"' in row["response_body"].decode()
            assert row["response_body"].decode().startswith("event: response.created\ndata: {")
        return
    crossed = {}
    for pair in client:
        request, answer = asked_of([pair])[0], Message(head=_head(pair.answer, pair.answer_headers))
        content = decode(pair.answer_body, answer.header("content-encoding") or "")
        crossed[decode(pair.body, request.header("content-encoding") or "") or b""] = (pair, content)
    for answer in told:
        row = by_id[answer.id]
        pair, content = crossed[row["request_body"]]
        assert row["response_body"] == content
        assert f'"{answer.id}"' in content.decode()
        assert (row["request_decode_error"], row["response_decode_error"]) == (None, None)
        assert shown(pair.start, row["request_headers"]) == masked(pair.headers)
        assert shown(pair.answer, row["response_headers"]) == masked(pair.answer_headers)


def shown(start: str, stored: str) -> list[tuple[str, str]]:
    """The stored header fields, without those that belong to the connection."""
    return Message(head=_head(start, tuple((n, v) for n, v in json.loads(stored)))).end_to_end()


def masked(headers: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Header fields as they may be stored: all of them, in order, credentials without their value."""
    return [(n, "***" if n.lower() in ("authorization", "x-api-key", "chatgpt-account-id") else v) for n, v in headers]


def lines(luna: Running, told: list[Told], by_id: dict[str, Json]) -> None:
    """The sessions' JSONL files hold the same exchanges, each in the file that its session names, bodies and all."""
    places = {s["session_id"]: Path(s["jsonl_path"]) for s in luna.sessions()}
    for answer in told:
        row = by_id[answer.id]
        written = places[row["session_id"]].read_bytes().splitlines()
        asked, answered = (
            [line for line in written if f'"type":"{kind}","id":"{row["id"]}"'.encode() in line[:200]]
            for kind in ("request", "response")
        )
        ((request, response),) = zip(asked, answered, strict=True)
        assert body_of(request) == row["request_body"]
        assert body_of(response) == row["response_body"]
        facts = json.loads(response)
        assert (facts["response_id"], facts["state"], facts["model"]) == (answer.id, "ok", answer.model)
        assert {n: facts["usage"].get(n) for n in USAGE} == {n: answer.usage.get(n) for n in USAGE}
        assert json.loads(request)["headers"] == json.loads(row["request_headers"])


def body_of(line: bytes) -> bytes:
    """The body in a line, byte for byte."""
    facts = json.loads(line)
    if facts["body_form"] == "json":
        return line.partition(b'"body_form":"json","body":')[2].removesuffix(b"}")
    assert facts["body_form"] == "text", facts["body_form"]
    return str(facts["body"]).encode()
