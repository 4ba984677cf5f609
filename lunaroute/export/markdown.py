"""A session as Markdown to read. Pure; what was said keeps its Markdown, but none of it can be HTML or load anything.

That is not taken on trust: what was escaped is read by a Markdown parser, and a text in which it still finds HTML or a
picture is put into a fence whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from markdown_it import MarkdownIt

from lunaroute.export.told import Told, facts
from lunaroute.ui import format
from lunaroute.ui.transcript import Entry, Turn

PARSED_LIMIT = 60_000  # characters; a longer text goes into a fence unread
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:.*?[^`])\1(?!`)")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?=\s|$)")
_ACTING = {"html_block", "html_inline", "image"}
_SIGN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def pieces(sessions: Iterable[Told]) -> Iterator[str]:
    """The document: sessions one after the other, subagents after who started them."""
    for number, told in enumerate(sessions):
        if number:
            yield "\n---\n\n"
        yield from _session(told)


def _session(told: Told) -> Iterator[str]:
    row = told.session
    yield f"# {line(row.title or 'Untitled session')}\n\n"
    yield "".join(f"- {name}: {line(words)}\n" for name, words in facts(row)) + "\n"
    for block in told.transcript.system:
        yield _folded("System prompt", block.text)
    for turn in told.transcript.turns:
        yield from _turn(turn)


def _turn(turn: Turn) -> Iterator[str]:
    row = turn.row
    words = line(format.turn(row))
    if turn.side:
        said = " ".join(entry.text for entry in turn.answer)[:200]
        yield f"*{line(format.KINDS.get(row.kind or '', row.kind or ''))}*: {words} {line(said)}\n\n"
        return
    if turn.replaced:
        yield f"*The client replaced {turn.replaced} earlier parts of the conversation.*\n\n"
    for entry in turn.added:
        yield _entry(entry, "Assistant" if entry.role == "assistant" else "User")
    yield f"## Assistant\n\n{words}\n\n"
    for entry in turn.answer:
        yield _entry(entry, "")
    for trouble in (turn.error or row.error, turn.note):
        if trouble:
            yield f"**Trouble:** {line(trouble)}\n\n"


def _entry(entry: Entry, who: str) -> str:
    if entry.kind == "text":
        return (f"## {who}\n\n" if who else "") + prose(entry.text)
    if entry.kind == "tool_call":
        failed = entry.result is not None and entry.result.is_error
        head = f"**{line(entry.name or 'tool')}**{' (failed)' if failed else ''}\n\n"
        result = _result(entry.result) if entry.result is not None else ""
        return head + fenced(entry.arguments or "", "json") + result
    if entry.kind == "tool_result":
        return _result(entry)
    if entry.kind in ("image", "document"):
        return f"*{line(' '.join(part for part in (entry.kind, entry.name, entry.media_type) if part))}*\n\n"
    return _folded("Thinking" if entry.kind == "thinking" else entry.name or entry.kind, entry.text)


def _result(entry: Entry) -> str:
    return f"Result{' (an error)' if entry.is_error else ''}:\n\n{fenced(entry.text)}"


def _folded(name: str, text: str) -> str:
    return f"*{line(name)}*\n\n{fenced(text)}"


def line(text: str) -> str:
    """One line of plain words: every sign that Markdown could act on is escaped."""
    words = " ".join(_SIGN.sub("\ufffd", text).split())
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&])", r"\\\1", words)


def fenced(text: str, language: str = "") -> str:
    """As code, within a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    clean = _SIGN.sub("\ufffd", text.replace("\r\n", "\n"))
    return f"{fence}{language}\n{clean}\n{fence}\n\n"


def prose(text: str) -> str:
    """Markdown of somebody else's, made harmless."""
    if len(text) > PARSED_LIMIT:
        return fenced(text)
    made = _escaped(_SIGN.sub("\ufffd", text.replace("\r\n", "\n").strip("\n")))
    return f"{made}\n\n" if _harmless(made) else fenced(text)


def _escaped(text: str) -> str:
    """Outside code: no tag, no picture, headings below ours. A fence that is left open is closed."""
    out: list[str] = []
    fence = ""
    for each in text.split("\n"):
        found = _FENCE.fullmatch(each)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
            out.append(each)
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
            out.append(each)
        else:
            out.append(_plain_line(each))
    return "\n".join([*out, fence] if fence else out)


def _plain_line(text: str) -> str:
    out, place = [], 0
    for code in _CODE.finditer(text):
        out += [_signs(text[place : code.start()]), code[0]]
        place = code.end()
    return _HEADING.sub(lambda found: "#" * min(6, len(found[1]) + 2), "".join([*out, _signs(text[place:])]))


def _signs(text: str) -> str:
    return text.replace("<", "&lt;").replace("![", "!\\[")


def _harmless(made: str) -> bool:
    try:
        tokens = _parser().parse(made)
    except (RecursionError, ValueError):
        return False
    seen = [*tokens, *(child for token in tokens for child in token.children or ())]
    return not any(token.type in _ACTING for token in seen)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"maxNesting": 20}).enable(["table", "strikethrough"])
