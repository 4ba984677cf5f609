"""What a request says that its session has not said before: texts for the search, results of tools. No I/O.

A client resends its history with every request. An element whose pieces have all been seen in the session (by their
marks, _fast/cuts.pyx) is not read again; one that was written anew is, and its texts and results count only where they
are new themselves. So a turn costs what is new in it, however long the conversation is.

What is too much for one exchange is not lost: prompts are taken first, of the rest the newest, and what was left is
still news to the next request, which brings it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from lunaroute._fast.cuts import Cuts, cut
from lunaroute.dialects.prompt import message_of, results_of, texts_of
from lunaroute.dialects.values import loads, mapping
from lunaroute.records import Text, ToolResult

KNOWN = 120_000  # marks of all sessions together: some 8 MB
TEXT_LIMIT = 1024 * 1024  # characters of one exchange that are kept for the search
RESULT_TEXT = 0  # of a result's words none are kept here: they are among the texts
SHORT_ID = 12  # a call id below this length is counted anew with each answer by some servers
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
        self._called: dict[str, set[str]] = {}  # short ids of the calls in a session's last answer
        self._held = 0

    def __repr__(self) -> str:
        return f"<Seen {len(self._sessions)} sessions, {self._held} marks>"

    def request(self, session: str | None, dialect: str, body: bytes, cuts: Cuts) -> News:
        """What is new in a request; session None: it is the only one of its session, and nothing is remembered."""
        known: set[int] = set() if session is None else self._of(session)
        before = len(known)
        news = _read(known, dialect, body, cuts)
        if session in self._called:
            news = news._replace(results=_returned(self._called.pop(session), news.results, dialect, body, cuts))
        if session is not None:
            self._grew(session, len(known) - before)
        return news

    def answer(self, session: str, texts: list[Text], calls: Iterable[str] = ()) -> None:
        """What was answered comes back in the next request, and is no news then; of its calls the results will be."""
        known = self._sessions.get(session)
        short = {call for call in calls if 0 < len(call) < SHORT_ID}
        if short and known is not None:
            self._called[session] = short
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
                _read(known, dialect, body, cut(body), len(body))
                known.update(hash(text.strip()) for text in texts)
                self._held += len(known)
        self._sessions.move_to_end(session)
        return known

    def _grew(self, session: str, count: int) -> None:
        self._held += count
        while self._held > KNOWN and self._sessions:
            session, known = self._sessions.popitem(last=False)
            self._held -= len(known)
            self._called.pop(session, None)


def _print(text: Text) -> int:
    # what the model said comes back in messages of its own role, word for word
    return hash(text.text.strip())


class _New(NamedTuple):
    """A text that was not known. element: the number of the one it stands in."""

    text: Text
    mark: int
    element: int


def _read(known: set[int], dialect: str, body: bytes, cuts: Cuts, room: int = TEXT_LIMIT) -> News:
    found: list[_New] = []
    results: list[ToolResult] = []
    marks = cuts.marks
    here: set[int] = set()  # marks of what was found
    read: dict[int, list[int]] = {}  # the elements that were read, with their marks
    size = 0
    for number, (key, start, end, first, behind) in enumerate(cuts.elements):
        if key not in READ:
            continue
        own = marks[first:behind]
        if own and known.issuperset(own):
            continue
        read[number] = own
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
            if mark not in known and mark not in here:
                here.add(mark)
                size += len(text.text)
                found.append(_New(text, mark, number))
    texts = [new.text for new in found]
    if size > room:
        texts, left = _chosen(found, room)
        here.difference_update(new.mark for new in left)
        for new in left:
            read.pop(new.element, None)
    known.update(here, *read.values())
    return News(texts, results)


def _returned(called: set[str], results: list[ToolResult], dialect: str, body: bytes, cuts: Cuts) -> list[ToolResult]:
    """Results of the calls last made, also where an earlier one had the same id and maybe the same words."""
    found = list(results)
    for key, start, end, _, _ in reversed(cuts.elements):
        if key not in ("messages", "input"):
            continue
        value = loads(body[start:end])
        entry = mapping(value)
        if entry.get("role") == "assistant" or str(entry.get("type")).endswith("_call"):
            break
        known = {result.id for result in results}
        found += [each for each in results_of(dialect, value, RESULT_TEXT) if each.id in called - known]
    return found


def _chosen(found: list[_New], room: int) -> tuple[list[Text], list[_New]]:
    """What there is room for, and what is left for another time: all that is not whole, but could be."""
    most = room
    texts: dict[int, Text] = {}
    left: list[_New] = []
    for place in sorted(range(len(found)), key=lambda place: (found[place].text.kind != "prompt", -place)):
        kind, words = found[place].text.kind, found[place].text.text
        if room == 0 or room < len(words) <= most:
            left.append(found[place])
        if room:
            texts[place] = Text(kind=kind, text=words[:room])
            room -= len(texts[place].text)
    return [texts[place] for place in sorted(texts)], left
