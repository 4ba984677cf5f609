"""The exchanges of a session as one conversation: what each added, tool results beside their calls. Knows no HTML.

Clients send the whole history with every request, written a little differently each time (clients.md: cache marks move,
a text becomes a list of one text), or, over a WebSocket, only what is new. So a block is taken for new when it occurs
more often than it has been seen, and is compared by what it says, not by its place or form.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from lunaroute.dialects.canonical import Block, Conversation, conversation
from lunaroute.stores.rows import Bodies, ExchangeRow

BYTES_LIMIT = 48 << 20  # bodies unfolded for one page
TEXT_LIMIT = 6_000  # characters of one block on a session's page
SIDE = ("title", "count", "models", "prewarm", "probe", "handshake", "other")
_SUMMARY_KEYS = ("command", "cmd", "pattern", "query", "file_path", "path", "url", "description", "prompt", "input")
_WRAPPED = re.compile(r"\s*<([a-zA-Z][\w-]{1,40})[\s>].*</\1>\s*", re.DOTALL)
_GONE = 4  # so many blocks of the history missing at once: the client has replaced it

Print = tuple[str, str, str]


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that was said. kind: those of Block, and `context` for text that the client added by itself.

    picture: its number in the request, of an image that was sent within it (images.py).
    """

    role: str
    kind: str
    text: str = ""
    length: int = 0
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    summary: str = ""
    is_error: bool = False
    media_type: str | None = None
    result: Entry | None = None
    picture: int | None = None

    @property
    def cut(self) -> bool:
        """Whether `text` is not all of it."""
        return self.length > len(self.text)


