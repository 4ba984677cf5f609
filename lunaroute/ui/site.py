"""The application's own state: the source, the static files, the templates; and how values become answers.

Rendering only; what is shown comes from the modules of values (pages.py and its neighbours).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lunaroute import __version__
from lunaroute.errors import LunaRouteError
from lunaroute.stores import filters
from lunaroute.stores.readonly import BadQuestion, NoRecord, NotFound, QueryError
from lunaroute.ui import content, format, found, ranges
from lunaroute.ui.security import SANDBOX, Keys, short_body
from lunaroute.ui.source import Source
from lunaroute.ui.transcript import Entry

log = logging.getLogger("lunaroute.ui")
HERE = Path(__file__).parent
SCRIPTS = ("app.js", "charts.js", "live.js", "tree.js")
STATIC = {"app.css": "text/css", "icon.svg": "image/svg+xml", **dict.fromkeys(SCRIPTS, "text/javascript")}
FILES = {name: (HERE / "static" / name).read_bytes() for name in STATIC}
STAMP = hashlib.sha256(b"".join(FILES.values())).hexdigest()[:12]  # stands in the addresses of the files
TABS = {
    "conversation": "Conversation",
    "changes": "Changes",
    "request": "Request",
    "response": "Response",
    "headers": "Details",
}
SESSION_TABS = {"": "Conversation", "timeline": "Timeline", "turns": "Turns"}
FORM_BYTES = 65536
_STATUS = ((NotFound, 404), (NoRecord, 404), (BadQuestion, 400), (QueryError, 503), (LunaRouteError, 503))
_HEADLINES = {
    400: "That cannot be asked",
    401: "An access token is needed",
    404: "Not found",
    405: "Not possible here",
    500: "This page could not be made",
    503: "The record cannot be used just now",
}


class Site:
    """See the module."""

    def __init__(self, source: Source, keys: Keys) -> None:
        self.source = source
        self.keys = keys
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["grouped"] = _grouped
        self._templates.globals.update(
            f=format, c=content, found=found, link=link, named=_named, states=filters.STATES, ranges=ranges.RANGES,
            short_ranges=ranges.SHORT, tabs=TABS, session_tabs=SESSION_TABS, stamp=STAMP, scripts=SCRIPTS,
            database=str(source.database), login=bool(keys), version=__version__, can_order=source.order is not None,
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
Deed = Callable[[Site, Request, dict[str, str]], Response]


def page(site: Site, path: str, view: View) -> Route:
    """A route that reads, in a thread of the pool."""

    @functools.wraps(view)
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answer, site, request, functools.partial(view, site, request), view.__name__)

    return Route(path, endpoint, methods=["GET"])


def deed(site: Site, path: str, view: Deed) -> Route:
    """A route that changes something: POST only, with the fields of a form."""

    @functools.wraps(view)
    async def endpoint(request: Request) -> Response:
        form = dict(parse_qsl(await short_body(request.receive, FORM_BYTES), encoding="utf-8"))
        done = functools.partial(view, site, request, form)
        return await run_in_threadpool(answer, site, request, done, view.__name__)

    return Route(path, endpoint, methods=["POST"])


def stream(path: str, view: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route that runs on the loop."""
    return Route(path, view, methods=["GET"])


def answer(site: Site, request: Request, view: Callable[[], Response], name: str) -> Response:
    """Errors become pages. What they say of recorded content goes to no log: only where they happened."""
    try:
        return view()
    except LunaRouteError as error:
        status = next(code for kind, code in _STATUS if isinstance(error, kind))
        return site.failure(request, status, str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        log.error("page %s failed: %s at %s", name.strip("_"), type(error).__name__, where)
        return site.failure(request, 500, f"{type(error).__name__} at {where}. The server's log has the same line.")


def as_json(value: object) -> Response:
    """A struct as JSON to read, for programs and people."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=1)
    return Response(text, media_type="application/json", headers={"Content-Security-Policy": SANDBOX})


def attachment(body: str | bytes, media_type: str, name: str) -> Response:
    """A file to keep: it is never shown in the place of a page, and could do nothing there."""
    return Response(body, media_type=media_type, headers=kept_away(name))


def kept_away(name: str) -> dict[str, str]:
    """The headers of such a file. name: of letters, digits, dots and dashes only."""
    return {"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": SANDBOX}


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


def link(path: str, **query: object) -> str:
    """An address with those parts of the query that say something."""
    said = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path
