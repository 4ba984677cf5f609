"""`lunaroute setup codex|claude [--undo]`: makes the proxy permanent in the tools' own settings files.

One value is set; everything else in the file stays. The file as it was lies beside it as a backup until `--undo`, which
brings exactly that back, or, when the file was changed since, takes only our value out again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from lunaroute.cli.edits import EditError, json_value, set_json, set_toml, toml_value
from lunaroute.cli.options import address_options, fail, settings
from lunaroute.errors import LunaRouteError
from lunaroute.folders import absolute, open_private, private_folder
from lunaroute.probe import base_url

SUFFIX = ".before-lunaroute"
CLAUDE = ("env", "ANTHROPIC_BASE_URL")


class Tool(NamedTuple):
    """How one tool is pointed at the proxy."""

    name: str
    setting: str
    file: Callable[[], Path]
    value: Callable[[str], str]
    get: Callable[[str], object]
    set: Callable[[str, str | None], str]


def codex_file() -> Path:
    """Codex's settings."""
    folder = os.environ.get("CODEX_HOME") or "~/.codex"
    return Path(absolute(folder, Path.cwd(), os.environ)) / "config.toml"


def claude_file() -> Path:
    """Claude Code's settings of the user."""
    folder = os.environ.get("CLAUDE_CONFIG_DIR") or "~/.claude"
    return Path(absolute(folder, Path.cwd(), os.environ)) / "settings.json"


TOOLS = {
    "codex": Tool(
        name="Codex",
        setting="openai_base_url",
        file=codex_file,
        value=lambda base: f"{base}/v1",
        get=lambda text: toml_value(text, "openai_base_url"),
        set=lambda text, value: set_toml(text, "openai_base_url", value),
    ),
    "claude": Tool(
        name="Claude Code",
        setting="env.ANTHROPIC_BASE_URL",
        file=claude_file,
        value=lambda base: base,
        get=lambda text: json_value(text, *CLAUDE),
        set=lambda text, value: set_json(text, CLAUDE, value),
    ),
}


@click.command()
@click.argument("tool", type=click.Choice(list(TOOLS)))
@click.option("--undo", is_flag=True, help="Bring the tool's settings back to what they were.")
@address_options
def setup(tool: str, undo: bool, config: str | None, flags: dict[str, object]) -> None:
    """Point Codex (openai_base_url in ~/.codex/config.toml) or Claude Code (env.ANTHROPIC_BASE_URL in
    ~/.claude/settings.json) at the proxy for good, in every shell. Everything else in the file stays as it is; --undo
    brings it back to what it was."""
    loaded = settings(config, flags)
    kind = TOOLS[tool]
    try:
        private_folder(loaded.home)
        if undo:
            _undo(kind, loaded.home)
        else:
            _apply(kind, loaded.home, kind.value(base_url(loaded.config.host, loaded.config.port)))
    except EditError as error:
        fail(f"{kind.file()}: {error}; nothing was changed")
    except LunaRouteError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or kind.file()}: {error.strerror}; nothing was changed")


def _apply(tool: Tool, home: Path, value: str) -> None:
    file = _target(tool)
    old = _read(file)
    if tool.get(old or "") == value:
        click.echo(f"{tool.name} already goes through the proxy ({tool.setting} in {file})")
        return
    new = tool.set(old or "", value)
    note, kept = _note(home, tool), _recall(home, tool)
    backup = Path(str(file) + SUFFIX)
    if kept is None or kept["file"] != str(file):
        _write(note, json.dumps({"file": str(file), "existed": old is not None, "value": value}), file)
        if old is not None:
            _write(backup, old, file)
    else:
        _write(note, json.dumps({**kept, "value": value}), file)
    _write(file, new, file)
    click.echo(f"{tool.name}: {tool.setting} = {value} in {file}")
    if backup.exists():
        click.echo(f"  the file as it was: {backup}")
    click.echo(f"  back to that: lunaroute setup {_word(tool)} --undo")
    if tool.name == "Codex" and (other := toml_value(new, "model_provider")) not in (None, "openai"):
        click.echo(f'  but model_provider is "{other}", which has an address of its own: that stays as it is')


def _undo(tool: Tool, home: Path) -> None:
    kept = _recall(home, tool)
    if kept is None:
        fail(f"nothing to undo: `lunaroute setup {_word(tool)}` was not run, or was undone")
    file, value = Path(str(kept["file"])), str(kept["value"])
    backup = Path(str(file) + SUFFIX)
    now, before = _read(file), _read(backup) if kept["existed"] else None
    if now == tool.set(before or "", value):
        if before is None:
            file.unlink()
        else:
            _write(file, before, file)
        click.echo(f"{tool.name}: {file} is {'as it was' if before is not None else 'gone, as it was'}")
    elif now is not None and tool.get(now) == value:
        old = tool.get(before or "")
        _write(file, tool.set(now, old if isinstance(old, str) else None), file)
        click.echo(f"{tool.name}: {tool.setting} in {file} is as it was; your changes since then stay")
    else:
        click.echo(f"{tool.name}: {tool.setting} in {file} was changed since; left as it is")
    backup.unlink(missing_ok=True)
    _note(home, tool).unlink(missing_ok=True)


def _word(tool: Tool) -> str:
    return next(word for word, known in TOOLS.items() if known is tool)


def _target(tool: Tool) -> Path:
    """The file itself where the usual place is a link into somebody's dotfiles."""
    file = tool.file()
    return file.resolve() if file.is_symlink() else file


def _note(home: Path, tool: Tool) -> Path:
    return home / f"setup-{_word(tool)}.json"


def _recall(home: Path, tool: Tool) -> dict[str, object] | None:
    try:
        kept = json.loads(_note(home, tool).read_bytes())
        return kept if {"file", "existed", "value"} <= set(kept) else None
    except (OSError, ValueError, TypeError):
        return None


def _read(file: Path) -> str | None:
    try:
        return file.read_bytes().decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise EditError("not UTF-8 text") from None


def _write(file: Path, text: str, like: Path) -> None:
    """Replaces a file in one step; it gets the permissions of `like`, or 0600 where that does not exist."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fd = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(text.encode())
            stream.flush()
            if like.exists():
                os.fchmod(stream.fileno(), like.stat().st_mode & 0o777)
            os.fsync(stream.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
