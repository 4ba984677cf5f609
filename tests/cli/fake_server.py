"""Stands in for the server in tests of its life: takes the pid file and answers /healthz as LunaRoute would.

usage: fake_server.py HOME HOST PORT [refuse | mute | deaf | FINGERPRINT]
refuse: writes a line and ends with code 1; mute: takes connections, never answers; deaf: does not react to SIGTERM;
FINGERPRINT: the settings it says it runs with.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from lunaroute import logs
from lunaroute.errors import StartError
from lunaroute.lifecycle import PidFile, Running, log_path, start_time

INSTANCE = "0123456789ab"


class Healthz(BaseHTTPRequestHandler):
    """Who I am."""

    def do_GET(self) -> None:
        address = self.server.server_address
        facts = {"product": "lunaroute", "version": "0.1.0", "instance": INSTANCE, "pid": os.getpid(), "ui": None}
        body = json.dumps({**facts, "address": str(address[0])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The log is not about requests."""


def main() -> int:
    home, host, port, *mode = sys.argv[1:]
    log = logs.get("fake")
    if mode == ["refuse"]:
        log.error("the disk is on fire", where="here")
        return 1
    if mode == ["mute"]:
        socket.create_server((host, int(port)))
        signal.pause()
    try:
        with PidFile.take(Path(home), host, int(port)) as pid_file:
            serve(pid_file, Path(home), (host, int(port)), "".join(mode))
    except StartError as error:
        log.error(str(error))
        return 1
    return 0


def serve(pid_file: PidFile, home: Path, address: tuple[str, int], mode: str) -> None:
    def leave(*_: object) -> None:
        if mode != "deaf":
            raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    server = HTTPServer(address, Healthz)
    log = str(log_path(home))
    began = start_time(os.getpid())
    pid_file.write(Running(os.getpid(), began, INSTANCE, *address, None, log, ["--port", str(address[1])], mode))
    logs.get("fake").info("ready")
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    sys.exit(main())
