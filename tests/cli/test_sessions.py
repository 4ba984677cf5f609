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
from lunaroute.cli.record import inert
from lunaroute.records import Exchange, Split, State, Text, Timings, ToolCall, ToolResult, Usage
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
    return recorded.write(tmp_path / "sessions.db", [*loop("alpha-session-0001"), failed, running])


def loop(session: str) -> list[Exchange]:
    """The tool loop with what the observer adds: texts, tools, cost, the split of time."""
    made = recorded.tool_loop(session)
    for number, one in enumerate(made):
        one.cost_usd, one.cost_kind, one.project = 0.125, "api_equivalent", "/home/me/work/luna"
        one.split = Split(before_ms=1, connect_ms=9, upload_ms=40, wait_ms=362, first_content_ms=228,
                          generation_ms=1700, after_ms=5)  # fmt: skip
        one.texts = [Text(kind="prompt", text="Why does `make test` fail?"), Text(kind="tool_result", text="total 4")]
        if number:
            failed = number == 2
            one.tool_results = [ToolResult(id=f"toolu_{number}", success=not failed, seen_ns=one.started_ns)]
        if number < 2:
            called = one.started_ns + 2_345_000_000
            one.tool_calls = [ToolCall(id=f"toolu_{number + 1}", name=("Bash", "Read")[number], called_ns=called)]
    return made


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
    assert {len(line) for line in lines} == {11}
    assert lines[2][2:] == ["claude-code", "claude-opus-5-5", "ok", "3", "0", "2700", "360", "0.375000",
                            "Why does `make test` fail in this folder?"]  # fmt: skip
    assert lines[1][3:] == ["gpt-5.5", "errors", "1", "1", "", "", "", "A failure of odd words"]
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
        (["--until", "1d"], ["beta", "alpha"]),
        (["--since", "2000-01-01", "--until", "2020-02-01"], ["alpha"]),
        (["--provider", "anthropic"], ["gamma", "beta", "alpha"]),
        (["--provider", "openai"], []),
        (["--project", "luna"], ["alpha"]),
        (["--project", "work/luna/"], ["alpha"]),
        (["--project", "una"], []),
        (["--tool", "Read"], ["alpha"]),
        (["--min-cost", "0.3"], ["alpha"]),
        (["--min-cost", "0.4"], []),
        (["--sort", "cost"], ["alpha"]),
        (["--sort", "requests", "--reverse", "-n", "3"], [..., ..., "alpha"]),
    ],
)
def test_filters(database: Path, words: list[str], found: list[str]) -> None:
    rows: list[dict[str, Any]] = json.loads(run(database, "list", "--json", *words).stdout)
    names = [row["session_id"].partition("-")[0] for row in rows]
    if words == ["--sort", "cost"]:
        names = names[:1]  # the others cost nothing that is known
    assert [name if wanted is not ... else ... for name, wanted in zip(names, found, strict=True)] == found


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
    assert [(tool["name"], tool["success"]) for tool in told["tool_calls"]] == [("Bash", 1), ("Read", 0)]
    assert told["turns"][0]["row"]["wait_ms"] == 362.0 and told["turns"][0]["row"]["cost_usd"] == 0.125
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
    assert "alpha-se" in text and "● Under" in text and ("Claude Code" in text) is (columns > 92)
    assert ("~$0.38" in text) is (columns >= 60)


def test_colour_only_where_it_is_wanted(database: Path) -> None:
    assert "\x1b[" in in_terminal(database, "list")
    assert "\x1b[3" not in in_terminal(database, "list", NO_COLOR="1")
    assert "\x1b[" not in in_terminal(database, "show", "alpha", TERM="dumb")


@pytest.mark.parametrize("text", hostile.STRINGS, ids=lambda text: ascii(text)[:30])
def test_inert_text_has_nothing_a_terminal_acts_on(text: str) -> None:
    assert not ACTING.search(inert(text))
    assert inert(text) == text or ACTING.search(text) or "\u200d" in text or "\u200f" in text


def hostile_database(path: Path) -> Path:
    made = [*hostile.exchanges(), *hostile.plain_exchanges()]
    for one, words in zip(made, 2 * hostile.STRINGS, strict=True):
        one.texts = [Text(kind=words, text=f"canary {words}")]
        one.tool_calls = [ToolCall(id=one.id, name=words, arguments=words, called_ns=one.started_ns)]
        one.project = words
    return recorded.write(path, made)


