"""The pages in a real browser: they work with keyboard and mouse, fit a phone, and nothing recorded ever runs.

The system's Chromium is used, none is fetched; requests that would leave loopback are counted and stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from lunaroute.records import Usage
from lunaroute.ui.server import RunningUi, start
from lunaroute.ui.views import TABS
from tests import recorded
from tests.ui import hostile
from tests.ui.conftest import METRICS, STATUS

pytestmark = pytest.mark.slow
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # a name that only DNS rebinding would point here, and one that recorded content tries to reach
    f"--host-resolver-rules=MAP evil.test 127.0.0.1, MAP {hostile.CANARY} ~NOTFOUND",
]
TOKEN = "a-token-for-the-browser"
# counts what must not happen, from before the page's own content is parsed
WATCH = """
window.fired = 0; window.reports = [];
window.canary = () => { window.fired += 1; };
window.alert = window.canary;
document.addEventListener("securitypolicyviolation", (e) => {
  window.reports.push(e.violatedDirective + " " + e.blockedURI);
});
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no Chromium on this machine: make test installs it, or says how")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    many = [recorded.exchange(n, f"s{n:03}", title=f"session {n:03}") for n in range(2000, 2070)]
    running = recorded.exchange(500, "running", sequence=1, state=None, usage=Usage(), title="Under way")
    made = [*hostile.exchanges(), *hostile.plain_exchanges(), *recorded.tool_loop("talk", first=600), running, *many]
    return recorded.write(tmp_path_factory.mktemp("ui") / "sessions.db", made)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    running: list[RunningUi] = []

    def go(path: Path, **given: Any) -> str:
        settings: dict[str, Any] = {"allowed_hosts": [], "access_tokens": [], **given}
        running.append(start(path, "127.0.0.1", 0, status=lambda: STATUS, metrics=lambda: METRICS, **settings))
        return running[-1].url

    yield go
    for ui in running:
        ui.stop()


