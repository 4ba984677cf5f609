"""Messages of realistic size and shape: what an official SDK sends and what a provider behind its CDN answers.

Dummy credentials only. Pure: bytes, no I/O.
"""

from __future__ import annotations

HOST = "127.0.0.1:8081"
KEY = "sk-ant-api03-" + "0" * 64 + "-000000AA"

REQUEST_HEAD = """\
POST /v1/messages HTTP/1.1
Host: {host}
Accept: application/json
Accept-Encoding: gzip, deflate
Connection: keep-alive
User-Agent: Anthropic/Python 2.12.0
X-Stainless-Lang: python
X-Stainless-Package-Version: 2.12.0
X-Stainless-OS: Linux
X-Stainless-Arch: x64
X-Stainless-Runtime: CPython
X-Stainless-Runtime-Version: 3.11.2
X-Stainless-Async: false
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
x-api-key: {key}
anthropic-version: 2023-06-01
{extra}Content-Type: application/json
Content-Length: {size}

"""

ANSWER_HEAD = """\
HTTP/1.1 200 OK
Date: Sun, 23 Nov 2025 10:00:00 GMT
Content-Type: {kind}
{framing}
Connection: keep-alive
anthropic-ratelimit-requests-limit: 4000
anthropic-ratelimit-requests-remaining: 3999
anthropic-ratelimit-requests-reset: 2025-11-23T10:00:00Z
anthropic-ratelimit-input-tokens-limit: 400000
anthropic-ratelimit-input-tokens-remaining: 398000
anthropic-ratelimit-input-tokens-reset: 2025-11-23T10:00:00Z
anthropic-ratelimit-output-tokens-limit: 80000
anthropic-ratelimit-output-tokens-remaining: 80000
anthropic-ratelimit-output-tokens-reset: 2025-11-23T10:00:00Z
anthropic-ratelimit-tokens-limit: 480000
anthropic-ratelimit-tokens-remaining: 478000
anthropic-ratelimit-tokens-reset: 2025-11-23T10:00:00Z
request-id: req_000000000000000000000000
strict-transport-security: max-age=31536000; includeSubDomains; preload
anthropic-organization-id: 00000000-0000-4000-8000-000000000000
x-envoy-upstream-service-time: 1234
via: 1.1 google
cf-cache-status: DYNAMIC
X-Robots-Tag: none
Server: cloudflare
CF-RAY: 0000000000000000-FRA
set-cookie: _cfuvid=00000000000000000000000000000000000000000000; path=/; domain=.api.anthropic.com; HttpOnly; Secure

"""

DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":" and a few more words"}}\n\n'
)


def _lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("ascii")


def prompt(size: int) -> bytes:
    """A request body of exactly `size` bytes."""
    start = b'{"model":"claude-sonnet-4-5","max_tokens":1024,"messages":[{"role":"user","content":"'
    end = b'"}]}'
    return start + (b"word " * (size // 5 + 1))[: size - len(start) - len(end)] + end


def request(size: int = 2048, extra: str = "", host: str = HOST) -> bytes:
    """A request, head and body. extra: further header lines, each with its line end."""
    return _lines(REQUEST_HEAD.format(host=host, key=KEY, extra=extra, size=size)) + prompt(size)


def answer_body(size: int) -> bytes:
    """An answer's body of exactly `size` bytes."""
    start = (
        b'{"id":"msg_0","type":"message","role":"assistant","model":"claude-sonnet-4-5",'
        b'"content":[{"type":"text","text":"'
    )
    end = (
        b'"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2095,'
        b'"cache_creation_input_tokens":0,"cache_read_input_tokens":1024,"output_tokens":503}}'
    )
    return start + (b"The answer goes on. " * (size // 20 + 1))[: size - len(start) - len(end)] + end


def answer(size: int = 2048) -> bytes:
    """A whole JSON answer."""
    return _lines(ANSWER_HEAD.format(kind="application/json", framing=f"Content-Length: {size}")) + answer_body(size)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def stream(chunks: int) -> list[bytes]:
    """A streamed answer as it comes from a socket: the head, one piece for each event, the end."""
    head = _lines(ANSWER_HEAD.format(kind="text/event-stream; charset=utf-8", framing="Transfer-Encoding: chunked"))
    return [head, *[chunk(DELTA)] * chunks, b"0\r\n\r\n"]
