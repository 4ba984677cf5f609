"""The vendors' own clients read the golden answers as we do: text, tool calls, usage. A fake on loopback gives them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

from lunaroute.dialects import Facts
from tests.dialects.corpus import GOLDEN, Case, body_of, name_of, read

SDK = [case for case in GOLDEN if case.get("sdk")]


class _Canned(BaseHTTPRequestHandler):
    """Answers every POST with the server's `body`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body, kind = self.server.body, self.server.kind  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing to say."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    canned = ThreadingHTTPServer(("127.0.0.1", 0), _Canned)
    thread = threading.Thread(target=canned.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield canned
    canned.shutdown()
    thread.join()
    canned.server_close()


def address(server: ThreadingHTTPServer, case: Case) -> str:
    server.body = body_of(case)  # type: ignore[attr-defined]
    server.kind = "application/json" if "document" in case else "text/event-stream"  # type: ignore[attr-defined]
    return f"http://127.0.0.1:{server.server_address[1]}"


def seen(facts: Facts) -> dict[str, Any]:
    """What the clients can be asked for, as we found it."""
    usage = facts.usage
    return {
        "model": facts.model,
        "id": facts.response_id,
        "answer": "".join(text.text for text in facts.texts if text.kind == "answer"),
        "thinking": "".join(text.text for text in facts.texts if text.kind == "thinking"),
        "calls": [(call.id, call.name, _value(call.arguments)) for call in facts.tool_calls],
        "usage": (usage.input_tokens, usage.output_tokens, usage.thinking_tokens, usage.cache_read_tokens),
        "searches": usage.web_search_requests,
    }


def _value(arguments: Any) -> Any:
    """Arguments by what they mean: clients parse them, and write them anew."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


@pytest.mark.parametrize("case", [c for c in SDK if c["dialect"] == "anthropic"], ids=name_of)
def test_anthropic(case: Case, server: ThreadingHTTPServer) -> None:
    asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with anthropic.Anthropic(api_key="sk-dummy", base_url=address(server, case), max_retries=0) as client:
        if "document" in case:
            message: Any = client.beta.messages.create(**asked)
        else:
            with client.beta.messages.stream(**asked) as stream:
                message = stream.get_final_message()
    usage, served = message.usage, message.usage.server_tool_use
    details = usage.output_tokens_details
    assert seen(read("anthropic", body_of(case))) == {
        "model": message.model,
        "id": message.id,
        "answer": "".join(block.text for block in message.content if block.type == "text"),
        "thinking": "".join(block.thinking for block in message.content if block.type == "thinking"),
        "calls": [(b.id, b.name, b.input) for b in message.content if b.type.endswith("tool_use")],
        "usage": (
            usage.input_tokens,
            usage.output_tokens,
            details.thinking_tokens if details else None,
            usage.cache_read_input_tokens,
        ),
        "searches": served.web_search_requests if served else None,
    }


@pytest.mark.parametrize("case", [c for c in SDK if c["dialect"] == "chat"], ids=name_of)
def test_chat(case: Case, server: ThreadingHTTPServer) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    with openai.OpenAI(api_key="sk-dummy", base_url=address(server, case), max_retries=0) as client:
        if "document" in case:
            made: Any = client.chat.completions.create(**asked)
        else:
            with client.chat.completions.stream(**asked) as stream:
                made = stream.until_done().current_completion_snapshot
    usage = made.usage
    messages = [choice.message for choice in made.choices]
    assert seen(read("chat", body_of(case))) == {
        "model": made.model,
        "id": made.id,
        "answer": "".join((message.content or "") + (message.refusal or "") for message in messages),
        "thinking": "",
        "calls": [
            (call.id, call.function.name, _value(call.function.arguments))
            for message in messages
            for call in message.tool_calls or ()
        ],
        "usage": (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.completion_tokens_details.reasoning_tokens,
            usage.prompt_tokens_details.cached_tokens,
        )
        if usage
        else (None,) * 4,
        "searches": None,
    }


@pytest.mark.parametrize("case", [c for c in SDK if c["dialect"] == "responses"], ids=name_of)
def test_responses(case: Case, server: ThreadingHTTPServer) -> None:
    with openai.OpenAI(api_key="sk-dummy", base_url=address(server, case), max_retries=0) as client:
        final: Any = None
        with client.responses.stream(model="m", input="x") as stream:
            for event in stream:
                if event.type in ("response.completed", "response.incomplete", "response.failed"):
                    final = event.response
    usage, output = final.usage, final.output
    parts = [part for item in output if item.type == "message" for part in item.content]
    calls = [item for item in output if item.type.endswith("_call")]
    searches = [item for item in output if item.type == "web_search_call"]
    assert seen(read("responses", body_of(case))) == {
        "model": final.model,
        "id": final.id,
        "answer": "".join(part.refusal if part.type == "refusal" else part.text for part in parts),
        "thinking": "".join(part.text for item in output if item.type == "reasoning" for part in item.summary),
        "calls": [(_id(call), _name(call), _given(call)) for call in calls],
        "usage": (
            usage.input_tokens,
            usage.output_tokens,
            usage.output_tokens_details.reasoning_tokens,
            usage.input_tokens_details.cached_tokens,
        ),
        "searches": sum(item.status == "completed" and item.action.type == "search" for item in searches)
        if searches
        else None,
    }


def _id(call: Any) -> str:
    return getattr(call, "call_id", None) or call.id


def _name(call: Any) -> str:
    return getattr(call, "name", None) or call.type.removesuffix("_call")


def _given(call: Any) -> Any:
    told = call.to_dict()
    found = next((told[key] for key in ("arguments", "input", "action", "code", "queries") if key in told), "")
    return _value(found)


def test_enough_cases() -> None:
    for dialect in ("anthropic", "chat", "responses"):
        assert sum(case["dialect"] == dialect for case in SDK) >= 5
