"""Routes: a path to a page, a file, a probe. What is shown comes from the modules of values; twins are in api.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp

from lunaroute import __version__
from lunaroute.export import FORMATS
from lunaroute.stores import queries
from lunaroute.stores.readonly import BadQuestion, Connection, NotFound
from lunaroute.stores.rows import SessionRow
from lunaroute.ui import analytics, api, content, curl, dashboard, exports, images, pages, sheets, system, turns
from lunaroute.ui.live import Live
from lunaroute.ui.security import Guard, Hosts, Keys
from lunaroute.ui.site import FILES, STAMP, STATIC, TABS, Site, attachment, deed, kept_away, link, page, stream
from lunaroute.ui.source import Source

__all__ = ["Source", "application"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EXPORT_TYPES = {
    "jsonl": "application/x-ndjson",
    "har": "application/json",
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
}
EXPORTED_MOST = 10_000  # sessions in one file


def application(source: Source, host: str, allowed_hosts: list[str], access_tokens: list[str]) -> ASGIApp:
    """The whole site behind its guard."""
    keys = Keys(access_tokens)
    site = Site(source, keys)
    live = Live(source)

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = "There is nothing at this address." if status == 404 else "Pages here can only be read."
        return site.failure(request, status, message)

    inner = Starlette(
        routes=[
            page(site, "/", _dashboard),
            page(site, "/sessions", _sessions),
            page(site, "/sessions/{id}", _session),
            page(site, "/sessions/{id}/timeline", _timeline),
            page(site, "/sessions/{id}/turns", _turns),
            page(site, "/sessions/{id}/export", _export),
            page(site, "/sessions/{id}/delete", _ask_delete),
            deed(site, "/sessions/{id}/delete", _delete),
            page(site, "/exchanges/{id}", _exchange),
            page(site, "/exchanges/{id}/curl.txt", _curl),
            page(site, "/exchanges/{id}/images/{number}", _image),
            page(site, "/exchanges/{id}/{side}.txt", _raw),
            page(site, "/analytics", _analytics),
            page(site, "/analytics/{name}.csv", _sheet),
            page(site, "/routing", _routing),
            page(site, "/settings", _settings),
            page(site, "/about", _about),
            deed(site, "/export", _export_all),
            *api.routes(site),
            stream("/api/live", live.endpoint),
            page(site, "/metrics", _metrics),
            page(site, "/healthz", _health),
            page(site, "/static/{stamp}/{name}", _static),
        ],
        exception_handlers={HTTPException: refused},
    )
    inner.router.redirect_slashes = False  # a redirect would repeat the Host header in its Location
    return Guard(inner, Hosts(host, allowed_hosts), keys, site.login_page)


# --- pages ------------------------------------------------------------------------------------------------------------
def _dashboard(site: Site, request: Request) -> Response:
    return site.render("dashboard.html", request, view=dashboard.dashboard(site.source, request.query_params))


def _sessions(site: Site, request: Request) -> Response:
    deleted = request.query_params.get("deleted", "")
    view = pages.sessions(site.source, request.query_params)
    return site.render("sessions.html", request, view=view, deleted=deleted.isascii() and deleted.isdigit())


def _session(site: Site, request: Request) -> Response:
    view = pages.session(site.source, request.path_params["id"], request.query_params)
    return site.render("session.html", request, view=view, tab="")


def _timeline(site: Site, request: Request) -> Response:
    view = turns.timeline_of(site.source, request.path_params["id"], request.query_params)
    return site.render("timeline.html", request, view=view, tab="timeline")


def _turns(site: Site, request: Request) -> Response:
    view = turns.turns_of(site.source, request.path_params["id"], request.query_params)
    return site.render("turns.html", request, view=view, tab="turns")


def _exchange(site: Site, request: Request) -> Response:
    tab = request.query_params.get("view", "conversation")
    if tab not in TABS:
        raise BadQuestion(f"An exchange can be viewed as {', '.join(TABS)}.")
    if tab == "changes":
        changes = pages.changes(site.source, request.path_params["id"], request.query_params)
        return site.render("changes.html", request, view=changes, tab=tab)
    view = pages.exchange(site.source, request.path_params["id"])
    shown: dict[str, Any] = {"events": None, "text": None, "left_out": None}
    if tab in ("request", "response"):
        body = view.kept.request_body if tab == "request" else view.kept.response_body
        if content.looks_like_stream(body):
            shown["events"], shown["left_out"] = content.events(body)
        else:
            shown["text"], shown["left_out"] = content.pretty_json(body)
    return site.render("exchange.html", request, view=view, tab=tab, **shown)


def _analytics(site: Site, request: Request) -> Response:
    return site.render("analytics.html", request, view=analytics.analytics(site.source, request.query_params))


def _routing(site: Site, request: Request) -> Response:
    return site.render("routing.html", request, view=system.routing(site.source, request.query_params))


def _settings(site: Site, request: Request) -> Response:
    return site.render("settings.html", request, view=system.status(site.source))


def _about(site: Site, request: Request) -> Response:
    return site.render("about.html", request, endpoints=api.ENDPOINTS)


# --- files ------------------------------------------------------------------------------------------------------------
def _raw(site: Site, request: Request) -> Response:
    ident, side = request.path_params["id"], request.path_params["side"]
    if side not in ("request", "response"):
        raise NotFound("An exchange has a request and a response.")
    body = pages.body(site.source, ident, side)
    return attachment(body, "text/plain; charset=utf-8", f"lunaroute-{ident}-{side}.txt")


def _curl(site: Site, request: Request) -> Response:
    ident = request.path_params["id"]
    with site.source.open() as db:
        row = queries.exchange(db, ident)
        words = curl.command(row, queries.bodies(db, ident))
    return attachment(words, "text/plain; charset=utf-8", f"lunaroute-{ident}-curl.txt")


def _image(site: Site, request: Request) -> Response:
    found = images.image(pages.body(site.source, request.path_params["id"], "request"), request.path_params["number"])
    return Response(found.content, media_type=found.media_type, headers=kept_away(found.name))


def _sheet(site: Site, request: Request) -> Response:
    found = analytics.sheet(site.source, request.path_params["name"], request.query_params)
    body = sheets.csv_of(found.head, found.rows)
    return attachment(body, "text/csv; charset=utf-8", f"lunaroute-{found.name}.csv")


def _export(site: Site, request: Request) -> Response:
    ident = queries.valid_id(request.path_params["id"])
    form = _form(request.query_params.get("format") or "html")
    db = site.source.open(any_thread=True)
    try:
        return _file(db, [queries.session(db, ident)], form, f"session_{ident}")
    except BaseException:
        db.close()
        raise


def _form(name: str) -> str:
    if name not in FORMATS:
        raise BadQuestion(f"A session can be exported as {', '.join(FORMATS)}.")
    return name


def _file(db: Connection, rows: list[SessionRow], form: str, name: str) -> Response:
    """A file that is written while it is sent; it closes the connection."""

    def made() -> Iterator[bytes]:
        with db:
            for piece in exports.pieces(db, rows, form):
                yield piece.encode("utf-8", "replace")

    headers = kept_away(f"{name}.{FORMATS[form][0]}")
    return StreamingResponse(made(), media_type=EXPORT_TYPES[form], headers=headers)


# --- what changes something, or takes all out -------------------------------------------------------------------------
def _export_all(site: Site, _request: Request, asked: dict[str, str]) -> Response:
    form = _form(asked.get("format") or "jsonl")
    wanted, _ = pages.wanted(asked)
    db = site.source.open(any_thread=True)
    try:
        return _file(db, list(queries.every_session(db, wanted, EXPORTED_MOST)), form, "lunaroute-sessions")
    except BaseException:
        db.close()
        raise


def _ask_delete(site: Site, request: Request) -> Response:
    with site.source.open() as db:
        row = queries.session(db, request.path_params["id"])
        return site.render("delete.html", request, row=row, children=queries.children(db, row.session_id))


def _delete(site: Site, request: Request, asked: dict[str, str]) -> Response:
    if site.source.order is None:
        raise BadQuestion("Nothing can be deleted from here: `lunaroute sessions delete` does it.")
    with site.source.open() as db:
        row = queries.session(db, request.path_params["id"])
        doomed = [row.session_id]
        if asked.get("subagents") == "yes":
            doomed += [child.session_id for child in queries.children(db, row.session_id)]
    if asked.get("sure") != "yes":
        return RedirectResponse(f"/sessions/{row.session_id}/delete", 303)
    told = site.source.order({"cmd": "delete", "sessions": doomed})
    return RedirectResponse(link("/sessions", deleted=told.get("sessions", 0)), 303)


# --- probes and files -------------------------------------------------------------------------------------------------
def _metrics(site: Site, _request: Request) -> Response:
    return Response(site.source.metrics(), headers={"Content-Type": METRICS_TYPE})


def _health(_site: Site, _request: Request) -> Response:
    return JSONResponse({"product": "lunaroute-ui", "version": __version__, "status": "ok"})


def _static(_site: Site, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC or request.path_params["stamp"] != STAMP:
        return PlainTextResponse("There is no such file.\n", 404)
    # the address carries a digest of the files, so a browser may keep them
    return Response(FILES[name], media_type=STATIC[name], headers={"Cache-Control": "max-age=31536000, immutable"})
