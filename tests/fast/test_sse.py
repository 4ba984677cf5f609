"""The compiled reader of events against a plain one, and its reading of deltas against the json module."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute._fast.sse import Events

Found = list[tuple[str, bytes, str]]


# --- the oracle -------------------------------------------------------------------------------------
def plain(raw: bytes, limit: int = 1 << 24) -> Found:
    """The standard's algorithm, line by line, over the whole."""
    text = raw.removeprefix(b"\xef\xbb\xbf") if raw.startswith(b"\xef\xbb\xbf") else raw
    text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = text.split(b"\n")
    found: Found = []
    event, ident = "message", ""
    values: list[bytes] = []
    size = 0
    for line in [*(lines if lines[-1] else lines[:-1]), b""]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if values and size <= limit + 1:
                found.append((event, b"\n".join(values), ident))
            values, size, event = [], 0, "message"
        elif name == b"event":
            event = value.decode("utf-8", "replace") or "message"
        elif name == b"data":
            size += len(value) + 1
            if size <= limit:
                values.append(value)
            elif not values:
                values.append(b"")
        elif name == b"id" and b"\0" not in value:
            ident = value.decode("utf-8", "replace")
    return found


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(ends)]


def read(events: Events, pieces: list[bytes], *, together: bool) -> list[Any]:
    found = events.feed(pieces) if together else [each for piece in pieces for each in events.feed((piece,))]
    return [*found, *events.finish()]


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"data: a", b"data:b", b"data", b":c", b"event: e", b"event", b"id: 7", b"id: \0", b""]),
        st.sampled_from([b"dat", b"retry: 5", b"data:  two", b"event: \xff", b"data: \xe2\x82\xac"]),
        st.just(b"\xef\xbb\xbfdata: c"),
        st.binary(max_size=12),
    )
)


@settings(max_examples=500)
@given(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.lists(st.integers(0, 500)), st.booleans(), st.booleans())
def test_as_the_standard_says(lines: list[bytes], end: bytes, places: list[int], bom: bool, together: bool) -> None:
    raw = b"\xef\xbb\xbf" * bom + end.join(lines) + end
    found = read(Events(), cut(raw, places), together=together)
    assert [each[:3] for each in found] == plain(raw)


LONG_LINES = st.lists(st.sampled_from([b"data: abc", b"data: defghijkl", b"data:", b"", b"event: e"]))


@given(LONG_LINES, st.lists(st.integers(0)))
def test_limit(lines: list[bytes], places: list[int]) -> None:
    raw = b"\n".join(lines) + b"\n"
    found = read(Events(10), cut(raw, places), together=False)
    assert [each[:3] for each in found] == plain(raw, 10)


def test_numbers_tell_the_piece_that_ended_an_event() -> None:
    events = Events()
    assert events.feed([b"data: a\n\nda", b"ta: b", b"\n\ndata: c\n\n"]) == [
        ("message", b"a", "", 0),
        ("message", b"b", "", 2),
        ("message", b"c", "", 2),
    ]
    assert events.feed([b"", b"data: d\n\n"]) == [("message", b"d", "", 4)]


# --- deltas -----------------------------------------------------------------------------------------
DELTA = '{"type":"content_block_delta","index":%s,"delta":{"type":"%s","%s":%s}}'
FIELDS = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}


def framed(data: str | bytes, name: str = "content_block_delta") -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data if isinstance(data, bytes) else data.encode())


def delta(text: str, index: int = 0, kind: str = "text_delta", *, ascii: bool = False) -> bytes:
    return framed(DELTA % (index, kind, FIELDS[kind], json.dumps(text, ensure_ascii=ascii)))


def joined(found: list[Any]) -> list[tuple[int, str, str]]:
    """(index, kind, text) of all deltas, those that were left as events too; neighbours in one."""
    out: list[tuple[int, str, str]] = []
    for each in found:
        if isinstance(each[0], str):
            value = json.loads(each[1])
            kind = value["delta"]["type"]
            each = (value["index"], kind, value["delta"][FIELDS[kind]])  # noqa: PLW2901
        if out and out[-1][:2] == each[:2]:
            out[-1] = (*each[:2], out[-1][2] + each[2])
        else:
            out.append(each[:3])
    return out


# json.dumps can write half a surrogate pair as an escape only
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('"\\/\n\t\0\x7f\u20ac\U0001f600')))
DELTAS = st.lists(st.tuples(TEXTS, st.integers(0, 3), st.sampled_from(list(FIELDS)), st.booleans()), max_size=8)


