"""Routes: a path to a page, its JSON twin, a raw body, a probe. Rendering only; what is shown comes from pages.py."""

from __future__ import annotations

import functools
import hashlib
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lunaroute import __version__
from lunaroute.stores import queries, statistics
from lunaroute.stores.readonly import BadQuestion, NoRecord, NotFound, QueryError
from lunaroute.stores.rows import Bodies
from lunaroute.ui import content, format, found, pages
from lunaroute.ui.pages import Source
from lunaroute.ui.security import SANDBOX, Guard, Hosts, Keys
from lunaroute.ui.transcript import Entry

__all__ = ["Source", "application"]

log = logging.getLogger("lunaroute.ui")
HERE = Path(__file__).parent
STATIC = {"app.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}
TABS = {"conversation": "Conversation", "request": "Request", "response": "Response", "headers": "Details"}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATUS = ((NotFound, 404), (NoRecord, 404), (BadQuestion, 400), (QueryError, 503))
_HEADLINES = {
    400: "That cannot be asked",
    401: "An access token is needed",
    404: "Not found",
    405: "Not possible here",
    500: "This page could not be made",
    503: "The record cannot be read just now",
}


class Site:
    """The application's own state: the source, the static files, the templates."""

    def __init__(self, source: Source, keys: Keys) -> None:
        self.source = source
        self.keys = keys
        self.files = {name: (HERE / "static" / name).read_bytes() for name in STATIC}
        digest = hashlib.sha256(b"".join(self.files.values())).hexdigest()[:12]
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["grouped"] = _grouped
        self._templates.globals.update(
            f=format, c=content, found=found, link=_link, named=_named, states=queries.STATES, ranges=pages.RANGES,
            tabs=TABS, stamp=digest, database=str(source.database), login=bool(keys),
        )  # fmt: skip

    def render(self, name: str, request: Request | None = None, status: int = 200, **values: object) -> Response:
        theme = request.cookies.get("theme") if request else None
        text = self._templates.get_template(name).render(
            theme=theme if theme in ("light", "dark") else None, now=datetime.now().astimezone(), **values
        )
        return Response(text, status, media_type="text/html")

    def failure(self, request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api"):
            return JSONResponse({"error": message}, status)
        headline = _HEADLINES.get(status, "That did not work")
        return self.render("error.html", request, status, headline=headline, message=message)

    def login_page(self, wrong: bool, following: str) -> Response:
        return self.render("login.html", None, 401, wrong=wrong, following=following)


View = Callable[[Site, Request], Response]


def application(source: Source, host: str, allowed_hosts: list[str], access_tokens: list[str]) -> ASGIApp:
    """The whole site behind its guard."""
    keys = Keys(access_tokens)
    site = Site(source, keys)

    def route(path: str, view: View) -> Route:
        @functools.wraps(view)
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(_answer, site, request, view)

        return Route(path, endpoint, methods=["GET"])

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = "There is nothing at this address." if status == 404 else "Pages here can only be read."
        return site.failure(request, status, message)

    inner = Starlette(
        routes=[
            route("/", _sessions),
            route("/sessions/{id}", _session),
            route("/exchanges/{id}", _exchange),
            route("/exchanges/{id}/{side}.txt", _raw),
            route("/status", _status),
            route("/api", _api),
            route("/api/sessions", _api_sessions),
            route("/api/sessions/{id}", _api_session),
            route("/api/exchanges/{id}", _api_exchange),
            route("/api/stats", _api_stats),
            route("/api/status", _api_status),
            route("/api/pulse", _api_pulse),
            route("/metrics", _metrics),
            route("/healthz", _health),
            route("/static/{name}", _static),
        ],
        exception_handlers={HTTPException: refused},
    )
    inner.router.redirect_slashes = False  # a redirect would repeat the Host header in its Location
    return Guard(inner, Hosts(host, allowed_hosts), keys, site.login_page)


def _answer(site: Site, request: Request, view: View) -> Response:
    """Errors become pages. What they say of recorded content goes to no log: only where they happened."""
    try:
        return view(site, request)
    except QueryError as error:
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        return site.failure(request, status, str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        log.error("page %s failed: %s at %s", view.__name__.lstrip("_"), type(error).__name__, where)
        return site.failure(request, 500, f"{type(error).__name__} at {where}. The server's log has the same line.")


# --- pages ------------------------------------------------------------------------------------------------------------
def _sessions(site: Site, request: Request) -> Response:
    return site.render("sessions.html", request, view=pages.sessions(site.source, request.query_params))


def _session(site: Site, request: Request) -> Response:
    view = pages.session(site.source, request.path_params["id"], request.query_params)
    return site.render("session.html", request, view=view)


def _exchange(site: Site, request: Request) -> Response:
    tab = request.query_params.get("view", "conversation")
    if tab not in TABS:
        raise BadQuestion(f"An exchange can be viewed as {', '.join(TABS)}.")
    view = pages.exchange(site.source, request.path_params["id"])
    shown: dict[str, Any] = {"events": None, "text": None, "left_out": None}
    if tab in ("request", "response"):
        body = view.kept.request_body if tab == "request" else view.kept.response_body
        if content.looks_like_stream(body):
            shown["events"], shown["left_out"] = content.events(body)
        else:
            shown["text"], shown["left_out"] = content.pretty_json(body)
    return site.render("exchange.html", request, view=view, tab=tab, **shown)


def _raw(site: Site, request: Request) -> Response:
    ident, side = request.path_params["id"], request.path_params["side"]
    if side not in ("request", "response"):
        raise NotFound("An exchange has a request and a response.")
    body = pages.body(site.source, ident, side)
    return Response(
        body,
        media_type="text/plain; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="lunaroute-{ident}-{side}.txt"',
            "Content-Security-Policy": SANDBOX,
        },
    )


def _status(site: Site, request: Request) -> Response:
    return site.render("status.html", request, view=pages.status(site.source))


# --- their JSON twins -------------------------------------------------------------------------------------------------
def _json(value: object) -> Response:
    text = msgspec.json.format(msgspec.json.encode(value), indent=1)
    return Response(text, media_type="application/json", headers={"Content-Security-Policy": SANDBOX})


def _api(site: Site, _request: Request) -> Response:
    return _json(
        {
            "product": "lunaroute-ui",
            "version": __version__,
            "/api/sessions": [*pages.ASKED, "sort", "dir", "mark", "limit"],
            "/api/sessions/{id}": ["after", "before"],
            "/api/exchanges/{id}": [],
            "/api/stats": ["since", "until", "by", "limit"],
            "/api/status": [],
            "/api/pulse": ["session"],
        }
    )


def _api_sessions(site: Site, request: Request) -> Response:
    return _json(pages.sessions(site.source, request.query_params))


def _api_session(site: Site, request: Request) -> Response:
    return _json(pages.session(site.source, request.path_params["id"], request.query_params))


def _api_exchange(site: Site, request: Request) -> Response:
    view = pages.exchange(site.source, request.path_params["id"])
    kept = msgspec.structs.asdict(view.kept)
    for side in ("request", "response"):
        kept[f"{side}_body"], kept[f"{side}_encoding"] = _text(view.kept, side)
    return _json({**msgspec.structs.asdict(view), "kept": kept})


def _text(kept: Bodies, side: str) -> tuple[str | bytes, str]:
    body: bytes = getattr(kept, f"{side}_body")
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return body, "base64"  # which is how msgspec writes bytes


def _api_stats(site: Site, request: Request) -> Response:
    """The summary that `lunaroute stats` prints, or with `by` one of its breakdowns."""
    query, now = request.query_params, datetime.now(UTC)
    since, until = (queries.since(query[name], now) if query.get(name) else None for name in ("since", "until"))
    limit = query.get("limit") or "50"
    if not (limit.isascii() and limit.isdigit() and len(limit) < 9):
        raise BadQuestion("limit is a whole number.")
    with site.source.open() as db:
        if query.get("by"):
            return _json(statistics.breakdown(db, query["by"], since, until, int(limit)))
        return _json(statistics.summary(db, since, until, int(limit)))


def _api_status(site: Site, _request: Request) -> Response:
    return _json(pages.status(site.source))


def _api_pulse(site: Site, request: Request) -> Response:
    return _json({"pulse": pages.pulse(site.source, request.query_params.get("session"))})


# --- probes and files -------------------------------------------------------------------------------------------------
def _metrics(site: Site, _request: Request) -> Response:
    return Response(site.source.metrics(), headers={"Content-Type": METRICS_TYPE})


def _health(_site: Site, _request: Request) -> Response:
    return JSONResponse({"product": "lunaroute-ui", "version": __version__, "status": "ok"})


def _static(site: Site, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("There is no such file.\n", 404)
    # the address carries a digest of the files, so a browser may keep them
    return Response(site.files[name], media_type=STATIC[name], headers={"Cache-Control": "max-age=31536000, immutable"})


def _grouped(entries: list[Entry]) -> list[list[Entry]]:
    """Neighbours that are all the client's own context as one group, every other entry by itself."""
    groups: list[list[Entry]] = []
    for entry in entries:
        if entry.kind == "context" and groups and groups[-1][0].kind == "context":
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _named(values: list[str], word: Callable[[str], str] | None) -> list[tuple[str, str]]:
    """Choices of a filter: the value and the word for it."""
    return [(value, word(value) if word else value) for value in values]


def _link(path: str, **query: object) -> str:
    """An address with those parts of the query that say something."""
    said = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path
