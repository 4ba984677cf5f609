"""Bodies kept within two limits."""

from __future__ import annotations

import gzip

from lunaroute.observe.capture import Allowance, Capture


def test_pieces_are_joined() -> None:
    capture = Capture(Allowance(100))
    assert [capture.feed(piece) for piece in (b"ab", b"", b"cd")] == [b"ab", b"", b"cd"]
    assert (capture.body(), capture.raw_bytes, capture.truncated) == (b"abcd", 4, False)


def test_both_bodies_share_an_allowance() -> None:
    allowance = Allowance(10)
    one, two = Capture(allowance), Capture(allowance)
    one.feed(b"1234567")
    assert two.feed(b"abcdefg") == b"abcdefg", "what is not kept is still read"
    assert (two.body(), two.truncated, two.raw_bytes) == (b"abc", True, 7)
    one.drop()
    assert allowance.used == 3


def test_once_cut_nothing_more_is_kept() -> None:
    """A body with a hole would lie; a body that ends early says so."""
    allowance = Allowance(10)
    one, two = Capture(allowance), Capture(allowance)
    one.feed(b"12345678")
    two.feed(b"abcd")
    one.drop()
    two.feed(b"efgh")
    assert two.body() == b"ab"


def test_the_parent_s_word_counts() -> None:
    everything = Allowance(10)
    one, two = Capture(Allowance(8, everything)), Capture(Allowance(8, everything))
    one.feed(b"12345678")
    two.feed(b"abcdefgh")
    assert two.body() == b"ab"
    one.drop()
    two.drop()
    assert everything.used == 0


def test_decoded_bytes_are_what_counts() -> None:
    packed = gzip.compress(b"x" * 1000)
    capture = Capture(Allowance(600), "gzip")
    assert capture.feed(packed) == b"x" * 1000
    assert (len(capture.body()), capture.raw_bytes, capture.truncated) == (600, len(packed), True)


def test_many_small_pieces_are_put_together() -> None:
    capture = Capture(Allowance(1 << 20))
    for _ in range(5000):
        capture.feed(b"ab")
    assert len(capture._pieces) <= 512
    assert capture.body() == b"ab" * 5000
