"""The golden answers of tests/corpus/answers/: one file per dialect, each case with the facts it must give.

`events` are pairs of a name (null: no `event:` line; ":": a comment) and the data (text as it is, else JSON); a case
with a `document` is a whole answer. Expected facts leave out what is at its default. `sdk`: well-formed by the vendor's
own types, so that the vendor's own client must read the same in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from lunaroute import dialects
from lunaroute.dialects import Facts

FOLDER = Path(__file__).parents[1] / "corpus" / "answers"
Case = dict[str, Any]
GOLDEN: list[Case] = [
    case for name in ("anthropic", "chat", "responses") for case in json.loads((FOLDER / f"{name}.json").read_text())
]


def name_of(case: Case) -> str:
    return f"{case['dialect']}-{case['name']}"


def body_of(case: Case) -> bytes:
    if "document" in case:
        return json.dumps(case["document"], ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join(_event(*event) for event in case["events"])


def _event(name: str | None, value: Any) -> bytes:
    if name == ":":
        return f": {value}\n\n".encode()
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {shown}\n\n".encode()


def expected(case: Case) -> Facts:
    return msgspec.convert(case["facts"], Facts)


def read(dialect: str, *pieces: bytes, text_limit: int | None = None) -> Facts:
    reader = dialects.reader(dialect) if text_limit is None else dialects.reader(dialect, text_limit=text_limit)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()
