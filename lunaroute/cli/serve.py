"""`lunaroute serve`: the server in the foreground, or (started by `env`) away from any terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from lunaroute import __version__, logs
from lunaroute.cli.banner import banner
from lunaroute.cli.options import arguments, fail, serve_options
from lunaroute.config import Loaded, fingerprint, load
from lunaroute.errors import LunaRouteError
from lunaroute.folders import private_folder
from lunaroute.lifecycle import PidFile, Running, log_path, start_time

log = logs.get("server")


@click.command()
@serve_options
@click.option("--detached", is_flag=True, hidden=True)
def serve(config: str | None, flags: dict[str, object], detached: bool) -> None:
    """Run the server in the foreground until it gets Ctrl-C or SIGTERM.

    Without any option or file it serves both APIs on 127.0.0.1:8081, records to ~/.lunaroute and shows the web UI on
    127.0.0.1:8082. The log goes to stderr, one JSON object a line.
    """
    logs.start(os.environ.get("LUNAROUTE_LOG_LEVEL"))
    words = arguments(config, flags)
    if detached:
        os.chdir("/")
    try:
        loaded = load(Path(config) if config else None, os.environ, flags)
        logs.configure(loaded.config.logging.level, loaded.secrets)
        code = _run(loaded, words, detached)
    except LunaRouteError as error:
        _refuse(error, detached)
    sys.exit(code)


def _run(loaded: Loaded, words: list[str], detached: bool) -> int:
    private_folder(loaded.home)
    host, port = loaded.config.host, loaded.config.port
    with PidFile.take(loaded.home, host, port) as pid_file:
        # At once, so that `stop` finds a server that is still starting; what only a running one knows comes later.
        facts = Running(
            pid=os.getpid(),
            start_time=start_time(os.getpid()),
            instance="",
            host=host,
            port=port,
            ui=None,
            log=str(log_path(loaded.home)) if detached else None,
            arguments=words,
            settings=fingerprint(loaded.config),
        )
        pid_file.write(facts)
        from lunaroute import server

        told: list[str] = []

        def announce(ready: server.Ready) -> None:
            told.append(ready.instance)
            pid_file.write(facts._replace(instance=ready.instance, ui=ready.ui_url, ui_error=ready.ui_error))
            if detached:
                log.info("ready", host=host, port=port, ui=ready.ui_url, ui_error=ready.ui_error, version=__version__)
                for warning in loaded.warnings:
                    log.warn(warning)
            else:
                click.echo(banner(loaded, ready.ui_url, ready.ui_error))

        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        code = server.serve(loaded, announce=announce, version=__version__)
        if not detached:
            _sum_up(loaded, since, told[0] if told else None)
        return code


def _sum_up(loaded: Loaded, since: str, boot_id: str | None) -> None:
    """What was recorded by this run, for whoever sits at the terminal."""
    recording = loaded.config.session_recording
    if not (recording.enabled and recording.sqlite.enabled):
        return
    from lunaroute.cli.summary import at_shutdown

    text = at_shutdown(Path(recording.sqlite.path), since, boot_id)
    if text is not None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            click.echo(f"\n{text}")


def _refuse(error: LunaRouteError, detached: bool) -> NoReturn:
    """Why there is no server: for people, or, where stderr is the log file, as lines of the log."""
    if not detached:
        fail(str(error))
    for line in str(error).splitlines():
        log.error(line)
    sys.exit(1)
