"""Recorded text as markup: what it may become, and what it never becomes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from lunaroute.ui import content
from tests.ui.hostile import CANARY, STRINGS


class Elements(HTMLParser):
    """Every element and attribute of a text, and what is left as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_decl(self, decl: str) -> None:
        self.found.append(("!", {"decl": decl}))

    def handle_comment(self, data: str) -> None:
        self.found.append(("!--", {"comment": data}))


ALLOWED = content._TAGS | {"div"}


def assert_inert(markup: str) -> None:
    for tag, attributes in Elements(markup).found:
        assert tag in ALLOWED, (tag, markup)
        assert set(attributes) <= {"href", "title", "class", "start", "rel"}, (attributes, markup)
        if "href" in attributes:
            assert re.match(r"https?://|mailto:", attributes["href"] or ""), (attributes, markup)
            assert attributes["rel"] == "noopener noreferrer nofollow"


def everything(text: str) -> list[Markup]:
    body = text.encode("utf-8", "replace")
    return [
        content.markdown(text),
        content.plain(text),
        *(content.code(text, language) for language in ("json", "html", "python", "diff", "bash", text)),
        content.pretty_json(body)[0],
        content.pretty_json(json.dumps({text: [text]}).encode())[0],
        *(view.data for view in content.events(b"event: x\ndata: " + body + b"\n\n" + body + b"\n\n")[0]),
    ]


@pytest.mark.parametrize("text", STRINGS, ids=lambda text: ascii(text)[:40])
def test_hostile_text_is_inert(text: str) -> None:
    for markup in everything(text):
        assert isinstance(markup, Markup)
        assert_inert(markup)
    assert f"//{CANARY}/p.png" not in re.sub(r"<[^>]*>", "", "") and "<img" not in content.markdown(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("<>&\"'`[]()!*_~#|:-=/\\ \n\tajscriptxonerror:0\u2028\x00"), max_size=120))
@example("[a](\x01javascript:x)")
@example("<a\nhref='javascript:x'>")
def test_any_text_is_inert(text: str) -> None:
    for markup in everything(text):
        assert_inert(markup)


def test_markdown_is_rendered() -> None:
    text = "# Head\n\nSome **bold**, `code` and [a link](https://example.test/x?a=1&b=2 \"t\").\n\n1. one\n\n> said\n\n"
    text += "~~gone~~"
    html = content.markdown(text)
    for piece in ("<h1>Head</h1>", "<strong>bold</strong>", "<code>code</code>", "<blockquote>", "<ol>", "<s>gone</s>"):
        assert piece in html
    assert 'href="https://example.test/x?a=1&amp;b=2"' in html and 'rel="noopener noreferrer nofollow"' in html
    table = content.markdown("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert "<td>1</td>" in table and "style" not in table


def test_code_is_coloured_where_the_language_is_known() -> None:
    html = content.markdown("```python\nprint('x')\n```\n\n```klingon\n<b>\n```")
    assert '<span class="nb">print</span>' in html and "&lt;b&gt;" in html
    assert "class" not in content.markdown("```klingon\nx = 1\n```")


@pytest.mark.parametrize("text", ["*" * 50_000, "[" * 50_000, ">" * 5000, "`" * 50_001, "a" * 100_000, "- " * 20_000])
def test_odd_markdown_takes_no_odd_time(text: str) -> None:
    assert_inert(content.markdown(text))


def test_json_is_laid_out_and_otherwise_left_alone() -> None:
    body = b'{"a":1.10,"a":2,"big":123456789012345678901234567890,"e":1E+2,"u":"\\u003c","t":[true,null,{}]}'
    shown, left_out = content.pretty_json(body)
    plain = Elements(shown).text
    assert left_out is None
    assert re.sub(r"\s", "", plain) == body.decode()
    assert plain.startswith('{\n  "a": 1.10,\n  "a": 2,')
    assert '<span class="nt">' in shown


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b'{"a":[1,{"b":"x', ["{", '  "a": [', "    1,", "    {", '      "b": "x']),
        (b'{"half":"\\ud800","b":1}', ["{", '  "half": "\\ud800",', '  "b": 1', "}"]),
        (b"[1] trailing", ["[", "  1", "]trailing"]),
    ],
    ids=["cut", "half a surrogate", "more after it"],
)
def test_json_that_is_not_quite_is_laid_out_too(body: bytes, lines: list[str]) -> None:
    assert Elements(content.pretty_json(body)[0]).text.split("\n") == lines


def test_endless_nesting_has_an_end() -> None:
    shown, left_out = content.pretty_json(b"[" * 300_000)
    assert len(shown) <= content.VIEW_LIMIT and left_out is not None


@pytest.mark.parametrize("body", [b"", b"not json", b"nul", b"\xff\xfe", b'"' + b"\\" * 99, b"<html>"])
def test_what_is_no_json_is_shown_as_it_is(body: bytes) -> None:
    shown, _ = content.pretty_json(body)
    assert Elements(shown).text == body.decode("utf-8", "replace")


def test_long_strings_are_shortened_and_it_says_so() -> None:
    body = json.dumps({"image": "A" * 50_000, "b": "B" * 8000, 'q"': '\\"' * 9000, "last": 1}).encode()
    shown, left_out = content.pretty_json(body)
    assert left_out == "2 long strings are shortened"
    assert "42,000 more characters" in shown and "last" in shown and "B" * 8000 in shown and len(shown) < 40_000


def test_a_huge_body_is_cut_and_it_says_so() -> None:
    shown, left_out = content.pretty_json(b"x" * 3_000_000)
    assert len(shown) == content.VIEW_LIMIT and left_out == "the first 1,000,000 of 3,000,000 characters are shown"


def test_a_stream_is_shown_event_by_event() -> None:
    body = b'event: a\ndata: {"x": 1}\n\n: note\n\ndata: [DONE]\n\n'
    assert content.looks_like_stream(body) and not content.looks_like_stream(b'{"event": 1}')
    views, left_out = content.events(body)
    assert left_out is None
    assert [(view.number, view.name, Elements(view.data).text) for view in views] == [
        (1, "a", '{"x": 1}'),
        (2, views[1].name, "[DONE]"),
    ]
    views, left_out = content.events(b"data: {}\n\n" * 5000)
    assert len(views) == content.EVENTS_LIMIT and left_out == "the first 400 of 5000 events are shown"
    views, left_out = content.events((b"data: " + b"z" * 100_000 + b"\n\n") * 5)
    assert all(len(view.data) < 9000 and view.data.endswith("…") for view in views)