@settings(max_examples=500)
@given(DELTAS, st.lists(st.integers(0, 2000)), st.booleans())
def test_texts(deltas: list[tuple[str, int, str, bool]], places: list[int], together: bool) -> None:
    raw = b"".join(delta(text, index, kind, ascii=ascii) for text, index, kind, ascii in deltas)
    found = read(Events(deltas=True), cut(raw, places), together=together)
    wanted = joined([(index, kind, text) for text, index, kind, _ in deltas])
    assert joined(found) == wanted
    if together and all(text.isascii() for text, *_ in deltas):
        assert all(isinstance(each[0], int) for each in found), "none of them needed json"
        assert len(found) == len(wanted), "one tuple for those of one block"


def test_numbers_tell_the_first_piece() -> None:
    pieces = [b": x\n\n", delta("a"), delta("b"), delta("c", 1), framed('{"type":"ping"}', "ping"), delta("d", 1)]
    assert Events(deltas=True).feed(pieces) == [
        (0, "text_delta", "ab", 1),
        (1, "text_delta", "c", 3),
        ("ping", b'{"type":"ping"}', "", 4),
        (1, "text_delta", "d", 5),
    ]


def test_without_the_wish_they_are_events() -> None:
    assert [each[0] for each in Events().feed([delta("a")])] == ["content_block_delta"]


OTHERWISE = {
    "blanks between tokens": '{"type": "content_block_delta", "index": 0, '
    '"delta": {"type": "text_delta", "text": "a"}}',
    "another order": '{"index":0,"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}',
    "another field": DELTA[:-2] % (0, "text_delta", "text", '"a"') + ',"x":1}}',
    "a field behind": DELTA[:-1] % (0, "text_delta", "text", '"a"') + ',"x":1}',
    "another type": DELTA % (0, "signature_delta", "signature", '"a"'),
    "the wrong field": DELTA % (0, "text_delta", "thinking", '"a"'),
    "no text": DELTA % (0, "text_delta", "text", "null"),
    "no index": DELTA % ("", "text_delta", "text", '"a"'),
    "a negative index": DELTA % ("-1", "text_delta", "text", '"a"'),
    "a fraction": DELTA % ("0.5", "text_delta", "text", '"a"'),
    "a zero before": DELTA % ("01", "text_delta", "text", '"a"'),
    "a long index": DELTA % ("1" * 12, "text_delta", "text", '"a"'),
    "half a pair": DELTA % (0, "text_delta", "text", '"\\ud83d"'),
    "a pair in escapes": DELTA % (0, "text_delta", "text", '"\\ud83d\\ude00"'),
    "a control character": DELTA % (0, "text_delta", "text", '"\x01"'),
    "a tab": DELTA % (0, "text_delta", "text", '"\t"'),
    "an escape that is none": DELTA % (0, "text_delta", "text", '"\\x"'),
    "digits that are none": DELTA % (0, "text_delta", "text", '"\\u12g4"'),
    "digits that end": DELTA[:-2] % (0, "text_delta", "text", '"\\u12'),
    "no end": DELTA[:-2] % (0, "text_delta", "text", '"a'),
    "an escape at the end": DELTA[:-2] % (0, "text_delta", "text", '"a\\'),
    "one brace": DELTA[:-1] % (0, "text_delta", "text", '"a"'),
    "three braces": DELTA % (0, "text_delta", "text", '"a"') + "}",
    "cut": '{"type":"content_block_delta","ind',
    "two lines": DELTA % (0, "text_delta", "text", '"a",\ndata: "x":1'),
}


@pytest.mark.parametrize("data", OTHERWISE.values(), ids=OTHERWISE)
def test_what_looks_otherwise_is_an_event(data: str) -> None:
    """And what is around it is read as ever."""
    found = Events(deltas=True).feed([delta("before"), framed(data), delta("after")])
    assert [each[:3] for each in found] == [
        (0, "text_delta", "before"),
        ("content_block_delta", data.replace("\ndata: ", "\n").encode(), ""),
        (0, "text_delta", "after"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf"),
        *(b"\xf4\x90\x80\x80", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3"),
    ],
    ids=lambda bad: bad.hex(),
)
def test_no_utf_8(bad: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        bad.decode()
    raw = (DELTA % (0, "text_delta", "text", '"a@b"')).encode().replace(b"@", bad)
    assert [each[0] for each in Events(deltas=True).feed([framed(raw)])] == ["content_block_delta"]


def test_padding_of_the_vendor() -> None:
    data = DELTA[:-1] % (0, "text_delta", "text", '"a"') + "      }  "
    assert Events(deltas=True).feed([framed(data)]) == [(0, "text_delta", "a", 0)]


def test_over_the_limit() -> None:
    events = Events(200, deltas=True)
    assert events.feed([delta("a"), delta("x" * 300), delta("b")]) == [(0, "text_delta", "ab", 0)]
    assert events.dropped == 1
