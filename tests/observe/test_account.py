"""Whose credential it was: a table of heads; the digest says which account, and nothing else."""

from __future__ import annotations

import re

import pytest

from lunaroute.observe.account import API, SUBSCRIPTION, account, cost_kind
from lunaroute.observe.heads import Head, read_head

KEY, OTHER = b"k" * 32, b"o" * 32
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkdW1teSJ9.c2lnbmF0dXJl"


def head(**fields: str) -> Head:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return read_head(f"POST /v1/messages HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))


KINDS: dict[str, tuple[Head, str]] = {
    "a key of Anthropic": (head(x_api_key="sk-ant-api03-dummy"), API),
    "a login of Claude": (head(authorization="Bearer sk-ant-oat01-dummy"), SUBSCRIPTION),
    "a key of Anthropic as bearer": (head(authorization="Bearer sk-ant-api03-dummy"), API),
    "a key of OpenAI": (head(authorization="Bearer sk-proj-dummy"), API),
    "a login of ChatGPT": (head(authorization=f"Bearer {JWT}", chatgpt_account_id="a-1"), SUBSCRIPTION),
    "a login of ChatGPT without its account": (head(authorization=f"Bearer {JWT}"), SUBSCRIPTION),
    "an account alone": (head(chatgpt_account_id="a-1"), SUBSCRIPTION),
    "a JWT that lacks a part": (head(authorization="Bearer eyJhbGciOiJub25lIn0.eyJzdWIi"), API),
    "blanks around": (head(authorization="Bearer   sk-ant-oat01-dummy  "), SUBSCRIPTION),
    "another scheme": (head(authorization="Basic sk-ant-oat01-dummy"), API),
    "no credential": (head(), API),
    "an empty one": (head(authorization=""), API),
    "not ASCII": (head(authorization="Bearer \xe9\xff"), API),
}


@pytest.mark.parametrize(("given", "kind"), KINDS.values(), ids=KINDS)
def test_who_pays(given: Head, kind: str) -> None:
    assert cost_kind(given) == kind


SAME: dict[str, tuple[Head, Head, bool]] = {
    "the same key": (head(x_api_key="a"), head(x_api_key="a", user_agent="x"), True),
    "another key": (head(x_api_key="a"), head(x_api_key="b"), False),
    "the same bearer": (head(authorization="Bearer a"), head(authorization="Bearer a"), True),
    "another bearer": (head(authorization="Bearer a"), head(authorization="Bearer b"), False),
    "a new token of the same account": (
        head(authorization="Bearer a", chatgpt_account_id="1"),
        head(authorization="Bearer b", chatgpt_account_id="1"),
        True,
    ),
    "the same token for another account": (
        head(authorization="Bearer a", chatgpt_account_id="1"),
        head(authorization="Bearer a", chatgpt_account_id="2"),
        False,
    ),
}


@pytest.mark.parametrize(("one", "other", "same"), SAME.values(), ids=SAME)
def test_accounts_are_told_apart(one: Head, other: Head, same: bool) -> None:
    assert (account(one, KEY) == account(other, KEY)) == same


def test_a_digest_says_nothing_else() -> None:
    secret = "sk-ant-api03-dummy-dummy-dummy"
    told = account(head(x_api_key=secret), KEY)
    assert told is not None and re.fullmatch("[0-9a-f]{16}", told)
    assert told != account(head(x_api_key=secret), OTHER), "it cannot be worked out without the key"


def test_no_credential_no_account() -> None:
    assert account(head(), KEY) is None
    assert account(head(x_api_key=""), KEY) is None
    assert account(head(authorization="\xe9\xff"), KEY) is not None
