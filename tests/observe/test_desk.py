"""The desk by itself: orders at a real socket, a scripted work, and clients that are rude."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lunaroute.errors import StartError, StoreError
from lunaroute.observe.desk import MAX_CLIENTS, MAX_LINE, MAX_PATH, STOPPED, Desk, desk_path, is_ours

PATIENCE = 20.0
Json = dict[str, Any]


class Bench:
    """A desk whose steps are done here. Its work counts to order["steps"]; `log` says what happened."""

    def __init__(self, path: Path) -> None:
        self.bell = threading.Event()
        self.log: list[tuple[Any, ...]] = []
        self.desk = Desk(path, self.work, self.bell.set)

    def work(self, order: Json) -> Generator[tuple[int, int], None, Json]:
        name = order.get("name")
        self.log.append(("begin", name))
        if order.get("fail") == "words":
            raise StoreError("the disk is full")
        if order.get("fail") == "bug":
            raise RuntimeError("secret words")
        try:
            for number in range(order.get("steps", 0)):
                yield number, order["steps"]
            self.log.append(("end", name))
        except GeneratorExit:
            self.log.append(("given up", name))
            raise
        return {"name": name}

    def until(self, fact: Callable[[], Any]) -> None:
        """Do steps, and wait for the next order where there are none, until it is so."""
        while not fact():
            if not self.desk.step():
                assert self.bell.wait(PATIENCE), self.log
                self.bell.clear()


    def queued(self, count: int) -> None:
        """Wait, and do nothing, until so many orders wait."""
        while len(self.desk._jobs) < count:
            assert self.bell.wait(PATIENCE)
            self.bell.clear()


class Client:
    """One connection. What it is told arrives in a thread of its own."""

    def __init__(self, path: Path, line: bytes = b"") -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        if line:
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                self.socket.sendall(line)

    def lines(self) -> list[Json]:
        """All that it is told until the desk hangs up."""
        with self.socket, self.socket.makefile("rb") as file:
            try:
                return [json.loads(line) for line in file]
            except ConnectionError:
                return []


def order(**what: Any) -> bytes:
    return json.dumps(what).encode() + b"\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(desk_path(tmp_path, tmp_path / "sessions.db"))
    made.desk.open()
    yield made
    made.desk.close()
    assert not made.desk.path.exists()


def test_an_order_is_worked_on_and_answered(bench: Bench) -> None:
    client = Client(bench.desk.path, order(name="a", steps=3))
    bench.until(lambda: ("end", "a") in bench.log)
    *progress, last = client.lines()
    assert last == {"ok": {"name": "a"}}
    assert all(said.keys() == {"done", "total"} and said["total"] == 3 for said in progress)


@pytest.mark.parametrize(
    ("what", "words"),
    [({"fail": "words"}, "the disk is full"), ({"fail": "bug"}, "it could not be done: RuntimeError in test_desk.py")],
)
def test_a_failure_is_told_in_words_and_ends_nothing(bench: Bench, what: Json, words: str) -> None:
    first = Client(bench.desk.path, order(name="a", **what))
    bench.until(lambda: ("begin", "a") in bench.log)
    (said,) = first.lines()
    assert said["error"].startswith(words) and "secret" not in said["error"]
    second = Client(bench.desk.path, order(name="b"))
    bench.until(lambda: ("end", "b") in bench.log)
    assert second.lines() == [{"ok": {"name": "b"}}]


def test_orders_are_done_one_after_the_other(bench: Bench) -> None:
    clients = []
    for count, name in enumerate("abc", start=1):
        clients.append(Client(bench.desk.path, order(name=name, steps=5)))
        bench.queued(count)
    bench.until(lambda: ("end", "c") in bench.log)
    assert [client.lines()[-1]["ok"]["name"] for client in clients] == ["a", "b", "c"]
    assert bench.log == [(how, name) for name in "abc" for how in ("begin", "end")]


def test_who_hangs_up_gives_up_the_rest(bench: Bench) -> None:
    client = Client(bench.desk.path, order(name="endless", steps=1 << 60))
    with client.socket.makefile("rb") as file:
        told = threading.Thread(target=file.readline)
        told.start()
        bench.until(lambda: not told.is_alive())
    client.socket.close()
    bench.until(lambda: ("given up", "endless") in bench.log)
    after = Client(bench.desk.path, order(name="b"))
    bench.until(lambda: ("end", "b") in bench.log)
    assert after.lines() == [{"ok": {"name": "b"}}]


def test_an_order_that_waits_can_be_taken_back(bench: Bench) -> None:
    first = Client(bench.desk.path, order(name="endless", steps=1 << 60))
    bench.until(lambda: ("begin", "endless") in bench.log)
    second = Client(bench.desk.path, order(name="second"))
    bench.until(lambda: bench.desk._jobs)
    waiting = bench.desk._jobs[0]
    second.socket.close()
    bench.until(lambda: waiting.gone)
    first.socket.close()
    bench.until(lambda: ("given up", "endless") in bench.log)
    last = Client(bench.desk.path, order(name="last"))
    bench.until(lambda: ("end", "last") in bench.log)
    assert last.lines() == [{"ok": {"name": "last"}}]
    assert ("begin", "second") not in bench.log


HOSTILE = {
    "nothing": b"\n",
    "no JSON": b"delete everything\n",
    "no object": b'["delete"]\n',
    "a number": b"1e999\n",
    "deep": b"[" * 500_000 + b"\n",
    "zeros": b"\0" * 1000 + b"\n",
    "no UTF-8": b'{"cmd": "\xff\xfe"}\n',
    "half a surrogate": b'{"cmd": "\\ud800"}\n',
    "too long": b"x" * (MAX_LINE + 100_000),
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_lines_are_refused(bench: Bench, line: bytes) -> None:
    said = Client(bench.desk.path, line).lines()
    assert said == [] or (len(said) == 1 and "order" in said[0]["error"])
    after = Client(bench.desk.path, order(name="b"))
    bench.until(lambda: ("end", "b") in bench.log)
    assert after.lines() == [{"ok": {"name": "b"}}]
    assert [entry for entry in bench.log if entry[0] == "begin"] == [("begin", "b")]


def test_who_comes_when_too_many_wait_is_sent_away(bench: Bench) -> None:
    silent = [Client(bench.desk.path) for _ in range(MAX_CLIENTS)]
    assert Client(bench.desk.path).lines() == []
    for client in silent:
        client.socket.close()
    said: list[Json] = []
    while not said:  # the desk sees one after the other that they have gone
        after = Client(bench.desk.path, order(name="b"))
        told = threading.Thread(target=lambda client=after: said.extend(client.lines()))
        told.start()
        while told.is_alive():
            bench.desk.step()
            told.join(0.01)
    assert said == [{"ok": {"name": "b"}}]


def test_a_client_that_does_not_listen_holds_up_nobody(bench: Bench) -> None:
    deaf = Client(bench.desk.path, order(name="deaf" * 200_000, steps=1))
    bench.until(lambda: any(entry[0] == "end" for entry in bench.log))
    after = Client(bench.desk.path, order(name="b"))
    bench.until(lambda: ("end", "b") in bench.log)
    assert after.lines() == [{"ok": {"name": "b"}}]
    assert deaf.lines()[-1] == {"ok": {"name": "deaf" * 200_000}}


def test_at_the_end_everybody_is_told(tmp_path: Path) -> None:
    bench = Bench(desk_path(tmp_path, tmp_path / "sessions.db"))
    bench.desk.open()
    first = Client(bench.desk.path, order(name="a", steps=1 << 60))
    bench.until(lambda: ("begin", "a") in bench.log)
    second = Client(bench.desk.path, order(name="b"))
    bench.until(lambda: bench.desk._jobs)
    bench.desk.close()
    assert first.lines()[-1] == second.lines()[-1] == {"error": STOPPED}
    assert ("given up", "a") in bench.log and not bench.desk.path.exists()


# --- the socket -------------------------------------------------------------------------------------------------------
def test_it_is_for_its_owner_alone(bench: Bench) -> None:
    found = bench.desk.path.stat()
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(bench.desk.path.parent.stat().st_mode) == 0o700
    client = Client(bench.desk.path)
    assert is_ours(client.socket)
    client.socket.close()


def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = desk_path(tmp_path, tmp_path / "sessions.db")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))
    bench = Bench(path)
    bench.desk.open()
    client = Client(path, order(name="a"))
    bench.until(lambda: ("end", "a") in bench.log)
    assert client.lines() == [{"ok": {"name": "a"}}]
    bench.desk.close()


@pytest.mark.parametrize("what", ["file", "link", "folder open to others"])
def test_what_is_not_ours_is_refused(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    path = folder / "d.sock"
    if what == "file":
        path.write_text("precious")
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        folder.chmod(0o777)
    with pytest.raises(StartError):
        Bench(path).desk.open()
    assert what != "file" or path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_it_is_the_database_that_names_the_desk(tmp_path: Path) -> None:
    home = Path("/h")
    assert desk_path(home, tmp_path / "a.db") != desk_path(home, tmp_path / "b.db")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert desk_path(home, tmp_path / "link" / "a.db") == desk_path(home, tmp_path / "real" / "a.db")
    assert desk_path(home, tmp_path / "a.db").parent == Path("/h/run")


def test_a_name_too_long_for_a_socket_goes_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    path = desk_path(home, home / "sessions.db")
    assert len(os.fsencode(path)) <= MAX_PATH and path.parent == Path(f"/tmp/lunaroute-{os.geteuid()}")
    bench = Bench(path)
    bench.desk.open()
    client = Client(path, order(name="a"))
    bench.until(lambda: ("end", "a") in bench.log)
    assert client.lines() == [{"ok": {"name": "a"}}]
    bench.desk.close()
    assert not path.exists()
