"""Full-text search: words in, exchanges with the places that have them out, the newest first. Read-only.

The index (schema.py, `search`) knows which exchange has which word, and no more: not where, not next to what. So the
index gives candidates, and what it cannot know (phrases, words with signs in them, scripts without blanks) is looked up
in the texts of the candidates, within a budget of time. Words of people are never read as the index's query language:
they are cut by its own tokenizer, and each piece is quoted.
"""

from __future__ import annotations

import re
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from lunaroute.errors import StoreError
from lunaroute.stores import filters, packs
from lunaroute.stores.readonly import BadQuestion, Connection
from lunaroute.stores.rows import Hit, SearchPage, SessionFilter, Snippet

QUERY_LIMIT = 10_000  # characters of a question that are read
INDEX_WORDS = 32  # of one question that are looked up in the index; the others are looked for in the texts
HITS_LIMIT = 200
BUDGET_S = 0.12  # for reading texts of candidates that turn out to be none
AROUND = 60  # characters of a snippet before and after what was found
SNIPPETS = 2  # of one hit
BATCH = 64
ONE_BY_ONE = 2_000  # candidates that are asked one by one whether a filter lets them through
FOLD_LIMIT = 200_000

_PARTS = re.compile(r'"([^"]*)"?|(\S+)')
_EDGES = "\"'`()[]{}<>.,;:!?…"
# no blanks between words: Han, kana, Thai, Lao, Khmer, Myanmar. The index has such a run of letters as one word.
_RUNS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_LETTER = re.compile(r"[^\W_]")
_BLANKS = {ord(sign): " " for sign in "\t\n\r\x0b\x0c\u2028\u2029\x85"}


class Question(msgspec.Struct, frozen=True):
    """A question taken apart. words: pieces as the index has them, and whether more letters may follow.

    literals: what must stand so in a text, whatever the index says (case and kinds of blank aside).
    """

    words: tuple[tuple[str, bool], ...]
    literals: tuple[str, ...]

    @property
    def match(self) -> str:
        """For the index; empty where nothing can be asked of it."""
        return " AND ".join(f'"{word}"{"*" if more else ""}' for word, more in self.words[:INDEX_WORDS])


def question(text: str) -> Question:
    """`word`, `begin*`, `"a phrase"`, `src/main.py`; raises BadQuestion where nothing is asked."""
    asked = filters.bindable(text)
    if len(asked) > QUERY_LIMIT:
        asked = asked[:QUERY_LIMIT].rsplit(maxsplit=1)[0]  # half a word would be found nowhere
    words: dict[tuple[str, bool], None] = {}
    literals: dict[str, None] = {}
    parts = [(found[1], True) if found[2] is None else (found[2], False) for found in _PARTS.finditer(asked)]
    plain = [part if phrase else _trimmed(part) for part, phrase in parts]
    pieces = _tokens(plain)
    for (_, phrase), kept, tokens in zip(parts, plain, pieces, strict=True):
        if _RUNS.search(kept):
            literals[" ".join(kept.rstrip("*").split())] = None
            continue
        more = not phrase and kept.endswith("*") and bool(tokens)
        bare = kept[:-1] if more else kept
        # `foo.bar`, `C++` or a phrase: the index has only its words; what is no word at all (an emoji) is only there
        if (len(tokens) != 1 or len(bare) != len(tokens[0])) and bare.strip() and _folded(bare) != "".join(tokens):
            literals[" ".join(bare.split())] = None
        for number, token in enumerate(tokens):
            words[token, more and number == len(tokens) - 1] = None
    literals.update({word: None for word, _ in list(words)[INDEX_WORDS:]})
    if not words and not any(literals):
        raise BadQuestion('Nothing to search for: give a word, a "phrase in quotes", or the beginning of one: begin*.')
    return Question(tuple(words), tuple(literal for literal in literals if literal))


def _trimmed(part: str) -> str:
    """A word without the signs of the sentence around it; one that is nothing but signs as it is."""
    bare = part.strip(_EDGES)
    return bare if _LETTER.search(bare) or bare.rstrip("*") else part


