"""The frame reader: one table of messages, cut everywhere, against frames made here; hostile frames; bounds."""

from __future__ import annotations

import itertools
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


def test_a_bomb_ends_the_reading_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.wire.websocket.MAX_INFLATED_BYTES", 4 << 20)
    reader = FrameReader(deflate=True, limit=1024)
    assert read(reader, [frame(Deflater()(bytes(8 << 20)), rsv1=True)]) == []
    assert reader.error is not None and "inflates" in reader.error


def test_never_ending_fragments_cost_bounded_memory() -> None:
    reader = FrameReader(limit=10_000)
    reader.feed(frame(b"", fin=False))
    for _ in range(5000):
        reader.feed(frame(b"abcdefghij", 0, fin=False))
    assert sum(map(len, reader._pieces)) == 10_000
    assert len(reader._pieces) <= 1025


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


@given(st.lists(st.binary(max_size=200), max_size=6), st.booleans(), st.lists(st.integers(0, 1500), max_size=8))
def test_any_messages_any_cut(said: list[bytes], masked: bool, cuts: list[int]) -> None:
    deflate = Deflater()
    raw = b"".join(frame(deflate(each), rsv1=True, mask=KEY if masked else b"") for each in said)
    places = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    pieces = [raw[a:b] for a, b in itertools.pairwise(places)]
    assert [m.data for m in read(FrameReader(deflate=True), pieces)] == said


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
