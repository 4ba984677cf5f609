"""A real server over a database of the test's, and a client that says exactly what the test wants said."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from lunaroute.ui.server import RunningUi, start

STATUS: dict[str, object] = {
    "lag_events": 7,
    "stores": [
        {"name": "sqlite", "ok": True, "error": None, "path": "/home/me/sessions.db", "bytes": 123456},
        {"name": "jsonl", "ok": False, "error": "The disk is full.", "path": "/home/me/sessions", "bytes": 5},
    ],
    "ui": {"ok": True, "url": "http://127.0.0.1:8082", "error": None},
    "dropped": {"events": 0, "bytes": 0, "exchanges": 0},
}
METRICS = b"# TYPE lunaroute_requests_total counter\nlunaroute_requests_total 3.0\n"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """A running UI and how to ask it."""

    def __init__(self, ui: RunningUi) -> None:
        self.ui = ui
        self.address = urlsplit(ui.url)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; header names are given with _ for -, an empty value leaves it out."""
        assert self.address.hostname
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port or 80, timeout=20)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            host = given.pop("Host", self.address.netloc)
            if host:
                connection.putheader("Host", host)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


Serve = Callable[..., Site]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(path of a database, ...) starts a server on a free port; all are stopped at the end."""
    running: list[RunningUi] = []

    def go(database: Path = tmp_path / "none.db", host: str = "127.0.0.1", port: int = 0, **given: Any) -> Site:
        settings: dict[str, Any] = {
            "status": lambda: STATUS,
            "metrics": lambda: METRICS,
            "allowed_hosts": [],
            "access_tokens": [],
            **given,
        }
        running.append(start(database, host, port, **settings))
        return Site(running[-1])

    yield go
    for ui in running:
        ui.stop()
