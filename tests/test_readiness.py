"""When the proxy can serve, and what is said of its parts: as values, and through a real server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import time
from typing import Any

import pytest

from lunaroute.readiness import report
from tests.conftest import Serve
from tests.fakes import Request, Upstream, Wire
from tests.running import PATIENCE, Running, nobody, processes_of

Json = dict[str, Any]
FINE = {"enabled": True, "base_url": "https://a.test", "error": None}
DOWN = {**FINE, "error": "cannot connect to https://a.test: connection refused"}
OFF = {**FINE, "enabled": False}
STORE = {"name": "sqlite", "ok": True, "error": None, "path": "/x", "bytes": 1, "lost": 0}
TOLD = {"lag_bytes": 0, "lag_seconds": 0.0, "open_exchanges": 0, "dropped": {}, "stores": [STORE]}


def made(**more: Any) -> Json:
    given: Json = {"draining": False, "recording": True, "running": True, "providers": {"a": FINE}, "pools": []}
    return report(**{**given, "told": TOLD, **more})


CASES: dict[str, tuple[Json, bool, list[str]]] = {
    "all is well": ({}, True, []),
    "it stops": ({"draining": True}, False, ["the server is stopping"]),
    "the only provider is down": ({"providers": {"a": DOWN}}, False, [DOWN["error"]]),
    "one of two is down": ({"providers": {"a": DOWN, "b": FINE}}, True, [DOWN["error"]]),
    "one is down, the other off": ({"providers": {"a": DOWN, "b": OFF}}, False, [DOWN["error"]]),
    "no provider": ({"providers": {"a": OFF}}, False, ["no provider is enabled (providers.<name>.enabled)"]),
    "no observer": (
        {"running": False, "told": None},
        True,
        ["the observer does not answer; if it has ended it is started again by itself"],
    ),
    "a full disk": (
        {"told": {**TOLD, "stores": [{**STORE, "ok": False, "error": "disk full", "lost": 1200}]}},
        True,
        ["sqlite takes no records: disk full", "1,200 exchanges are not in sqlite"],
    ),
    "late": ({"told": {**TOLD, "lag_seconds": 41.7}}, True, ["the record is 42 s behind"]),
    "a full ring": (
        {"told": {**TOLD, "dropped": {"tap_dropped_exchanges_total": 3}}},
        True,
        ["3 exchanges were not recorded: the ring was full"],
    ),
    "recording is off": ({"recording": False, "running": False, "told": None}, True, []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str) -> None:
    more, ready, problems = CASES[case]
    facts = made(**more)
    assert (facts["ready"], facts["problems"]) == (ready, problems)


def readyz(luna: Running) -> tuple[int, Json]:
    status, body = luna.get("/readyz")
    return status, json.loads(body)


async def whole(request: Request, wire: Wire) -> None:
    await wire.body()
    await wire.answer(200, [("Content-Type", "application/json")], b"{}")


def ask(luna: Running) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", luna.port, timeout=PATIENCE)
    try:
        connection.request("POST", "/v1/messages", b"{}", {"x-api-key": "sk-ant-dummy"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_a_provider_that_goes_and_comes_back(serve: Serve) -> None:
    only = {"providers": {"openai": {"enabled": False}, "anthropic": {"http_client": {"max_retries": 0}}}}
    upstream = Upstream(whole)
    with nobody() as port:
        luna = serve(f"http://127.0.0.1:{port}", only)
        _goes(luna, port)
    upstream.port = port
    with upstream:
        assert ask(luna) == 200
        status, facts = readyz(luna)
        assert (status, facts["problems"]) == (200, [])


def _goes(luna: Running, port: int) -> None:
    assert readyz(luna)[0] == 200, "nobody has tried yet"
    assert ask(luna) == 502
    status, facts = readyz(luna)
    why = f"cannot connect to http://127.0.0.1:{port}: connection refused"
    assert (status, facts["ready"], facts["problems"]) == (503, False, [why])
    assert facts["providers"]["anthropic"]["error"] == why and not facts["providers"]["anthropic"]["ok"]
    said = luna.lunaroute("status", "--config", str(luna.file))
    assert said.returncode == 0, "it runs"
    assert "  ready     no\n" in said.stdout and f"  problem   {why}\n" in said.stdout
    assert "  provider  anthropic failing, " in said.stdout and "  provider  openai off, " in said.stdout
    doctor = luna.lunaroute("doctor", "--config", str(luna.file)).stdout
    assert why in " ".join(doctor.split())


def test_a_locked_database_and_a_dead_observer_are_said_and_serve(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream)
        assert ask(luna) == 200
        luna.exchanges()
        database = sqlite3.connect(luna.data / "sessions.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        deadline = time.monotonic() + PATIENCE
        while not (facts := readyz(luna)[1])["problems"]:
            assert ask(luna) == 200 and time.monotonic() < deadline
        assert facts["ready"] and "sqlite takes no records: " in facts["problems"][0]
        database.close()
        assert luna.process is not None
        observer = processes_of(luna.process.pid)[1]
        os.kill(observer, signal.SIGSTOP)
        # it stops a moment later
        while not ((found := readyz(luna)) and "the observer does not answer" in " ".join(found[1]["problems"])):
            assert time.monotonic() < deadline
        os.kill(observer, signal.SIGKILL)
        assert found[0] == 200 and found[1]["ready"]


def test_with_access_tokens(serve: Serve) -> None:
    with Upstream(whole) as upstream:
        luna = serve(upstream, {"access_tokens": ["token-1234"]})
        assert luna.get("/readyz")[0] == 401
        assert "  ready     yes\n" in luna.lunaroute("status", "--config", str(luna.file)).stdout
        shown = luna.lunaroute("top", "--config", str(luna.file))
        assert (shown.returncode, shown.stdout.split()[2]) == (0, "ready")
