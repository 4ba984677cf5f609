"""`lunaroute env` as a process: what starts, what is found again, the quick way, and what is said when it fails."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lunaroute.cli.warm import Came, asked, quick, remember
from lunaroute.config import fingerprint, load
from lunaroute.lifecycle import PidFile, ensure, log_path, pid_path, run_folder, running

FAKE = str(Path(__file__).parent / "fake_server.py")
HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": root}


def env(environ: dict[str, str], *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "lunaroute", "env", *words]
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def server(environ: dict[str, str], tmp_path: Path, port: int) -> Iterator[int]:
    """The stand-in, with the settings that `env --port` asks for."""
    home = tmp_path / ".lunaroute"
    settings = fingerprint(load(None, environ, {"port": port}).config)
    started = ensure(home, HOST, port, [sys.executable, "-P", FAKE, str(home), HOST, str(port), settings], environ)
    yield started.answer.pid
    os.kill(started.answer.pid, 9)
    os.waitpid(started.answer.pid, 0)


def test_a_running_server_is_found_again(environ: dict[str, str], server: int, port: int) -> None:
    first, second = env(environ, "--port", str(port)), env(environ, "--port", str(port))
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout
    assert first.stdout.startswith(f"export ANTHROPIC_BASE_URL=http://127.0.0.1:{port};\n")
    assert f"LunaRoute runs at http://127.0.0.1:{port} (pid {server})\n" in first.stderr
    assert first.stderr == second.stderr


def test_the_quick_way_answers_without_any_configuration(
    environ: dict[str, str], server: int, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = env(environ, "--port", str(port))
    assert quick(["--port", str(port)], environ)
    assert capsys.readouterr() == (slow.stdout, slow.stderr)


def test_whatever_changed_goes_the_long_way(
    environ: dict[str, str], server: int, port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env(environ, "--port", str(port))
    words = ["--port", str(port)]
    assert quick(words, environ)
    assert not quick([*words, "--no-ui"], environ)
    assert not quick(words, environ | {"LUNAROUTE_UI_PORT": "9"})
    assert not quick([*words, "--help"], environ)
    file = tmp_path / ".lunaroute" / "config.yaml"
    file.write_text("port: 1\n")
    assert not quick(words, environ)


def test_a_changed_config_file_is_noticed(tmp_path: Path, environ: dict[str, str], server: int, port: int) -> None:
    home = tmp_path / ".lunaroute"
    file = home / "config.yaml"
    file.write_text("workers: 1\n")
    question = asked([], environ)
    remember(home, question, Came(HOST, port, "posix", True))
    assert quick([], environ)
    file.write_text("workers: 2\n")
    os.utime(file, ns=(1, 1))
    assert not quick([], environ)


def test_a_server_that_went_away_goes_the_long_way(
    tmp_path: Path, environ: dict[str, str], port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ".lunaroute"
    run_folder(home).mkdir(parents=True, mode=0o700)
    remember(home, asked([], environ), Came(HOST, port, "posix", True))
    assert not quick([], environ)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["", "{", "[[1]]", "[[[], []]]", '{"a": 1}', "\x00"])
def test_a_damaged_memory_is_no_failure(tmp_path: Path, environ: dict[str, str], content: str) -> None:
    cache = run_folder(tmp_path / ".lunaroute") / "env.cache"
    cache.parent.mkdir(parents=True, mode=0o700)
    cache.write_text(content)
    assert not quick([], environ)
    remember(tmp_path / ".lunaroute", asked([], environ), Came(HOST, 1, "posix", True))
    assert len(json.loads(cache.read_text())) == 1
    assert [path.name for path in cache.parent.iterdir()] == ["env.cache"]


def test_the_memory_is_small_and_holds_no_credential(tmp_path: Path, environ: dict[str, str]) -> None:
    home = tmp_path / ".lunaroute"
    run_folder(home).mkdir(parents=True, mode=0o700)
    for number in range(40):
        words = asked(["--port", str(number)], environ | {"OPENAI_API_KEY": "sk-canary"})
        remember(home, words, Came(HOST, number, "posix", True))
    cache = run_folder(home) / "env.cache"
    assert len(json.loads(cache.read_text())) == 16
    assert "canary" not in cache.read_text()
    assert cache.stat().st_mode & 0o777 == 0o600


def test_other_settings_than_asked_for_are_pointed_out(environ: dict[str, str], server: int, port: int) -> None:
    done = env(environ, "--port", str(port), "--no-record")
    assert "runs with other settings than the ones asked for; `lunaroute restart`" in done.stderr
    assert done.returncode == 0 and done.stdout


def test_a_gateway_that_was_set_is_pointed_out(environ: dict[str, str], server: int, port: int) -> None:
    environ["ANTHROPIC_BASE_URL"] = "https://user:pass-canary@gw.test/x"
    done = env(environ, "--port", str(port))
    assert "ANTHROPIC_BASE_URL was gw.test; to keep going there, set `providers.anthropic.base_url`" in done.stderr
    assert "canary" not in done.stderr


def test_other_shells(environ: dict[str, str], server: int, port: int) -> None:
    assert env(environ, "--port", str(port), "--shell", "fish").stdout.startswith("set -gx ANTHROPIC_BASE_URL http:")
    assert env(environ, "--port", str(port), "--shell", "powershell").stdout.startswith("$env:ANTHROPIC_BASE_URL = ")
    assert env(environ, "--port", str(port), "--shell", "tcsh").returncode == 2


def test_a_foreign_program_is_named(environ: dict[str, str], port: int) -> None:
    with socket.create_server((HOST, port)):
        done = env(environ, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port} of 127.0.0.1 is taken by " in done.stderr and f"(pid {os.getpid()})" in done.stderr


def test_a_bad_configuration_starts_nothing(environ: dict[str, str], tmp_path: Path, port: int) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("prot: 1\n")
    done = env(environ, "--config", "c.yaml", "--port", str(port), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f'lunaroute: {file}:1: prot: unknown key; did you mean "port"?\n'
    assert not (tmp_path / ".lunaroute").exists()


def test_a_server_that_cannot_start_shows_its_last_lines(environ: dict[str, str], tmp_path: Path, port: int) -> None:
    """The address belongs to a server that does not answer yet: the real one refuses to start beside it."""
    home = tmp_path / ".lunaroute"
    with PidFile.take(home, HOST, port):
        done = env(environ, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert "the server ended at once (exit code 1)" in done.stderr
    assert f"last lines of {log_path(home)}:" in done.stderr
    assert f"error server: LunaRoute already runs at http://127.0.0.1:{port}; stop it with" in done.stderr
    assert all(json.loads(line)["level"] for line in log_path(home).read_text().splitlines())


def test_a_folder_that_others_may_write_starts_nothing(environ: dict[str, str], tmp_path: Path, port: int) -> None:
    home = tmp_path / ".lunaroute"
    home.mkdir()
    home.chmod(0o777)
    done = env(environ, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"chmod 700 {home}" in done.stderr
    assert list(home.iterdir()) == []


def test_the_real_server(environ: dict[str, str], tmp_path: Path, port: int) -> None:
    """From nothing to an answering server, found again, stopped; everything it left is private."""
    with socket.create_server((HOST, 0)) as free:
        ui = str(free.getsockname()[1])
    home = tmp_path / ".lunaroute"
    done = env(environ, "--port", str(port), "--ui-port", ui, "--log-level", "debug")
    try:
        assert done.returncode == 0, done.stderr
        assert f"LunaRoute started at http://127.0.0.1:{port} (pid " in done.stderr
        (facts,) = running(home)
        assert facts.arguments == ["--port", str(port), "--ui-port", ui, "--log-level", "debug"]
        again = env(environ, "--port", str(port), "--ui-port", ui, "--log-level", "debug")
        assert f"LunaRoute runs at http://127.0.0.1:{port} (pid {facts.pid})" in again.stderr
    finally:
        command = [sys.executable, "-P", "-m", "lunaroute", "stop", "--port", str(port)]
        stopped = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert stopped.returncode == 0, stopped.stderr
    assert not pid_path(home, HOST, port).exists()
    modes = {path: path.stat().st_mode & 0o777 for path in [home, *home.rglob("*")]}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes
