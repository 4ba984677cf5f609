"""Careful reading of JSON that others wrote. Nothing here raises, whatever the bytes are. Must not know any dialect."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

_any = msgspec.json.Decoder()
_T = TypeVar("_T", bound=msgspec.Struct)

# where a struct cannot take the text (lone surrogates, numbers out of range) the slow, lenient reader is tried
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def loads(data: bytes) -> Any:
    """The JSON value, or None where it is none."""
    try:
        return _any.decode(data)
    except _REFUSED:
        return _lenient(data)


def fields(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T | None:
    """Only the fields of the decoder's struct (all of them of type Any): the rest is skipped, not built."""
    try:
        return decoder.decode(data)
    except _REFUSED:
        value = _lenient(data)
    if not isinstance(value, dict):
        return None
    # no conversion: the fields are of type Any, and readers look twice at every value
    return decoder.type(**{name: value[name] for name in decoder.type.__struct_fields__ if name in value})


def pick(kind: type[_T], value: Any) -> _T:
    """The struct's fields out of an object that has been built: for what its typed decoder could not take."""
    found = mapping(value)
    return kind(**{name: found[name] for name in kind.__struct_fields__ if name in found})


def strict(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T | None:
    """The decoder's struct with its types checked, or None: then `loads` says what there is."""
    try:
        return decoder.decode(data)
    except _REFUSED:
        return None


def _lenient(data: bytes) -> Any:
    try:
        # ValueError: no JSON, or an integer beyond the interpreter's digit limit
        return json.loads(data.decode("utf-8", "replace").removeprefix("\ufeff"), parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None


def dumps(value: Any) -> str:
    """The value as compact JSON text."""
    try:
        return msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, UnicodeEncodeError, TypeError, RecursionError):
        pass
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return ""


def clean(text: str, limit: int | None = None) -> str:
    """Text that any store can take: no lone surrogates, no NUL, at most `limit` characters."""
    if limit is not None:
        text = text[:limit]
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def text(value: Any, limit: int = 256) -> str | None:
    """A short, non-empty string (an id, a model, a reason), else None."""
    return clean(value, limit) if isinstance(value, str) and value else None


def whole(value: Any) -> int | None:
    """A count: an integer from 0 to what a store can hold, else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 62 else None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []
