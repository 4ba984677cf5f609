"""`lunaroute top` through a real server: on a terminal of 80 columns, and into a pipe."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from lunaroute.cli.top import Snapshot, view
from lunaroute.stores import now
from tests.running import PATIENCE, Running
from tests.watched import HELLO, KEY, Watched, rate_limit, turn

STYLE = r"(?:\x1b\[[0-9;]*m)*"
TWO_RUN = f"2{STYLE} {STYLE}running"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A turn and a refusal are over, two requests run."""
    watched = Watched(tmp_path_factory.mktemp("top"))
    with watched.running():
        watched.again(turn, rate_limit)
        held = [watched.connection() for _ in range(2)]
        for each in held:
            each.request("POST", "/v1/messages", json.dumps({"model": "held", "messages": [HELLO]}), KEY)
            each.getresponse()
        watched.luna.rows("SELECT 1")
        yield watched.luna
        for each in held:
            each.close()


def terminal(luna: Running) -> pexpect.spawn:
    return pexpect.spawn(
        str(luna.home / "bin" / "lunaroute"), ["top", "--config", str(luna.file), "--interval", "0.2"],
        env={**luna.environ, "TERM": "xterm"}, cwd=str(luna.home), dimensions=(24, 80), timeout=PATIENCE,
        encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize("key", ["q", "\x03", None], ids=["q", "ctrl-c", "TERM"])
def test_it_goes_on_until_it_is_ended(busy: Running, key: str | None) -> None:
    shown = terminal(busy)
    for words in (TWO_RUN, "tokens/s out", "held", "rate_limit_error: slow down"):
        shown.expect(words)
    shown.expect(TWO_RUN)  # once more: it is alive
    if key is not None:
        shown.send(key)
    else:
        shown.kill(signal.SIGTERM)
    shown.expect(pexpect.EOF)
    shown.close()
    assert (shown.exitstatus, shown.signalstatus) == ((0, None) if key else (None, signal.SIGTERM))
    if key:
        assert "\x1b[?1049l" in shown.before and "\x1b[?25h" in shown.before, "the terminal is as before"


def test_into_a_pipe_goes_one_look(busy: Running) -> None:
    done = busy.lunaroute("top", "--config", str(busy.file))
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert done.stdout.startswith(f"LunaRoute {busy.url}  ready  ")
    for words in ("2 running", "1 errors today", "cost today", "Running (2)", "Errors today (1)"):
        assert words in done.stdout
    told = json.loads(busy.lunaroute("top", "--config", str(busy.file), "--json").stdout)
    assert [each["model"] for each in told["running"]] == ["held", "held"]
    assert told["today"]["requests"] == 4 and told["today"]["output_tokens"] == 40


def test_without_a_server(tmp_path: Path) -> None:
    luna = Running(tmp_path / "luna", "http://127.0.0.1:9")
    done = luna.lunaroute("top", "--config", str(luna.file))
    assert done.returncode == 3
    assert done.stdout.startswith(f"LunaRoute {luna.url}  does not run")


def test_hostile_names_and_a_narrow_terminal() -> None:
    """Nothing that a client sent acts on the terminal, and no line is longer than it."""
    evil = "\x1b]0;owned\x07\u202e [bold]x[/]" + "w" * 300
    run = now.Running(id="1", started_ns=0, client=evil, provider=evil, model=evil, title=evil, target=evil)
    failed = now.Failure(id="2", started_ns=0, state="timeout", status=None, model=evil, error=evil)
    taken = Snapshot(
        at_ns=5_000_000_000, address="http://127.0.0.1:8081", answers=True, ready=False, problems=[evil],
        running=[run] * 10, errors_today=1_234_567, errors=[failed] * 5, pace=now.Pace(
            requests=10**6, errors=0, input_tokens=10**9, output_tokens=10**8,
        ),
    )  # fmt: skip
    for width in (60, 80, 120):
        page = Console(width=width, file=sys.stdout, force_terminal=False, markup=False, highlight=False)
        with page.capture() as got:
            page.print(view(taken))
        text = got.get()
        assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
        assert max(map(len, text.splitlines())) <= width
        assert "[bold]x" in text
