"""The life of a server process: pid file, detached start, stop. With a small stand-in for the server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lunaroute import lifecycle
from lunaroute.errors import StartError
from lunaroute.lifecycle import (
    PidFile,
    Running,
    Started,
    ensure,
    is_held,
    log_path,
    pid_path,
    read_pid,
    readable,
    running,
    start_time,
    stop,
)

FAKE = str(Path(__file__).parent / "cli" / "fake_server.py")
HOST = "127.0.0.1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def start(home: Path, port: int) -> Iterator[Callable[..., Started]]:
    """Starts the stand-in as `env` would; ends what it started."""
    begun: list[int] = []

    def begin(*mode: str) -> Started:
        command = [sys.executable, "-P", FAKE, str(home), HOST, str(port), *mode]
        started = ensure(home, HOST, port, command, {"PATH": os.environ["PATH"]})
        begun.append(started.answer.pid)
        return started

    yield begin
    for pid in set(begun):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_a_start_is_detached_and_found_again(start: Callable[..., Started], home: Path, port: int) -> None:
    first = start()
    assert first.fresh and first.answer.ours and first.answer.instance == "0123456789ab"
    assert os.getsid(first.answer.pid) == first.answer.pid  # a session of its own: the terminal's end is not its end
    assert Path(f"/proc/{first.answer.pid}/fd/0").readlink() == Path(os.devnull)
    assert Path(f"/proc/{first.answer.pid}/fd/1").readlink() == log_path(home)
    assert Path(f"/proc/{first.answer.pid}/fd/2").readlink() == log_path(home)
    second = start()
    assert not second.fresh and second.answer.pid == first.answer.pid
    (facts,) = running(home)
    assert (facts.pid, facts.port, facts.start_time) == (first.answer.pid, port, start_time(first.answer.pid))


def test_everything_it_makes_is_private(start: Callable[..., Started], home: Path) -> None:
    old = os.umask(0)
    try:
        start()
    finally:
        os.umask(old)
    modes = {path: path.stat().st_mode & 0o777 for path in [home, *home.rglob("*")]}
    assert modes and all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


def test_two_starts_at_once_start_one_server(start: Callable[..., Started]) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = [future.result() for future in [threads.submit(start) for _ in range(4)]]
    assert len({started.answer.pid for started in found}) == 1
    assert sum(started.fresh for started in found) == 1


def test_stop_waits_for_the_end(start: Callable[..., Started], home: Path, port: int) -> None:
    started = start()
    (server,) = running(home)
    reaper = threading.Thread(target=os.waitpid, args=(started.answer.pid, 0))
    reaper.start()  # the process is our child here; without a waiting parent it would stay as a zombie
    assert stop(server, 10)
    reaper.join()
    assert not pid_path(home, HOST, port).exists()
    assert running(home) == []


def test_stop_says_when_it_still_runs(start: Callable[..., Started], home: Path) -> None:
    started = start("deaf")
    (server,) = running(home)
    assert not stop(server, 0.05)
    assert Path(f"/proc/{started.answer.pid}").exists()


def test_a_failing_start_says_why(start: Callable[..., Started], home: Path) -> None:
    with pytest.raises(StartError) as caught:
        start("refuse")
    assert "ended at once (exit code 1)" in str(caught.value)
    assert "error fake: the disk is on fire where=here" in str(caught.value)
    assert str(log_path(home)) in str(caught.value)


def test_only_the_lines_of_this_start_are_shown(start: Callable[..., Started], home: Path) -> None:
    for _ in range(2):
        with pytest.raises(StartError) as caught:
            start("refuse")
        assert str(caught.value).count("on fire") == 1
    assert log_path(home).read_text().count("on fire") == 2


def test_a_start_that_never_answers_is_ended(
    start: Callable[..., Started], monkeypatch: pytest.MonkeyPatch, home: Path, port: int
) -> None:
    monkeypatch.setattr(lifecycle, "START_SECONDS", 0.3)
    monkeypatch.setattr(lifecycle, "probe", lambda host, port: lifecycle.Answer(False))
    with pytest.raises(StartError, match="did not answer within"):
        start("mute")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), 1)


class Foreign:
    """A program on the port that is not LunaRoute: answers each connection with fixed bytes."""

    def __init__(self, port: int, answer: bytes) -> None:
        self.listener = socket.create_server((HOST, port))
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(4096)
                peer.sendall(self._answer)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "another web server"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"product":"other"}', "another web server"),
        (b"HTTP/1.1 200 OK\r\n\r\n[1]", "another web server"),
        (b"SSH-2.0-x\r\n", "a program that is no web server"),
        (b"", "a program that is no web server"),
    ],
    ids=["web", "product", "list", "ssh", "empty"],
)
def test_a_foreign_program_is_named(start: Callable[..., Started], port: int, answer: bytes, what: str) -> None:
    foreign = Foreign(port, answer)
    try:
        with pytest.raises(StartError) as caught:
            start()
    finally:
        foreign.listener.close()
    said = str(caught.value)
    assert what in said and "not by LunaRoute" in said and "--port" in said
    assert f"(pid {os.getpid()})" in said  # the listener of this test is this process


def test_a_stale_pid_file_is_taken_over(home: Path, port: int) -> None:
    path = pid_path(home, HOST, port)
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(json.dumps(Running(1, 1, "x", HOST, port, None, None, [], "")._asdict()))
    assert running(home) == []
    with PidFile.take(home, HOST, port):
        assert is_held(path)
    assert not path.exists()


def test_a_second_server_at_the_address_is_refused(home: Path, port: int) -> None:
    with PidFile.take(home, HOST, port) as held:
        held.write(Running(os.getpid(), start_time(os.getpid()), "x", HOST, port, None, None, [], ""))
        with pytest.raises(StartError, match=rf"already runs at .*:{port} \(pid {os.getpid()}\); stop it with"):
            PidFile.take(home, HOST, port)
        with PidFile.take(home, HOST, port + 1):
            pass


def test_a_pid_of_somebody_else_is_never_signalled(home: Path, port: int) -> None:
    """The pid file's number now belongs to another process: its start time tells."""
    signals: list[int] = []
    old = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        with PidFile.take(home, HOST, port) as held:
            held.write(Running(os.getpid(), 12345, "x", HOST, port, None, None, [], ""))
            facts = read_pid(pid_path(home, HOST, port))
            assert facts is not None
            assert running(home) == []
            assert stop(facts, 0.1)
    finally:
        signal.signal(signal.SIGTERM, old)
    assert signals == []


