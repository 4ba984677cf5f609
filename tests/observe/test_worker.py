"""The real observer process over a real ring: ready, records, questions, stop, a dead relay, a killed observer."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lunaroute import tap
from lunaroute._fast.ring import Writer
from lunaroute.config.settings import Pii
from tests.observe.events import MS, Event, answer, ask, attempt, closed, message, opened, post

RESTARTS = tap.COUNTERS.index("observer_restarts_total")
SECRET = "sk-configured-secret-value"


class Relay:
    """The relay's side: a ring, and an observer over it."""

    def __init__(self, folder: Path, size: int = 1 << 20, **recording: Any) -> None:
        self.folder = folder
        self.ring = Writer(size)
        self.config = {
            "providers": {"anthropic": {}, "openai": {}},
            "session_recording": {
                "enabled": True,
                "sqlite": {
                    "enabled": True,
                    "path": str(folder / "sessions.db"),
                    "retention": {"max_age_days": 36500, "max_size_mb": 1024},
                },
                "jsonl": {
                    "enabled": True,
                    "directory": str(folder / "sessions"),
                    "retention": {"max_age_days": 30, "max_size_mb": 1024, "compress_after_days": 3},
                },
                "capture_limit_mb": 1,
                "pii": msgspec.to_builtins(Pii()),
                **recording,
            },
            "ui": {"enabled": False, "host": "127.0.0.1", "port": 0},
            "logging": {"level": "info", "log_requests": False},
            "allowed_hosts": [],
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.number = 0
        self.logs: list[dict[str, Any]] = []

    def start(self) -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(20)
        self.lines = self.control.makefile("rb")
        fds = (self.ring.ring_fd, self.ring.wake_fd, theirs.fileno())
        command = [sys.executable, "-m", "lunaroute.observe.worker"]
        for name, fd in zip(("--ring", "--wake", "--control"), fds, strict=True):
            command += [name, str(fd)]
        self.process = subprocess.Popen(command, pass_fds=fds, stderr=subprocess.PIPE)
        theirs.close()
        start = {"cmd": "start", "config": self.config, "secrets": [SECRET], "access_tokens": [], "version": "0"}
        about = {"boot_id": self.ring.boot_id, "home": str(self.folder), "proxy_url": "", "started_at_ns": 1}
        self.send({**start, **about})
        self.hear("event", "ready")

    def send(self, value: dict[str, Any]) -> None:
        self.control.sendall(json.dumps(value).encode() + b"\n")

    def hear(self, key: str, value: Any) -> dict[str, Any]:
        """The next message with that value; log lines on the way are kept."""
        for line in self.lines:
            said: dict[str, Any] = json.loads(line)
            if said.get(key) == value:
                return said
            self.logs.append(said)
        raise AssertionError(f"the observer hung up before {key} = {value}: {self.stderr()}")

    def ask(self, **request: Any) -> dict[str, Any]:
        self.number += 1
        self.send({"id": self.number, **request})
        return self.hear("id", self.number)

    def tell(self, events: Iterable[Event]) -> None:
        for event in events:
            assert self.ring.event(*event), "the ring is full"

    def until(self, query: str, value: Any) -> None:
        """Wait for the database to say so."""
        deadline = time.monotonic() + 20
        while self.rows(query) != value:
            assert time.monotonic() < deadline, (self.rows(query), value)
            assert self.process is not None and self.process.poll() is None, self.stderr()
            self.ask(cmd="status")  # a round trip, during which the observer has the processor

    def stop(self) -> None:
        self.ask(cmd="stop", timeout_s=10)
        assert self.wait() == 0, self.stderr()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(20)

    def stderr(self) -> str:
        assert self.process is not None and self.process.stderr is not None
        return self.process.stderr.read().decode() if self.process.poll() is not None else ""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{self.folder / 'sessions.db'}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def lines_of(self, session: str = "*") -> list[dict[str, Any]]:
        paths = sorted(self.folder.glob(f"sessions/*/session_{session}.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]

    def hang_up(self) -> None:
        self.lines.close()
        self.control.close()

    def end(self) -> None:
        self.hang_up()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "data")
    relay.start()
    yield relay
    relay.end()


def test_records_answers_and_stops(relay: Relay) -> None:
    relay.tell(post(1, f"/v1/messages?key={SECRET}", ask(f"my key is {SECRET}"), message()))
    relay.until("SELECT state, input_tokens, output_tokens FROM exchanges", [("ok", 12, 7)])
    status = relay.ask(cmd="status")
    assert status["ok"] and [s["name"] for s in status["stores"] if s["ok"]] == ["jsonl", "sqlite"]
    assert (status["dropped"]["tap_dropped_events_total"], status["ui"]["ok"]) == (0, False)
    text = relay.ask(cmd="metrics")["text"]
    wanted = 'provider="anthropic",state="ok",status_class="2xx"} 1.0'
    assert f'lunaroute_requests_total{{dialect="anthropic",model="claude-opus-5-5",{wanted}' in text
    assert status["lag_bytes"] == status["lag_seconds"] == status["open_exchanges"] == 0
    assert "lunaroute_observer_lag_bytes 0.0" in text and "lunaroute_start_time_seconds 1e-09" in text
    relay.stop()
    assert relay.ring.used() == 0
    assert [line["type"] for line in relay.lines_of()] == ["session", "request", "response"]
    for path in relay.folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_stop_reads_the_ring_to_its_end_and_closes_what_is_open(relay: Relay) -> None:
    relay.tell(event for number in range(1, 40) for event in post(number, "/v1/messages", ask(), message()))
    relay.tell(post(40, "/v1/messages", ask(), message()[:300])[:-1])
    relay.ring.close()
    relay.stop()
    assert relay.rows("SELECT state, count(*) FROM exchanges GROUP BY state ORDER BY 2") == [
        ("interrupted", 1),
        ("ok", 39),
    ]
    assert relay.rows("SELECT usage_state, input_tokens FROM exchanges WHERE state = 'interrupted'") == [
        ("partial", 12)
    ]


def test_a_dead_relay_leaves_interrupted_exchanges(relay: Relay) -> None:
    relay.tell([*post(1, "/v1/messages", ask(), message()), *post(2, "/v1/messages", ask(), message()[:300])[:-1]])
    relay.hang_up()
    assert relay.wait() == 0
    assert relay.rows("SELECT state, error FROM exchanges ORDER BY id") == [
        ("ok", None),
        ("interrupted", "the proxy process ended"),
    ]


def test_a_killed_observer_loses_nothing(relay: Relay) -> None:
    first, rest = (post(n, "/v1/messages", ask(f"question {n}"), message()) for n in (1, 2))
    relay.tell(first)
    relay.tell(rest[:5])
    relay.until("SELECT count(*) FROM exchanges WHERE session_id IS NOT NULL", [(2,)])
    assert relay.process is not None
    relay.process.kill()
    relay.wait()
    relay.tell(rest[5:])
    relay.tell(post(3, "/v1/messages", ask("question 3"), message()))
    relay.end()
    relay.ring.add(RESTARTS)
    relay.start()
    relay.stop()
    assert relay.rows("SELECT state, count(*) FROM exchanges GROUP BY state") == [("ok", 3)]
    assert relay.rows("SELECT sum(requests), sum(input_tokens), count(*) FROM sessions") == [(3, 36, 3)]
    boot = relay.ring.boot_id
    for number in (1, 2, 3):
        kinds = [line["type"] for line in relay.lines_of(f"{boot}-{number}")]
        assert kinds == ["session", "request", "response"], number


def test_a_former_run_s_open_rows_are_closed_at_start(relay: Relay, tmp_path: Path) -> None:
    relay.tell(post(1, "/v1/messages", ask(), message())[:3])
    relay.until("SELECT count(*) FROM exchanges WHERE session_id IS NOT NULL", [(1,)])
    assert relay.process is not None
    relay.process.kill()
    relay.wait()
    later = Relay(relay.folder)
    later.start()
    assert later.rows("SELECT state FROM exchanges") == [("interrupted",)]
    later.stop()
    later.end()


def test_long_exchanges_do_not_fill_the_ring(relay: Relay) -> None:
    """A stream that stays open while others come and go: held back only while there is room for everybody."""
    relay.tell(
        [opened(1, "POST /v1/messages HTTP/1.1", ("Content-Length", "0")), attempt(1), answer(1, "HTTP/1.1 200 OK")]
    )
    body = ask("x" * 20_000)
    for number in range(2, 82):  # 80 x 20 kB are more than the ring's 1 MiB
        relay.tell(post(number, "/v1/messages", body, message(), pieces=4096))
        if number % 10 == 0:
            relay.until("SELECT count(*) FROM exchanges WHERE state = 'ok'", [(number - 1,)])
    relay.tell([(tap.RESPONSE_BODY, 1, 100 * MS, message()), closed(1)])
    relay.stop()
    assert relay.rows("SELECT count(*), sum(truncated) FROM exchanges WHERE state = 'ok'") == [(81, 0)]
    assert relay.ring.counter(tap.COUNTERS.index("tap_dropped_events_total")) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_signals_of_the_terminal_are_the_relay_s_business(relay: Relay, number: signal.Signals) -> None:
    assert relay.process is not None
    relay.process.send_signal(number)
    relay.tell(post(1, "/v1/messages", ask(), message()))
    relay.stop()
    assert relay.rows("SELECT state FROM exchanges") == [("ok",)]


def test_hostile_events_cost_one_record(relay: Relay) -> None:
    relay.tell(
        [(tap.OPEN, 1, 0, b"short"), (tap.OPEN, 2, 0, tap.OPEN_HEADER.pack(0, 0, 0) + b"\xff\x00"), (99, 2, 0, b"")]
    )
    relay.tell([(tap.CLOSE, 2, 0, b"x"), (tap.ATTEMPT, 3, 0, b"")])
    relay.tell(post(4, "/v1/messages", ask(), message()))
    relay.until("SELECT count(*) FROM exchanges WHERE state = 'ok'", [(1,)])
    assert relay.ask(cmd="status")["errors"] == 2
    relay.stop()


def test_a_database_that_cannot_be_used_does_not_stop_the_other_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    kept = {"max_age_days": 30, "max_size_mb": 1024}
    relay = Relay(folder, sqlite={"enabled": True, "path": str(folder / "sessions" / "x" / "y.db"), "retention": kept})
    (folder / "sessions").mkdir(parents=True, mode=0o700)
    (folder / "sessions" / "x").write_text("a file where a folder is wanted")
    relay.start()
    relay.tell(post(1, "/v1/messages", ask(), message()))
    relay.stop()
    assert [line["type"] for line in relay.lines_of()] == ["session", "request", "response"]
    said = [log["message"] for log in relay.logs if log.get("event") == "log"]
    assert any("sqlite: recording fails" in text for text in said)
    relay.end()


def test_nothing_is_kept_where_recording_is_off(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "data", enabled=False)
    relay.start()
    relay.tell(post(1, "/v1/messages", ask(), message()))
    relay.ring.close()
    while 'state="ok"' not in relay.ask(cmd="metrics")["text"]:
        assert relay.ask(cmd="status")["errors"] == 0
    relay.stop()
    assert not (tmp_path / "data").exists()
    relay.end()


def test_a_taken_ui_port_does_not_stop_recording(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        relay = Relay(tmp_path / "data")
        relay.config["ui"] = {"enabled": True, "host": "127.0.0.1", "port": taken.getsockname()[1]}
        relay.start()
        relay.tell(post(1, "/v1/messages", ask(), message()))
        ui = relay.ask(cmd="status")["ui"]
        assert not ui["ok"] and "cannot listen" in ui["error"] and "ui.port" in ui["error"]
        relay.stop()
    assert relay.rows("SELECT state FROM exchanges") == [("ok",)]
    relay.end()


def test_scheduling_is_out_of_the_way(relay: Relay) -> None:
    assert relay.process is not None
    relay.ask(cmd="status")
    deadline = time.monotonic() + 10
    threads = Path(f"/proc/{relay.process.pid}/task")
    while os.SCHED_IDLE not in {os.sched_getscheduler(int(thread.name)) for thread in threads.iterdir()}:
        assert time.monotonic() < deadline
        relay.ask(cmd="status")
    relay.stop()
