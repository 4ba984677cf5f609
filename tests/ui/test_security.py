"""What stands before the pages: hosts, other sites, people, and the headers that keep recorded content inert."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.config.check import is_loopback
from lunaroute.ui.security import COOKIE, SESSION_S, Hosts, Keys, host_name, own_path
from lunaroute.ui.site import STAMP, STATIC
from tests import recorded
from tests.ui.conftest import Serve

TOKEN = "a-token-for-tests-0123456789"
PATHS = (
    "/", "/sessions/session-1", f"/exchanges/{recorded.BOOT}-1", f"/exchanges/{recorded.BOOT}-1/request.txt",
    "/sessions", "/settings", "/analytics", "/analytics/time.csv", "/sessions/session-1/export",
    "/api", "/api/sessions", "/api/sessions/session-1", f"/api/exchanges/{recorded.BOOT}-1", "/api/status",
    "/api/pulse", "/metrics", "/healthz", "/nowhere", *(f"/static/{STAMP}/{name}" for name in STATIC),
)  # fmt: skip
OPEN = ("/healthz", *(f"/static/{STAMP}/{name}" for name in STATIC))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return recorded.write(tmp_path / "sessions.db", recorded.tool_loop())


# --- hosts ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("listen", "header", "ours"),
    [
        ("127.0.0.1", "127.0.0.1:8082", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "LocalHost:1", True),
        ("127.0.0.1", "localhost.", True),
        ("127.0.0.1", "[::1]:8082", True),
        ("127.0.0.1", "luna.example:9", True),
        ("127.0.0.1", "LUNA.example.", True),
        ("127.0.0.1", "sub.luna.example", False),
        ("127.0.0.1", "localhost.evil.test", False),
        ("127.0.0.1", "evil.test", False),
        ("127.0.0.1", "10.0.0.7", False),
        ("127.0.0.1", "127.0.0.1.nip.io", False),
        ("127.0.0.1", "localhost..", False),
        ("127.0.0.1", "user@localhost", False),
        ("127.0.0.1", "localhost:80:80", False),
        ("127.0.0.1", "localhost:x", False),
        ("127.0.0.1", "localhost/evil", False),
        ("127.0.0.1", "localhost, evil.test", False),
        ("127.0.0.1", "localhos\u212a", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.2", "127.0.0.2:1", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("0.0.0.0", "10.0.0.8:8082", True),
        ("::", "[fe80::1]:8082", True),
        ("0.0.0.0", "evil.test", False),
        ("0.0.0.0", "0x7f000001", False),
    ],
)
def test_host_names(listen: str, header: str, ours: bool) -> None:
    assert (header in Hosts(listen, ["luna.example:8443", ""])) is ours


@given(st.text(max_size=60))
def test_host_name_has_nothing_but_a_name(text: str) -> None:
    name = host_name(text)
    assert name is None or not re.search(r"[\s/@?#\[\]\\]", name)


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.3.2.1", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.test", "")))


@pytest.mark.parametrize("tokens", [[], [TOKEN]], ids=["open", "tokens"])
def test_a_foreign_host_gets_nothing_anywhere(serve: Serve, database: Path, tokens: list[str]) -> None:
    site = serve(database, access_tokens=tokens)
    for path in PATHS:
        answer = site.ask(path, Host="evil.test", Authorization=f"Bearer {TOKEN}")
        assert answer.status == 421 and "allowed_hosts" in answer.text and "evil" not in answer.text, path
        assert b"make test" not in answer.body, path


def test_allowed_hosts_are_served(serve: Serve, database: Path) -> None:
    assert serve(database, allowed_hosts=["luna.example"]).ask("/", Host="luna.example:8082").status == 200


# --- other sites ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "headers", "passes"),
    [
        ("GET", {}, True),
        ("GET", {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, True),
        ("GET", {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, True),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}, True),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}, False),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "script"}, False),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"}, False),
        ("GET", {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"}, False),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors", "Origin": "http://evil.test"}, False),
        ("POST", {"Origin": "http://evil.test"}, False),
        ("POST", {"Origin": "null"}, False),
        ("POST", {"Sec_Fetch_Site": "cross-site"}, False),
        ("POST", {"Sec_Fetch_Site": "same-site"}, False),
        ("POST", {"Sec_Fetch_Site": "same-origin", "Origin": "http://x"}, True),
        ("POST", {"Origin": "http://HERE"}, True),
        ("POST", {}, True),
        ("DELETE", {"Sec_Fetch_Site": "cross-site"}, False),
        ("OPTIONS", {"Origin": "http://evil.test", "Access_Control_Request_Method": "POST"}, False),
    ],
)
def test_other_sites(serve: Serve, database: Path, method: str, headers: dict[str, str], passes: bool) -> None:
    site = serve(database)
    headers = {name: value.replace("HERE", site.address.netloc) for name, value in headers.items()}
    for path in ("/", "/api/sessions", "/metrics"):
        answer = site.ask(path, method, **headers)
        assert (answer.status != 403) is passes
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_nothing_can_be_changed(serve: Serve, database: Path) -> None:
    site = serve(database)
    before = database.read_bytes()
    for path, method in itertools.product(PATHS, ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")):
        assert site.ask(path, method).status in (404, 405), (path, method)
    assert database.read_bytes() == before


# --- headers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tokens", [[], [TOKEN]], ids=["open", "tokens"])
def test_every_answer_carries_the_policy(serve: Serve, database: Path, tokens: list[str]) -> None:
    site = serve(database, access_tokens=tokens)
    ways: list[dict[str, str]] = [{}, {"Host": "evil.test"}, {"method": "POST"}]
    for path, way in itertools.product([*PATHS, "/sessions/none", "/?state=nonsense"], ways):
        answer = site.ask(path, **way)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "*" not in policy and "http" not in policy and "data:" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-dns-prefetch-control"] == "off"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        kept = path.startswith("/static/") and answer.status == 200
        assert ("no-store" in answer.headers["cache-control"]) is not kept


def test_pages_have_no_inline_script_or_style(serve: Serve, database: Path) -> None:
    site = serve(database)
    for path in PATHS[:5]:
        text = site.ask(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", text)


# --- people -----------------------------------------------------------------------------------------------------------
def cookie_of(answer_headers: dict[str, str]) -> str:
    return answer_headers["set-cookie"].split(";")[0]


def test_without_a_token_nothing_is_told(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=[TOKEN])
    for path in PATHS:
        answer = site.ask(path)
        assert answer.status == (200 if path in OPEN else 401), path
        assert b"make test" not in answer.body and b"lunaroute_requests_total" not in answer.body
        assert TOKEN.encode() not in answer.body
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", f"Basic {TOKEN}", "Bearer \xe9"):
            assert site.ask(path, Authorization=wrong).status == answer.status, path


def test_programs_say_their_token_in_a_header(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=["other", TOKEN])
    assert site.ask("/api/sessions").headers["www-authenticate"].startswith("Bearer")
    for path in PATHS:
        assert site.ask(path, Authorization=f"bearer {TOKEN}").status == (404 if path == "/nowhere" else 200)


def test_people_sign_in_and_out(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=[TOKEN])
    page = site.ask("/sessions/session-1?after=0")
    assert page.status == 401 and 'name="next" value="/sessions/session-1?after=0"' in page.text
    form = urlencode({"token": f" {TOKEN} ", "next": "/sessions/session-1?after=0"}).encode()
    entered = site.ask("/login", "POST", form, Content_Type="application/x-www-form-urlencoded")
    assert entered.status == 303 and entered.headers["location"] == "/sessions/session-1?after=0"
    flags = entered.headers["set-cookie"].lower()
    assert "httponly" in flags and "samesite=strict" in flags and "path=/" in flags and TOKEN not in flags
    inside = site.ask("/", Cookie=f"theme=dark; {cookie_of(entered.headers)}")
    assert inside.status == 200 and "Sign out" in inside.text and 'data-theme="dark"' in inside.text
    left = site.ask("/logout", "POST", Cookie=cookie_of(entered.headers))
    assert left.status == 303 and "max-age=0" in left.headers["set-cookie"].lower()


def test_a_wrong_token_stays_outside(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=[TOKEN])
    for body in (b"token=wrong&next=/", b"", b"token=", b"\xff\xfe=%zz&&&", b"token=" + b"x" * 100_000):
        answer = site.ask("/login", "POST", body)
        assert answer.status == 401 and "set-cookie" not in answer.headers and "not one of the tokens" in answer.text
    assert site.ask("/login", "POST", b"token=" + TOKEN.encode(), Sec_Fetch_Site="cross-site").status == 403


def test_a_token_in_the_address_becomes_a_cookie(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=[TOKEN])
    answer = site.ask(f"/sessions/session-1?after=0&token={quote(TOKEN)}")
    assert answer.status == 303 and answer.headers["location"] == "/sessions/session-1?after=0"
    assert TOKEN not in str(answer.headers)
    assert site.ask("/", Cookie=cookie_of(answer.headers)).status == 200
    wrong = site.ask("/?token=wrong")
    assert wrong.status == 401 and "set-cookie" not in wrong.headers
    assert "token=wrong" not in wrong.text


@pytest.mark.parametrize("path", ["//evil.test/", "//evil.test/%2e%2e", "/\\evil.test", "/%5cevil.test", "///x"])
def test_signing_in_leads_nowhere_else(serve: Serve, database: Path, path: str) -> None:
    site = serve(database, access_tokens=[TOKEN])
    location = site.ask(f"{path}?token={TOKEN}").headers.get("location", "/")
    assert location.startswith("/") and not re.match(r"/[/\\]", location)
    form = urlencode({"token": TOKEN, "next": path}).encode()
    assert re.fullmatch(r"/|/%5cevil.test", site.ask("/login", "POST", form).headers["location"])


@pytest.mark.parametrize("text", ["//a", "/\\a", "http://a", "", "a", "/a\\b", "/a b", "/a\r\nX: y", "/é", "/\t/a"])
def test_own_path_refuses(text: str) -> None:
    assert own_path(text) == "/"


def test_sessions_end(serve: Serve) -> None:
    now = [1_700_000_000.0]
    keys = Keys([TOKEN], wall=lambda: now[0])
    key = keys.of_token(TOKEN)
    assert key is not None
    session = keys.session(key)
    assert keys.is_session(session)
    assert Keys([TOKEN], wall=lambda: now[0]).is_session(session), "a restart asks nobody to sign in again"
    assert not Keys(["another"], wall=lambda: now[0]).is_session(session), "a removed token ends its sessions"
    expiry, _, signature = session.partition(".")
    later, short = f"{int(expiry) + 1}.{signature}", f"{expiry}.{signature[:-1]}"
    for forged in (later, short, expiry, "", ".", f"{expiry}.é", "x.y"):
        assert not keys.is_session(forged)
    now[0] += SESSION_S + 1
    assert not keys.is_session(session)
    assert not Keys([])


def test_a_broken_cookie_is_no_cookie(serve: Serve, database: Path) -> None:
    site = serve(database, access_tokens=[TOKEN])
    forged = f"{COOKIE}=9999999999.{'0' * 64}"
    for cookie in (f"{COOKIE}=", f"{COOKIE}=1.2", "=;;=", f'{COOKIE}="\\', forged, "\xff=\xff"):
        assert site.ask("/", Cookie=cookie).status == 401
