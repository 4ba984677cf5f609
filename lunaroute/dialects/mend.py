"""A request body of which only the beginning and the last bytes were kept, as a body that can be read. Pure.

Messages are what makes a request large, so they are what was cut: as many as are whole at either end stay, and what
stands behind them. What is missing is missing without a mark; such a body is for facts, not to be shown.
"""

from __future__ import annotations

import re

import msgspec

# between two messages or items: inside of a string the quotes would be escaped
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{\s*\"(?:role|type|content)\"\s*:)")
_BEHIND = re.compile(
    rb"\]\s*(?=,\s*\"(?:model|system|instructions|tools|tool_choice|metadata|client_metadata|max_tokens|thinking|reasoning"
    rb"|text|store|include|service_tier|prompt_cache_key|previous_response_id|output_config|context_management|stream"
    rb"|stream_options|generate|background|temperature)\"\s*:)"
)
_END = re.compile(rb"\]\s*(?=\}\s*$)")
_LAST = 1024 * 1024  # bytes in which the last whole message is looked for first
_TRIES = 64
_LONG = 512  # bytes: what is longer is a text
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:(")|\\?\Z)|[{}\[\]]', re.DOTALL)
# an escape, or a character of several bytes, that breaks off at the end
_ESCAPE = re.compile(rb"(?:(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)|[\xc0-\xff][\x80-\xbf]{0,2})\Z")
_skip = msgspec.json.Decoder(msgspec.Raw)


def mended(head: bytes, tail: bytes = b"") -> bytes | None:
    """A JSON object of what is whole in both; None where nothing can be made of it. tail: the body's last bytes."""
    begun = _begun(head)
    if begun is None:
        # not even one message is whole
        closed = _closed(head)
        if closed is None or not closed.endswith(b"]}"):
            return closed
        begun = closed[:-2]
    else:
        partial = _closed(head[len(begun) :].lstrip(b" \t\r\n,"))
        begun += b"," + partial if partial else b""
    for behind in (*_BEHIND.finditer(tail), *_END.finditer(tail)):
        # the list's own end is the first from which the rest closes the object in order
        if not _whole(b"{" + tail[behind.end() :].lstrip(b" \t\r\n,")):
            continue
        for between in [*_BETWEEN.finditer(tail, 0, behind.start())][:_TRIES]:
            if _whole(b"[" + tail[between.end() : behind.end()]):
                return begun + b"," + tail[between.end() :]
        return begun + tail[behind.start() :]
    return begun + b"]}"


def _begun(head: bytes) -> bytes | None:
    """The beginning up to the end of its last whole message."""
    for start in (max(0, len(head) - _LAST), 0):
        for between in [*_BETWEEN.finditer(head, start)][: -_TRIES - 1 : -1]:
            begun = head[: between.start() + 1]
            if _whole(begun + b"]}"):
                return begun
    return None


def _closed(text: bytes) -> bytes | None:
    """An object that breaks off inside a long text, with what is open in it closed; None where it does elsewhere: half
    an id is worse than none."""
    if not text.startswith(b"{"):
        return None
    cut = False
    open_: list[bytes] = []
    for token in _TOKEN.finditer(text):
        mark = token[0][:1]
        if mark in b"{[":
            open_.append(b"}" if mark == b"{" else b"]")
        elif mark in b"}]" and open_:
            open_.pop()
        elif mark == b'"' and token[1] is None:
            cut = len(token[0]) >= _LONG
            text = text[:-_LONG] + _ESCAPE.sub(b"", text[-_LONG:]) + b'"'
    text += b"".join(reversed(open_))
    return text if cut and _whole(text) else None


def _whole(text: bytes) -> bool:
    try:
        _skip.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
