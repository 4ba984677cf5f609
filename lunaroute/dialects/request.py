"""What a request's body tells before anybody reads it as a conversation. Must not know headers.

Bodies run to megabytes, so only the fields named here are built; everything else is skipped by the decoder.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lunaroute._fast.find import find
from lunaroute.dialects.values import fields, items, loads, mapping, text


class Request(msgspec.Struct, frozen=True):
    """Facts of a request body. project: the folder the client works in, where its prompt says so."""

    model: str | None = None
    stream: bool = False
    generate: bool = True
    background: bool = False
    has_tools: bool = False
    json_answer: bool = False
    compaction: bool = False
    title_words: bool = False
    session: str | None = None
    prompt_cache_key: str | None = None
    previous_response_id: str | None = None
    service_tier: str | None = None
    project: str | None = None
    client_metadata: dict[str, str] = msgspec.field(default_factory=dict)


class _Fields(msgspec.Struct):
    type: Any = None
    model: Any = None
    stream: Any = None
    generate: Any = None
    background: Any = None
    metadata: Any = None
    client_metadata: Any = None
    prompt_cache_key: Any = None
    previous_response_id: Any = None
    litellm_session_id: Any = None
    service_tier: Any = None
    output_config: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_Fields)
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]{1,256})"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_LEGACY_USER = re.compile(r"_session_([0-9a-fA-F-]{36})$")
_TAIL = 4096
# how OpenCode's prompt for a title begins, in a text of its own near the front
_TITLE_WORDS = re.compile(rb'"(?:system|instructions|content|text)"\s*:\s*"You are a title generator\b')


def read(body: bytes, locate: bool = True) -> Request:
    """The facts; of a body that is cut or no JSON, what can be found in it. locate: whether to look for the project."""
    found = fields(_decoder, body) if body else None
    if found is None:
        return _guess(body, locate)
    metadata = {
        key: value
        for key, value in mapping(found.client_metadata).items()
        if isinstance(value, str) and len(value) < 8192
    }
    return Request(
        model=text(found.model),
        stream=found.stream is True,
        generate=found.generate is not False,
        background=found.background is True,
        has_tools=_any_tools(found.tools),
        json_answer=mapping(mapping(found.output_config).get("format")).get("type") == "json_schema",
        compaction=find(body, b'"compaction_trigger"', max(0, len(body) - _TAIL)) >= 0,
        title_words=find(body[:_TAIL], b"title generator") >= 0 and _TITLE_WORDS.search(body, 0, _TAIL) is not None,
        session=_session(found),
        prompt_cache_key=text(found.prompt_cache_key),
        previous_response_id=text(found.previous_response_id),
        service_tier=text(found.service_tier),
        project=project(body) if locate else None,
        client_metadata=metadata,
    )


def _any_tools(tools: Any) -> bool:
    # raw text as a rule; a value where the lenient reader had to help
    return bytes(tools).strip() not in (b"", b"[]", b"null") if isinstance(tools, msgspec.Raw) else bool(tools)


def _session(found: _Fields) -> str | None:
    """A session named in the body: user_id as Claude Code has it (JSON text, the legacy form) or as the object that
    text stands for, a session_id of its own, Cline's litellm_session_id."""
    about = mapping(found.metadata)
    user = about.get("user_id")
    if isinstance(user, dict) and (named := text(user.get("session_id"))):
        return named
    if isinstance(user, str):
        if user.startswith("{"):
            named = text(mapping(loads(user.encode("utf-8", "replace"))).get("session_id"))
        else:
            match = _LEGACY_USER.search(user[-512:])
            named = match[1] if match else None
        if named:
            return named
    return text(about.get("session_id")) or text(found.litellm_session_id)


def _guess(body: bytes, locate: bool) -> Request:
    model = _MODEL.search(body)
    return Request(
        model=text(model[1].decode("utf-8", "replace")) if model else None,
        stream=_STREAM.search(body) is not None,
        has_tools=b'"tools"' in body,
        project=project(body) if locate else None,
    )


# Where clients write their folder: Claude Code (today, and formerly) and OpenCode in the system prompt or in a message
# on the environment, Codex in an element of its own. Only that frame counts, not the words of a conversation.
_DIRECTORY = b"orking directory: "
_BEFORE = re.compile(rb"(?:\\n\s*- Primary w|<env>(?:\\n|\s)*W)$")
_CODEX = b"<environment_context>"
_CWD = re.compile(rb"(?:[^<]|<(?!cwd>|/environment_context>)){0,1024}<cwd>(?:\\n|\s)*")
_PATH = re.compile(rb'((?:/|~|[A-Za-z]:)(?:[^"\\<]|\\[^n]){0,1024})(?:\\n|"|</cwd>)')
_START = 192 * 1024  # prompts stand at either end of a body
_END = 96 * 1024
_TRIES = 16


def project(body: bytes) -> str | None:
    """The folder named in the client's own frame of the prompt."""
    for start, end in ((0, _START), (max(_START, len(body) - _END), len(body))):
        found = _named(body, start, end) or _codex(body, start, end)
        if found:
            return found
    return None


def _named(body: bytes, start: int, end: int) -> str | None:
    for _ in range(_TRIES):
        place = body.find(_DIRECTORY, start, end)
        if place < 0:
            return None
        start = place + len(_DIRECTORY)
        if _BEFORE.search(body[max(0, place - 64) : place]) and (found := _folder(body, start)):
            return found
    return None


def _codex(body: bytes, start: int, end: int) -> str | None:
    for _ in range(_TRIES):
        place = body.find(_CODEX, start, end)
        if place < 0:
            return None
        start = place + len(_CODEX)
        framed = _CWD.match(body, start)
        if framed and (found := _folder(body, framed.end())):
            return found
    return None


def _folder(body: bytes, place: int) -> str | None:
    match = _PATH.match(body, place, place + 2048)
    if match is None:
        return None
    path = loads(b'"' + match[1] + b'"')
    return text(path.strip(), 1024) if isinstance(path, str) else None


def first_words(body: bytes, limit: int = 120) -> str | None:
    """What the person asked first, as a title: the first words in a user message that are no frame text."""
    found = fields(_words, body)
    if found is None:
        return None
    if isinstance(found.input, str):
        return _title(found.input, limit)
    for message in (*items(found.messages), *items(found.input)):
        entry = mapping(message)
        if entry.get("role") != "user":
            continue
        content = entry.get("content")
        texts = [content] if isinstance(content, str) else [mapping(block).get("text") for block in items(content)]
        for each in texts:
            title = _title(each, limit)
            if title:
                return title
    return None


class _Words(msgspec.Struct):
    messages: Any = None
    input: Any = None


_words = msgspec.json.Decoder(_Words)
# what clients put before the question in a user message of their own: <system-reminder>, <environment_context>, ...
_FRAME = re.compile(r"^\s*<([a-z][a-z_-]*)>.*?</\1>\s*", re.DOTALL)


def _title(value: Any, limit: int) -> str | None:
    if not isinstance(value, str):
        return None
    value = value[:65536]
    while match := _FRAME.match(value):
        value = value[match.end() :]
    words = " ".join(value[: limit * 8].split())
    if not words or words.startswith(("<", "# AGENTS.md instructions")):
        return None
    return text(words if len(words) <= limit else words[: limit - 1] + "\u2026", limit)
