"""The pages of a real server: an answer seen while it comes, settings with their origin, deleting; `lunaroute ui`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from lunaroute.cli.app import program
from tests import recorded
from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import PATIENCE, Running, free_port
from tests.test_record import SSE, answers, ask, end, said, start, turn, until, user

FAMILY = {"x-claude-code-session-id": "550e8400-e29b-41d4-a716-446655440000", "user-agent": "claude-cli/2.1.330"}
SESSION = FAMILY["x-claude-code-session-id"]


class Held:
    """An upstream that gives one piece of its answer after the other when it is told."""

    def __init__(self) -> None:
        self.gates = [threading.Event() for _ in range(3)]

    async def __call__(self, request: Request, wire: Wire) -> None:
        import asyncio

        async def pieces() -> Any:
            yield start(input_tokens=10) + said(0, "The first half ")
            for gate, piece in zip(self.gates, (said(1, "and the second"), end(output_tokens=5), b""), strict=True):
                while not gate.is_set():
                    await asyncio.sleep(0.01)
                if piece:
                    yield piece

        await wire.body()
        await wire.head(200, [*SSE, ("Transfer-Encoding", "chunked")])
        async for piece in pieces():
            await wire.chunk(piece)
        await wire.chunk(b"")


def events(connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
    connection.request("GET", path)
    return connection.getresponse()


def heard(answer: http.client.HTTPResponse, word: str) -> str:
    """The stream up to the line with this word."""
    deadline = time.monotonic() + PATIENCE
    text = ""
    while word not in text:
        assert time.monotonic() < deadline, text
        text += answer.readline().decode()
    return text


def test_an_answer_is_seen_while_it_comes(serve: Serve) -> None:
    held = Held()
    with Upstream(held) as upstream:
        luna = serve(upstream)
        asking = threading.Thread(target=ask, args=(luna, turn(user("Tell me slowly."))), kwargs=FAMILY)
        asking.start()
        until(luna, "SELECT count(*) AS n FROM exchanges WHERE session_id IS NOT NULL", [(1,)])
        page = luna.get(f"/sessions/{SESSION}", luna.ui_url)[1].decode()
        assert "Tell me slowly." in page and "still on its way" in page
        connection = http.client.HTTPConnection("127.0.0.1", luna.ui_port, timeout=PATIENCE)
        live = events(connection, f"/api/live?session={SESSION}&seen=")
        assert "and the second" not in heard(live, "The first half ")
        held.gates[0].set()
        heard(live, "and the second")
        held.gates[1].set()
        held.gates[2].set()
        asking.join()
        heard(live, "1, 0 running")
        connection.close()
        page = luna.get(f"/sessions/{SESSION}", luna.ui_url)[1].decode()
        assert "and the second" in page and "still on its way" not in page


def post(luna: Running, path: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", luna.ui_port, timeout=PATIENCE)
    try:
        connection.request("POST", path, urllib.parse.urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("location") or answer.read().decode()
    finally:
        connection.close()


def test_deleting_and_settings_of_a_running_server(serve: Serve) -> None:
    script = answers([start(input_tokens=10), said(0, "gone soon"), end(output_tokens=5)])
    with Upstream(script) as upstream:
        luna = serve(
            upstream, {"access_tokens": []}, LUNAROUTE_LOG_LEVEL="warn", ANTHROPIC_API_KEY="sk-ant-configured-1"
        )
        ask(luna, turn(user("hello zebra")), **FAMILY)
        until(luna, "SELECT state FROM exchanges", [("ok",)])
        assert post(luna, f"/sessions/{SESSION}/delete", {"sure": "yes"}, origin="http://evil.test")[0] == 403
        assert post(luna, f"/sessions/{SESSION}/delete", {"sure": "yes"}) == (303, "/sessions?deleted=1")
        assert luna.sessions() == [] and luna.jsonl() == []
        told = json.loads(luna.get("/api/settings", luna.ui_url)[1])
        rows = {row["key"]: row for section in told["settings"].values() for row in section}
        assert rows["logging.level"] == {"key": "logging.level", "value": "warn", "origin": "env LUNAROUTE_LOG_LEVEL"}
        assert rows["port"]["origin"].startswith(str(luna.file))
        assert rows["providers.anthropic.api_key"]["value"] == "***"
        assert "sk-ant-configured-1" not in luna.get("/settings", luna.ui_url)[1].decode()


def test_the_pages_without_a_server(tmp_path: Path) -> None:
    home = tmp_path / "home"
    luna = Running(home, "http://127.0.0.1:1")
    luna.data.mkdir(mode=0o700)
    recorded.write(luna.data / "sessions.db", recorded.tool_loop("talk"))
    arguments = [str(home / "bin" / "lunaroute"), "ui", "--config", str(luna.file)]
    running = subprocess.Popen(arguments, env=luna.environ, cwd=home, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        assert running.stderr.readline() == f"Web UI: {luna.ui_url}  (Ctrl-C ends it)\n"
        assert "Why does" in luna.get("/sessions/talk", luna.ui_url)[1].decode()
        assert "run by themselves" in luna.get("/settings", luna.ui_url)[1].decode()
        taken = subprocess.run(arguments, env=luna.environ, cwd=home, capture_output=True, text=True, check=False)
        assert taken.returncode == 1 and f"127.0.0.1:{luna.ui_port}" in taken.stderr and "--port" in taken.stderr
        # it is written by nobody: so the order is carried out right here
        assert post(luna, "/sessions/talk/delete", {"sure": "yes"}) == (303, "/sessions?deleted=1")
        assert luna.get("/sessions/talk", luna.ui_url)[0] == 404
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0
        assert running.stderr is not None
        running.stderr.close()


def test_the_pages_over_another_database_only_read(tmp_path: Path) -> None:
    luna = Running(tmp_path / "home", "http://127.0.0.1:1")
    other = recorded.write(tmp_path / "other.db", recorded.tool_loop("talk"))
    port = free_port()
    arguments = [str(luna.home / "bin" / "lunaroute"), "ui", "--db", str(other), "--port", str(port)]
    running = subprocess.Popen(arguments, env=luna.environ, cwd=luna.home, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None and f":{port} " in running.stderr.readline()
        luna.ui_port, luna.ui_url = port, f"http://127.0.0.1:{port}"
        assert "sessions delete talk" in luna.get("/sessions/talk/delete", luna.ui_url)[1].decode()
        assert post(luna, "/sessions/talk/delete", {"sure": "yes"})[0] == 400
    finally:
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
        assert running.stderr is not None
        running.stderr.close()


def test_beyond_loopback_the_pages_need_tokens(tmp_path: Path) -> None:
    luna = Running(tmp_path / "home", "http://127.0.0.1:1")
    done = luna.lunaroute("ui", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1 and "access_tokens" in done.stderr
    assert "ui" in program.list_commands(None)  # type: ignore[arg-type]
