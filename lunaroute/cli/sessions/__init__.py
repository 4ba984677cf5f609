"""`lunaroute sessions`: what was recorded, a command a module. Here are only their names."""

from __future__ import annotations

import click

from lunaroute.cli.lazy import Commands, Lazy

COMMANDS: Commands = {
    "list": ("listing", "list_", "List sessions, the newest first."),
    "show": ("show", "show", "Show a session as a conversation, or as a timeline."),
    "search": ("searching", "search", "Find words in what was said, and in what tools were asked and gave."),
    "export": ("export", "export", "Write a session as JSONL, HAR, HTML or Markdown."),
    "delete": ("deleting", "delete", "Delete sessions with everything that is kept of them."),
    "import": ("importing", "import_", "Import recordings, or the logs of Claude Code and Codex."),
}


class Sessions(Lazy):
    """The commands above, each loaded only when it is used."""

    package = "lunaroute.cli.sessions"
    table = COMMANDS


@click.group(cls=Sessions)
def sessions() -> None:
    """List, read, search, export, delete and import what was recorded.

    \b
      lunaroute sessions list --since 7d --sort cost   the dearest of a week
      lunaroute sessions show 1a2b3c4d                 one, as a conversation
      lunaroute sessions search "connection reset"     where that was said
    """
