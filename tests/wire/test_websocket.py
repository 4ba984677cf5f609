"""The frame reader: one table of messages, cut everywhere, against frames made here; hostile frames; bounds."""

from __future__ import annotations

import itertools
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.wire.websocket import Deflate, FrameReader, WsMessage, deflate_of

KEY = b"\x11\x92\x03\xf4"


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, rsv1: bool = False, mask: bytes = b"") -> bytes:
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + size.to_bytes(2, "big")
        if size < 65536
        else b"\x7f" + size.to_bytes(8, "big")
    )
    head = bytes([first, length[0] | (0x80 if mask else 0)]) + length[1:] + mask
    return head + (bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload)


class Deflater:
    """A peer's side of permessage-deflate."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._new()

    def _new(self) -> None:
        self._deflate = zlib.compressobj(wbits=-15)

    def __call__(self, data: bytes) -> bytes:
        out = self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        if not self._keep:
            self._new()
        return out[:-4]


def read(reader: FrameReader, pieces: Iterable[bytes]) -> list[WsMessage]:
    return [message for piece in pieces for message in reader.feed(piece)]


def pieces(raw: bytes, size: int) -> Iterable[bytes]:
    return (raw[i : i + size] for i in range(0, len(raw), size))


def text(data: bytes) -> WsMessage:
    return WsMessage("text", data)


EURO = "€".encode()
CASES: list[tuple[str, bytes, list[WsMessage]]] = [
    ("empty", frame(b""), [text(b"")]),
    ("unmasked", frame(b"hello"), [text(b"hello")]),
    ("masked", frame(b"hello", mask=KEY), [text(b"hello")]),
    ("length-126", frame(b"x" * 126, mask=KEY), [text(b"x" * 126)]),
    ("length-65536", frame(b"y" * 65536, 2), [WsMessage("binary", b"y" * 65536)]),
    ("fragments", frame(b"he", fin=False) + frame(b"l", 0, fin=False) + frame(b"lo", 0), [text(b"hello")]),
    ("empty-fragments", frame(b"", fin=False) + frame(b"", 0, fin=False) + frame(b"a", 0), [text(b"a")]),
    ("utf8-over-fragments", frame(EURO[:1], fin=False) + frame(EURO[1:], 0), [text(EURO)]),
    (
        "ping-between-fragments",
        frame(b"a", fin=False, mask=KEY) + frame(b"p", 9, mask=KEY) + frame(b"b", 0, mask=KEY),
        [WsMessage("ping", b"p"), text(b"ab")],
    ),
    ("close", frame(b"\x03\xe8bye", 8), [WsMessage("close", b"\x03\xe8bye")]),
    ("no-close-code", frame(b"", 8), [WsMessage("close", b"")]),
    ("one-byte-frames", frame(b"h", fin=False) + frame(b"i", 0, fin=False) + frame(b"!", 0), [text(b"hi!")]),
    ("long-form-of-a-short-length", b"\x81\x7f" + (3).to_bytes(8, "big") + b"abc", [text(b"abc")]),
    ("no-utf8", frame(b"\xff\xfe"), [text(b"\xff\xfe")]),
    ("two", frame(b"a") + frame(b"b", mask=KEY), [text(b"a"), text(b"b")]),
]


@pytest.mark.parametrize(("raw", "messages"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
class TestTable:
    def test_whole(self, raw: bytes, messages: list[WsMessage]) -> None:
        assert read(FrameReader(), [raw]) == messages

    def test_byte_by_byte(self, raw: bytes, messages: list[WsMessage]) -> None:
        assert read(FrameReader(), (raw[i : i + 1] for i in range(len(raw)))) == messages

    def test_every_split(self, raw: bytes, messages: list[WsMessage]) -> None:
        for cut in range(min(len(raw), 300)):
            assert read(FrameReader(), [raw[:cut], raw[cut:]]) == messages, cut


@pytest.mark.parametrize("keep", [True, False], ids=["context", "no-context"])
@pytest.mark.parametrize("size", [1, 5, 1 << 20], ids=["bytes", "fives", "whole"])
def test_deflate(keep: bool, size: int) -> None:
    said = [b"hello hello hello", b"", b"hello again", b"x" * 70_000]
    deflate = Deflater(keep=keep)
    raw = b"".join(frame(deflate(each), rsv1=True, mask=KEY) for each in said)
    reader = FrameReader(deflate=True, no_context=not keep)
    assert read(reader, (raw[i : i + size] for i in range(0, len(raw), size))) == [text(each) for each in said]
    assert reader.error is None


def test_deflate_fragments_with_ping_and_plain_message() -> None:
    deflate = Deflater()
    packed = deflate(b"a long message, a long message")
    raw = (
        frame(packed[:5], fin=False, rsv1=True)
        + frame(b"", 9)
        + frame(packed[5:], 0)
        + frame(b"plain")
        + frame(deflate(b"a long one"), rsv1=True)
    )
    said = [m.data for m in read(FrameReader(deflate=True), [raw])]
    assert said == [b"", b"a long message, a long message", b"plain", b"a long one"]


def test_long_message_is_cut_and_the_context_lives_on() -> None:
    deflate = Deflater()
    reader = FrameReader(deflate=True, limit=1000)
    raw = frame(deflate(b"abcdefgh" * 50_000), rsv1=True) + frame(deflate(b"abcdefgh tail"), rsv1=True)
    long, short = read(reader, [raw])
    assert long == WsMessage("text", (b"abcdefgh" * 125), truncated=True)
    assert short == text(b"abcdefgh tail")


@pytest.mark.parametrize("size", [1, 7, 1 << 20], ids=["bytes", "sevens", "whole"])
def test_a_bomb_ends_the_reading_not_the_process(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.wire.websocket.MAX_INFLATED_BYTES", 4 << 20)
    reader = FrameReader(deflate=True, limit=1024)
    raw = frame(Deflater()(bytes(8 << 20)), rsv1=True)
    assert read(reader, pieces(raw, size)) == [WsMessage("text", bytes(1024), truncated=True)]
    assert reader.error is not None and "inflates" in reader.error
    assert reader.feed(frame(b"later")) == []


def test_a_bomb_in_many_fragments_is_bounded_as_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.wire.websocket.MAX_INFLATED_BYTES", 4 << 20)
    reader = FrameReader(deflate=True, limit=1024)
    deflate = Deflater()
    parts = [deflate(bytes(1 << 20)) + b"\0\0\xff\xff" for _ in range(6)]
    frames = [frame(part, 0 if n else 1, fin=n == 5, rsv1=not n) for n, part in enumerate(parts)]
    assert [m.truncated for m in read(reader, frames)] == [True]
    assert reader.error is not None


def test_never_ending_fragments_cost_bounded_memory() -> None:
    reader = FrameReader(limit=10_000)
    reader.feed(frame(b"", fin=False))
    for _ in range(5000):
        assert reader.feed(frame(b"abcdefghij", 0, fin=False)) == []
    assert reader.reading
    rest = reader.rest()
    assert rest is not None and rest.truncated and len(rest.data) == 10_000
    assert read(reader, [frame(b"", 0), frame(b"next")]) == [rest, text(b"next")]


def test_a_large_frame_in_single_bytes_costs_its_size() -> None:
    reader = FrameReader()
    raw = frame(b"z" * 200_000, mask=KEY)
    tracemalloc.start()
    try:
        messages = read(reader, pieces(raw, 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert messages == [text(b"z" * 200_000)]
    assert peak < 2_000_000


def test_a_frame_that_promises_more_than_there_is_memory() -> None:
    reader = FrameReader(limit=100)
    head = b"\x81\x7f" + (1 << 62).to_bytes(8, "big")
    assert read(reader, [head, *[b"x" * 65536] * 50]) == []
    assert reader.error is None
    assert reader.rest() == WsMessage("text", b"x" * 100, truncated=True)


# RFC 7692 section 7.2.3: one message in each of the forms that a deflate block may take
STREAMS = [
    ("fixed-block", bytes.fromhex("f248cdc9c90700")),
    ("stored-block", bytes.fromhex("000500faff48656c6c6f00")),
    ("final-block", bytes.fromhex("f348cdc9c9070000")),
    ("two-blocks", bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))),
]


@pytest.mark.parametrize("size", [1, 100], ids=["bytes", "whole"])
@pytest.mark.parametrize("packed", [c[1] for c in STREAMS], ids=[c[0] for c in STREAMS])
def test_deflate_blocks_of_the_standard(packed: bytes, size: int) -> None:
    reader = FrameReader(deflate=True)
    raw = frame(packed, rsv1=True) + frame(Deflater()(b"and on"), rsv1=True)
    assert read(reader, pieces(raw, size)) == [text(b"Hello"), text(b"and on")]


def test_streams_without_end_in_one_message() -> None:
    """Each ends at once and costs a fresh window: a few bytes must not buy seconds."""
    reader = FrameReader(deflate=True)
    one = bytes.fromhex("0300")  # a final block that holds nothing
    assert reader.feed(frame(one * 100_000, rsv1=True)) == []
    assert reader.error == "compressed data in too many streams"


def test_no_rest_between_messages() -> None:
    reader = FrameReader()
    reader.feed(frame(b"whole") + frame(b"p", 9) + b"\x81")
    assert (reader.reading, reader.rest()) == (False, None)


BROKEN = [
    ("continuation-first", frame(b"x", 0)),
    ("two-starts", frame(b"a", fin=False) + frame(b"b")),
    ("opcode-3", frame(b"", 3)),
    ("opcode-11", frame(b"", 11)),
    ("long-ping", frame(b"p" * 126, 9)),
    ("fragmented-ping", frame(b"p", 9, fin=False)),
    ("deflate-unasked", frame(b"x", rsv1=True)),
]


@pytest.mark.parametrize("raw", [c[1] for c in BROKEN], ids=[c[0] for c in BROKEN])
def test_what_cannot_be_followed_is_said_once(raw: bytes) -> None:
    reader = FrameReader()
    reader.feed(raw)
    assert reader.error is not None
    assert reader.feed(frame(b"later")) == []


def test_broken_deflate_data() -> None:
    reader = FrameReader(deflate=True)
    assert reader.feed(frame(b"\xff\xff\xff\xff", rsv1=True)) == []
    assert reader.error is not None


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_any_cut(raw: bytes, deflate: bool) -> None:
    whole, cut = FrameReader(deflate=deflate), FrameReader(deflate=deflate)
    assert read(whole, [raw]) == read(cut, (raw[i : i + 1] for i in range(len(raw))))
    assert whole.error == cut.error


Said = list[tuple[bytes, int, int, bool, bool]]
MESSAGES = st.lists(
    st.tuples(st.binary(max_size=200), st.integers(1, 4), st.sampled_from((1, 2)), st.booleans(), st.booleans()),
    max_size=6,
)


def spoken(said: Said, *, masked: bool, keep: bool) -> tuple[bytes, list[WsMessage]]:
    """Messages as frames: (content, fragments, opcode, compressed, with a ping between), and how they are read."""
    deflate = Deflater(keep=keep)
    mask = KEY if masked else b""
    raw, messages = b"", []
    for content, parts, opcode, packed, ping in said:
        payload = deflate(content) if packed else content
        step = len(payload) // parts + 1
        for part in range(parts):
            piece = payload[part * step : (part + 1) * step]
            raw += frame(piece, 0 if part else opcode, fin=part == parts - 1, rsv1=packed and not part, mask=mask)
            if ping and part < parts - 1:
                raw += frame(b"p", 9, mask=mask)
                messages.append(WsMessage("ping", b"p"))
        messages.append(WsMessage("text" if opcode == 1 else "binary", content))
    return raw, messages


@given(MESSAGES, st.booleans(), st.booleans(), st.lists(st.integers(0, 1500), max_size=8))
def test_any_messages_any_cut(said: Said, masked: bool, keep: bool, cuts: list[int]) -> None:
    raw, messages = spoken(said, masked=masked, keep=keep)
    places = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    reader = FrameReader(deflate=True, no_context=not keep)
    assert read(reader, [raw[a:b] for a, b in itertools.pairwise(places)]) == messages
    assert (reader.error, reader.reading) == (None, False)


@given(MESSAGES, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_mutated_frames_never_raise_and_cost_no_more_than_they_hold(
    said: Said, changes: list[tuple[int, int]], masked: bool
) -> None:
    raw = bytearray(spoken(said, masked=masked, keep=True)[0])
    for place, value in changes:
        if raw:
            raw[place % len(raw)] = value
    whole, cut = FrameReader(deflate=True, limit=500), FrameReader(deflate=True, limit=500)
    found = read(whole, [bytes(raw)])
    assert found == read(cut, pieces(bytes(raw), 1))
    assert (whole.error, whole.reading) == (cut.error, cut.reading)
    assert all(len(message.data) <= 500 for message in found)


@pytest.mark.parametrize(
    ("header", "agreed"),
    [
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate", Deflate(False, False)),
        ("Permessage-Deflate; server_no_context_takeover", Deflate(True, False)),
        ("foo, permessage-deflate; client_no_context_takeover; server_max_window_bits=10", Deflate(False, True)),
    ],
)
def test_deflate_of(header: str, agreed: Deflate | None) -> None:
    assert deflate_of(header) == agreed