def test_hostile_records_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    path = hostile_database(tmp_path / "db")
    for words in (
        ["list", "--limit", "500"],
        ["show", "hostile-1"],
        ["show", "hostile-1", "--full"],
        ["show", "hostile-1", "--timeline"],
        ["search", "canary", "--limit", "100"],
    ):
        assert not ACTING.search(run(path, *words).stdout)
        written = re.sub(r"\x1b\[[0-9;]*m|\r\n", "", in_terminal(path, *words))
        assert not ACTING.search(written), words
    raw = in_terminal(path, "show", "hostile-1", "--raw").replace("\r\n", "")
    assert not ACTING.search(raw)
    json.loads(run(path, "show", "hostile-1", "--json").stdout)


# --- timeline ---------------------------------------------------------------------------------------------------------
def test_a_timeline_in_a_pipe(database: Path) -> None:
    head, *lines = [line.split("\t") for line in run(database, "show", "alpha", "--timeline").stdout.splitlines()]
    assert head[:5] == ["start_ms", "what", "name", "duration_ms", "before_ms"]
    assert [line[1:4] for line in lines] == [
        ["#1", "claude-opus-5-5", "2345.00"], ["tool", "Bash", "17655.00"], ["#2", "claude-opus-5-5", "2345.00"],
        ["tool", "Read", "17655.00"], ["#3", "claude-opus-5-5", "2345.00"],
    ]  # fmt: skip
    assert lines[0][4:11] == ["1.00", "9.00", "40.00", "362.00", "228.00", "1700.00", "5.00"]
    assert [line[11] for line in lines] == ["ok", "ok", "ok", "failed", "ok"]
    assert {len(line) for line in (head, *lines)} == {13}


@pytest.mark.parametrize("columns", [40, 60, 100, 160])
def test_a_timeline_fits_its_terminal(tmp_path: Path, columns: int) -> None:
    late = recorded.exchange(20, "alpha", sequence=4, state=State.TIMEOUT)
    path = recorded.write(tmp_path / "db", [*loop("alpha"), late])
    text = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(path, "show", "alpha", "--timeline", columns=columns))
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= columns
    bars = [line for line in lines if line.startswith(("#", "  >", "  !"))]
    assert [line.split()[0] for line in bars] == ["#1", ">", "#2", "!", "#3", "#4"]
    places = [re.search("[\u2580-\u259f\u2501]", line) for line in bars]
    starts = [place.start() for place in places if place]
    assert len(starts) == 6 and starts[:5] == sorted(starts[:5]) and starts[5] == starts[0]  # a new axis
    assert "5 min 38 s of pause" in text and "\u2264 17.7 s" in bars[1]


def test_a_timeline_of_nothing_and_of_what_is_not_told(tmp_path: Path) -> None:
    bare = recorded.exchange(1, timings=Timings(), state=None)
    path = recorded.write(tmp_path / "db", [bare])
    assert "running" in run(path, "show", "session-1", "--timeline").stdout
    assert "Running" in in_terminal(path, "show", "session-1", "--timeline")


# --- search -----------------------------------------------------------------------------------------------------------
def test_search_in_a_pipe(database: Path) -> None:
    lines = [line.split("\t") for line in run(database, "search", "make", "TEST").stdout.splitlines()]
    assert [line[:3] for line in lines] == [
        ["alpha-session-0001", str(n), f"{recorded.BOOT}-{n}"] for n in (3, 2, 1)
    ]
    assert lines[0][5:] == ["prompt", "Why does `make test` fail?"]
    assert run(database, "search", "make", "--client", "codex").stdout == ""
    assert "Nothing found" in run(database, "search", "zzz").stderr
    assert "Nothing to search for" in run(database, "search", "  ", code=2).stderr


def test_search_goes_on(database: Path) -> None:
    first = run(database, "search", "make", "-n", "2")
    mark = re.search(r"--after (\d+)", first.stderr)
    assert mark and len(first.stdout.splitlines()) == 2
    assert len(run(database, "search", "make", "--after", mark[1]).stdout.splitlines()) == 1
    assert "page mark" in run(database, "search", "make", "--after", "x", code=2).stderr
    told = json.loads(run(database, "search", "make", "--json").stdout)
    assert told["hits"][0]["snippets"][0]["marks"] == [[10, 14]]


