"""The whole input of a Responses request that only says what is new since `previous_response_id`. Pure; never raises.

Whoever reads has the bodies of the exchanges from the oldest to the one in question; instructions and tools are not
carried over by the API, so they stay those of the last request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from lunaroute.dialects import openai_responses
from lunaroute.dialects.values import dumps, fields, items, loads, mapping, whole
from lunaroute.wire.sse import BOM, SseReader

# a turn of its own per tool call: no conversation is longer
MAX_CHAIN = 2000
_COMPACTED = ("compaction", "compaction_summary")


class WholeInput(NamedTuple):
    """What the model saw. complete: whether the first request of the chain is there, and every body could be read."""

    items: list[Any]
    complete: bool


class _Asked(msgspec.Struct):
    input: Any = None
    previous_response_id: Any = None


_asked = msgspec.json.Decoder(_Asked)
_FETCHED = _Asked(previous_response_id=True)


def chain_of(exchange: str, continued: Callable[[str], str | None], limit: int = MAX_CHAIN) -> list[str]:
    """Ids from the oldest to this one; `continued` tells which exchange another goes on from."""
    found = [exchange]
    seen = {exchange}
    while len(found) < limit:
        above = continued(found[-1])
        if above is None or above in seen:
            break
        seen.add(above)
        found.append(above)
    return found[::-1]


def whole_input(chain: Sequence[tuple[bytes, bytes]]) -> WholeInput:
    """The input items of the last request in (request body, response body) pairs, oldest first.

    What was said before a compaction is not seen again; a request that names no earlier answer brings all by itself.
    """
    said: list[Any] = []
    complete = True
    for number, (asked_body, answered_body) in enumerate(chain):
        # a response that was fetched later was asked for by the request before
        asked = fields(_asked, asked_body) if asked_body or number == 0 else _FETCHED
        if asked is None:
            complete = False
            continue
        if not asked.previous_response_id:
            said, complete = [], True
        elif number == 0:
            complete = False
        said += _input(asked.input)
        if number == len(chain) - 1:
            break
        output = _output(answered_body)
        if output is None:
            complete = False
            continue
        last = max((place for place, item in enumerate(output) if _compacts(item)), default=None)
        if last is not None:
            said, complete = [], True
            output = output[last:]
        said += output
    return WholeInput(said, complete)


def whole_body(chain: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The last request's body as if it had said everything; as it is where it did, or is none."""
    if not chain:
        return b""
    body = chain[-1][0]
    asked = loads(body)
    if not isinstance(asked, dict) or not asked.get("previous_response_id"):
        return body
    rest = {key: value for key, value in asked.items() if key != "previous_response_id"}
    return dumps({**rest, "input": whole_input(chain).items}).encode("utf-8", "replace") or body


def _input(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return items(given)


def _compacts(item: Any) -> bool:
    return mapping(item).get("type") in _COMPACTED


def _output(body: bytes) -> list[Any] | None:
    """The items of an answer: of a document, or of a stream as far as it came; None where there is no answer."""
    start = body[:4096].removeprefix(BOM).lstrip()
    if start[:1] == b"{":
        value = mapping(loads(body))
        # an answer that runs in the background wraps nothing; one of a gateway may sit in `response`
        output = value.get("output", mapping(value.get("response")).get("output"))
        return output if isinstance(output, list) else None
    done: dict[int, Any] = {}
    begun = False
    reader = SseReader()
    for event in (*reader.feed(body), *reader.finish()):
        kind = openai_responses.kind_of(event.event, event.data)
        if kind == "response.created":
            begun = True
        elif kind == "response.output_item.done":
            value = mapping(loads(event.data))
            done[whole(value.get("output_index")) or 0] = value.get("item")
        elif kind in openai_responses.FINAL:
            begun = True
            final = items(mapping(mapping(loads(event.data)).get("response")).get("output"))
            if final:
                return final
    return [item for _, item in sorted(done.items())] if begun or done else None
