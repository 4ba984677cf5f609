"""What a line holds beside the bodies: facts where they are known, texts once."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from lunaroute.records import Closed, Limit, Split, State, Text, ToolCall, ToolResult, Usage
from lunaroute.stores import lines
from tests.stores.records import exchange

LONG = "total 4\nREADME.md\n\"quoted\" \\ \u00fc \U0001f319 \x1b[31m\n" * 20


def asked(**more: Any) -> Any:
    return json.loads(lines.request_line(2, exchange(1, **more)))


def answered(**more: Any) -> Any:
    return json.loads(lines.response_line(3, exchange(1, **more)))


FACTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("project", {"project": "/home/user"}, {"project": "/home/user"}),
    ("parent", {"parent_session_id": "above"}, {"parent_session_id": "above"}),
    ("limits", {"limits": [Limit(name="5h", used=0.25)]}, {"limits": [{"name": "5h", "used": 0.25}]}),
    ("split", {"split": Split(wait_ms=8.5)}, {"split": {"wait_ms": 8.5}}),
    ("cost", {"cost_usd": 0.0, "cost_kind": "api"}, {"cost_usd": 0.0, "cost_kind": "api"}),
    (
        "digests",
        {"request_sha256": "aa", "response_sha256": "bb"},
        {"request_sha256": "aa", "response_sha256": "bb"},
    ),
    ("altered", {"request_altered": True}, {"request_altered": True}),
    (
        "call",
        {"tool_calls": [ToolCall(id="t", name="Bash", arguments="{}", arguments_bytes=2)]},
        {"tool_calls": [{"id": "t", "name": "Bash", "arguments": "{}", "arguments_bytes": 2}]},
    ),
    (
        "result",
        {"tool_results": [ToolResult(id="t", text="short", success=False)]},
        {"tool_results": [{"id": "t", "text": "short", "success": False}]},
    ),
    ("text", {"texts": [Text(kind="answer", text="yes")]}, {"texts": [{"kind": "answer", "text": "yes"}]}),
]


@pytest.mark.parametrize(("given", "written"), [f[1:] for f in FACTS], ids=[f[0] for f in FACTS])
def test_facts(given: dict[str, Any], written: dict[str, Any]) -> None:
    line = answered(**given)
    assert {name: line[name] for name in written} == written
    assert not set(written) & set(answered()), "what is not known is not said"


def test_what_is_known_when_it_is_asked() -> None:
    line = asked(project="/p", parent_session_id="above", title="Why?")
    assert (line["project"], line["parent_session_id"], line["signal"]) == ("/p", "above", "thread-id")
    assert json.loads(lines.session_line(1, exchange(1, project="/p")))["project"] == "/p"


def body_with(text: str) -> bytes:
    return json.dumps({"messages": [{"content": "before"}, {"content": text}]}, ensure_ascii=False).encode()


def test_a_text_that_stands_in_a_body_is_not_written_twice() -> None:
    body = body_with(LONG)
    line = lines.response_line(
        3,
        exchange(
            1,
            request_body=body,
            tool_results=[ToolResult(id="t", text=LONG, result_bytes=9)],
            texts=[Text(kind="tool_result", text=LONG), Text(kind="answer", text=LONG)],
        ),
    )
    told = json.loads(line)
    start, length = told["tool_results"][0]["request_at"]
    assert json.loads(b'"' + body[start : start + length] + b'"') == LONG
    assert told["tool_results"] == [{"id": "t", "result_bytes": 9, "request_at": [start, length]}]
    assert told["texts"] == [
        {"kind": "tool_result", "request_at": [start, length]},
        {"kind": "answer", "text": LONG},  # streamed: it stands nowhere in one piece
    ]


def test_a_text_in_the_answers_body() -> None:
    told = answered(response_body=body_with(LONG), texts=[Text(kind="answer", text=LONG)])
    assert list(told["texts"][0]) == ["kind", "response_at"]


def test_a_servers_tool_has_its_result_in_the_answer() -> None:
    call = ToolCall(id="s", name="web_search", kind="server", result=ToolResult(id="s", text=LONG, success=True))
    (told,) = answered(response_body=body_with(LONG), tool_calls=[call])["tool_calls"]
    assert (told["id"], told["name"], told["kind"]) == ("s", "web_search", "server")
    assert list(told["result"]) == ["id", "success", "response_at"]


def test_a_calls_arguments_are_there_once() -> None:
    calls = [ToolCall(id=i, name="Bash", arguments=a) for i, a in (("a", "{1}"), ("b", "{2}"), ("c", "{1}"))]
    texts = [Text(kind="tool_call", text="{2}"), Text(kind="tool_call", text="{1}"), Text(kind="tool_call", text="?")]
    assert answered(tool_calls=calls, texts=texts)["texts"] == [
        {"kind": "tool_call", "call": "b"},
        {"kind": "tool_call", "call": "a"},
        {"kind": "tool_call", "text": "?"},
    ]


def test_so_many_texts_are_looked_for_and_no_more() -> None:
    """The first request of a resumed conversation has hundreds of texts that are new to us."""
    texts = [f"{number} {'x' * 300}" for number in range(100)]
    body = json.dumps(texts).encode()
    told = answered(request_body=body, texts=[Text(kind="prompt", text=text) for text in texts])["texts"]
    assert sum("request_at" in each for each in told) == 64


UNSOUND: list[tuple[str, dict[str, Any], str, Any]] = [
    ("surrogate", {"title": "a\ud800b"}, "title", "a\ufffdb"),
    ("in a list", {"tool_calls": [ToolCall(id="\udfff", name="n")]}, "tool_calls", [{"id": "\ufffd", "name": "n"}]),
    ("in a text", {"texts": [Text(kind="x", text="\ud800" * 300)]}, "texts", [{"kind": "x", "text": "\ufffd" * 300}]),
    ("nul", {"title": "a\0b"}, "title", "a\0b"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "name", "written"), [u[1:] for u in UNSOUND], ids=[u[0] for u in UNSOUND])
def test_what_json_cannot_say(given: dict[str, Any], name: str, written: Any) -> None:
    assert answered(**given)[name] == written


def test_jq_reads_every_line() -> None:
    given = exchange(
        1,
        usage=Usage(input_tokens=7),
        tool_calls=[ToolCall(id="t", name="Bash", arguments='{"command":"ls"}')],
        texts=[Text(kind="answer", text="\u2028 \x00 \U0001f319")],
        limits=[Limit(name="tokens", remaining=1.5)],
    )
    closed = Closed(id="x", session_id="sess-1", state=State.TIMEOUT)
    written = [lines.session_line(1, given), lines.request_line(2, given), lines.response_line(3, given)]
    written.append(lines.closed_line(4, closed))
    asking = "[.v, .seq, .type, (.tool_calls // [])[].name]"
    shown = subprocess.run(
        [shutil.which("jq") or "jq", "-c", asking], input=b"".join(written), capture_output=True, check=True
    )
    assert shown.stdout.decode().split() == [
        '[1,1,"session"]', '[1,2,"request"]', '[1,3,"response","Bash"]', '[1,4,"response"]'
    ]  # fmt: skip
