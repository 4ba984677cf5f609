"""`lunaroute config check` and `lunaroute config show`."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import click

from lunaroute.cli.options import serve_options, settings
from lunaroute.config import flat, plain


@click.group()
def config() -> None:
    """Check the configuration, or show it with the origin of each value.

    A flag beats the environment, the environment beats the file, the file beats the default.
    """


@config.command(short_help="Check file, environment and flags.")
@serve_options
def check(config: str | None, flags: dict[str, object]) -> None:
    """Check the configuration: file, environment and flags. Ends with code 1 and one line for each problem."""
    loaded = settings(config, flags)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{loaded.file or 'no configuration file'}: fine")


@config.command(short_help="Show every value and where it comes from.")
@serve_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--all/--set", "everything", default=True, help="Every setting, or only those that are set somewhere.")
def show(config: str | None, flags: dict[str, object], as_json: bool, everything: bool) -> None:
    """Show every value and where it comes from: a flag, a variable, a line of the file, or the default. Credentials are
    shown as ***."""
    loaded = settings(config, flags)
    rows = {
        key: (_value(key, value), loaded.origins[key])
        for key, value in flat(plain(loaded.config)).items()
        if everything or loaded.origins[key] != "default"
    }
    if as_json:
        click.echo(json.dumps({key: {"value": value, "origin": origin} for key, (value, origin) in rows.items()}))
        return
    width = max((len(key) for key in rows), default=0)
    texts = {key: json.dumps(value, ensure_ascii=False) for key, (value, _) in rows.items()}
    middle = min(max((len(text) for text in texts.values()), default=0), 48)
    lines = [f"{key:<{width}}  {texts[key]:<{middle}}  {origin}" for key, (_, origin) in rows.items()]
    if sys.stdout.isatty() and max(map(len, lines), default=0) > shutil.get_terminal_size().columns:
        lines = [f"{key}\n    {texts[key]}  ({origin})" for key, (_, origin) in rows.items()]
    for line in lines:
        click.echo(line)


def _value(key: str, value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
