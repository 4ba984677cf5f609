"""Single elements of requests: as messages, as texts to search, as tool results with how they did."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute import dialects
from lunaroute.dialects.canonical import conversation
from lunaroute.dialects.prompt import message_of, results_of, texts_of
from lunaroute.records import Text, ToolResult

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    (
        "anthropic",
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "system", "content": [{"type": "text", "text": "env"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "text", "text": "ok"},
                        {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "a\nb"}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "done"}]},
            ]
        },
    ),
    (
        "chat",
        {
            "messages": [
                {"role": "developer", "content": "rules"},
                {"role": "user", "content": [{"type": "text", "text": "see"}]},
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "sh", "arguments": "{"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "done"},
            ]
        },
    ),
    (
        "responses",
        {
            "input": [
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
                {"role": "user", "content": "go"},
                {"type": "reasoning", "summary": [{"text": "plan"}]},
                {"type": "function_call_output", "call_id": "c", "output": "ok"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "said"}]},
            ]
        },
    ),
]


@pytest.mark.parametrize(("dialect", "request_"), REQUESTS, ids=[case[0] for case in REQUESTS])
def test_elements_are_the_conversation(dialect: str, request_: dict[str, Any]) -> None:
    """One implementation: element by element gives what the whole gives."""
    ((key, elements),) = request_.items()
    whole = conversation(dialect, json.dumps(request_).encode(), b"")
    assert [message_of(dialect, key, element) for element in elements] == whole.messages


NONE: list[tuple[str, str, Any]] = [
    ("anthropic", "tools", [{"name": "Bash"}]),
    ("anthropic", "system", ""),
    ("anthropic", "system", []),
    ("anthropic", "messages", "x"),
    ("anthropic", "input", {"role": "user", "content": "x"}),
    ("chat", "system", "x"),
    ("responses", "messages", {"role": "user", "content": "x"}),
    ("responses", "input", {"type": "additional_tools", "tools": []}),
    ("responses", "input", 7),
    ("responses", "instructions", ""),
    ("other", "messages", {"role": "user", "content": "x"}),
]


@pytest.mark.parametrize(("dialect", "key", "value"), NONE)
def test_no_message(dialect: str, key: str, value: Any) -> None:
    assert message_of(dialect, key, value) is None


BLOCK = {"type": "text", "text": "You are"}
TEXTS: list[tuple[str, str, str, Any, list[Text]]] = [
    ("system-string", "anthropic", "system", "You are", [Text(kind="prompt", text="You are")]),
    ("system-list", "anthropic", "system", [BLOCK, BLOCK], [Text(kind="prompt", text="You are")] * 2),
    ("system-block", "anthropic", "system", BLOCK, [Text(kind="prompt", text="You are")]),
    ("instructions", "responses", "instructions", "be good", [Text(kind="prompt", text="be good")]),
    ("input-string", "responses", "input", "go", [Text(kind="prompt", text="go")]),
    ("old-prompt", "chat", "prompt", "go", [Text(kind="prompt", text="go")]),
    (
        "assistant",
        "anthropic",
        "messages",
        REQUESTS[0][1]["messages"][2],
        [
            Text(kind="thinking", text="hm"),
            Text(kind="answer", text="ok"),
            Text(kind="tool_call", text="Bash\ncommand: a\nb"),
        ],
    ),
    (
        "result-and-words",
        "anthropic",
        "messages",
        {"role": "user", "content": [{"type": "tool_result", "content": "done"}, {"type": "text", "text": "and"}]},
        [Text(kind="tool_result", text="done"), Text(kind="prompt", text="and")],
    ),
    (
        "image",
        "chat",
        "messages",
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
        [],
    ),
    ("broken-arguments", "chat", "messages", REQUESTS[1][1]["messages"][2], [Text(kind="tool_call", text="sh\n{")]),
]


@pytest.mark.parametrize(("dialect", "key", "value", "want"), [c[1:] for c in TEXTS], ids=[c[0] for c in TEXTS])
def test_texts(dialect: str, key: str, value: Any, want: list[Text]) -> None:
    message = message_of(dialect, key, value)
    assert message is not None
    assert texts_of(message) == want


def claude(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content, **more}]}


def codex(output: Any, kind: str = "function_call_output", **more: Any) -> dict[str, Any]:
    return {"type": kind, "call_id": "c", "output": output, **more}


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "input_text", "text": text} for text in texts]


def shown(code: int) -> str:
    return (
        f"Chunk ID: ab\nWall time: 0.1 seconds\nProcess exited with code {code}\nOriginal token count: 5\nOutput:\nx\n"
    )


# what the words of a result say is no sign: it may be a file that is read
LIAR = "Process exited with code 1"
SUCCESS: list[tuple[str, str, dict[str, Any], bool | None]] = [
    ("claude-failed", "anthropic", claude("Exit code 1\nno", is_error=True), False),
    ("claude-succeeded", "anthropic", claude("ok", is_error=False), True),
    ("claude-says-nothing", "anthropic", claude("Error: this is a file"), None),
    ("claude-odd-flag", "anthropic", claude("ok", is_error="yes"), None),
    (
        "server-search",
        "anthropic",
        {"content": [{"type": "web_search_tool_result", "tool_use_id": "s", "content": []}]},
        True,
    ),
    (
        "server-search-failed",
        "anthropic",
        {
            "content": [
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s",
                    "content": {"type": "web_search_tool_result_error"},
                }
            ]
        },
        False,
    ),
    (
        "server-code",
        "anthropic",
        {
            "content": [
                {
                    "type": "code_execution_tool_result",
                    "tool_use_id": "s",
                    "content": {"type": "code_execution_result", "return_code": 0},
                }
            ]
        },
        True,
    ),
    ("chat-says-nothing", "chat", {"role": "tool", "tool_call_id": "c", "content": "error"}, None),
    ("codex-0", "responses", codex(shown(0)), True),
    ("codex-1", "responses", codex(shown(1)), False),
    ("codex-signal", "responses", codex(shown(-1)), False),
    (
        "codex-still-runs",
        "responses",
        codex("Wall time: 10 seconds\nProcess running with session ID 7\nOutput:\n" + LIAR),
        None,
    ),
    (
        "codex-output-lies",
        "responses",
        codex("Wall time: 1 seconds\nProcess exited with code 0\nOutput:\n" + LIAR),
        True,
    ),
    ("codex-no-frame", "responses", codex("some words\n" + LIAR), None),
    ("codex-older", "responses", codex("Exit code: 2\nWall time: 1 seconds\nOutput:\n"), False),
    ("codex-older-0", "responses", codex("Exit code: 0\nWall time: 1 seconds\nOutput:\nExit code: 1"), True),
    ("codex-json", "responses", codex('{"output":"x","metadata":{"exit_code":0,"duration_seconds":0.1}}'), True),
    ("codex-json-1", "responses", codex('{"output":"x","metadata":{"exit_code":1}}'), False),
    ("codex-json-of-the-tool", "responses", codex('{"exit_code":1}'), None),
    (
        "codex-custom",
        "responses",
        codex("Exit code: 0\nWall time: 0 seconds\nOutput:\nSuccess", "custom_tool_call_output"),
        True,
    ),
    ("codex-parts", "responses", codex(parts(shown(1))), False),
    (
        "codex-script-failed",
        "responses",
        codex(parts("Script failed\nWall time 0 seconds\nOutput:\n", "x"), "custom_tool_call_output"),
        False,
    ),
    (
        "codex-script-completed",
        "responses",
        codex(parts("Script completed\nWall time 0 seconds\nOutput:\n", "x"), "custom_tool_call_output"),
        None,
    ),
    (
        "codex-script-code",
        "responses",
        codex(
            parts("Script completed\nWall time 0 seconds\nOutput:\n", '{"exit_code":1,"output":"x"}'),
            "custom_tool_call_output",
        ),
        False,
    ),
    (
        "local-shell",
        "responses",
        {"type": "local_shell_call_output", "id": "c", "output": '{"output":"x","metadata":{"exit_code":0}}'},
        True,
    ),
    (
        "shell-outcomes",
        "responses",
        codex([{"stdout": "", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}] * 2, "shell_call_output"),
        True,
    ),
    (
        "shell-one-failed",
        "responses",
        codex(
            [{"outcome": {"type": "exit", "exit_code": 0}}, {"outcome": {"type": "exit", "exit_code": 3}}],
            "shell_call_output",
            status="completed",
        ),
        False,
    ),
    ("shell-timeout", "responses", codex([{"outcome": {"type": "timeout"}}], "shell_call_output"), False),
    ("patch-completed", "responses", codex("", "apply_patch_call_output", status="completed"), True),
    ("patch-failed", "responses", codex("", "apply_patch_call_output", status="failed"), False),
    ("incomplete", "responses", codex("x", status="incomplete"), False),
    ("mcp-flag", "responses", codex('{"content":[{"type":"text","text":"no"}],"isError":true}'), False),
    ("mcp-flag-ok", "responses", codex('{"content":[],"isError":false}'), True),
    ("opencode-says-nothing", "responses", codex("anything"), None),
]


@pytest.mark.parametrize(("dialect", "element", "want"), [c[1:] for c in SUCCESS], ids=[c[0] for c in SUCCESS])
def test_success(dialect: str, element: dict[str, Any], want: bool | None) -> None:
    (result,) = results_of(dialect, element)
    assert result.success is want
    assert result.id in ("t", "s", "c")


SIZES: list[tuple[str, str, dict[str, Any], ToolResult]] = [
    ("string", "anthropic", claude("dönë"), ToolResult(id="t", text="dönë", result_bytes=6)),
    # how Claude Code writes the same result in a later turn
    (
        "list",
        "anthropic",
        claude([{"type": "text", "text": "dönë", "cache_control": {}}]),
        ToolResult(id="t", text="dönë", result_bytes=6),
    ),
    (
        "image",
        "anthropic",
        claude([{"type": "image", "source": {"data": "AAAA"}}]),
        ToolResult(id="t", text="[image]", result_bytes=41),
    ),
    ("nothing", "anthropic", claude(None), ToolResult(id="t")),
    (
        "chat",
        "chat",
        {"role": "tool", "tool_call_id": "c", "content": "x" * 99},
        ToolResult(id="c", text="x" * 50, result_bytes=99),
    ),
    (
        "legacy-chat",
        "chat",
        {"role": "function", "name": "f", "content": "x"},
        ToolResult(id="", text="x", result_bytes=1),
    ),
    ("responses", "responses", codex(parts("a", "b")), ToolResult(id="c", text="a\nb", result_bytes=2)),
]


@pytest.mark.parametrize(("dialect", "element", "want"), [c[1:] for c in SIZES], ids=[c[0] for c in SIZES])
def test_results(dialect: str, element: dict[str, Any], want: ToolResult) -> None:
    assert results_of(dialect, element, limit=50) == [want]


def test_several_results_in_one_message() -> None:
    block = claude("x")["content"][0]
    found = results_of(
        "anthropic", {"role": "user", "content": [block, {"type": "text"}, {**block, "tool_use_id": "u"}]}
    )
    assert [result.id for result in found] == ["t", "u"]


@pytest.mark.parametrize(
    ("dialect", "element"),
    [
        ("anthropic", {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]}),
        ("chat", {"role": "user", "content": "x"}),
        ("responses", {"type": "function_call", "call_id": "c"}),
        ("other", codex("x")),
        ("anthropic", "x"),
    ],
)
def test_no_results(dialect: str, element: Any) -> None:
    assert results_of(dialect, element) == []


_KEYS = st.sampled_from(
    ["type", "role", "content", "text", "output", "status", "call_id", "tool_use_id", "is_error", "outcome", "error"]
)
_WORDS = st.sampled_from(
    ["tool", "tool_result", "function_call_output", "shell_call_output", "mcp_call", "user", "assistant", "message"]
)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | _WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5),
        max_leaves=20,
    )
)
def test_hostile(value: Any) -> None:
    for dialect in dialects.NAMES:
        results_of(dialect, value)
        for key in ("messages", "input", "system", "instructions", "prompt", "tools"):
            message = message_of(dialect, key, value)
            for text in texts_of(message) if message else ():
                text.text.encode()
