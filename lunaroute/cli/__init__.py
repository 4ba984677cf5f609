"""The command line. `main` is the entry point of `lunaroute` and `lunaroute-server`.

This module imports nothing heavy: a warm `lunaroute env` must answer at once (design.md section 4), and it needs
neither click nor the configuration's libraries.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line of this process."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["env"]:
        from lunaroute.cli.warm import quick

        if quick(arguments[1:], os.environ):
            return
    from lunaroute.cli.app import program

    program(prog_name="lunaroute")
