"""What is kept of an exchange's bytes: only what is new in it, in one compressed pack. Must not know tables.

Clients send the whole conversation with each request. So a request is cut into pieces (_fast/cuts.pyx), and a piece
that an earlier exchange of the session brought is not kept again: the pack says how the request is made of the pieces
of its base (the exchange it goes on from) and of new ones. Header fields are kept the same way, a field a piece. A base
is the exchange before, so a long session is a chain; reading walks it, each pack once.

What begins a conversation has no base. Its long pieces (tools, system prompts, the same in every session of a client)
are blobs, found by their digest, whoever sent them.

A pack is compressed with the pack of its base as the dictionary: the frames of a stream, field names and ids come again
in each. One without a base is compressed with a dictionary of our own (packs.zdict, made by benchmarks/dictionary.py).

A recipe is a flat list of pairs: (start, count) pieces of the base from `start`; (-1, count) the next new ones of this
pack; (-2, blob).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import zstandard

from lunaroute._fast.cuts import Cuts, cut, mark, runs
from lunaroute.errors import StoreError
from lunaroute.records import Exchange

NEW, BLOB = -1, -2
LONG = 512  # bytes: from this on a piece without a base is a blob, and a string has a piece of its own
LEVEL = 3
# of a turn's pack, up to SMALL bytes: 5 % less for 15 us; of larger ones it makes no less
LEVEL_SMALL, SMALL = 4, 16 << 10
DICTIONARY_BYTES = 32 << 10  # of the base's pack: more costs time and brings little
UNPACKED_LIMIT = 256 << 20  # of one pack or blob: more than any capture limit in use gives
WINDOW = 1 << 27
CHAIN_LIMIT = 10_000  # links that are followed: more than any chain has, and an end where damage made a ring
HEADS_EACH = 3  # exchanges of a session that may become a base: its branches (side calls, retries, subagents)
HEADS_SESSIONS = 2000  # that are remembered at all: what was sent in one may be nothing to build on
HEADS_BYTES = 12 << 20  # of memory, about, that all heads may take
MARK_BYTES = 100  # of memory that a mark and its place take
DEPTH_MAX = 2000  # links of a chain: then one stands alone again, so that reading one has a bound
FIELDS_CHAIN = 32  # links that a chain may have only for the sake of header fields
GOOD = 0.7  # of a request's bytes: a base that has so much is not compared with others

Field = tuple[str, str]


class Pack(msgspec.Struct, array_like=True, omit_defaults=True):
    """See the module. more: facts without a column. texts: JSON, [[kind, text], ...], what the search index has of it.

    JSON inside, since a text is then the same run of bytes as in the body, and costs next to nothing. They stand first:
    the answer's words, in one run there, are what the next exchange's pack finds in the dictionary that this one is.
    """

    texts: bytes = b""
    head: list[int] = msgspec.field(default_factory=list)
    head_new: list[Field] = msgspec.field(default_factory=list)
    body: list[int] = msgspec.field(default_factory=list)
    body_new: list[bytes] = msgspec.field(default_factory=list)
    answer_head: list[int] = msgspec.field(default_factory=list)
    answer_head_new: list[Field] = msgspec.field(default_factory=list)
    response: bytes = b""
    more: dict[str, Any] = msgspec.field(default_factory=dict)


_json = msgspec.json.Encoder()
_texts = msgspec.json.Decoder(list[tuple[str, str]])
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Pack)


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(files("lunaroute.stores").joinpath("packs.zdict").read_bytes())


# an object of zstandard serves one thread only, and threads of the UI unpack while the writer does
_own = threading.local()


def _compressor() -> zstandard.ZstdCompressor:
    made: zstandard.ZstdCompressor | None = getattr(_own, "compressor", None)
    if made is None:
        dictionary = _dictionary()
        dictionary.precompute_compress(level=LEVEL)
        made = _own.compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_checksum=True)
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor | None = getattr(_own, "decompressor", None)
    if made is None:
        made = _own.decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(), max_window_size=WINDOW)
    return made


def squeeze(data: bytes, base: bytes | None = None) -> bytes:
    """Compressed, with the shared dictionary or with the beginning of `base`.

    With a checksum: the wrong dictionary gives wrong bytes, and nothing else would tell.
    """
    if base is None:
        return _compressor().compress(data)
    own = zstandard.ZstdCompressionDict(base[:DICTIONARY_BYTES], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    level = LEVEL_SMALL if len(data) <= SMALL else LEVEL
    return zstandard.ZstdCompressor(level=level, dict_data=own, write_checksum=True).compress(data)


def unfold(data: bytes, base: bytes | None = None) -> bytes:
    """The reverse of squeeze; raises StoreError where the bytes are damaged."""
    try:
        if zstandard.frame_content_size(data) > UNPACKED_LIMIT:
            raise StoreError("a stored pack is larger than any can be")
        if base is None:
            return _decompressor().decompress(data)
        own = zstandard.ZstdCompressionDict(base[:DICTIONARY_BYTES], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        return zstandard.ZstdDecompressor(dict_data=own, max_window_size=WINDOW).decompress(data)
    except (zstandard.ZstdError, MemoryError) as error:
        raise StoreError(f"a stored pack is damaged ({error})") from None


def decode(plain: bytes) -> Pack:
    """A pack out of its uncompressed form; raises StoreError."""
    try:
        return _decoder.decode(plain)
    except msgspec.DecodeError as error:
        raise StoreError(f"a stored pack is damaged ({error})") from None


def encode(pack: Pack) -> bytes:
    """The uncompressed form of a pack."""
    return _encoder.encode(pack)


def blobs_of(pack: Pack) -> list[int]:
    """The blobs that a pack names itself."""
    return [pack.body[at + 1] for at in range(0, len(pack.body), 2) if pack.body[at] == BLOB]


def _pairs(recipe: list[int]) -> Iterator[tuple[int, int]]:
    return zip(recipe[::2], recipe[1::2], strict=True)


def texts_of(pack: Pack) -> list[tuple[str, str]]:
    """(kind, text) of what the search index has of it."""
    try:
        return _texts.decode(pack.texts) if pack.texts else []
    except msgspec.DecodeError as error:
        raise StoreError(f"a stored pack is damaged ({error})") from None


def texts_to(texts: Sequence[tuple[str, str]]) -> bytes:
    """The reverse of texts_of."""
    return _json.encode(texts) if texts else b""


def slim(pack: Pack) -> Pack:
    """What later exchanges need of a pack whose own exchange is gone: the pieces."""
    return Pack(
        head=pack.head,
        head_new=pack.head_new,
        body=pack.body,
        body_new=pack.body_new,
        answer_head=pack.answer_head,
        answer_head_new=pack.answer_head_new,
    )


def fold(pack: Pack, base: Pack) -> Pack:
    """The same, built on what `base` is built on: what it took from `base` is its own now. Raises StoreError."""
    made = msgspec.structs.replace(pack)
    try:
        made.head, made.head_new = _folded(pack.head, pack.head_new, base.head, base.head_new)
        made.body, made.body_new = _folded(pack.body, pack.body_new, base.body, base.body_new)
        made.answer_head, made.answer_head_new = _folded(
            pack.answer_head, pack.answer_head_new, base.answer_head, base.answer_head_new
        )
    except IndexError:
        raise StoreError("a stored pack does not fit its base") from None
    return made


def _folded(recipe: list[int], new: list[Any], base: list[int], base_new: list[Any]) -> tuple[list[int], list[Any]]:
    # where each piece of the base comes from: (NEW, the piece), (BLOB, its number), (place below, None)
    sources: list[tuple[int, Any]] = []
    taken = 0
    for start, count in _pairs(base):
        if start == BLOB:
            sources.append((BLOB, count))
        elif start == NEW:
            sources += [(NEW, piece) for piece in _part(base_new, taken, count)]
            taken += count
        else:
            sources += [(place, None) for place in range(start, start + count)]
    out: list[int] = []
    pieces: list[Any] = []
    taken = 0
    for start, count in _pairs(recipe):
        if start == BLOB:
            out += (BLOB, count)
            continue
        if start == NEW:
            of = [(NEW, piece) for piece in _part(new, taken, count)]
            taken += count
        else:
            of = _part(sources, start, count)
        for kind, what in of:
            if kind == BLOB:
                out += (BLOB, what)
            elif kind == NEW:
                pieces.append(what)
                if out and out[-2] == NEW:
                    out[-1] += 1
                else:
                    out += (NEW, 1)
            elif out and 0 <= out[-2] == kind - out[-1]:
                out[-1] += 1
            else:
                out += (kind, 1)
    return out, pieces


# --- making -------------------------------------------------------------------------------------------
class _Marks:
    """The marks of a sequence of pieces, and where each stands."""

    __slots__ = ("marks", "places")

    def __init__(self, marks: list[int]) -> None:
        self.marks = marks
        self.places = {each: place for place, each in enumerate(marks)}


class Head:
    """An exchange that others can be based on. plain: the beginning of its pack; depth: links below it."""

    __slots__ = ("answer_head", "body", "depth", "exchange", "head", "plain", "weight")

    def __init__(
        self, exchange: int, plain: bytes, head: list[int], body: list[int], answer_head: list[int], depth: int
    ) -> None:
        self.exchange = exchange
        self.plain = plain[:DICTIONARY_BYTES]
        self.depth = depth
        self.head, self.body, self.answer_head = _Marks(head), _Marks(body), _Marks(answer_head)
        self.weight = MARK_BYTES * (len(head) + len(body) + len(answer_head)) + len(self.plain)


class Heads:
    """Per session the last exchanges that a next one may be based on. Bounded; `recall` finds one after a restart."""

    def __init__(self, recall: Callable[[str], Head | None]) -> None:
        self._recall = recall
        self._known: OrderedDict[str, list[Head]] = OrderedDict()
        self._weight = 0

    def of(self, session: str) -> Sequence[Head]:
        """The newest first."""
        known = self._known.get(session)
        if known is None:
            found = self._recall(session)
            known = self._known[session] = []
            if len(self._known) > HEADS_SESSIONS:
                self.forget(next(iter(self._known)))
            if found is not None:
                self.add(session, found)
        self._known.move_to_end(session)
        return known

    def add(self, session: str, head: Head, instead: Head | None = None) -> None:
        """`instead`: the one that it goes on from, which nobody will want again."""
        known = self._known.setdefault(session, [])
        if instead is not None and instead in known:
            known.remove(instead)
            self._weight -= instead.weight
        known.insert(0, head)
        self._weight += head.weight
        while len(known) > HEADS_EACH:
            self._weight -= known.pop().weight
        while self._weight > HEADS_BYTES and len(self._known) > 1:
            self.forget(next(iter(self._known)))

    def forget(self, session: str) -> None:
        """What was added may not have been stored."""
        for head in self._known.pop(session, ()):
            self._weight -= head.weight


class Packed(msgspec.Struct):
    """A pack to be stored, and what it makes possible.

    base: None where it stands alone. goes_on: the body is the base's conversation, and more.
    """

    plain: bytes
    data: bytes
    base: Head | None
    goes_on: bool
    head: list[int]
    body: list[int]
    answer_head: list[int]

    def as_head(self, exchange: int) -> Head:
        """For the next one, under the number that it was stored by."""
        depth = self.base.depth + 1 if self.base else 0
        return Head(exchange, self.plain, self.head, self.body, self.answer_head, depth)


def pack(exchange: Exchange, heads: Sequence[Head], blob: Callable[[bytes], int], more: dict[str, Any]) -> Packed:
    """Pack what is new in an exchange. blob: keeps a piece for all sessions, gives its number."""
    body = exchange.request_body
    cuts: Cuts = exchange.cuts if exchange.cuts is not None else cut(body)
    head_marks = [hash(field) for field in exchange.request_headers]
    answer_marks = [hash(field) for field in exchange.response_headers]
    base, recipe = _best(cuts, heads)
    texts = texts_to([(text.kind, text.text) for text in exchange.texts])
    made = Pack(response=exchange.response_body, more=more, texts=texts)
    made.body = _filled(recipe, cuts.ends, body, made.body_new, None if base is not None else blob)
    # fields are like those of any exchange of the session, also where the body is another conversation's
    near = base or next((head for head in heads if head.depth < FIELDS_CHAIN), None)
    made.head = _fields(head_marks, exchange.request_headers, near.head if near else None, made.head_new)
    made.answer_head = _fields(
        answer_marks, exchange.response_headers, near.answer_head if near else None, made.answer_head_new
    )
    plain = encode(made)
    data = squeeze(plain, near.plain if near else None)
    return Packed(plain, data, near, base is not None, head_marks, cuts.marks, answer_marks)


def _best(cuts: Cuts, heads: Sequence[Head]) -> tuple[Head | None, list[int]]:
    """The head that has most of the body, and the recipe by it."""
    total = cuts.ends[-1] if cuts.ends else 0
    best, best_recipe, most = None, [NEW, len(cuts.ends)] if cuts.ends else [], 0
    for head in heads:
        if head.depth >= DEPTH_MAX:
            continue
        recipe = runs(cuts.marks, head.body.marks, head.body.places)
        covered = _covered(recipe, cuts.ends)
        if covered > most:
            best, best_recipe, most = head, recipe, covered
        if most > GOOD * total:
            break
    return best, best_recipe


def _covered(recipe: list[int], ends: list[int]) -> int:
    """Bytes that come from the base."""
    covered = place = 0
    for at in range(0, len(recipe), 2):
        count = recipe[at + 1]
        if recipe[at] >= 0:
            covered += ends[place + count - 1] - (ends[place - 1] if place else 0)
        place += count
    return covered


def _filled(
    recipe: list[int], ends: list[int], body: bytes, new: list[bytes], blob: Callable[[bytes], int] | None
) -> list[int]:
    """The recipe with its new pieces taken out of the body."""
    out: list[int] = []
    place = 0
    for at in range(0, len(recipe), 2):
        start, count = recipe[at], recipe[at + 1]
        if start >= 0:
            out += (start, count)
        else:
            for each in range(place, place + count):
                piece = body[ends[each - 1] if each else 0 : ends[each]]
                if blob is not None and len(piece) >= LONG:
                    out += (BLOB, blob(piece))
                    continue
                new.append(piece)
                if out and len(out) >= 2 and out[-2] == NEW:
                    out[-1] += 1
                else:
                    out += (NEW, 1)
        place += count
    return out


def _fields(marks: list[int], fields: Sequence[Field], base: _Marks | None, new: list[Field]) -> list[int]:
    if not marks:
        return []
    recipe = runs(marks, base.marks, base.places) if base is not None else [NEW, len(marks)]
    place = 0
    for at in range(0, len(recipe), 2):
        if recipe[at] < 0:
            new.extend(fields[place : place + recipe[at + 1]])
        place += recipe[at + 1]
    return recipe


def digest(piece: bytes) -> bytes:
    """What a blob is found by."""
    return hashlib.blake2b(piece, digest_size=16).digest()


# --- reading -------------------------------------------------------------------------------------------
class Whole(msgspec.Struct):
    """An exchange's bytes put together again."""

    head: list[Field]
    pieces: list[bytes]
    answer_head: list[Field]
    pack: Pack


