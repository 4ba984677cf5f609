"""Texts in bodies: any JSON, any escapes, any stream and any cut, against a plain reading by the json module.

What is looked for here are words in angle brackets; whoever finds one puts [X] there. The oracle does the same with the
values before they are written down.
"""

from __future__ import annotations

import json
import random
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.texts import Edit
from lunaroute._fast.views import Known, apply, event_edits, json_edits
from tests.fast.test_texts import CHANCE, escaped

WORD = re.compile(rb"<[a-z\xc3\xa9@]+>")
PIECES = st.sampled_from(
    ["<secret>", "<\u00e9@>", "<x>", " and ", "\n", '"', "\\", "{", "}", "a\u00e9\U0001f600", "<", ">", "/", ""]
)
TEXT = st.lists(PIECES, max_size=6).map("".join)


def look(text: bytes, context: bytes) -> list[Edit]:
    text.decode()
    return [(m.start(), m.end(), b"[X]", (m[0],)) for m in WORD.finditer(text)]


def wanted(value: Any) -> Any:
    """What is left of a value."""
    if isinstance(value, str):
        return WORD.sub(b"[X]", value.encode()).decode()
    if isinstance(value, list):
        return [wanted(each) for each in value]
    if isinstance(value, dict):
        return {wanted(name): wanted(each) for name, each in value.items()}
    return value


def written(value: Any, chance: random.Random) -> str:
    """The value as JSON, with any escapes and blanks."""
    blank = chance.choice(["", "", " ", "\n", "\t "])
    if isinstance(value, str):
        return f'{blank}"{escaped(value, chance)}"{blank}'
    if isinstance(value, list):
        return f"{blank}[{','.join(written(each, chance) for each in value) or blank}]{blank}"
    if isinstance(value, dict):
        members = [f"{written(name, chance)}:{written(each, chance)}" for name, each in value.items()]
        return f"{blank}{{{','.join(members) or blank}}}{blank}"
    return f"{blank}{json.dumps(value)}{blank}"


VALUES = st.recursive(
    st.one_of(TEXT, st.integers(), st.floats(allow_nan=False), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(TEXT, st.sampled_from(["delta", "index", "choices", "text", "type"])), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@given(st.one_of(st.lists(VALUES, max_size=3), st.dictionaries(TEXT, VALUES, max_size=4)), CHANCE)
def test_any_json_is_still_json_and_only_what_was_found_is_gone(value: Any, chance: random.Random) -> None:
    body = written(value, chance).encode()
    edits = json_edits(body, look, Known(words=False))
    assert edits is not None
    redacted = apply(body, edits)
    read = json.loads(redacted)
    if not _clashes(value):
        assert read == wanted(value)
    assert not WORD.search(redacted)
    for start, end, _, found in edits:
        assert found and start < end


def _clashes(value: Any) -> bool:
    """Whether two names of an object become one: no dict can tell."""
    if isinstance(value, list):
        return any(map(_clashes, value))
    if isinstance(value, dict):
        return len(set(map(wanted, value))) < len(value) or any(map(_clashes, value.values()))
    return False


@given(st.lists(VALUES, min_size=1, max_size=3), CHANCE)
def test_a_body_that_was_cut_is_read_to_its_end(value: Any, chance: random.Random) -> None:
    body = written(value, chance).encode().strip()
    cut = body[: chance.randint(1, len(body))]
    edits = json_edits(cut, look_any, Known(words=False))
    assert edits is not None
    assert b"<" not in b"".join(re.findall(rb'"((?:[^"\\]|\\.)*)"?', apply(cut, edits), re.DOTALL))


def look_any(text: bytes, context: bytes) -> list[Edit]:
    """Where a cut may be anywhere, also in a character."""
    return [(m.start(), m.end(), b"[X]", ()) for m in re.finditer(rb"[<>]", text)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"hello",
        b"{a}",
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":1]',
        b"[1 2]",
        b"[1]x",
        b"{}}",
        b"[tru]",
        b"[\0]",
        b"{1:2}",
    ],
)
def test_what_is_no_json_is_said(body: bytes) -> None:
    assert json_edits(body, look, Known(words=False)) is None


def test_names_and_contexts() -> None:
    seen: list[tuple[bytes, bytes]] = []

    def note(text: bytes, context: bytes) -> list[Edit]:
        seen.append((text, context))
        return []

    body = b'{"a":"b","list":["c",{"d":"e"},1234567],"n":7654321,"\\u0041":"f","short":12345}'
    json_edits(body, note, Known(words=False))
    assert seen == [
        (b"a", b""), (b"b", b"a"), (b"list", b""), (b"c", b"list"), (b"d", b""), (b"e", b"d"), (b"1234567", b"list"),
        (b"n", b""), (b"7654321", b"n"), (b"A", b""), (b"f", b"A"), (b"short", b""),
    ]  # fmt: skip


def test_a_number_becomes_a_string() -> None:
    body = b'{"card": 4111111111111111 ,"list":[-4111111111111111]}'

    def digits(text: bytes, context: bytes) -> list[Edit]:
        return [(m.start(), m.end(), b"[C]", (1,)) for m in re.finditer(rb"\d{16}", text)]

    edits = json_edits(body, digits, Known(words=False))
    assert edits is not None
    assert json.loads(apply(body, edits)) == {"card": "[C]", "list": ["-[C]"]}


def test_what_had_nothing_in_it_is_not_looked_at_again() -> None:
    seen = []

    def note(text: bytes, context: bytes) -> list[Edit]:
        seen.append(text)
        return look(text, context)

    known = Known(words=False)
    body = b'{"a":"nothing here","b":"<x>"}'
    json_edits(body, note, known)
    seen.clear()
    json_edits(body, note, known)
    assert seen == [b"<x>"]
    seen.clear()
    json_edits(b'{"other":"nothing here"}', note, known)
    assert b"nothing here" in seen, "another name may tell what a text is"


# --- streams ------------------------------------------------------------------------------------------
def anthropic(index: int, piece: str) -> Any:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}