class Visitor:
    """A person's browser that notes whatever should not happen."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.trouble: list[str] = []
        context.add_init_script(WATCH)
        context.route("**/*", self._pass)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(f"error {error}"))
        self.page.on("dialog", self._dialog)

    def _pass(self, route: Any) -> None:
        address = urlsplit(route.request.url)
        if address.hostname != "127.0.0.1":
            self.trouble.append(f"request to {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.trouble.append(f"console {kind}: {text}")

    def _dialog(self, dialog: Any) -> None:
        self.trouble.append("dialog")
        dialog.dismiss()

    def go(self, path: str, expected: int = 200) -> Page:
        answer = self.page.goto(self.base + path)
        assert answer is not None and answer.status == expected
        return self.page

    def unfold(self) -> None:
        """Opens every fold, so that nothing hides from the layout."""
        self.page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")

    def assert_calm(self, where: str) -> None:
        assert self.page.evaluate("window.fired") == 0, where
        assert self.page.evaluate("window.reports") == [], where
        assert self.trouble == [], where

    def assert_fits(self, where: str) -> None:
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{where} is {wide} px too wide"


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, serve: Callable[..., str], database: Path) -> Iterator[Visit]:
    contexts: list[BrowserContext] = []

    def go(path: Path = database, width: int = 1280, scheme: str = "light", **given: Any) -> Visitor:
        viewport = {"width": width, "height": 850}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))  # type: ignore[arg-type]
        return Visitor(contexts[-1], serve(path, **given))

    yield go
    for context in contexts:
        context.close()


def hostile_pages() -> list[str]:
    made = [*hostile.exchanges(), *hostile.plain_exchanges()]
    sessions = sorted({one.session_id for one in made})
    return [
        "/?limit=500", "/status", *(f"/sessions/{session}?after=0" for session in sessions), "/sessions/hostile-1",
        *(f"/exchanges/{one.id}?view={tab}" for one in made[::2] for tab in TABS),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 380])
def test_recorded_content_never_runs_and_never_breaks_the_page(visit: Visit, width: int) -> None:
    visitor = visit(width=width)
    for path in hostile_pages():
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


def test_find_open_and_read_a_session(visit: Visit) -> None:
    visitor = visit()
    page = visitor.go("/")
    page.keyboard.press("/")
    page.keyboard.type("make test")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Why does `make test` fail").click()
    page.get_by_role("heading", name="Why does").wait_for()
    tool = page.locator("details.tool").first
    assert not page.get_by_text("total 4").is_visible()
    tool.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("total 4").is_visible()
    page.get_by_role("button", name="Unfold all").click()
    assert page.get_by_text("I should look at the folder first.").last.is_visible()
    page.get_by_role("button", name="Fold all").click()
    assert not page.get_by_text("total 4").is_visible()
    page.get_by_role("link", name="#2").click()
    page.get_by_role("heading", name="Exchange 2").wait_for()
    for word in ("Request", "Response", "Details", "Conversation"):
        page.get_by_role("navigation", name="Parts").get_by_role("link", name=word).click()
        page.locator(f".tabs a[aria-current]:text-is('{word}')").wait_for()
    page.get_by_role("link", name="Next").click()
    page.get_by_role("heading", name="Exchange 3").wait_for()
    visitor.assert_calm("reading")


def test_filters_sorting_and_paging(visit: Visit) -> None:
    visitor = visit()
    page = visitor.go("/?q=session")
    titles = page.locator(".c-title > a")
    assert titles.count() == 50 and titles.first.inner_text() == "session 2069"
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Previous").wait_for()
    assert titles.first.inner_text() == "session 2019"
    page.get_by_role("link", name="Session", exact=True).click()
    page.locator("th[aria-sort=descending]", has_text="Session").wait_for()
    page.get_by_role("link", name="Session", exact=False).locator("visible=true").and_(page.locator("th a")).click()
    page.locator("th[aria-sort=ascending]").wait_for()
    assert titles.first.inner_text() == "session 2000"
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("State").select_option("running")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**state=running**")
    assert titles.all_inner_texts() == ["Under way"]
    visitor.assert_calm("the list")


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
    visitor.go("/status")
    assert background() == light  # and it is kept
    button.click()
    assert background() == dark
    button.click()  # the system's again
    visitor.go("/")
    assert background() == dark and page.evaluate("document.documentElement.dataset.theme") is None
    visitor.assert_calm("theme")


def test_new_activity_is_shown_when_it_comes(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop("talk"))
        visitor = visit(path)
        page = visitor.go("/")
        assert not page.get_by_role("button", name="New activity").is_visible()
        store.write([recorded.exchange(9, "later", title="It came later")])
        page.get_by_role("button", name="New activity").click()
        page.get_by_role("link", name="It came later").wait_for()
    visitor.assert_calm("live")


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
    visitor.page.goto(f"{visitor.base}/status?token={TOKEN}")
    assert page.url.endswith("/status") and TOKEN not in page.content()
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
    assert frame.get_by_role("heading", name="Sessions").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (380, "light"), (380, "dark")])
def test_contrast_labels_and_fit(visit: Visit, tmp_path: Path, width: int, scheme: str) -> None:
    exchange = f"{recorded.BOOT}-601"
    pages = ["/", "/?q=nothing-fits-this", "/sessions/talk", "/sessions/running", "/status", "/sessions/none"]
    pages += [f"/exchanges/{exchange}?view={tab}" for tab in TABS]
    look: dict[str, Any] = {"width": width, "scheme": scheme}
    full, empty = visit(**look), visit(tmp_path / "none.db", **look)
    closed = visit(**look, access_tokens=[TOKEN])
    for visitor, path in [*((full, path) for path in pages), (empty, "/"), (empty, "/status"), (closed, "/")]:
        visitor.page.goto(visitor.base + path)
        visitor.unfold()
        visitor.assert_fits(path)
        assert visitor.page.evaluate(FAINT) == [], (path, scheme)
        assert visitor.page.evaluate(UNNAMED) == [], path
        visitor.assert_calm(path)


# text whose contrast with what is behind it is under WCAG AA: 4.5, or 3 for large text
FAINT = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (c) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = [c[0], c[1], c[2]].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const c = rgba(getComputedStyle(at).backgroundColor);
      if (c[3] > 230) return c;
    }
    return rgba("white");
  };
  const faint = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility() || element.closest("svg, option")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(style.color)), light(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < needed) faint.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}
"""
# controls without a name, headings that skip a level downwards, more or fewer than one h1, doubled ids
UNNAMED = """
() => {
  const wrong = [];
  for (const control of document.querySelectorAll("input:not([type=hidden]):not([hidden]), select, button, a")) {
    const own = control.textContent + (control.ariaLabel ?? "");
    const name = control.labels?.length ? control.labels[0].textContent : own;
    if (!name.trim()) wrong.push(control.outerHTML);
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("h1");
  if (!document.title.trim() || !document.documentElement.lang) wrong.push("title or language");
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("id " + id);
  return wrong;
}
"""


def test_focus_is_visible_everywhere(visit: Visit) -> None:
    visitor = visit()
    for path in ("/", "/sessions/talk"):
        page = visitor.go(path)
        for _ in range(25):
            page.keyboard.press("Tab")
            style = page.evaluate(
                "(() => { const on = document.activeElement, s = getComputedStyle(on);"
                " return on === document.body ? 'body' : s.outlineStyle + ' ' + s.outlineWidth; })()"
            )
            assert style in {"body", "solid 2px"}, (path, page.evaluate("document.activeElement.outerHTML"))


def test_pages_work_without_scripts(browser: Browser, serve: Callable[..., str], database: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(serve(database))
    page.get_by_label("Search").fill("make test")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="Why does").click()
    page.locator("details.tool summary").first.click()
    assert page.get_by_text("total 4").is_visible()
    context.close()
