"""Escapes undone and found again: against the json module and urllib, for any text, any escapes and any part of it."""

from __future__ import annotations

import json
import random
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lunaroute._fast.texts import form, inside, loose, string
from lunaroute._fast.views import apply

CHARS = st.characters(codec="utf-8", exclude_categories=("Cs",))
TEXTS = st.text(CHARS, max_size=40)
CHANCE = st.integers(0, 1 << 32).map(random.Random)


def escaped(text: str, chance: random.Random) -> str:
    """The text as the inside of a JSON string, each character in any of the ways that there are."""
    out = []
    for char in text:
        ways = [json.dumps(char)[1:-1], json.dumps(char, ensure_ascii=False)[1:-1]]
        if ord(char) < 0x10000:
            ways.append(f"\\u{ord(char):04X}")
        if char == "/":
            ways.append("\\/")
        out.append(chance.choice(ways))
    return "".join(out)


@given(TEXTS, CHANCE)
def test_a_string_is_read_as_json_reads_it(text: str, chance: random.Random) -> None:
    inner = escaped(text, chance).encode()
    made = string(b"<" + inner + b">", 1, 1 + len(inner))
    assert made.text.decode() == text == json.loads(b'"' + inner + b'"')


@given(TEXTS, TEXTS, TEXTS, CHANCE)
def test_a_part_is_replaced_where_it_is_written(before: str, value: str, after: str, chance: random.Random) -> None:
    parts = [escaped(each, chance).encode() for each in (before, value, after)]
    raw = b'["' + b"".join(parts) + b'"]'
    made = string(raw, 2, len(raw) - 2)
    start = len(before.encode())
    end = start + len(value.encode())
    if start < end:
        edits = made.back([(start, end, b"[X]", "what")])
        assert apply(raw, edits) == b'["' + parts[0] + b"[X]" + parts[2] + b'"]'
        assert [each[3] for each in edits] == ["what"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", b""),
        (b"\\", b"\\"),
        (b"\\u", b"\\u"),
        (b"\\u12", b"\\u12"),
        (b"\\u12g4x", b"\\u12g4x"),
        (b"\\x41", b"\\x41"),
        (b"\\\\n", b"\\n"),
        (b"\\ud83d\\ude00", "\U0001f600".encode()),
        (b"\\ud83d", "\ufffd".encode()),
        (b"\\ud83d\\u0041", "\ufffdA".encode()),
        (b"\\ude00\\ud83d", "\ufffd\ufffd".encode()),
        (b"\\\xc3\xa9", b"\\\xc3\xa9"),
        (b"a\\u0000b", b"a\0b"),
    ],
)
def test_what_is_no_escape_stays(raw: bytes, text: bytes) -> None:
    assert string(raw, 0, len(raw)).text == text


@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=4))
@example([("a b", "c+d&e=f%40")])
def test_a_form_is_read_as_urllib_reads_it(pairs: list[tuple[str, str]]) -> None:
    raw = "&".join(f"{quote_plus(name)}={quote(value)}" for name, value in pairs).encode()
    at = 0
    read = []
    for pair in raw.split(b"&"):
        middle = raw.index(b"=", at)
        read.append((form(raw, at, middle).text, form(raw, middle + 1, at + len(pair)).text))
        at += len(pair) + 1
    assert read == [(name.encode(), value.encode()) for name, value in parse_qsl(raw.decode(), keep_blank_values=True)]


def test_a_replacement_in_a_form_is_a_value_of_the_form() -> None:
    raw = b"q=4111%201111+11&x=1"
    edits = form(raw, 2, 16).back([(0, 12, b"**** #a&b=c%d", ())])
    assert parse_qsl(apply(raw, edits).decode()) == [("q", "**** #a&b=c%d"), ("x", "1")]


def test_quotes_of_a_replacement_are_escaped_once_a_level() -> None:
    inner = rb"{\"n\": 123}"
    raw = b'"' + inner + b'"'
    once = string(raw, 1, len(raw) - 1)
    assert once.text == b'{"n": 123}'
    assert json.loads(json.loads(apply(raw, once.back([(6, 9, b'"[X]"', ())])))) == {"n": "[X]"}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", None),
        (b"100% sure", None),
        (b"%zz %4", None),
        (b"\\d+\\w", None),
        (b"a%40b", b"a@b"),
        (b"jos%C3%A9%40x", "josé@x".encode()),
        (b"%ff%c3", None),
        (b"%ed%a0%80", None),
        (b"a\\u0040b%40", b"a@b@"),
        (b'say \\"hi\\"', b'say "hi"'),
        (b"%00%1b", None),
    ],
)
def test_escapes_of_any_kind_are_undone_once(raw: bytes, text: bytes | None) -> None:
    made = loose(raw)
    assert (None if made is None else made.text) == text


@pytest.mark.parametrize(
    ("raw", "at", "span"),
    [
        (b"a\\nbob", 2, (1, 3)),
        (b"a\\nbob", 3, (3, 3)),
        (b"a\\\\nbob", 3, (3, 3)),
        (b"a\\\\\\nbob", 4, (3, 5)),
        (b"\\u0041x", 3, (0, 6)),
        (b"\\u0041x", 6, (6, 6)),
        (b"\\ud83d\\ude00", 7, (0, 12)),
        (b"\\dx", 1, (1, 1)),
    ],
)
def test_a_place_inside_of_an_escape(raw: bytes, at: int, span: tuple[int, int]) -> None:
    assert inside(raw, at) == span
