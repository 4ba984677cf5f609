"""What a request says that its session has not said before: texts for the search, results of tools. No I/O.

A client resends its history with every request. An element whose pieces have all been seen in the session (by their
marks, _fast/cuts.pyx) is not read again; one that was written anew is, and its texts and results count only where they
are new themselves. So a turn costs what is new in it, however long the conversation is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from lunaroute._fast.cuts import Cuts, cut
from lunaroute.dialects.prompt import message_of, results_of, texts_of
from lunaroute.dialects.values import loads
from lunaroute.records import Text, ToolResult

KNOWN = 120_000  # marks of all sessions together: some 8 MB
TEXT_LIMIT = 256 * 1024  # characters of one exchange that are kept for the search
RESULT_TEXT = 0  # of a result's words none are kept here: they are among the texts
READ = frozenset(("messages", "input", "system", "instructions", "prompt"))


class News(NamedTuple):
    """See the module. texts are not masked yet."""

    texts: list[Text]
    results: list[ToolResult]


class Seen:
    """Per session what has been said in it.

    recall: of a session that is not remembered, the last turn: its dialect, the body of its request, and what was new
    in it (its answer, above all, which no request has brought back yet).
    """

    def __init__(self, recall: Callable[[str], tuple[str, bytes, list[str]] | None] = lambda session: None) -> None:
        self._recall = recall
        self._sessions: OrderedDict[str, set[int]] = OrderedDict()
        self._held = 0

    def __repr__(self) -> str:
        return f"<Seen {len(self._sessions)} sessions, {self._held} marks>"

    def request(self, session: str | None, dialect: str, body: bytes, cuts: Cuts) -> News:
        """What is new in a request; session None: it is the only one of its session, and nothing is remembered."""
        known: set[int] = set() if session is None else self._of(session)
        before = len(known)
        news = _read(known, dialect, body, cuts)
        if session is not None:
            self._grew(session, len(known) - before)
        return news

    def answer(self, session: str, texts: list[Text]) -> None:
        """What was answered comes back in the next request, and is no news then."""
        known = self._sessions.get(session)
        if known is not None:
            before = len(known)
            known.update(_print(text) for text in texts)
            self._grew(session, len(known) - before)

    def _of(self, session: str) -> set[int]:
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = set()
            last = self._recall(session)
            if last is not None:
                dialect, body, texts = last
                _read(known, dialect, body, cut(body))
                known.update(hash(text.strip()) for text in texts)
                self._held += len(known)
        self._sessions.move_to_end(session)
        return known

    def _grew(self, session: str, count: int) -> None:
        self._held += count
        while self._held > KNOWN and self._sessions:
            self._held -= len(self._sessions.popitem(last=False)[1])


def _print(text: Text) -> int:
    # what the model said comes back in messages of its own role, word for word
    return hash(text.text.strip())


def _read(known: set[int], dialect: str, body: bytes, cuts: Cuts) -> News:
    texts: list[Text] = []
    results: list[ToolResult] = []
    room = TEXT_LIMIT
    marks = cuts.marks
    for key, start, end, first, behind in cuts.elements:
        if key not in READ:
            continue
        own = marks[first:behind]
        if own and known.issuperset(own):
            continue
        known.update(own)
        value = loads(body[start:end])
        message = message_of(dialect, key, value)
        if message is None:
            continue
        for result in results_of(dialect, value, RESULT_TEXT):
            mark = hash((result.id, "result"))
            if result.id and mark not in known:
                known.add(mark)
                results.append(result)
        for text in texts_of(message):
            mark = _print(text)
            if mark not in known:
                known.add(mark)
                if room > 0 and text.text:
                    texts.append(text if len(text.text) <= room else Text(kind=text.kind, text=text.text[:room]))
                    room -= len(text.text)
    return News(texts, results)
