"""The scanner of personal data beside Python's `re` and google-re2 with patterns for the same formats, in one run.

The patterns ask for less than the scanner does (no check digits, no look at what stands around a number, thirty
vendors instead of a hundred), so they find more and have less to do. Each engine is measured in both of its forms: the
patterns one after the other, or joined to one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from itertools import islice

import pytest
import re2
from pytest_benchmark.fixture import BenchmarkFixture

from lunaroute._fast.pii import KINDS, Scanner
from tests.background import chat, code, lock, log, made, svg, table
from tests.planted import Values
from tests.scored import mixed

PATTERNS = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b",
    "phone": r"\+[1-9][0-9]{0,2}[ .-]?(?:\(0?[0-9]{1,4}\)[ .-]?)?[0-9]{2,5}(?:[ .-]?[0-9]{2,5}){1,4}\b"
    r"|\(?\b[2-9][0-9]{2}\)?[ .-]?[2-9][0-9]{2}[ .-][0-9]{4}\b"
    r"|\(?\b0[1-9][0-9]{1,4}\)?[ /-][0-9]{3,8}(?:[ -][0-9]{2,6})?\b"
    r"|\b0[1-9](?:[ .-][0-9]{2}){4}\b|\b[6-9][0-9]{4}[ -][0-9]{5}\b",
    "ssn": r"\b[0-8][0-9]{2}[-. ][0-9]{2}[-. ][0-9]{4}\b",
    "credit_card": r"\b[2-6][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{1,7}\b"
    r"|\b3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5}\b",
    "ip": r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b|\b(?:[0-9A-Fa-f]{1,4}:){2,7}:?[0-9A-Fa-f:]{0,39}|::[0-9A-Fa-f]{1,4}",
    "iban": r"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}[ -]?[A-Z0-9]{1,4}\b",
    "vendors": r"\b(?:sk-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{36}|github_pat_\w{50,}"
    r"|gl(?:pat|rt|dt)-[\w-]{20,}|AIza[\w-]{35}|GOCSPX-[\w-]{28}|xox[abeprs]-[\w-]{20,}|xapp-[\w-]{20,}"
    r"|[rs]k_(?:live|test)_\w{16,}|whsec_\w{24,}|npm_\w{36}|pypi-Ag[\w-]{50,}|hf_\w{30,}|SG\.[\w.-]{60,}|gsk_\w{52}"
    r"|dop_v1_[0-9a-f]{64}|r8_\w{37}|xai-\w{80}|hvs\.[\w-]{24,}|figd_[\w-]{38,})",
    "jwt": r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*",
    "pem": r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=\s\\]+"
    r"-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
    "named": r"(?i:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth)"
    r"[\w-]{0,10}"
    r"[\"']?\s*[:=]+\s*[\"']?[^\s\"',;<>]{6,}"
    r"|(?i:authorization)[\"']?\s*[:=]\s*[\"']?(?i:bearer|basic|token) [\w.=+/~-]{8,}",
    "url": r"://[^\s/:@\"']*:[^\s/@\"']+@",
}


def patterns(compile_: Callable[[bytes], object]) -> dict[str, Callable[[bytes], int]]:
    """Both forms of an engine: each takes a text and returns how many matches there are."""
    each = [compile_(pattern.encode()) for pattern in PATTERNS.values()]
    joined = compile_("|".join(f"(?:{pattern})" for pattern in PATTERNS.values()).encode())

    def count(pattern: object, text: bytes) -> int:
        return sum(1 for _ in pattern.finditer(text))  # type: ignore[attr-defined]

    return {
        "each": lambda text: sum(count(pattern, text) for pattern in each),
        "joined": lambda text: count(joined, text),
    }


def re2_bytes(pattern: bytes) -> object:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 256 << 20
    return re2.compile(pattern, options=options)


SCANNER = Scanner(KINDS)
ENGINES: dict[str, Callable[[bytes], int]] = {
    "scanner": lambda text: len(SCANNER.find(text)),
    **{f"re2, {form}": run for form, run in patterns(re2_bytes).items()},
    **{f"re, {form}": run for form, run in patterns(re.compile).items()},
}
TEXTS: dict[str, Callable[[], bytes]] = {
    "code": lambda: b"".join(code(2_000_000, 1)),
    "chat in eight languages": lambda: chat(1_000_000, 1),
    "lock files": lambda: made(lock, 1_000_000, 1),
    "SVG": lambda: made(svg, 1_000_000, 1),
    "logs": lambda: made(log, 1_000_000, 1),
    "rows of numbers": lambda: made(table, 1_000_000, 1),
}


@cache
def code_and_chat() -> bytes:
    """Three parts code, one part chat, a planted value in each 4 kB."""
    texts = [*code(3_000_000, 1), chat(1_000_000, 1)]
    return b"".join(text for text, _ in mixed(texts, Values(1), 1000))


TEXTS["code and chat"] = code_and_chat


@cache
def text_of(name: str) -> bytes:
    return TEXTS[name]()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TEXTS)
def test_throughput(benchmark: BenchmarkFixture, name: str, engine: str) -> None:
    text = text_of(name)[:400_000]
    benchmark.group = f"personal data in {name}, {len(text) / 1e3:.0f} kB"
    found = benchmark.pedantic(ENGINES[engine], args=(text,), rounds=3 if engine.startswith("re,") else 15)
    benchmark.extra_info["MB/s"] = round(len(text) / benchmark.stats.stats.min / 1e6, 1)
    assert found >= 0


def speed(run: Callable[[bytes], int], text: bytes) -> float:
    """Megabytes per second of one core, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        run(text)
        best = min(best, time.thread_time() - start)
    return len(text) / best / 1e6


def test_goals() -> None:
    """300 MB/s on code and chat with all detectors, twenty times `re`, faster than google-re2; interleaved."""
    text = code_and_chat()
    speeds = {name: speed(run, text) for name, run in ENGINES.items()}
    print("\n" + "\n".join(f"{name}: {each:.1f} MB/s" for name, each in speeds.items()))
    ours = speeds.pop("scanner")
    assert ours >= 300
    assert ours >= 20 * max(each for name, each in speeds.items() if name.startswith("re,"))
    assert ours > max(each for name, each in speeds.items() if name.startswith("re2"))


def test_a_small_text_costs_little() -> None:
    """What the observer pays for one delta of a stream, whatever is in it."""
    start = time.perf_counter()
    for _ in range(20_000):
        SCANNER.find(b"the answer is forty-two, ")
    assert (time.perf_counter() - start) / 20_000 < 2e-6


def test_the_patterns_find_what_they_are_for() -> None:
    """They are no straw men: together they find nine tenths of what was planted."""
    values = Values(3)
    found = total = 0
    compiled = [re.compile(pattern.encode()) for pattern in PATTERNS.values()]
    for text, places in islice(mixed([b"x\n" * 200], values, 400), 1):
        spans = [match.span() for pattern in compiled for match in pattern.finditer(text)]
        for start, end, _ in places:
            total += 1
            found += any(a < end and b > start for a, b in spans)
    assert found / total > 0.9
