"""`sessions delete`, `sessions import`, `prune`, `prices recompute`: without a server, with one, and two at once."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli import desk
from lunaroute.cli.app import program
from lunaroute.observe.desk import desk_path
from lunaroute.stores.sqlite import SqliteStore
from tests import recorded
from tests.fakes import Request, Upstream, Wire
from tests.running import Running, processes_of

LOGS = Path(__file__).parents[1] / "corpus" / "logs"
ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
ANSWER = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "A pineapple."}], "usage": {"input_tokens": 100, "output_tokens": 20},
}  # fmt: skip
OWN_PRICES = "models:\n  - {model: claude-opus-4-5, provider: anthropic, input: 1000, output: 0}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three sessions, one with a subagent's, recorded now; no server."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("LUNAROUTE_HOME", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    now = datetime.now(UTC)
    recorded.write(
        folder / "sessions.db",
        [
            *(recorded.exchange(n, "alpha-1", at=now, kind="turn", title="The\x1b[31m red\u202e one") for n in (1, 2)),
            recorded.exchange(3, "agent-of-alpha", at=now, kind="turn", parent_session_id="alpha-1"),
            recorded.exchange(4, "old-1", at=now - timedelta(days=20), kind="turn"),
        ],
    )
    return folder


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, list(words))
    assert result.exit_code == code, result.output
    return result


def sessions(folder: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{folder}/sessions.db?mode=ro", uri=True)
    try:
        return [row[0] for row in connection.execute("SELECT session_id FROM sessions ORDER BY session_id")]
    finally:
        connection.close()


# --- delete -----------------------------------------------------------------------------------------------------------
DELETIONS: dict[str, tuple[list[str], list[str]]] = {
    "by the beginning of the id": (["alpha"], ["agent-of-alpha", "old-1"]),
    "several": (["alpha-1", "old", "alpha-1"], ["agent-of-alpha"]),
    "with subagents": (["alpha", "--with-subagents"], ["old-1"]),
    "by age": (["--older-than", "7d"], ["agent-of-alpha", "alpha-1"]),
    "by age and id": (["alpha", "old", "--older-than", "7d"], ["agent-of-alpha", "alpha-1"]),
    "nothing so old": (["--older-than", "30d"], ["agent-of-alpha", "alpha-1", "old-1"]),
}


@pytest.mark.parametrize(("words", "left"), DELETIONS.values(), ids=DELETIONS.keys())
def test_what_is_deleted(home: Path, words: list[str], left: list[str]) -> None:
    told = json.loads(run("sessions", "delete", *words, "--yes", "--json").stdout)
    assert sessions(home) == left
    assert told["sessions"] == len(told["deleted"]) == 3 - len(left) and told["wiped"]


def test_without_a_terminal_somebody_must_have_said_yes(home: Path) -> None:
    told = run("sessions", "delete", "alpha", code=2)
    assert "--yes" in told.stderr and "2 exchanges" in told.stderr and told.stdout == ""
    assert len(sessions(home)) == 3


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nobody"], 1, "No session nobody is recorded"),
        (["../../x"], 1, "not an id"),
        ([], 2, "--older-than 30d"),
        (["--older-than", "soon"], 2, "written as 30m, 2h, 7d"),
    ],
)
def test_what_cannot_be_deleted_is_said(home: Path, words: list[str], code: int, says: str) -> None:
    assert says in run("sessions", "delete", *words, "--yes", code=code).stderr
    assert len(sessions(home)) == 3


def in_terminal(home: Path, typed: str, *words: str, **environ: str) -> tuple[int, str]:
    """(exit code, what was shown) of the command in a pseudo-terminal where something is typed."""
    parent, child = pty.openpty()
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env |= {"LUNAROUTE_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "100", "LC_ALL": "C.UTF-8", **environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "lunaroute", *words], stdin=child, stdout=child, stderr=child, env=env, cwd=ROOT
    )
    os.close(child)
    os.write(parent, typed.encode())
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    return process.wait(PATIENCE), shown.decode()


def test_a_terminal_is_asked(home: Path) -> None:
    code, shown = in_terminal(home, "n\n", "sessions", "delete", "alpha")
    assert code == 1 and "Delete 1 session with 2 exchanges" in shown and len(sessions(home)) == 3
    # the title of a session cannot act on the terminal
    assert "\x1b[31m" not in shown and "\u202e" not in shown and "red" in shown
    code, shown = in_terminal(home, "y\n", "sessions", "delete", "alpha", NO_COLOR="1")
    assert code == 0 and "Deleted 1 session, 2 exchanges" in shown and len(sessions(home)) == 2
    assert "\x1b[3" not in shown.replace("\x1b[?25", "")


# --- without anything, or with something else -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sessions", "delete", "x", "--yes"], 1),
        (["prices", "recompute"], 1),
        (["prices", "recompute", "--dry-run"], 1),
        (["prune"], 0),
        (["prune", "--dry-run"], 0),
        (["sessions", "import", "."], 2),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else None,
)
def test_where_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int
) -> None:
    (tmp_path / "h").mkdir(mode=0o700)
    monkeypatch.setenv("LUNAROUTE_HOME", str(tmp_path / "h"))
    monkeypatch.chdir(tmp_path)
    run(*words, code=code)
    assert list((tmp_path / "h").iterdir()) == []  # looking makes nothing


@pytest.mark.parametrize("what", ["another program's", "damaged", "newer"])
def test_a_database_that_cannot_be_used_is_left_alone(home: Path, what: str) -> None:
    path = home / "sessions.db"
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * 50_000)
    else:
        connection = sqlite3.connect(path)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'facets'"):
            connection.execute(f"DROP TABLE {name}" if what == "damaged" else "CREATE TABLE other (a)")
        connection.execute(f"PRAGMA user_version = {0 if what.startswith('another') else 99}")
        connection.commit()
        connection.close()
    before = path.read_bytes()
    said = run("prune", "--older-than", "0", code=1).stderr
    assert "cannot be used" in said or "damaged" in said
    assert path.read_bytes() == before and not list(home.glob("*.unusable*"))


def test_a_database_that_somebody_else_holds_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "WAIT_S", 0.3)
    store = SqliteStore(home / "sessions.db", warn=print)
    store.open()
    try:
        said = run("sessions", "delete", "alpha", "--yes", code=1).stderr
    finally:
        store.close()
    assert f"in use by process {os.getpid()}" in said and "lunaroute stop" in said


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cannot write x: database or disk is full", "free some space"),
        ("cannot write x: attempt to write a readonly database", "chmod u+w"),
        ("cannot write x: database is locked", "close it"),
        ("something else", ""),
    ],
)
def test_errors_say_what_to_do(text: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, desk.failing():
        raise desk.StoreError(text)
    said = capsys.readouterr().err
    assert end.value.code == 1 and text in said and hint in said
    assert hint or said == "lunaroute: something else\n"


def test_a_socket_of_somebody_else_is_not_talked_to(home: Path) -> None:
    path = desk_path(home, home / "sessions.db")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("no socket")
    try:
        assert "not a socket of your own" in run("prune", code=1).stderr
    finally:
        path.unlink()


# --- import -----------------------------------------------------------------------------------------------------------
def test_the_logs_of_clients(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, folder in (("claude", ".claude/projects/-home-me"), ("codex", ".codex/sessions/2026/11/01")):
        (tmp_path / folder).mkdir(parents=True)
        for log in LOGS.glob(f"{name}*.jsonl"):
            shutil.copy(log, tmp_path / folder)
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    before = sessions(home)
    dry = json.loads(run("sessions", "import", "--claude-code", "--codex", "--dry-run", "--json").stdout)
    assert sessions(home) == before
    told = json.loads(run("sessions", "import", "--claude-code", "--codex", "--json").stdout)
    same = ("imported", "sessions", "known", "recorded_sessions", "damaged", "files")
    assert [dry[name] for name in same] == [told[name] for name in same]
    assert told["files"] == 6 and told["imported"] > 5 and sessions(home) == sorted([*before, *told["sessions"]])
    again = run("sessions", "import", "--codex", str(tmp_path / ".codex"))
    assert again.stdout.startswith("Imported 0 exchanges of 0 sessions from 3 files; ")
    # the same figures as the proxy's: priced by the same prices
    rows = recorded_rows(home, "SELECT DISTINCT cost_kind FROM exchanges WHERE transport = 'import'")
    assert rows == [("api_equivalent",)]


def recorded_rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{folder}/sessions.db?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_damage_is_told_and_counts_where_it_shall(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "codex-torn.jsonl"
    log.write_bytes((LOGS / "codex.jsonl").read_bytes() + b'{"type": "response_item", "pay\n')
    number = log.read_bytes().count(b"\n")
    told = run("sessions", "import", str(log))
    assert f"{log}:{number}: " in told.stderr and "1 place that could not be read" in told.stdout
    assert f"{log}:{number}: " in run("sessions", "import", str(log), "--strict", code=1).stderr


def test_exchanges_that_retention_will_take_are_named(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(re_dated((LOGS / "codex.jsonl").read_text(), "2020"))
    told = run("sessions", "import", str(log))
    assert "older than 30 days" in told.stderr and "max_age_days" in told.stderr


def re_dated(text: str, year: str) -> str:
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        if "timestamp" in line:
            line["timestamp"] = year + line["timestamp"][4:]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "--claude-code or --codex"),
        (["nowhere"], 2, "does not exist"),
        (["--codex", "nowhere"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_imported_is_said(home: Path, words: list[str], code: int, says: str) -> None:
    assert says in run("sessions", "import", *words, code=code).stderr


def test_without_a_database_nothing_is_imported(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("session_recording: {sqlite: {enabled: false}}\n")
    said = run("sessions", "import", str(LOGS), "--config", str(config), code=1).stderr
    assert "session_recording" in said


# --- prune ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("older", "exchanges", "left"), [("30", 0, 3), ("10d", 1, 2), ("2w", 1, 2), ("12h", 1, 2), ("0", 4, 0)]
)
def test_prune_does_what_the_dry_run_says(home: Path, older: str, exchanges: int, left: int) -> None:
    day = home / "sessions" / "2020-01-01"
    day.mkdir(parents=True, mode=0o700)
    old = day / "session_x.jsonl"
    old.write_text("{}\n")
    os.utime(old, (0, 0))
    dry = json.loads(run("prune", "--dry-run", "--json", "--older-than", older).stdout)
    assert (dry["database"]["exchanges"], dry["files"]["files"], dry["files"]["bytes"]) == (exchanges, 1, 3)
    assert len(sessions(home)) == 3 and old.exists()
    assert "1970-01-01" in run("prune", "--dry-run", "--older-than", older).stdout
    told = json.loads(run("prune", "--json", "--older-than", older).stdout)
    assert (told["exchanges"], told["files"]) == (exchanges, 1)
    assert len(sessions(home)) == left and not old.exists()
    assert "Deleted 0 exchanges" in run("prune", "--older-than", older).stdout


@pytest.mark.parametrize("words", [["--older-than", "soon"], ["--older-than", "-1"], ["--max-size", "-1"]])
def test_bad_bounds(home: Path, words: list[str]) -> None:
    run("prune", *words, code=2)
    assert len(sessions(home)) == 3


# --- prices -----------------------------------------------------------------------------------------------------------
def test_prices_are_worked_out_anew(home: Path) -> None:
    file = home / "prices.yaml"
    file.write_text(OWN_PRICES.replace("claude-opus-4-5", "claude-opus-5-5"))
    file.chmod(0o600)
    dry = json.loads(run("prices", "recompute", "--dry-run", "--json").stdout)
    assert recorded_rows(home, "SELECT count(cost_usd) FROM exchanges") == [(0,)]
    told = json.loads(run("prices", "recompute", "--json").stdout)
    assert {**dry, "dry_run": False} == told and told["changed"] == 4 and told["new_usd"] > 0
    assert recorded_rows(home, "SELECT sum(cost_usd) FROM sessions")[0][0] == pytest.approx(told["new_usd"])
    assert "0 of 4 exchanges changed" in run("prices", "recompute").stdout
    file.write_text("models: 7\n")
    assert "prices.yaml" in run("prices", "recompute", code=1).stderr


# --- with a server ----------------------------------------------------------------------------------------------------
Serve = Callable[..., Running]


async def answer(request: Request, wire: Wire) -> None:
    await wire.body()
    await wire.answer(200, [("Content-Type", "application/json")], json.dumps(ANSWER).encode())


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answer) as peer:
        yield peer


def send(server: Running, session: str, words: str) -> None:
    question = {"model": "claude-opus-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": words}]}
    headers = {"x-api-key": "dummy", "content-type": "application/json", "x-claude-code-session-id": session}
    request = urllib.request.Request(f"{server.url}/v1/messages", json.dumps(question).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as told:
        told.read()


def until(server: Running, query: str, value: Any) -> None:
    """Wait for the database to say so; each look is a round trip to the server."""
    end = time.monotonic() + PATIENCE
    while (found := server.rows(query)) != value:
        assert time.monotonic() < end, (found, value)
        server.get("/healthz")


def opened(server: Running) -> Path:
    """Wait until the server's observer takes orders: it begins after the relay. The socket."""
    path = desk_path(server.data, server.data / "sessions.db")
    end = time.monotonic() + PATIENCE
    while not path.is_socket():
        assert time.monotonic() < end, server.log()
        server.get("/healthz")
    return path


