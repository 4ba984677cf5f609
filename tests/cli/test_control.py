"""`stop`, `status`, `restart`, `logs` for a server that runs already: a stand-in, or (for `restart`) the real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.lifecycle import ensure, log_path, pid_path, running

FAKE = str(Path(__file__).parent / "fake_server.py")
HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    return tmp_path / ".lunaroute"


@pytest.fixture
def server(home: Path, port: int) -> Iterator[int]:
    started = ensure(home, HOST, port, [sys.executable, "-P", FAKE, str(home), HOST, str(port)], dict(os.environ))
    pid = started.answer.pid
    reaper = threading.Thread(target=os.waitpid, args=(pid, 0))
    reaper.start()  # it is a child of this process: somebody must wait for it, or its end is never seen
    yield pid
    if reaper.is_alive():
        with suppress(ProcessLookupError):  # it may end, and be waited for, between the two
            os.kill(pid, signal.SIGKILL)
    reaper.join()


def run(*words: str) -> Result:
    return CliRunner().invoke(program, list(words))


def test_stop(home: Path, port: int, server: int) -> None:
    done = run("stop", "--port", str(port))
    assert (done.exit_code, done.stderr) == (0, f"LunaRoute at http://127.0.0.1:{port} stopped (pid {server})\n")
    assert running(home) == []
    again = run("stop", "--port", str(port))
    assert (again.exit_code, again.stderr) == (3, f"lunaroute: LunaRoute does not run at http://127.0.0.1:{port}\n")


def test_stop_names_the_one_that_runs_elsewhere(port: int, server: int) -> None:
    with socket.create_server((HOST, 0)) as free:
        other = free.getsockname()[1]
    done = run("stop", "--port", str(other))
    assert done.exit_code == 3
    assert f"one runs at http://127.0.0.1:{port}: lunaroute stop --port {port}" in done.stderr


def test_stop_leaves_a_foreign_program_alone(home: Path, port: int) -> None:
    with socket.create_server((HOST, port)) as foreign:
        foreign.settimeout(0)
        done = run("stop", "--port", str(port))
        assert done.exit_code == 3
        assert f"port {port} is taken by" in done.stderr


def test_stop_leaves_another_users_server_alone(
    port: int, server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNAROUTE_HOME", str(tmp_path / "other"))
    done = run("stop", "--port", str(port))
    assert done.exit_code == 3
    assert f"as pid {server}, but not from {tmp_path}/other" in done.stderr
    assert run("status", "--port", str(port)).exit_code == 0


def test_a_stale_pid_file_is_no_server(home: Path, port: int) -> None:
    path = pid_path(home, HOST, port)
    path.parent.mkdir(parents=True, mode=0o700)
    facts = {"pid": os.getpid(), "start_time": 1, "instance": "", "host": HOST, "port": port}
    path.write_text(json.dumps({**facts, "ui": None, "log": None, "arguments": [], "settings": ""}))
    assert run("stop", "--port", str(port)).exit_code == 3
    assert run("status", "--port", str(port)).exit_code == 3


def test_status(home: Path, port: int, server: int) -> None:
    done = run("status", "--port", str(port))
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == f"LunaRoute runs at http://127.0.0.1:{port}"
    rows = dict(line.split(maxsplit=1) for line in lines[1:])
    assert rows["pid"] == str(server)
    assert rows["log"] == str(log_path(home))
    assert rows["database"] == str(home / "sessions.db")
    facts = json.loads(run("status", "--port", str(port), "--json").output)
    assert (facts["running"], facts["pid"], facts["problem"]) == (True, server, None)
    # how large the record is, and what retention lets it be
    (home / "sessions.db").write_bytes(b"x" * 3_000_000)
    (home / "sessions" / "2026-01-31").mkdir(parents=True)
    (home / "sessions" / "2026-01-31" / "session_a.jsonl").write_bytes(b"x" * 2000)
    lines = run("status", "--port", str(port)).output.splitlines()
    assert "            3.0 MB of at most 1.1 GB, of the last 30 days" in lines
    assert "            2.0 kB of at most 1.1 GB, of the last 30 days" in lines
    kept = json.loads(run("status", "--port", str(port), "--json").output)["kept"]
    assert kept["database"] == {"bytes": 3_000_000, "max_bytes": 1 << 30, "max_age_days": 30}
    assert kept["sessions"] == {"bytes": 2000, "max_bytes": 1 << 30, "max_age_days": 30}


def test_status_without_a_server(home: Path, port: int) -> None:
    done = run("status", "--port", str(port))
    assert (done.exit_code, done.output) == (3, f"LunaRoute does not run at http://127.0.0.1:{port}\n")
    assert json.loads(run("status", "--port", str(port), "--json").output)["running"] is False


def test_status_of_a_taken_port(home: Path, port: int) -> None:
    with socket.create_server((HOST, port)):
        done = run("status", "--port", str(port))
    assert done.exit_code == 3
    assert f"port {port} is taken by" in done.output


def test_logs(home: Path, port: int, server: int) -> None:
    (line,) = run("logs").output.splitlines()
    assert json.loads(line)["message"] == "ready"
    assert run("logs", "-n", "0").output == ""


def test_no_logs_yet(home: Path) -> None:
    done = run("logs")
    assert done.exit_code == 1
    assert "no log yet" in done.stderr


def test_logs_follow_through_cuts_and_changes(home: Path) -> None:
    log = log_path(home)
    log.parent.mkdir(parents=True, mode=0o700)
    log.write_text("one\ntwo\n")
    command = [sys.executable, "-P", "-m", "lunaroute", "logs", "-f", "-n", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        try:
            assert follower.stdout.readline() == "two\n"
            with log.open("a") as stream:
                stream.write("three\nfo")
            assert follower.stdout.readline() == "three\n"
            with log.open("a") as stream:
                stream.write("ur\n")
            assert follower.stdout.readline() == "four\n"
            log.write_text("cut\n")
            assert follower.stdout.readline() == "cut\n"
            log.unlink()
            log.write_text("a new file\n")
            assert follower.stdout.readline() == "a new file\n"
        finally:
            follower.send_signal(signal.SIGINT)
    assert follower.returncode in (0, 1, 130)


def test_restart_keeps_the_options(home: Path, port: int) -> None:
    words = ["--port", str(port), "--no-record", "--no-ui"]
    first = run("restart", *words)
    assert first.exit_code == 0, first.stderr
    try:
        (old,) = running(home)
        assert "LunaRoute started at" in first.stderr
        threading.Thread(target=os.waitpid, args=(old.pid, 0)).start()
        second = run("restart", "--port", str(port))
        assert second.exit_code == 0, second.stderr
        (new,) = running(home)
        assert "LunaRoute restarted at" in second.stderr
        assert new.pid != old.pid and new.arguments == old.arguments == words
    finally:
        for left in running(home):
            threading.Thread(target=os.waitpid, args=(left.pid, 0)).start()
        assert run("stop", "--port", str(port)).exit_code == 0
