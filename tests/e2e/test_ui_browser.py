"""The pages in a real browser: nothing recorded ever runs, no other site can look in, everybody can read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from lunaroute.ui.site import TABS
from tests import recorded
from tests.e2e.conftest import FAINT, TOKEN, UNNAMED, Visit
from tests.ui import hostile, sample

pytestmark = pytest.mark.slow
PAST = "since=2020-01-01&until=2020-02-01"  # when the hostile records are from


def hostile_pages() -> list[str]:
    made = [*hostile.exchanges(), *hostile.plain_exchanges()]
    sessions = sorted({one.session_id for one in made})
    return [
        "/", "/sessions?limit=500", "/settings", "/sessions?q=canary", f"/?{PAST}", f"/analytics?{PAST}",
        f"/routing?{PAST}",
        *(f"/sessions/{session}?after=0" for session in sessions), "/sessions/hostile-1",
        *(f"/sessions/{session}/{tab}?after=0" for session in sessions[:4] for tab in ("timeline", "turns", "delete")),
        *(f"/exchanges/{one.id}?view={tab}" for one in made[::4] for tab in TABS),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 380])
def test_recorded_content_never_runs_and_never_breaks_the_page(visit: Visit, width: int) -> None:
    visitor = visit(width=width)
    pages = hostile_pages()
    for path in pages if width == 1280 else [*pages[:20], *pages[20::4]]:
        visitor.go(path)
        visitor.unfold()
        visitor.assert_calm(path)
        visitor.assert_fits(path)


def test_the_canary_would_be_heard(visit: Visit) -> None:
    """The watch itself works: a page without our policy that holds the same text does fire."""
    visitor = visit()
    visitor.page.set_content(f"<!doctype html>{hostile.STRINGS[2]}{hostile.STRINGS[0]}")
    visitor.page.wait_for_function("window.fired === 2")


def test_links_of_recorded_content_go_only_where_they_say(visit: Visit) -> None:
    visitor = visit()
    page = visitor.go("/sessions/hostile-1?after=0")
    visitor.unfold()
    links = page.eval_on_selector_all(".prose a", "all => all.map((a) => [a.protocol, a.rel, a.target])")
    assert links and all(link[0] in ("http:", "https:") and "noreferrer" in link[1] and not link[2] for link in links)


def test_the_theme_follows_the_system_until_it_is_switched(visit: Visit) -> None:
    visitor = visit(scheme="dark")
    page = visitor.go("/")

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    dark = background()
    button = page.get_by_role("button", name="Theme")
    button.click()  # light
    light = background()
    assert light != dark
    visitor.go("/settings")
    assert background() == light  # and it is kept
    button.click()
    assert background() == dark
    button.click()  # the system's again
    visitor.go("/")
    assert background() == dark and page.evaluate("document.documentElement.dataset.theme") is None
    visitor.assert_calm("theme")


def test_people_sign_in(visit: Visit) -> None:
    visitor = visit(access_tokens=[TOKEN])
    page = visitor.go("/sessions/talk", expected=401)
    page.get_by_label("Access token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("not one of the tokens").wait_for()
    page.get_by_label("Access token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Why does").wait_for()
    assert page.url.endswith("/sessions/talk")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Access token").wait_for()
    visitor.page.goto(f"{visitor.base}/settings?token={TOKEN}")
    assert page.url.endswith("/settings") and TOKEN not in page.content()
    visitor.assert_calm("signing in")


def test_other_sites_cannot_look_or_frame(visit: Visit) -> None:
    visitor = visit()
    port = urlsplit(visitor.base).port
    answer = visitor.page.goto(f"{visitor.base}/healthz")
    assert answer is not None and answer.ok
    visitor.page.unroute_all()
    visitor.page.context.unroute_all()
    # a name that was pointed here by DNS
    rebound = visitor.page.goto(f"http://evil.test:{port}/")
    assert rebound is not None and rebound.status == 421
    # a page of another origin, served from its own name
    html = f"<iframe id=f src='{visitor.base}/'></iframe><script src='{visitor.base}/api/sessions'></script>"
    visitor.page.context.route("http://other.test/", lambda route: route.fulfill(content_type="text/html", body=html))
    visitor.page.goto("http://other.test/")
    statuses = visitor.page.evaluate(
        """async (base) => {
            const tries = [{}, {mode: "no-cors"}, {method: "POST", mode: "no-cors", body: "x"}];
            const ask = (how) => fetch(base + "/api/sessions", how).then((answer) => answer.type, () => "refused");
            return Promise.all(tries.map(ask));
        }""",
        visitor.base,
    )
    assert statuses[0] == "refused" and set(statuses) <= {"refused", "opaque"}
    frame = visitor.page.frame_locator("#f")
    assert frame.get_by_role("heading", name="Dashboard").count() == 0


LOOKS = [(1280, "light"), (1280, "dark"), (380, "light"), (380, "dark")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_contrast_labels_and_fit(visit: Visit, sample_database: Path, tmp_path: Path, width: int, scheme: str) -> None:
    exchange, session = f"{recorded.BOOT}-900002", sample.HERO
    pages = [
        "/",
        "/?range=7d",
        "/sessions",
        "/sessions?q=retry",
        "/sessions?q=nothing-fits-this",
        "/analytics",
        "/routing",
    ]
    pages += ["/settings", "/about", "/sessions/none", f"/sessions/{session}/delete"]
    pages += [f"/sessions/{session}{tab}" for tab in ("", "/timeline", "/turns")]
    pages += [f"/exchanges/{exchange}?view={tab}" for tab in TABS]
    look: dict[str, Any] = {"width": width, "scheme": scheme}
    full, empty = visit(sample_database, **look), visit(tmp_path / "none.db", **look)
    closed = visit(sample_database, **look, access_tokens=[TOKEN])
    of_empty = [(empty, path) for path in ("/", "/sessions", "/analytics", "/routing", "/settings")]
    for visitor, path in [*((full, path) for path in pages), *of_empty, (closed, "/")]:
        visitor.page.goto(visitor.base + path)
        visitor.unfold()
        visitor.assert_fits(path)
        assert visitor.page.evaluate(FAINT) == [], (path, scheme)
        assert visitor.page.evaluate(UNNAMED) == [], path
        assert visitor.axe() == [], path
        visitor.assert_calm(path)


def test_focus_is_visible_everywhere(visit: Visit) -> None:
    visitor = visit()
    for path in ("/", "/sessions", "/sessions/talk", "/sessions/talk/turns"):
        page = visitor.go(path)
        for _ in range(20):
            page.keyboard.press("Tab")
            style = page.evaluate(
                "(() => { const on = document.activeElement, s = getComputedStyle(on);"
                " return on === document.body ? 'body' : s.outlineStyle + ' ' + s.outlineWidth; })()"
            )
            assert style in {"body", "solid 2px"}, (path, page.evaluate("document.activeElement.outerHTML"))


def test_pages_work_without_scripts(browser: Browser, pages: Callable[..., str], database: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages(database) + "/sessions")
    page.get_by_label("Search", exact=True).fill("make test")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="Why does").first.click()
    page.locator("details.tool summary").first.click()
    assert page.get_by_text("total 4").is_visible()
    context.close()