class Shelf:
    """Puts exchanges together, keeping what it has read: the exchanges of a session share nearly all of it.

    row: (base, data) of an exchange, or None; blob: a blob's data, or None.
    """

    def __init__(
        self,
        row: Callable[[int], tuple[int, bytes] | None],
        blob: Callable[[int], bytes | None],
        keep_bytes: int = 64 << 20,
    ) -> None:
        self._row, self._blob = row, blob
        self._room = self._keep = keep_bytes
        self._packs: OrderedDict[int, tuple[int, Pack, bytes]] = OrderedDict()
        self._blobs: dict[int, bytes] = {}
        self._last: tuple[int, Whole] | None = None

    def whole(self, exchange: int) -> Whole | None:
        """The exchange, or None where there is no pack of it. Raises StoreError where one is damaged or missing."""
        chain = self._chain(exchange)
        if not chain:
            return None
        made: Whole | None = None
        if self._last is not None:
            # a session is read in its order: the one before is a link of this chain
            known = next((place for place, link in enumerate(chain) if link == self._last[0]), None)
            if known is not None:
                made, chain = self._last[1], chain[:known]
        for link in reversed(chain):
            made = self._made(self._packs[link][1], made)
        assert made is not None
        self._last = (exchange, made)
        self._trim()
        return made

    def replace(self, exchange: int, base: int, plain: bytes, whole: Whole) -> None:
        """The pack of an exchange is another one now; it has as many pieces as before."""
        self._packs[exchange] = (base, whole.pack, plain[:DICTIONARY_BYTES])
        self._last = (exchange, whole)

    def forget(self) -> None:
        """What is stored has changed."""
        self._packs.clear()
        self._blobs.clear()
        self._last = None
        self._room = self._keep

    def pack(self, exchange: int) -> Pack | None:
        """The pack alone, nothing put together: enough for its texts. None and StoreError as for `whole`."""
        chain = self._chain(exchange)
        if not chain:
            return None
        found = self._packs[exchange][1]
        self._trim()
        return found

    def depth(self, exchange: int) -> int:
        """Links below an exchange."""
        return max(0, len(self._chain(exchange)) - 1)

    def plain(self, exchange: int) -> bytes:
        """The beginning of an exchange's pack: what the packs based on it are compressed with."""
        return self._packs[exchange][2] if self._chain(exchange) else b""

    def _chain(self, exchange: int) -> list[int]:
        """The exchange and what is below it, down to the one without a base; all of their packs are read."""
        chain: list[int] = []
        unread: list[tuple[int, int, bytes]] = []
        while exchange:
            if len(chain) == CHAIN_LIMIT:
                raise StoreError("what this exchange is based on has no end")
            chain.append(exchange)
            found = self._packs.get(exchange)
            if found is not None:
                exchange = found[0]
                continue
            row = self._row(exchange)
            if row is None:
                if len(chain) > 1:
                    raise StoreError("a pack that this exchange is based on is missing")
                return []
            unread.append((exchange, *row))
            exchange = row[0]
        for number, base, data in reversed(unread):
            plain = unfold(data, self._packs[base][2] if base else None)
            self._packs[number] = (base, decode(plain), plain[:DICTIONARY_BYTES])
            self._room -= 2 * len(plain)
        return chain

    def _trim(self) -> None:
        """Begin anew where too much is kept; what was put together last stays."""
        if self._room < 0:
            self._packs.clear()
            self._blobs.clear()
            self._room = self._keep

    def _made(self, pack: Pack, base: Whole | None) -> Whole:
        try:
            return Whole(
                head=_followed(pack.head, pack.head_new, base.head if base else []),
                pieces=self._pieces(pack, base.pieces if base else []),
                answer_head=_followed(pack.answer_head, pack.answer_head_new, base.answer_head if base else []),
                pack=pack,
            )
        except IndexError:
            raise StoreError("a stored pack does not fit its base") from None

    def _pieces(self, pack: Pack, base: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        taken = 0
        recipe = pack.body
        for at in range(0, len(recipe), 2):
            start, count = recipe[at], recipe[at + 1]
            if start == BLOB:
                out.append(self._blob_bytes(count))
            elif start == NEW:
                out += _part(pack.body_new, taken, count)
                taken += count
            else:
                out += _part(base, start, count)
        return out

    def _blob_bytes(self, blob: int) -> bytes:
        known = self._blobs.get(blob)
        if known is None:
            data = self._blob(blob)
            if data is None:
                raise StoreError("a blob that this exchange is made of is missing")
            known = self._blobs[blob] = unfold(data)
            self._room -= len(known)
        return known


def _part(pieces: list[Any], start: int, count: int) -> list[Any]:
    found = pieces[start : start + count]
    if len(found) != count:
        raise IndexError
    return found


def _followed(recipe: list[int], new: list[Field], base: list[Field]) -> list[Field]:
    out: list[Field] = []
    taken = 0
    for at in range(0, len(recipe), 2):
        start, count = recipe[at], recipe[at + 1]
        if start == NEW:
            out += _part(new, taken, count)
            taken += count
        else:
            out += _part(base, start, count)
    return out


def head_of(shelf: Shelf, exchange: int) -> Head | None:
    """An exchange that was stored before, as a base for others; None where there is no pack of it."""
    whole = shelf.whole(exchange)
    if whole is None:
        return None
    return Head(
        exchange,
        shelf.plain(exchange),
        [hash(tuple(field)) for field in whole.head],
        [mark(piece) for piece in whole.pieces],
        [hash(tuple(field)) for field in whole.answer_head],
        shelf.depth(exchange),
    )


def shelf(one: Callable[..., Any]) -> Shelf:
    """A shelf over a database: `one(sql, *values)` gives the first row of a statement, or None."""

    def row(exchange: int) -> tuple[int, bytes] | None:
        return one("SELECT base, data FROM packs WHERE exchange = ?", exchange)  # type: ignore[no-any-return]

    def blob(number: int) -> bytes | None:
        found = one("SELECT data FROM blobs WHERE blob = ?", number)
        return None if found is None else found[0]

    return Shelf(row, blob)
