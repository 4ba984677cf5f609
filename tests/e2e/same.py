"""What must be equal: both sides of the proxy in one run, and a run through it beside a run without it.

Both sides of one run are compared byte for byte, with nothing left out but what mission P2 names: Host, hop-by-hop
fields, framing, and the front of the path where the provider's base URL has another. Two runs differ in what a client
draws anew for each, and in nothing else: `Fresh` names those values field by field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.fakes import Request, Tap, Upstream
from tests.messages import Message, answers, requests

Target = Callable[[str], str]


class Pair(NamedTuple):
    """One request with its final answer, as bytes and end-to-end fields. `tunnel`: what followed a 101, both ways."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    answer: str
    answer_headers: tuple[tuple[str, str], ...]
    answer_body: bytes
    tunnel: tuple[bytes, bytes]

    @property
    def status(self) -> int:
        return int(self.answer.split(" ")[1])


def pairs(up: bytes, down: bytes, target: Target = lambda t: t) -> list[Pair]:
    """What one connection carried."""
    asked, rest_up = requests(up)
    given, rest_down = answers(down, asked)
    assert len(asked) == len(given), f"{len(asked)} requests, {len(given)} answers"
    tunnelled = bool(given) and given[-1].status == 101
    assert tunnelled or not rest_up + rest_down, f"bytes after the last message: {(rest_up + rest_down)[:200]!r}"
    found = []
    for request, answer in zip(asked, given, strict=True):
        method, path, version = request.start.split(" ")
        found.append(
            Pair(
                f"{method} {target(path)} {version}", tuple(request.end_to_end()), request.body,
                answer.start, tuple(answer.end_to_end()), answer.body,
                (rest_up, rest_down) if answer.status == 101 else (b"", b""),
            )
        )  # fmt: skip
    return found


def both_sides(tap: Tap, upstream: Upstream, target: Target, local: Callable[[Pair], bool]) -> list[Pair]:
    """Asserts that client and upstream saw the same; returns the client's view. `local`: the proxy's own answers."""
    tap.wait_for(lambda: all(c.done for c in tap.connections), "every connection of the client ends")
    client = [p for c in tap.connections for p in pairs(bytes(c.up), bytes(c.down))]
    mapped = [p for c in tap.connections for p in pairs(bytes(c.up), bytes(c.down), target)]
    server = sorted(p for c in upstream.connections for p in pairs(bytes(c.received), bytes(c.sent)) if not local(p))
    crossed = sorted(p for p in mapped if not local(p))
    for part in Pair._fields:
        assert [getattr(p, part) for p in crossed] == [getattr(p, part) for p in server], f"{part} differs"
    for request in upstream.requests:
        assert request.header("host") == f"127.0.0.1:{upstream.port}"
    return client


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What a client draws anew for each run; all else must be equal.

    `headers`: fields whose whole value is fresh. `keys`: JSON keys with a fresh text or number, also inside JSON that
    is text itself. `patterns`: what is fresh inside a text, by the words around it. `unordered`: JSON keys whose
    members come in no fixed order. `shuffled`: so do the header fields of a handshake. `repeated`: requests of which
    there may be one or several.
    """

    headers: frozenset[str] = frozenset()
    keys: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    unordered: frozenset[str] = frozenset()
    shuffled: bool = False
    repeated: Callable[[Message], bool] = lambda message: False

    def plain(self, request: Request, target: Target = lambda t: t) -> list[Any]:
        """[request line, header fields, bodies] with fresh values named instead of shown."""
        method, path, version = request.start.split(" ")
        shown = [(n, "<fresh>" if n.lower() in self.headers else self._named(v)) for n, v in request.end_to_end()]
        if self.shuffled and request.header("upgrade"):
            shown.sort()
        bodies = [request.content, *request.messages] if request.content else request.messages
        return [f"{method} {target(path)} {version}", shown, [self._body(b) for b in bodies]]

    def _body(self, body: bytes) -> str:
        """Text that shows the order of keys, but where it is not fixed."""
        return self._named(json.dumps(self._ordered(json.loads(body)), ensure_ascii=False))

    def _ordered(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            members = sorted(value.items()) if name in self.unordered else value.items()
            return {k: self._ordered(v, k) for k, v in members}
        return [self._ordered(v) for v in value] if isinstance(value, list) else value

    def _named(self, text: str) -> str:
        for key in self.keys:
            text = re.sub(rf'(\\*"{key}\\*": ?)(\\*"[^"\\]*\\*"|[\d.]+)', rf"\1<{key}>", text)
        for pattern, put in self.patterns:
            text = re.sub(pattern, put, text)
        return text


def like_direct(direct: list[Request], through: list[Request], fresh: Fresh, target: Target) -> None:
    """Asserts that a run through the proxy asked its upstream for what the run without it asked."""
    assert reduced(through, fresh, lambda t: t) == reduced(direct, fresh, target)


def reduced(asked: list[Request], fresh: Fresh, target: Target) -> list[list[Any]]:
    """In order of arrival; what may be asked several times counts once, at the front, since its moment is not fixed."""
    often: list[list[Any]] = []
    for entry in sorted((fresh.plain(r, target) for r in asked if fresh.repeated(r)), key=repr):
        if entry not in often:
            often.append(entry)
    return often + [fresh.plain(r, target) for r in asked if not fresh.repeated(r)]