def test_a_pid_that_is_gone_counts_as_stopped() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    began = start_time(child)
    os.waitpid(child, 0)
    assert stop(Running(child, began, "x", HOST, 1, None, None, [], ""), 0.1)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"pid": "1"}', '{"pid": 1}', '{"pid": 99, "unknown": 1}', "\xff"],
    ids=["empty", "torn", "list", "text", "init", "keys", "bytes"],
)
def test_a_damaged_pid_file_is_no_server(home: Path, port: int, content: str) -> None:
    path = pid_path(home, HOST, port)
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(content, encoding="latin-1")
    assert read_pid(path) is None
    with PidFile.take(home, HOST, port):
        assert running(home) == []


@pytest.mark.parametrize("which", ["pid", "lock", "log"])
def test_a_link_in_place_of_a_file_is_refused(
    start: Callable[..., Started], home: Path, port: int, tmp_path: Path, which: str
) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    path = {
        "pid": pid_path(home, HOST, port),
        "lock": pid_path(home, HOST, port).with_suffix(".starting"),
        "log": log_path(home),
    }[which]
    home.mkdir(mode=0o700)
    path.parent.mkdir(mode=0o700)
    path.symlink_to(target)
    with pytest.raises(StartError, match="symbolic link"):
        start()
    assert target.read_text() == "keep"


def test_a_hung_server_is_told_from_a_foreign_program(home: Path, port: int) -> None:
    foreign = Foreign(port, b"")
    try:
        with PidFile.take(home, HOST, port) as held:
            held.write(Running(os.getpid(), start_time(os.getpid()), "x", HOST, port, None, None, [], ""))
            with pytest.raises(
                StartError, match=rf"LunaRoute \(pid {os.getpid()}\) has port {port} but gives no answer"
            ):
                ensure(home, HOST, port, ["/bin/false"], {})
    finally:
        foreign.listener.close()


def test_relative_paths_of_the_environment_are_settled_before_the_start(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    environ = {"LUNAROUTE_HOME": "here", "LUNAROUTE_CONFIG": "/etc/x.yaml", "LUNAROUTE_SESSIONS_DIR": "~/s"}
    child = lifecycle.spawn(["/usr/bin/env"], environ, out)
    os.waitpid(child, 0)
    os.close(out)
    lines = (tmp_path / "out").read_text().splitlines()
    assert f"LUNAROUTE_HOME={tmp_path}/here" in lines
    assert "LUNAROUTE_CONFIG=/etc/x.yaml" in lines
    assert "LUNAROUTE_SESSIONS_DIR=~/s" in lines


def test_the_log_is_made_readable() -> None:
    line = '{"time":"2026-01-02T03:04:05.678Z","level":"warn","from":"x","message":"m","pid":1,"n":2}'
    assert readable(line) == "03:04:05 warn x: m n=2"
    assert readable("Traceback (most recent call last):") == "Traceback (most recent call last):"
    assert readable("{}") == "{}"


def test_stop_without_a_pidfd_works_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has none."""
    monkeypatch.delattr(os, "pidfd_open")
    program = "import signal; print(flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    reaper = threading.Thread(target=child.wait)
    reaper.start()
    with child.stdout:
        server = Running(child.pid, start_time(child.pid), "i", "127.0.0.1", 1, None, None, [], "s")
        assert stop(server, 10)
    reaper.join()
    assert child.returncode == -signal.SIGTERM
