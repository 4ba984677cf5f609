"""What `lunaroute env` prints, evaluated by real shells: quoted and unquoted, interactive and not (promises S1 to S3).

A stand-in answers as the server; a script named `codex` shows the arguments it was given.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest

from lunaroute.cli.shell import statements
from lunaroute.config import fingerprint, load
from lunaroute.lifecycle import ensure, running
from lunaroute.probe import base_url

ROOT = Path(__file__).resolve().parent.parent
FAKE = str(Path(__file__).parent / "cli" / "fake_server.py")
POSIX = ("bash", "dash", "ksh", "zsh")
WAYS = {"quoted": 'eval "$(lunaroute env --port {port})"', "unquoted": "eval $(lunaroute env --port {port})"}
SHOW = 'echo "A=$ANTHROPIC_BASE_URL"; echo "O=$OPENAI_BASE_URL"; codex "a  b" "*" "" --flag'


class Place(NamedTuple):
    """Where the shells run: a folder with files that globs would find, and the programs they call."""

    folder: Path
    environ: dict[str, str]
    port: int

    def expected(self, *before: str) -> list[str]:
        """What SHOW prints when all is right."""
        base = f"http://127.0.0.1:{self.port}"
        arguments = ["-c", f"openai_base_url={base}/v1", *before, "a  b", "*", "", "--flag"]
        return [f"A={base}", f"O={base}/v1", *(f"<{argument}>" for argument in arguments)]


def script(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("shells")
    programs = folder / "bin"
    programs.mkdir()
    python = shlex.quote(sys.executable)
    script(programs / "lunaroute", f'PYTHONPATH={shlex.quote(str(ROOT))} exec {python} -P -m lunaroute "$@"')
    script(programs / "codex", 'for argument; do printf "<%s>\\n" "$argument"; done')
    work = folder / "work"
    work.mkdir()
    for name in ("export", "codex", "a", "-c", "http:", "@", "{", "}"):
        (work / name).touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = folder / ".lunaroute"
    environ = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb", "LANG": "C.UTF-8"}
    settings = fingerprint(load(None, environ, {"port": port}).config)
    command = [sys.executable, "-P", FAKE, str(home), "127.0.0.1", str(port), settings]
    started = ensure(home, "127.0.0.1", port, command, {"PATH": os.environ["PATH"]})
    yield Place(work, environ, port)
    (server,) = running(home)
    os.kill(server.pid, 15)
    os.waitpid(started.answer.pid, 0)


def run(place: Place, shell: str, text: str) -> subprocess.CompletedProcess[str]:
    options = ["-f"] if shell == "zsh" else []
    return subprocess.run(
        [shell, *options, "-c", text],
        cwd=place.folder,
        env=place.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_shells_are_there() -> None:
    assert [shell for shell in (*POSIX, "fish") if shutil.which(shell) is None] == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shell", POSIX)
def test_evaluated(place: Place, shell: str, way: str) -> None:
    done = run(place, shell, f"{WAYS[way].format(port=place.port)}\n{SHOW}")
    assert done.stdout.splitlines() == place.expected()
    assert f"LunaRoute runs at http://127.0.0.1:{place.port}" in done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr  # that line, and that there is no UI: no shell complained


SETTINGS = [
    ("bash", "set -eu"),
    ("bash", "set -f"),
    ("bash", "shopt -s nullglob extglob"),
    ("bash", "shopt -s failglob"),
    ("bash", "set -o posix"),
    ("bash", "IFS=' '"),
    ("dash", "set -eu"),
    ("ksh", "set -eu"),
    ("zsh", "set -eu"),
    ("zsh", "setopt sh_word_split"),
    ("zsh", "setopt extended_glob null_glob"),
    ("zsh", "setopt ksh_arrays"),
    ("zsh", "emulate sh"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("shell", "setting"), SETTINGS, ids=[f"{s}:{o}" for s, o in SETTINGS])
def test_evaluated_under_other_options(place: Place, shell: str, setting: str, way: str) -> None:
    done = run(place, shell, f"{setting}\n{WAYS[way].format(port=place.port)}\n{SHOW}")
    assert (done.returncode, done.stdout.splitlines()) == (0, place.expected()), done.stderr


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shell", POSIX)
def test_an_alias_of_that_name_does_no_harm(place: Place, shell: str, way: str) -> None:
    """`codex() {` after `alias codex=...` is a syntax error that would lose the exports, too."""
    before = {"bash": "shopt -s expand_aliases\n", "zsh": "setopt aliases\n"}.get(shell, "")
    text = f"{before}alias codex='codex --mine'\n{WAYS[way].format(port=place.port)}\n{SHOW}"
    done = run(place, shell, text)
    # ksh and bash expand the alias again and then find the function; zsh's -c reads all before; dash drops the alias
    assert done.stdout.splitlines() in (place.expected("--mine"), place.expected()), done.stderr


@pytest.mark.parametrize("shell", POSIX)
def test_evaluated_twice(place: Place, shell: str) -> None:
    once = WAYS["quoted"].format(port=place.port)
    done = run(place, shell, f"{once}\n{once}\n{SHOW}")
    assert done.stdout.splitlines() == place.expected()


@pytest.mark.parametrize(
    "form", ["lunaroute env --port {port} --shell fish | source", "eval (lunaroute env --port {port} --shell fish)"]
)
def test_fish(place: Place, form: str) -> None:
    done = run(place, "fish", f"{form.format(port=place.port)}\n{SHOW}")
    assert done.stdout.splitlines() == place.expected()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shell", ["zsh", "bash"])
def test_typed_into_an_interactive_shell(place: Place, shell: str, way: str) -> None:
    """In a terminal of its own, as a person types it; in zsh `#` starts no comment there."""
    options = {"zsh": ["-f", "-i"], "bash": ["--norc", "--noprofile", "-i"]}[shell]
    environ: dict[str, str] = {**place.environ, "PS1": "ready> "}
    terminal = pexpect.spawn(
        shell,
        options,
        cwd=str(place.folder),
        env=environ,
        encoding="utf-8",
        timeout=30,
        echo=False,  # type: ignore[arg-type]
    )
    try:
        terminal.expect("ready> ")
        terminal.sendline("unset zle_bracketed_paste; alias codex='codex --mine'; echo set-up-done")
        terminal.expect("set-up-done\r\n")
        terminal.sendline(WAYS[way].format(port=place.port))
        terminal.expect(f"LunaRoute runs at http://127.0.0.1:{place.port}")
        terminal.sendline(f"{SHOW}; echo end-of-test")
        terminal.expect("<-c>")
        terminal.expect("end-of-test\r\n")
        assert isinstance(terminal.before, str)
        shown = [line for line in terminal.before.splitlines() if line.startswith("<")]
        assert shown == [line for line in place.expected("--mine") if line.startswith("<")][1:]
        terminal.sendline('echo "A=$ANTHROPIC_BASE_URL" "O=$OPENAI_BASE_URL" \'the\'-end')
        terminal.expect("the-end\r\n")
        assert f"A=http://127.0.0.1:{place.port} O=http://127.0.0.1:{place.port}/v1" in str(terminal.before)
        assert "not found" not in str(terminal.before)
    finally:
        terminal.close(force=True)


def test_standard_output_holds_nothing_but_statements(place: Place) -> None:
    done = run(place, "bash", f"lunaroute env --port {place.port}")
    base = f"http://127.0.0.1:{place.port}"
    first, second, third = done.stdout.splitlines()
    assert first == f"export ANTHROPIC_BASE_URL={base};"
    assert second == f"export OPENAI_BASE_URL={base}/v1;"
    assert f"command codex -c openai_base_url={base}/v1" in third and third.endswith(";")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost"])
def test_no_character_that_an_unquoted_eval_would_change(host: str) -> None:
    text = statements("posix", base_url(host, 8081))
    assert not set(text) & set("*?[]#\\!~^|<")
    assert all(line.endswith(";") for line in text.splitlines())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shell", POSIX)
def test_a_failure_exports_nothing(place: Place, shell: str, way: str) -> None:
    done = run(place, shell, f'{WAYS[way].format(port="0x1")}\necho "A=${{ANTHROPIC_BASE_URL-unset}}"')
    assert done.stdout.splitlines() == ["A=unset"]
    assert "port: expected a whole number" in done.stderr


def test_powershell_text() -> None:
    text = statements("powershell", "http://127.0.0.1:8081")
    assert '$env:ANTHROPIC_BASE_URL = "http://127.0.0.1:8081";' in text
    assert '& $found -c "openai_base_url=http://127.0.0.1:8081/v1" @args };' in text
