"""Where bodies are cut: against a plain reading by the json module, for any bytes, for what clients do with history.

The oracle is slow and simple; it knows JSON only. What is no JSON must only be cut into pieces that are all of it.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute._fast.cuts import Cuts, cut, mark, runs

LONG = 512
_BLANK = " \t\r\n"


# --- the oracle -------------------------------------------------------------------------------------
def elements(body: bytes) -> list[tuple[str, int, int]]:
    """(key, start, end) of each top-level value that is no array, and of each item of those that are."""
    text = body.decode("latin-1")  # an offset in the text is one in the bytes
    reader = json.JSONDecoder()
    found = []

    def blanks(at: int) -> int:
        while text[at] in _BLANK:
            at += 1
        return at

    at = blanks(blanks(0) + 1)
    while text[at] != "}":
        at = blanks(at + 1) if text[at] == "," else at
        _, behind = json.decoder.scanstring(text, at + 1)
        key = body[at + 1 : behind - 1].decode("utf-8", "replace")
        at = blanks(blanks(behind) + 1)
        if text[at] == "[":
            at = blanks(at + 1)
            while text[at] != "]":
                at = blanks(at + 1) if text[at] == "," else at
                start, at = at, reader.raw_decode(text, at)[1]
                found.append((key, start, at))
                at = blanks(at)
            at += 1
        else:
            start, at = at, reader.raw_decode(text, at)[1]
            found.append((key, start, at))
        at = blanks(at)
    return found


def pieces(body: bytes, cuts: Cuts) -> list[bytes]:
    return [body[start:end] for start, end in zip([0, *cuts.ends], cuts.ends, strict=False)]


def checked(body: bytes, long: int = LONG) -> Cuts:
    """The cuts, after what holds for any bytes."""
    cuts = cut(body, long)
    parts = pieces(body, cuts)
    assert b"".join(parts) == body
    assert all(parts), "no piece is empty"
    assert cuts.marks == [mark(part) for part in parts]
    starts = [0, *cuts.ends]
    before = 0
    for _, start, end, first, behind in cuts.elements:
        assert before <= start < end <= len(body)
        assert first <= behind <= len(parts)
        if behind > first:
            assert starts[first] <= start and starts[behind] == end, "an element's pieces are all of it"
        before = end
    return cuts


# --- any JSON ---------------------------------------------------------------------------------------
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40)
)
words = st.text(max_size=8) | st.sampled_from([*'"\\[},:é', '\\"', "\U0001f600", "\x00", "\ud800"])
values = st.recursive(
    scalars | st.builds(lambda char, count: char * count, words, st.integers(0, 60)),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=5),
    max_leaves=25,
)
bodies = st.dictionaries(words, values, max_size=6)
layouts: list[dict[str, Any]] = [
    {"separators": (",", ":")},
    {"indent": 2},
    {"indent": "\t", "separators": (" ,\r\n", " : ")},
    {"separators": (",", ":"), "ensure_ascii": False},
]


@given(bodies, st.sampled_from(layouts), st.sampled_from([1, 7, LONG]), st.sampled_from([b"", b"\n", b" \r\n\t"]))
def test_elements_are_those_of_the_oracle(value: Any, layout: dict[str, Any], long: int, around: bytes) -> None:
    body = around + json.dumps(value, **layout).encode("utf-8", "surrogatepass") + around
    cuts = checked(body, long)
    assert not cuts.whole
    assert [(key, start, end) for key, start, end, _, _ in cuts.elements] == elements(body)


@given(st.lists(values, max_size=8), st.sampled_from(layouts))
def test_each_item_of_an_array_has_pieces_of_its_own(items: list[Any], layout: dict[str, Any]) -> None:
    cuts = checked(said({"a": items}, layout))
    assert len(cuts.elements) == len(items)
    assert all(behind > first for _, _, _, first, behind in cuts.elements)


@given(st.binary(max_size=300) | st.text(alphabet='{}[]",:\\ a0', max_size=120).map(str.encode))
def test_any_bytes(body: bytes) -> None:
    checked(body)
    checked(body, 1)


@given(bodies, st.data())
def test_cut_short_or_changed(value: Any, draw: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    checked(bytes(body[: draw.draw(st.integers(0, len(body)))]), 3)
    for _ in range(draw.draw(st.integers(1, 4))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.sampled_from(b'"\\{}[],: \x00\xff0'))
    checked(bytes(body), 3)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_marks_are_equal_where_bytes_are(one: bytes, other: bytes) -> None:
    assert (mark(one) == mark(other)) == (one == other)
    assert mark(bytes(bytearray(one))) == mark(one)


# --- what is no JSON, or nasty ----------------------------------------------------------------------
NO_OBJECT: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \t\r\n",
    "array": b"[1,2]",
    "text": b'"hello"',
    "number": b"1",
    "bom": b'\xef\xbb\xbf{"a":1}',
    "form": b"a=1&b=2",
    "binary": bytes(range(256)),
    "NULs": b"\0" * 64,
    "brace": b"{",
    "two braces": b"{{",
    "no quotes": b"{a:1}",
    "quote alone": b'{"',
    "escaped to the end": b'{"a\\',
    "escaped quote to the end": b'{"a":"b\\"',
    "key alone": b'{"a"',
    "key and colon": b'{"a":',
    "no colon": b'{"a" 1}',
    "two colons": b'{"a"::1}',
    "no value": b'{"a":}',
    "comma for a value": b'{"a":,}',
    "bracket for a value": b'{"a":]}',
    "no end": b'{"a":1',
    "no end of an array": b'{"a":[1,2',
    "no end of an item": b'{"a":[{"b":1',
    "no end of a text": b'{"a":"bcd',
    "NUL in an array": b'{"a":[\0]}',
    "NUL behind a comma": b'{"a":[1,\0',
    "comma at the end": b'{"a":1,}',
    "comma at the end of an array": b'{"a":[1,]}',
    "comma first": b"{,}",
    "two commas": b'{"a":[1,,2]}',
    "colon in an array": b'{"a":[1:2]}',
    "brace closes an array": b'{"a":[}}',
}  # fmt: skip
NASTY: dict[str, bytes] = {
    "empty": b"{}",
    "empty with blanks": b" { \n } ",
    "garbage behind": b'{"a":1} and more',
    "another object behind": b'{"a":1}{"b":2}',
    "empty array": b'{"a":[]}',
    "blanks in an empty array": b'{"a":[ \n ]}',
    "empty key": b'{"":[1]}',
    "same key": b'{"a":[1],"a":[2]}',
    "no comma between items": b'{"a":[1 2"3"{}[]]}',
    "no comma between keys": b'{"a":1"b":2}',
    "brackets that do not fit": b'{"a":[{"b":1]]}',
    "unknown words": b'{"a":nonsense,"b":+1e,"c":NaN}',
    "control characters in a text": b'{"a":"\x00\x01\n"}',
    "wrong utf-8": b'{"\xff\xfe":["\xc0\x80\xed\xa0\x80"]}',
    "half an escape": b'{"a":"\\u12","b":"\\ud800"}',
    "escapes": b'{"\\"":["\\\\","\\\\\\"","\\""]}',
    "a backslash over each edge of a block": b"".join((b'{"a":["', b"x" * 9, b"\\\\" * 40, b'\\"', b'"]}')),
}


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT)
def test_what_is_no_object_is_one_piece(body: bytes) -> None:
    cuts = checked(body)
    assert cuts.whole
    assert (len(cuts.ends), cuts.elements) == (1 if body else 0, [])


@pytest.mark.parametrize("body", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("long", [1, LONG])
def test_nasty(body: bytes, long: int) -> None:
    checked(body, long)


@pytest.mark.parametrize("length", range(66))
@pytest.mark.parametrize("end", [b'"', b'\\"', b"\\", b"\\\\"], ids=["quote", "escaped quote", "backslash", "two"])
def test_texts_of_each_length_end_where_they_end(length: int, end: bytes) -> None:
    """The scan reads sixteen bytes at a time: each place of a quote or a backslash in them, also the last one."""
    text = b"x" * length
    for body in (b'{"a":"' + text + end, b'{"a":"' + text + end + b'"}', b'{"a":"' + text + end + b'x","b":[2]}'):
        cuts = checked(body, 1)
        try:
            json.loads(body)
        except ValueError:
            assert cuts.whole or end != b"\\\\"
        else:
            assert [each[:3] for each in cuts.elements] == elements(body)


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"a":' + b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b"[" * DEEP,
        b'{"a":[' + b'{"b":[' * DEEP + b"]}" * DEEP + b"]}",
        b'{"a":[' + b"]" * DEEP,
        b'{"a":"' + b'\\"' * DEEP,
        b'{"a":' + b" " * DEEP,
    ],
    ids=["arrays", "open arrays", "open objects", "objects", "only brackets", "mixed", "closing", "escapes", "blanks"],
)
def test_depth_costs_nothing(body: bytes) -> None:
    began = time.process_time()
    checked(body)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("item", [b"1,", b'{},"":', b"[],"], ids=["numbers", "objects", "arrays"])
def test_a_body_of_nothing_but_elements_has_a_bound(item: bytes) -> None:
    """16 MB of `1,1,1,...` would be millions of marks: what is behind the first 50,000 is one piece."""
    body = b'{"a":[' + item * 1_000_000 + b"1]}"
    cuts = checked(body)
    assert len(cuts.elements) <= 50_000 and len(cuts.ends) <= 50_003
    assert checked(body[:-2] + b",2]}").marks[:-1] == cuts.marks[:-1]


def test_keys_alone_have_the_same_bound() -> None:
    body = b"{" + b'"a":1,' * 200_000 + b'"b":[2]}'
    assert len(checked(body).elements) == 50_000


# --- what clients do --------------------------------------------------------------------------------
def said(value: Any, layout: dict[str, Any] = layouts[0]) -> bytes:
    return json.dumps(value, **layout).encode("utf-8", "surrogatepass")


@given(st.lists(values, min_size=1, max_size=8), st.integers(0, 8), st.sampled_from(layouts), bodies, bodies)
def test_an_array_that_grew_has_its_old_pieces_before_its_new(
    items: list[Any], kept: int, layout: dict[str, Any], front: Any, back: Any
) -> None:
    front = {f"f{key}": value for key, value in front.items()}
    back = {f"b{key}": value for key, value in back.items()}
    small = said({**front, "messages": items[:kept], **back}, layout)
    large = said({**front, "messages": items, **back}, layout)
    if not items[:kept]:
        return
    few, many = cut(small, 16), cut(large, 16)
    # all pieces up to the end of the last old item, whatever stands behind the array
    count = max(behind for key, _, _, _, behind in few.elements if key == "messages")
    assert many.marks[:count] == few.marks[:count]
    # and of what is behind the array, all but the first (which has the closing bracket before it)
    tail = few.marks[count:]
    assert many.marks[len(many.marks) - len(tail) :] == tail


TEXT = "All of what was said here is long enough to be a piece. " * 12
BLOCK = {"type": "text", "text": TEXT}
MARKED = {**BLOCK, "cache_control": {"type": "ephemeral"}}
FORMS: dict[str, tuple[Any, Any]] = {
    "a cache mark goes": ([MARKED], [BLOCK]),
    "a cache mark comes": ([BLOCK], [MARKED]),
    "a list of one text becomes a text": ([BLOCK], TEXT),
    "a text becomes a list of one text": (TEXT, [MARKED]),
    "fields in another order": ([{"type": "text", "text": TEXT}], [{"text": TEXT, "type": "text"}]),
    "another text beside it": ([BLOCK], [BLOCK, {"type": "text", "text": "short"}]),
}


@pytest.mark.parametrize(("before", "after"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("layout", layouts, ids=["compact", "indented", "odd", "unicode"])
def test_a_message_written_anew_keeps_its_long_text(before: Any, after: Any, layout: dict[str, Any]) -> None:
    long = mark(json.dumps(TEXT)[1:-1].encode())
    for content in (before, after):
        body = said({"messages": [{"role": "user", "content": content}]}, layout)
        assert long in checked(body).marks


@pytest.mark.parametrize("length", [LONG - 1, LONG], ids=["short", "long"])
def test_from_where_on_a_text_is_long(length: int) -> None:
    body = said({"messages": [{"content": "x" * length}]})
    assert (b"x" * length in pieces(body, checked(body))) == (length >= LONG)


def test_a_top_level_text_is_all_in_its_pieces() -> None:
    """What is known of an element by its marks must be all of it (observe/news.py)."""
    one, other = (said({"prompt": {"text": TEXT, "variables": name}, "n": 1}) for name in ("a", "b"))
    own = [set(c.marks[c.elements[0][3] : c.elements[0][4]]) for c in (cut(one), cut(other))]
    assert own[0] != own[1]


# --- runs -------------------------------------------------------------------------------------------
def places(base: list[int], seed: int | None = None) -> dict[int, int]:
    found = {each: place for place, each in enumerate(base)}
    if seed is not None:  # any place of a mark will do
        chosen = random.Random(seed)
        found = {each: chosen.choice([p for p, other in enumerate(base) if other == each]) for each in found}
    return found


def rebuilt(recipe: list[int], marks: list[int], base: list[int]) -> list[int]:
    out: list[int] = []
    for start, count in zip(recipe[::2], recipe[1::2], strict=True):
        assert count > 0
        out += marks[len(out) : len(out) + count] if start == -1 else base[start : start + count]
    return out


small = st.integers(-4, 4)


@given(st.lists(small, max_size=40), st.lists(small, max_size=40), st.integers(0, 5))
@settings(max_examples=300)
def test_runs_give_back_any_sequence(marks: list[int], base: list[int], seed: int) -> None:
    for found in (places(base), places(base, seed)):
        recipe = runs(marks, base, found)
        assert rebuilt(recipe, marks, base) == marks
        new = [each for place, each in zip(*expanded(recipe, marks), strict=True) if place == -1]
        assert not set(new) & set(base), "nothing that the base has is new"


def expanded(recipe: list[int], marks: list[int]) -> tuple[list[int], list[int]]:
    starts = [start for start, count in zip(recipe[::2], recipe[1::2], strict=True) for _ in range(count)]
    return starts, marks


def test_runs_with_places_that_are_none() -> None:
    assert runs([1, 2], [3], {1: 0, 2: 7}) == [-1, 1, -1, 1]
    assert runs([], [1], {1: 0}) == []
    assert runs([1], [], {}) == [-1, 1]


def test_a_history_that_grew_is_one_run() -> None:
    base = list(range(1000))
    assert runs([*base, 5000, 5001], base, places(base)) == [0, 1000, -1, 2]
