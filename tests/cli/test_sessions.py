"""`lunaroute sessions`: lists and conversations in a pipe, in a terminal, as JSON, and where nothing is recorded."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.cli.sessions import inert
from lunaroute.records import State, Usage
from tests import recorded
from tests.ui import hostile

# every character a terminal acts on, but line feed and what rich itself writes there is checked apart
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    old = datetime.now(UTC) - timedelta(days=3)
    failed = recorded.exchange(
        5, "beta-session-0001", at=old, state=State.UPSTREAM_ERROR, error="The provider answered 529.", usage=Usage(),
        title="A failure\tof\nodd words", client="codex", model_requested="gpt-5.5", model_used=None,
    )  # fmt: skip
    now = datetime.now(UTC)
    running = recorded.exchange(6, "gamma-session-0001", at=now, state=None, usage=Usage(), title="Under way")
    return recorded.write(tmp_path / "sessions.db", [*recorded.tool_loop("alpha-session-0001"), failed, running])


def run(database: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["sessions", *words, "--db", str(database)])
    assert result.exit_code == code, result.output
    return result


def in_terminal(database: Path, *words: str, columns: int = 120, **environ: str) -> str:
    """The command in a pseudo-terminal; what it wrote there."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "lunaroute", "sessions", *words, "--db", str(database)]
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env={**env, **size, **environ}, cwd=Path(__file__).parents[2]
    )
    os.close(child)
    written = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(parent)
    assert process.wait(20) == 0, written
    return written.decode()


# --- list -------------------------------------------------------------------------------------------------------------
def test_a_pipe_gets_whole_plain_lines(database: Path) -> None:
    lines = [line.split("\t") for line in run(database, "list").stdout.splitlines()]
    assert [line[0] for line in lines] == ["gamma-session-0001", "beta-session-0001", "alpha-session-0001"]
    assert {len(line) for line in lines} == {10}
    assert lines[2][2:] == ["claude-code", "claude-opus-5-5", "ok", "3", "0", "2700", "360",
                            "Why does `make test` fail in this folder?"]  # fmt: skip
    assert lines[1][3:] == ["gpt-5.5", "errors", "1", "1", "", "", "A failure of odd words"]
    assert lines[0][4] == "running"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--limit", "1"], ["gamma"]),
        (["--since", "1d"], ["gamma"]),
        (["--since", "2000-01-01"], ["gamma", "beta", "alpha"]),
        (["--model", "gpt-5.5"], ["beta"]),
        (["--client", "codex"], ["beta"]),
        (["--state", "running"], ["gamma"]),
        (["--state", "upstream_error"], ["beta"]),
        (["make", "folder"], ["alpha"]),
        (["--json"], ["gamma", "beta", "alpha"]),
    ],
)
def test_filters(database: Path, words: list[str], found: list[str]) -> None:
    rows: list[dict[str, Any]] = json.loads(run(database, "list", "--json", *words).stdout)
    assert [row["session_id"].partition("-")[0] for row in rows] == found


def test_nothing_fits(database: Path) -> None:
    result = run(database, "list", "zzz")
    assert result.stdout == "" and "No session fits" in result.stderr
    assert json.loads(run(database, "list", "zzz", "--json").stdout) == []


