"""The real assistants complete a tool loop through LunaRoute (mission P1 to P4, R1 to R3).

Each case runs once directly against the scripted upstream and once through a tap and LunaRoute. Compared: what the
client sent and got with what the upstream got and sent, byte for byte; the run through the proxy with the direct one;
and the record with both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.answers import FINAL, RAN, Assistant, Told
from tests.conftest import Serve
from tests.e2e import programs
from tests.e2e.programs import Ran
from tests.e2e.same import Fresh, Pair, Target, both_sides, like_direct
from tests.fakes import Tap, Upstream
from tests.messages import Message, decode
from tests.running import Running

pytestmark = pytest.mark.slow
Json = dict[str, Any]
USAGE = ("input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_tokens")
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

CLAUDE = Fresh(headers=frozenset(["x-claude-code-session-id"]), keys=("device_id", "session_id"))
CODEX = Fresh(
    headers=frozenset(
        ["x-codex-window-id", "x-client-request-id", "session-id", "thread-id", "sec-websocket-key"]
    ),
    keys=(
        "session_id", "thread_id", "turn_id", "root_turn_id", "window_id", "context_window_id", "installation_id",
        "x-codex-window-id", "x-codex-installation-id", "x-codex-ws-stream-request-start-ms", "prompt_cache_key",
        "create_time", "chunk_id", "wall_time_seconds", "turn_started_at_unix_ms",
    ),
    patterns=(
        (rf'("id": ?"(?:msg|at|fco|ctco)_){UUID}"', r'\1<item>"'),
        (r"(Chunk ID: )[0-9a-f]+", r"\1<chunk>"),
        (r"(Wall time:? )[\d.]+( seconds)", r"\1<time>\2"),
        # the User-Agent of the side requests has a suffix once the process knows its own mode: a matter of moments
        (r"^(codex_exec/[\d.]+ .*dumb) \(codex_exec; [\d.]+\)$", r"\1"),
    ),
    unordered=frozenset(["client_metadata"]),
    shuffled=True,
    repeated=lambda message: message.method == "GET" and not message.header("upgrade"),
)  # fmt: skip
OPENCODE = Fresh(headers=frozenset(["x-session-id", "x-session-affinity"]), keys=("prompt_cache_key",))
MOMENTS = {
    "session_id", "uuid", "duration_ms", "duration_api_ms", "ttft_ms", "ttft_stream_ms", "time_to_request_ms",
    "first_content_frame_ms",
}  # fmt: skip


def claude_said(ran: Ran) -> Any:
    """Its JSON result without ids and durations; its own count of tokens is in it."""
    (result,) = ran.lines()
    assert result["result"] == FINAL
    return {k: v for k, v in result.items() if k not in MOMENTS}


def codex_said(ran: Ran) -> Any:
    lines = ran.lines()
    assert any(line.get("item", {}).get("text") == FINAL for line in lines)
    return [{k: v for k, v in line.items() if k != "thread_id"} for line in lines]


def opencode_said(ran: Ran) -> Any:
    assert FINAL in ran.out
    return ran.out, ran.err


def to_chatgpt(target: str) -> str:
    """Where a path of the API is found at the ChatGPT backend."""
    return target.replace("/v1/", "/backend-api/codex/", 1) if target.startswith("/v1/") else target


def same_target(target: str) -> str:
    return target


def of_thread(request: Message) -> str | None:
    return request.header("thread-id")


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
    session: Callable[[Message], str | None]
    kinds: tuple[str, ...] = ("call", "final")
    transport: str = "http"
    target: Target = same_target
    extra: Json = field(default_factory=dict)
    script: Callable[[], Assistant] = Assistant
    refused: bool = False
    coding: str | None = None


CASES = [
    Case(
        id="claude-code", run=programs.claude, said=claude_said, fresh=CLAUDE, client="claude-code", version="2.1.330",
        dialect="anthropic", session=lambda m: m.header("x-claude-code-session-id"),
    ),
    Case(
        id="claude-code-gzip", run=programs.claude, said=claude_said, fresh=CLAUDE, client="claude-code",
        version="2.1.330", dialect="anthropic", session=lambda m: m.header("x-claude-code-session-id"),
        script=lambda: Assistant(compress=True),
    ),
    Case(
        id="codex-http", run=lambda h, u: programs.codex(h, u, custom=True), said=codex_said, fresh=CODEX,
        client="codex", version="0.169.0", dialect="responses", session=of_thread,
    ),
    Case(
        id="codex-websocket", run=programs.codex, said=codex_said, fresh=CODEX, client="codex", version="0.169.0",
        dialect="responses", session=of_thread, kinds=("prewarm", "call", "final"), transport="websocket",
    ),
    Case(
        id="codex-websocket-refused-upstream", run=programs.codex, said=codex_said, fresh=CODEX, client="codex",
        version="0.169.0", dialect="responses", session=of_thread, script=lambda: Assistant(websocket=False),
        refused=True,
    ),
    Case(
        id="codex-chatgpt-websocket", run=lambda h, u: programs.codex(h, u, chatgpt=True), said=codex_said, fresh=CODEX,
        client="codex", version="0.169.0", dialect="responses", session=of_thread, kinds=("prewarm", "call", "final"),
        transport="websocket", target=to_chatgpt,
    ),
    Case(
        id="codex-chatgpt-zstd", run=lambda h, u: programs.codex(h, u, chatgpt=True), said=codex_said, fresh=CODEX,
        client="codex", version="0.169.0", dialect="responses", session=of_thread, target=to_chatgpt,
        extra={"providers": {"openai": {"websocket": False}}}, script=lambda: Assistant(websocket=False), refused=True,
        coding="zstd",
    ),
    *(
        Case(
            id=f"opencode-{dialect}", run=lambda h, u, d=dialect: programs.opencode(h, u, dialect=d),
            said=opencode_said, fresh=OPENCODE, client="opencode", version="1.18.33", dialect=dialect,
            session=lambda m: m.header("x-session-id"),
        )
        for dialect in ("chat", "anthropic", "responses")
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_tool_loop_through_the_proxy_is_the_direct_one_and_recorded(case: Case, tmp_path: Path, serve: Serve) -> None:
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
    assert len(sessions) == 1
    for answer in told:
        row = by_id[answer.id]
        assert {name: row[name] for name in USAGE} == {name: answer.usage.get(name) for name in USAGE}
        assert (row["model_requested"], row["model_used"]) == (answer.asked, answer.model)
        assert (row["dialect"], row["client"], row["client_version"]) == (case.dialect, case.client, case.version)
        assert (row["transport"], row["session_id"], row["truncated"]) == (case.transport, *sessions, 0)
        assert row["usage_state"] == "complete"
        assert row["stream"] == 1
        assert row["kind"] == ("prewarm" if answer.kind == "prewarm" else "turn")
        assert row["stop_reason"] == answer.stop
    summed(luna, *sessions, told)
    bodies(case, by_id, told, client, upstream)
    lines(luna, *sessions, told, by_id)


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
        crossed[decode(pair.body, request.header("content-encoding") or "") or b""] = content
    for answer in told:
        row = by_id[answer.id]
        assert crossed[row["request_body"]] == row["response_body"]
        assert f'"{answer.id}"' in row["response_body"].decode()
        assert (row["request_decode_error"], row["response_decode_error"]) == (None, None)


def lines(luna: Running, session: str, told: list[Told], by_id: dict[str, Json]) -> None:
    """The session's JSONL file holds the same exchanges."""
    (row,) = [s for s in luna.sessions() if s["session_id"] == session]
    (file,) = [f for f in luna.session_files() if session in f.name]
    assert Path(row["jsonl_path"]).name == file.name
    written = [json.loads(line) for line in file.read_text().splitlines()]
    found = {line["response_id"]: line for line in written if line.get("response_id")}
    assert sorted(found) == sorted(t.id for t in told)
