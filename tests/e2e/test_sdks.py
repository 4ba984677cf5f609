"""The official Python SDKs complete a tool loop through LunaRoute (tests/e2e/loop.py says what is compared).

The program that uses them is this file itself: each function takes the base URL and gives back all that its answers
held.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import trustme
from openai.types.responses import Response

from tests.answers import FINAL, RAN, Assistant
from tests.conftest import Serve
from tests.e2e.loop import Case, nothing, proved, same_target
from tests.e2e.programs import Ran
from tests.e2e.same import Fresh, both_sides
from tests.fakes import Tap, Upstream

Json = dict[str, Any]
SCHEMA: Json = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
ASK: Json = {"role": "user", "content": "say hi, ünïcode and 🌙 included"}


# --- anthropic -----------------------------------------------------------------------------------------------------
def messages(url: str, answered: Callable[[anthropic.Anthropic, Json], anthropic.types.Message]) -> list[Json]:
    tools = [{"name": "bash", "description": "run", "input_schema": SCHEMA}]
    with anthropic.Anthropic(api_key="sk-ant-dummy-sdk-0000", base_url=url, max_retries=0) as client:
        asked: Json = {"model": "claude-sonnet-5", "max_tokens": 1000, "tools": tools, "messages": [ASK]}
        first = answered(client, asked)
        (call,) = [block for block in first.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": RAN}
        reply = {"role": "assistant", "content": [block.to_dict() for block in first.content]}
        second = answered(client, asked | {"messages": [ASK, reply, {"role": "user", "content": [result]}]})
        return [first.to_dict(), second.to_dict()]


def whole_message(client: anthropic.Anthropic, asked: Json) -> anthropic.types.Message:
    return client.messages.create(**asked)


def streamed_message(client: anthropic.Anthropic, asked: Json) -> anthropic.types.Message:
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


# --- openai: chat completions --------------------------------------------------------------------------------------
def chat(url: str, *, stream: bool, usage: bool = True) -> list[Json]:
    tools = [{"type": "function", "function": {"name": "bash", "description": "run", "parameters": SCHEMA}}]
    asked: Json = {"model": "gpt-5.5", "tools": tools, "messages": [ASK]}
    if stream:
        asked |= {"stream": True} | ({"stream_options": {"include_usage": True}} if usage else {})
    with openai.OpenAI(api_key="sk-dummy-sdk-0000", base_url=f"{url}/v1", max_retries=0) as client:
        found = []
        for _turn in range(2):
            answer = client.chat.completions.create(**asked)
            chunks = [c.to_dict() for c in answer] if stream else [answer.to_dict()]
            found += chunks
            call = next((c for c in map(called, chunks) if c), None)
            if call:
                result = {"role": "tool", "tool_call_id": call["id"], "content": RAN}
                asked["messages"] = [ASK, {"role": "assistant", "tool_calls": [filled(call, chunks)]}, result]
        return found


def called(chunk: Json) -> Json | None:
    for choice in chunk["choices"]:
        for call in (choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []:
            if call.get("id"):
                return dict(call)
    return None


def filled(call: Json, chunks: list[Json]) -> Json:
    """The call with its arguments, from all its pieces."""
    pieces = [
        piece["function"]["arguments"]
        for chunk in chunks
        for choice in chunk["choices"]
        for piece in (choice.get("delta") or choice.get("message") or {}).get("tool_calls") or []
    ]
    return {"id": call["id"], "type": "function", "function": {"name": "bash", "arguments": "".join(pieces)}}


# --- openai: responses ---------------------------------------------------------------------------------------------
RESPONSES_TOOLS = [{"type": "function", "name": "bash", "description": "run", "parameters": SCHEMA, "strict": False}]


def responses(url: str, *, stream: bool) -> list[Json]:
    with openai.OpenAI(api_key="sk-dummy-sdk-0000", base_url=f"{url}/v1", max_retries=0) as client:
        given: list[Json] = [ASK]
        found = []
        for _turn in range(2):
            asked: Json = {"model": "gpt-5.5", "input": given, "tools": RESPONSES_TOOLS}
            if stream:
                events = list(client.responses.create(**asked, stream=True))
                found += [e.to_dict() for e in events]
                answer: Response = events[-1].response
            else:
                answer = client.responses.create(**asked)
            found.append(answer.to_dict())
            given = [*given, *after(answer)]
        return found


def after(answer: Response) -> list[Json]:
    """What the next turn adds: the calls, each with its result."""
    calls = [item.to_dict() for item in answer.output if item.type == "function_call"]
    results = [{"type": "function_call_output", "call_id": c["call_id"], "output": RAN} for c in calls]
    return [*calls, *results]


def connected(url: str) -> list[Json]:
    """responses.connect(): both turns over one WebSocket, the second with what is new only."""
    with openai.OpenAI(api_key="sk-dummy-sdk-0000", base_url=f"{url}/v1", max_retries=0) as client:
        found: list[Json] = []
        with client.responses.connect(max_retries=0) as connection:
            given: list[Json] = [ASK]
            more: Json = {}
            for _turn in range(2):
                connection.response.create(model="gpt-5.5", input=given, tools=RESPONSES_TOOLS, **more)
                for event in connection:
                    found.append(event.to_dict())
                    if event.type == "response.completed":
                        given, more = after(event.response)[1:], {"previous_response_id": event.response.id}
                        break
        return found


def ran(found: list[Json]) -> Ran:
    return Ran(code=0, out=json.dumps(found, ensure_ascii=False), err="")


def said(result: Ran) -> Any:
    assert FINAL in result.out or FINAL[: len(FINAL) // 2] in result.out
    return json.loads(result.out)


WEBSOCKET = Fresh(headers=frozenset(["sec-websocket-key"]), shuffled=True)
ANTHROPIC: Json = {"said": said, "fresh": Fresh(), "client": "anthropic-python", "version": anthropic.__version__}
OPENAI: Json = {"said": said, "fresh": Fresh(), "client": "openai-python", "version": openai.__version__}
GZIP: Json = {"script": lambda: Assistant(compress=True)}
CASES = [
    Case(id="messages", run=lambda h, u: ran(messages(u, whole_message)), dialect="anthropic", **ANTHROPIC, **GZIP),
    Case(id="messages-stream", run=lambda h, u: ran(messages(u, streamed_message)), dialect="anthropic", **ANTHROPIC),
    Case(id="chat", run=lambda h, u: ran(chat(u, stream=False)), dialect="chat", **OPENAI),
    Case(id="chat-stream", run=lambda h, u: ran(chat(u, stream=True)), dialect="chat", **OPENAI, **GZIP),
    Case(id="chat-untold", run=lambda h, u: ran(chat(u, stream=True, usage=False)), dialect="chat", **OPENAI),
    Case(id="responses", run=lambda h, u: ran(responses(u, stream=False)), dialect="responses", **OPENAI, **GZIP),
    Case(id="responses-stream", run=lambda h, u: ran(responses(u, stream=True)), dialect="responses", **OPENAI),
    Case(
        id="responses-websocket", run=lambda h, u: ran(connected(u)), dialect="responses", transport="websocket",
        **(OPENAI | {"fresh": WEBSOCKET}),
    ),
]  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:connect.. must be used as a context manager:DeprecationWarning"
)  # of the SDK itself
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_tool_loop_through_the_proxy_is_the_direct_one_and_recorded(case: Case, tmp_path: Path, serve: Serve) -> None:
    proved(case, tmp_path, serve)


def test_an_upstream_behind_tls_sees_the_same_bytes(tmp_path: Path, serve: Serve) -> None:
    authority = trustme.CA()
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    assistant = Assistant()
    with Upstream(assistant, context) as upstream:
        luna = serve(upstream, {"providers": {"anthropic": {"ca_file": str(trusted)}}})
        with Tap(luna.port) as tap:
            found = messages(tap.url, streamed_message)
            both_sides(tap, upstream, same_target, nothing)
        distrusted = serve(upstream)
        with pytest.raises(anthropic.APIStatusError) as refused:
            messages(distrusted.url, whole_message)
        assert (luna.stop(), distrusted.stop()) == (0, 0)
    assert said(ran(found))
    assert refused.value.status_code == 502
    assert [r["state"] for r in luna.exchanges()] == ["ok", "ok"]
    (row,) = distrusted.exchanges()
    assert row["state"] == "upstream_error"
    assert "certificate" in row["error"]
    assert len(assistant.told) == 2, "no request went over a connection that is not trusted"
