"""What redaction costs the observer: bodies and streams whole, beside the scanner alone over the same words.

A history that is sent again is not looked through again; a stream is put together, looked through and cut up again.
Times are of the processor, so that a busy machine changes little.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lunaroute._fast.pii import KINDS, Scanner
from lunaroute.config.settings import Pii
from lunaroute.observe.pii import Redactor, redactor_of

ROOT = Path(__file__).resolve().parent.parent
CODE = "".join(file.read_text() for file in sorted((ROOT / "lunaroute").rglob("*.py")))[:1_000_000]
PIECE = 12  # characters of a delta
ROUNDS = 5


def redactor(**more: Any) -> Redactor:
    return redactor_of({**msgspec.to_builtins(Pii()), "enabled": True, **more}, None)


def request() -> bytes:
    """Tool results with code, as an assistant sends them."""
    texts = [CODE[at : at + 5000] for at in range(0, len(CODE), 5000)]
    messages: list[Any] = []
    for number, text in enumerate(texts):
        call = {
            "type": "tool_use",
            "id": f"toolu_{number:024}",
            "name": "Read",
            "input": {"file_path": f"/x/{number}.py"},
        }
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "I look at it."}, call]})
        result = {"type": "tool_result", "tool_use_id": f"toolu_{number:024}", "content": text}
        messages.append({"role": "user", "content": [result]})
    return json.dumps({"model": "m", "system": "You help.", "messages": messages}).encode()


def anthropic(piece: str) -> bytes:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    return b"event: content_block_delta\ndata: " + json.dumps(delta).encode() + b"\n\n"


def chat(piece: str) -> bytes:
    choices = [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1734567890,
        "model": "m",
        "choices": choices,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def stream(event: Callable[[str], bytes]) -> bytes:
    return b"".join(event(CODE[at : at + PIECE]) for at in range(0, len(CODE) // 2, PIECE))


def best(work: Callable[[], object]) -> float:
    """Seconds of the processor."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def test_scanner_alone() -> None:
    raw, scanner = CODE.encode(), Scanner(KINDS)
    print(f"\n{'the scanner alone':<28}{len(raw) / best(lambda: scanner.find(raw)) / 1e6:8.0f} MB/s")


def test_a_request_and_the_same_again() -> None:
    body = request()
    fresh = [redactor() for _ in range(ROUNDS)]
    new = len(body) / best(lambda: fresh.pop().body(body)) / 1e6
    known = redactor()
    known.body(body)
    again = len(body) / best(lambda: known.body(body)) / 1e6
    print(f"\n{'a request':<28}{new:8.0f} MB/s\n{'the same again':<28}{again:8.0f} MB/s")
    assert again > 4 * new, "a history that is sent again is looked through again"


@pytest.mark.parametrize("event", [anthropic, chat])
def test_streams(event: Callable[[str], bytes]) -> None:
    body = stream(event)
    count = len(CODE) // 2 / PIECE
    fresh = [redactor() for _ in range(ROUNDS)]
    taken = best(lambda: fresh.pop().body(body))
    print(
        f"\n{event.__name__ + ' stream':<28}{len(body) / taken / 1e6:8.0f} MB/s, {taken / count * 1e9:.0f} ns an event"
    )
    assert taken / count < 5e-6
