"""The real assistants complete a tool loop through LunaRoute (tests/e2e/loop.py says what is compared)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.answers import FINAL, Assistant
from tests.conftest import Serve
from tests.e2e import programs
from tests.e2e.loop import Case, proved
from tests.e2e.programs import Ran
from tests.e2e.same import Fresh
from tests.messages import Message

pytestmark = pytest.mark.slow
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


def of_thread(request: Message) -> str | None:
    return request.header("thread-id")


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
        id="codex-websocket-deflate", run=programs.codex, said=codex_said, fresh=CODEX, client="codex",
        version="0.169.0", dialect="responses", session=of_thread, kinds=("prewarm", "call", "final"),
        transport="websocket", script=lambda: Assistant(deflate=True),
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
    proved(case, tmp_path, serve)