def _tokens(parts: list[str]) -> list[list[str]]:
    """Each part as the index's own tokenizer cuts and folds it: Python's idea of a letter is not SQLite's."""
    found: list[list[str]] = [[] for _ in parts]
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        memory.execute("CREATE VIRTUAL TABLE cut USING fts5(text, tokenize='unicode61')")
        memory.execute("CREATE VIRTUAL TABLE words USING fts5vocab(cut, 'instance')")
        memory.execute("BEGIN")
        memory.executemany("INSERT INTO cut (rowid, text) VALUES (?, ?)", enumerate(parts))
        for place, word in memory.execute("SELECT doc, term FROM words ORDER BY doc, offset"):
            found[place].append(word)
    finally:
        memory.close()
    return found


def search(
    db: Connection,
    text: str,
    wanted: SessionFilter | None = None,
    *,
    limit: int = 20,
    after: str | None = None,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.monotonic,
) -> SearchPage:
    """Exchanges whose new texts have all that was asked for. `after`: `older` of another page. budget_s: BUDGET_S.

    wanted: of its fields, `words` is not used; since, until and state are those of the exchange itself.
    """
    asked = question(text)
    limit = max(1, min(limit, HITS_LIMIT))
    checks = [_pattern(literal) for literal in asked.literals]
    page = SearchPage(hits=[])
    late = clock() + budget_s
    edge = _edge(after)
    # without anything to look up in the texts every candidate is a hit
    size = max(BATCH, limit + 1) if checks else limit + 1
    while True:
        rows = _candidates(db, asked, wanted or SessionFilter(), edge, size)
        for row in rows:
            if len(page.hits) == limit:
                page.older = str(page.hits[-1].row)
                return page
            if checks and clock() > late:
                page.older, page.unfinished = str(edge), True
                return page
            edge = row
            texts = _texts(db, row)
            if all(any(check.search(said) for _, said in texts) for check in checks):
                hit = _hit(db, row, _snippets(texts, asked, checks))
                page.hits += [hit] if hit else []
        if len(rows) < size:
            return page


def _edge(mark: str | None) -> int:
    if not mark:
        return 1 << 62
    if not (mark.isascii() and mark.isdigit() and len(mark) < 19):
        raise BadQuestion("This page mark is not one of ours: it is the number that the page before named.")
    return int(mark)


def _candidates(db: Connection, asked: Question, wanted: SessionFilter, edge: int, size: int) -> list[int]:
    """Numbers of exchanges below `edge` that the index and the filters let through."""
    if asked.match and wanted != SessionFilter():
        newest, all_of_them = _first_candidates(db, asked, wanted, edge, size)
        if all_of_them or len(newest) == size:
            return newest
    table, number = ("search", "search.rowid") if asked.match else ("exchanges AS x", "x.row")
    where, values = [f"{number} < ?"], [edge]
    head: list[Any] = []
    wants, rest = filters.exchange_conditions(wanted)
    # MATERIALIZED and the + : made once, and looked up per row, instead of one look into the index for each
    begin = f"WITH wanted(number) AS MATERIALIZED ({wants[0]})" if wants else ""
    if wants:
        head = list(wants[1])
        where.append(f"+{number} IN (SELECT number FROM wanted)")
    if rest:
        where.append(f"EXISTS (SELECT 1 FROM exchanges AS e WHERE e.row = {number} AND {' AND '.join(rest[0])})")
    if asked.match:
        where.insert(0, "search MATCH ?")
        values.insert(0, asked.match)  # type: ignore[arg-type]
    found = db.rows(
        f"{begin} SELECT {number} FROM {table} WHERE {' AND '.join(where)} ORDER BY {number} DESC LIMIT ?",
        [*head, *values, *(rest[1] if rest else ()), size],
    )
    return [int(row[0]) for row in found]


def _first_candidates(
    db: Connection, asked: Question, wanted: SessionFilter, edge: int, size: int
) -> tuple[list[int], bool]:
    """The same of the newest that the index has, asked one by one; and whether there are no others."""
    checks, values = filters.exchange_checks(msgspec.structs.replace(wanted, words=""))
    passed = " AND ".join(["e.row = n", *checks])
    found = db.rows(
        f"SELECT n, EXISTS (SELECT 1 FROM exchanges AS e WHERE {passed}) FROM (SELECT rowid AS n FROM search "
        "WHERE search MATCH ? AND rowid < ? ORDER BY rowid DESC LIMIT ?)",
        [*values, asked.match, edge, ONE_BY_ONE],
    )
    return [int(row[0]) for row in found if row[1]][:size], len(found) < ONE_BY_ONE


