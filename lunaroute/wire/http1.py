"""HTTP/1.1 values that are rare enough for Python: the Host field, our own answers, the WebSocket handshake. No I/O.

The scanning and rewriting of heads is in `_fast/http1.pyx`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from http import HTTPStatus

import msgspec

AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    508: "api_error",
}


def host_of(value: bytes) -> str | None:
    """The host of a Host field (RFC 3986 3.2.2, 9110 7.2): lower case, no port, no last dot; None where malformed."""
    found = AUTHORITY.fullmatch(value)
    if found is None or (found[2] is not None and int(found[2]) > 65535):
        return None
    return found[1].decode("ascii").lower().rstrip(".") or None


def answer(
    status: int,
    body: bytes,
    *,
    content_type: str = "application/json",
    close: bool = False,
    head: bool = False,
    fields: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A whole answer of our own."""
    lines = [f"HTTP/1.1 {status} {_reason(status)}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head else body)


def error(
    status: int, message: str, path: bytes, *, written: bool = False, close: bool = False, head: bool = False
) -> bytes:
    """An error in the dialect of the path. written: the provider may have seen the request, so that a client that tried
    again might pay twice; both vendors' SDKs obey `x-should-retry` (security.md M3)."""
    fields: list[tuple[str, str]] = []
    if written and status >= 500:
        fields.append(("x-should-retry", "false"))
    if status == 426:
        fields.append(("Upgrade", "HTTP/1.1"))
    return answer(status, error_body(status, message, path), close=close, head=head, fields=tuple(fields))


def error_body(status: int, message: str, path: bytes) -> bytes:
    """One short JSON object: Anthropic's form on its paths, OpenAI's elsewhere."""
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    text = f"LunaRoute: {message}"
    if path.startswith(b"/v1/messages"):
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": text}})
    return msgspec.json.encode({"error": {"message": text, "type": kind, "param": None, "code": None}})


def accept_key(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID, usedforsecurity=False).digest())


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
