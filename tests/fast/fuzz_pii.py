"""Hypothesis against the scanner for as long as wanted: `python -m tests.fast.fuzz_pii MINUTES`.

Each text is read where it ends at the end of a page and the next page is nobody's, so that one byte too many ends the
process; and where it begins at any place of a page. What is found must be the same in both, in order, and between code
points where the text is UTF-8. tests/sanitize.sh runs this under AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
import time

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from lunaroute._fast.pii import KINDS, Scanner
from tests.fast.test_pii import HOSTILE, PIECES, check
from tests.planted import Values, plants

ROOM = 16 * mmap.PAGESIZE
SCANNERS = (
    Scanner(KINDS),
    Scanner(KINDS, private_addresses=True, reserved_domains=True),
    *(Scanner([kind]) for kind in KINDS),
)
LINES = [line for _, line, _ in plants(Values(5), 4_000)]


def fenced() -> memoryview:
    """Memory that ends where the process may not read."""
    pages = mmap.mmap(-1, ROOM + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address + ROOM), mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return memoryview(pages)[:ROOM]


MEMORY = fenced()


def mutated(line: str, how: random.Random) -> str:
    """A planted line with some of its characters changed, doubled, left out, or cut off."""
    points = list(line)
    for _ in range(how.randrange(6)):
        at = how.randrange(len(points) + 1)
        points[at : at + how.randrange(3)] = how.choice(
            ["", "0", " ", "-", ".", "@", ":", "é", "\u200b", "\n", '"', "\\"]
        )
    return "".join(points[: how.randrange(len(points) + 1)] if how.random() < 0.3 else points)


LINE = st.builds(mutated, st.sampled_from(LINES), st.randoms(use_true_random=False))
TEXT = st.one_of(
    st.binary(max_size=400),
    st.lists(st.one_of(PIECES, LINE, st.sampled_from(HOSTILE), st.text(max_size=8)), max_size=30).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    ),
    st.builds(lambda piece, count: (piece * count).encode(), st.sampled_from(HOSTILE), st.integers(1, 2_000)),
)


@settings(max_examples=2_000, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXT, st.binary(max_size=60), st.integers(0, 40), st.integers(0, 40))
def one(text: bytes, context: bytes, cut: int, offset: int) -> None:
    text = text[cut : cut + ROOM]
    start = ROOM - len(text)
    MEMORY[start:] = text
    at_the_end = [scanner.find(MEMORY[start:], context) for scanner in SCANNERS]
    if len(text) + offset <= ROOM:
        MEMORY[offset : offset + len(text)] = text
        inside = [scanner.find(MEMORY[offset : offset + len(text)], context) for scanner in SCANNERS]
        assert inside == at_the_end
    for scanner, found in zip(SCANNERS, at_the_end, strict=True):
        assert check(text, scanner, context) == found
        if found and not cut:
            try:
                text.decode()
            except UnicodeDecodeError:
                continue
            assert all(text[border : border + 1] < b"\x80" or text[border] & 0xC0 != 0x80
                       for each in found for border in each[:2])  # fmt: skip


def main() -> int:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 1
    stop, rounds = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < stop:
        seed(rounds)(one)()
        rounds += 1
    print(f"{rounds * 2_000} texts, each by {len(SCANNERS)} scanners, in {minutes:g} minutes: nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
