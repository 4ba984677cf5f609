"""The page: readable, whole, and inert whatever was recorded: only our elements, no script, nothing that loads."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from lunaroute.export import html
from lunaroute.export.told import Told
from lunaroute.records import Exchange
from lunaroute.stores.rows import Bodies, ExchangeRow, SessionRow, ToolRow
from lunaroute.ui.transcript import transcript
from tests import recorded
from tests.ui import hostile
from tests.ui.test_content import Elements

TAGS = {
    *("!", "html", "head", "meta", "title", "style", "body", "section", "article", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("dl", "dt", "dd", "p", "span", "div", "details", "summary", "b", "pre", "code", "footer", "a", "strong", "em"),
    *("s", "br", "hr", "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"decl", "lang", "charset", "name", "content", "http-equiv", "class", "href", "rel", "title", "start"}


def told(made: list[Exchange], **fields: object) -> Told:
    """As the command makes it of the database."""
    names = set(ExchangeRow.__struct_fields__) & set(Exchange.__struct_fields__) - {"attempts", "tool_calls"}
    rows = [ExchangeRow(**{name: getattr(one, name) for name in names}) for one in made]
    kept = {
        one.id: Bodies(request_headers=[], response_headers=[], attempts=[], timings={},
                       request_body=one.request_body, response_body=one.response_body)
        for one in made
    }  # fmt: skip
    row = SessionRow(session_id="s", started_at=made[0].started_at, last_at=made[-1].started_at, requests=len(made))
    for name, value in fields.items():
        setattr(row, name, value)
    return Told(row, transcript(rows, kept.__getitem__, text_limit=1 << 60, bytes_limit=1 << 60), [])


def page(*sessions: Told) -> str:
    return "".join(html.pieces("9.9", sessions))


def test_a_conversation() -> None:
    given = told(recorded.tool_loop(), title="Why?", cost_usd=0.14, cost_kind="api_equivalent", cost_unknown=1)
    bash = ToolRow(session_id="s", call_id="toolu_1", exchange=1, name="Bash", kind="function", duration_ms=850.0)
    given.tools = [bash]
    text = page(given)
    places = [
        text.index(words)
        for words in (
            "<title>Why?</title>", "<h1>Why?</h1>", "at least $0.14 API-equivalent", "System prompt",
            "Why does `make test` fail in **this** folder?", "Thinking", "Let me look.",
            "<b>Bash</b> <span class=\"facts\">ls -la · at most 850 ms</span>", "total 4\nREADME.md", "<b>Read</b>",
            "Result (an error)", "<strong>empty</strong>", "Written by LunaRoute 9.9.",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert text.count('<details class="failed">') == 1
    assert text.count("<section>") == 1 and page(given, given).count("<section>") == 2


def test_the_policy_lets_nothing_but_our_style_through() -> None:
    text = page(told(recorded.tool_loop()))
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = next(a["content"] for tag, a in Elements(text).found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|expression", style[0]) and len(style) == 1


@pytest.mark.parametrize("number", range(len(hostile.STRINGS)), ids=lambda n: ascii(hostile.STRINGS[n])[:30])
def test_hostile_records_are_text(number: int) -> None:
    words = hostile.STRINGS[number]
    made = [hostile.exchanges()[number], hostile.plain_exchanges()[number]]
    given = told(made, title=words, client=words, project=words, model_used=words, parent_session_id=words)
    given.tools = [ToolRow(session_id="s", call_id=words, exchange=1, name=words, kind="function", duration_ms=1.0)]
    assert_inert(page(given))


def test_half_a_surrogate_and_deep_nesting() -> None:
    deep = "[" * 30_000 + "*" * 30_000 + "> " * 5_000
    answer = [recorded.text("\ud800 \0 " + deep), recorded.text("# x\n<b onclick=canary()>y</b>")]
    made = recorded.exchange(1, request_body=recorded.ask([recorded.user("\ud800\0")]),
                             response_body=recorded.stream(*answer))  # fmt: skip
    text = page(told([made], title="\ud800\0"))
    assert_inert(text)
    assert "\0" not in text and text.encode()


def assert_inert(text: str) -> None:
    for tag, attributes in Elements(text).found:
        assert tag in TAGS and set(attributes) <= ATTRIBUTES, (tag, attributes)
        if tag == "a":
            assert re.match(r"https?:|mailto:", attributes["href"] or ""), attributes
            assert attributes.get("rel") == "noopener noreferrer nofollow"
        if tag == "meta":
            assert attributes.get("http-equiv") in (None, "Content-Security-Policy"), attributes


def test_nothing_recorded() -> None:
    assert "Nothing recorded" in page()
