"""Heads for the record: what the relay passed on is read as it is, what is no head gives empty parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.observe.heads import body_offset, read_head, status_of


def test_a_request_head() -> None:
    head = read_head(b"POST /v1/x?a=b HTTP/1.1\r\nHost: x\r\nX-A:1\r\nx-a: \t2 \r\nX-Latin: caf\xe9\r\n\r\nbody")
    assert head.first == ("POST", "/v1/x?a=b", "HTTP/1.1")
    assert head.fields == [("Host", "x"), ("X-A", "1"), ("x-a", "2"), ("X-Latin", "caf\xe9")]
    assert (head.get("x-a"), head.joined("x-a"), head.get("missing")) == ("1", "1, 2", "")


def test_a_head_that_was_refused_for_its_blanks() -> None:
    """A field with a blank before its colon is still that field; a folded line is none."""
    head = read_head(b"POST /x HTTP/1.1\r\nAuthorization : sk-dummy\r\n\tx-api-key: folded\r\n more\r\n\r\n")
    assert head.fields == [("Authorization ", "sk-dummy")]
    assert head.get("authorization") == "sk-dummy"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 204\r\n\r\n", 204),
        (b"HTTP/1.1 2x0 OK", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_status(raw: bytes, status: int | None) -> None:
    assert status_of(read_head(raw)) == status


def test_a_reason_keeps_its_blanks() -> None:
    assert read_head(b"HTTP/1.1 404 Not Found Here\r\n\r\n").first[2] == "Not Found Here"


def test_body_offset() -> None:
    assert body_offset(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nrest") == 25
    assert body_offset(b"no head") == 7


@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    head = read_head(raw)
    assert len(head.first) == 3
    status_of(head)
