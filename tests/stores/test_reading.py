"""Damaged files, line by line: what is wrong is told with its number, and the rest is read."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.stores import lines, reading
from lunaroute.stores.reading import Line, Trouble
from tests.stores.records import exchange

ASKED = lines.request_line(2, exchange(1, request_body=b'{"a": "\xc3\xbc"}'))
ANSWERED = lines.response_line(3, exchange(1))
GOOD = ("request", 2), ("response", 3)
TORN = "it is not one JSON object (cut, damaged, or two lines in one)"
NOT_UTF8 = "it is not UTF-8 (cut or damaged)"
FOREIGN = "it is no line of a LunaRoute recording"
ZEROS = "zero bytes, as a crash leaves them"


def seen(path: Path) -> tuple[list[tuple[str, int]], list[tuple[int, str]]]:
    found = list(reading.read(path))
    good = [(each.type, each.seq) for each in found if isinstance(each, Line)]
    return good, [(each.number, each.reason) for each in found if isinstance(each, Trouble)]


DAMAGED: list[tuple[str, bytes, tuple[tuple[str, int], ...], list[tuple[int, str]]]] = [
    ("whole", ASKED + ANSWERED, GOOD, []),
    ("empty", b"", (), []),
    ("blank lines", b"\n" + ASKED + b"  \r\n\n" + ANSWERED + b"\n", GOOD, []),
    ("no last line end", ASKED + ANSWERED[:-1], GOOD, []),
    ("torn", ASKED + ANSWERED + ANSWERED[:50], GOOD, [(3, TORN)]),
    ("torn in a character", ASKED + ANSWERED + ASKED[: ASKED.index(b"\xbc")], GOOD, [(3, NOT_UTF8)]),
    ("torn, then written on", ASKED + ANSWERED[:50] + ANSWERED + ANSWERED, GOOD, [(2, TORN)]),
    ("half a character inside", ASKED.replace(b"\xbc", b"") + ANSWERED, GOOD[1:], [(1, NOT_UTF8)]),
    ("two lines merged", ASKED[:-1] + ANSWERED + ANSWERED, GOOD[1:], [(1, TORN)]),
    ("zeros at the end", ASKED + ANSWERED + bytes(5000), GOOD, [(3, ZEROS)]),
    ("zeros, then written on", ASKED + bytes(5000) + ANSWERED, GOOD, [(2, ZEROS)]),
    ("zeros inside", ASKED[:60] + bytes(20) + ASKED[80:] + ANSWERED, GOOD[1:], [(1, TORN)]),
    ("bom", b"\xef\xbb\xbf" + ASKED + ANSWERED, GOOD, []),
    ("crlf", ASKED[:-1] + b"\r\n" + ANSWERED[:-1] + b"\r\n", GOOD, []),
    ("unknown type", ASKED.replace(b'"request"', b'"other"') + ANSWERED, GOOD[1:], [(1, "its type is unknown")]),
    ("newer", ASKED.replace(b'"v":1', b'"v":2', 1) + ANSWERED, GOOD[1:], [(1, "it was written by a newer LunaRoute")]),
    ("version 0", ASKED.replace(b'"v":1', b'"v":0', 1) + ANSWERED, GOOD[1:], [(1, "it has an unknown version")]),
    ("version word", ASKED.replace(b'"v":1', b'"v":"1"', 1) + ANSWERED, GOOD[1:], [(1, FOREIGN)]),
    ("unknown field", ASKED.replace(b'"stream"', b'"colour":[{}],"stream"') + ANSWERED, GOOD, []),
    (
        "wrong field",
        ASKED.replace(b'"stream":false', b'"stream":"no"') + ANSWERED,
        GOOD,
        [(1, "its field stream cannot be read; it is left out")],
    ),
    (
        "number out of range",
        ASKED.replace(b'"sequence":1', b'"sequence":99999999999999999999') + ANSWERED,
        GOOD,
        [(1, "its field sequence has a number out of range; it is left out")],
    ),
    ("foreign lines", b'{"a":1}\n[1]\nwords\n' + ANSWERED, GOOD[1:], [(1, FOREIGN), (2, TORN), (3, TORN)]),
    ("deep", b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n" + ANSWERED, GOOD[1:], [(1, TORN)]),
    (
        "broken body",
        ASKED[: ASKED.index(b'"body_form"')] + b'"body_form":"base64","body":"*"}\n' + ANSWERED,
        GOOD,
        [(1, "its body cannot be read; it is left out")],
    ),
]  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "zst"])
@pytest.mark.parametrize(("content", "good", "bad"), [d[1:] for d in DAMAGED], ids=[d[0] for d in DAMAGED])
def test_damage(
    tmp_path: Path, content: bytes, good: tuple[tuple[str, int], ...], bad: list[tuple[int, str]], packed: bool
) -> None:
    path = tmp_path / "session_x.jsonl"
    if packed:
        reading.packed(path).write_bytes(zstandard.compress(content))
    else:
        path.write_bytes(content)
    assert seen(path) == (list(good), bad)


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    assert seen(tmp_path / "none.jsonl") == ([], [(0, "it cannot be read: No such file or directory")])
    assert seen(tmp_path) == ([], [(0, "it cannot be read: Is a directory")])


SQUEEZED = zstandard.ZstdCompressor(write_checksum=True).compress((ASKED + ANSWERED) * 2000)
PACKED: list[tuple[str, bytes, bool]] = [
    ("whole", SQUEEZED, True),
    ("two frames", SQUEEZED + SQUEEZED, True),
    ("empty", b"", True),
    ("cut", SQUEEZED[:-9], False),
    ("cut early", SQUEEZED[:20], False),
    ("only a header", SQUEEZED[:6], False),
    ("flipped", SQUEEZED[:200] + bytes([SQUEEZED[200] ^ 255]) + SQUEEZED[201:], False),
    ("none", b"hello, this is not compressed at all", False),
]


@pytest.mark.parametrize(("content", "sound"), [p[1:] for p in PACKED], ids=[p[0] for p in PACKED])
def test_damaged_compressed_files(tmp_path: Path, content: bytes, sound: bool) -> None:
    path = tmp_path / "session_x.jsonl.zst"
    path.write_bytes(content)
    good, bad = seen(path)
    assert bool(bad) is not sound
    assert len(good) <= 8000 and (not sound or len(good) == 4000 * content.count(SQUEEZED))


def test_the_plain_file_counts_where_both_are_there(tmp_path: Path) -> None:
    path = tmp_path / "session_x.jsonl"
    path.write_bytes(ANSWERED)
    reading.packed(path).write_bytes(zstandard.compress(ASKED))
    assert seen(path) == ([GOOD[1]], [])


def test_a_giant_line_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "session_x.jsonl.zst"
    squeezing = zstandard.ZstdCompressor().compressobj()
    with path.open("wb") as file:
        file.write(squeezing.compress(ASKED))
        for _ in range(110):
            file.write(squeezing.compress(b"x" * (1 << 20)))
        file.write(squeezing.compress(b"\n" + ANSWERED) + squeezing.flush())
    tracemalloc.start()
    try:
        found = seen(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == (list(GOOD), [(2, "a line of 110 MiB; more than 100 MiB are not read")])
    assert peak < 250 << 20  # the part that might still have become a line that is taken


BODIES: list[tuple[str, bytes, bool]] = [
    ("none", b"", True),
    ("object", b'{"a": 1,"a":2, "n": 1e999, "b": {"body_form":"json","body":1}}', True),
    ("blanks around", b' \t{"a":1}  ', True),
    ("words like ours", b'{"x":",\\"body_form\\":\\"json\\",\\"body\\":{}"}', True),
    ("pretty", b'{\n "a": 1\r\n}\n', False),
    ("text", b'{"a":', True),
    ("surrogate", b'{"a":"\\ud800"}', True),
    ("bytes", b"\xff\x00", True),
]


@pytest.mark.parametrize(("body", "exact"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_bodies_come_back(tmp_path: Path, body: bytes, exact: bool) -> None:
    path = tmp_path / "session_x.jsonl"
    path.write_bytes(lines.request_line(1, exchange(1, request_body=body)))
    (line,) = reading.read(path)
    assert isinstance(line, Line)
    assert line.exact is exact
    assert line.body == (body if exact else body.replace(b"\r", b" ").replace(b"\n", b" "))


def test_a_file_that_another_program_has_rewritten(tmp_path: Path) -> None:
    """Keys sorted, blanks between: the body is the same value, but not the same bytes for sure."""
    path = tmp_path / "session_x.jsonl"
    path.write_bytes(b'{"body": {"a": 1}, "body_form": "json", "id": "x", "seq": 1, "type": "request", "v": 1}\n')
    (line,) = reading.read(path)
    assert isinstance(line, Line)
    assert (line.body, line.exact) == (b'{"a": 1}', False)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([ASKED, ANSWERED, b"\n", bytes(9)]), max_size=8), st.randoms())
def test_no_bytes_break_it(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], rng: random.Random
) -> None:
    content = bytearray(b"".join(pieces))
    for _ in range(rng.randint(0, 3) if content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path = tmp_path_factory.mktemp("x") / "session_x.jsonl"
    path.write_bytes(content)
    for each in reading.read(path):
        assert isinstance(each, Line | Trouble)
