"""Undoing Content-Encoding on a copy, bounded in output, ratio, layers and window. Must not know what is inside.

Pieces come as they came from the wire; a piece never makes more than a step of output at a time, so that a bomb is
found before it is big. What was decoded before an error stays with the caller.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol

MAX_LAYERS = 2
# judged after this much output: short bodies compress wildly and are harmless
RATIO_AFTER = 1024 * 1024
MAX_RATIO = 200
ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659
_STEP = 256 * 1024
# zstandard has no bounded call that can wait for input: a slice of this size makes at most 8 MiB (4-byte RLE blocks)
_ZSTD_SLICE = 256


class Undecodable(Exception):
    """The copy cannot be decoded; the text says why."""


class _Layer(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Output in bounded steps."""
        ...

    def finish(self) -> None:
        """The input has ended; raises Undecodable where it was cut."""
        ...


class _Zlib:
    """gzip (with members one after the other) and deflate (zlib's form, or raw as some servers send it)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate: Any = None if name == "deflate" else zlib.decompressobj(31)
        self._first = b""
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            self._first += data
            if len(self._first) < 2:
                return
            data, self._first = self._first, b""
            zlib_form = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflate = zlib.decompressobj(15 if zlib_form else -15)
        while data:
            if self._inflate.eof:
                # trailing zero bytes are padding, anything else of gzip is the next member
                if self._name != "gzip" or not data.strip(b"\0"):
                    return
                self._inflate = zlib.decompressobj(31)
            self._fresh = False
            try:
                out = self._inflate.decompress(data, _STEP)
            except zlib.error:
                raise Undecodable(f"the {self._name} data is broken") from None
            yield out
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
            if not data and len(out) == _STEP and not self._inflate.eof:
                yield from self._drain()

    def _drain(self) -> Iterator[bytes]:
        """Output that is still inside although all input was taken."""
        while out := self._inflate.decompress(b"", _STEP):
            yield out

    def finish(self) -> None:
        if not self._fresh and not self._inflate.eof:
            raise Undecodable(f"the {self._name} data ends early")


class _Brotli:
    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]

        self._error: type[Exception] = brotli.error
        self._inflate = brotli.Decompressor()
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate.is_finished():
            return
        self._fresh = False
        try:
            out = self._inflate.process(data, output_buffer_limit=_STEP)
            yield out
            while not self._inflate.can_accept_more_data() and not self._inflate.is_finished():
                out = self._inflate.process(b"", output_buffer_limit=_STEP)
                yield out
        except self._error:
            raise Undecodable("the br data is broken") from None

    def finish(self) -> None:
        if not self._fresh and not self._inflate.is_finished():
            raise Undecodable("the br data ends early")


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj
        self._inflate = self._new()
        self._fresh = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            piece = data[start : start + _ZSTD_SLICE]
            while piece:
                if self._inflate.eof:
                    self._inflate = self._new()
                self._fresh = False
                try:
                    out = self._inflate.decompress(piece)
                except self._error:
                    raise Undecodable("the zstd data is broken") from None
                piece = self._inflate.unused_data if self._inflate.eof else b""
                yield out

    def finish(self) -> None:
        if not self._fresh and not self._inflate.eof:
            raise Undecodable("the zstd data ends early")


def _layer(coding: str) -> _Layer:
    if coding in ("gzip", "x-gzip"):
        return _Zlib("gzip")
    if coding == "deflate":
        return _Zlib("deflate")
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Zstd()
    raise Undecodable(f"the content coding {coding[:32]!r} is unknown")


class Decoder:
    """The codings of one body, undone piece by piece. Never raises: `error` says what went wrong and ends the output.

    An unknown coding leaves the bytes as they are.
    """

    __slots__ = ("_in", "_layers", "_limit", "_out", "_plain", "error")

    def __init__(self, content_encoding: str, limit: int) -> None:
        self.error: str | None = None
        self._limit = limit
        self._in = 0
        self._out = 0
        self._layers: list[_Layer] = []
        self._plain = True
        if not content_encoding:
            return  # nearly always
        codings = [word.strip().lower() for word in content_encoding.split(",")]
        codings = [word for word in codings if word not in ("", "identity")]
        self._plain = not codings
        try:
            if len(codings) > MAX_LAYERS:
                raise Undecodable(f"more than {MAX_LAYERS} content codings")
            self._layers = [_layer(word) for word in reversed(codings)]
        except Undecodable as error:
            self.error = str(error)
            self._plain = True

    @property
    def coded(self) -> bool:
        """Whether there is a coding to undo."""
        return bool(self._layers)

    def feed(self, piece: bytes) -> bytes:
        """What this piece adds."""
        if self._plain:
            return piece
        if self.error is not None:
            return b""
        self._in += len(piece)
        parts: list[bytes] = []
        try:
            for out in self._run(piece, 0):
                self._out += len(out)
                parts.append(out)
                if self._out > self._limit:
                    raise Undecodable(f"it decodes to more than {self._limit} bytes")
                if self._out > RATIO_AFTER and self._out > self._in * MAX_RATIO:
                    raise Undecodable(f"it decodes to more than {MAX_RATIO} times its size")
        except Undecodable as error:
            self.error = str(error)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _run(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._layers):
            yield data
            return
        for out in self._layers[depth].feed(data):
            if out:
                yield from self._run(out, depth + 1)

    def finish(self) -> None:
        """The body has ended; notes a copy that ends early."""
        if self.error is None and not self._plain:
            try:
                for layer in self._layers:
                    layer.finish()
            except Undecodable as error:
                self.error = str(error)
