"""The server's own log: one JSON object a line on stderr. Works from the first line of the program, before any config.

No content and no credentials at any level: callers pass facts (numbers, names, addresses); configured credentials are
masked once more by exact value; control characters and everything beyond ASCII are escaped; fields end at 1 KiB.
A log that cannot be written (closed, disk full) is not an error: the traffic goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Iterable
from pathlib import PurePath
from types import TracebackType
from typing import Any

LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40}
MAX_FIELD = 1024
MAX_FILE = 10 << 20
KEEP = 1 << 20
LOOK_EVERY = 256


class _Sink:
    """Where lines go; one for the process."""

    def __init__(self) -> None:
        self.threshold = LEVELS["info"]
        self.fd = 2
        self.secrets: tuple[str, ...] = ()
        self.written = 0

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.fd, line)  # one write: lines of several processes do not mix
        self.written += 1
        if self.written % LOOK_EVERY == 0:
            with contextlib.suppress(OSError):
                shorten(self.fd)


_sink = _Sink()


def configure(level: str, secrets: Iterable[str] = ()) -> None:
    """Takes the level and the credentials to mask from the configuration."""
    _sink.threshold = LEVELS[level]
    _sink.secrets = tuple(sorted((s for s in secrets if s), key=len, reverse=True))


def start(environ_level: str | None) -> None:
    """Before the configuration is read: the level of the environment if it is one, and nothing unlogged."""
    _sink.threshold = LEVELS.get(environ_level or "", LEVELS["info"])
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(logging.WARNING)
    sys.excepthook = _uncaught


class Log:
    """The log of one part of the program."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def event(self, level: str, message: str, **fields: object) -> None:
        """One line, if the level is on. Fields are facts: never a header value, a query or a piece of a body."""
        if LEVELS[level] >= _sink.threshold:
            _sink.write(line(level, self.name, message, fields))

    def debug(self, message: str, **fields: object) -> None:
        self.event("debug", message, **fields)

    def info(self, message: str, **fields: object) -> None:
        self.event("info", message, **fields)

    def warn(self, message: str, **fields: object) -> None:
        self.event("warn", message, **fields)

    def error(self, message: str, **fields: object) -> None:
        self.event("error", message, **fields)


def get(name: str) -> Log:
    """The log of a part: `get("server")`."""
    return Log(name)


def event(level: str, message: str, **fields: object) -> None:
    """One line of the program as a whole."""
    get("lunaroute").event(level, message, **fields)


def line(level: str, name: str, message: str, fields: dict[str, object]) -> bytes:
    """The line as bytes. `ensure_ascii` escapes controls and everything beyond ASCII; DEL is done by hand."""
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    entry: dict[str, Any] = {
        "time": f"{stamp}.{now // 1_000_000 % 1000:03d}Z",
        "level": level,
        "from": name,
        "message": _plain(message),
        "pid": os.getpid(),
    }
    for key, value in fields.items():
        entry[key if key not in entry else f"{key}_"] = _plain(value)
    return (json.dumps(entry, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n").encode()


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value[:64]]
    if isinstance(value, dict):
        return {_text(str(key)): _plain(item) for key, item in list(value.items())[:64]}
    return _text(str(value) if isinstance(value, str | PurePath) else type(value).__name__)


def _text(text: str) -> str:
    for secret in _sink.secrets:
        text = text.replace(secret, "***")
    return text if len(text) <= MAX_FIELD else text[:MAX_FIELD] + "..."


def shorten(fd: int) -> None:
    """Keeps a log file bounded: past 10 MiB only its last MiB stays. (A file that is appended to; nothing else.)"""
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_size <= MAX_FILE:
        return
    own = os.open(f"/dev/fd/{fd}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        tail = os.pread(own, KEEP, info.st_size - KEEP)
        os.ftruncate(own, 0)
        os.write(own, tail[tail.find(b"\n") + 1 :])
    finally:
        os.close(own)


class _Bridge(logging.Handler):
    """What libraries log, without their arguments: those may hold content. The kind of an error and its place stay."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "debug"
        message = record.msg if record.args else str(record.msg).splitlines()[0] if record.msg else ""
        fields = _origin(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}
        get(record.name).event(level, str(message), **fields)


def _origin(error: BaseException) -> dict[str, object]:
    """Kind and place of an error. Not its text: it may quote what passed."""
    trace, places = error.__traceback__, []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{PurePath(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return {"error": type(error).__name__, "at": places[-6:]}


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get("lunaroute").event("error", "uncaught exception; please report it", **_origin(error.with_traceback(trace)))
