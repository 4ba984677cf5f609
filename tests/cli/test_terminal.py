"""The commands where output goes to something small or broken: 80 columns, other encodings, a full disk."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from lunaroute.cli.app import program
from lunaroute.cli.summary import at_shutdown
from lunaroute.records import Timings, Usage
from tests import recorded
from tests.cli.test_app import commands
from tests.running import PATIENCE

COLUMNS = 80
MAIN = [sys.executable, "-c", "from lunaroute.cli import main; main()"]
NAMES = [(), *(words for words, _ in commands(program))]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Sessions of two models, one of them with a long name."""
    return recorded.write(
        tmp_path / "sessions.db",
        [
            recorded.exchange(
                number, f"s{number}", model_used=f"some-vendor/a-rather-long-name-{number}", cost_usd=1.25 * number,
                cost_kind="api", usage=Usage(input_tokens=123456 * number, output_tokens=9876),
                timings=Timings(done=65_000.0),
            )
            for number in (1, 2)
        ],
    )  # fmt: skip


def on_a_terminal(*words: str, home: Path) -> list[str]:
    """What a command prints on a terminal of 80 columns, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environ = {**os.environ, "LUNAROUTE_HOME": str(home), "TERM": "xterm-256color", "NO_COLOR": "1"}
    for name in ("COLUMNS", "LINES"):
        environ.pop(name, None)
    with subprocess.Popen([*MAIN, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as running:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # how a terminal says that nobody is there any more
            pass
        assert running.wait(PATIENCE) == 0, said
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r", "").split("\n")


@pytest.mark.parametrize("words", NAMES, ids=lambda words: " ".join(words) or "lunaroute")
def test_help_fits(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(program, [*words, "--help"], prog_name="lunaroute", terminal_width=COLUMNS)
    assert [line for line in done.output.splitlines() if len(line) > COLUMNS] == []


@pytest.mark.parametrize("by", ["model", "client", "day", "tool", "session"])
def test_breakdowns_fit_and_no_heading_is_cut(by: str, database: Path, tmp_path: Path) -> None:
    lines = on_a_terminal("stats", "--by", by, "--db", str(database), home=tmp_path)
    assert max(map(len, lines)) <= COLUMNS
    heading = next((line for line in lines if line.strip()), "")
    assert "…" not in heading
    if by != "tool":
        assert heading.split() == [by.capitalize(), "Requests", "Errors", "In", "Out", "Cost"]


def test_settings_fit_where_they_can(tmp_path: Path) -> None:
    lines = on_a_terminal("config", "show", home=tmp_path)
    assert [line for line in lines if len(line) > COLUMNS and str(tmp_path) not in line] == []
    at = lines.index("session_recording.sqlite.retention.max_age_days")
    assert lines[at + 1] == "    30  (default)"


def ran(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAIN, *words], env={**os.environ, **more}, capture_output=True, encoding="latin-1", timeout=PATIENCE,
        check=False,
    )


def test_an_encoding_without_some_characters(database: Path) -> None:
    done = ran("stats", "--db", str(database), PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Estimated cost: $3.75 USD" in done.stdout


@pytest.mark.parametrize("words", [["stats"], ["sessions", "list"], ["--help"]], ids=" ".join)
def test_a_full_disk_is_said_in_a_line(words: list[str], database: Path) -> None:
    more = [] if words == ["--help"] else ["--db", str(database)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MAIN, *words, *more], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "lunaroute: the output cannot be written: No space left on device\n"


def test_a_time_before_all_times(database: Path) -> None:
    done = CliRunner().invoke(program, ["stats", "--since", "99999w", "--db", str(database)])
    assert done.exit_code == 0, done.output
    assert "Estimated cost: $3.75" in done.output


def test_a_server_that_recorded_nothing_sums_up_nothing(database: Path) -> None:
    since = "2000-01-01 00:00:00"
    assert at_shutdown(database, since, "ffffffffffff") is None
    assert at_shutdown(database, since, recorded.exchange(1, "s1").id.partition("-")[0]) is not None
