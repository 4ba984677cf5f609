"""Recorded text as markup that cannot do anything. The only place that makes Markup out of what was recorded.

Must not know sessions. Two walls: what makes the markup escapes (markdown-it without HTML and without images, Pygments,
markupsafe), and for Markdown nh3 then lets through a list of elements only. No images, no inline style, no id, no event
attribute; links open nothing by themselves and carry no referrer. The page's policy (security.py) is the third wall.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from lunaroute.wire.sse import SseReader

MARKDOWN_LIMIT = 60_000  # characters; longer text is shown as it is
COLOUR_LIMIT = 200_000
CODE_LIMIT = 40_000  # of one fenced block: some lexers are slow on odd input
VIEW_LIMIT = 1_000_000
STRING_LIMIT = 8_000
EVENTS_LIMIT = 400
DEEPEST = 40  # levels of indentation

_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "span", "blockquote", "ul", "ol", "li", "a"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "span": {"class"}, "ol": {"start"}}
_SCHEMES = {"http", "https", "mailto"}
_LONG_STRING = re.compile(rf'"((?:[^"\\]|\\.){{{STRING_LIMIT}}})(?:[^"\\]|\\.)++"', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
# only lexers that stay linear on anything; the rest of a hundred languages is not worth a stuck page
_LEXERS = {
    "bash": "bash", "sh": "bash", "shell": "bash", "console": "console", "python": "python", "py": "python",
    "json": "json", "javascript": "javascript", "js": "javascript", "typescript": "typescript", "ts": "typescript",
    "tsx": "tsx", "jsx": "jsx", "diff": "diff", "patch": "diff", "yaml": "yaml", "yml": "yaml", "toml": "toml",
    "rust": "rust", "rs": "rust", "go": "go", "c": "c", "cpp": "cpp", "java": "java", "sql": "sql", "html": "html",
    "css": "css", "xml": "xml", "ini": "ini", "makefile": "makefile", "dockerfile": "docker", "ruby": "ruby",
}  # fmt: skip
_formatter: HtmlFormatter[str] = HtmlFormatter(nowrap=True)


class EventView(msgspec.Struct, frozen=True):
    """One event of a stream, ready to show."""

    number: int
    name: str
    data: Markup


def markdown(text: str) -> Markup:
    """An answer as people should read it."""
    if len(text) > MARKDOWN_LIMIT:
        return plain(text)
    try:
        rendered = _parser().render(text)
    except RecursionError:
        return plain(text)
    clean = nh3.clean(
        rendered, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel="noopener noreferrer nofollow"
    )
    return Markup(clean)


def plain(text: str) -> Markup:
    """Text as it is, line breaks kept."""
    return Markup('<div class="plain">{}</div>').format(text)


def code(text: str, language: str) -> Markup:
    """Source text with token classes, without the surrounding element."""
    lexer = _lexer(language) if len(text) <= CODE_LIMIT else None
    return _coloured(text, lexer) if lexer else escape(text)


def pretty_json(body: bytes) -> tuple[Markup, str | None]:
    """A body as indented JSON with token classes, and what was left out of it. Text that is no JSON is shown as it is.

    Numbers, escapes, doubled keys stay as they were sent: the text is laid out anew, never decoded and encoded.
    """
    try:
        laid_out = msgspec.json.format(body, indent=2).decode("utf-8", "replace")
    except (msgspec.DecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        if not text.lstrip().startswith(("{", "[")):
            return _cut(text)
        laid_out = _laid_out(text)
    shortened, count = _LONG_STRING.subn(_shorten, laid_out)
    shown, left_out = _cut(shortened, "json")
    if count and not left_out:
        left_out = f"{count} long {'string is' if count == 1 else 'strings are'} shortened"
    return shown, left_out


def events(body: bytes) -> tuple[list[EventView], str | None]:
    """A stream event by event, and what was left out."""
    reader = SseReader()
    found = [*reader.feed(body), *reader.finish()]
    views = []
    room = VIEW_LIMIT
    for number, event in enumerate(found[:EVENTS_LIMIT], 1):
        if room <= 0:
            break
        shown = event.data[:STRING_LIMIT].decode("utf-8", "replace")
        room -= len(shown)
        cut = len(event.data) > STRING_LIMIT
        data = escape(shown) if cut else code(shown, "json")
        views.append(EventView(number, event.event, data + (" …" if cut else "")))
    left_out = f"the first {len(views)} of {len(found)} events are shown" if len(views) < len(found) else None
    return views, left_out


def looks_like_stream(body: bytes) -> bool:
    """Whether a body is server-sent events rather than one JSON value."""
    return body[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"event:", b"data:", b":", b"id:", b"retry:"))


def _laid_out(text: str) -> str:
    """The same for what the strict reader refuses: a body that was cut, half a surrogate, endless nesting."""
    pieces: list[str] = []
    depth = length = 0
    for token in _TOKEN.findall(text):
        if token in "}]":
            depth -= 1
            pieces.append(_line(depth))
        pieces.append(": " if token == ":" else token)
        if token in "{[,":
            depth += token != ","
            pieces.append(_line(depth))
        length += len(token) + 2 * min(max(depth, 0), DEEPEST)
        if length > VIEW_LIMIT:
            break
    return "".join(pieces)


def _line(depth: int) -> str:
    return "\n" + "  " * min(max(depth, 0), DEEPEST)


def _shorten(found: re.Match[str]) -> str:
    left_out = len(found[0]) - 2 - STRING_LIMIT
    return f'"{found[1]} … {left_out:,} more characters"'


def _cut(text: str, language: str | None = None) -> tuple[Markup, str | None]:
    shown = text[:VIEW_LIMIT]
    left_out = f"the first {VIEW_LIMIT:,} of {len(text):,} characters are shown" if len(text) > VIEW_LIMIT else None
    lexer = _lexer(language) if language and len(shown) <= COLOUR_LIMIT else None
    return (_coloured(shown, lexer) if lexer else escape(shown)), left_out


def _coloured(text: str, lexer: Lexer) -> Markup:
    shown = Markup(highlight(text, lexer, _formatter))
    return shown if text.endswith("\n") else Markup(shown.removesuffix("\n"))


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    name = _LEXERS.get(language.lower())
    try:
        return get_lexer_by_name(name, stripnl=False, ensurenl=False) if name else None
    except ClassNotFound:
        return None


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    options = {"html": False, "linkify": False, "maxNesting": 20, "highlight": _fence}
    return MarkdownIt("commonmark", options).enable(["table", "strikethrough"]).disable("image")


def _fence(text: str, language: str, _attributes: str) -> str:
    return str(code(text, language))