def test_bad_filters_are_explained(database: Path) -> None:
    assert "written as 30m, 2h, 7d" in run(database, "list", "--since", "soon", code=2).stderr
    assert "upstream_error" in run(database, "list", "--state", "fine", code=2).stderr
    run(database, "list", "--limit", "0", code=2)


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["show", "abc"]])
def test_without_a_database_it_says_how_to_begin(tmp_path: Path, command: list[str]) -> None:
    result = run(tmp_path / "none.db", *command, code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("lunaroute: Nothing has been recorded yet") and "lunaroute env" in result.stderr


def test_the_configured_database_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNAROUTE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    recorded.write(tmp_path / "home" / "sessions.db", recorded.tool_loop("here"))
    assert CliRunner().invoke(program, ["sessions", "list"]).stdout.startswith("here\t")
    (tmp_path / "other").mkdir(mode=0o700)
    recorded.write(tmp_path / "other" / "x.db", recorded.tool_loop("there"))
    config = tmp_path / "c.yaml"
    config.write_text(f"session_recording: {{sqlite: {{path: {tmp_path}/other/x.db}}}}\n")
    assert CliRunner().invoke(program, ["sessions", "list", "--config", str(config)]).stdout.startswith("there\t")


# --- show -------------------------------------------------------------------------------------------------------------
def test_a_conversation_in_a_pipe(database: Path) -> None:
    text = run(database, "show", "alpha").stdout
    assert "\x1b" not in text
    places = [
        text.index(words)
        for words in (
            "Why does `make test` fail in this folder?\n", "Claude Code · claude-opus-5-5 · 3 requests",
            "[System prompt",
            "User\nWhy does `make test` fail in **this** folder?", "Assistant  #1", "[Thinking, 34 characters]",
            "Let me look.", "> Bash  ls -la\n  total 4", "Assistant  #2", "> Read  /src/missing.py\n  File is empty.",
            "Assistant  #3", "The file is **empty**.",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert text.count("total 4") == 1


def test_errors_and_running_exchanges_are_said(database: Path) -> None:
    assert "Provider error" in (text := run(database, "show", "beta").stdout) and "The provider answered 529." in text
    assert "Running" in run(database, "show", "gamma").stdout


def test_long_results_are_shortened_unless_asked(tmp_path: Path) -> None:
    asked = [recorded.user("go"), recorded.assistant(recorded.call("t1", "Bash", command="seq 40"))]
    body = recorded.ask([*asked, recorded.result("t1", "\n".join(map(str, range(40))))])
    path = recorded.write(tmp_path / "db", [recorded.exchange(1, request_body=body)])
    short, full = run(path, "show", "session-1").stdout, run(path, "show", "session-1", "--full").stdout
    assert "28 more lines, --full shows them" in short and "  39" not in short
    assert "  39\n" in full and '{"command":"seq 40"}' in full.replace(": ", ":") and "You are a coding" in full


def test_one_exchange_by_its_id(database: Path) -> None:
    text = run(database, "show", f"{recorded.BOOT}-3").stdout
    assert "Assistant  #3" in text and "Assistant  #2" not in text and "Why does `make test` fail in **this**" in text


def test_as_json(database: Path) -> None:
    told = json.loads(run(database, "show", "alpha", "--json").stdout)
    assert told["session"]["session_id"] == "alpha-session-0001" and len(told["turns"]) == 3
    assert told["turns"][0]["answer"][2]["result"]["text"].startswith("total 4")


def test_raw_is_byte_for_byte(database: Path) -> None:
    one = recorded.tool_loop("alpha-session-0001")[0]
    raw = run(database, "show", one.id, "--raw").stdout_bytes
    assert raw == b"".join(
        b"=== %s %s %d bytes\n%s\n" % (one.id.encode(), side, len(body), body)
        for side, body in ((b"request", one.request_body), (b"response", one.response_body))
    )
    assert run(database, "show", "alpha", "--raw").stdout.count("=== ") == 6
    assert "exclude each other" in run(database, "show", "alpha", "--raw", "--json", code=2).stderr


@pytest.mark.parametrize(
    ("ident", "words"),
    [
        ("alpha-session-0002", "Nearest: alpha-session-0001"),
        ("session-0001", "Nearest:"),
        ("zzz", "sessions list"),
        ("../x", "not an id"),
        ("", "not an id"),
    ],
)
def test_an_unknown_id_is_explained(database: Path, ident: str, words: str) -> None:
    result = run(database, "show", ident, code=1)
    assert words in result.stderr and result.stdout == ""


def test_a_session_of_many_exchanges_is_shown_whole(tmp_path: Path) -> None:
    made = [recorded.exchange(n, request_body=recorded.ask([recorded.user(f"q{n}.")])) for n in range(1, 621)]
    text = run(recorded.write(tmp_path / "db", made), "show", "session-1").stdout
    assert all(f"q{n}." in text for n in range(1, 621))


# --- terminals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("columns", [40, 80, 140])
def test_the_table_fits_its_terminal(database: Path, columns: int) -> None:
    text = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(database, "list", columns=columns))
    assert max(len(line) for line in text.splitlines()) <= columns
    assert "alpha-se" in text and "● Under way" in text and ("Claude Code" in text) is (columns > 84)


def test_colour_only_where_it_is_wanted(database: Path) -> None:
    assert "\x1b[" in in_terminal(database, "list")
    assert "\x1b[3" not in in_terminal(database, "list", NO_COLOR="1")
    assert "\x1b[" not in in_terminal(database, "show", "alpha", TERM="dumb")


@pytest.mark.parametrize("text", hostile.STRINGS, ids=lambda text: ascii(text)[:30])
def test_inert_text_has_nothing_a_terminal_acts_on(text: str) -> None:
    assert not ACTING.search(inert(text))
    assert inert(text) == text or ACTING.search(text) or "\u200d" in text or "\u200f" in text


def test_hostile_records_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    path = recorded.write(tmp_path / "db", [*hostile.exchanges(), *hostile.plain_exchanges()])
    for words in (["list", "--limit", "500"], ["show", "hostile-1"], ["show", "hostile-1", "--full"]):
        assert not ACTING.search(run(path, *words).stdout)
        written = re.sub(r"\x1b\[[0-9;]*m|\r\n", "", in_terminal(path, *words))
        assert not ACTING.search(written), words
    raw = in_terminal(path, "show", "hostile-1", "--raw").replace("\r\n", "")
    assert not ACTING.search(raw)
    json.loads(run(path, "show", "hostile-1", "--json").stdout)
