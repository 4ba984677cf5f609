"""The description of the API against the routes, and answers against the description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from lunaroute.ui import api, views
from lunaroute.ui.source import Source
from tests import recorded
from tests.ui.conftest import METRICS, STATUS, Serve

EXCHANGE = f"{recorded.BOOT}-3"


def test_every_route_is_described_and_the_other_way_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Starlette] = []
    real = views.Starlette
    monkeypatch.setattr(views, "Starlette", lambda *given, **named: made.append(real(*given, **named)) or made[-1])
    views.application(Source(tmp_path / "db", lambda: STATUS, lambda: METRICS), "127.0.0.1", [], [])
    paths = {route.path for route in made[0].routes if isinstance(route, Route) and route.path.startswith("/api/")}
    assert paths == set(api.description()["paths"])


def test_the_description_is_whole(serve: Serve) -> None:
    told = serve().ask("/api").json
    assert told["openapi"].startswith("3.1")
    names = [operation["get"]["operationId"] for operation in told["paths"].values()]
    assert len(set(names)) == len(names)
    wanted = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                wanted.add(value["$ref"].removeprefix("#/components/schemas/"))
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(told)
    assert wanted <= set(told["components"]["schemas"]) and "Error" in wanted


@pytest.mark.parametrize("endpoint", [one for one in api.ENDPOINTS if one.structs], ids=lambda one: one.path)
def test_answers_are_what_is_described(serve: Serve, tmp_path: Path, endpoint: api.Endpoint) -> None:
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    ident = EXCHANGE if "exchanges" in endpoint.path else "session-1"
    answer = site.ask(endpoint.path.replace("{id}", ident))
    assert answer.status == 200
    msgspec.json.decode(answer.body, type=endpoint.structs[0])


@pytest.mark.parametrize("endpoint", api.ENDPOINTS, ids=lambda one: one.path)
def test_every_parameter_is_read(serve: Serve, tmp_path: Path, endpoint: api.Endpoint) -> None:
    """A value that cannot be is either refused, or is text that nothing fits."""
    site = serve(recorded.write(tmp_path / "db", recorded.tool_loop()))
    ident = EXCHANGE if "exchanges" in endpoint.path else "session-1"
    address = endpoint.path.replace("{id}", ident)
    whole = site.ask(address)
    for name, _, kind in endpoint.parameters:
        odd = site.ask(f"{address}?{name}=no-such-thing")
        number = kind.get("type") in ("integer", "number")
        assert odd.status in ((400,) if number else (200, 400)), name
        assert odd.status == 400 or odd.body != whole.body or name in ("dir",), name
