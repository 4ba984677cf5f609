"""Bounded decoding: every coding in every split, nested, cut, mislabelled; bombs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.observe.decode import MAX_RATIO, RATIO_AFTER, Decoder

Pack = Callable[[bytes], bytes]
LIMIT = 1 << 24
BODY = b"".join(b'{"n": %d, "text": "some words"}\n' % n for n in range(900))


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


CODINGS: dict[str, tuple[str, Pack]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "gzip-members": ("gzip", lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:])),
    "gzip-padding": ("gzip", lambda data: gzip.compress(data) + bytes(10)),
    "deflate": ("deflate", zlib.compress),
    "deflate-raw": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "zstd-frames": ("zstd", lambda d: zstandard.compress(d[:99]) + zstandard.compress(d[99:])),
    "two": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    "identity": ("identity", bytes),
    "none": ("", bytes),
}
each_coding = pytest.mark.parametrize(("name", "pack"), CODINGS.values(), ids=CODINGS)


def decode(name: str, pieces: list[bytes], limit: int = LIMIT) -> tuple[bytes, str | None]:
    decoder = Decoder(name, limit)
    out = b"".join(decoder.feed(piece) for piece in pieces)
    decoder.finish()
    return out, decoder.error


@each_coding
@pytest.mark.parametrize("size", [1, 13, 1 << 20], ids=["bytes", "thirteens", "whole"])
def test_round_trip(name: str, pack: Pack, size: int) -> None:
    packed = pack(BODY)
    assert decode(name, [packed[i : i + size] for i in range(0, len(packed), size)]) == (BODY, None)


@each_coding
def test_every_split_of_a_short_body(name: str, pack: Pack) -> None:
    packed = pack(b"hello" * 30)
    for cut in range(len(packed)):
        assert decode(name, [packed[:cut], packed[cut:]]) == (b"hello" * 30, None), cut


@each_coding
def test_an_empty_body_is_no_error(name: str, pack: Pack) -> None:
    assert decode(name, []) == (b"", None)


CUT = [(name, pack) for name, pack in CODINGS.values() if name not in ("", "identity")]


@pytest.mark.parametrize(("name", "pack"), CUT, ids=[key for key in CODINGS if key not in ("none", "identity")])
def test_a_cut_body_keeps_its_start(name: str, pack: Pack) -> None:
    out, error = decode(name, [pack(BODY)[:-12]])
    assert BODY.startswith(out)
    assert error is not None and "ends early" in error


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "gzip, br"])
@given(junk=st.binary(min_size=4, max_size=200))
def test_junk_is_an_error_and_never_raises(name: str, junk: bytes) -> None:
    out, error = decode(name, [junk])
    assert error is not None or len(out) < 10_000


def test_an_unknown_coding_leaves_the_bytes() -> None:
    assert decode("snappy", [b"abc"]) == (b"abc", "the content coding 'snappy' is unknown")


def test_too_many_layers() -> None:
    assert decode("gzip, gzip, gzip", [b"abc"]) == (b"abc", "more than 2 content codings")


ZEROS = bytes(64 << 20)
BOMBS: dict[str, tuple[str, Pack]] = {
    "gzip": ("gzip", gzip.compress),
    "br": ("br", lambda data: brotli.compress(data, quality=5)),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "nested": ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
}


@pytest.mark.parametrize(("name", "pack"), BOMBS.values(), ids=BOMBS)
def test_bombs_end_soon_after_the_ratio_is_judged(name: str, pack: Pack) -> None:
    decoder = Decoder(name, 1 << 30)
    packed = pack(ZEROS)
    out = decoder.feed(packed)
    assert decoder.error is not None and "times its size" in decoder.error
    # one step of the outer layer may be a whole zstd slice (8 MiB) over the threshold
    assert len(out) <= max(RATIO_AFTER, MAX_RATIO * len(packed)) + (9 << 20)
    assert decoder.feed(b"more") == b""


def test_the_limit_of_output() -> None:
    decoder = Decoder("gzip", 10_000)
    out = decoder.feed(gzip.compress(BODY))
    assert decoder.error == "it decodes to more than 10000 bytes"
    assert len(out) <= 10_000 + (256 << 10)


def test_a_zstd_window_beyond_the_limit() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(bytes(100)) + packer.flush()
    out, error = decode("zstd", [packed])
    assert (out, error) == (b"", "the zstd data is broken")