def test_search_marks_what_it_found_in_a_terminal(database: Path) -> None:
    text = in_terminal(database, "search", "test", columns=60)
    assert "\x1b[1;33mtest\x1b[0m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "alpha-session-0001 #3" in plain and "~" not in plain.split("\n")[0]
    assert "\x1b[1;33m" not in in_terminal(database, "search", "test", NO_COLOR="1")


# --- export -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["html", "md", "har", "jsonl"])
def test_exports_go_to_a_private_file_or_a_pipe(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    file = tmp_path / "out" / f"x.{form}"
    file.parent.mkdir()
    piped = run(database, "export", "alpha", "--format", form).stdout_bytes
    assert run(database, "export", "alpha", "--format", form, "-o", "-").stdout_bytes == piped
    assert run(database, "export", "alpha", "--format", form, "-o", str(file)).stdout == ""
    assert file.read_bytes() == piped and b"make test" in piped and file.stat().st_mode & 0o777 == 0o600
    refused = run(database, "export", "alpha", "--format", form, "-o", str(file), code=1)
    assert "is there already; --force" in refused.stderr
    file.write_text("other")
    run(database, "export", "alpha", "--format", form, "-o", str(file), "--force")
    assert file.read_bytes() == piped and [each.name for each in file.parent.iterdir()] == [file.name]
    missing = run(database, "export", "alpha", "-o", str(tmp_path / "none" / "x"), code=1)
    assert "cannot write" in missing.stderr and missing.exception.__class__ is SystemExit
    assert "No session" in run(database, "export", "zzz", code=1).stderr


def test_an_export_never_follows_a_link(database: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    run(database, "export", "alpha", "-o", str(link), code=1)
    run(database, "export", "alpha", "-o", str(link), "--force")
    assert target.read_text() == "mine" and not link.is_symlink()


def test_subagents_come_along_where_asked(tmp_path: Path) -> None:
    parts = [("root", None), ("child", "root"), ("grandchild", "child"), ("other", None)]
    made = [
        recorded.exchange(
            n, name, sequence=1, parent_session_id=parent, request_body=recorded.ask([recorded.user("q")])
        )
        for n, (name, parent) in enumerate(parts, 1)
    ]
    path = recorded.write(tmp_path / "db", made)
    for words, names in ([], ["root"]), (["--with-subagents"], ["root", "child", "grandchild"]):
        told = json.loads(run(path, "export", "root", "--format", "har", *words).stdout)
        assert [page["id"] for page in told["log"]["pages"]] == names
        assert [entry["pageref"] for entry in told["log"]["entries"]] == names
        text = run(path, "export", "root", "--format", "jsonl", *words).stdout
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["id"] for line in lines if line["type"] == "session"] == names
        assert run(path, "export", "root", *words).stdout.count("<section>") == len(names)


def test_a_bar_says_how_far_a_long_export_is(tmp_path: Path) -> None:
    body = recorded.ask([recorded.user("q" * 2000)])
    path = recorded.write(tmp_path / "db", [recorded.exchange(n, request_body=body) for n in range(1, 400)])
    out = tmp_path / "x.har"
    text = in_terminal(path, "export", "session-1", "--format", "har", "-o", str(out))
    assert "Writing har" in text and "/399" in text and json.loads(out.read_text())["log"]["version"] == "1.2"


# --- pipes ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "words", [["list", "-n", "500"], ["list", "-n", "500", "--json"], ["show", "s1", "--raw"], ["export", "s1"]]
)
def test_a_reader_that_goes_away_is_no_error_to_talk_about(tmp_path: Path, words: list[str]) -> None:
    big = recorded.ask([recorded.user("word " * 60_000)])
    made = [recorded.exchange(n, f"s{n}", request_body=big, title="t" * 900) for n in range(1, 400)]
    path = recorded.write(tmp_path / "db", made)
    command = [sys.executable, "-m", "lunaroute", "sessions", *words, "--db", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout and process.stderr
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) in (0, 1)
