"""Makes lunaroute/stores/packs.zdict, the dictionary that packs without a base and blobs are compressed with.

usage: python -m benchmarks.dictionary        (writes the file; only for a new one: what was stored needs the old one)

Trained on what every first exchange of a session is made of: the clients' header fields, the frames of their requests
and of the vendors' answers. The words in between are left out, they are each user's own.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import zstandard

from lunaroute.stores import packs
from tests.dialects.corpus import GOLDEN, body_of

TARGET = Path(packs.__file__).with_name("packs.zdict")
SIZE = 16 << 10
DICT_ID = 0x4C52_0002  # the schema's version that it belongs to

CLAUDE = [
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "claude-cli/2.1.330 (external, sdk-cli)"),
    ("X-Claude-Code-Session-Id", "***"),
    *(("X-Stainless-" + name, value) for name, value in (("Arch", "x64"), ("Lang", "js"), ("OS", "Linux"))),
    *(("X-Stainless-" + name, value) for name, value in (("Package-Version", "0.128.0"), ("Retry-Count", "0"))),
    *(("X-Stainless-" + name, value) for name, value in (("Runtime", "node"), ("Runtime-Version", "v26.12.1"))),
    ("X-Stainless-Timeout", "600"),
    (
        "anthropic-beta",
        "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
        "per-turn-control-2026-07-01,mid-conversation-tool-changes-2026-07-01,thinking-token-count-2026-05-13,"
        "advanced-tool-use-2025-11-20,effort-2025-11-24",
    ),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("anthropic-version", "2023-06-01"),
    ("x-api-key", "***"),
    ("x-app", "cli"),
    ("Connection", "keep-alive"),
    ("Host", "127.0.0.1:8081"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Content-Length", "49152"),
]
CODEX = [
    ("x-codex-beta-features", "remote_compaction_v2"),
    ("x-codex-window-id", "***:0"),
    ("x-codex-turn-metadata", '{"session_id":"","thread_id":"","turn_id":"","window_number":0,"request_kind":"turn"}'),
    *((name, "***") for name in ("x-client-request-id", "session-id", "thread-id")),
    ("accept", "text/event-stream"),
    ("content-type", "application/json"),
    ("authorization", "***"),
    ("originator", "codex_exec"),
    ("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) dumb (codex_exec; 0.169.0)"),
    ("host", "127.0.0.1:8081"),
    ("content-length", "38912"),
]
SDK = [
    ("Host", "127.0.0.1:8081"),
    ("Accept-Encoding", "gzip, deflate"),
    ("Connection", "keep-alive"),
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "OpenAI/Python 3.54.0"),
    *(("X-Stainless-" + name, value) for name, value in (("Lang", "python"), ("Arch", "x64"), ("Async", "false"))),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-read-timeout", "600"),
    ("Authorization", "***"),
]
OPENCODE = [
    ("x-session-id", "ses_"),
    ("x-session-affinity", "ses_"),
    ("User-Agent", "opencode/1.18.33 ai-sdk/provider-utils/4.0.0 runtime/bun/1.3.14"),
    ("anthropic-beta", "fine-grained-tool-streaming-2025-05-14"),
]
ANTHROPIC_ANSWER = [
    ("Date", "Mon, 01 Jan 2026 00:00:00 GMT"),
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "keep-alive"),
    ("Cache-Control", "no-cache"),
    *(
        (f"anthropic-ratelimit-{what}-{field}", "4000")
        for what, field in product(
            ("requests", "tokens", "input-tokens", "output-tokens"), ("limit", "remaining", "reset")
        )
    ),
    *(
        (f"anthropic-ratelimit-unified-{window}-{field}", "")
        for window in ("5h", "7d")
        for field in ("status", "reset")
    ),
    ("request-id", "req_011C"),
    ("anthropic-organization-id", ""),
    ("via", "1.1 google"),
    ("cf-cache-status", "DYNAMIC"),
    ("Server", "cloudflare"),
    ("CF-RAY", ""),
]
OPENAI_ANSWER = [
    ("Date", "Mon, 01 Jan 2026 00:00:00 GMT"),
    ("Content-Type", "application/json"),
    ("openai-organization", ""),
    ("openai-processing-ms", "500"),
    ("openai-version", "2020-10-01"),
    *(
        (f"x-ratelimit-{field}-{what}", "6ms")
        for field, what in product(("limit", "remaining", "reset"), ("requests", "tokens"))
    ),
    ("x-request-id", "req_"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("X-Content-Type-Options", "nosniff"),
]
REQUESTS = [
    {
        "model": "claude-opus-5-5",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}]}
        ],
        "system": [{"type": "text", "text": "", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "Bash", "description": "", "input_schema": {"type": "object", "properties": {}}}],
        "metadata": {"user_id": '{"device_id":"","account_uuid":"","session_id":""}'},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "stream": True,
    },
    {
        "model": "gpt-5.5",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ""}]}],
        "tools": [{"type": "function", "name": "exec_command", "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "",
        "client_metadata": {},
    },
    {
        "model": "gpt-5.5",
        "messages": [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
        "tools": [{"type": "function", "function": {"name": "", "description": "", "parameters": {"type": "object"}}}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
]
TIMINGS = dict.fromkeys(
    ("head_received", "request_received", "attempt_started", "request_sent", "response_head", "first_body",
     "first_content", "done"), 1.5,
)  # fmt: skip


def samples() -> list[bytes]:
    made = []
    heads = (
        (CLAUDE, ANTHROPIC_ANSWER),
        (CODEX, OPENAI_ANSWER),
        (SDK, OPENAI_ANSWER),
        (CLAUDE + OPENCODE, ANTHROPIC_ANSWER),
    )
    for number, case in enumerate(GOLDEN):
        body = json.dumps(REQUESTS[number % 3], separators=(",", ":")).encode()
        asked, answered = heads[number % 4]
        pack = packs.Pack(
            head=[packs.NEW, len(asked)],
            head_new=asked,
            body=[packs.NEW, 1],
            body_new=[body],
            answer_head=[packs.NEW, len(answered)],
            answer_head_new=answered,
            response=body_of(case)[:8192],
            more={"timings": TIMINGS, "http": "1.1", "reason": "OK", "request_sha256": b"", "response_sha256": b""},
            texts=b'[["prompt",""],["answer",""],["thinking",""],["tool_call",""],["tool_result",""]]',
        )
        made.append(packs.encode(pack))
    return made


if __name__ == "__main__":
    TARGET.write_bytes(zstandard.train_dictionary(SIZE, samples(), dict_id=DICT_ID).as_bytes())
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes out of {len(samples())} samples")