def _texts(db: Connection, row: int) -> list[tuple[str, str]]:
    try:
        pack = db.shelf.pack(row)
        return packs.texts_of(pack) if pack is not None else []
    except StoreError:
        return []  # a damaged pack: `verify` says so; here its exchange is still found by the index


def _hit(db: Connection, row: int, snippets: list[Snippet]) -> Hit | None:
    """None where the exchange is gone: the index may still have what retention has just taken."""
    found = db.rows(
        "SELECT e.row, e.id, e.session_id, coalesce(e.sequence, 0) AS sequence, e.started_at, s.title, s.client, "
        "coalesce(e.model_used, e.model_requested) AS model, e.state, e.cost_usd, e.cost_kind FROM exchanges AS e "
        "LEFT JOIN sessions AS s ON s.session_id = e.session_id WHERE e.row = ?",
        [row],
    )
    if not found:
        return None
    return Hit(**{name: found[0][name] for name in found[0].keys()}, snippets=snippets)  # noqa: SIM118


# --- where it stands --------------------------------------------------------------------------------------------------
def _pattern(literal: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, literal.split())), re.IGNORECASE)


def _snippets(texts: list[tuple[str, str]], asked: Question, checks: list[re.Pattern[str]]) -> list[Snippet]:
    """The texts that have most of what was asked for, each cut around the first of it."""
    found: list[tuple[int, int, str, str, int]] = []
    for place, (kind, said) in enumerate(texts):
        firsts = [span[0] for span in _firsts(said, asked, checks)]
        if firsts:
            found.append((-len(firsts), place, kind, said, min(firsts)))
    found.sort(key=lambda each: each[:2])
    if not found and texts:
        kind, said = texts[0]
        return [Snippet(kind=kind, text=_flat(said[: 2 * AROUND]))]
    return [_cut(kind, said, first, asked, checks) for _, _, kind, said, first in found[:SNIPPETS]]


def _firsts(said: str, asked: Question, checks: list[re.Pattern[str]]) -> Iterator[tuple[int, int]]:
    """The first place of each word and literal that this text has."""
    for check in checks:
        if span := check.search(said):
            yield span.span()
    low = _lowered(said)
    for word, more in asked.words:
        place = next(_places(low, word, more), None)
        if place is not None:
            yield place, place + len(word)


def _lowered(said: str) -> str:
    """The text as the index folds it, each character in its place."""
    low = said.lower() if said.isascii() else ""
    if low:
        return low
    folded = [_folded(sign) if sign > "\x7f" else sign.lower() for sign in said[:FOLD_LIMIT]]
    return "".join(sign if len(sign) == 1 else sign[:1] or "\u0301" for sign in folded)


def _folded(sign: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFD", sign.lower()) if not unicodedata.combining(part))


def _places(low: str, word: str, more: bool) -> Iterator[int]:
    """Where the word stands by itself: no letter or digit before it, nor (unless it may go on) after it."""
    start = low.find(word)
    while start >= 0:
        end = start + len(word)
        if not (start and low[start - 1].isalnum()) and (more or end >= len(low) or not low[end].isalnum()):
            yield start
        start = low.find(word, end)


def _cut(kind: str, said: str, first: int, asked: Question, checks: list[re.Pattern[str]]) -> Snippet:
    start = max(0, first - AROUND)
    longest = max([len(word) for word, _ in asked.words] + [len(check.pattern) for check in checks])
    end = min(len(said), first + min(longest, 2 * AROUND) + AROUND)
    shown = said[start:end]
    low = _lowered(shown)
    spans = [span.span() for check in checks for span in check.finditer(shown) if span.end() > span.start()]
    for word, more in asked.words:
        spans += [(place, place + len(word)) for place in _places(low, word, more)]
    lead, tail = "…" if start else "", "…" if end < len(said) else ""
    marks = [(begin + len(lead), stop + len(lead)) for begin, stop in _joined(spans)]
    return Snippet(kind=kind, text=lead + _flat(shown) + tail, marks=marks)


def _flat(text: str) -> str:
    return text.translate(_BLANKS)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, none over another."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out
