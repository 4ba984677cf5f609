"""The JSON twins of the pages, and their description (OpenAPI 3.1), made from the same table and the same structs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lunaroute import __version__
from lunaroute.stores import filters, queries, statistics
from lunaroute.stores.readonly import BadQuestion
from lunaroute.stores.rows import Bodies, ExchangeRow, SessionRow
from lunaroute.stores.statistics import Breakdown, Summary
from lunaroute.ui import analytics, dashboard, pages, ranges, system, turns
from lunaroute.ui.site import Site, as_json, page
from lunaroute.ui.transcript import Transcript

TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}
AMOUNT = {"type": "number", "minimum": 0}
_TIME = "30m, 2h, 7d, 4w, or 2026-01-31, or 2026-01-31T14:00"
RANGE = (
    ("range", f"{', '.join(ranges.RANGES)}; or since", TEXT),
    ("since", f"The start of a range of your own: {_TIME}", TEXT),
    ("until", "Its end; now, where there is none", TEXT),
)
SERIES = (("model", "Model", TEXT), ("client", "Client", TEXT), ("provider", "Provider", TEXT))
FILTERS = (
    ("q", 'Full-text search: word, begin*, "a phrase"', TEXT),
    *SERIES,
    ("project", "Folder, or the end of its path", TEXT),
    ("tool", "Sessions in which this tool was called", TEXT),
    ("state", f"One of {', '.join(filters.STATES)}", TEXT),
    ("since", f"Active since: {_TIME}", TEXT),
    ("until", "Active before", TEXT),
    ("cost", "Cost at least so many dollars", AMOUNT),
    ("tokens", "At least so many tokens, with those of caches", NUMBER),
)
PAGING = (
    ("sort", f"One of {', '.join(queries.SORTS)} (without q)", TEXT),
    ("dir", "`up`: the smallest first", TEXT),
    ("mark", "`newer` or `older` of another page", TEXT),
    ("limit", "Rows of a page, at most 500", NUMBER),
)
WINDOW = (
    ("after", "Exchanges after this sequence number", NUMBER),
    ("before", "Exchanges before this sequence number", NUMBER),
)
Parameter = tuple[str, str, dict[str, Any]]
Make = Callable[[Site, Request], Any]


class Endpoint(msgspec.Struct, frozen=True):
    """One address: what it answers, with which parameters in the query, and the structs its answer may be."""

    path: str
    says: str
    make: Make
    parameters: tuple[Parameter, ...] = ()
    structs: tuple[type[msgspec.Struct], ...] = ()

    @property
    def in_path(self) -> list[str]:
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


class ExchangeTold(msgspec.Struct, kw_only=True):
    """As the page has it. kept: headers, times, attempts; bodies as text with their encoding (utf-8 or base64)."""

    exchange: ExchangeRow
    session: SessionRow | None
    previous: str | None
    following: str | None
    kept: dict[str, Any]
    transcript: Transcript


class Pulse(msgspec.Struct):
    """A text that is another one when something has been recorded since."""

    pulse: str


def _one(make: Callable[..., Any]) -> Make:
    return lambda site, request: make(site.source, request.path_params["id"], request.query_params)


def _all(make: Callable[..., Any]) -> Make:
    return lambda site, request: make(site.source, request.query_params)


def _exchange(site: Site, request: Request) -> Any:
    view = pages.exchange(site.source, request.path_params["id"])
    kept = msgspec.structs.asdict(view.kept)
    for side in ("request", "response"):
        kept[f"{side}_body"], kept[f"{side}_encoding"] = _text(view.kept, side)
    return ExchangeTold(**{**msgspec.structs.asdict(view), "kept": kept})


def _text(kept: Bodies, side: str) -> tuple[str | bytes, str]:
    body: bytes = getattr(kept, f"{side}_body")
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return body, "base64"  # which is how msgspec writes bytes


def _stats(site: Site, request: Request) -> Any:
    """The summary that `lunaroute stats` prints, or with `by` one of its breakdowns."""
    query, now = request.query_params, datetime.now(UTC)
    since, until = (filters.since(query[name], now) if query.get(name) else None for name in ("since", "until"))
    limit = query.get("limit") or "50"
    if not (limit.isascii() and limit.isdigit() and len(limit) < 9):
        raise BadQuestion("limit is a whole number.")
    with site.source.open() as db:
        if query.get("by"):
            return statistics.breakdown(db, query["by"], since, until, int(limit))
        return statistics.summary(db, since, until, int(limit))


def _pulse(site: Site, request: Request) -> Any:
    return Pulse(pages.pulse(site.source, request.query_params.get("session")))


def _status(site: Site, _request: Request) -> Any:
    return system.status(site.source)


ENDPOINTS = (
    Endpoint("/api/dashboard", "The dashboard: figures and charts over a time, what runs, limits",
             _all(dashboard.dashboard), (*RANGE, *SERIES), (dashboard.DashboardView,)),
    Endpoint("/api/sessions", "Sessions, or with q the places that have the words",
             _all(pages.sessions), (*FILTERS, *PAGING), (pages.SessionsView,)),
    Endpoint("/api/sessions/{id}", "A window of a session as a conversation",
             _one(pages.session), WINDOW, (pages.SessionView,)),
    Endpoint("/api/sessions/{id}/timeline", "Requests and tool calls on an axis of time",
             _one(turns.timeline_of), WINDOW, (turns.TimelineView,)),
    Endpoint("/api/sessions/{id}/turns", "Turns with tokens and cost, how the context grew",
             _one(turns.turns_of), WINDOW, (turns.TurnsView,)),
    Endpoint("/api/exchanges/{id}", "One exchange: headers, bodies, conversation",
             _exchange, (), (ExchangeTold,)),
    Endpoint("/api/exchanges/{id}/changes", "What a request has that an earlier one had not",
             _one(pages.changes), (("with", "Sequence number of the earlier exchange", NUMBER),), (pages.ChangesView,)),
    Endpoint("/api/analytics", "Tokens, cost, latency, tools and errors over a time",
             _all(analytics.analytics), (*RANGE, *SERIES), (analytics.AnalyticsView,)),
    Endpoint("/api/routing", "Providers and attempts", _all(system.routing), RANGE, (system.RoutingView,)),
    Endpoint("/api/settings", "Settings in force with their origin, recording, sizes, versions",
             _status, (), (system.StatusView,)),
    Endpoint("/api/status", "The same", _status, (), (system.StatusView,)),
    Endpoint("/api/stats", "The summary of `lunaroute stats`, or with by a breakdown", _stats,
             (("by", f"One of {', '.join(statistics.BY)}", TEXT), ("since", _TIME, TEXT), ("until", _TIME, TEXT),
              ("limit", "Sessions or lines at most", NUMBER)), (Summary, Breakdown)),
    Endpoint("/api/pulse", "Whether something was recorded since",
             _pulse, (("session", "Of this session only", TEXT),), (Pulse,)),
)  # fmt: skip
LIVE = Endpoint(
    "/api/live", "Server-sent events: `pulse` when something is recorded, `answer` with more of a running answer",
    lambda site, request: None,
    (("session", "Of this session only", TEXT), ("seen", "The pulse that is known already", TEXT)),
)  # fmt: skip


def routes(site: Site) -> list[Route]:
    """All but /api/live."""
    made = [page(site, "/api", _describe)]
    for each in ENDPOINTS:

        def view(at: Site, request: Request, make: Make = each.make) -> Response:
            return as_json(make(at, request))

        made.append(page(site, each.path, _called(view, each.path)))
    return made


def _called(view: Callable[[Site, Request], Response], path: str) -> Callable[[Site, Request], Response]:
    """The view under its address, for the log."""
    view.__name__ = path.strip("/")
    return view


def _describe(_site: Site, _request: Request) -> Response:
    return as_json(description())


def description() -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    structs = [struct for each in ENDPOINTS for struct in each.structs]
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    answers = iter(schemas)
    paths = {}
    for each in ENDPOINTS:
        own = [next(answers) for _ in each.structs]
        schema = own[0] if len(own) == 1 else {"oneOf": own}
        paths[each.path] = {"get": _operation(each, "application/json", schema)}
    paths[LIVE.path] = {"get": _operation(LIVE, "text/event-stream", {"type": "string"})}
    error = {"type": "object", "required": ["error"], "properties": {"error": TEXT}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LunaRoute",
            "version": __version__,
            "description": "What was recorded, as the pages show it. Everything reads; with access tokens send one as "
            "`Authorization: Bearer`. Times of sessions and exchanges are UTC, durations milliseconds.",
        },
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(each: Endpoint, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": queries.ID.pattern}}
        for name in each.in_path
    ]
    parameters += [
        {"name": name, "in": "query", "description": says, "schema": kind} for name, says, kind in each.parameters
    ]
    problem = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return {
        "summary": each.says,
        "operationId": each.path.removeprefix("/api/").replace("/{id}/", "_").replace("s/{id}", ""),
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {media_type: {"schema": schema}}},
            "400": {"description": "That cannot be asked", **problem},
            "404": {"description": "Nothing of that name is recorded", **problem},
            "503": {"description": "The record cannot be read just now", **problem},
        },
    }
