"""The observer's end of the control channel, over a real socket pair."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lunaroute.observe.control import REPEAT_S, Control


class Pair:
    def __init__(self) -> None:
        self.relay, theirs = socket.socketpair()
        self.relay.settimeout(5)
        self.now = 0.0
        self.theirs = theirs
        self.control = Control(theirs, lambda: self.now)
        self.lines = self.relay.makefile("rb")

    def say(self, raw: bytes) -> None:
        self.relay.sendall(raw)

    def hear(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.lines.readline())
        return value


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.lines.close()
    pair.relay.close()
    pair.theirs.close()


def test_lines_in_any_pieces(pair: Pair) -> None:
    pair.say(b'{"cmd":"a"}\n{"cmd"')
    assert pair.control.receive() == {"cmd": "a"}
    pair.say(b':"b"}\n')
    assert pair.control.receive() == {"cmd": "b"}


@pytest.mark.parametrize("raw", [b"nonsense\n", b"[1]\n"], ids=["no-json", "no-object"])
def test_nonsense_is_the_end(pair: Pair, raw: bytes) -> None:
    pair.say(raw)
    assert pair.control.receive() is None


def test_requests_are_answered_until_the_relay_hangs_up(pair: Pair) -> None:
    gone = threading.Event()
    thread = pair.control.serve(
        lambda request: {"said": request["cmd"]} if request["cmd"] != "later" else None, gone.set
    )
    pair.say(b'{"id":7,"cmd":"x"}\n{"id":8,"cmd":"later"}\n{"id":9,"cmd":"y"}\n')
    assert [pair.hear(), pair.hear()] == [{"id": 7, "said": "x"}, {"id": 9, "said": "y"}]
    pair.relay.shutdown(socket.SHUT_RDWR)
    assert gone.wait(5)
    thread.join(5)


def test_the_same_warning_is_said_once_in_a_while(pair: Pair) -> None:
    for now in (0.0, 1.0, REPEAT_S - 1, REPEAT_S):
        pair.now = now
        pair.control.log("warn", "trouble", at=now)
    pair.control.log("warn", "other")
    heard = [pair.hear() for _ in range(3)]
    assert [(h["message"], h["fields"].get("at")) for h in heard] == [
        ("trouble", 0.0),
        ("trouble", REPEAT_S),
        ("other", None),
    ]


def test_requests_are_logged_each(pair: Pair) -> None:
    for number in range(3):
        pair.control.log("info", "request", id=number)
    assert [pair.hear()["fields"]["id"] for _ in range(3)] == [0, 1, 2]


def test_a_relay_that_is_gone_does_not_matter(pair: Pair) -> None:
    pair.lines.close()
    pair.relay.close()
    for _ in range(3):
        pair.control.send({"event": "x"})
    assert pair.control.receive() is None
