"""A real browser on the pages, and a person's visit in it that notes whatever should not happen.

The system's Chromium is used, none is fetched; requests that would leave loopback are counted and stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks import recorded_sessions
from lunaroute.records import Usage
from lunaroute.ui.server import RunningUi, start
from tests import recorded
from tests.e2e.programs import PACKAGES
from tests.ui import hostile, sample
from tests.ui.conftest import METRICS, STATUS

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


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    many = [recorded.exchange(n, f"s{n:03}", title=f"session {n:03}") for n in range(2000, 2070)]
    running = recorded.exchange(500, "running", sequence=1, state=None, usage=Usage(), title="Under way")
    made = [*hostile.exchanges(), *hostile.plain_exchanges(), *recorded.tool_loop("talk", first=600), running, *many]
    return recorded.write(tmp_path_factory.mktemp("ui") / "sessions.db", made)


@pytest.fixture(scope="session")
def sample_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month of a developer's sessions."""
    return sample.write(tmp_path_factory.mktemp("sample") / "sessions.db")


@pytest.fixture(scope="session")
def large_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 exchanges in 10,000 sessions."""
    path = tmp_path_factory.mktemp("large") / "sessions.db"
    return recorded_sessions.large(path, datetime.now(UTC), base=2_000, copies=50)


@pytest.fixture
def pages() -> Iterator[Callable[..., str]]:
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

    def axe(self) -> list[str]:
        """What axe-core finds that is serious: rule and place."""
        script = PACKAGES / "axe-core" / "axe.min.js"
        if not script.is_file():
            pytest.fail("axe-core is not installed: make clients")
        self.page.evaluate(script.read_text())
        found: list[str] = self.page.evaluate(AXE)
        return found

    def assert_calm(self, where: str) -> None:
        assert self.page.evaluate("window.fired") == 0, where
        assert self.page.evaluate("window.reports") == [], where
        assert self.trouble == [], where

    def assert_fits(self, where: str) -> None:
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{where} is {wide} px too wide"


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(browser: Browser, pages: Callable[..., str], database: Path) -> Iterator[Visit]:
    contexts: list[BrowserContext] = []

    def go(path: Path = database, width: int = 1280, scheme: str = "light", **given: Any) -> Visitor:
        viewport = {"width": width, "height": 850}
        allowed = ["clipboard-read", "clipboard-write"]
        made = browser.new_context(viewport=viewport, color_scheme=scheme, permissions=allowed)  # type: ignore[arg-type]
        contexts.append(made)
        return Visitor(contexts[-1], pages(path, **given))

    yield go
    for context in contexts:
        context.close()


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
AXE = """
async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => one.id + ": " + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | "));
}
"""
