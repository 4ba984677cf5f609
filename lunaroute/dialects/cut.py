"""What a JSON object tells of which only the beginning and the end were kept. Pure; must not know any dialect.

The content of an answer is in its middle, what is counted and billed stands before or after it. So the beginning is
read member by member until one does not end, and the end from the first member on that closes the object in order:
what looks like a member but stands inside another value leaves brackets over, and is not taken.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from lunaroute.dialects.values import mapping

_any = msgspec.json.Decoder()
HEAD_BYTES = 256 * 1024
_MEMBER = re.compile(r'[\s,]*"((?:[^"\\]|\\.){1,64})"\s*:\s*')
_LATE = re.compile(
    rb',\s*"(?=(?:id|model|role|status|stop_reason|stop_sequence|usage|service_tier|error|object|created|created_at'
    rb'|system_fingerprint|incomplete_details|output|tools|temperature|top_p|parallel_tool_calls|text|diagnostics)"\s*:)'
)
_REASON = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,64})"')
_TRIES = 64


def outline(head: bytes, tail: bytes) -> dict[str, Any]:
    """The members that could be read, without those in the middle."""
    found = _first(head[:HEAD_BYTES])
    late = _last(tail)
    if (reason := _finish_reason(tail)) and "choices" not in late:
        found["choices"] = [{"index": 0, "finish_reason": reason}]
    return found | late


def _first(head: bytes) -> dict[str, Any]:
    text = head.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
    found: dict[str, Any] = {}
    if not text.startswith("{"):
        return found
    read = json.JSONDecoder(strict=False, parse_constant=lambda name: None).raw_decode
    place = 1
    while match := _MEMBER.match(text, place):
        try:
            value, place = read(text, match.end())
        except (ValueError, RecursionError):
            break
        if place == len(text):
            break  # a number that goes on
        found[match[1]] = value
    return found


def _last(tail: bytes) -> dict[str, Any]:
    """The longest run of whole members at the end."""
    # a wrong candidate fails at its first surplus bracket, and only so many are tried
    for match in list(_LATE.finditer(tail))[-_TRIES:]:
        try:
            return mapping(_any.decode(b"{" + tail[match.start() + 1 :]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return {}


def _finish_reason(tail: bytes) -> str | None:
    reasons = _REASON.findall(tail)
    return reasons[-1].decode() if reasons else None
