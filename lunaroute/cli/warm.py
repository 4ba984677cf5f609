"""The quick way of `lunaroute env`: the same command as before, and its server still answers.

`env` leaves in `run/env.cache` what it was asked (arguments, LUNAROUTE_ variables, the state of the config file) and
what came of it. When all of that is as it was, the answer is known without reading any configuration. Whatever is not
exactly so goes the long way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lunaroute import __version__
from lunaroute.cli.shell import statements, usage
from lunaroute.folders import config_file, home_folder, open_private
from lunaroute.lifecycle import run_folder
from lunaroute.probe import Answer, base_url, probe

KEPT = 16


class Asked(NamedTuple):
    """What decides which server an `env` means."""

    version: str
    arguments: list[str]
    folder: str
    variables: dict[str, str]
    file: list[str | int] | None


class Came(NamedTuple):
    """What came of it."""

    host: str
    port: int
    shell: str
    ui_wanted: bool


def asked(arguments: list[str], environ: Mapping[str, str]) -> Asked | None:
    """The question as it stands now; None where the quick way is not for it."""
    named = [word for word in arguments if word.startswith("--config")]
    if len(named) > 1 or any(word in ("-h", "--help") for word in arguments):
        return None
    file = config_file(_named_file(arguments) if named else None, environ)
    state: list[str | int] | None = None
    if file is not None:
        info = file.stat()
        state = [str(file), info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino]
    variables = {name: value for name, value in environ.items() if name.startswith("LUNAROUTE_")}
    return Asked(__version__, arguments, os.getcwd() if named else "", variables, state)


def _named_file(arguments: list[str]) -> str | None:
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def quick(arguments: list[str], environ: Mapping[str, str]) -> bool:
    """Answers a repeated `env`; False: go the long way."""
    try:
        question = asked(arguments, environ)
        if question is None:
            return False
        known = [came for old, came in _read(home_folder(environ)) if old == question]
    except (OSError, ValueError, TypeError, KeyError):
        return False
    if not known:
        return False
    answer = probe(known[0].host, known[0].port)
    if not answer.ours:
        return False
    say(known[0], answer, environ, fresh=False)
    return True


def remember(home: Path, question: Asked | None, came: Came) -> None:
    """Keeps the answer for the next time. Failing to is no failure of `env`."""
    if question is None:
        return
    try:
        others = [row for row in _read(home) if row[0] != question]
    except (OSError, ValueError, TypeError, KeyError):
        others = []
    rows = [[list(old), list(new)] for old, new in [(question, came), *others][:KEPT]]
    path = run_folder(home) / "env.cache"
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        fd = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(fd, "w") as stream:
            json.dump(rows, stream)
        fresh.replace(path)
    except Exception:  # the next `env` goes the long way, that is all
        fresh.unlink(missing_ok=True)


def _read(home: Path) -> list[tuple[Asked, Came]]:
    rows: list[Any] = json.loads((run_folder(home) / "env.cache").read_bytes())
    return [(Asked(*old), Came(*came)) for old, came in rows]


def say(came: Came, answer: Answer, environ: Mapping[str, str], *, fresh: bool) -> None:
    """Statements to stdout, words for people to stderr."""
    base = base_url(came.host, came.port)
    words = [f"LunaRoute {'started' if fresh else 'runs'} at {base} (pid {answer.pid})"]
    if answer.ui:
        words.append(f"Web UI: {answer.ui}")
    elif came.ui_wanted:
        words.append("Web UI: not available; `lunaroute doctor` says why")
    if answer.version != __version__:
        words.append(f"It is version {answer.version}, this is {__version__}: `lunaroute restart` brings them together")
    words += _replaced(base, environ)
    if sys.stdout.isatty():
        words.append(f"To use it in this shell: {usage(came.shell)}")
    sys.stderr.write("".join(f"{line}\n" for line in words))
    sys.stdout.write(statements(came.shell, base))
    sys.stdout.flush()


def _replaced(base: str, environ: Mapping[str, str]) -> list[str]:
    """A note where the shell pointed to a gateway of its own: LunaRoute now goes to the vendor instead."""
    notes = []
    for vendor, variable in (("anthropic", "ANTHROPIC_BASE_URL"), ("openai", "OPENAI_BASE_URL")):
        old = environ.get(variable, "")
        host = old.partition("://")[2].partition("/")[0].rpartition("@")[2]
        if host and not old.startswith(base) and host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):
            notes.append(f"{variable} was {host}; to keep going there, set `providers.{vendor}.base_url`")
    return notes
