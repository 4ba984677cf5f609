"""Answers of all dialects against one table (corpus/answers/cases.json): whole, byte by byte, split."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute import dialects
from lunaroute.dialects import Facts
from lunaroute.dialects.canonical import conversation

CASES = json.loads((Path(__file__).parents[1] / "corpus" / "answers" / "cases.json").read_text())
_WORDS = """type message usage delta error content model id choices response output item input tools role text index
input_tokens output_tokens prompt_tokens tool_calls function arguments system messages name source"""
_KEYS = st.sampled_from(re.findall(r"\w+", _WORDS))
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def read(dialect: str, pieces: list[bytes]) -> Facts:
    reader = dialects.reader(dialect)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def expected(case: dict[str, Any]) -> Facts:
    return msgspec.convert(case["facts"], Facts)


@each_case
class TestFacts:
    def test_whole(self, case: dict[str, Any]) -> None:
        assert read(case["dialect"], [case["body"].encode()]) == expected(case)

    def test_byte_by_byte(self, case: dict[str, Any]) -> None:
        body = case["body"].encode()
        assert read(case["dialect"], [body[i : i + 1] for i in range(len(body))]) == expected(case)

    def test_every_split(self, case: dict[str, Any]) -> None:
        body = case["body"].encode()
        for cut in range(len(body)):
            assert read(case["dialect"], [body[:cut], body[cut:]]) == expected(case), cut

    def test_with_crlf_and_bom(self, case: dict[str, Any]) -> None:
        body = case["body"].replace("\n", "\r\n").encode()
        assert read(case["dialect"], [b"\xef\xbb\xbf" + body]) == expected(case)

    def test_finish_twice_is_the_same(self, case: dict[str, Any]) -> None:
        reader = dialects.reader(case["dialect"])
        reader.feed(case["body"].encode())
        first = reader.finish()
        assert reader.finish() is first
        assert first == expected(case)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["said"] is not None or c["error"]], ids=lambda case: case["name"]
)
def test_conversation(case: dict[str, Any]) -> None:
    found = conversation(case["dialect"], b"", case["body"].encode())
    assert found.error == case["error"]
    if case["said"] is not None:
        assert found.answer is not None and found.answer.role == "assistant"
        shown = [[b.kind, b.arguments if b.kind == "tool_call" else b.text] for b in found.answer.blocks]
        assert shown == case["said"]


@each_case
def test_prefixes_never_raise_and_never_say_zero(case: dict[str, Any]) -> None:
    """A stream may be cut anywhere: what is told then is never a cost of nothing."""
    body = case["body"].encode()
    for cut in range(0, len(body), 7):
        facts = read(case["dialect"], [body[:cut]])
        assert not (facts.usage.partial and facts.usage.output_tokens == 0)
        conversation(case["dialect"], body[:cut], body[:cut])


@pytest.mark.parametrize("dialect", dialects.NAMES)
class TestHostile:
    @given(body=st.binary(max_size=400))
    def test_any_bytes(self, dialect: str, body: bytes) -> None:
        assert read(dialect, [body]) == read(dialect, [body[i : i + 1] for i in range(len(body))])
        conversation(dialect, body, body)

    @given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
            max_leaves=25,
        )
    )
    def test_any_json(self, dialect: str, value: Any) -> None:
        plain = json.dumps(value).encode()
        stream = b"data: " + plain + b"\n\n"
        for body in (plain, stream):
            read(dialect, [body])
            conversation(dialect, body, body)

    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"content":' + b"[" * 3000 + b"]" * 3000 + b"}",
            b'{"usage":{"input_tokens":1e400,"output_tokens":-5}}',
            b'{"usage":{"input_tokens":' + b"9" * 5000 + b"}}",
            b'{"id":"\\ud800","model":"\\u0000","content":[{"type":"text","text":"\\udfff"}]}',
            b'{"model":"\xff\xfe"}',
            b"data: " + b"[" * 50_000 + b"\n\n",
        ],
        ids=["arrays", "objects", "deep-content", "odd-numbers", "huge-integer", "surrogates", "utf8", "deep-event"],
    )
    def test_poison(self, dialect: str, body: bytes) -> None:
        facts = read(dialect, [body])
        for word in (facts.model, facts.response_id):
            if word is not None:
                word.encode()  # no lone surrogates: stores take UTF-8
                assert "\0" not in word
        conversation(dialect, body, body)
