"""What stands for a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.observe.pii.forms import FAILED, TOKEN, Forms, canonical, hidden, masked, partial
from lunaroute.observe.pii.key import Key
from tests.observe.pii import plain


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("email", "Alice@Corp.COM", "alice@corp.com"),
        ("email", "\uff41lice@corp.com", "alice@corp.com"),
        ("email", "al\u200bice@corp.com", "alice@corp.com"),
        ("credit_card", "4111 1111-1111 1111", "4111111111111111"),
        ("credit_card", "\uff14111\u00a01111 1111 1111", "4111111111111111"),
        ("phone", "+49 (30) 1234-567", "0049301234567"),
        ("ssn", "536 22 8714", "536-22-8714"),
        ("iban", "de89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("ip", "2001:DB8:0:0::1", "2001:db8::1"),
        ("ip", "[2001:db8::1]", "2001:db8::1"),
        ("secret", " sk-x ", "sk-x"),
    ],
)
def test_one_value_has_one_token_however_it_is_written(kind: str, one: str, other: str) -> None:
    assert canonical(kind, one) == canonical(kind, other)
    assert plain.token(kind, one) == plain.token(kind, other)


def test_tokens_are_of_the_key_and_the_kind() -> None:
    rules = plain.rules()
    mine = Forms(rules, Key(None, "one")).token("email", "a@b.c")
    assert mine == Forms(rules, Key(None, "one")).token("email", "a@b.c")
    assert mine != Forms(rules, Key(None, "two")).token("email", "a@b.c")
    assert plain.token("ssn", "1")[5:] != plain.token("phone", "1")[7:]
    assert TOKEN.fullmatch(mine.encode())
    assert mine.startswith("[EMAIL:") and len(mine) == len("[EMAIL:a3f8e9d2]")


@pytest.mark.parametrize(
    ("kind", "value", "mask", "part"),
    [
        ("email", "john.doe@corp.com", "****.***@****.***", "j***@corp.com"),
        ("email", "\u00e9ric@b\u00fccher.de", "****@******.**", "****@******.**"),
        ("phone", "+1 (415) 555-2671", "+* (***) ***-****", "+* (***) ***-2671"),
        ("ssn", "536-22-8714", "***-**-****", "***-**-8714"),
        ("credit_card", "4111\n1111 1111 1111", "**** **** **** ****", "**** **** **** 1111"),
        ("ip", "203.0.113.7", "***.*.***.*", "203.0.*.*"),
        ("ip", "2001:db8::7", "****:***::*", "2001:db8:*"),
        ("iban", "DE89 3704 0044", "**** **** ****", "**** **** 0044"),
        ("secret", "sk-live-0123456789abcdef", "**-****-****************", "***cdef"),
        ("secret", "hunter2", "*******", "***"),
        ("secret", 'abcdefghijklmnopq"\\x', "********************", "***"),
    ],
)
def test_masks_and_parts(kind: str, value: str, mask: str, part: str) -> None:
    assert masked(value) == mask
    assert partial(kind, value) == part


def test_a_mask_of_something_long_does_not_tell_how_long() -> None:
    assert masked("x" * 1700) == masked("y" * 3000)


@given(st.sampled_from(["email", "phone", "ssn", "credit_card", "ip", "iban", "secret", "own"]), st.text(max_size=40))
def test_no_form_needs_an_escape_in_json(kind: str, value: str) -> None:
    for mode in ("mask", "remove", "tokenize", "partial"):
        made = Forms(plain.rules(redaction_mode=mode), plain.key()).replacement(kind, kind, value)
        assert made.isascii()
        assert json.dumps(made.decode()) == f'"{made.decode()}"'


@pytest.mark.parametrize("mode", ["mask", "remove", "tokenize", "partial"])
def test_each_kind_may_have_a_mode_of_its_own(mode: str) -> None:
    more: dict[str, Any] = {"redaction_mode": "remove", "modes": {"email": mode}}
    forms = Forms(plain.rules(**more), plain.key())
    assert forms.replacement("ssn", "ssn", "536-22-8714") == b"[SSN]"
    assert (forms.replacement("email", "email", "john@corp.com") == b"[EMAIL]") is (mode == "remove")


@pytest.mark.parametrize(
    ("value", "first", "again"),
    [
        (b"[EMAIL:a3f8e9d2]", True, True),
        (b"[SECRET]", True, True),
        (b"***-**-****", True, True),
        (FAILED, True, True),
        (b"j***@corp.com", False, True),
        (b"[EMAIL:a3f8e9d2]x", False, False),
        (b"[EMAIL:A3F8E9D2]", False, False),
        (b"a*b", False, False),
        (b"hunter2", False, False),
    ],
)
def test_our_own_forms_are_known(value: bytes, first: bool, again: bool) -> None:
    assert hidden(value) is first
    assert hidden(value, again=True) is again
