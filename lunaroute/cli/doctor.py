"""`lunaroute doctor`: does traffic flow, and if not, what to do (promise S5)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import click

from lunaroute.cli import checks
from lunaroute.cli.checks import FAIL, WARN, Finding
from lunaroute.cli.options import address_options, settings
from lunaroute.config import Loaded
from lunaroute.probe import base_url

MARKS = {"ok": "  ok  ", "warn": " warn ", "fail": " FAIL "}


@click.command()
@address_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--offline", is_flag=True, help="Do not open connections to the providers.")
def doctor(config: str | None, flags: dict[str, object], as_json: bool, offline: bool) -> None:
    """Check whether traffic flows: the server, the web UI, the places of the record, free disk, the providers, and
    where each assistant is pointed at; and say what to do about each problem. Ends with code 1 if something fails."""
    loaded = settings(config, flags)
    findings = []
    for finding in examine(loaded, offline):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.state == FAIL for finding in findings)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        warned = sum(finding.state == WARN for finding in findings)
        click.echo(f"\n{failed} failed, {warned} to look at" if failed or warned else "\nall is well")
    sys.exit(1 if failed else 0)


def examine(loaded: Loaded, offline: bool) -> Iterator[Finding]:
    """All findings, in the order of the way that traffic takes."""
    yield from checks.settings(loaded)
    yield from checks.server(loaded)
    yield from checks.storage(loaded)
    dialect = loaded.config.api_dialect
    wanted = {n: p for n, p in loaded.config.providers.items() if p.enabled and dialect in ("both", p.type)}
    if wanted and not offline:
        with ThreadPoolExecutor(len(wanted)) as threads:
            yield from threads.map(checks.upstream, wanted.keys(), wanted.values())
    base = base_url(loaded.config.host, loaded.config.port)
    yield from checks.claude(base, os.environ)
    yield from checks.codex(base, os.environ)
    yield from checks.sdks(base, os.environ)


def _print(finding: Finding) -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.state]
    click.echo(f"{click.style(MARKS[finding.state], fg=colour)} {finding.name:<12} {finding.text}")
    if finding.advice and finding.state != "ok":
        click.echo(f"{'':<20}-> {finding.advice}")
