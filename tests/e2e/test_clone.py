"""`make run` in a fresh clone: from nothing to the first recorded exchange, and a clean end on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from tests.answers import FINAL, Assistant
from tests.fakes import Upstream
from tests.running import ROOT, Running, settings

pytestmark = pytest.mark.slow
INSTALLING = 400.0  # seconds for a virtual environment, the dependencies and the compiler


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What is committed, nothing else: no environment, no compiled module."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True, timeout=60)
    assert not list(folder.rglob("*.so"))
    return folder


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(Assistant()) as upstream:
        yield upstream


def test_make_run_in_a_fresh_clone_records_the_first_exchange(clone: Path, upstream: Upstream, tmp_path: Path) -> None:
    luna = Running(tmp_path / "luna", upstream.url)
    luna.file.write_text(json.dumps(settings(upstream.url, luna.port, luna.ui_port, {})))
    own = {"LUNAROUTE_HOME": str(luna.data), "LUNAROUTE_CONFIG": str(luna.file)}
    out = tmp_path / "make.out"
    with out.open("wb") as written:
        make = subprocess.Popen(
            ["make", f"PYTHON={sys.executable}", "run"],
            cwd=clone, env=os.environ | own, stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_ready(luna, make, out)
        with anthropic.Anthropic(api_key="sk-ant-dummy-0000", base_url=luna.url) as client:
            asked = [{"role": "user", "content": "hi"}]
            answer = client.messages.create(model="claude-sonnet-5", max_tokens=9, messages=asked)  # type: ignore[arg-type]
        assert answer.content[0].text == FINAL  # type: ignore[union-attr]
    finally:
        os.killpg(make.pid, signal.SIGINT)  # what Ctrl-C does: to all of the foreground
        make.wait(60)
    said = out.read_text()
    assert "lunaroute env" in said, "the hint for the other shell"
    assert luna.url in said, "the banner"
    assert luna.ui_url in said
    assert "Traceback" not in said
    (row,) = luna.exchanges()
    assert (row["state"], row["client"], row["model_requested"]) == ("ok", "anthropic-python", "claude-sonnet-5")
    with pytest.raises(OSError, match="refused"):
        luna.get("/healthz")


def wait_until_ready(luna: Running, make: subprocess.Popen[bytes], out: Path) -> None:
    """Until it serves and has said so: the banner comes once the web UI runs too."""
    end = time.monotonic() + INSTALLING
    while time.monotonic() < end:
        try:
            if luna.get("/readyz")[0] == 200 and luna.ui_url in out.read_text():
                return
        except OSError:
            pass
        try:
            code = make.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"make run ended with {code}:\n{out.read_text()}")
    raise AssertionError(f"make run was not ready in {INSTALLING} s:\n{out.read_text()}")
