"""`lunaroute env`: starts the server if it does not run, and prints what points the assistants at it."""

from __future__ import annotations

import os
import sys

import click

from lunaroute.cli.options import arguments, fail, serve_options, settings
from lunaroute.cli.shell import SHELLS
from lunaroute.cli.warm import Came, asked, remember, say
from lunaroute.config import Loaded, fingerprint
from lunaroute.errors import LunaRouteError
from lunaroute.lifecycle import ensure, pid_path, read_pid, server_command


@click.command()
@serve_options
@click.option("--shell", type=click.Choice(SHELLS), default="posix", help="Shell to print for.  [default: posix]")
def env(config: str | None, flags: dict[str, object], shell: str) -> None:
    """Start the server in the background, unless it runs already, and print the lines that point Claude Code, Codex
    and every SDK in this shell at it:

    \b
      eval "$(lunaroute env)"                 bash, zsh, dash, ksh
      lunaroute env --shell fish | source     fish
      lunaroute env --shell powershell | Out-String | Invoke-Expression

    Only these lines go to stdout; everything for people goes to stderr. The options are those of `lunaroute serve`.
    """
    loaded = settings(config, flags)
    host, port = loaded.config.host, loaded.config.port
    try:
        started = ensure(loaded.home, host, port, server_command(arguments(config, flags)), os.environ)
    except LunaRouteError as error:
        fail(str(error))
    came = Came(host, port, shell, loaded.config.ui.enabled)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if _differs(loaded, started.fresh):
        click.echo("It runs with other settings than the ones asked for; `lunaroute restart` applies them", err=True)
    elif _constant(loaded) and sys.argv[1:2] == ["env"]:
        remember(loaded.home, asked(sys.argv[2:], os.environ), came)
    say(came, started.answer, os.environ, fresh=started.fresh)


def _differs(loaded: Loaded, fresh: bool) -> bool:
    facts = None if fresh else read_pid(pid_path(loaded.home, loaded.config.host, loaded.config.port))
    return facts is not None and facts.settings != fingerprint(loaded.config)


def _constant(loaded: Loaded) -> bool:
    """Whether the address depends on nothing but what `asked` looks at (a `${PORT}` in the file would)."""
    return not any("${" in loaded.origins[key] for key in ("host", "port"))
