"""A real `lunaroute serve` in a process of its own, with its own home and ports, and what it recorded.

Knows LunaRoute only from outside: its command, its endpoints, its files (bodies by way of its own reader).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lunaroute.stores import queries, schema
from lunaroute.stores.readonly import Connection

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
Json = dict[str, Any]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port that is taken, and at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def merged(base: Json, extra: Json) -> Json:
    """`base` with `extra` laid over it, mappings key by key."""
    both = dict(base)
    for key, value in extra.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def command(folder: Path) -> Path:
    """A folder for PATH with a `lunaroute` that runs this tree's code under this Python."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "lunaroute"
    python, root = shlex.quote(sys.executable), shlex.quote(str(ROOT))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {python} -P -m lunaroute "$@"\n')
    program.chmod(0o755)
    return folder


def settings(upstream: str, port: int, ui_port: int, extra: Json) -> Json:
    """A configuration whose providers are all at `upstream`."""
    base: Json = {
        "host": "127.0.0.1",
        "port": port,
        "ui": {"enabled": True, "host": "127.0.0.1", "port": ui_port},
        "providers": {
            "openai": {"base_url": f"{upstream}/v1", "chatgpt_base_url": f"{upstream}/backend-api/codex"},
            "anthropic": {"base_url": upstream},
        },
    }
    return merged(base, extra)


class Running:
    """One server. `home` is its HOME, `data` its LUNAROUTE_HOME."""

    def __init__(
        self, home: Path, upstream: str, extra: Json | None = None, environ: dict[str, str] | None = None
    ) -> None:
        self.home, self.data = home, home / ".lunaroute"
        self.port, self.ui_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ui_url = f"http://127.0.0.1:{self.ui_port}"
        home.mkdir(parents=True, exist_ok=True)
        self.file = home / "config.yaml"
        self.file.write_text(json.dumps(settings(upstream, self.port, self.ui_port, extra or {})))  # JSON is YAML
        self.environ = {
            "PATH": f"{command(home / 'bin')}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LUNAROUTE_HOME": str(self.data),
            "LANG": "C.UTF-8",
            **(environ or {}),
        }
        self._out = home / "serve.out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, probe: str = "/readyz") -> None:
        """Starts it and waits until it answers the probe with 200."""
        with self._out.open("ab") as out:
            self.process = subprocess.Popen(
                ["lunaroute", "serve", "--config", str(self.file)],
                env=self.environ, cwd=self.home, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                executable=str(self.home / "bin" / "lunaroute"),
            )  # fmt: skip
        self._await(probe)

    def _await(self, path: str) -> None:
        assert self.process is not None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if self.get(path)[0] == 200:
                    return
            except OSError:
                pass
            try:
                code = self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"lunaroute ended with {code}:\n{self.log()}")
        raise AssertionError(f"lunaroute did not get ready:\n{self.log()}")

    def get(self, path: str, base: str | None = None) -> tuple[int, bytes]:
        """(status, body) of a GET at the proxy, or at `base`."""
        try:
            with urllib.request.urlopen((base or self.url) + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read()

    def lunaroute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One run of the command in this server's surroundings."""
        return subprocess.run(
            [str(self.home / "bin" / "lunaroute"), *arguments],
            env=self.environ, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it as a service manager would; everything is recorded then. Its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"lunaroute did not stop:\n{self.log()}") from None

    def log(self) -> str:
        """All that it said."""
        kept = sorted((self.data / "logs").glob("*")) if self.data.exists() else []
        return "".join(file.read_text(errors="replace") for file in [self._out, *kept] if file.exists())

    # --- what it recorded -----------------------------------------------------------------------------------------

    def db(self) -> sqlite3.Connection:
        """The server answers before its observer has made the database: it is waited for, while the server runs."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                connection = sqlite3.connect(f"file:{self.data}/sessions.db?mode=ro", uri=True)
                if connection.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION:
                    break  # between two migrations it has only some of its tables
                connection.close()
            except sqlite3.OperationalError:
                if self.process is None or self.process.poll() is not None or time.monotonic() > end:
                    raise
            assert time.monotonic() < end, f"no database in {self.data}"
            time.sleep(0.01)
        connection.row_factory = sqlite3.Row
        return connection

    def rows(self, query: str, *values: Any) -> list[Json]:
        connection = self.db()
        try:
            return [dict(row) for row in connection.execute(query, values)]
        finally:
            connection.close()

    def sessions(self) -> list[Json]:
        return self.rows("SELECT * FROM sessions ORDER BY started_at, session_id")

    def exchanges(self) -> list[Json]:
        """Exchanges with their bodies, put together again, in order of their start."""
        found = self.rows("SELECT * FROM exchanges ORDER BY started_ns, row")
        with Connection(self.data / "sessions.db") as db:
            for row in found:
                kept = queries.bodies(db, row["id"])
                assert kept.trouble is None, kept.trouble
                row |= {"request_headers": json.dumps(kept.request_headers), "attempts": json.dumps(kept.attempts)}
                row |= {"response_headers": json.dumps(kept.response_headers), "timings": json.dumps(kept.timings)}
                row |= {"request_body": kept.request_body or None, "response_body": kept.response_body or None}
                row["request_decode_error"] = kept.request_decode_error
                row["response_decode_error"] = kept.response_decode_error
        return found

    def jsonl(self) -> list[Json]:
        """Every line of every session file."""
        return [json.loads(line) for file in self.session_files() for line in file.read_text().splitlines()]

    def session_files(self) -> Iterable[Path]:
        return sorted((self.data / "sessions").glob("*/session_*.jsonl"))

    def __repr__(self) -> str:
        return f"Running({self.url}, {'stopped' if self.process and self.process.poll() is not None else 'running'})"


def processes_of(pid: int) -> list[int]:
    """The process and its children, where /proc tells."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, children.read_text().split())] if children.exists() else [pid]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
