"""The input rebuilt over previous_response_id: what the model saw, from bodies of both transports."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.canonical import conversation
from lunaroute.dialects.chain import MAX_CHAIN, chain_of, whole_body, whole_input

Item = dict[str, Any]
Pair = tuple[bytes, bytes]


def said(text: str) -> Item:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def words(text: str) -> Item:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


CALL = {"type": "function_call", "call_id": "c1", "name": "sh", "arguments": "{}"}
DONE = {"type": "function_call_output", "call_id": "c1", "output": "a b"}
REASON = {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"}
SUMMARY = {"type": "compaction", "encrypted_content": "y"}


def ask(*given: Item, after: str | None = None, **more: Any) -> bytes:
    return json.dumps({"model": "m", "previous_response_id": after, "input": list(given), **more}).encode()


def document(*output: Item, **more: Any) -> bytes:
    return json.dumps({"id": "r", "object": "response", "output": list(output), **more}).encode()


def stream(*output: Item, final: tuple[Item, ...] | None = None, end: str | None = "response.completed") -> bytes:
    events: list[Item] = [{"type": "response.created", "response": {"id": "r", "output": []}}]
    for place, item in reversed(list(enumerate(output))):  # their ends may come in any order
        events.append({"type": "response.output_item.added", "output_index": place, "item": {"type": item["type"]}})
        events.append({"type": "response.output_item.done", "output_index": place, "item": item})
    if end:
        events.append({"type": end, "response": {"id": "r", "output": list(output if final is None else final)}})
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


A, B, C = said("one"), said("two"), said("three")
NEXT: Pair = (ask(B, after="r"), b"")
THIRD: Pair = (ask(C, after="r"), b"")
TOOL: Pair = (ask(DONE, after="r"), b"")
X, Y = words("first"), words("second")
CASES: list[tuple[str, list[Pair], list[Item], bool]] = [
    ("none", [], [], True),
    ("alone", [(ask(A), document(X))], [A], True),
    ("document", [(ask(A), document(X)), NEXT], [A, X, B], True),
    ("stream", [(ask(A), stream(REASON, X, CALL)), TOOL], [A, REASON, X, CALL, DONE], True),
    ("final-without-output", [(ask(A), stream(X, CALL, final=())), TOOL], [A, X, CALL, DONE], True),
    ("incomplete", [(ask(A), stream(X, end="response.incomplete")), NEXT], [A, X, B], True),
    ("cut", [(ask(A), stream(X, end=None)), NEXT], [A, X, B], True),
    ("no-event-lines", [(ask(A), stream(X).replace(b"event: ", b": ")), NEXT], [A, X, B], True),
    ("background", [(ask(A), document(X, background=True)), NEXT], [A, X, B], True),
    (
        "prewarm",
        [(ask(A, generate=False), stream()), (ask(B, after="r0"), stream(X)), (ask(C, after="r1"), stream(Y))],
        [A, B, X, C],
        True,
    ),
    ("text", [(ask(input="one"), document(X)), (ask(input="two", after="r"), b"")], [A, X, B], True),
    ("whole-again", [(ask(A), document(X)), (ask(A, X, B), document(Y)), THIRD], [A, X, B, Y, C], True),
    (
        "compacted",
        [(ask(A), stream(X)), (ask(B, after="r"), stream(SUMMARY, Y)), THIRD],
        [SUMMARY, Y, C],
        True,
    ),
    (
        "compacted-twice",
        [(ask(A), stream(SUMMARY, X, SUMMARY, Y)), THIRD],
        [SUMMARY, Y, C],
        True,
    ),
    ("compacted-by-the-client", [(ask(A, SUMMARY, B), stream(X)), THIRD], [A, SUMMARY, B, X, C], True),
    ("beginning-lost", [(ask(B, after="gone"), stream(X)), THIRD], [B, X, C], False),
    ("lost-but-compacted", [(ask(B, after="gone"), stream(SUMMARY)), THIRD], [SUMMARY, C], True),
    ("answer-unreadable", [(ask(A), b"<html>"), NEXT], [A, B], False),
    ("answer-empty", [(ask(A), b""), NEXT], [A, B], False),
    ("refused", [(ask(A), b'{"error":{"message":"no"}}'), NEXT], [A, B], False),
    ("request-unreadable", [(b'{"input":[', document(X)), NEXT], [B], False),
    ("odd-input", [(ask(input=5), document(X)), (ask(input={"a": 1}, after="r"), b"")], [X], True),
]  # fmt: skip


@pytest.mark.parametrize(("chain", "items", "complete"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_whole_input(chain: list[Pair], items: list[Item], complete: bool) -> None:
    assert whole_input(chain) == (items, complete)


def test_the_whole_body_reads_as_a_conversation() -> None:
    chain = [(ask(A), stream(REASON, X, CALL)), (ask(DONE, after="r", tools=[{"name": "sh"}]), stream(Y))]
    body = whole_body(chain)
    assert json.loads(body) == {"model": "m", "tools": [{"name": "sh"}], "input": [A, REASON, X, CALL, DONE]}
    talk = conversation("responses", body, chain[-1][1])
    assert [m.role for m in talk.messages] == ["user", "assistant", "tool"]
    assert (talk.answer and talk.answer.blocks[0].text, talk.tools) == ("second", ["sh"])


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", ask(A)], ids=["empty", "text", "list", "whole"])
def test_a_body_that_needs_nothing_stays_as_it_is(body: bytes) -> None:
    assert whole_body([(ask(B), document(X)), (body, b"")]) == body
    assert whole_body([]) == b""


def test_chain_of() -> None:
    above = {"d": "c", "c": "b", "b": "a"}
    assert chain_of("d", above.get) == ["a", "b", "c", "d"]
    assert chain_of("d", above.get, limit=2) == ["c", "d"]
    assert chain_of("d", {**above, "a": "d"}.get) == ["a", "b", "c", "d"]
    assert chain_of("x", {"x": "x"}.get) == ["x"]
    assert len(chain_of("0", lambda ident: str(int(ident) + 1))) == MAX_CHAIN


BODIES = st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=4)


@given(BODIES, st.integers(0, 400), st.integers(0, 255))
def test_never_raises(chain: list[Pair], place: int, value: int) -> None:
    good = bytearray(stream(X, CALL))
    good[place % len(good)] = value
    found = whole_input([*chain, (ask(A), bytes(good)), (ask(B, after="r"), b"")])
    assert found.items[-1] == B
    whole_body(chain)
