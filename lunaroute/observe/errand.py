"""Handing in an order at the desk (observe/desk.py) of whoever writes the record. Must not know what is ordered."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lunaroute.errors import StoreError
from lunaroute.folders import private_folder
from lunaroute.observe.desk import is_ours
from lunaroute.records import Json

Tell = Callable[[int, int], None]
MAX_ANSWER = 16 * 1024 * 1024


def connect(path: Path) -> socket.socket | None:
    """A connection to the desk; None where nobody is there. Raises StoreError where it is not our own user's."""
    try:
        found = path.lstat()
    except OSError:
        return None
    private_folder(path.parent)
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise StoreError(f"{path} is not a socket of your own; remove it")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    if not is_ours(connection):
        connection.close()
        raise StoreError(f"{path} is answered by a process of another user; remove it")
    return connection


def hand_in(connection: socket.socket, order: Json, tell: Tell) -> Json | None:
    """The answer; None where the other end went away without a word: it was just ending, or had too many to serve."""
    gone = StoreError("the server ended before it had done all; what was done is kept: run the command again")
    begun = False
    try:
        connection.sendall(json.dumps(order).encode() + b"\n")
        with connection.makefile("rb") as lines:
            while line := lines.readline(MAX_ANSWER):
                said: Any = json.loads(line)
                begun = True
                if "error" in said:
                    raise StoreError(str(said["error"]))
                if "ok" in said:
                    answer: Json = said["ok"]
                    return answer
                tell(int(said["done"]), int(said["total"]))
    except OSError:
        pass
    except (ValueError, TypeError, KeyError):
        raise gone from None
    if begun:
        raise gone
    return None
