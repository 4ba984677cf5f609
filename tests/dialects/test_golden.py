"""The golden answers: whole, byte by byte, at every cut, with bytes changed, and with little room."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute import dialects
from lunaroute.dialects import Facts
from lunaroute.dialects.canonical import conversation
from tests.dialects.corpus import GOLDEN, Case, body_of, expected, name_of, read

each_case = pytest.mark.parametrize("case", GOLDEN, ids=name_of)
SHORT = 4000
MUTATIONS = st.lists(st.tuples(st.integers(0), st.binary(max_size=6)), max_size=4)


@each_case
class TestGolden:
    def test_whole(self, case: Case) -> None:
        assert read(case["dialect"], body_of(case)) == expected(case)

    def test_byte_by_byte(self, case: Case) -> None:
        body = body_of(case)
        assert read(case["dialect"], *(body[i : i + 1] for i in range(len(body)))) == expected(case)

    def test_every_split(self, case: Case) -> None:
        body = body_of(case)
        want = expected(case)
        step = 1 if len(body) <= SHORT else 17
        for cut in range(0, len(body), step):
            assert read(case["dialect"], body[:cut], body[cut:]) == want, cut

    def test_cut_anywhere(self, case: Case) -> None:
        """Of a stream that ends early no cost of nothing is told, and nothing that the whole does not tell."""
        body = body_of(case)
        whole = expected(case)
        for cut in range(0, len(body), 1 if len(body) <= SHORT else 17):
            facts = read(case["dialect"], body[:cut])
            usage = facts.usage
            assert not (usage.partial and usage.output_tokens == 0)
            assert not (usage.partial and facts.done)
            if whole.stream:
                ids = [(call.id, call.name) for call in facts.tool_calls]
                assert ids == [(call.id, call.name) for call in whole.tool_calls][: len(ids)]

    def test_conversation_agrees(self, case: Case) -> None:
        """What people are shown is what was found: one reading for both."""
        found = conversation(case["dialect"], b"", body_of(case))
        whole = expected(case)
        assert found.error == whole.error
        blocks = found.answer.blocks if found.answer else []
        shown = [block.arguments for block in blocks if block.kind == "tool_call"]
        told = [call.arguments for call in whole.tool_calls]
        # a call that was cut is shown, but is no call yet
        assert shown[: len(told)] == told
        assert len(shown) == len(told) or not whole.done

    def test_little_room(self, case: Case) -> None:
        """Over the limit texts are cut; everything else is told as ever."""
        facts, whole = read(case["dialect"], body_of(case), text_limit=5), expected(case)
        assert sum(len(call.arguments) for call in facts.tool_calls) <= 5
        assert [call.arguments_bytes for call in facts.tool_calls] == [c.arguments_bytes for c in whole.tool_calls]
        for name in ("model", "response_id", "stop_reason", "error", "error_kind", "usage", "done", "content"):
            assert getattr(facts, name) == getattr(whole, name), name


@settings(max_examples=300, deadline=None)
@given(case=st.sampled_from(GOLDEN), changes=MUTATIONS, cuts=st.lists(st.integers(0), max_size=8))
def test_changed_bytes(case: Case, changes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    """Whatever stands in the bytes: nothing raises, and the cuts make no difference."""
    body = bytearray(body_of(case))
    for place, put in changes:
        at = place % (len(body) + 1)
        body[at : at + len(put)] = put
    raw = bytes(body)
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    pieces = [raw[start:end] for start, end in pairwise(places)]
    assert read(case["dialect"], *pieces) == read(case["dialect"], raw)
    conversation(case["dialect"], raw, raw)


@settings(max_examples=200, deadline=None)
@given(case=st.sampled_from([c for c in GOLDEN if "document" not in c]), data=st.data())
def test_events_in_any_order(case: Case, data: st.DataObject) -> None:
    """Events that are missing, doubled or out of order: nothing raises, and all texts can be stored."""
    events = data.draw(st.lists(st.sampled_from(case["events"]), max_size=12))
    facts = read(case["dialect"], body_of({**case, "events": events}))
    for text in facts.texts:
        text.text.encode()


LONG = 'words of an answer, with "usage": {"input_tokens": 1} and \'stop_reason\' in them. ' * 3000
LARGE: list[tuple[str, dict[str, Any], Facts]] = [
    (
        "anthropic",
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-opus-5-5",
            "content": [{"type": "text", "text": LONG}, {"type": "tool_use", "input": {"usage": {"a": 1}}}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 4},
        },
        Facts(model="claude-opus-5-5", response_id="msg_1", stop_reason="end_turn"),
    ),
    (
        "chat",
        {
            "id": "c1",
            "object": "chat.completion",
            "model": "gpt-5.5",
            "choices": [{"index": 0, "message": {"content": LONG}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
            "system_fingerprint": "f",
        },
        Facts(model="gpt-5.5", response_id="c1", stop_reason="stop"),
    ),
    (
        "responses",
        {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "gpt-5.5",
            "output": [{"type": "message", "role": "assistant", "content": [{"text": LONG}]}],
            "tools": [],
            "usage": {"input_tokens": 3, "output_tokens": 4},
            "metadata": {},
        },
        Facts(model="gpt-5.5", response_id="resp_1", stop_reason="completed"),
    ),
]


class TestLargeDocuments:
    """Of a document over the limit its beginning and its end are kept: enough for all that is counted."""

    @pytest.mark.parametrize("limit", [1, 100, 5000, 100_000, 249_000])
    @pytest.mark.parametrize(("dialect", "document", "want"), LARGE, ids=[case[0] for case in LARGE])
    def test_found(self, dialect: str, document: dict[str, Any], want: Facts, limit: int) -> None:
        body = json.dumps(document).encode()
        for size in (len(body), 4096):
            reader = dialects.reader(dialect, limit)
            for place in range(0, len(body), size):
                reader.feed(body[place : place + size])
            facts = reader.finish()
            assert (facts.usage.input_tokens, facts.usage.output_tokens) == (3, 4)
            assert facts.done and not facts.usage.partial
            if limit > 1:
                assert (facts.model, facts.response_id) == (want.model, want.response_id)
            if limit > 1 or dialect != "responses":
                assert facts.stop_reason == want.stop_reason

    def test_no_end(self) -> None:
        reader = dialects.reader("anthropic", 50)
        reader.feed(b'{"model":"m","content":[' + b'{"usage":{"input_tokens":9}},' * 20_000)
        assert reader.finish().usage.input_tokens is None

    def test_a_number_that_was_cut(self) -> None:
        reader = dialects.reader("anthropic", 30)
        reader.feed(b'{"model":"m","content":[],"usage":{"input_tokens":12345}}'.ljust(200_000) + b"x")
        assert reader.finish().usage.input_tokens is None


def test_room_is_bounded_by_memory_too() -> None:
    """A stream of very many small pieces: what is kept is bounded, the count goes on."""
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ab"}}
    reader = dialects.reader("anthropic", text_limit=3001)
    reader.feed(body_of({"events": [("message_start", start)]}))
    reader.feed(body_of({"events": [("content_block_delta", delta)]}) * 20_000)
    (text,) = reader.finish().texts
    assert len(text.text) == 3001


ENDLESS: list[tuple[str, str, Callable[[int], Any]]] = [
    ("anthropic-blocks", "anthropic", lambda n: block_start(n, {"type": "text", "text": "x" * 2000})),
    (
        "anthropic-calls",
        "anthropic",
        lambda n: block_start(n, {"type": "tool_use", "id": f"t{n}", "input": {"a": "x" * 2000}}),
    ),
    (
        "anthropic-whole",
        "anthropic",
        lambda n: block_start(0, {"type": "tool_use", "id": f"t{n}", "input": {"a": "x" * 2000}}),
    ),
    ("chat-choices", "chat", lambda n: {"choices": [{"index": n, "delta": {"content": "x" * 2000}}]}),
    (
        "chat-calls",
        "chat",
        lambda n: {
            "choices": [
                {
                    "delta": {
                        "tool_calls": [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "x" * 2000}}]
                    }
                }
            ]
        },
    ),
    (
        "responses-added",
        "responses",
        lambda n: {
            "type": "response.output_item.added",
            "output_index": n,
            "item": {"type": "function_call", "arguments": "x" * 2000},
        },
    ),
    (
        "responses-done",
        "responses",
        lambda n: {
            "type": "response.output_item.done",
            "output_index": n,
            "item": {"type": "function_call", "call_id": f"c{n}", "arguments": "x" * 2000},
        },
    ),
    (
        "responses-deltas",
        "responses",
        lambda n: {"type": "response.output_text.delta", "output_index": n, "delta": "x" * 2000},
    ),
]


def block_start(index: int, block: Any) -> Any:
    return {"type": "content_block_start", "index": index, "content_block": block}


@pytest.mark.parametrize(("dialect", "event"), [case[1:] for case in ENDLESS], ids=[case[0] for case in ENDLESS])
def test_endless_parts_cost_bounded_memory(dialect: str, event: Callable[[int], Any]) -> None:
    """20,000 parts of 2 kB, none of which ends: no more is kept than the limit and a little per part."""
    reader = dialects.reader(dialect, text_limit=100_000)
    reader.feed(body_of({"events": [(None, event(0))]}))
    tracemalloc.start()
    for number in range(1, 20_000):
        reader.feed(body_of({"events": [(None, event(number))]}))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 24_000_000
    facts = reader.finish()
    assert len(facts.tool_calls) <= 4096
    assert sum(len(text.text) for text in facts.texts) <= 300_000
