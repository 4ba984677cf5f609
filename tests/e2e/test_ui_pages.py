"""The pages in use: searched, filtered, opened, compared, copied, exported, deleted, watched; over a lot, too."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lunaroute.records import Usage
from lunaroute.ui.site import SESSION_TABS, TABS
from tests import recorded
from tests.e2e.conftest import Visit
from tests.ui import sample
from tests.ui.test_deeds import Writer

pytestmark = pytest.mark.slow
EXCHANGE = f"{recorded.BOOT}-900002"


def titles(page: Page) -> list[str]:
    return page.locator(".c-title > a").all_inner_texts()


# --- every page, over everything --------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [1280, 380])
def test_every_page_over_a_lot(visit: Visit, large_database: Path, width: int) -> None:
    visitor = visit(large_database, width=width)
    page = visitor.go("/sessions")
    session = page.locator(".c-title > a").first.get_attribute("href")
    exchange = visitor.go(f"{session}/turns").locator("#turn-table td a").first.get_attribute("href")
    pages = ["/", "/?range=1h", "/?range=30d", "/sessions?q=please", "/sessions?q=zanzibar&client=codex", "/analytics"]
    pages += ["/sessions?sort=cost", "/sessions?tool=Grep&cost=0.1&tokens=1000", "/routing", "/settings", "/about"]
    pages += [f"{session}{'/' * bool(tab)}{tab}" for tab in SESSION_TABS]
    pages += [f"{exchange}?view={tab}" for tab in TABS]
    for path in pages:
        visitor.go(path)
        visitor.assert_fits(path)
        visitor.assert_calm(path)
        assert len(visitor.page.content()) < 150_000, path


def test_stable_paging_through_a_lot(visit: Visit, large_database: Path) -> None:
    visitor = visit(large_database)
    page = visitor.go("/sessions?client=codex")
    seen: list[str | None] = []
    for _ in range(4):
        seen += [link.get_attribute("href") for link in page.locator(".c-title > a").all()]
        page.keyboard.press("]")
        page.wait_for_url(re.compile("mark=")) if len(seen) == 50 else page.wait_for_load_state()
        page.get_by_role("link", name="Previous").wait_for()
    assert len(seen) == len(set(seen)) == 200
    visitor.assert_calm("paging")


def test_a_session_of_two_thousand_turns_is_there_at_once(visit: Visit, tmp_path: Path) -> None:
    made = [
        recorded.exchange(n, "long", request_body=recorded.ask([recorded.user(f"turn {n}")]),
                          response_body=recorded.stream(recorded.text(f"answer {n} " * 40)))
        for n in range(1, 2001)
    ]  # fmt: skip
    visitor = visit(recorded.write(tmp_path / "db", made))
    visitor.go("/about")
    for tab in SESSION_TABS:
        best = 9.0
        for _ in range(3):  # the best of three: other tests may have the processor
            start = time.monotonic()
            visitor.go(f"/sessions/long/{tab}".rstrip("/"))
            best = min(best, time.monotonic() - start)
        assert best < 1, tab
    assert visitor.page.locator("#chart-context .col").count() <= 150
    visitor.assert_calm("a long session")


# --- finding and reading ----------------------------------------------------------------------------------------------
def test_find_open_and_read_a_session(visit: Visit) -> None:
    visitor = visit()
    page = visitor.go("/")
    page.keyboard.press("/")
    page.keyboard.type("make test")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions?q=make+test")
    page.get_by_role("link", name="Why does `make test` fail").first.click()
    page.get_by_role("heading", name="Why does").wait_for()
    page.goto(f"{visitor.base}/sessions/talk")
    tool = page.locator("details.tool").first
    assert not page.get_by_text("total 4").is_visible()
    tool.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("total 4").is_visible()
    page.get_by_role("button", name="Unfold all").click()
    assert page.get_by_text("I should look at the folder first.").last.is_visible()
    page.keyboard.press("f")
    assert not page.get_by_text("total 4").is_visible()
    page.get_by_role("link", name="#2").click()
    page.get_by_role("heading", name="Exchange 2").wait_for()
    for word in ("Changes", "Request", "Response", "Details", "Conversation"):
        page.get_by_role("navigation", name="Parts").get_by_role("link", name=word).click()
        page.locator(f".tabs a[aria-current]:text-is('{word}')").wait_for()
    page.keyboard.press("]")
    page.get_by_role("heading", name="Exchange 3").wait_for()
    visitor.assert_calm("reading")


def test_full_text_search_shows_where_it_stands(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go("/sessions?q=nobody+waited")
    assert page.locator("article.hit mark").all_inner_texts()[:2] == ["nobody", "waited"]
    page.locator("article.hit h3 a").first.click()
    page.wait_for_url(re.compile(r"#e\d+$"))
    assert page.locator("section.turn:target").count() == 1
    page.goto(f"{visitor.base}/sessions?q={sample.HERO[:8]}")
    page.get_by_role("heading", name="Sessions of that name").wait_for()
    visitor.assert_calm("search")


def test_filters_sorting_and_paging(visit: Visit) -> None:
    visitor = visit()
    page = visitor.go("/sessions?client=claude-code")
    assert len(titles(page)) == 50 and titles(page)[0] == "session 2069"
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Previous").wait_for()
    second = titles(page)
    page.get_by_role("link", name="Previous").click()
    page.wait_for_url(re.compile("mark="))
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Previous").wait_for()
    assert titles(page) == second
    page.locator("th a", has_text="Session").click()
    page.locator("th[aria-sort=descending]", has_text="Session").wait_for()
    page.locator("th a", has_text="Session").click()
    page.locator("th[aria-sort=ascending]").wait_for()
    page.get_by_role("link", name="Clear").click()
    page.wait_for_url(re.compile(r"/sessions\?sort=title&dir=up$"))
    page.get_by_label("State").select_option("running")  # asks by itself
    page.wait_for_url("**state=running**")
    assert titles(page) == ["Under way"]
    page.get_by_text("More filters").click()
    page.get_by_label("Tokens from").fill("1000000000")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("heading", name="No session fits").wait_for()
    assert "cost=" not in page.url and "tokens=1000000000" in page.url
    visitor.assert_calm("the list")


def test_keyboard(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go("/")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/sessions")
    for key in "jjjkk":
        page.keyboard.press(key)
    row = page.locator("tr.at")
    assert row.count() == 1 and row.get_attribute("data-key") == sample.HERO
    title = row.locator("a").first.inner_text()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=title, level=1).wait_for()
    page.wait_for_load_state()
    page.keyboard.press("Escape")
    page.wait_for_url("**/sessions")
    page.keyboard.press("?")
    assert page.get_by_role("dialog").get_by_text("next entry").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("j?t")
    assert page.locator("#q").input_value() == "j?t"
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    visitor.assert_calm("keys")


# --- charts -----------------------------------------------------------------------------------------------------------
def test_charts_tell_their_figures_and_can_be_zoomed(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go("/?range=7d")
    plot = page.locator("#chart-tokens svg.plot")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 60)
    tip = page.locator("#chart-tokens .tip")
    assert tip.is_visible() and "Cache read" in tip.inner_text() and "Total" in tip.inner_text()
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Home")
    assert "00:00 to 06:00" in tip.inner_text() and "Output" in page.locator("#said").inner_text()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_url("**since=**")
    assert page.locator(".seg summary[aria-current]").inner_text().count(" to ") == 1
    columns = page.locator("#chart-tokens .col").count()
    assert 20 <= columns <= 60
    page.get_by_role("link", name="24 h").click()
    page.wait_for_url("**range=24h")
    page.get_by_label("All models").select_option("gpt-5.5")
    page.wait_for_url("**model=gpt-5.5**")
    page.locator("details.own summary").click()
    page.get_by_label("From").fill("2026-01-01T00:00")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**since=2026-01-01T00%3A00**")
    visitor.assert_calm("charts")


def test_every_chart_is_a_file(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go("/analytics")
    links = page.locator("a.csv")
    assert links.count() >= 10
    with page.expect_download() as loading:
        page.get_by_role("link", name="CSV models").or_(page.get_by_role("link", name="CSV By model")).click()
    text = loading.value.path().read_text()
    assert text.startswith("model,requests,") and "claude-opus-5-5," in text
    visitor.assert_calm("csv")


# --- one exchange -----------------------------------------------------------------------------------------------------
def test_changes_between_turns(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go(f"/exchanges/{EXCHANGE}?view=changes")
    assert page.get_by_text("Only added to.").is_visible() and page.get_by_text("Held.").is_visible()
    assert page.locator("details.change").count() == 3
    page.get_by_label("Compared with exchange").fill("2")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**with=2")
    assert page.locator("details.change").count() > 3
    visitor.assert_calm("changes")


def test_copying(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go(f"/exchanges/{EXCHANGE}?view=request")
    page.get_by_role("button", name="Copy as curl").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -X 'POST' 'https://api.anthropic.com/v1/messages?beta=true'")
    assert "$ANTHROPIC_API_KEY" in copied and "***" not in copied
    page.get_by_role("button", name="Copy", exact=True).click()
    page.get_by_role("button", name="Copied").last.wait_for()
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["model"] == "claude-opus-5-5"
    visitor.assert_calm("copying")


def test_a_body_as_a_tree(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go(f"/exchanges/{EXCHANGE}?view=request")
    page.get_by_role("button", name="Tree").click()
    find = page.get_by_label("Find in the tree")
    find.fill("not guaranteed")
    mark = page.locator(".tree .hitted")
    mark.wait_for()
    assert "The sleep hides an order" in mark.inner_text() and page.locator(".tree-find span").inner_text() == "1 of 1"
    page.get_by_role("button", name="Text").click()
    assert page.locator("pre#body").is_visible()
    page.goto(f"{visitor.base}/exchanges/{EXCHANGE}?view=response")
    page.get_by_label("Find in these events").fill("tool_use")
    assert 0 < page.locator("ol.events li:visible").count() < page.locator("ol.events li").count()
    visitor.assert_calm("the tree")


# --- taking out and deleting ------------------------------------------------------------------------------------------
def test_export(visit: Visit, sample_database: Path) -> None:
    visitor = visit(sample_database)
    page = visitor.go(f"/sessions/{sample.HERO}")
    page.locator("summary", has_text="Export").click()
    with page.expect_download() as loading:
        page.get_by_role("link", name="HTML page").click()
    text = loading.value.path().read_text()
    assert loading.value.suggested_filename.endswith(".html") and "nobody waited for" in text
    page.goto(f"{visitor.base}/sessions?tool=WebFetch")
    page.get_by_label("Export all of these as").select_option("har")
    with page.expect_download() as loading:
        page.get_by_role("button", name="Export").click()
    assert len(json.loads(loading.value.path().read_text())["log"]["pages"]) == len(titles(page))
    visitor.assert_calm("export")


def test_delete(visit: Visit, tmp_path: Path) -> None:
    made = [*recorded.tool_loop("talk"), recorded.exchange(9, "stays", title="It stays")]
    path = recorded.write(tmp_path / "db", made)
    writer = Writer(path)
    visitor = visit(path, order=writer)
    page = visitor.go("/sessions/talk")
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("heading", name="Why does").wait_for()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Deleted, with everything").wait_for()
    assert titles(page) == ["It stays"] and writer.orders == [{"cmd": "delete", "sessions": ["talk"]}]
    visitor.assert_calm("deleting")


# --- live -------------------------------------------------------------------------------------------------------------
def test_new_rows_come_by_themselves(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop("talk"))
        visitor = visit(path)
        page = visitor.go("/sessions")
        page.keyboard.press("j")
        store.write([recorded.exchange(9, "later", title="It came later")])
        page.get_by_role("link", name="It came later").wait_for()
        assert titles(page) == ["It came later", "Why does `make test` fail in this folder?"]
        assert page.locator("tr.at").get_attribute("data-key") == "talk", "what was chosen stays chosen"
        visitor.go("/")
        store.write([recorded.exchange(10, "now", title="Even later", state=None, usage=Usage())])
        page.get_by_role("heading", name="Running now").wait_for()
    visitor.assert_calm("live")


def test_a_running_answer_streams_into_the_open_page(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    ident = f"{recorded.BOOT}-50"
    body = recorded.ask([recorded.user("Say it slowly.")])
    whole = recorded.stream(recorded.text("Slowly it is said <script>canary()</script> **done**"))
    came: list[bytes] = []

    def running(asked: str, with_request: bool) -> tuple[str, bytes, bytes] | None:
        return ("anthropic", body, b"".join(came)) if asked == ident else None

    with recorded.store_at(path) as store:
        first = recorded.tool_loop("talk")
        store.write(first)
        visitor = visit(path, running=running)
        page = visitor.go("/sessions/talk")
        page.locator("details.tool summary").first.click()
        store.write([recorded.exchange(50, "talk", state=None, usage=Usage())])
        page.get_by_text("Say it slowly.").wait_for()
        events = [part + b"\n\n" for part in whole.split(b"\n\n") if part]
        came += events[:2]
        came.append(
            events[2].replace(b"Slowly it is said", b"Slowly it ").replace(b" <script>canary()</script> **done**", b"")
        )
        page.locator(".coming", has_text="Slowly it").wait_for()
        came[2] = events[2]
        page.locator(".coming", has_text="<script>canary()</script>").wait_for()
        store.write([recorded.exchange(50, "talk", request_body=body, response_body=whole)])
        page.locator(".prose strong", has_text="done").wait_for()
        assert page.locator(".coming").count() == 0
        assert page.get_by_text("total 4").is_visible(), "what was unfolded stays so"
    visitor.assert_calm("streaming")


def hide(page: Page, hidden: bool) -> None:
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_page_asks_nothing_and_catches_up(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write(recorded.tool_loop("talk"))
        visitor = visit(path)
        page = visitor.go("/sessions")
        page.wait_for_timeout(300)
        hide(page, True)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        store.write([recorded.exchange(9, "later", title="It came later")])
        page.wait_for_timeout(2500)
        assert asked == [] and "It came later" not in titles(page)
        hide(page, False)
        page.get_by_role("link", name="It came later").wait_for()
    visitor.assert_calm("hidden")


def test_an_older_window_is_not_changed_under_the_reader(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with recorded.store_at(path) as store:
        store.write([recorded.exchange(n, "long") for n in range(1, 60)])
        visitor = visit(path)
        page = visitor.go("/sessions/long?after=0")
        before = page.locator("section.turn").count()
        store.write([recorded.exchange(60, "long")])
        page.get_by_role("button", name="New activity").wait_for()
        assert page.locator("section.turn").count() == before
    visitor.assert_calm("an older window")
