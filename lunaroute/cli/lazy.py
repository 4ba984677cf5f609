"""Commands by name, each imported only when it is used: help and completion must not load them all."""

from __future__ import annotations

import importlib
from typing import ClassVar

import click

Commands = dict[str, tuple[str, str, str]]  # name: (module, object, its line in the help)


class Lazy(click.Group):
    """A group whose commands are in `table`: in modules of the package `package`."""

    package: ClassVar[str]
    table: ClassVar[Commands]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, name, _ = self.table[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"{self.package}.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.table:
            from lunaroute.config.source import nearest

            ctx.fail(f"no command {args[0]!r}{nearest(args[0], self.table)}")
        return super().resolve_command(ctx, args)
