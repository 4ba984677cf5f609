"""Requests of the three dialects as conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lunaroute import dialects
from lunaroute.dialects.canonical import Block, Conversation, Message, conversation

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBOR"}


def asked(dialect: str, **body: Any) -> Conversation:
    return conversation(dialect, json.dumps(body).encode(), b"")


def test_anthropic() -> None:
    found = asked(
        "anthropic",
        system=[{"type": "text", "text": "You are"}, {"type": "text", "text": "kind"}],
        tools=[{"name": "Bash"}, {"type": "web_search", "name": "web_search"}, {"x": 1}],
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "system", "content": [{"type": "text", "text": "env"}], "output_config": {}},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"c": "ls"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "is_error": True,
                        "content": [{"type": "text", "text": "no"}],
                    }
                ],
            },
            {"role": "user", "content": [{"type": "image", "source": PNG}, {"type": "new_kind", "x": 1}]},
        ],
    )
    assert found.system == [Block("text", "You are"), Block("text", "kind")]
    assert found.tools == ["Bash", "web_search"]
    assert found.messages == [
        Message("user", [Block("text", "hi")]),
        Message("system", [Block("text", "env")]),
        Message(
            "assistant",
            [
                Block("thinking", "hm"),
                Block("thinking", name="redacted"),
                Block("tool_call", name="Bash", call_id="t1", arguments='{"c":"ls"}'),
            ],
        ),
        Message("tool", [Block("tool_result", "no", call_id="t1", is_error=True)]),
        Message(
            "user",
            [Block("image", media_type="image/png"), Block("other", '{"type":"new_kind","x":1}', name="new_kind")],
        ),
    ]


def test_chat() -> None:
    found = asked(
        "chat",
        tools=[{"type": "function", "function": {"name": "sh"}}, {"type": "custom", "custom": {"name": "patch"}}],
        functions=[{"name": "old"}],
        messages=[
            {"role": "developer", "content": "rules"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "function": {"name": "sh", "arguments": "{"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
    )
    assert found.tools == ["sh", "patch", "old"]
    assert found.messages == [
        Message("system", [Block("text", "rules")]),
        Message("user", [Block("text", "see"), Block("image", media_type="image/png")]),
        Message("assistant", [Block("tool_call", name="sh", call_id="c", arguments="{")]),
        Message("tool", [Block("tool_result", "done", call_id="c")]),
    ]


def test_responses() -> None:
    found = asked(
        "responses",
        instructions="be good",
        tools=[{"type": "function", "name": "sh"}, {"type": "web_search"}],
        input=[
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [{"type": "namespace", "tools": [{"name": "exec"}]}],
            },
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "rules"}]},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "go"},
                    {"type": "input_image", "image_url": "https://x/y.png"},
                ],
            },
            {"type": "reasoning", "summary": [{"text": "plan"}], "encrypted_content": "zz"},
            {"type": "function_call", "call_id": "c", "name": "sh", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "ok"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "o"}]},
            {"type": "compaction_trigger"},
        ],
    )
    assert found.system == [Block("text", "be good")]
    assert found.tools == ["sh", "web_search", "exec"]
    assert found.messages == [
        Message("system", [Block("text", "rules")]),
        Message("user", [Block("text", "go"), Block("image", "https://x/y.png")]),
        Message("assistant", [Block("thinking", "plan"), Block("tool_call", name="sh", call_id="c", arguments="{}")]),
        Message("tool", [Block("tool_result", "ok", call_id="c"), Block("tool_result", "o", call_id="d")]),
        Message("user", [Block("other", '{"type":"compaction_trigger"}', name="compaction_trigger")]),
    ]


def test_responses_input_as_string() -> None:
    assert asked("responses", input="hello").messages == [Message("user", [Block("text", "hello")])]


def test_other_dialect_shows_errors_only() -> None:
    assert conversation("other", b"{}", b'{"error":{"type":"x","message":"y"}}') == Conversation(error="x: y")


def test_image_data_is_not_repeated() -> None:
    found = asked(
        "chat",
        messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/gif;base64," + "A" * 99}]}
        ],
    )
    assert "AAA" not in repr(found)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/proxy/x/v1/messages", "anthropic"),
        ("/v1/messages/batches/b1", "anthropic"),
        ("/v1/chat/completions", "chat"),
        ("/chat/completions", "chat"),
        ("/v1/completions", "chat"),
        ("/v1/responses", "responses"),
        ("/backend-api/codex/responses", "responses"),
        ("/v1/responses/resp_1", "responses"),
        ("/v1/threads/t/messages", "other"),
        ("/v1/models", "other"),
        ("/", "other"),
        ("", "other"),
        ("/v1/messagesx", "other"),
    ],
)
def test_of_path(path: str, dialect: str) -> None:
    assert dialects.of_path(path) == dialect
