"""The life of a server process: its pid file, a detached start, a stop that never hits a stranger.

A running server holds an exclusive flock on `run/<host>_<port>.json`; the file names its pid and the start time of
that process. So a stale file is told from a live one by the lock, and a pid that meanwhile belongs to somebody else
by the start time.
Knows nothing of what the server does; imports nothing heavy: `lunaroute env` waits for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lunaroute.errors import StartError
from lunaroute.folders import open_private, private_folder
from lunaroute.probe import Answer, base_url, occupant, probe

START_SECONDS = 20.0
POLL_SECONDS = 0.01
# What a relative path in the environment means is settled before the server moves to "/".
PATH_VARIABLES = ("LUNAROUTE_CONFIG", "LUNAROUTE_HOME", "LUNAROUTE_SESSIONS_DB_PATH", "LUNAROUTE_SESSIONS_DIR")


class Running(NamedTuple):
    """The content of a pid file."""

    pid: int
    start_time: int | None
    instance: str
    host: str
    port: int
    ui: str | None
    log: str | None
    arguments: list[str]
    settings: str
    ui_error: str | None = None


def run_folder(home: Path) -> Path:
    return home / "run"


def pid_path(home: Path, host: str, port: int) -> Path:
    return run_folder(home) / f"{host.replace(':', '-')}_{port}.json"


def log_path(home: Path) -> Path:
    """The log of servers that were started detached."""
    return home / "logs" / "server.log"


def start_time(pid: int) -> int | None:
    """When the process began, in the system's own ticks; None where the system does not tell, or it is gone."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text()
        return int(facts.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


class PidFile:
    """The pid file of this process, held for its life: `with PidFile.take(...) as pid_file`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def take(cls, home: Path, host: str, port: int) -> PidFile:
        """Claims the address for this process; a StartError names the process that has it."""
        path = pid_path(home, host, port)
        private_folder(path.parent)
        for _ in range(100):
            fd = _open_or_make(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(fd)
                other = read_pid(path)
                if other and start_time(other.pid) == other.start_time:
                    raise StartError(_taken(host, port, f" (pid {other.pid})")) from None
            else:
                if _same_file(fd, path):
                    return cls(path, fd)
                os.close(fd)  # its owner removed it just now
            time.sleep(POLL_SECONDS)  # somebody who only looks holds the lock for a moment, too
        raise StartError(_taken(host, port, ""))

    def write(self, running: Running) -> None:
        """Says who we are."""
        raw = json.dumps(running._asdict()).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, raw, 0)

    def __enter__(self) -> PidFile:
        return self

    def __exit__(self, *_: object) -> None:
        if _same_file(self._fd, self.path):
            self.path.unlink()
        os.close(self._fd)


def _open_or_make(path: Path) -> int:
    try:
        return open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except StartError:
        if not os.path.lexists(path):
            raise
    return open_private(path, os.O_RDWR)


def _taken(host: str, port: int, who: str) -> str:
    return (
        f"LunaRoute already runs at {base_url(host, port)}{who}; stop it with `lunaroute stop{_port_words(port)}`,"
        " or take another port with --port"
    )


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:
        return False


def _port_words(port: int) -> str:
    return "" if port == 8081 else f" --port {port}"


def read_pid(path: Path) -> Running | None:
    """What a pid file says; None if it is missing, empty (its server is still starting) or damaged."""
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        return Running(**facts) if isinstance(facts["pid"], int) and facts["pid"] > 1 else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_held(path: Path) -> bool:
    """Whether a live process holds the pid file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def running(home: Path) -> list[Running]:
    """The servers of this home folder that live; stale pid files are left out."""
    found = []
    for path in sorted(run_folder(home).glob("*.json")):
        facts = read_pid(path)
        if facts and is_held(path) and start_time(facts.pid) == facts.start_time:
            found.append(facts)
    return found


def stop(server: Running, timeout: float, *, now: bool = False) -> bool:
    """SIGTERM (twice with `now`: no waiting for running requests), then waits. False: it still runs.

    A pidfd names one process for good, so the signal cannot reach a stranger that got the number meanwhile; where there
    is none (macOS), the pid file's lock says that the server still lives.
    """
    if not hasattr(os, "pidfd_open"):
        return _stop_by_number(server, timeout, twice=now)
    try:
        fd = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return True
    try:
        if start_time(server.pid) != server.start_time:
            return True
        for _ in range(2 if now else 1):
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        return bool(select.select([fd], [], [], timeout)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)


def _stop_by_number(server: Running, timeout: float, *, twice: bool) -> bool:
    end = time.monotonic() + timeout
    try:
        for _ in range(2 if twice else 1):
            os.kill(server.pid, signal.SIGTERM)
        while time.monotonic() < end:
            os.kill(server.pid, 0)
            time.sleep(POLL_SECONDS)
    except ProcessLookupError:
        return True
    return False


@contextlib.contextmanager
def start_lock(home: Path, host: str, port: int) -> Iterator[None]:
    """Held while a server is started: two `env` at once start one server."""
    path = pid_path(home, host, port).with_suffix(".starting")
    private_folder(path.parent)
    fd = open_private(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class Started(NamedTuple):
    """An answering server, and whether it was started just now."""

    answer: Answer
    fresh: bool


def ensure(home: Path, host: str, port: int, command: Sequence[str], environ: Mapping[str, str]) -> Started:
    """The server at this address: the one that runs, or one started detached. A StartError says why there is none."""
    answer = probe(host, port)
    if answer.ours:
        return Started(answer, False)
    _refuse_foreign(answer, home, host, port)
    private_folder(home)
    with start_lock(home, host, port):
        answer = probe(host, port)  # another `env` may have been faster
        if answer.ours:
            return Started(answer, False)
        _refuse_foreign(answer, home, host, port)
        return Started(_start(home, host, port, command, environ), True)


def _refuse_foreign(answer: Answer, home: Path, host: str, port: int) -> None:
    if not answer.what:
        return
    path = pid_path(home, host, port)
    held = read_pid(path)
    if held and is_held(path):
        raise StartError(
            f"LunaRoute (pid {held.pid}) has port {port} but gives no answer: {answer.what};"
            f" end it with `lunaroute stop --now{_port_words(port)}` and look into {held.log or 'its log'}"
        )
    who = occupant(port)
    name = f"{who}, {answer.what}" if who else answer.what
    raise StartError(
        f"port {port} of {host} is taken by {name}, not by LunaRoute; stop that program or take another port:"
        f" --port {port + 9 if port < 65_000 else 8090}"
    )


def _start(home: Path, host: str, port: int, command: Sequence[str], environ: Mapping[str, str]) -> Answer:
    log = log_path(home)
    private_folder(log.parent)
    fd = open_private(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        begin = os.fstat(fd).st_size
        child = spawn(command, environ, fd)
    finally:
        os.close(fd)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        answer = probe(host, port)
        if answer.ours and answer.pid == child:
            return answer
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            raise StartError(f"the server ended at once (exit code {code})\n{last_lines(log, begin)}")
        time.sleep(POLL_SECONDS)
    os.kill(child, signal.SIGTERM)  # our own child, not waited for yet: the number is still its own
    os.waitpid(child, 0)
    raise StartError(f"the server did not answer within {START_SECONDS:.0f} s; stopped it\n{last_lines(log, begin)}")


def server_command(arguments: Sequence[str]) -> list[str]:
    """The command line of a detached server. `-P`: nothing is imported from the working directory."""
    return [sys.executable, "-P", "-m", "lunaroute", "serve", "--detached", *arguments]


def spawn(command: Sequence[str], environ: Mapping[str, str], log: int) -> int:
    """Starts the command in a session of its own, away from the terminal, its output into the log."""
    child = dict(environ)
    for name in PATH_VARIABLES:
        if child.get(name) and not child[name].startswith("~"):
            child[name] = os.path.abspath(child[name])
    package = str(Path(__file__).resolve().parent.parent)
    if not package.endswith(("site-packages", "dist-packages")):  # run from a source tree
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [package, child.get("PYTHONPATH", "")]))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Not `subprocess`: its imports cost 10 ms that a start does not need.
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        return os.posix_spawn(command[0], list(command), child, file_actions=actions, setsid=True)
    finally:
        os.close(null)


def last_lines(log: Path, begin: int, count: int = 12) -> str:
    """The end of a log file, from `begin` on."""
    try:
        with log.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(begin if begin <= size else 0, size - 65_536))
            lines = stream.read().decode("utf-8", "backslashreplace").splitlines()
    except OSError as error:
        return f"{log}: {error.strerror}"
    shown = [readable(line) for line in lines if line.strip()][-count:]
    return "\n".join([f"last lines of {log}:", *(f"  {line}" for line in shown)]) if shown else f"{log} says nothing"


def readable(line: str) -> str:
    """A line of the log for people: `18:30:01 warn server: message key=value`."""
    try:
        facts: dict[str, Any] = json.loads(line)
        head = f"{facts.pop('time')[11:19]} {facts.pop('level')} {facts.pop('from')}: {facts.pop('message')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    facts.pop("pid", None)
    return " ".join([head, *(f"{key}={value}" for key, value in facts.items())])