def arguments(index: int, piece: str) -> Any:
    return {"delta": {"partial_json": piece, "type": "input_json_delta"}, "type": "content_block_delta", "index": index}


def chat(index: int, piece: str) -> Any:
    return {"id": "chatcmpl-1", "choices": [{"delta": {"content": piece}, "index": index}], "model": "m"}


def called(index: int, piece: str) -> Any:
    call = {"index": index, "function": {"arguments": piece}}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def responses(index: int, piece: str) -> Any:
    return {
        "type": "response.output_text.delta",
        "output_index": index,
        "content_index": 0,
        "delta": piece,
        "item_id": "m",
    }


def completion(index: int, piece: str) -> Any:
    return {"object": "text_completion", "choices": [{"text": piece, "index": index, "finish_reason": None}]}


def by_item(index: int, piece: str) -> Any:
    return {"type": "unknown.delta", "item_id": f"i{index}", "delta": piece}


def texts_of(kind: Any, events: list[Any]) -> list[str]:
    """The texts that the events make, by their index."""
    found: dict[Any, list[str]] = {}

    def walk(value: Any, index: Any) -> None:
        if isinstance(value, dict):
            index = next((value[name] for name in ("index", "output_index", "item_id") if name in value), index)
            for name, each in value.items():
                if name in ("text", "partial_json", "content", "arguments") or (
                    name == "delta" and isinstance(each, str)
                ):
                    found.setdefault(index, []).append(each)
                else:
                    walk(each, index)
        elif isinstance(value, list):
            for each in value:
                walk(each, index)

    for event in events:
        walk(event, None)
    return ["".join(found[index]) for index in sorted(found, key=str)]


@pytest.mark.parametrize("kind", [anthropic, arguments, chat, called, responses, completion, by_item])
@given(texts=st.lists(TEXT, min_size=1, max_size=3), chance=CHANCE)
def test_texts_that_come_in_pieces_side_by_side(kind: Any, texts: list[str], chance: random.Random) -> None:
    left = list(texts)
    events = []
    while any(left):
        index = chance.choice([place for place, text in enumerate(left) if text])
        size = chance.randint(1, len(left[index]))
        events.append(kind(index, left[index][:size]))
        left[index] = left[index][size:]
    end = chance.choice(["\n", "\r\n", "\r"])
    lines = []
    for event in events:
        value = written(event, chance).strip()
        # a line break stands between tokens only, and is another line of data then
        lines.append(
            re.sub(
                r"\n", f"{end}data: ", f"event: {event.get('type', 'x')}\ndata: {value}".replace("\ndata:", "\0")
            ).replace("\0", f"{end}data:")
        )
        lines.append(chance.choice(["", "", f": <comment>{end}"]))
    body = "".join(f"{line}{end}{end}" if line and not line.startswith(":") else line for line in lines)
    raw = body.encode()
    edits = event_edits(raw, look, Known(words=False))
    redacted = apply(raw, edits)
    assert not re.search(rb"<comment>", redacted)
    read = [json.loads(data) for data in data_of(redacted)]
    assert texts_of(kind, read) == [wanted(text) for text in texts if text]
    values = [json.dumps(each, sort_keys=True) for each in read]
    assert len(values) == len(events)


def data_of(stream: bytes) -> list[bytes]:
    """A plain reader of server-sent events."""
    lines = re.split(rb"\r\n|\n|\r", stream)
    events: list[list[bytes]] = [[]]
    for line in lines:
        if not line:
            events.append([])
        elif line.startswith(b"data:"):
            events[-1].append(line[5:].removeprefix(b" "))
    return [b"\n".join(each) for each in events if each]


def test_lines_of_json_are_events_too() -> None:
    body = b"".join(json.dumps({"message": {"content": each}, "done": False}).encode() + b"\n" for each in "a <x> b")
    edits = json_edits(body, look, Known(words=False))
    assert edits is not None
    said = "".join(json.loads(line)["message"]["content"] for line in apply(body, edits).splitlines())
    assert said == "a [X] b"


def test_plain_events_of_one_name_are_one_text() -> None:
    body = b"event: a\ndata: one <x\n\nevent: b\ndata: <y\n\nevent: a\ndata: > two\ndata: <z>\n\ndata: [DONE]\n\n"
    assert apply(body, event_edits(body, look, Known(words=False))) == (
        b"event: a\ndata: one [X]\n\nevent: b\ndata: <y\n\nevent: a\ndata:  two\ndata: [X]\n\ndata: [DONE]\n\n"
    )


def test_whole_texts_beside_their_pieces_stand_alone() -> None:
    events = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "<x"},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": ">"},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "<x>"},
        {"type": "response.content_part.done", "output_index": 0, "content_index": 0, "part": {"text": "<x>"}},
        {"type": "response.completed", "response": {"output": [{"content": [{"text": "<x>"}, {"text": "<x>"}]}]}},
    ]
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)
    read = [json.loads(each) for each in data_of(apply(body, event_edits(body, look, Known(words=False))))]
    assert [read[0]["delta"], read[1]["delta"]] == ["[X]", ""]
    assert read[2]["text"] == read[3]["part"]["text"] == "[X]"
    assert [each["text"] for each in read[4]["response"]["output"][0]["content"]] == ["[X]", "[X]"]


def test_a_text_may_begin_before_its_first_delta() -> None:
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "<x"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "y>"}},
    ]
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)
    made = apply(body, event_edits(body, look, Known(words=False)))
    assert b"x" not in b"".join(re.findall(rb'"text": "([^"]*)"', made))


@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange(body: bytes) -> None:
    def nothing(text: bytes, context: bytes) -> list[Edit]:
        return []

    assert event_edits(body, nothing, Known(words=False)) == []
    assert json_edits(body, nothing, Known(words=False)) in (None, [])


@given(
    st.lists(
        st.sampled_from(
            [b"data: ", b"data:", b"\n", b"\n\n", b"\r", b'{"a":', b'"<x>"', b'"<', b"x>", b"}", b"\\", b": "]
        ),
        max_size=20,
    )
)
def test_what_a_broken_stream_has_is_found_where_it_stands_whole(parts: list[bytes]) -> None:
    body = b"".join(parts)
    edits = event_edits(body, look, Known(words=False))
    assert all(before[1] <= after[0] for before, after in pairwise(edits))
    assert b"<x>" not in apply(body, edits)


@pytest.mark.parametrize(
    "body",
    [b'{"a":' * 200_000, b"[" * 1_000_000, b'"' * 1_000_000, b'{"a":"' + b"\\" * 1_000_000, b"data: {\n" * 200_000,
     b'data: {"a":"\n' * 100_000, b"data: [\n\n" * 100_000, b'[{"delta":"a"},' * 100_000],
)  # fmt: skip
def test_hostile_bodies_take_no_time(body: bytes) -> None:
    def nothing(text: bytes, context: bytes) -> list[Edit]:
        return []

    begun = time.monotonic()
    json_edits(body, nothing, Known(words=False))
    event_edits(body, nothing, Known(words=False))
    assert time.monotonic() - begun < 5


def test_short_words_of_an_api_need_no_look() -> None:
    seen: list[bytes] = []

    def note(text: bytes, context: bytes) -> list[Edit]:
        seen.append(text)
        return []

    body = (
        b'{"type":"text_delta","id":"abc123","a":"word","id":"a@b","id":"1234567","id":"abcdefghijklmnop",'
        b'"a b":"x","1.2.3.4":1}'
    )
    json_edits(body, note, Known())
    assert seen == [b"word", b"a@b", b"1234567", b"abcdefghijklmnop", b"a b", b"x", b"1.2.3.4"]
