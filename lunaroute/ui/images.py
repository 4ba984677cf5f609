"""Pictures that were sent within a request, one by one, so that a page can show them. Pure.

Only what is a raster image by its first bytes is given out, under its own type: an SVG is a document and stays text.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

from lunaroute.dialects.values import items, loads, mapping
from lunaroute.stores.readonly import NotFound

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (b"GIF87a", "image/gif", "gif"),
    (b"GIF89a", "image/gif", "gif"),
)


class Image(msgspec.Struct, frozen=True):
    """One picture. name: for a file."""

    content: bytes
    media_type: str
    name: str


def image(body: bytes, number: str) -> Image:
    """The picture of that number (from 0, in the order of the request); raises NotFound."""
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise NotFound("Pictures of a request have numbers.")
    for place, coded in enumerate(_coded(loads(body) if body else None)):
        if place == int(number):
            return _image(coded, place)
    raise NotFound("There is no such picture in this request.")


def _image(coded: str, place: int) -> Image:
    try:
        content = base64.b64decode(coded, validate=False)
    except (binascii.Error, ValueError):
        raise NotFound("This picture cannot be read.") from None
    for begin, media_type, ending in _KINDS:
        if content.startswith(begin):
            return Image(content, media_type, f"picture-{place}.{ending}")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Image(content, "image/webp", f"picture-{place}.webp")
    raise NotFound("This is no picture of a kind that is shown.")


def _coded(value: Any) -> Iterator[str]:
    """Every picture in base64 that stands in a message by itself: Anthropic's `source`, and `data:` URLs of OpenAI's.

    In the order, and by the rule, in which transcript.py counts them.
    """
    found = mapping(value)
    for name in ("messages", "input"):
        for message in items(found.get(name)):
            for block in items(mapping(message).get("content")):
                coded = _of_block(mapping(block))
                if coded is not None:
                    yield coded


def _of_block(block: dict[str, Any]) -> str | None:
    """The picture's text, '' of one that is kept elsewhere; None of what is no picture, or has an address."""
    kind = block.get("type")
    if kind == "image":
        source = mapping(block.get("source"))
        coded = source.get("data")
        return None if source.get("url") else coded if isinstance(coded, str) else ""
    if kind not in ("image_url", "input_image"):
        return None
    url = block.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url
    if not isinstance(url, str) or url.startswith("data:"):
        return url.partition(",")[2] if isinstance(url, str) and ";base64," in url[:80] else ""
    return None if url else ""
