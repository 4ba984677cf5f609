"""What stands before every page: which hosts, which origins, which people; and what a browser may do with an answer.

One ASGI wrapper around the whole application, so that no route can be forgotten. Must not know pages.

Against whom (security.md L1-L3, L6, 4.2):
- DNS rebinding: a Host that is not on the list gets 421 on every path, static files and /metrics too.
- other pages in the same browser: what a foreign site asks for is refused by Sec-Fetch-Site and Origin, except a plain
  navigation (a link that somebody follows). No CORS header is ever sent.
- other people, when access tokens are set: a session cookie or `Authorization: Bearer`. Without tokens the listener is
  on loopback and every page only reads, so the two rules above are the protection (L1 asks for a session beyond that;
  other users of the same machine are kept out by tokens, which is why the settings name them).
- recorded content: a policy under which nothing runs but our own script file, see POLICY.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SANDBOX = "sandbox; default-src 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # browsers look up the hosts of links on http pages ahead of time: recorded links must not tell anybody
    "X-DNS-Prefetch-Control": "off",
    "Cache-Control": "no-store",
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE = frozenset({"GET", "HEAD"})
COOKIE = "lunaroute_session"
SESSION_S = 30 * 86400
LOGIN_BODY = 8192

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?")
_OPEN = ("/healthz", "/static/")  # no content of anybody's: what the login page and a probe need


def host_name(text: str) -> str | None:
    """The name of a Host header or of a settings entry: lower case, without port and without a closing dot."""
    found = _HOST.fullmatch(text.strip().lower()) if text.isascii() else None
    return (found[1] or found[2].removesuffix(".")) if found else None


class Hosts:
    """The names we answer to. On a wildcard listener any address as digits is ours too: DNS cannot rebind digits."""

    def __init__(self, listen: str, allowed: Iterable[str]) -> None:
        names = {host_name(entry) for entry in allowed} | {listen.strip("[]").lower()}
        self._names = LOOPBACK | {name for name in names if name}
        self._digits = listen.strip("[]") in ("0.0.0.0", "::")

    def __contains__(self, header: str) -> bool:
        name = host_name(header)
        if name is None:
            return False
        if name in self._names:
            return True
        if not self._digits:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Keys:
    """The access tokens and the sessions made from them.

    A session is an expiry date signed with a key made of its token: it outlives a restart, ends with its token, and is
    worth nothing elsewhere. Every comparison takes the same time, over all tokens.
    """

    def __init__(self, tokens: Sequence[str], wall: Callable[[], float] = time.time) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens if token]
        self._wall = wall

    def __bool__(self) -> bool:
        return bool(self._digests)

    def of_token(self, token: str) -> bytes | None:
        """The key of a token that is one of ours."""
        asked = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = None
        for digest in self._digests:
            if hmac.compare_digest(digest, asked):
                found = digest
        return found

    def session(self, key: bytes) -> str:
        """A new session for the cookie."""
        expiry = str(int(self._wall()) + SESSION_S)
        return f"{expiry}.{_signed(key, expiry)}"

    def is_session(self, text: str) -> bool:
        expiry, _, signature = text.partition(".")
        if not re.fullmatch(r"[0-9]{1,12}", expiry, re.ASCII) or not signature.isascii():
            return False
        good = [hmac.compare_digest(_signed(key, expiry), signature) for key in self._digests]
        return any(good) and int(expiry) > self._wall()


def _signed(key: bytes, expiry: str) -> str:
    return hmac.new(key, f"lunaroute ui session {expiry}".encode(), "sha256").hexdigest()


def own_path(text: str) -> str:
    """A path on this server to go on to; whatever else it says, the first page."""
    return text if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", text, re.ASCII) and "\\" not in text else "/"


class Guard:
    """The wrapper. `login_page(wrong, next, status)` renders the page that asks for a token."""

    def __init__(self, app: ASGIApp, hosts: Hosts, keys: Keys, login_page: Callable[[bool, str], Response]) -> None:
        self._app = app
        self._hosts = hosts
        self._keys = keys
        self._login_page = login_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no lifespan, no WebSocket here

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope)
        if answer is None and self._keys:
            answer = await self._ask_who(scope, receive)
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse(
                "This page is not served under that host name. If it should be, add the name to allowed_hosts.\n", 421
            )
        if not _same_site(scope["method"], headers, hosts[0]):
            return PlainTextResponse("Requests from other web sites are refused.\n", 403)
        return None

    # --- who ----------------------------------------------------------------------------------------------------------
    async def _ask_who(self, scope: Scope, receive: Receive) -> Response | None:
        """None: may pass."""
        path, headers = scope["path"], Headers(scope=scope)
        if path == "/login" and scope["method"] == "POST":
            return await self._login(receive)
        if path == "/logout" and scope["method"] == "POST":
            answer: Response = RedirectResponse("/", 303)
            answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
            return answer
        if path.startswith(_OPEN):
            return None
        here, token = _without_token(scope)
        if token is not None and scope["method"] in SAFE:
            key = self._keys.of_token(token)
            return self._enter(key, here) if key else self._login_page(True, here)
        if self._known(headers):
            return None
        if path.startswith(("/api", "/metrics")):
            return PlainTextResponse(
                "An access token is needed: Authorization: Bearer <one of access_tokens>.\n",
                401,
                {"WWW-Authenticate": 'Bearer realm="lunaroute"'},
            )
        return self._login_page(False, here)

    def _known(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._keys.of_token(token.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._keys.is_session(cookie.value)

    async def _login(self, receive: Receive) -> Response:
        form = dict(parse_qsl(await short_body(receive)))
        following = own_path(form.get("next", "/"))
        key = self._keys.of_token(form.get("token", "").strip())
        return self._enter(key, following) if key else self._login_page(True, following)

    def _enter(self, key: bytes, following: str) -> Response:
        answer = RedirectResponse(following, 303)
        # not `secure`: this server speaks plain HTTP; behind a TLS proxy the cookie stays on that host all the same
        answer.set_cookie(COOKIE, self._keys.session(key), max_age=SESSION_S, httponly=True, samesite="strict")
        return answer


def _same_site(method: str, headers: Headers, host: str) -> bool:
    site = headers.get("sec-fetch-site")
    if method in SAFE:
        if site in (None, "same-origin", "none"):
            return True
        # a followed link shows the page to the person, not to the other site
        return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in ("document", None)
    # the order of Valsorda's algorithm (Go 1.25 CrossOriginProtection)
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == host


def _without_token(scope: Scope) -> tuple[str, str | None]:
    """The path and query asked for without `token`, and the token."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    tokens = [value for name, value in pairs if name == "token"]
    query = urlencode([(name, value) for name, value in pairs if name != "token"])
    path = quote(scope["path"], safe="/-_.~")
    return own_path(f"{path}?{query}" if query else path), tokens[-1] if tokens else None


async def short_body(receive: Receive, limit: int = LOGIN_BODY) -> str:
    """A form's body, as much of it as may be."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > limit or not message.get("more_body", False):
            return bytes(body[:limit]).decode("latin-1")
