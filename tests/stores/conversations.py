"""Conversations as clients send them, from a seed: they grow, are edited, cut, compacted, branched and resent."""

from __future__ import annotations

import json
import random
from typing import Any

from lunaroute.records import Exchange, Text
from tests.stores.records import exchange

KINDS = (
    *("grow", "grow", "grow", "grow", "edit", "cut", "compact", "branch", "again"),
    *("side", "text", "binary", "empty", "cut off", "another's"),
)
Message = dict[str, Any]


class Conversations:
    """Makes one exchange after another; `made` has them by number."""

    def __init__(self, seed: int, sessions: int = 3) -> None:
        self.random = random.Random(seed)
        self.made: dict[int, Exchange] = {}
        self._talks: list[list[Message]] = [[] for _ in range(sessions)]
        self._older: list[list[list[Message]]] = [[] for _ in range(sessions)]
        self._tools = [{"name": f"T{n}", "description": self.words(300)} for n in range(4)]
        self._last = b""

    def words(self, count: int) -> str:
        return " ".join(self.random.choice(WORDS) for _ in range(count))

    def message(self, role: str) -> Message:
        text = self.words(self.random.choice((1, 5, 40, 200)))
        return {"role": role, "content": text if self.random.random() < 0.5 else [{"type": "text", "text": text}]}

    def body(self, session: int, kind: str) -> bytes:
        talk, chance = self._talks[session], self.random
        match kind:
            case "edit" if talk:
                talk[chance.randrange(len(talk))] = self.message("user")
            case "cut" if talk:
                del talk[chance.randrange(len(talk)) :]
            case "compact":
                talk[:] = [self.message("user"), *talk[-2:]]
            case "branch" if self._older[session]:
                talk[:] = chance.choice(self._older[session])
            case "side":
                return json.dumps({"messages": [self.message("user")], "max_tokens": 32}).encode()
            case "text":
                return self.words(300).encode()
            case "binary":
                return chance.randbytes(chance.choice((1, 600, 5000)))
            case "empty":
                return b""
            case "another's":
                return self._last
            case _:
                pass
        if kind != "again":
            talk += [self.message("assistant"), self.message("user")]
        self._older[session].append(list(talk))
        shown = [dict(message) for message in talk]
        if shown and isinstance(shown[-1]["content"], list):
            shown[-1]["content"] = [{**shown[-1]["content"][0], "cache_control": {"type": "ephemeral"}}]
        whole = json.dumps({"tools": self._tools, "messages": shown, "n": len(talk)}).encode()
        self._last = whole
        return whole[: chance.randrange(len(whole))] if kind == "cut off" else whole

    def next(self, session: int, kind: str) -> Exchange:
        number = len(self.made) + 1
        chance = self.random
        body = self.body(session, kind)
        made = exchange(
            number,
            session_id=f"s{session}",
            request_body=body,
            request_bytes=len(body),
            response_body=chance.choice((b"", chance.randbytes(900), f"data: {self.words(50)}\n\n".encode() * 3)),
            request_headers=[
                ("Host", "x"), ("X-Same", "1"), ("x-same", "1"), ("X-Same", "2"), ("Content-Length", str(len(body))),
                *([("Odd", "\xe9\xff"), ("Odd", "")] if chance.random() < 0.2 else []),
            ],
            response_headers=[("Date", f"{number}"), *([("Set-Cookie", "a")] * chance.choice((0, 2)))],
            texts=[Text(kind="prompt", text=f"{canary(number)} {self.words(20)}"), Text(kind="answer", text="common")]
            if chance.random() < 0.9
            else [],
        )  # fmt: skip
        self.made[number] = made
        return made


def canary(number: int) -> str:
    """A word that no other exchange has."""
    return f"qz{number}canary"


WORDS = [
    *("the", "session", "naïve", "file", "def", "return", "\n", "\t{}", '"quoted"', "\\n", "import", "\U0001f600"),
    *(f"w{n}" for n in range(400)),
]  # fmt: skip
