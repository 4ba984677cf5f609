"""The program: every command has help that reads well, nothing heavy is loaded where it is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lunaroute.cli.app import COMMANDS, program

PATHS = [
    [],
    *([name] for name in COMMANDS),
    ["config", "check"],
    ["config", "show"],
]


@pytest.mark.parametrize("words", PATHS, ids=lambda words: " ".join(words) or "lunaroute")
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(words: list[str], flag: str) -> None:
    done = CliRunner().invoke(program, [*words, flag], prog_name="lunaroute", terminal_width=100)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"Usage: {' '.join(['lunaroute', *words])} ")
    assert max(len(line) for line in done.output.splitlines()) <= 100


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*prefix, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*prefix, name))
    return found


def test_every_command_and_every_option_is_explained() -> None:
    for path, command in commands(program):
        assert command.help, path
        assert command.get_short_help_str(200), path
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, (path, option.name)


def test_version_names_the_parts() -> None:
    for flag in ("--version", "-V"):
        out = CliRunner().invoke(program, [flag]).output
        assert out.startswith("lunaroute 0.1.0\nPython 3.")
        assert all(part in out for part in ("SQLite 3.", "uvloop ", "httptools "))


def test_an_unknown_command_names_the_nearest() -> None:
    done = CliRunner().invoke(program, ["statuz"])
    assert done.exit_code == 2
    assert "no command 'statuz'; did you mean \"status\"?" in done.stderr


def test_so_does_a_group_of_commands() -> None:
    done = CliRunner().invoke(program, ["sessions", "exprot"])
    assert done.exit_code == 2
    assert "no command 'exprot'; did you mean \"export\"?" in done.stderr


def test_without_a_command_it_is_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["--port", "x"], ["serve", "--port", "x"]):
        done = CliRunner().invoke(program, words)
        assert done.exit_code == 1
        assert done.stderr.startswith("lunaroute: flag --port: port: expected a whole number")
    monkeypatch.setenv("LUNAROUTE_PORT", "x")
    done = CliRunner().invoke(program, [])
    assert done.stderr.startswith("lunaroute: env LUNAROUTE_PORT: port: expected a whole number")


HEAVY = (
    "click",
    "yaml",
    "msgspec",
    "uvloop",
    "asyncio",
    "sqlite3",
    "rich",
    "logging",
    "http.client",
    "subprocess",
    "ssl",
)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("lunaroute.cli.warm", HEAVY),
        ("lunaroute.cli.env", ("uvloop", "asyncio", "sqlite3", "rich", "http.client", "subprocess", "ssl")),
        ("lunaroute.cli.serve", ("rich", "sqlite3", "lunaroute.proxy", "lunaroute.observe")),
    ],
)
def test_what_is_not_needed_is_not_loaded(module: str, absent: tuple[str, ...]) -> None:
    """The goals for a cold and a warm `env` rest on this (design.md section 4)."""
    script = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
