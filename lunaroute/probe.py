"""Who answers on a port: nobody, LunaRoute (which one), or a foreign program (its name if the system tells).

A few lines over a plain socket: `lunaroute env` waits for it, and importing an HTTP client costs more than the answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

PRODUCT = "lunaroute"
MAX_ANSWER = 65_536
# Hosts that mean "every address" are reached through the loopback.
REACH = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Answer(NamedTuple):
    """What /healthz said. `ours`: it is LunaRoute; otherwise `what` says what was found (empty: nobody listens)."""

    ours: bool
    what: str = ""
    version: str = ""
    instance: str = ""
    pid: int = 0
    ui: str | None = None
    started_at: str = ""


def url_host(host: str) -> str:
    """How clients on this machine write the host of the proxy.

    An IPv6 loopback becomes `localhost`: brackets are glob characters, and what `env` prints must survive unquoted.
    """
    host = REACH.get(host, host)
    if host == "::1":
        return "localhost"
    return f"[{host}]" if ":" in host else host


def base_url(host: str, port: int) -> str:
    """The proxy's address for clients on this machine."""
    return f"http://{url_host(host)}:{port}"


def probe(host: str, port: int, timeout: float = 2.0) -> Answer:
    """Asks whoever listens there for its identity."""
    try:
        with socket.create_connection((REACH.get(host, host), port), timeout) as peer:
            raw = _ask(peer, f"{url_host(host)}:{port}", timeout)
    except ConnectionRefusedError:
        return Answer(False)
    except TimeoutError:
        return Answer(False, "a program that takes connections and does not answer")
    except socket.gaierror:
        return Answer(False, f"no such host: {host}")
    except OSError as error:
        return Answer(False, f"no answer ({error.strerror})")
    return _judge(raw)


def get(host: str, port: int, path: str, token: str = "", timeout: float = 5.0) -> tuple[int, bytes]:
    """(status, body) of a GET at a server of ours, at most 4 MB of it; (0, what failed) where nothing answers.

    token: one of access_tokens, where there are some.
    """
    import http.client

    peer = http.client.HTTPConnection(REACH.get(host, host), port, timeout=timeout)
    try:
        peer.request("GET", path, headers={"X-LunaRoute-Token": token} if token else {})
        answer = peer.getresponse()
        return answer.status, answer.read(1 << 22)
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error).encode()
    finally:
        peer.close()


def _ask(peer: socket.socket, host: str, timeout: float) -> bytes:
    peer.sendall(
        f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n".encode()
    )
    raw, end = b"", time.monotonic() + timeout
    while len(raw) < MAX_ANSWER:
        peer.settimeout(max(0.01, end - time.monotonic()))
        piece = peer.recv(16_384)
        if not piece or time.monotonic() > end:
            break
        raw += piece
        head, blank, body = raw.partition(b"\r\n\r\n")
        if blank and len(body) >= _length(head):
            break
    return raw


def _length(head: bytes) -> int:
    for field in head.split(b"\r\n")[1:]:
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return MAX_ANSWER


def _judge(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    start, end = body.find(b"{"), body.rfind(b"}")
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        facts = json.loads(body[start : end + 1])
        if facts["product"] == PRODUCT:
            return Answer(
                True,
                version=str(facts["version"]),
                instance=str(facts["instance"]),
                pid=int(facts["pid"]),
                ui=facts.get("ui") or None,
                started_at=str(facts.get("started_at", "")),
            )
    return Answer(False, "another web server" if head.startswith(b"HTTP/") else "a program that is no web server")


def occupant(port: int) -> str | None:
    """`nginx (pid 123)`: the program that listens on the port, if this system tells."""
    inodes = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for fd in os.listdir(process / "fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(process / "fd" / fd) in inodes:
                        name = (process / "comm").read_text("utf-8", "backslashreplace").strip()
                        return f"{name.encode('unicode_escape').decode()} (pid {process.name})"
    return None


def _listeners(port: int) -> list[str]:
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: listening
                    inodes.append(fields[9])
    return inodes