def filled(server: Running, count: int, *names: str) -> None:
    """A database with so many exchanges in it, in these sessions, before the server starts."""
    server.data.mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC)
    with recorded.store_at(server.data / "sessions.db") as store:
        for at in range(0, count, 500):
            store.write(
                [
                    recorded.exchange(
                        number, names[number % len(names)], at=now, sequence=number,
                        request_body=recorded.ask([recorded.user(f"strawberry {number}")]),
                        response_body=recorded.stream(recorded.text(f"banana {number}")),
                    )
                    for number in range(at + 1, min(at + 500, count) + 1)
                ]
            )  # fmt: skip


def test_a_session_of_a_running_server(serve: Serve, upstream: Upstream) -> None:
    server = serve(upstream)
    opened(server)
    for number in range(3):
        send(server, "alpha-1", f"strawberry {number}")
        send(server, "beta-1", f"mango {number}")
    # at once: what has not been stored yet is stored, and then deleted
    until(server, "SELECT count(*) AS n FROM sessions", [{"n": 2}])
    told = server.lunaroute("sessions", "delete", "alpha", "--yes", "--json")
    assert told.returncode == 0 and json.loads(told.stdout)["exchanges"] == 3, told
    assert [row["session_id"] for row in server.sessions()] == ["beta-1"]
    for file in server.data.rglob("*"):
        if file.is_file() and not file.is_socket():
            assert b"strawberry" not in file.read_bytes(), file
    assert [path.name for path in server.session_files()] == ["session_beta-1.jsonl"]
    # it goes on under its id, in a new file
    send(server, "alpha-1", "cherry")
    until(server, "SELECT sum(requests) AS n FROM sessions WHERE session_id = 'alpha-1'", [{"n": 1}])
    assert len(list(server.session_files())) == 2
    server.stop()
    assert not list((server.data / "run").glob("desk_*"))
    assert "Deleted 1 session" in server.lunaroute("sessions", "delete", "beta", "-y").stdout


