"""Server-sent events: told when something is recorded, a running answer word by word, nothing while nobody listens."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lunaroute.records import Usage
from lunaroute.stores import queries
from lunaroute.ui import live
from lunaroute.ui.live import Said, more
from tests import recorded
from tests.ui.conftest import Serve, Site

Listen = Callable[..., "Ear"]


class Ear:
    """One page that listens."""

    def __init__(self, site: Site, path: str) -> None:
        self.socket = socket.create_connection((site.address.hostname or "", site.address.port or 0), timeout=10)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {site.address.netloc}\r\n\r\n".encode())
        self.read = b""

    def until(self, word: str, seconds: float = 8.0) -> str:
        """Everything up to and with the block that has this word."""
        end = time.monotonic() + seconds
        while word.encode() not in self.read or not self.read.rstrip(b"\r\n0").endswith(b"}"):
            self.socket.settimeout(max(0.05, end - time.monotonic()))
            self.read += self.socket.recv(65536)
        return self.read.decode()

    def events(self, name: str) -> list[Any]:
        text = self.read.decode()
        return [json.loads(part.split("data: ", 1)[1].split("\n")[0]) for part in text.split(f"event: {name}\n")[1:]]

    def silent(self, seconds: float) -> bool:
        """Whether no event comes in this time."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                self.read += self.socket.recv(65536)
        except TimeoutError:
            pass
        return b"event:" not in self.read


@pytest.fixture
def listen() -> Iterator[Listen]:
    ears: list[Ear] = []

    def go(site: Site, path: str = "/api/live") -> Ear:
        ears.append(Ear(site, path))
        ears[-1].socket.recv(1)
        return ears[-1]

    yield go
    for ear in ears:
        ear.socket.close()


def test_what_is_recorded_is_told_to_whom_it_concerns(serve: Serve, listen: Listen, tmp_path: Path) -> None:
    path = tmp_path / "db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop("mine"))
        site = serve(path)
        everything, mine = site.ask("/api/pulse").json["pulse"], site.ask("/api/pulse?session=mine").json["pulse"]
        all_of_it = listen(site, f"/api/live?seen={everything.replace(' ', '+')}")
        one = listen(site, f"/api/live?session=mine&seen={mine.replace(' ', '+')}")
        assert all_of_it.silent(1.0)
        store.write([recorded.exchange(70, "other")])
        all_of_it.until("event: pulse")
        assert all_of_it.events("pulse")[0]["pulse"] == site.ask("/api/pulse").json["pulse"]
        store.write([recorded.exchange(71, "mine", sequence=71)])
        one.until("event: pulse")
        assert one.events("pulse") == [{"pulse": "71, 0 running"}]


def test_who_comes_late_is_told_at_once(serve: Serve, listen: Listen, tmp_path: Path) -> None:
    ear = listen(serve(recorded.write(tmp_path / "db", recorded.tool_loop())), "/api/live?seen=something+old")
    ear.until("event: pulse")
    assert "text/event-stream" in ear.read.decode() and "retry: 2000" in ear.read.decode()


def test_a_running_answer_comes_word_by_word(serve: Serve, listen: Listen, tmp_path: Path) -> None:
    ident = f"{recorded.BOOT}-5"
    whole = recorded.stream(
        recorded.thinking("hmm"), recorded.text("It is done."), recorded.call("c", "Bash", command="ls")
    )
    pieces = [part + b"\n\n" for part in whole.split(b"\n\n") if part]
    came: list[bytes] = []

    def running(asked: str, with_request: bool) -> tuple[str, bytes, bytes] | None:
        return ("anthropic", recorded.ask([recorded.user("Do it.")]), b"".join(came)) if asked == ident else None

    made = recorded.exchange(5, "s", sequence=1, state=None, usage=Usage())
    site = serve(recorded.write(tmp_path / "db", [made]), running=running)
    page = site.ask("/sessions/s").text
    assert "Do it." in page and f'data-exchange="{ident}"' in page
    ear = listen(site, "/api/live?session=s&seen=")
    for piece in pieces:
        came.append(piece)
        time.sleep(0.02)
    ear.until('"ls')
    shown: dict[int, str] = {}
    for event in ear.events("answer"):
        assert event["exchange"] == ident
        for said in event["said"]:
            assert said["at"] in (0, len(shown.get(said["block"], "")))
            shown[said["block"]] = shown.get(said["block"], "")[: said["at"]] + said["text"]
    assert (shown[0], shown[1]) == ("hmm", "It is done.") and "ls" in shown[2]


def test_only_what_is_new_is_told() -> None:
    blocks = [("text", None, "Hello"), ("tool_call", "Bash", "{}")]
    assert list(more(blocks, [])) == [Said(0, "text", None, 0, "Hello"), Said(1, "tool_call", "Bash", 0, "{}")]
    assert list(more(blocks, [3, 2])) == [Said(0, "text", None, 3, "lo")]
    assert list(more(blocks, [9, 2])) == [Said(0, "text", None, 0, "Hello")]  # another attempt's answer


def test_nothing_is_looked_at_while_nobody_listens(
    serve: Serve, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    real = live._Look.once
    monkeypatch.setattr(
        live._Look, "once", lambda self, sessions: (looks.append(time.monotonic()), real(self, sessions))[1]
    )
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    time.sleep(1.0)
    assert looks == []
    ears = [listen(site) for _ in range(20)]
    time.sleep(1.5)
    count = len(looks)
    assert 1 <= count <= 6, "one watcher for all"
    for ear in ears:
        ear.socket.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and time.monotonic() - looks[-1] < 2:
        time.sleep(0.2)
    assert time.monotonic() - looks[-1] >= 2, "it goes on after the last page has gone"


def test_an_unchanged_database_is_not_asked_again(
    serve: Serve, listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    real = queries.pulse
    monkeypatch.setattr(queries, "pulse", lambda db, session=None: (asked.append(session), real(db, session))[1])
    ear = listen(serve(recorded.write(tmp_path / "db", recorded.tool_loop())))
    ear.until("event: pulse")
    time.sleep(1.5)
    assert len(asked) == 1


def test_a_database_that_comes_later_or_is_moved_is_found(serve: Serve, listen: Listen, tmp_path: Path) -> None:
    path = tmp_path / "db"
    ear = listen(serve(path))
    assert ear.silent(0.6)
    recorded.write(path, recorded.tool_loop())
    ear.until("event: pulse")
    path.rename(tmp_path / "old")
    recorded.write(path, [recorded.exchange(500, "newer")])
    ear.read = b""
    ear.until("event: pulse")


@pytest.mark.parametrize("session", ["..%2fx", "a" * 65, "%00"])
def test_odd_sessions_are_refused(serve: Serve, session: str) -> None:
    assert serve().ask(f"/api/live?session={session}").status == 404


def test_listeners_need_a_token_where_there_are_tokens(serve: Serve) -> None:
    site = serve(access_tokens=["a-token-for-tests"])
    assert site.ask("/api/live").status == 401
    assert site.ask("/api/live", Sec_Fetch_Site="cross-site").status == 403
