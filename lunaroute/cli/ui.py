"""`lunaroute ui`: the pages over a database that is there, without a server. It only reads; deleting is an order."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import click

from lunaroute.cli import desk
from lunaroute.cli.options import fail, settings
from lunaroute.config import flat, plain
from lunaroute.errors import LunaRouteError


@click.command()
@click.option("--config", metavar="FILE", help="Configuration file (YAML).")
@click.option("--db", metavar="FILE", help="Database file.  [default: the configured one]")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: ui.host]")
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="Port; 0: a free one.  [default: ui.port]")
def ui(config: str | None, db: str | None, host: str | None, port: int | None) -> None:
    """Show the web UI over a database, until Ctrl-C, with no server running or beside one.

    A running server shows its own at ui.port. Elsewhere than on loopback it needs access_tokens, as that does.
    """
    from lunaroute.ui import server
    from lunaroute.ui.source import Setting

    loaded = settings(config, {})
    configured = Path(loaded.config.session_recording.sqlite.path)
    path = Path(db).expanduser() if db else configured
    rows = [Setting(key, value, loaded.origins[key]) for key, value in flat(plain(loaded.config)).items()]

    def order(asked: dict[str, Any]) -> dict[str, Any]:
        return desk.ask(loaded, asked, lambda done, total: None)

    host = host or loaded.config.ui.host
    port = loaded.config.ui.port if port is None else port
    try:
        running = server.start(
            path, host, port, status=dict, metrics=lambda: b"", allowed_hosts=list(loaded.config.allowed_hosts),
            access_tokens=list(loaded.config.access_tokens), settings=lambda: rows,
            order=order if path.resolve() == configured.resolve() else None,
        )  # fmt: skip
    except OSError as error:
        fail(f"cannot listen on {host}:{port}: {error.strerror or error}; a running server may show its pages there, "
             "or name another with --port")  # fmt: skip
    except LunaRouteError as error:
        fail(str(error))
    click.echo(f"Web UI: {running.url}  (Ctrl-C ends it)", err=True)
    _wait()
    running.stop()


def _wait() -> None:
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    ended.wait()
