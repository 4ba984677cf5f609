"""The program: its commands, each loaded only when it is used."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import click

from lunaroute import __version__
from lunaroute.cli.lazy import Commands, Lazy

COMMANDS: Commands = {
    "serve": ("serve", "serve", "Run the server in the foreground (the default command)."),
    "env": ("env", "env", "Start it in the background; print what points the assistants at it."),
    "status": ("control", "status", "Say whether the server runs, and where."),
    "stop": ("control", "stop", "Stop the running server."),
    "restart": ("control", "restart", "Stop it and start it again in the background."),
    "logs": ("control", "logs", "Print the server's log."),
    "doctor": ("doctor", "doctor", "Check whether traffic flows; say what to do where it does not."),
    "sessions": ("sessions", "sessions", "List, read, search, export, delete and import what was recorded."),
    "stats": ("stats", "stats", "Sum up what was recorded: tokens, tools, times, cost."),
    "ui": ("ui", "ui", "Show the web UI over a database that is there, without a server."),
    "verify": ("verify", "verify", "Compare what is kept with what went over the wire; check the database."),
    "prune": ("prune", "prune", "Delete now what retention would delete, or say what that is."),
    "pii": ("pii", "pii", "See what is redacted; look for what was recorded before; reveal a token."),
    "prices": ("prices", "prices", "Show the prices that costs are worked out from; price anew what was recorded."),
    "config": ("configure", "config", "Check the configuration, or show it with the origin of each value."),
    "setup": ("setup", "setup", "Point Codex or Claude Code at the proxy for good, or undo that."),
}
HELP = ["-h", "--help"]


class Program(Lazy):
    """Without a command (or with only options) it is `serve`."""

    package = "lunaroute.cli"
    table = COMMANDS

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in [*HELP, "--version", "-V"]):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


def versions() -> str:
    """LunaRoute's version and those of the parts that matter for a bug report."""
    import sqlite3

    parts = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for name in ("uvloop", "httptools"):
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{name} missing")
    return f"lunaroute {__version__}\n{', '.join(parts)} on {sys.platform}"


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(versions())
        ctx.exit()


@click.group(cls=Program, context_settings={"help_option_names": HELP, "max_content_width": 100})
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions.",
)
def program() -> None:
    """LunaRoute: a local proxy for AI coding assistants. Every request passes byte for byte and is recorded.

    \b
        eval "$(lunaroute env)"     start it and point this shell's assistants at it
        lunaroute                   run it in the foreground (the same as `lunaroute serve`)
        lunaroute status            is it running, and where
        lunaroute doctor            does traffic flow, and if not, what to do

    Nothing needs to be configured. Settings: `lunaroute config show`.
    """
