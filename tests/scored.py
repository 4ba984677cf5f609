"""How much of what was planted a scanner finds, and how much else: for test_pii_corpus.py and benchmarks/recall.py.

A planted value counts as found only where one match of its kind covers all of it. Every other match counts as false,
save for mail addresses in real code that are mail addresses, and the few values of JUDGED.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hypothesis.provisional import get_top_level_domains

from lunaroute._fast.pii import Scanner
from tests.planted import Plant, Values, plants

Hit = tuple[int, int, str, str]
TLDS = frozenset(name.lower() for name in get_top_level_domains())
MAIL = re.compile(r"""(?:[^\s@"<>(),:;=]+|"[^"\n]+")@[^\s@"<>(),:;=/]+\.([^\W\d_]+|xn--[a-z0-9]+)""")
# Looked at by hand in the sources that every machine has: they are what they were taken for.
JUDGED = frozenset(
    {
        b"111-22-3333",  # pyparsing's documentation of a social security number
        b"4111111111111111",  # a test card in Playwright's documentation
    }
)


@dataclass
class Score:
    """By kind: planted, found, and false matches (in real text: with what is around them)."""

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    size: int = 0
    missed: list[tuple[Plant, str]] = field(default_factory=list)
    torn: list[tuple[Plant, str]] = field(default_factory=list)  # a part was found and more than a third left standing
    falsely: list[tuple[str, bytes]] = field(default_factory=list)

    def recall(self, kind: str) -> float:
        return self.found[kind] / self.planted[kind]

    def precision(self, kind: str) -> float:
        """Of all matches of a kind (`named` is one of the secrets)."""
        true = self.found[kind] + (self.found["named"] if kind == "secret" else 0)
        return true / (true + self.false[kind])

    def per_megabyte(self, kind: str) -> float:
        return self.false[kind] / (self.size / 1e6)


def true_mail(value: bytes) -> bool:
    """Whether a mail address in real code is one, by another reading than the scanner's: then it is no false match."""
    text = value.decode("utf-8", "replace").replace("%40", "@")
    match = MAIL.fullmatch(unicodedata.normalize("NFC", text))
    return match is not None and (match[1].lower() in TLDS or not match[1].isascii())


def judged(text: bytes, hit: Hit) -> bool:
    value = text[hit[0] : hit[1]]
    return value in JUDGED or (hit[2] == "email" and true_mail(value))


def real(scanner: Scanner, texts: Iterable[bytes], score: Score) -> None:
    """Count what is found in text that has nothing planted."""
    for text in texts:
        score.size += len(text)
        for hit in scanner.find(text):
            if not judged(text, hit):
                score.false[hit[2]] += 1
                score.falsely.append((hit[2], text[max(0, hit[0] - 40) : hit[1] + 30]))


def mixed(texts: Iterable[bytes], values: Values, count: int) -> Iterator[tuple[bytes, list[tuple[int, int, Plant]]]]:
    """The texts with planted lines in them, at random line breaks: (text, where each value is)."""
    rng = random.Random(count)
    lines = list(plants(values, count))
    every = list(texts)
    total = sum(map(len, every))
    at = 0
    for number, text in enumerate(every):
        share = len(lines) - at if number == len(every) - 1 else len(lines) * len(text) // total
        cuts = sorted(rng.choices([m.end() for m in re.finditer(rb"\n", text)] or [len(text)], k=share))
        pieces: list[bytes] = []
        places: list[tuple[int, int, Plant]] = []
        size = last = 0
        for cut, (plant, line, offset) in zip(cuts, lines[at : at + share], strict=True):
            pieces.append(text[last:cut])
            size += cut - last
            start = size + len(line[:offset].encode())
            places.append((start, start + len(plant.value.encode()), plant))
            pieces.append(line.encode() + b"\n")
            size += len(pieces[-1])
            last = cut
        pieces.append(text[last:])
        at += share
        yield b"".join(pieces), places


def planted(scanner: Scanner, texts: Iterable[tuple[bytes, list[tuple[int, int, Plant]]]], score: Score) -> None:
    """Count what is found of what was planted. Matches elsewhere belong to the text: `real` counts them."""
    for text, places in texts:
        hits = scanner.find(text)
        at = 0
        for start, end, plant in places:
            score.planted[plant.kind] += 1
            kind = "secret" if plant.kind == "named" else plant.kind
            while at < len(hits) and hits[at][1] <= start:
                at += 1
            touching = [hit for hit in hits[at : at + 6] if hit[0] < end]
            if any(hit[2] == kind and hit[0] <= start and hit[1] >= end for hit in touching):
                score.found[plant.kind] += 1
            else:
                around = text[max(0, start - 30) : end + 20].decode("utf-8", "replace")
                score.missed.append((plant, around))
                covered = sum(min(hit[1], end) - max(hit[0], start) for hit in touching)
                if 0 < covered < (end - start) * 2 / 3:
                    score.torn.append((plant, around))
            # taken for something else, or in pieces
            score.false.update(hit[2] for hit in touching if hit[2] != kind)
