"""HTTP/1.1 messages out of a logged stream of bytes, exactly as they came: order, case and framing kept.

Bytes in, values out; no I/O. Strict, so that a peer which frames wrongly makes a test fail here. Knows nothing of
LunaRoute.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import zstandard

# What a proxy may change in a head: connection management and framing (RFC 9110 7.6.1, 9112 6) and Host.
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
FRAMING = frozenset(["content-length", "transfer-encoding"])


@dataclass(kw_only=True)
class Message:
    """One request or answer. `head` runs to the blank line; `raw` is the body as framed, `body` with framing undone."""

    head: bytes
    raw: bytes = b""
    body: bytes = b""
    start: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first, *rest = self.head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        self.start = first.decode("latin-1")
        for line in rest:
            name, colon, value = line.partition(b":")
            assert colon and name.strip() == name, f"not a header line: {line!r}"
            self.headers.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def path(self) -> str:
        return self.target.split("?")[0]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def header(self, name: str) -> str | None:
        values = [v for n, v in self.headers if n.lower() == name]
        return ", ".join(values) if values else None

    def end_to_end(self) -> list[tuple[str, str]]:
        """The header lines that a proxy must hand on as they are, in order."""
        named = {token.strip().lower() for token in (self.header("connection") or "").split(",")}
        return [h for h in self.headers if h[0].lower() not in HOP_BY_HOP | FRAMING | named | {"host"}]

    @property
    def content(self) -> bytes:
        """The body with its content coding undone."""
        return decode(self.body, self.header("content-encoding") or "")

    def json(self) -> Any:
        return json.loads(self.content)


def decode(body: bytes, coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    if coding == "gzip":
        return zlib.decompressobj(wbits=31).decompress(body)
    assert coding in ("", "identity"), f"unexpected content coding {coding}"
    return body


def take_head(data: bytes) -> bytes | None:
    """The first head in data, or None while it is incomplete."""
    end = data.find(b"\r\n\r\n")
    return None if end < 0 else data[: end + 4]


def take_body(message: Message, data: bytes, *, answer_to: str | None = None, ended: bool = False) -> int | None:
    """Sets message.raw and message.body from data; how many bytes that took, or None while more is needed.

    answer_to: the request's method if message is an answer. ended: no more bytes will come.
    """
    if answer_to is not None and (answer_to == "HEAD" or message.status < 200 or message.status in (204, 304)):
        return 0
    if (message.header("transfer-encoding") or "").lower() == "chunked":
        found = chunked(data)
        if found is None:
            return None
        taken, message.body = found
    elif (length := message.header("content-length")) is not None:
        taken = int(length)
        if len(data) < taken:
            return None
        message.body = data[:taken]
    elif answer_to is None:
        taken = 0
    else:
        if not ended:
            return None
        taken, message.body = len(data), data
    message.raw = data[:taken]
    return taken


def chunked(data: bytes) -> tuple[int, bytes] | None:
    """(bytes taken, content) of a whole chunked body without extensions and trailers, None while it is incomplete."""
    at, content = 0, bytearray()
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end], 16)
        if len(data) < end + 2 + size + 2:
            return None
        assert data[end + 2 + size : end + 4 + size] == b"\r\n", "a chunk that does not end where it says"
        content += data[end + 2 : end + 2 + size]
        at = end + 4 + size
        if size == 0:
            return at, bytes(content)


def requests(data: bytes) -> tuple[list[Message], bytes]:
    """Every request that a client sent on one connection, and the bytes after the last (a tunnel's, a cut one's)."""
    found: list[Message] = []
    while (head := take_head(data)) is not None:
        message = Message(head=head)
        taken = take_body(message, data[len(head) :])
        if taken is None:
            break
        found.append(message)
        data = data[len(head) + taken :]
        if message.header("upgrade"):
            break
    return found, data


def answers(data: bytes, asked: list[Message]) -> tuple[list[Message], bytes]:
    """Every answer in what a server sent on one (closed) connection, and the bytes after the last whole one."""
    found: list[Message] = []
    waiting = list(asked)
    while waiting and (head := take_head(data)) is not None:
        message = Message(head=head)
        taken = take_body(message, data[len(head) :], answer_to=waiting[0].method, ended=True)
        if taken is None:
            break
        if message.status >= 200 or message.status == 101:
            waiting.pop(0)
        found.append(message)
        data = data[len(head) + taken :]
        if message.status == 101:
            break
    return found, data
