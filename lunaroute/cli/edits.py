"""Small edits of other programs' settings files: one value is set or taken out, every other byte stays.

Pure: text in, text out. Each result is parsed again and compared with what was meant; an edit that would change
anything else is refused.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from lunaroute.errors import LunaRouteError

TABLE = re.compile(r"^\s*\[")
BLANK = re.compile(r"[ \t\r\n]*")
Span = tuple[str, int, int, int]


class EditError(LunaRouteError):
    """The file cannot be edited safely. The text says why."""


def toml_value(text: str, key: str) -> object:
    """A top-level value of a TOML text."""
    return _toml(text).get(key)


def set_toml(text: str, key: str, value: str | None) -> str:
    """The text with the top-level `key` set to a string, or taken out (None). Comments and everything else stay."""
    before = _toml(text)
    wanted = {name: item for name, item in before.items() if name != key}
    if value is not None:
        wanted[key] = value
    for candidate in _toml_candidates(text, key, value):
        try:
            if tomllib.loads(candidate) == wanted:
                return candidate
        except tomllib.TOMLDecodeError:
            continue
    raise EditError(f"`{key}` cannot be changed without touching something else; change it by hand")


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(f"not valid TOML: {error}") from None


def _toml_candidates(text: str, key: str, value: str | None) -> Iterator[str]:
    """Texts that may be the one, most natural first; multi-line strings and tables decide which is right."""
    lines = text.splitlines(keepends=True)
    assignment = re.compile(rf"^(\s*)(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')\s*=")
    ending = "\r\n" if "\r\n" in text else "\n"
    for number, line in enumerate(lines):
        if found := assignment.match(line):
            rest = _after_value(line[found.end() :])
            new = [] if value is None else [f"{found[1]}{key} = {json.dumps(value)}{rest or ending}"]
            yield "".join([*lines[:number], *new, *lines[number + 1 :]])
    if value is None:
        yield text
        return
    new_line = f"{key} = {json.dumps(value)}{ending}"
    if (table := next((i for i, line in enumerate(lines) if TABLE.match(line)), None)) is not None:
        while table and lines[table - 1].lstrip().startswith("#"):  # a comment belongs to what follows it
            table -= 1
        yield "".join([*lines[:table], new_line, ending, *lines[table:]])
    closing = "" if not text or text.endswith("\n") else ending
    yield f"{text}{closing}{new_line}"
    yield new_line + text


def _after_value(rest: str) -> str:
    """What follows the value on its line: a comment and the line's end."""
    value = re.match(r"""\s*(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^#\s]+)""", rest)
    return rest[value.end() :] if value else ""


def json_value(text: str, *path: str) -> object:
    """The value at a path of names in a JSON text, None if there is none."""
    found: Any = _json(text)
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def set_json(text: str, path: tuple[str, str], value: str | None) -> str:
    """The text with `path[0].path[1]` set to a string, or taken out (None); formatting and everything else stay."""
    tree = _json(text)
    section, name = path
    inner = tree.get(section, {})
    if not isinstance(inner, dict):
        raise EditError(f'"{section}" is not an object; put it right by hand')
    if value is None:
        wanted = (
            {**tree, section: {key: item for key, item in inner.items() if key != name}} if section in tree else tree
        )
        result = _without(text, section, name)
    else:
        wanted = {**tree, section: {**inner, name: value}}
        result = _with(text, section, name, value)
    if json.loads(result) != wanted:
        raise EditError(f'"{section}.{name}" cannot be changed without touching something else; change it by hand')
    return result


def _json(text: str) -> dict[str, Any]:
    try:
        tree = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise EditError(f"not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise EditError("not a JSON object")
    return tree


def _members(text: str, start: int) -> list[Span]:
    """(name, start of name, start of value, end of value) of the object that begins at or after `start`."""
    decoder, spans = json.JSONDecoder(), list[Span]()
    at = _skip(text, text.index("{", start) + 1)
    while text[at] == '"':
        name, end = decoder.raw_decode(text, at)
        begin = _skip(text, text.index(":", end) + 1)
        _, stop = decoder.raw_decode(text, begin)
        spans.append((name, at, begin, stop))
        at = _skip(text, stop)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return spans


def _skip(text: str, at: int) -> int:
    return BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text, too


def _last(spans: list[Span], name: str) -> Span | None:
    return next((span for span in reversed(spans) if span[0] == name), None)


def _with(text: str, section: str, name: str, value: str) -> str:
    if not text.strip():
        return json.dumps({section: {name: value}}, indent=2) + "\n"
    top = _members(text, 0)
    inner = _last(top, section)
    unit = _unit(text, top)
    if inner is None:
        body = f"{{\n{unit * 2}{json.dumps(name)}: {json.dumps(value)}\n{unit}}}" if unit else json.dumps({name: value})
        return _insert(text, text.index("{"), top, f"{json.dumps(section)}: {body}", unit)
    old = _last(_members(text, inner[2]), name)
    if old is not None:
        return text[: old[2]] + json.dumps(value) + text[old[3] :]
    return _insert(text, inner[2], _members(text, inner[2]), f"{json.dumps(name)}: {json.dumps(value)}", unit * 2)


def _unit(text: str, top: list[Span]) -> str:
    """One step of indentation; empty where the file is all on one line."""
    if not top:
        return "  "
    gap = text[text.index("{") + 1 : top[0][1]]
    return gap.rpartition("\n")[2] if "\n" in gap else ""


def _insert(text: str, brace: int, members: list[Span], member: str, indent: str) -> str:
    """A new last member of the object whose brace is at `brace`."""
    lead = f"\n{indent}" if indent else ""
    if members:
        end = members[-1][3]
        return f"{text[:end]},{lead or ' '}{member}{text[end:]}"
    closing = text.index("}", brace)
    outer = indent[: len(indent) // 2] if len(indent) > 2 else ""
    return f"{text[: brace + 1]}{lead}{member}{chr(10) + outer if indent else ''}{text[closing:]}"


def _without(text: str, section: str, name: str) -> str:
    inner = _last(_members(text, 0), section) if text.strip() else None
    members = _members(text, inner[2]) if inner and text[inner[2]] == "{" else []
    place = next((i for i, span in enumerate(members) if span[0] == name), None)
    if place is None:
        return text
    if place + 1 < len(members):
        return text[: members[place][1]] + text[members[place + 1][1] :]
    if place:
        return text[: members[place - 1][3]] + text[members[place][3] :]
    return text[: text.index("{", inner[2]) + 1] + text[text.index("}", members[0][3]) :]  # type: ignore[index]
