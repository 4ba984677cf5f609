"""Each client's own signals, as clients.md section 3 lists them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.request import Request, read
from lunaroute.observe.heads import Head, read_head
from lunaroute.observe.sessions import KINDS, OPT_IN, client_of, identify, kind_of, plain
from lunaroute.records import SessionKey

UUID = "550e8400-e29b-41d4-a716-446655440000"
AGENT = "a780f1fce0e4a2a75"
CLAUDE = "User-Agent: claude-cli/2.1.330 (external, sdk-cli)"


def head(*fields: str) -> Head:
    return read_head(("POST / HTTP/1.1\r\n" + "".join(f"{f}\r\n" for f in fields) + "\r\n").encode())


def found(fields: tuple[str, ...], body: dict[str, Any]) -> SessionKey | None:
    made = head(*fields)
    return identify(made, read(json.dumps(body).encode()), client_of(made)[0])


OPENCODE = "user-agent: opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14"
USER_ID = {"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": UUID})}}
CLAUDE_BODY = SessionKey(UUID, "metadata.user_id", "claude-code")
SESSION = f"X-Claude-Code-Session-Id: {UUID}"
BY_HEAD = "x-claude-code-session-id"
BY_TURN = "x-codex-turn-metadata"
TURN = 'x-codex-turn-metadata: {"session_id":"t1","thread_id":"t1","request_kind":"turn"}'
CASES: list[tuple[str, tuple[str, ...], dict[str, Any], SessionKey | None]] = [
    ("claude-header", (CLAUDE, SESSION), {}, SessionKey(UUID, BY_HEAD, "claude-code")),
    ("claude-body", (CLAUDE,), USER_ID, CLAUDE_BODY),
    ("claude-body-object", (CLAUDE,), {"metadata": {"user_id": {"session_id": UUID}}}, CLAUDE_BODY),
    (
        "object",
        (),
        {"metadata": {"user_id": {"session_id": "s 1"}}},
        SessionKey(plain("s 1", "body"), "metadata", None),
    ),
    ("session-id", (), {"metadata": {"session_id": "s1"}}, SessionKey("s1", "metadata", None)),
    ("no-session", (), {"metadata": {"user_id": {"session_id": 5}, "session_id": ""}}, None),
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
    (
        "opencode",
        (OPENCODE, "x-session-affinity: s1", "x-session-id: s1"),
        {},
        SessionKey("s1", "x-session-id", "opencode"),
    ),
    (
        "not-opencode",
        ("User-Agent: MyCompanyApp/3.1", "x-session-id: cust-77"),
        {},
        SessionKey("cust-77", "x-session-id", "mycompanyapp"),
    ),
    (
        "opencode-subagent",
        ("x-session-id: ses_2", "x-parent-session-id: ses_1"),
        {},
        SessionKey("ses_2", "x-session-id", "opencode", parent="ses_1"),
    ),
    ("copilot", ("X-Client-Session-Id: c1",), {}, SessionKey("c1", "x-client-session-id", "copilot")),
    ("app-cache-key", (), {"prompt_cache_key": UUID}, SessionKey(UUID, "prompt_cache_key", None)),
    ("app-cache-word", (), {"prompt_cache_key": "my-app-v2"}, None),
    ("cline", (), {"litellm_session_id": "L1"}, SessionKey("L1", "metadata", None)),
    ("codex-window-metadata", ("x-codex-window-id: t1:0", TURN), {}, SessionKey("t1", BY_TURN, "codex")),
    (
        "codex-subagent-by-metadata",
        ("x-codex-window-id: t4:0", 'x-codex-turn-metadata: {"thread_id":"t4","parent_thread_id":"t2"}'),
        {},
        SessionKey("t4", BY_TURN, "codex", parent="t2"),
    ),
    (
        "codex-websocket-other-thread",
        ("session-id: s1", "thread-id: t2", "x-codex-parent-thread-id: t1"),
        {"client_metadata": {"session_id": "s1", "thread_id": "t3"}},
        SessionKey("t3", "thread-id", "codex", parent="s1"),
    ),
    (
        "codex-websocket-subagent",
        ("session-id: s1", "thread-id: t2", "x-codex-parent-thread-id: t1"),
        {"client_metadata": {"session_id": "s1", "thread_id": "t2", "x-codex-window-id": "t2:0"}},
        SessionKey("t2", "thread-id", "codex", parent="t1"),
    ),
    (
        "nobody-is-its-own-parent",
        ("x-session-id: s1", "x-parent-session-id: s1"),
        {},
        SessionKey("s1", "x-session-id", None),
    ),
    ("opt-in", ("X-LunaRoute-Session: bug-42",), {}, SessionKey("bug-42", OPT_IN, None)),
    ("opt-in-words", ("X-LunaRoute-Session: fix the bug",), {}, SessionKey(plain("fix the bug", OPT_IN), OPT_IN, None)),
    (
        "opt-in-of-an-sdk",
        ("User-Agent: OpenAI/Python 3.54.0", "x-lunaroute-session: job-7"),
        {"prompt_cache_key": UUID},
        SessionKey("job-7", OPT_IN, "openai-python"),
    ),
    ("own-signal-first", (CLAUDE, SESSION, "X-LunaRoute-Session: x"), {}, SessionKey(UUID, BY_HEAD, "claude-code")),
    ("own-body-first", ("X-LunaRoute-Session: x",), {"litellm_session_id": "L1"}, SessionKey("L1", "metadata", None)),
    ("sdk", ("User-Agent: Anthropic/Python 2.12.0",), {"model": "m"}, None),
    ("sdk-user", ("User-Agent: OpenAI/Python 3.54.0",), {"metadata": {"user_id": "alice"}}, None),
]


@pytest.mark.parametrize(("fields", "body", "key"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_identify(fields: tuple[str, ...], body: dict[str, Any], key: SessionKey | None) -> None:
    assert found(fields, body) == key


@pytest.mark.parametrize("ident", ["../../etc/passwd", "a/b", "x" * 65, "a b", "ü", ".", "a\nb", "a\n", ""])
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
ASKED: list[tuple[str, str, str, tuple[str, ...], dict[str, Any], str]] = [
    ("messages", "POST", "/v1/messages", (), TOOLS, "turn"),
    ("no-tools", "POST", "/v1/messages", (), {}, "turn"),
    ("chat", "POST", "/v1/chat/completions", (), {}, "turn"),
    ("count", "POST", "/v1/messages/count_tokens", (), {}, "count"),
    ("models", "GET", "/v1/models", (), {}, "models"),
    ("one-model", "GET", "/v1/models/claude-opus-5-5", (), {}, "models"),
    ("claude-title", "POST", "/v1/messages", ("x-app: cli",), SCHEMA, "title"),
    ("sdk-with-schema", "POST", "/v1/messages", (), SCHEMA, "turn"),
    ("opencode-title", "POST", "/v1/messages", (OPENCODE,), {"system": "You are a title generator."}, "title"),
    ("words-of-another-client", "POST", "/v1/messages", (), {"system": "You are a title generator."}, "turn"),
    ("words-of-a-person", "POST", "/v1/messages", (OPENCODE,), {"input": "Write a title generator in C"}, "turn"),
    ("claude-compaction", "POST", "/v1/messages", ("x-claude-code-request-class: compaction",), TOOLS, "compaction"),
    ("codex-compaction", "POST", "/v1/responses", (CODEX % "compaction",), {}, "compaction"),
    ("codex-compact-path", "POST", "/v1/responses/compact", (), {}, "compaction"),
    ("compaction-trigger", "POST", "/v1/responses", (), {"input": [{"type": "compaction_trigger"}]}, "compaction"),
    ("codex-prewarm", "POST", "/v1/responses", (CODEX % "prewarm",), {}, "prewarm"),
    ("ws-prewarm", "POST", "/v1/responses", (), {"generate": False}, "prewarm"),
    ("broken-metadata", "POST", "/v1/responses", ("x-codex-turn-metadata: {",), TOOLS, "turn"),
    ("probe", "HEAD", "/api/hello", (), {}, "other"),
    ("batches", "POST", "/v1/messages/batches", (), {}, "other"),
    ("get-response", "GET", "/v1/responses/resp_1", (), {}, "poll"),
    ("stop-response", "POST", "/v1/responses/resp_1/cancel", (), {}, "poll"),
    ("items-of-response", "GET", "/v1/responses/resp_1/input_items", (), {}, "other"),
]


@pytest.mark.parametrize(
    ("method", "path", "fields", "body", "kind"), [k[1:] for k in ASKED], ids=[k[0] for k in ASKED]
)
def test_kind_of(method: str, path: str, fields: tuple[str, ...], body: dict[str, Any], kind: str) -> None:
    assert kind_of(method, path, head(*fields), read(json.dumps(body).encode())) == kind


# --- clients.md section 3: each client as it speaks -----------------------------------------------------
CODEX_UA = "user-agent: codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)"
OPENCODE_UA = "User-Agent: opencode/1.18.33 ai-sdk/provider-utils/4.0.23 runtime/bun/1.3.14"
THREAD, CHILD = "0199a213-81a0-7800-8a5b-3d2f4c5e6a70", "0199a213-9cc1-7d33-b0a1-52f0a6f1e9b2"
SES, SUB = "ses_5f0c1b2a3ffeX7yZ9aBcDeFgHi", "ses_5f0c1b1d2ffeK3mN8pQrStUvWx"
SAID = json.dumps({"device_id": "ab" * 32, "account_uuid": "", "session_id": UUID})
LEGACY = f"user_{'cd' * 32}_account__session_{UUID}"
CLAUDE_KEY = SessionKey(UUID, BY_HEAD, "claude-code")
CLAUDE_HEAD = (CLAUDE, SESSION, "x-app: cli", "anthropic-version: 2023-06-01")
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.a1f; cc_entrypoint=sdk-cli;"}
HISTORY = [
    {"role": "user", "content": [{"type": "text", "text": "say hi"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
]


def claude(*more: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-5-5",
        "messages": [*HISTORY, *more],
        "system": [BILLING],
        "tools": [{"name": "Bash"}],
        "metadata": {"user_id": SAID},
        "max_tokens": 128000,
        "stream": True,
        **fields,
    }


def codex(kind: str, thread: str = THREAD, session: str = THREAD) -> tuple[str, ...]:
    said = {"session_id": session, "thread_id": thread, "turn_id": "t", "window_number": 0, "request_kind": kind}
    return (
        f"x-codex-window-id: {thread}:0",
        f"x-codex-turn-metadata: {json.dumps(said)}",
        f"x-client-request-id: {thread}",
        f"session-id: {session}",
        f"thread-id: {thread}",
        "originator: codex_exec",
        CODEX_UA,
    )


def responses(**more: Any) -> dict[str, Any]:
    said = {"session_id": THREAD, "thread_id": THREAD, "turn_id": "t", "x-codex-window-id": f"{THREAD}:0"}
    return {
        "model": "gpt-5.5",
        "stream": True,
        "input": [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are"}]}],
        "tools": [{"type": "function", "name": "exec_command"}],
        "store": False,
        "prompt_cache_key": THREAD,
        "client_metadata": said,
        **more,
    }


CODEX_KEY = SessionKey(THREAD, "thread-id", "codex")
CODEX_CHILD = SessionKey(CHILD, "thread-id", "codex", parent=THREAD)
OPENCODE_HEAD = (OPENCODE_UA, f"x-session-affinity: {SES}", f"x-session-id: {SES}")
OPENCODE_KEY = SessionKey(SES, "x-session-id", "opencode")
OC_RESPONSES = responses(prompt_cache_key=SES, client_metadata=None)
TITLE = {"model": "m", "messages": [{"role": "system", "content": "You are a title generator. You output ONLY a"}]}
ASK = {"role": "user", "content": [{"type": "text", "text": "CRITICAL: Respond with TEXT ONLY. Do NOT"}]}
ASK_OLD = {"role": "user", "content": "Your task is to create a detailed summary of the conversation so far, paying"}
QUOTED = {"role": "user", "content": 'why does it say "CRITICAL: Respond with TEXT ONLY" here?'}
QUOTA = {"model": "claude-haiku-5-5", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}]}
HANDSHAKE = ("Upgrade: websocket", *codex("prewarm"))
CREATE = {"type": "response.create", **responses()}
MESSAGES, RESPONSES, CHAT = "/v1/messages", "/v1/responses", "/v1/chat/completions"

CLIENTS: list[tuple[str, str, str, tuple[str, ...], dict[str, Any], SessionKey | None, str]] = [
    ("claude-turn", "POST", MESSAGES, CLAUDE_HEAD, claude(), CLAUDE_KEY, "turn"),
    ("claude-count", "POST", f"{MESSAGES}/count_tokens", CLAUDE_HEAD, {"messages": HISTORY}, CLAUDE_KEY, "count"),
    (
        "claude-without-its-header",
        *("POST", MESSAGES, (CLAUDE,), claude()),
        SessionKey(UUID, "metadata.user_id", "claude-code"),
        "turn",
    ),
    (
        "claude-legacy-user-id",
        *("POST", MESSAGES, (CLAUDE,), claude(metadata={"user_id": LEGACY})),
        SessionKey(UUID, "metadata.user_id", "claude-code"),
        "turn",
    ),
    (
        "claude-subagent",
        *("POST", MESSAGES, (*CLAUDE_HEAD, f"x-claude-code-agent-id: {AGENT}"), claude()),
        SessionKey(f"{UUID}-{AGENT}", BY_HEAD, "claude-code", parent=UUID),
        "turn",
    ),
    (
        "claude-hints-subagent",
        *("POST", MESSAGES),
        (*CLAUDE_HEAD, f"x-claude-code-agent-id: {AGENT}", "x-claude-code-request-class: subagent"),
        claude(),
        SessionKey(f"{UUID}-{AGENT}", BY_HEAD, "claude-code", parent=UUID),
        "turn",
    ),
    (
        "claude-hints-compaction",
        *("POST", MESSAGES, (*CLAUDE_HEAD, "x-claude-code-compaction: manual"), claude(), CLAUDE_KEY, "compaction"),
    ),
    ("claude-compaction", "POST", MESSAGES, CLAUDE_HEAD, claude(ASK), CLAUDE_KEY, "compaction"),
    ("claude-compaction-older", "POST", MESSAGES, CLAUDE_HEAD, claude(ASK_OLD), CLAUDE_KEY, "compaction"),
    ("claude-after-compaction", "POST", MESSAGES, CLAUDE_HEAD, claude(ASK, *HISTORY), CLAUDE_KEY, "turn"),
    ("claude-compaction-quoted", "POST", MESSAGES, CLAUDE_HEAD, claude(QUOTED), CLAUDE_KEY, "turn"),
    (
        "claude-title",
        *("POST", MESSAGES, CLAUDE_HEAD),
        claude(tools=[], output_config={"format": {"type": "json_schema", "schema": {}}}),
        CLAUDE_KEY,
        "title",
    ),
    ("claude-quota", "POST", MESSAGES, CLAUDE_HEAD, QUOTA, CLAUDE_KEY, "probe"),
    ("claude-says-quota", "POST", MESSAGES, CLAUDE_HEAD, {**QUOTA, "max_tokens": 10}, CLAUDE_KEY, "turn"),
    ("claude-hello", "HEAD", "/api/hello", ("User-Agent: Bun/1.4.4",), {}, None, "other"),
    ("claude-head", "HEAD", "/", ("User-Agent: Bun/1.4.4",), {}, None, "other"),
    ("claude-models", "GET", "/v1/models", ("User-Agent: claude-code/2.1.330",), {}, None, "models"),
    ("codex-turn", "POST", RESPONSES, codex("turn"), responses(), CODEX_KEY, "turn"),
    (
        "codex-subagent",
        *("POST", RESPONSES),
        (*codex("turn", CHILD), f"x-codex-parent-thread-id: {THREAD}", "x-openai-subagent: collab_spawn"),
        responses(client_metadata={"session_id": THREAD, "thread_id": CHILD}),
        CODEX_CHILD,
        "turn",
    ),
    ("codex-compaction", "POST", RESPONSES, codex("compaction"), responses(tools=[]), CODEX_KEY, "compaction"),
    (
        "codex-compaction-trigger",
        *("POST", RESPONSES, codex("turn"), responses(input=[{"type": "compaction_trigger"}]), CODEX_KEY, "compaction"),
    ),
    ("codex-compact-path", "POST", f"{RESPONSES}/compact", codex("turn"), responses(), CODEX_KEY, "compaction"),
    (
        "codex-compact-subagent",
        *("POST", RESPONSES, (*codex("turn"), "x-openai-subagent: compact"), responses(), CODEX_KEY, "compaction"),
    ),
    ("codex-handshake-turn", "POST", RESPONSES, HANDSHAKE, CREATE, CODEX_KEY, "turn"),
    ("codex-handshake-prewarm", "POST", RESPONSES, HANDSHAKE, {**CREATE, "generate": False}, CODEX_KEY, "prewarm"),
    (
        "codex-websocket-child",
        *("POST", RESPONSES, HANDSHAKE),
        responses(client_metadata={"session_id": THREAD, "thread_id": CHILD, "x-codex-parent-thread-id": THREAD}),
        CODEX_CHILD,
        "turn",
    ),
    ("codex-models", "GET", "/v1/models", (CODEX_UA,), {}, None, "models"),
    ("opencode-chat", "POST", CHAT, OPENCODE_HEAD, claude(), OPENCODE_KEY, "turn"),
    ("opencode-messages", "POST", MESSAGES, OPENCODE_HEAD, claude(), OPENCODE_KEY, "turn"),
    ("opencode-responses", "POST", RESPONSES, OPENCODE_HEAD, OC_RESPONSES, OPENCODE_KEY, "turn"),
    ("opencode-title", "POST", CHAT, OPENCODE_HEAD, TITLE, OPENCODE_KEY, "title"),
    (
        "opencode-subagent",
        *("POST", CHAT),
        (OPENCODE_UA, f"x-session-affinity: {SUB}", f"x-session-id: {SUB}", f"x-parent-session-id: {SES}"),
        claude(),
        SessionKey(SUB, "x-session-id", "opencode", parent=SES),
        "turn",
    ),
    (
        "opencode-zen",
        *("POST", CHAT, (OPENCODE_UA, f"x-opencode-session: {SES}", "x-opencode-request: msg_1"), claude()),
        OPENCODE_KEY,
        "turn",
    ),
    ("gemini", "POST", "/v1beta/models/g:generateContent", ("User-Agent: GeminiCLI-tui/0.61.0/g",), {}, None, "other"),
    ("python-sdk", "POST", MESSAGES, ("User-Agent: Anthropic/Python 2.12.0",), {"max_tokens": 1}, None, "turn"),
    ("python-quota", "POST", MESSAGES, ("User-Agent: Anthropic/Python 2.12.0",), QUOTA, None, "turn"),
    ("js-sdk", "POST", CHAT, ("User-Agent: OpenAI/JS 7.57.0",), {"messages": []}, None, "turn"),
    ("batches", "POST", f"{MESSAGES}/batches", (), {"requests": []}, None, "other"),
    ("batch-results", "GET", f"{MESSAGES}/batches/msgbatch_1/results", (), {}, None, "other"),
    ("batch-cancel", "POST", f"{MESSAGES}/batches/msgbatch_1/cancel", (), {}, None, "other"),
    ("files", "POST", "/v1/files", (), {}, None, "other"),
    ("one-file", "GET", "/v1/files/file_1/content", (), {}, None, "other"),
]


@pytest.mark.parametrize(
    ("method", "path", "fields", "body", "key", "kind"), [c[1:] for c in CLIENTS], ids=[c[0] for c in CLIENTS]
)
def test_each_client_as_it_speaks(
    method: str, path: str, fields: tuple[str, ...], body: dict[str, Any], key: SessionKey | None, kind: str
) -> None:
    made = head(*fields)
    raw = json.dumps(body, separators=(",", ":")).encode()
    asked = read(raw)
    assert identify(made, asked, client_of(made)[0]) == key
    assert kind_of(method, path, made, asked, body=raw) == kind
    assert kind in KINDS


WORDS = st.sampled_from(["{", '{"thread_id":5}', '{"thread_id":"t"}', "", "a/b", "\xff", "x" * 300, "websocket"])
NAMES = [
    *("x-claude-code-session-id", "x-claude-code-agent-id", "x-claude-code-parent-agent-id", "session-id", "thread-id"),
    *("x-codex-window-id", "x-codex-turn-metadata", "x-codex-parent-thread-id", "x-session-id", "x-parent-session-id"),
    *("x-lunaroute-session", "user-agent", "upgrade", "x-openai-subagent", "session_id"),
]


@given(st.dictionaries(st.sampled_from(NAMES), WORDS), st.dictionaries(st.sampled_from(["thread_id", "x"]), WORDS))
def test_any_signals_give_plain_ids(fields: dict[str, str], said: dict[str, str]) -> None:
    made = Head(("POST", "/v1/responses", "HTTP/1.1"), list(fields.items()), fields)
    asked = Request(client_metadata=said, session=said.get("x"))
    key = identify(made, asked, client_of(made)[0])
    assert kind_of("POST", "/v1/responses", made, asked) in KINDS
    if key is not None:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key.id)
        assert key.parent is None or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", key.parent)
        assert key.parent != key.id
