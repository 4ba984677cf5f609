"""`lunaroute prices`: in a pipe, in a terminal, as JSON; and the check of the user's own file."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program

ROOT = Path(__file__).resolve().parents[2]
OWN = "models:\n  - {model: house-model, provider: local, input: 0, output: 0}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUNAROUTE_HOME", str(tmp_path))
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["prices", *words])
    assert result.exit_code == code, result.output
    return result


def own(home: Path, text: str = OWN) -> Path:
    file = home / "prices.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def in_terminal(home: Path, *words: str) -> str:
    """The command in a pseudo-terminal; what it wrote there."""
    parent, child = pty.openpty()
    env = {"PATH": os.environ["PATH"], "COLUMNS": "120", "LINES": "50", "TERM": "xterm", "LUNAROUTE_HOME": str(home)}
    command = [sys.executable, "-m", "lunaroute", "prices", *words]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env={**env, "NO_COLOR": "1"}, cwd=ROOT)
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
    assert process.wait(timeout=30) == 0, written
    return written.decode()


def test_a_list_in_a_pipe_is_plain(home: Path) -> None:
    lines = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert {line[0] for line in lines} == {"anthropic", "openai"}
    assert {len(line) for line in lines} == {11}
    [opus] = [line for line in lines if line[1] == "claude-opus-5-5"]
    assert opus == ["anthropic", "claude-opus-5-5", "", "4", "20", "0.2", "5", "8", "", "", "10"]


def test_a_list_may_be_narrowed_or_widened(home: Path) -> None:
    lines = run("list", "--model", "CLAUDE-opus-5*", "--provider", "anthropic").stdout.splitlines()
    assert [line.split("\t")[1] for line in lines] == ["claude-opus-5", "claude-opus-5-5"]
    assert {line.split("\t")[0] for line in run("list", "--all").stdout.splitlines()} > {"openrouter", "google"}
    by_alias = run("list", "--model", "gpt-5-codex", "--provider", "openai").stdout
    assert by_alias.split("\t")[1] == "gpt-5"
    nothing = run("list", "--model", "nothing-like-this")
    assert (nothing.stdout, nothing.stderr.split(".")[0]) == ("", "No price fits")


def test_a_list_of_another_day(home: Path) -> None:
    before, after = (
        run("list", "--model", "gpt-5.6-sol", "--provider", "openai", "--at", day).stdout.split("\t")
        for day in ("2026-08-20", "2026-08-21")
    )
    assert (before[2:5], after[2:5]) == (["", "5", "30"], ["2026-08-21", "4", "20"])
    wrong = run("list", "--at", "tomorrow", code=2)
    assert "expected a day like 2026-01-31" in wrong.stderr


def test_a_list_as_json(home: Path) -> None:
    [fact] = json.loads(run("list", "--model", "claude-opus-4-6", "--provider", "anthropic", "--json").stdout)
    assert fact["price"]["input"] == 5 and fact["history"][0]["above"][0] == {
        **{"input": 10, "output": 37.5, "cache_read": 1, "cache_write": 12.5, "cache_write_1h": 20, "tokens": 200000}
    }
    assert fact["geo"] == {"us": 1.1} and set(fact["modes"]) == {"batch", "fast"}


def test_show_in_a_pipe(home: Path) -> None:
    lines = [line.split("\t") for line in run("show", "gpt-5.6-sol", "--at", "2026-08-21").stdout.splitlines()]
    assert lines[0] == ["gpt-5.6-sol  (openai, genai-prices-0.2.3)"]
    assert lines[1] == ["", "input", "output", "cache_read", "cache_write", "web_search"]
    assert [line[0] for line in lines[2:6]] == [
        *("standard", "  above 272k tokens", "from 2026-08-21 *", "  above 272k tokens"),
    ]
    assert lines[4][1:] == ["4.00", "20.00", "0.40", "5.00", "10.00"]


def test_show_names_limits_places_and_sources(home: Path) -> None:
    assert "ultrafast up to 272k\t60.00\t300.00" in run("show", "gpt-6-astra").stdout
    shown = run("show", "claude-mythos-5").stdout.splitlines()
    assert shown[-2] == "inference_geo us: all token prices times 1.1"
    assert shown[-1].startswith("our own figures: https://platform.claude.com/")
    peak = run("show", "deepseek-flash", "--provider", "deepseek").stdout
    assert "01:00-04:00 UTC Mon-Fri\t0.30\t1.20" in peak.replace(" *", "")
    fact = json.loads(run("show", "us.anthropic.claude-opus-5-5", "--json").stdout)
    assert (fact["provider"], fact["price"]["input"]) == ("aws", 4.4)


def test_show_of_a_model_without_a_price(home: Path) -> None:
    shown = run("show", "claude-opus-55", code=1)
    assert shown.stdout == ""
    assert shown.stderr == (
        'lunaroute: no price of claude-opus-55 is known: its cost is unknown; did you mean "claude-opus-5-5"?\n'
    )
    assert "\x1b" not in run("show", "\x1b[31mred", code=1).stderr


def test_a_terminal_gets_tables(home: Path) -> None:
    own(home)
    listed = in_terminal(home, "list", "--model", "*opus-5-5", "--provider", "anthropic")
    assert "Cache write" in listed and "claude-opus-5-5" in listed and "1 models" not in listed
    assert "lunaroute prices show MODEL" in listed
    shown = in_terminal(home, "show", "gpt-6-sol")
    assert "standard *" in shown and "above 272k tokens" in shown and "\t" not in shown


def test_own_prices_come_first(home: Path) -> None:
    own(home)
    assert run("list").stdout.splitlines()[0].split("\t")[:5] == ["local", "house-model", "", "0", "0"]
    assert run("show", "house-model", "--provider", "local").stdout.startswith("house-model  (local, user)")
    assert run("show", "house-model", code=1).stdout == ""


def test_a_bad_file_ends_every_command(home: Path) -> None:
    file = own(home, "models:\n- model: a\n  inptu: 1\n")
    said = f'lunaroute: {file}:3: models[0].inptu: unknown key; did you mean "input"?\n'
    for words in (["list"], ["show", "gpt-5"], ["check"], ["check", str(file)]):
        done = run(*words, code=1)
        assert (done.stdout, done.stderr) == ("", said)


def test_check(home: Path) -> None:
    assert run("check").output == f"no {home}/prices.yaml: only the shipped prices are used\n"
    file = own(home)
    assert run("check").output == f"{file}: fine, prices for 1 model\n"
    assert run("check", str(ROOT / "examples" / "prices.yaml")).output.endswith(": fine, prices for 3 models\n")
    assert "cannot be read" in run("check", str(home / "none.yaml"), code=1).stderr
