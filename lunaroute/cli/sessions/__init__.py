"""`lunaroute sessions`: what was recorded, a command a module. Here are only their names."""

from __future__ import annotations

import importlib

import click

# name: (module, object, its line in the help)
COMMANDS = {
    "list": ("listing", "list_", "List sessions, the newest first."),
    "show": ("show", "show", "Show a session as a conversation, or as a timeline."),
    "search": ("searching", "search", "Find words in what was said, and in what tools were asked and gave."),
    "export": ("export", "export", "Write a session as JSONL, HAR, HTML or Markdown."),
    "delete": ("deleting", "delete", "Delete sessions with everything that is kept of them."),
    "import": ("importing", "import_", "Import recordings, or the logs of Claude Code and Codex."),
}


class Sessions(click.Group):
    """Commands by name, each loaded only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"lunaroute.cli.sessions.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=Sessions)
def sessions() -> None:
    """List, read, search, export, delete and import what was recorded.

    \b
        lunaroute sessions list --since 7d --sort cost    what the last week's dearest sessions were
        lunaroute sessions show 1a2b3c4d                  one of them, as a conversation
        lunaroute sessions search "connection reset"      where that was said
    """
