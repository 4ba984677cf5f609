"""Options that several commands share, made from the table of settings, and how a command fails."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from lunaroute.config import SETTINGS, Loaded, load
from lunaroute.config.settings import FLAGS
from lunaroute.errors import LunaRouteError

Command = Callable[..., Any]
ADDRESS = ("host", "port")


def _name(key: str) -> str:
    """click's parameter name of a setting."""
    return key.replace(".", "__")


def _option(key: str) -> Callable[[Command], Command]:
    row, flag = SETTINGS[key], FLAGS[key]
    shown = {"True": "on", "False": "off"}.get(str(row.default), row.default)
    help_text = f"{row.text[0].upper()}{row.text[1:]}.  [default: {shown}]"
    names = (flag, _name(key))
    if "/" in flag:
        return click.option(*names, default=None, help=help_text)
    if key in ("logging.level", "api_dialect"):
        choices = [word for word in row.expected.replace(" or ", ", ").split(", ")]
        return click.option(*names, default=None, type=click.Choice(choices), help=help_text)
    metavar = "PORT" if key.endswith("port") else "N" if row.expected.startswith("a whole number") else "ADDRESS"
    return click.option(*names, default=None, metavar=metavar, help=help_text)


def serve_options(command: Command) -> Command:
    """--config and everything that can be set on the command line, passed on as `config` and `flags`."""
    return _with(command, tuple(FLAGS))


def address_options(command: Command) -> Command:
    """What tells which server is meant: --config, --host, --port."""
    return _with(command, ADDRESS)


def _with(command: Command, keys: tuple[str, ...]) -> Command:
    @functools.wraps(command)
    def run(config: str | None, **given: Any) -> Any:
        flags = {key: given.pop(_name(key)) for key in keys}
        return command(config=config, flags={k: v for k, v in flags.items() if v is not None}, **given)

    wrapped: Command = run
    for key in reversed(keys):
        wrapped = _option(key)(wrapped)
    text = "Configuration file (YAML).  [default: $LUNAROUTE_CONFIG, then config.yaml in ~/.lunaroute]"
    return click.option("--config", metavar="FILE", default=None, help=text)(wrapped)


def arguments(config: str | None, flags: dict[str, object]) -> list[str]:
    """The options as words again, for the server that is started detached; the file's path in full."""
    words = ["--config", os.path.abspath(os.path.expanduser(config))] if config else []
    for key, value in flags.items():
        on, _, off = FLAGS[key].partition("/")
        words += [on if value else off] if isinstance(value, bool) else [on, str(value)]
    return words


def settings(config: str | None, flags: dict[str, object]) -> Loaded:
    """The checked configuration; ends the command with its problems on stderr."""
    try:
        return load(Path(config) if config else None, os.environ, flags)
    except LunaRouteError as error:
        fail(str(error))


def fail(text: str, code: int = 1) -> NoReturn:
    """Ends the command: what is wrong on stderr, nothing on stdout."""
    first, *rest = text.splitlines() or [""]
    click.echo("\n".join([f"lunaroute: {first}", *rest]), err=True)
    sys.exit(code)
