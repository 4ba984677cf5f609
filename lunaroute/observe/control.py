"""Talk with the relay: one JSON object a line over a socket pair. Must not know what is asked for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from lunaroute.records import Json

MAX_LINE = 16 * 1024 * 1024
REPEAT_S = 30.0


class Control:
    """The observer's end. Requests are answered in a thread of their own; `gone` is called when the relay hung up."""

    def __init__(self, connection: socket.socket, clock: Callable[[], float]) -> None:
        self._socket = connection
        self._clock = clock
        self._rest = b""
        self._sending = threading.Lock()
        self._said: dict[str, float] = {}

    def receive(self) -> Json | None:
        """The next object; None when the relay hung up or talks nonsense."""
        while b"\n" not in self._rest:
            try:
                piece = self._socket.recv(65536)
            except OSError:
                return None
            if not piece or len(self._rest) > MAX_LINE:
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            value: Any = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return None
        return value if isinstance(value, dict) else None

    def send(self, message: Json) -> None:
        """Say something; a relay that is gone does not matter."""
        line = msgspec.json.encode(message) + b"\n"
        with self._sending:
            try:
                self._socket.sendall(line)
            except OSError:
                return

    def log(self, level: str, message: str, **fields: Any) -> None:
        """A line for the server's log, the same one at most once in REPEAT_S."""
        now = self._clock()
        if level != "info":
            if now - self._said.get(message, -REPEAT_S) < REPEAT_S:
                return
            self._said = {text: at for text, at in self._said.items() if now - at < REPEAT_S}
            self._said[message] = now
        self.send({"event": "log", "level": level, "message": message, "fields": fields})

    def serve(self, answer: Callable[[Json], Json | None], gone: Callable[[], None]) -> threading.Thread:
        """Answer requests until the relay hangs up; a request's None answer is given later by somebody else."""

        def run() -> None:
            while (request := self.receive()) is not None:
                reply = answer(request)
                if reply is not None:
                    self.send({"id": request.get("id"), **reply})
            gone()

        thread = threading.Thread(target=run, name="control", daemon=True)
        thread.start()
        return thread
