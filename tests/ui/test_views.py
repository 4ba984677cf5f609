"""The pages over a real socket: what they show, their JSON twins, and that recorded content stays text in all."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from urllib.parse import quote

import pytest

from lunaroute.records import State, Usage
from lunaroute.stores import queries
from lunaroute.ui.site import SESSION_TABS, STAMP, TABS
from tests import recorded
from tests.ui import hostile
from tests.ui.conftest import METRICS, Serve, Site
from tests.ui.test_content import Elements

EXCHANGE = f"{recorded.BOOT}-1"
# what our own templates are made of; whatever else turns up came out of a record
TAGS = {
    *("!", "html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "div", "button", "form"),
    *("main", "section", "article", "aside", "h1", "h2", "h3", "h4", "h5", "h6", "p", "span", "label", "input"),
    *("select", "option", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "time", "code"),
    *("pre", "details", "summary", "ul", "ol", "li", "strong", "em", "s", "blockquote", "hr", "br"),
    *("svg", "circle", "path", "line", "rect", "g", "text", "dialog", "figure", "figcaption", "kbd", "b", "mark"),
    "img",
}
ATTRIBUTES = {
    *("decl", "lang", "data-theme", "charset", "name", "content", "rel", "href", "type", "src", "class", "id"),
    *("aria-label", "aria-hidden", "aria-current", "aria-live", "aria-sort", "role", "tabindex", "hidden", "method"),
    *("action", "for", "value", "placeholder", "autocomplete", "spellcheck", "selected", "title", "scope", "datetime"),
    *("data-pulse", "data-seen", "data-copy", "download", "start", "width", "height", "viewbox", "cx", "cy", "r", "d"),
    *("data-every", "data-asks", "data-live", "data-live-list", "data-row", "data-key", "data-since", "data-edges"),
    *("data-submits", "data-filters", "data-body", "data-text", "data-from", "data-exchange", "data-on", "open", "alt"),
    *("aria-labelledby", "inputmode", "required", "loading", "colspan", "checked", "x", "y", "x1", "x2", "y1", "y2"),
    *("dy", "rx", "text-anchor", "preserveaspectratio"),
}


def assert_only_ours(text: str, where: str) -> Elements:
    page = Elements(text)
    for tag, attributes in page.found:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES, (where, tag, attributes)
        if tag == "script":
            assert re.fullmatch(r"/static/[0-9a-f]{12}/[a-z]+\.js", attributes["src"] or ""), where
        for name in ("href", "src", "action"):
            if name in attributes:
                address = attributes[name] or ""
                foreign = tag == "a" and attributes.get("rel") == "noopener noreferrer nofollow"
                assert re.match(r"[/#?](?!/)" if not foreign else r"https?:|mailto:", address), (where, tag, attributes)
    return page


@pytest.fixture
def path(tmp_path: Path) -> Path:
    failed = recorded.exchange(
        5, "beta", sequence=1, state=State.UPSTREAM_ERROR, status=529, error="The provider answered 529.",
        client="opencode", model_requested="gpt-5.5", model_used=None, title="A failure", usage=Usage(),
        parent_session_id="session-1", truncated=True, lost_bytes=2048,
    )  # fmt: skip
    running = recorded.exchange(6, "gamma", sequence=1, state=None, usage=Usage(), title="A long answer")
    return recorded.write(tmp_path / "sessions.db", [*recorded.tool_loop(), failed, running, recorded.opened(9)])


@pytest.fixture
def site(serve: Serve, path: Path) -> Site:
    return serve(path)


def page(site: Site, path: str, status: int = 200) -> Elements:
    answer = site.ask(path)
    assert answer.status == status and answer.headers["content-type"] == "text/html; charset=utf-8"
    return assert_only_ours(answer.text, path)


def test_the_list(site: Site) -> None:
    text = page(site, "/sessions").text
    for words in ("Why does `make test` fail", "A failure", "1 error", "subagent", "A long answer", "Running"):
        assert words in text
    assert text.index("A long answer") < text.index("A failure") < text.index("Why does")


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("q=failure", ["A failure"]),
        ("q=FAIL+make", ["Why does"]),
        ("client=opencode", ["A failure"]),
        ("model=gpt-5.5", ["A failure"]),
        ("state=running", ["A long answer"]),
        ("state=upstream_error", ["A failure"]),
        ("since=1h", []),
        ("sort=title", ["Why does", "A long answer", "A failure"]),
        ("sort=title&dir=up", ["A failure", "A long answer", "Why does"]),
        ("q=%00", []),
        ("q=zzz", []),
    ],
)
def test_search_filter_and_sort(site: Site, query: str, titles: list[str]) -> None:
    text = page(site, f"/sessions?{query}").text
    found = sorted((text.index(title), title) for title in ("A failure", "A long answer", "Why does") if title in text)
    assert [title for _, title in found] == titles
    assert ("No session fits" in text) is not bool(titles)


def test_the_form_keeps_what_was_asked(site: Site) -> None:
    found = page(site, "/sessions?q=%22x%22&model=gone&state=running&sort=title&dir=up").found
    values = {a["name"]: a.get("value") for tag, a in found if tag == "input" and a.get("value")}
    assert values == {"q": '"x"', "sort": "title", "dir": "up"}
    chosen = [attributes["value"] for tag, attributes in found if tag == "option" and "selected" in attributes]
    assert chosen == ["gone", "running"]


def test_pages_of_the_list(serve: Serve, tmp_path: Path) -> None:
    made = [recorded.exchange(n, f"s{n:03}", title=f"title {n:03}") for n in range(1, 121)]
    site = serve(recorded.write(tmp_path / "db", made))
    seen: list[str] = []
    address: str | None = "/sessions?model=claude-opus-5-5"
    while address:
        answer = page(site, address)
        seen += re.findall(r"title \d{3}", answer.text)
        following = [attributes["href"] for tag, attributes in answer.found if attributes.get("rel") == "next"]
        address = following[0] if following else None
    assert seen == [f"title {n:03}" for n in range(120, 0, -1)]


def test_a_session(site: Site) -> None:
    answer = page(site, "/sessions/session-1")
    for words in (
        "Why does `make test` fail in **this** folder?", "I should look at the folder first.", "Let me look.", "ls -la",
        "missing.py", "File is empty.", "failed", "System prompt", "Tools offered", "2,700", "33,000", "A failure",
        "print('hello')", "#3",
    ):  # fmt: skip
        assert words in answer.text, words
    assert answer.text.count("total 4") == 1
    links = [attributes.get("href") for tag, attributes in answer.found if tag == "a"]
    assert "/sessions/beta" in links and f"/exchanges/{EXCHANGE}" in links
    child = page(site, "/sessions/beta")
    assert "/sessions/session-1" in [attributes.get("href") for tag, attributes in child.found if tag == "a"]
    assert "The provider answered 529." in child.text and "2.0 kB was not kept" in child.text
    assert "still on its way" in page(site, "/sessions/gamma").text


@pytest.mark.parametrize("tab", TABS)
def test_an_exchange(site: Site, tab: str) -> None:
    for number in (1, 5, 6, 9):
        text = page(site, f"/exchanges/{recorded.BOOT}-{number}?view={tab}").text
        assert TABS[tab] in text
    text = page(site, f"/exchanges/{EXCHANGE}?view={tab}").text
    assert {
        "conversation": "Let me look.",
        "request": '"text": "Why does `make test` fail in **this** folder?"',
        "response": "content_block_delta",
        "headers": "x-api-key***",
        "changes": "There is no earlier turn",
    }[tab] in text


def test_raw_bodies_are_attachments_in_a_sandbox(site: Site) -> None:
    answer = site.ask(f"/exchanges/{EXCHANGE}/request.txt")
    assert answer.body == recorded.tool_loop()[0].request_body
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="lunaroute-{EXCHANGE}-request.txt"'
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert site.ask(f"/exchanges/{EXCHANGE}/response.txt").body == recorded.tool_loop()[0].response_body
    assert site.ask(f"/exchanges/{EXCHANGE}/secrets.txt").status == 404


def test_the_status_page(serve: Serve, path: Path) -> None:
    text = page(serve(path), "/settings").text
    for words in ("sqlite", "Working", "jsonl", "Not working", "The disk is full.", "123 kB", "Nothing was dropped."):
        assert words in text
    counted = serve(path, status=lambda: {"counters": {"requests_total": 12345}, "proxy_url": "http://127.0.0.1:1"})
    assert "requests12,345" in page(counted, "/settings").text
    dropped = serve(path, status=lambda: {"dropped": {"bytes": 12345}})
    assert "could not be recorded" in page(dropped, "/settings").text
    tags = {"<b>": "<b>", "x": None}
    for odd in ({}, {"stores": "x", "dropped": 3}, {"stores": [1, {}], "dropped": tags, "counters": tags}):
        page(serve(path, status=lambda odd=odd: odd), "/settings")


def test_what_a_client_adds_is_one_fold(serve: Serve, tmp_path: Path) -> None:
    parts = [f"<part_{n}>{n}</part_{n}>" for n in range(3)]
    body = recorded.ask([*map(recorded.user, parts), recorded.user("hi"), recorded.user("<one>x</one>")])
    closed = recorded.exchange(2, kind="handshake", error="the client closed the tunnel", sequence=2)
    made = [recorded.exchange(1, request_body=body), closed]
    text = page(serve(recorded.write(tmp_path / "db", made)), "/sessions/session-1").text
    assert "54 characters added by the client: part_0, part_1, part_2" in " ".join(text.split())
    assert "the client closed the tunnel" in text


def test_metrics_and_health(site: Site) -> None:
    answer = site.ask("/metrics")
    assert answer.body == METRICS and answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert site.ask("/healthz").json["status"] == "ok"


def test_the_json_twins(site: Site) -> None:
    listed = site.ask("/api/sessions?state=upstream_error")
    assert listed.headers["content-type"] == "application/json"
    assert listed.headers["content-security-policy"].startswith("sandbox;")
    assert [row["session_id"] for row in listed.json["page"]["rows"]] == ["beta"]
    session = site.ask("/api/sessions/session-1").json
    assert [turn["row"]["sequence"] for turn in session["transcript"]["turns"]] == [1, 2, 3]
    assert session["transcript"]["turns"][0]["answer"][2]["result"]["text"].startswith("total 4")
    exchange = site.ask(f"/api/exchanges/{EXCHANGE}").json
    assert exchange["kept"]["request_body"].encode() == recorded.tool_loop()[0].request_body
    assert exchange["kept"]["request_encoding"] == "utf-8"
    assert site.ask("/api/status").json["observer"]["lag_events"] == 7
    assert site.ask("/api").json["openapi"] == "3.1.0"
    assert "running" in site.ask("/api/pulse").json["pulse"]
    assert site.ask("/api/sessions/none").json == {"error": site.ask("/api/sessions/none").json["error"]}


def test_bodies_that_are_no_text_are_base64_in_json(serve: Serve, tmp_path: Path) -> None:
    made = [recorded.exchange(1, dialect="other", request_body=b"\xff\x00", response_body=b"")]
    kept = serve(recorded.write(tmp_path / "db", made)).ask(f"/api/exchanges/{EXCHANGE}").json["kept"]
    assert (kept["request_body"], kept["request_encoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere", 404), ("/status", 404), ("/sessions/", 404), ("/sessions/none", 404), ("/exchanges/none", 404),
        ("/exchanges/none/request.txt", 404),
        ("/sessions?state=odd", 400), ("/sessions?sort=odd", 400), ("/sessions?mark=odd", 400),
        ("/sessions?since=odd", 400), ("/sessions?cost=odd", 400), ("/?since=odd", 400), ("/?range=odd", 400),
        ("/sessions/session-1?after=x", 400), ("/sessions/session-1/turns?after=x", 400),
        (f"/exchanges/{EXCHANGE}?view=odd", 400),
        ("/api/nowhere", 404), ("/api/sessions/none", 404), ("/api/sessions?sort=odd", 400), ("/static/", 404),
    ],
)  # fmt: skip
def test_what_is_not_there(site: Site, address: str, status: int) -> None:
    answer = site.ask(address)
    assert answer.status == status
    if address.startswith("/api"):
        assert isinstance(answer.json["error"], str)
    elif "static" not in address:
        assert_only_ours(answer.text, address)


@pytest.mark.parametrize(
    "name",
    ["../views.py", "..%2fviews.py", "%2e%2e/views.py", "..%5cviews.py", "/etc/passwd", "app.css%00.js", "C:%5cx", ".",
     "app.css/", "APP.CSS", "templates/base.html", "a" * 5000, "%ff"],
)  # fmt: skip
def test_no_path_leads_out(site: Site, name: str) -> None:
    static = (f"/static/{STAMP}/{name}", f"/static/{name}/app.css")
    for address in (*static, f"/sessions/{name}", f"/exchanges/{name}", f"/exchanges/{name}/request.txt"):
        answer = site.ask(address)
        assert answer.status == 404 and b"from __future__" not in answer.body and b"root:" not in answer.body


def test_head_is_get_without_a_body(site: Site) -> None:
    for address in ("/", "/sessions/session-1", "/metrics", f"/static/{STAMP}/app.css"):
        answer = site.ask(address, "HEAD")
        assert answer.status == 200 and answer.body == b"" and int(answer.headers["content-length"]) > 10


def test_without_a_record_it_says_how_to_begin(serve: Serve) -> None:
    site = serve()
    text = page(site, "/").text
    assert "Nothing recorded yet" in text and 'eval "$(lunaroute env)"' in text and "none.db" in text
    assert "Nothing recorded yet" in page(site, "/sessions").text
    assert "Nothing recorded yet" not in page(site, "/sessions?q=x").text
    assert "Nothing has been recorded yet" in page(site, "/sessions/x", 404).text
    page(site, "/settings")


def test_it_notices_a_database_that_comes_later(serve: Serve, tmp_path: Path) -> None:
    site = serve(tmp_path / "none.db")
    assert "Nothing recorded yet" in page(site, "/").text
    recorded.write(tmp_path / "none.db", recorded.tool_loop())
    assert "Why does" in page(site, "/").text


def test_a_damaged_database_is_said(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database " * 500)
    site = serve(tmp_path / "db")
    assert "damaged" in page(site, "/", 503).text
    assert site.ask("/api/sessions").status == 503
    assert "damaged" in page(site, "/settings").text


def test_a_failure_of_ours_names_its_place_and_no_content(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("recorded words")

    monkeypatch.setattr(queries, "children", broken)
    site = serve(path)
    with caplog.at_level(logging.DEBUG):
        text = page(site, "/sessions/session-1", 500).text
    assert "RuntimeError at test_views.py:" in text and "recorded words" not in text
    assert "page session failed: RuntimeError at test_views.py:" in caplog.text and "recorded words" not in caplog.text


def test_a_theme_that_is_none_is_ignored(site: Site) -> None:
    for cookie, theme in (("theme=dark", ' data-theme="dark"'), ('theme="><script>', ""), ("theme=blue", "")):
        assert site.ask("/", Cookie=cookie).text.startswith(f'<!doctype html>\n<html lang="en"{theme}>')


# --- hostile content --------------------------------------------------------------------------------------------------
def addresses() -> list[str]:
    made = [*hostile.exchanges(), *hostile.plain_exchanges()]
    sessions = sorted({one.session_id for one in made})
    windows = ["", "?after=0", "?after=20"]
    tabs = [f"/{name}" if name else "" for name in SESSION_TABS]
    return [
        "/", "/sessions?limit=500", "/sessions?sort=title", "/sessions?sort=model&dir=up", "/settings", "/analytics",
        "/routing", "/?range=30d", "/analytics?since=2020-01-01&until=2020-02-01",
        "/?since=2020-01-01&until=2020-02-01",
        *(f"/sessions/{session}{tab}{window}" for session in sessions for tab in tabs for window in windows),
        *(f"/exchanges/{one.id}?view={tab}" for one in made for tab in TABS),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def hostile_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "sessions.db"
    return recorded.write(path, [*hostile.exchanges(), *hostile.plain_exchanges()])


def test_hostile_records_stay_text_on_every_page(serve: Serve, hostile_database: Path) -> None:
    site = serve(hostile_database)
    for address in addresses():
        page(site, address)


def test_hostile_questions_stay_text(serve: Serve, hostile_database: Path) -> None:
    site = serve(hostile_database)
    for words in hostile.STRINGS:
        asked = quote(words[:1500], safe="")
        of_list = (f"q={asked}", f"model={asked}&client={asked}", f"project={asked}&tool={asked}", f"cost={asked}")
        of_list += (f"state={asked}", f"sort={asked}", f"until={asked}")
        of_first = (f"/?model={asked}&range={asked}", f"/?model={asked}")
        for address in (*(f"/sessions?{each}" for each in of_list), *of_first):
            answer = site.ask(address)
            assert answer.status in (200, 400)
            assert_only_ours(answer.text, address)
        others = (f"/analytics?client={asked}", f"/analytics/{asked}.csv", f"/sessions/{asked}/timeline", f"/{asked}")
        exchange = f"/exchanges/{asked}?view={asked}"
        for address in (f"/sessions?mark={asked}", f"/sessions/{asked}", exchange, *others):
            answer = site.ask(address)
            assert answer.status in (200, 400, 404)
            assert_only_ours(answer.text, address)


def test_hostile_records_in_json(serve: Serve, hostile_database: Path) -> None:
    site = serve(hostile_database)
    rows = site.ask("/api/sessions?limit=500").json["page"]["rows"]
    assert {row["title"] for row in rows} <= set(hostile.STRINGS) | {None}
    for one in hostile.exchanges():
        kept = site.ask(f"/api/exchanges/{one.id}").json["kept"]
        assert kept["request_headers"] == [[one.title, one.title]]
        assert kept["request_body"] == one.request_body.decode()
