"""The command line. `main` is the entry point of `lunaroute` and `lunaroute-server`.

This module imports nothing heavy: a warm `lunaroute env` must answer at once (design.md section 4), and it needs
neither click nor the configuration's libraries.
"""

from __future__ import annotations

import errno
import os
import sys

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Runs the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # where the locale has no such character
    try:
        _run()
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has no place to go
        sys.exit(f"lunaroute: the output cannot be written: {error.strerror}")


def _run() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["env"]:
        from lunaroute.cli.warm import quick

        if quick(arguments[1:], os.environ):
            return
    from lunaroute.cli.app import program

    program(prog_name="lunaroute")
