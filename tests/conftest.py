"""Fixtures for all tests, and the switch that turns a skipped test into a failed one (`make test`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.messages", "tests.e2e.same", "tests.e2e.loop")

from tests.fakes import Upstream  # noqa: E402
from tests.running import Running  # noqa: E402

Serve = Callable[..., Running]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped counts as failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: Any = yield
    # elsewhere what only Linux has cannot be tested
    if (
        report.skipped
        and sys.platform == "linux"
        and not hasattr(report, "wasxfail")
        and item.config.getoption("--no-skips")
    ):
        report.outcome, report.longrepr = "failed", f"skipped, which --no-skips forbids: {report.longrepr}"
    return report


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_developer() -> Iterator[None]:
    """Keys and addresses in the developer's environment must not reach a test."""
    names = [n for n in os.environ if n.startswith(("LUNAROUTE_", "ANTHROPIC_", "OPENAI_", "CODEX_", "CLAUDE_"))]
    with pytest.MonkeyPatch.context() as patch:
        for name in [*names, "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(upstream, extra config, environment) starts a real server and returns its handle; ended with the test.

    Where the configuration has access tokens, only /healthz is open.
    """
    started: list[Running] = []

    def start(upstream: Upstream | str, extra: dict[str, Any] | None = None, **environ: str) -> Running:
        url = upstream if isinstance(upstream, str) else upstream.url
        running = Running(tmp_path / f"luna{len(started)}", url, extra, environ)
        started.append(running)
        running.start("/healthz" if extra and "access_tokens" in extra else "/readyz")
        return running

    yield start
    for running in started:
        if running.process is not None:
            running.stop()
