"""What a developer waits for: `lunaroute env`, cold and warm, and the imports behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.running import Running

COLD_MS, WARM_MS = 700, 120  # goals, design.md 4; this machine may be slower than the one they were set for


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A home and a configuration; nothing is started. Its provider is never asked."""
    made = Running(tmp_path / "luna", "http://127.0.0.1:9")
    yield made
    made.lunaroute("stop", "--config", str(made.file))


def env(running: Running) -> None:
    running.lunaroute("env", "--config", str(running.file)).check_returncode()


def test_env_cold(benchmark: BenchmarkFixture, running: Running) -> None:
    """No server runs: one is started, and answers."""
    benchmark.group = "lunaroute env"
    benchmark.extra_info["goal_ms"] = COLD_MS

    def stop() -> None:
        running.lunaroute("stop", "--config", str(running.file))

    benchmark.pedantic(env, (running,), setup=stop, rounds=5)


def test_env_warm(benchmark: BenchmarkFixture, running: Running) -> None:
    benchmark.group = "lunaroute env"
    benchmark.extra_info["goal_ms"] = WARM_MS
    env(running)
    benchmark.pedantic(env, (running,), rounds=10)


@pytest.mark.parametrize("module", ("sys", "lunaroute.cli", "lunaroute.server", "lunaroute.observe.worker"))
def test_import(benchmark: BenchmarkFixture, module: str) -> None:
    """A Python that imports one module and ends; `sys` is the price of Python itself."""
    benchmark.group = "import"
    command = [sys.executable, "-c", f"import {module}"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=7, warmup_rounds=1)