class Turn(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one exchange added. `side`: a request beside the conversation (a title, a token count)."""

    row: ExchangeRow
    added: list[Entry] = msgspec.field(default_factory=list)
    answer: list[Entry] = msgspec.field(default_factory=list)
    side: bool = False
    replaced: int = 0
    note: str | None = None
    error: str | None = None


class Transcript(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A window of a session."""

    system: list[Entry] = msgspec.field(default_factory=list)
    tools: list[str] = msgspec.field(default_factory=list)
    turns: list[Turn] = msgspec.field(default_factory=list)


def transcript(
    rows: Iterable[ExchangeRow],
    load: Callable[[str], Bodies],
    before: ExchangeRow | None = None,
    text_limit: int = TEXT_LIMIT,
    bytes_limit: int = BYTES_LIMIT,
) -> Transcript:
    """The window `rows`; `before` is the turn right before it, whose history is not shown again."""
    unfolding = _Unfolding(text_limit, bytes_limit)
    if before is not None:
        unfolding.skip(before, _talk(before, load(before.id)))
    for row in rows:
        unfolding.add(row, load)
    return unfolding.found


def single(row: ExchangeRow, kept: Bodies, text_limit: int = 200_000) -> Transcript:
    """One exchange by itself, with all the history it carried."""
    return transcript([row], lambda _: kept, text_limit=text_limit)


def _talk(row: ExchangeRow, kept: Bodies) -> Conversation:
    return conversation(row.dialect or "other", kept.request_body, kept.response_body)


class _Unfolding:
    """What has been seen so far, and what is made of it."""

    def __init__(self, text_limit: int, bytes_limit: int) -> None:
        self.found = Transcript()
        self._limit = text_limit
        self._room = bytes_limit
        self._seen: Counter[Print] = Counter()
        self._history: Counter[Print] = Counter()
        self._first: Print | None = None
        self._calls: dict[str, Entry] = {}
        self._pictures: dict[int, int] = {}  # of the request that is being unfolded, by the block's identity

    def skip(self, row: ExchangeRow, talk: Conversation) -> None:
        self._fresh(row, talk)
        self._answered(talk)

    def add(self, row: ExchangeRow, load: Callable[[str], Bodies]) -> None:
        turn = Turn(row=row, side=(row.kind or "turn") in SIDE)
        self.found.turns.append(turn)
        if turn.side and (row.kind or "") != "title" and row.state == "ok":
            return
        if self._room <= 0:
            turn.note = "Not unfolded here, the page is long enough: open the exchange to read it."
            return
        kept = load(row.id)
        self._pictures = {}
        self._room -= len(kept.request_body) + len(kept.response_body)
        talk = _talk(row, kept)
        turn.note = kept.trouble
        turn.error = talk.error
        if turn.side:
            turn.answer = self._entries("assistant", talk.answer.blocks if talk.answer else [])
            for said in turn.answer:
                said.text = _unwrapped(said.text)
            return
        if not kept.request_body:  # still under way, or refused before there was one
            return
        self._describe(talk)
        fresh, turn.replaced = self._fresh(row, talk)
        turn.added = [entry for role, block in fresh if (entry := self._place(role, block))]
        turn.answer = self._entries("assistant", talk.answer.blocks if talk.answer else [])
        self._answered(talk)

    def _describe(self, talk: Conversation) -> None:
        if talk.system and not self.found.system:
            self.found.system = self._entries("system", talk.system)
        if talk.tools:
            self.found.tools = talk.tools

    def _fresh(self, row: ExchangeRow, talk: Conversation) -> tuple[list[tuple[str, Block]], int]:
        """The blocks of the request that are new, and how many of the former history are gone from it."""
        blocks = [(message.role, block) for message in talk.messages for block in message.blocks]
        prints = [_print(role, block) for role, block in blocks]
        first = next((one for one in prints if one), None)
        # imported requests hold only what was new in them
        partial = row.transport == "import" or (row.transport == "websocket" and first != self._first)
        beginning = not self._seen
        self._first = self._first or first
        here: Counter[Print] = Counter()
        fresh: list[tuple[str, Block]] = []
        self._pictures = {
            id(block): number
            for number, block in enumerate(block for _, block in blocks if block.kind == "image" and not block.text)
        }
        for (role, block), mark in zip(blocks, prints, strict=True):
            if mark is None:
                if beginning and block.text.strip():
                    fresh.append((role, block))
                continue
            here[mark] += 1
            if partial or here[mark] > self._seen[mark]:
                fresh.append((role, block))
        replaced = 0 if partial else sum((self._history - here).values())
        self._history = self._history + here if partial else here
        self._seen = self._seen + here if partial else self._seen | here
        return fresh, replaced if replaced >= _GONE and replaced * 2 > here.total() else 0

    def _answered(self, talk: Conversation) -> None:
        said = Counter(
            mark for block in (talk.answer.blocks if talk.answer else []) if (mark := _print("assistant", block))
        )
        self._history += said
        self._seen |= self._history

    def _place(self, role: str, block: Block) -> Entry | None:
        """An entry of its own, or None where it went to the tool call that it answers."""
        entry = self._entry(role, block)
        if entry.kind == "tool_result" and entry.call_id:
            call = self._calls.get(entry.call_id)
            if call is not None and call.result is None:
                call.result = entry
                return None
        return entry

    def _entries(self, role: str, blocks: list[Block]) -> list[Entry]:
        return [self._entry(role, block) for block in blocks if block.kind != "text" or block.text.strip()]

    def _entry(self, role: str, block: Block) -> Entry:
        kind: str = block.kind
        name = block.name
        if kind == "text" and role != "assistant":
            wrapped = _WRAPPED.fullmatch(block.text)
            if wrapped or role == "system":
                kind, name = "context", wrapped[1] if wrapped else "system"
        entry = Entry(
            role=role,
            kind=kind,
            text=block.text[: self._limit],
            length=len(block.text),
            name=name,
            call_id=block.call_id,
            arguments=block.arguments[: self._limit] if block.arguments else block.arguments,
            is_error=bool(block.is_error),
            media_type=block.media_type,
            picture=self._pictures.get(id(block)) if kind == "image" else None,
        )
        if kind == "tool_call":
            entry.summary = summary(block.arguments)
            if block.call_id:
                self._calls[block.call_id] = entry
        return entry


def _unwrapped(text: str) -> str:
    """The title out of the JSON object that a title call asks for; other text as it is."""
    try:
        title = msgspec.json.decode(text)["title"]
    except (msgspec.DecodeError, RecursionError, TypeError, KeyError):
        return text
    return title if isinstance(title, str) else text


def summary(arguments: str | None, limit: int = 160) -> str:
    """A tool call's arguments in one line: the one that tells most."""
    if not arguments:
        return ""
    line = arguments
    try:
        given = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        given = None
    if isinstance(given, dict):
        told = next((given[key] for key in _SUMMARY_KEYS if isinstance(given.get(key), str | list)), None)
        if told is None:
            told = next((value for value in given.values() if isinstance(value, str)), "")
        line = " ".join(str(part) for part in told) if isinstance(told, list) else told
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _print(role: str, block: Block) -> Print | None:
    """What makes a block the same block in another request; None for what clients leave out or rewrite as they like."""
    if block.kind == "thinking":
        return None
    if block.kind in ("tool_call", "tool_result"):
        return block.kind, block.call_id or "", "" if block.call_id else f"{block.name} {block.arguments} {block.text}"
    if block.kind == "text" and not block.text.strip():
        return None
    return block.kind, "assistant" if role == "assistant" else "user", f"{block.text.strip()} {block.media_type or ''}"