def test_a_killed_server_leaves_nothing_in_the_way(serve: Serve, upstream: Upstream) -> None:
    server = serve(upstream)
    opened(server)
    send(server, "alpha-1", "strawberry")
    until(server, "SELECT count(*) AS n FROM exchanges WHERE state = 'ok'", [{"n": 1}])
    assert server.process is not None
    for pid in processes_of(server.process.pid)[::-1]:
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    told = server.lunaroute("sessions", "delete", "alpha", "--yes")
    assert told.returncode == 0, told
    server.start()
    send(server, "beta-1", "mango")
    until(server, "SELECT count(*) AS n FROM exchanges WHERE state = 'ok'", [{"n": 1}])
    opened(server)
    assert server.lunaroute("sessions", "delete", "beta", "--yes").returncode == 0


def test_many_are_deleted_while_traffic_is_recorded(tmp_path: Path, upstream: Upstream) -> None:
    server = Running(tmp_path / "s", upstream.url)
    filled(server, 10_000, "old-1", "old-2", "old-3")
    server.start()
    stop, times = threading.Event(), []

    def traffic() -> None:
        while not stop.wait(0.005):  # as fast as a busy team
            begun = time.monotonic()
            send(server, f"new-{len(times) % 5}", f"mango {len(times)}")
            times.append(time.monotonic() - begun)

    sending = threading.Thread(target=traffic)
    try:
        sending.start()
        told = server.lunaroute("sessions", "delete", "old-1", "old-2", "--yes", "--json")
        stop.set()
        sending.join()
        assert told.returncode == 0, told
        assert json.loads(told.stdout)["sessions"] == 2
        sent = len(times)
        assert sent > 10
        until(
            server, "SELECT count(*) AS n FROM exchanges WHERE session_id LIKE 'new-%' AND state = 'ok'", [{"n": sent}]
        )
        times.sort()
        assert times[len(times) // 2] < 0.1, "the relay was slowed"
        assert server.rows("SELECT DISTINCT session_id FROM exchanges WHERE id LIKE '0123%'") == [
            {"session_id": "old-3"}
        ]
        assert server.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        lines = [line for line in server.jsonl() if line["type"] == "response"]
        assert len(lines) == sent
    finally:
        stop.set()
        sending.join()
        server.stop()


def test_a_deletion_that_is_given_up(tmp_path: Path, upstream: Upstream) -> None:
    server = Running(tmp_path / "s", upstream.url)
    filled(server, 4000, *(f"old-{number}" for number in range(40)))
    server.start()
    try:
        path = opened(server)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            client.sendall(json.dumps({"cmd": "delete", "sessions": [f"old-{n}" for n in range(40)]}).encode() + b"\n")
            first = json.loads(client.makefile("rb").readline())
        assert first["total"] == 4000
        # the next in the queue is done when the one before has ended
        told = server.lunaroute("prices", "recompute", "--json")
        left = json.loads(told.stdout)["exchanges"]
        assert 0 < left < 4000
        assert server.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert server.rows("SELECT count(*) AS n FROM exchanges") == [{"n": left}]
        ids = [row["session_id"] for row in server.sessions()]
        told = server.lunaroute("sessions", "delete", *ids, "--yes", "--json")
        assert json.loads(told.stdout)["exchanges"] == left
        assert server.rows("SELECT count(*) AS n FROM exchanges") == [{"n": 0}]
    finally:
        server.stop()


@pytest.mark.parametrize("running", [True, False], ids=["at the desk", "without a server"])
def test_two_at_once(tmp_path: Path, upstream: Upstream, running: bool) -> None:
    server = Running(tmp_path / "s", upstream.url)
    filled(server, 600, "one", "two", "three")
    if running:
        server.start()
    try:
        told: dict[str, subprocess.CompletedProcess[str]] = {}

        def delete(name: str) -> None:
            told[name] = server.lunaroute("sessions", "delete", name, "--yes", "--json")

        threads = [threading.Thread(target=delete, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [told[name].returncode for name in ("one", "two")] == [0, 0], told
        assert [row["session_id"] for row in server.sessions()] == ["three"]
    finally:
        if running:
            server.stop()


def test_all_commands_at_a_running_server(serve: Serve, upstream: Upstream, tmp_path: Path) -> None:
    server = serve(upstream)
    opened(server)
    send(server, "alpha-1", "strawberry")
    until(server, "SELECT count(*) AS n FROM exchanges WHERE state = 'ok'", [{"n": 1}])
    (old,) = server.rows("SELECT cost_usd FROM exchanges")
    prices = server.data / "prices.yaml"
    prices.write_text(OWN_PRICES)
    prices.chmod(0o600)
    told = json.loads(server.lunaroute("prices", "recompute", "--json").stdout)
    assert (told["changed"], told["old_usd"], told["new_usd"]) == (1, old["cost_usd"], pytest.approx(0.1))
    send(server, "beta-1", "mango")  # what comes is priced by it, too
    until(server, "SELECT round(cost_usd, 6) AS usd FROM sessions ORDER BY started_at", [{"usd": 0.1}, {"usd": 0.1}])
    prices.write_text("models: 7\n")
    wrong = server.lunaroute("prices", "recompute")
    assert wrong.returncode == 1 and "prices.yaml" in wrong.stderr
    imported = server.lunaroute("sessions", "import", str(LOGS), "--json")
    assert len(json.loads(imported.stdout)["sessions"]) == 6, imported
    assert len(server.sessions()) == 8
    (file,) = [path for path in server.session_files() if "alpha" in path.name]
    kept = tmp_path / file.name
    shutil.copy(file, kept)
    assert server.lunaroute("sessions", "delete", "alpha", "--yes").returncode == 0
    back = json.loads(server.lunaroute("sessions", "import", str(kept), "--json").stdout)
    assert back["imported"] == 1 and back["sessions"] == ["alpha-1"]
    pruned = json.loads(server.lunaroute("prune", "--older-than", "0", "--json").stdout)
    assert pruned["exchanges"] > 5 and server.sessions() == []


@pytest.mark.parametrize("off", [{"enabled": False}, {"sqlite": {"enabled": False}}], ids=json.dumps)
def test_where_the_server_writes_no_database(serve: Serve, upstream: Upstream, off: dict[str, Any]) -> None:
    server = serve(upstream, {"session_recording": off})
    send(server, "alpha-1", "strawberry")
    for words in (["sessions", "delete", "alpha", "--yes"], ["prices", "recompute"]):
        told = server.lunaroute(*words)
        assert told.returncode == 1 and "nothing has been recorded yet" in told.stderr.lower(), told
    told = server.lunaroute("sessions", "import", str(LOGS), "--config", str(server.file))
    assert told.returncode == 1 and "must be on" in told.stderr
