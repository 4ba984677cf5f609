"""Each client's own signals, as clients.md section 3 lists them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from lunaroute.dialects.request import read
from lunaroute.observe.heads import Head, read_head
from lunaroute.observe.sessions import client_of, identify, kind_of, plain
from lunaroute.records import SessionKey

UUID = "550e8400-e29b-41d4-a716-446655440000"
AGENT = "a780f1fce0e4a2a75"
CLAUDE = "User-Agent: claude-cli/2.1.330 (external, sdk-cli)"


def head(*fields: str) -> Head:
    return read_head(("POST / HTTP/1.1\r\n" + "".join(f"{f}\r\n" for f in fields) + "\r\n").encode())


def found(fields: tuple[str, ...], body: dict[str, Any]) -> SessionKey | None:
    made = head(*fields)
    return identify(made, read(json.dumps(body).encode()), client_of(made)[0])


USER_ID = {"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": UUID})}}
SESSION = f"X-Claude-Code-Session-Id: {UUID}"
BY_HEAD = "x-claude-code-session-id"
CASES: list[tuple[str, tuple[str, ...], dict[str, Any], SessionKey | None]] = [
    ("claude-header", (CLAUDE, SESSION), {}, SessionKey(UUID, BY_HEAD, "claude-code")),
    ("claude-body", (CLAUDE,), USER_ID, SessionKey(UUID, "metadata.user_id", "claude-code")),
    (
        "claude-subagent",
        (CLAUDE, SESSION, f"x-claude-code-agent-id: {AGENT}"),
        {},
        SessionKey(f"{UUID}-{AGENT}", BY_HEAD, "claude-code", parent=UUID),
    ),
    (
        "claude-subagent-of-subagent",
        (CLAUDE, SESSION, "x-claude-code-agent-id: b2", "x-claude-code-parent-agent-id: a1"),
        {},
        SessionKey(f"{UUID}-b2", BY_HEAD, "claude-code", parent=f"{UUID}-a1"),
    ),
    ("codex", ("session-id: s1", "thread-id: s1"), {"prompt_cache_key": "s1"}, SessionKey("s1", "thread-id", "codex")),
    (
        "codex-subagent",
        ("session-id: s1", "thread-id: t2", "x-codex-parent-thread-id: s1", "x-openai-subagent: collab_spawn"),
        {"prompt_cache_key": "s1"},
        SessionKey("t2", "thread-id", "codex", parent="s1"),
    ),
    (
        "codex-websocket-message",
        ("session-id: s1", "thread-id: s1"),
        {"client_metadata": {"session_id": "s1", "thread_id": "t3"}},
        SessionKey("t3", "thread-id", "codex", parent="s1"),
    ),
    ("opencode", ("x-session-affinity: s_1", "x-session-id: s_1"), {}, SessionKey("s_1", "x-session-id", "opencode")),
    (
        "opencode-subagent",
        ("x-session-id: ses_2", "x-parent-session-id: ses_1"),
        {},
        SessionKey("ses_2", "x-session-id", "opencode", parent="ses_1"),
    ),
    ("copilot", ("X-Client-Session-Id: c1",), {}, SessionKey("c1", "x-client-session-id", "copilot")),
    ("app-cache-key", (), {"prompt_cache_key": "mine"}, SessionKey("mine", "prompt_cache_key", None)),
    ("cline", (), {"litellm_session_id": "L1"}, SessionKey("L1", "metadata", None)),
    ("sdk", ("User-Agent: Anthropic/Python 2.12.0",), {"model": "m"}, None),
    ("sdk-user", ("User-Agent: OpenAI/Python 3.54.0",), {"metadata": {"user_id": "alice"}}, None),
]


@pytest.mark.parametrize(("fields", "body", "key"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_identify(fields: tuple[str, ...], body: dict[str, Any], key: SessionKey | None) -> None:
    assert found(fields, body) == key


@pytest.mark.parametrize("ident", ["../../etc/passwd", "a/b", "x" * 65, "a b", "ü", ".", "a\nb"])
def test_ids_that_are_no_file_names_become_digests(ident: str) -> None:
    made = plain(ident)
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert made == plain(ident) != plain(ident, "other scope")


AGENTS = [
    ("claude-cli/2.1.330 (external, sdk-cli)", ("claude-code", "2.1.330")),
    ("codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)", ("codex", "0.169.0")),
    ("opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14", ("opencode", "1.18.33")),
    ("GeminiCLI-tui/0.61.0/gemini", ("gemini-cli", "0.61.0")),
    ("Anthropic/Python 2.12.0", ("anthropic-python", "2.12.0")),
    ("AsyncOpenAI/Python 3.54.0", ("openai-python", "3.54.0")),
    ("Anthropic/JS 1.12.0", ("anthropic-js", "1.12.0")),
    ("curl/8.5.0", ("curl", "8.5.0")),
    ("MyApp/1", ("myapp", "1")),
    ("Mozilla", (None, None)),
    ("", (None, None)),
]


@pytest.mark.parametrize(("agent", "client"), AGENTS, ids=[a[0][:12] for a in AGENTS])
def test_client_of(agent: str, client: tuple[str | None, str | None]) -> None:
    assert client_of(head(f"User-Agent: {agent}")) == client


TOOLS = {"tools": [{"name": "x"}]}
SCHEMA = {"tools": [], "output_config": {"format": {"type": "json_schema"}}}
CODEX = 'x-codex-turn-metadata: {"request_kind":"%s"}'
KINDS: list[tuple[str, str, str, tuple[str, ...], dict[str, Any], str]] = [
    ("messages", "POST", "/v1/messages", (), TOOLS, "turn"),
    ("no-tools", "POST", "/v1/messages", (), {}, "turn"),
    ("chat", "POST", "/v1/chat/completions", (), {}, "turn"),
    ("count", "POST", "/v1/messages/count_tokens", (), {}, "count"),
    ("models", "GET", "/v1/models", (), {}, "models"),
    ("one-model", "GET", "/v1/models/claude-opus-5-5", (), {}, "models"),
    ("claude-title", "POST", "/v1/messages", ("x-app: cli",), SCHEMA, "title"),
    ("sdk-with-schema", "POST", "/v1/messages", (), SCHEMA, "turn"),
    ("opencode-title", "POST", "/v1/messages", (), {"system": "You are a title generator."}, "title"),
    ("claude-compaction", "POST", "/v1/messages", ("x-claude-code-request-class: compaction",), TOOLS, "compaction"),
    ("codex-compaction", "POST", "/v1/responses", (CODEX % "compaction",), {}, "compaction"),
    ("codex-compact-path", "POST", "/v1/responses/compact", (), {}, "compaction"),
    ("compaction-trigger", "POST", "/v1/responses", (), {"input": [{"type": "compaction_trigger"}]}, "compaction"),
    ("codex-prewarm", "POST", "/v1/responses", (CODEX % "prewarm",), {}, "prewarm"),
    ("ws-prewarm", "POST", "/v1/responses", (), {"generate": False}, "prewarm"),
    ("broken-metadata", "POST", "/v1/responses", ("x-codex-turn-metadata: {",), TOOLS, "turn"),
    ("probe", "HEAD", "/api/hello", (), {}, "other"),
    ("batches", "POST", "/v1/messages/batches", (), {}, "other"),
    ("get-response", "GET", "/v1/responses/resp_1", (), {}, "other"),
]


@pytest.mark.parametrize(
    ("method", "path", "fields", "body", "kind"), [k[1:] for k in KINDS], ids=[k[0] for k in KINDS]
)
def test_kind_of(method: str, path: str, fields: tuple[str, ...], body: dict[str, Any], kind: str) -> None:
    assert kind_of(method, path, head(*fields), read(json.dumps(body).encode())) == kind
