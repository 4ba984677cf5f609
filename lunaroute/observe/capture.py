"""Bodies while they come: kept up to a limit, decoded piece by piece, counted. Must not know HTTP.

Two limits: what one exchange may keep, and what all that are open may keep together, so that a burst of large bodies
costs recorded bytes (counted, marked) and never memory without bound.
"""

from __future__ import annotations

import hashlib

import zstandard

from lunaroute.observe.decode import Decoder

# decoded output beyond what is kept is still read for its facts, up to this many times the limit
_DECODE_FACTOR = 2
# many requests of megabytes can be open: what is so much is compressed while it comes, and the rest of it when it waits
FRAME_BYTES = 1 << 20
REST_BYTES = 128 * 1024
AHEAD_BYTES = 4096
AHEAD_AFTER = 16  # pieces


class Allowance:
    """Bytes that may be kept; `parent` must agree to each."""

    __slots__ = ("_parent", "total", "used")

    def __init__(self, total: int, parent: Allowance | None = None) -> None:
        self.total = total
        self.used = 0
        self._parent = parent

    def take(self, wanted: int) -> int:
        """How many of the wanted bytes may be kept."""
        granted = min(wanted, self.total - self.used)
        if self._parent is not None and granted > 0:
            granted = self._parent.take(granted)
        self.used += granted
        return granted

    def give(self, count: int) -> None:
        """Bytes that are no longer kept."""
        self.used -= count
        if self._parent is not None:
            self._parent.give(count)


class Capture:
    """One body."""

    __slots__ = (
        *("_allowance", "_decoder", "_digest", "_frames", "_held", "_joined", "_kept", "_pieces", "_room"),
        *("coded", "raw_bytes", "truncated"),
    )

    def __init__(self, allowance: Allowance, content_encoding: str = "") -> None:
        self._allowance = allowance
        self._decoder = Decoder(content_encoding, allowance.total * _DECODE_FACTOR)
        self._pieces: list[bytes] = []
        self._joined = 0  # how many of the pieces are joined ones
        self._kept = 0
        self._held = 0  # bytes of the pieces
        self._frames: list[bytes] = []  # what came before the pieces, compressed
        self._room = 0  # of what was taken from the allowance, not yet used
        self.coded = self._decoder.coded  # whether a content coding is undone
        # of bytes that are kept as they came, the digest is made at the end, in one go
        self._digest = hashlib.sha256() if self.coded else None
        self.raw_bytes = 0
        self.truncated = False

    @property
    def sha256(self) -> str | None:
        """Hex digest of the bytes as they came, content coding and all; None where none came. Before `replace`."""
        if not self.raw_bytes:
            return None
        return (self._digest or hashlib.sha256(self.body())).hexdigest()

    @property
    def decode_error(self) -> str | None:
        """Why the copy could not be decoded, if so."""
        return self._decoder.error

    def feed(self, piece: bytes) -> bytes:
        """Take a piece; gives its decoded form, whether or not that could be kept."""
        size = len(piece)
        self.raw_bytes += size
        if self._digest is not None:
            self._digest.update(piece)
        plain = self._decoder.feed(piece) if self.coded else piece
        if self._room >= size and plain is piece and not self.truncated:
            self._room -= size
            self._held += size
            self._pieces.append(piece)
        elif plain and not self.truncated:
            self._keep(plain)
        if self._held >= FRAME_BYTES:
            self._fold()
        elif len(self._pieces) - self._joined >= 512:
            # a stream's pieces are small: joined, they cost less than their object headers
            self._pieces[self._joined :] = [b"".join(self._pieces[self._joined :])]
            self._joined += 1
        return plain

    def _keep(self, plain: bytes) -> None:
        size = len(plain)
        if self._room < size:
            # where small pieces come by the hundred, room for some of them at a time
            ahead = AHEAD_BYTES if len(self._pieces) >= AHEAD_AFTER else 0
            taken = self._allowance.take(size - self._room + ahead)
            self._kept += taken
            self._room += taken
        if self._room < size:
            if self._digest is None:
                # what is not kept counts too
                self._digest = hashlib.sha256(self.body())
                self._digest.update(plain)
            self.truncated = True
            size = self._room
            plain = plain[:size]
        if size:
            self._pieces.append(plain)
            self._room -= size
            self._held += size

    def finish(self) -> None:
        """The body has ended."""
        self._decoder.finish()

    def body(self) -> bytes:
        """What was kept so far."""
        if self._frames:
            return b"".join([*map(zstandard.decompress, self._frames), *self._pieces])
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
            self._joined = 1
        return self._pieces[0] if self._pieces else b""

    def peek(self) -> bytes:
        """The same for another thread than the one that feeds: nothing is joined or moved. While a frame is being made
        what goes into it may be there twice; the next look is right again."""
        frames, pieces = list(self._frames), list(self._pieces)
        return b"".join([*map(zstandard.decompress, frames), *pieces])

    def rest(self) -> None:
        """Nothing is expected for a while: a large body is kept compressed, and its room given back."""
        if self._held > REST_BYTES:
            self._fold()

    def _fold(self) -> None:
        frame = zstandard.ZstdCompressor(level=1).compress(b"".join(self._pieces))
        self._frames.append(frame)
        self._allowance.give(self._held - len(frame))
        self._kept -= self._held - len(frame)
        self._pieces, self._joined, self._held = [], 0, 0

    def wake(self) -> None:
        """All of it at hand again, for a last look: what it takes now is not counted, it is soon dropped."""
        if self._frames:
            self._pieces, self._frames = [self.body()], []
            self._joined = 1

    def replace(self, body: bytes) -> None:
        """Keep these bytes instead (the same, masked)."""
        self._frames = []
        self._pieces = [body] if body else []
        self._joined = len(self._pieces)
        self._held = len(body)

    def drop(self) -> None:
        """Nothing is kept any more."""
        self._frames = []
        self._pieces = []
        self._joined = self._held = 0
        self._allowance.give(self._kept)
        self._kept = self._room = 0
