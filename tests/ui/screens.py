"""Pictures of every page, to be looked at: `python -m tests.ui.screens FOLDER [README]`.

Over the month of tests/ui/sample.py and over nothing; light, dark, and as wide as a phone. With a second word also the
three pictures of README.md, in docs/.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from lunaroute.config import flat, load, plain
from lunaroute.ui.server import start
from lunaroute.ui.source import Setting
from tests import recorded
from tests.ui import sample
from tests.ui.conftest import METRICS, STATUS

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXCHANGE = f"/exchanges/{recorded.BOOT}-900002"
SESSION = f"/sessions/{sample.HERO}"
PAGES = {
    "dashboard": "/", "dashboard-7d": "/?range=7d", "dashboard-30d": "/?range=30d", "sessions": "/sessions",
    "search": "/sessions?q=retry", "session": SESSION, "timeline": f"{SESSION}/timeline", "turns": f"{SESSION}/turns",
    "delete": f"{SESSION}/delete", "conversation": EXCHANGE, "changes": f"{EXCHANGE}?view=changes&with=2",
    "request": f"{EXCHANGE}?view=request", "response": f"{EXCHANGE}?view=response",
    "details": f"{EXCHANGE}?view=headers", "analytics": "/analytics?range=30d", "routing": "/routing?range=30d",
    "settings": "/settings", "about": "/about", "missing": "/sessions/none",
}  # fmt: skip
EMPTY = {"empty-dashboard": "/", "empty-sessions": "/sessions", "empty-analytics": "/analytics"}
LOOKS: tuple[tuple[Any, int], ...] = (("light", 1280), ("dark", 1280), ("light", 380))
# README's: name, page, scheme, height
SHOWN: tuple[tuple[str, str, Any, int], ...] = (
    ("dashboard", "/?range=30d", "light", 880),
    ("timeline", f"{SESSION}/timeline", "dark", 720),
    ("session", SESSION, "light", 880),
)


def main(folder: Path, for_readme: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as scratch:
        loaded = load(None, {"HOME": scratch}, {})
        rows = [Setting(key, value, loaded.origins[key]) for key, value in flat(plain(loaded.config)).items()]
        given: dict[str, Any] = {
            "status": lambda: STATUS, "metrics": lambda: METRICS, "allowed_hosts": [], "access_tokens": [],
            "settings": lambda: rows, "order": lambda order: {"sessions": 1},
        }  # fmt: skip
        full = start(sample.write(Path(scratch) / "full.db"), "127.0.0.1", 0, **given)
        empty = start(Path(scratch) / "none.db", "127.0.0.1", 0, **given)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for scheme, width in LOOKS:
                for url, pages in ((full.url, PAGES), (empty.url, EMPTY)):
                    take(browser, url, pages, folder, scheme, width)
            if for_readme:
                show(browser, full.url)
            browser.close()
        full.stop()
        empty.stop()


def take(browser: Browser, url: str, pages: dict[str, str], folder: Path, scheme: Any, width: int) -> None:
    """The pages whole."""
    context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme)
    page = context.new_page()
    for name, path in pages.items():
        page.goto(url + path)
        page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
    context.close()


def show(browser: Browser, url: str) -> None:
    """What one sees of the page without scrolling."""
    DOCS.mkdir(exist_ok=True)
    for name, path, scheme, height in SHOWN:
        context = browser.new_context(viewport={"width": 1280, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(url + path)
        page.wait_for_timeout(200)
        page.screenshot(path=DOCS / f"{name}.png")
        context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), len(sys.argv) > 2)
