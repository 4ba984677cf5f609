"""Prometheus itself, reading a server's /metrics, and what an expression needs of it. Knows only URLs and text."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.running import PATIENCE, free_port

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: lunaroute
    static_configs: [{{targets: ["{target}"]}}]
"""
# what Prometheus and not the target gives
GIVEN = {"up": {"job", "instance"}}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BY = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-z_]+)\b(?:\{([^}]*)\})?(?!\s*\()")
_LABEL = re.compile(r"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)")
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
# a threshold at the end of an alert
_THRESHOLD = re.compile(r"\s(?:>|<|>=|<=|==|!=)\s[0-9.e-]+\s*$")


class Prometheus:
    """A server on loopback that scrapes `target` (host:port) each second."""

    def __init__(self, folder: Path, target: str) -> None:
        self.port = free_port()
        folder.mkdir()
        (folder / "prometheus.yml").write_text(CONFIG.format(target=target))
        self._command = [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip
        self._log = folder / "log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    def ask(self, expression: str) -> list[Any]:
        """What an expression yields now: [{metric, value: [time, text]}]. Raises OSError while it starts."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{query}", timeout=PATIENCE) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
            return found

    def values(self, expression: str) -> list[float]:
        """Only the numbers among it."""
        return [value for each in self.ask(expression) if not math.isnan(value := float(each["value"][1]))]

    def await_scrape(self) -> None:
        """Wait for a scrape that begins after now."""
        now, deadline = time.time(), time.monotonic() + PATIENCE
        while True:
            try:
                if self.values(f"timestamp(lunaroute_build_info) > {now}"):
                    return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)


def without_threshold(expression: str) -> str:
    """An alert's expression without what it compares with: what it looks at, whether or not it fires."""
    return _THRESHOLD.sub("", expression.strip())


def unknown(expression: str, known: Mapping[str, set[str]]) -> set[str]:
    """Names of metrics, or of labels, in an expression that are not known: sample name -> labels of its samples."""
    known = {**known, **GIVEN}
    found: set[str] = set()
    labels: set[str] = {"instance", "job"}
    plain = _STRING.sub('""', expression)
    grouped = [name.strip() for group in _BY.findall(plain) for name in group.split(",") if name.strip()]
    for name, inside in _SELECTOR.findall(re.sub(r"\[[^\]]*\]", "", _BY.sub(" ", plain))):
        if name in _WORDS:
            continue
        if name not in known:
            found.add(name)
            continue
        labels |= known[name]
        found |= {f"{name}{{{label}}}" for label in _LABEL.findall(inside) if label not in known[name]}
    return found | {f"by ({name})" for name in grouped if name not in labels}
