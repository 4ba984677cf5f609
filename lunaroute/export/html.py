"""A session as one HTML page that needs nothing else and does nothing: no script, no load, no form. Pure.

Everything recorded is escaped, or goes through ui/content.py, whose markup is made by a Markdown parser without HTML
and then let through a list of elements. Should all of that fail, the page's own policy allows no script, no load, no
form and no style but ours (by its digest). It follows the reader's light or dark, and prints with what is folded open.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

from markupsafe import Markup, escape

from lunaroute.export.told import Told, facts
from lunaroute.ui import content, format
from lunaroute.ui.transcript import Entry, Turn

STYLE = """
:root{color-scheme:light dark;--bg:light-dark(#fbfbfa,#131417);--line:light-dark(#dfdfda,#30333a);
--text:light-dark(#1b1c1f,#e7e8ea);--soft:light-dark(#5c5e64,#a3a8b1);--user:light-dark(#eeeff8,#20232f);
--code:light-dark(#f1f1ee,#1b1d22);--bad:light-dark(#a8211b,#ff9d94);--key:light-dark(#3f47b5,#a9b1ff);
--string:light-dark(#17693f,#8fd6a9);--number:light-dark(#96460a,#efb37c)}
*{box-sizing:border-box}
body{margin:0 auto;max-width:56rem;padding:2rem 1.25rem 5rem;background:var(--bg);color:var(--text);
font:15px/1.55 ui-sans-serif,system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}
section+section{margin-top:4rem;border-top:2px solid var(--line);padding-top:2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;margin:0 0 2rem;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0}
article{margin:0 0 1.75rem}
.who{font-weight:650;font-size:.87rem;margin:1rem 0 .3rem}
.facts{color:var(--soft);font-weight:400}
.user{background:var(--user);border-radius:10px;padding:.75rem 1rem;margin:.4rem 0}
.plain{white-space:pre-wrap}
.side,.note{color:var(--soft);font-size:.87rem}
.trouble{color:var(--bad);white-space:pre-wrap}
details{border:1px solid var(--line);border-radius:8px;margin:.45rem 0;padding:.4rem .8rem}
summary{cursor:pointer;font-size:.87rem}
summary b{font-family:ui-monospace,monospace}
.failed{border-color:var(--bad)}.failed>summary b{color:var(--bad)}
pre,code{font-family:ui-monospace,monospace;font-size:.85em}
pre{background:var(--code);border-radius:8px;padding:.7rem .9rem;margin:.5rem 0;white-space:pre-wrap}
:not(pre)>code{background:var(--code);border-radius:4px;padding:.05em .3em}
blockquote{margin:.75rem 0;padding-left:.95rem;border-left:3px solid var(--line);color:var(--soft)}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:.25rem .6rem;text-align:left}
article :is(h1,h2,h3,h4,h5,h6){font-size:1.05rem;margin:1rem 0 .4rem}
.k,.kd,.kn,.kc,.nt{color:var(--key)}.s,.s1,.s2,.sd{color:var(--string)}.m,.mi,.mf{color:var(--number)}
.c,.c1,.cm{color:var(--soft)}
footer{color:var(--soft);font-size:.8rem;margin-top:3rem}
@media print{body{max-width:none;padding:0}details::details-content{content-visibility:visible;height:auto}
article{break-inside:auto}pre{border:1px solid var(--line)}}
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"


def pieces(version: str, sessions: Iterable[Told]) -> Iterator[str]:
    """The page: sessions one after the other, subagents after who started them."""
    begun = False
    for told in sessions:
        if not begun:
            yield _head(told.session.title or "Untitled session")
            begun = True
        yield from _session(told)
    if not begun:
        yield _head("Nothing recorded")
    yield _made("<footer>Written by LunaRoute {}.</footer>\n</body>\n</html>\n", version)


def _made(form: str, *words: object) -> str:
    """The form with its words escaped (but for what is markup already)."""
    return str(Markup(form).format(*(word if isinstance(word, Markup) else _text(word) for word in words)))


def _text(word: object) -> Markup:
    # half a surrogate cannot be written to any file, NUL is in no HTML
    return escape(str(word).encode("utf-8", "replace").decode().replace("\0", "\ufffd"))


def _head(title: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        + _made('<meta http-equiv="Content-Security-Policy" content="{}">\n', POLICY)
        + '<meta name="referrer" content="no-referrer">\n'
        + '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        + _made("<title>{}</title>\n", title)
        + f"<style>{STYLE}</style>\n</head>\n<body>\n"
    )


def _session(told: Told) -> Iterator[str]:
    row = told.session
    yield _made("<section>\n<h1>{}</h1>\n<dl>\n", row.title or "Untitled session")
    for name, words in facts(row):
        yield _made("<dt>{}</dt><dd>{}</dd>\n", name, words)
    yield "</dl>\n"
    for block in told.transcript.system:
        yield _fold("System prompt", f"{block.length:,} characters", _pre(block.text))
    times = {(tool.call_id): tool.duration_ms for tool in told.tools}
    for turn in told.transcript.turns:
        yield from _turn(turn, times)
    yield "</section>\n"


def _turn(turn: Turn, times: dict[str, float | None]) -> Iterator[str]:
    row = turn.row
    words = format.turn(row)
    if turn.side:
        said = " ".join(entry.text for entry in turn.answer)[:200]
        kind = format.KINDS.get(row.kind or "", row.kind or "")
        yield _made('<p class="side">{} · {} {}</p>\n', kind, words, said)
        return
    yield "<article>\n"
    if turn.replaced:
        yield _made('<p class="note">The client replaced {} earlier parts of the conversation.</p>\n', turn.replaced)
    for entry in turn.added:
        yield _entry(entry, "Assistant" if entry.role == "assistant" else "User", times)
    yield _made('<p class="who">Assistant <span class="facts">{}</span></p>\n', words)
    for entry in turn.answer:
        yield _entry(entry, "", times)
    for trouble in (turn.error or row.error, turn.note):
        if trouble:
            yield _made('<p class="trouble">{}</p>\n', trouble)
    yield "</article>\n"


def _entry(entry: Entry, who: str, times: dict[str, float | None]) -> str:
    if entry.kind == "text":
        if who == "User":
            return _made('<p class="who">User</p>\n<div class="user plain">{}</div>\n', entry.text)
        head = _made('<p class="who">{}</p>\n', who) if who else ""
        clean = str(_text(entry.text).unescape())
        return head + str(Markup('<div class="prose">{}</div>\n').format(content.markdown(clean)))
    if entry.kind == "tool_call":
        return _tool(entry, times)
    if entry.kind == "tool_result":
        return _fold("Result", "an error" if entry.is_error else "", _pre(entry.text), entry.is_error)
    if entry.kind in ("image", "document"):
        words = " ".join(part for part in (entry.kind, entry.name, entry.media_type) if part)
        return _made('<p class="note">{}</p>\n', words)
    name = "Thinking" if entry.kind == "thinking" else entry.name or entry.kind
    return _fold(name, f"{entry.length:,} characters", _pre(entry.text))


def _tool(entry: Entry, times: dict[str, float | None]) -> str:
    length = times.get(entry.call_id or "")
    took = f" · at most {format.span(length)}" if length is not None else ""
    failed = entry.result is not None and entry.result.is_error
    inside = _pre(entry.arguments or "")
    if entry.result is not None:
        inside += Markup("<p class=who>{}</p>\n").format("Result (an error)" if failed else "Result")
        inside += _pre(entry.result.text)
    return _fold(entry.name or "tool", f"{entry.summary}{took}", inside, failed)


def _pre(text: str) -> Markup:
    return Markup("<pre>\n{}</pre>\n").format(_text(text))


def _fold(name: str, words: str, inside: Markup, failed: bool = False) -> str:
    kind = Markup(' class="failed"') if failed else Markup("")
    form = '<details{}><summary><b>{}</b> <span class="facts">{}</span></summary>\n{}</details>\n'
    return _made(form, kind, name, words, inside)
