"""Every family of /metrics is moved by real traffic; every expression of the dashboard and the alerts says something.

One server, one run of all the traffic (tests/watched.py). Prometheus itself reads it and is asked.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests import watched as traffic
from tests.prometheus import Prometheus, unknown, without_threshold
from tests.watched import BY_FAULT, FAMILIES, TRAFFIC, Watched, parsed

pytestmark = pytest.mark.slow
DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "lunaroute.json").read_text())
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
SHOWN = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
RULES = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
MEANT = {"$__rate_interval": "10m", "$__range": "15m", "$provider": ".*"}


class Seen:
    """The server after all of it, its last scrape, and Prometheus."""

    def __init__(self, watched: Watched, prometheus: Prometheus) -> None:
        self.watched, self.prometheus = watched, prometheus
        self.text = watched.luna.get("/metrics", watched.luna.ui_url)[1].decode()
        self.labels: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                self.labels.setdefault(sample.name, set()).update(sample.labels)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("watched")
    watched = Watched(folder)
    with (
        watched.running(),
        Prometheus(folder / "prometheus", watched.luna.ui_url.removeprefix("http://")) as prometheus,
    ):
        for each in TRAFFIC:
            watched.go(each.__name__, each)
        prometheus.await_scrape()
        watched.again(
            *(traffic.turn, traffic.tool_result, traffic.unpriced_model, traffic.secret, traffic.client_that_leaves),
            *(traffic.stream_that_breaks_off, traffic.rate_limit, traffic.websocket, traffic.provider_that_is_down),
        )
        prometheus.await_scrape()
        yield Seen(watched, prometheus)


@pytest.mark.parametrize("family", FAMILIES)
def test_traffic_moves_it(seen: Seen, family: str) -> None:
    assert family in seen.watched.moved[FAMILIES[family]]


def test_the_table_has_all_families(seen: Seen) -> None:
    assert set(parsed(seen.text)) == set(FAMILIES) | BY_FAULT
    assert len(FAMILIES) >= 24


def test_the_labels_are_those_of_the_readme(seen: Seen) -> None:
    readme = (DEPLOY.parent / "README.md").read_text()
    table = readme[readme.index("| family | type | labels |") :].split("\n\n")[0].splitlines()[2:]
    told = {row.split("`")[1]: {label for label in row.split(" | ")[2].split(", ") if label} for row in table}
    suffix = {"histogram": "_bucket"}
    kinds = {row.split("`")[1]: row.split(" | ")[1] for row in table}
    assert told == {name: seen.labels[name + suffix.get(kinds[name], "")] - {"le"} for name in told}


def test_the_proxy_and_the_ui_show_the_same(seen: Seen) -> None:
    status, text = seen.watched.luna.get("/metrics")
    found = parsed(text.decode())
    assert status == 200 and found.keys() == parsed(seen.text).keys()
    assert found["lunaroute_tokens"] == parsed(seen.text)["lunaroute_tokens"]


def test_names_and_units_are_what_prometheus_wants(seen: Seen) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=seen.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_rules_are_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done


@pytest.mark.parametrize("name", SHOWN)
def test_the_dashboard_shows_something(seen: Seen, name: str) -> None:
    expression = SHOWN[name]
    for word, meant in MEANT.items():
        expression = expression.replace(word, meant)
    assert unknown(expression, seen.labels) == set()
    assert seen.prometheus.values(expression), expression


@pytest.mark.parametrize("name", RULES)
def test_alerts_look_at_something(seen: Seen, name: str) -> None:
    expression = without_threshold(RULES[name])
    assert expression != RULES[name], "it compares with a figure"
    assert unknown(expression, seen.labels) == set()
    assert seen.prometheus.values(expression), expression


def test_the_dashboard_leaves_no_family_out() -> None:
    text = " ".join(SHOWN.values())
    assert [family for family in FAMILIES if family not in text] == []


def test_panels_lie_beside_each_other() -> None:
    def place(panel: Any) -> tuple[range, range]:
        at = panel["gridPos"]
        return range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])

    for one, other in combinations(BOARD["panels"], 2):
        across, down = ({*a} & {*b} for a, b in zip(place(one), place(other), strict=True))
        assert not (across and down), (one["title"], other["title"])
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("sum by (le, tool) (rate(lunaroute_a_bucket{x=~\"y|z\"}[5m])) / 2", {"by (tool)", "lunaroute_a_bucket{x}"}),
        ("histogram_quantile(0.9, sum by (le) (rate(lunaroute_a_bucket[5m]))) > 3", set()),
        ("lunaroute_b - time() + up{job=\"lunaroute_c\"}", {"lunaroute_b"}),
    ],
)  # fmt: skip
def test_the_look_at_names(expression: str, missing: set[str]) -> None:
    assert unknown(expression, {"lunaroute_a_bucket": {"le"}}) == missing
