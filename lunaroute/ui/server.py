"""The web server of the pages: uvicorn with h11 in a thread of whoever starts it. Must not know what pages show.

The socket is bound before `start` returns, so that a taken port is an error of the caller's and not of a thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from lunaroute.config.check import is_loopback
from lunaroute.errors import StartError
from lunaroute.ui.views import Source, application

BACKLOG = 64
CONNECTIONS = 256  # a browser opens six per tab group; beyond this somebody is not looking at pages
GRACE_S = 1


class RunningUi:
    """The pages while they are served."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, url: str) -> None:
        self.url = url
        self._server = server
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="lunaroute-ui", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End it; requests under way get a second. May be called again."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        self._listener.close()

    def __repr__(self) -> str:
        return f"<RunningUi {self.url} {'running' if self.running else 'stopped'}>"


def start(
    db_path: Path,
    host: str,
    port: int,
    *,
    status: Callable[[], dict[str, object]],
    metrics: Callable[[], bytes],
    allowed_hosts: list[str],
    access_tokens: list[str],
    **asked: Any,
) -> RunningUi:
    """Serve the pages over a database that need not exist yet. Raises OSError where the port cannot be had.

    asked: what else the recorder is asked for, see Source.
    """
    if not is_loopback(host) and not access_tokens:
        raise StartError(f"The web UI on {host} would be open to everybody: set access_tokens, or ui.host 127.0.0.1.")
    listener = _listen(host, port)
    app = application(Source(db_path, status, metrics, **asked), host, allowed_hosts, access_tokens)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=65536,
    )
    return RunningUi(uvicorn.Server(config), listener, _url(host, listener.getsockname()[1]))


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
