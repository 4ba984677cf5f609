"""One tool loop of one client, run directly against the scripted upstream and once more through a tap and LunaRoute.

Compared: what the client sent and got with what the upstream got and sent, byte for byte; the run through the proxy
with the direct one; and the record with both (mission P1 to P4, R1 to R3).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.answers import RAN, Assistant, Told
from tests.e2e import programs
from tests.e2e.programs import Ran
from tests.e2e.same import Fresh, Pair, Target, both_sides, like_direct
from tests.fakes import Tap, Upstream
from tests.messages import Message, decode
from tests.running import PATIENCE, Running
from tests.watched import parsed

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
        counted(case, luna, assistant.told)
        assert luna.stop() == 0
    assert case.said(ran) == case.said(expected)
    assert assistant.told == alone.told
    assert tuple(told.kind for told in assistant.told) == case.kinds
    asked = [r for r in direct.requests if not (case.extra and r.header("upgrade"))]
    like_direct(asked, upstream.requests, case.fresh, case.target)
    tool_ran(upstream)
    assert {r.header("content-encoding") for r in upstream.requests if r.method == "POST"} <= {case.coding}
    recorded(case, luna, assistant.told, client, upstream)


def counted(case: Case, luna: Running, told: list[Told]) -> None:
    """/metrics comes to what the answers said: tokens, tool calls, turns by WebSocket, streams, times."""
    used = [answer.usage for answer in told]
    cached = ("cache_read_tokens", "cache_write_tokens") if case.dialect == "anthropic" else ()
    expected = {
        "lunaroute_tokens": sum(each.get(n, 0) for each in used for n in ("input_tokens", "output_tokens", *cached)),
        "lunaroute_tool_calls": sum(len(answer.calls) for answer in told),
        "lunaroute_websocket_turns": len(told) if case.transport == "websocket" else 0,
        "lunaroute_streams": sum(answer.stream for answer in told),
    }
    deadline = time.monotonic() + PATIENCE
    while True:
        scrape = parsed(luna.get("/metrics")[1].decode())
        found = {name: sum(scrape[name].values()) for name in expected}
        if found == expected:
            break
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.02)
    moved = ["request_duration", "time_to_first_byte", "tool_duration"]
    if luna.rows("SELECT 1 FROM exchanges WHERE stream"):  # an answer in one piece has no first content of its own
        moved.append("time_to_first_content")
    for name in moved:
        assert any(scrape[f"lunaroute_{name}_seconds"].values()), name


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
    tools(case, luna, told, by_id)
    costs(luna, told, by_id)
    split(luna)


def tools(case: Case, luna: Running, told: list[Told], by_id: dict[str, Json]) -> None:
    """One row for each tool that the answers asked for, with the result that a later request brought."""
    asked = {ident: (answer, name, arguments) for answer in told for ident, name, arguments in answer.calls}
    rows = {row["call_id"]: row for row in luna.rows("SELECT * FROM tool_calls")}
    assert set(rows) == set(asked)
    numbers = {by_id[answer.id]["row"]: answer for answer in told}
    for ident, (answer, name, arguments) in asked.items():
        row = rows[ident]
        assert (row["session_id"], row["exchange"]) == (by_id[answer.id]["session_id"], by_id[answer.id]["row"])
        assert row["name"] == name
        # their beginning; whole answers have an object where streams have its text
        assert unspaced(arguments).startswith(unspaced(row["arguments"])) and len(row["arguments"]) >= 40
        assert len(arguments.encode()) - 5 <= row["arguments_bytes"] <= len(arguments.encode())
        assert numbers[row["result_exchange"]].number > answer.number, "brought by a request that came later"
        assert row["result_bytes"] >= len(RAN)
        assert 0 < row["duration_ms"] < 60_000
        # Claude Code says whether it failed, Codex the exit code; nothing tells with the others
        assert row["success"] == (1 if case.client in ("claude-code", "codex") else None)
        assert by_id[answer.id]["tool_calls"] == len(answer.calls)


def unspaced(text: str) -> str:
    return "".join(text.split())


# US dollars per million tokens, as the vendors published them: input, output, cache read, cache write (5 minutes)
PRICES = {
    "claude-opus-5-5": (4.0, 20.0, 0.2, 5.0),
    "claude-sonnet-5": (2.0, 10.0, 0.2, 2.5),
    "gpt-6.1-sol": (2.0, 10.0, 0.1, 2.5),
    "gpt-5.5": (5.0, 30.0, 0.5, 5.0),
}


def dollars(told: Told) -> float | None:
    """What an answer cost, None where nobody can know."""
    prices, usage = PRICES.get(told.asked), told.usage
    if prices is None or not usage:
        return None
    read, written = usage.get("cache_read_tokens", 0), usage.get("cache_write_tokens", 0)
    plain = usage["input_tokens"] - (0 if told.dialect == "anthropic" else read + written)
    return sum(a * b for a, b in zip(prices, (plain, usage["output_tokens"], read, written), strict=True)) / 1e6


def costs(luna: Running, told: list[Told], by_id: dict[str, Json]) -> None:
    """Each answer by the published price of the model that gave it; sessions add up what is known."""
    sums: dict[str, list[float | None]] = {}
    for answer in told:
        row, cost = by_id[answer.id], dollars(answer)
        assert row["cost_usd"] == (None if cost is None else pytest.approx(cost, abs=1e-12)), answer
        sums.setdefault(row["session_id"], []).append(cost)
    for session in luna.sessions():
        of = sums.get(session["session_id"], [])
        known = [cost for cost in of if cost is not None]
        assert session["cost_usd"] == (pytest.approx(sum(known)) if known else None)
        assert session["cost_unknown"] == len(of) - len(known)


def split(luna: Running) -> None:
    """The parts of the time add up to the whole."""
    parts = ("before_ms", "connect_ms", "upload_ms", "wait_ms", "content_ms", "generation_ms", "after_ms")
    for row in luna.exchanges():
        assert sum(row[name] or 0.0 for name in parts) == pytest.approx(row["duration_ms"], abs=0.01), row
        if row["kind"] == "turn":
            assert row["wait_ms"] is not None and row["generation_ms"] is not None, row


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
