"""JSONL files read back, line by line: ours as facts and bodies, anybody's as numbered bytes. Plain or zstd-compressed.

Must not know what is made of the lines. A damaged line is told and skipped, whatever it holds; memory is bounded by the
longest line that is taken.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from lunaroute.records import Exchange, ToolCall, ToolResult
from lunaroute.stores.lines import VERSION

MAX_LINE = 100 * 1024 * 1024
PACKED = ".zst"
_BLOCK = 1 << 20
_WINDOW = 1 << 27
_BOM = b"\xef\xbb\xbf"
_KINDS = ("session", "request", "response")
_INT_LIMIT = 1 << 63
_FLOAT_LIMIT = 1e12  # milliseconds are added to dates: 30 years are enough


class Trouble(msgspec.Struct, frozen=True):
    """Something that could not be read. `number`: the line, 0 where it is the file. Nothing of the content is in it."""

    path: str
    number: int
    reason: str


class Place(msgspec.Struct, kw_only=True):
    """A text as a line tells it: itself, where it stands in a body, or whose arguments it is."""

    text: str = ""
    request_at: tuple[int, int] | None = None
    response_at: tuple[int, int] | None = None
    call: str | None = None


class PlacedText(Place, kw_only=True):
    """A Text of records."""

    kind: str


class PlacedResult(Place, kw_only=True):
    """A ToolResult of records."""

    id: str
    result_bytes: int = 0
    success: bool | None = None
    seen_ns: int | None = None

    def result(self, text: str) -> ToolResult:
        """With its text."""
        return ToolResult(
            id=self.id, text=text, result_bytes=self.result_bytes, success=self.success, seen_ns=self.seen_ns
        )


class PlacedCall(msgspec.Struct, kw_only=True):
    """A ToolCall of records."""

    id: str
    name: str
    kind: str = "function"
    arguments: str = ""
    arguments_bytes: int = 0
    called_ns: int | None = None
    result: PlacedResult | None = None

    def tool_call(self, result: ToolResult | None) -> ToolCall:
        """With its result."""
        return ToolCall(
            id=self.id, name=self.name, kind=self.kind, arguments=self.arguments,
            arguments_bytes=self.arguments_bytes, called_ns=self.called_ns, result=result,
        )  # fmt: skip


class Line(msgspec.Struct, kw_only=True):
    """One line of ours. `values` by the names of Exchange (`session_id` is `id` of a session line, which has none).

    texts, tool_calls and tool_results are still Placed*: importing.py joins them with the bodies. exact: the body is
    what was stored, byte for byte.
    """

    number: int
    seq: int
    type: str
    id: str
    values: dict[str, Any]
    body: bytes = b""
    exact: bool = True


_TYPES: dict[str, Any] = {field.name: field.type for field in msgspec.structs.fields(Exchange)}
_TYPES |= {"texts": list[PlacedText], "tool_calls": list[PlacedCall], "tool_results": list[PlacedResult]}
_DECODERS = {
    name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items() if name not in ("request_body", "response_body")
}
_NAMES: dict[str, dict[str, str]] = {"session": {}}
for _kind, _model in (("request", "model_requested"), ("response", "model_used")):
    _NAMES[_kind] = {
        "model": _model,
        **{name: f"{_kind}_{name}" for name in ("headers", "bytes", "decode_error")},
    }
_line = msgspec.json.Decoder(dict[str, msgspec.Raw])
_int = msgspec.json.Decoder(int)
_str = msgspec.json.Decoder(str)
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


def packed(path: Path) -> Path:
    """What the compressed file of a JSONL file is called."""
    return path if path.suffix == PACKED else path.with_name(path.name + PACKED)


def found(path: Path) -> Path:
    """The file itself, or the compressed one where only that is there."""
    return packed(path) if not path.exists() and packed(path).exists() else path


def read(path: Path) -> Iterator[Line | Trouble]:
    """The lines of one of our files, `path` or what it has become when it was compressed."""
    path = found(path)
    for each in numbered(path):
        if isinstance(each, Trouble):
            yield each
        else:
            yield from parsed(str(path), *each)


# --- lines of anybody -------------------------------------------------------------------------------
def numbered(path: Path, limit: int = MAX_LINE) -> Iterator[tuple[int, bytes] | Trouble]:
    """The lines that are not blank, with their numbers, without line ends, BOM and the zeros that crashes leave."""
    number = 0
    parts: list[bytes] = []
    size = 0
    try:
        for block in _blocks(path):
            *ended, rest = block.split(b"\n")
            for piece in ended:
                number += 1
                yield from _whole(str(path), number, [*parts, piece], size + len(piece), limit)
                parts, size = [], 0
            size += len(rest)
            if size > limit:
                parts = []  # only its length is of interest now
            elif rest:
                parts.append(rest)
    except OSError as error:
        yield Trouble(str(path), 0, f"it cannot be read: {error.strerror}")
        return
    except (zstandard.ZstdError, EOFError):
        yield Trouble(str(path), number + 1, "the compressed file is damaged or cut here; what follows is lost")
        return
    if size:
        yield from _whole(str(path), number + 1, parts, size, limit)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.suffix != PACKED:
            while block := file.read(_BLOCK):
                yield block
            return
        start = file.read(18)
        file.seek(0)
        promised = zstandard.frame_content_size(start) if start else 0
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(file, read_across_frames=True)
        while block := reader.read(_BLOCK):
            promised -= len(block)
            yield block
        if promised > 0:  # the decoder itself does not mind a file that ends too early
            raise EOFError


def _whole(path: str, number: int, parts: list[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes] | Trouble]:
    if size > limit:
        yield Trouble(path, number, f"a line of {size >> 20} MiB; more than {limit >> 20} MiB are not read")
        return
    line = b"".join(parts)
    if number == 1:
        line = line.removeprefix(_BOM)
    if b"\0" in line[:1] or b"\0" in line[-1:]:
        line = line.strip(b"\0")
        yield Trouble(path, number, "zero bytes, as a crash leaves them")
    line = line.strip(b" \t\r")
    if line:
        yield number, line


# --- lines of ours ----------------------------------------------------------------------------------
def parsed(path: str, number: int, data: bytes) -> Iterator[Line | Trouble]:
    """A line of ours, and what is wrong with it."""
    def trouble(reason: str) -> Trouble:
        return Trouble(path, number, reason)

    try:
        data.decode()  # what is skipped below is not looked at for this
        raw = _line.decode(data)
    except UnicodeDecodeError:
        yield trouble("it is not UTF-8 (cut or damaged)")
        return
    except (msgspec.MsgspecError, RecursionError):
        yield trouble("it is not one JSON object (cut, damaged, or two lines in one)")
        return
    try:
        version, kind = _int.decode(raw["v"]), _str.decode(raw["type"])
        line = Line(number=number, seq=_int.decode(raw["seq"]), type=kind, id=_str.decode(raw["id"]), values={})
    except (KeyError, *_REFUSED):
        yield trouble("it is no line of a LunaRoute recording")
        return
    if version != VERSION:
        yield trouble("it was written by a newer LunaRoute" if version > VERSION else "it has an unknown version")
        return
    if kind not in _KINDS:
        yield trouble("its type is unknown")
        return
    for name, value in raw.items():
        named = _NAMES[kind].get(name, name)
        decoder = _DECODERS.get(named)
        if decoder is None or name == "id":
            continue  # added by a later version, or not a fact
        try:
            said = decoder.decode(value)
        except _REFUSED:
            yield trouble(f"its field {named} cannot be read; it is left out")
            continue
        if _storable(said):
            line.values[named] = said
        else:
            yield trouble(f"its field {named} has a number out of range; it is left out")
    if "body" in raw:
        try:
            line.body, line.exact = _body(data, raw)
        except _REFUSED:
            yield trouble("its body cannot be read; it is left out")
            line.exact = False
    yield line


def _storable(value: Any) -> bool:
    """Whether the numbers in it are such that a database takes them."""
    if isinstance(value, float):
        return abs(value) <= _FLOAT_LIMIT  # false for what is no number, too
    if isinstance(value, int):
        return -_INT_LIMIT <= value < _INT_LIMIT
    if isinstance(value, list | tuple):
        return all(map(_storable, value))
    if isinstance(value, msgspec.Struct):
        return all(_storable(getattr(value, name)) for name in value.__struct_fields__)
    return True


def _body(data: bytes, raw: dict[str, msgspec.Raw]) -> tuple[bytes, bool]:
    """(the body, whether it is byte for byte what was stored)."""
    form = _str.decode(raw["body_form"]) if "body_form" in raw else "json"
    if form == "text":
        return _str.decode(raw["body"]).encode(), True
    if form == "base64":
        return base64.b64decode(_str.decode(raw["body"]), validate=True), True
    body = bytes(raw["body"])
    # as we write it the body is last and stands there as it is, blanks around it and all; a line that another program
    # has rewritten has only the value
    _, mark, rest = data.partition(b',"body_form":"%b","body":' % form.encode())
    if mark and rest.endswith(b"}") and rest[:-1].strip(b" \t") == body:
        return rest[:-1], form == "json"
    return body, False
