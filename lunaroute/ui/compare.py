"""What a request has that the one before had not, and what of its beginning changed. Values only; knows no HTML.

Providers cache a prompt from its beginning: tools, system prompt, messages in their order, up to the first thing that
is another. So requests are compared piece by piece in that order. `cache_control` marks move with every turn and are
part of no comparison; nor is whether a text stands by itself or as a list of one text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec

from lunaroute.dialects.values import dumps, items, loads, mapping, text
from lunaroute.stores.rows import ExchangeRow

PIECES_LIMIT = 20_000
MATCHED_LIMIT = 2_000  # pieces behind the common beginning that are matched with each other
CHANGES_LIMIT = 200  # shown
TEXT_LIMIT = 20_000  # characters of one piece that are compared line by line, and shown
LINES_LIMIT = 600  # of one piece
AROUND = 3
HELD = 0.9  # of what could have been read from the cache
LIFETIME_S = 300  # the shorter of Anthropic's lifetimes; OpenAI's is of the same order
_ORDER = ("tools", "system", "instructions", "messages", "input")


class Piece(msgspec.Struct, frozen=True):
    """A part of a request that is cached, or not, as one. where: `message 3, tool result`; key: what makes it equal."""

    where: str
    key: str
    text: str


class Change(msgspec.Struct, kw_only=True):
    """kind: added, removed or changed. lines: (sign, text), sign one of `+`, `-`, ` ` and `@` (a gap)."""

    kind: str
    where: str
    lines: list[tuple[str, str]]
    left_out: str | None = None


class Cache(msgspec.Struct, kw_only=True):
    """What became of the cache. held: whether most of what was there before was read; None where nothing tells."""

    held: bool | None
    could_tokens: int | None = None
    read_tokens: int | None = None
    words: str = ""


class Comparison(msgspec.Struct, kw_only=True):
    """same: so many pieces at the beginning are equal, same_characters long. of: pieces of the earlier request.

    appended: the earlier request is the beginning of the later one. settings: (name, before, after).
    """

    same: int
    of: int
    same_characters: int
    appended: bool
    first_change: str | None
    changes: list[Change]
    more: int
    settings: list[tuple[str, str, str]]
    cache: Cache


def pieces(body: bytes) -> list[Piece]:
    """The parts of a request in the order in which providers read them. Empty where it is no JSON object."""
    value = loads(body) if body else None
    found: list[Piece] = []
    try:
        for name in _ORDER:
            if isinstance(value, dict) and name in value and len(found) < PIECES_LIMIT:
                found += _pieces(name, value[name])
    except RecursionError:
        return []
    return found[:PIECES_LIMIT]


def _pieces(name: str, value: Any) -> Iterator[Piece]:
    if isinstance(value, str):
        yield Piece({"input": "message 1"}.get(name, name), f"text {value}", value)
    elif name == "tools":
        for number, tool in enumerate(items(value), 1):
            yield _piece(f"tool {_tool_name(tool) or number}", tool)
    elif name == "system":
        for number, block in enumerate(items(value), 1):
            yield _block(f"system prompt, part {number}", block)
    else:
        for number, message in enumerate(items(value), 1):
            yield from _message(number, message)


def _tool_name(tool: Any) -> str | None:
    found = mapping(tool)
    return text(found.get("name")) or text(mapping(found.get("function")).get("name")) or text(found.get("type"))


def _message(number: int, message: Any) -> Iterator[Piece]:
    found = mapping(message)
    role = text(found.get("role")) or text(found.get("type")) or "entry"
    content = found.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    rest = {name: value for name, value in found.items() if name not in ("content", "role", "cache_control")}
    if not isinstance(content, list):
        yield _piece(f"message {number}, {role}", found)
        return
    for block in content:
        yield _block(f"message {number}, {role}", block)
    if rest and rest != {"type": "message"}:
        yield _piece(f"message {number}, {role}", rest)


def _block(where: str, block: Any) -> Piece:
    found = mapping(block)
    kind = text(found.get("type")) or ""
    if kind in ("text", "input_text", "output_text") and isinstance(found.get("text"), str):
        return Piece(where, f"text {found['text']}", found["text"])
    return _piece(f"{where}, {kind.replace('_', ' ')}" if kind else where, block)


def _piece(where: str, value: Any) -> Piece:
    bare = _bare(value)
    return Piece(where[:120], dumps(bare), _laid_out(bare))


def _bare(value: Any) -> Any:
    """Without marks that say where to cache."""
    if isinstance(value, dict):
        return {name: _bare(inner) for name, inner in value.items() if name != "cache_control"}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _laid_out(value: Any) -> str:
    whole = dumps(value)
    if len(whole) > 4 * TEXT_LIMIT:
        return whole
    return msgspec.json.format(whole.encode("utf-8", "replace"), indent=2).decode("utf-8", "replace")


def compare(before: tuple[ExchangeRow, bytes], after: tuple[ExchangeRow, bytes]) -> Comparison:
    """Two exchanges (rows and request bodies), the earlier one first."""
    old, new = pieces(before[1]), pieces(after[1])
    same = next(
        (n for n, (one, two) in enumerate(zip(old, new, strict=False)) if one.key != two.key), min(len(old), len(new))
    )
    appended = same == len(old)
    changes = list(_changes(old[same:], new[same:]))
    settings = list(_settings(before[1], after[1]))
    first = None if appended else (old[same].where if same < len(old) else None)
    return Comparison(
        same=same,
        of=len(old),
        same_characters=sum(len(piece.key) for piece in new[:same]),
        appended=appended,
        first_change=first,
        changes=changes[:CHANGES_LIMIT],
        more=max(0, len(changes) - CHANGES_LIMIT),
        settings=settings,
        cache=cache(before[0], after[0], first, settings),
    )


def _settings(before: bytes, after: bytes) -> Iterator[tuple[str, str, str]]:
    old, new = mapping(loads(before) if before else None), mapping(loads(after) if after else None)
    for name in dict.fromkeys([*old, *new]):
        if name not in _ORDER and old.get(name) != new.get(name):
            was, now = (_short(side[name]) if name in side else "not set" for side in (old, new))
            yield name[:80], was, now


def _short(value: Any) -> str:
    words = dumps(value)
    return words if len(words) <= 200 else f"{words[:200]}…"


def _changes(old: list[Piece], new: list[Piece]) -> Iterator[Change]:
    if max(len(old), len(new)) > MATCHED_LIMIT:
        codes = [("replace", 0, len(old), 0, len(new))]
    else:
        matcher = difflib.SequenceMatcher(None, [one.key for one in old], [two.key for two in new], autojunk=False)
        codes = list(matcher.get_opcodes())
    for what, a, b, c, d in codes:
        if what == "equal":
            continue
        paired = min(b - a, d - c) if what == "replace" else 0
        for one, two in zip(old[a : a + paired], new[c : c + paired], strict=True):
            yield _changed(one, two)
        for one in old[a + paired : b]:
            yield _whole("removed", "-", one)
        for two in new[c + paired : d]:
            yield _whole("added", "+", two)


def _whole(kind: str, sign: str, piece: Piece) -> Change:
    shown = piece.text[:TEXT_LIMIT].split("\n")
    return Change(
        kind=kind,
        where=piece.where,
        lines=[(sign, line) for line in shown[:LINES_LIMIT]],
        left_out=_left_out(len(piece.text), len(shown)),
    )


def _left_out(characters: int, lines: int) -> str | None:
    if characters > TEXT_LIMIT:
        return f"the first {TEXT_LIMIT:,} of {characters:,} characters"
    return f"the first {LINES_LIMIT:,} of {lines:,} lines" if lines > LINES_LIMIT else None


def _changed(one: Piece, two: Piece) -> Change:
    lines: list[tuple[str, str]] = []
    given = [side.text[:TEXT_LIMIT].split("\n")[:LINES_LIMIT] for side in (one, two)]
    for line in difflib.unified_diff(given[0], given[1], lineterm="", n=AROUND):
        if line.startswith(("---", "+++")) and len(lines) == 0:
            continue
        lines.append(("@", "") if line.startswith("@@") else (line[:1], line[1:]))
    if lines[:1] == [("@", "")]:
        del lines[0]
    where = one.where if one.where == two.where else f"{one.where}, now {two.where}"
    longest = max(one.text, two.text, key=len)
    left_out = _left_out(len(longest), longest.count("\n") + 1)
    return Change(kind="changed", where=where, lines=lines[:LINES_LIMIT], left_out=left_out)


def cache(
    before: ExchangeRow, after: ExchangeRow, first_change: str | None, settings: list[tuple[str, str, str]]
) -> Cache:
    """Whether what the earlier request left in the cache was read by the later one, and why not."""
    if after.input_tokens is None or before.input_tokens is None:
        return Cache(held=None, words="The tokens of one of the two are not known.")
    could = before.input_tokens
    if before.dialect == "anthropic":
        could = (before.cache_read_tokens or 0) + (before.cache_write_tokens or 0)
    read = after.cache_read_tokens or 0
    found = Cache(held=None, could_tokens=could, read_tokens=read)
    if could <= 0:
        found.words = "The earlier request left nothing in the cache."
        return found
    found.held = read >= HELD * could
    if not found.held:
        found.words = _why(before, after, first_change, settings)
    return found


def _why(
    before: ExchangeRow, after: ExchangeRow, first_change: str | None, settings: list[tuple[str, str, str]]
) -> str:
    if after.cache_miss_reason:
        return f"The provider says: {after.cache_miss_reason.replace('_', ' ')}."
    if before.model_used != after.model_used and before.model_used and after.model_used:
        return f"Another model answered: {before.model_used} before, {after.model_used} now. Each has its own cache."
    if first_change:
        return f"The prompt changed at {first_change}: what stands behind it was read anew."
    waited = (after.started_ns - before.started_ns) / 1e9 - (before.duration_ms or 0.0) / 1000
    if waited > LIFETIME_S:
        return f"{waited / 60:.0f} minutes passed in between: the cache had most likely expired."
    named = [name for name, _, _ in settings if name in ("thinking", "tool_choice", "reasoning", "prompt_cache_key")]
    if named:
        return f"The setting {named[0]} changed, which begins another cache."
    return "The beginning of the prompt is the same: the provider did not find it, or did not look."
