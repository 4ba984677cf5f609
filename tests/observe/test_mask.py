"""Credentials by name and by value, in every written form."""

from __future__ import annotations

import json

import pytest

from lunaroute.observe.heads import read_head
from lunaroute.observe.mask import Mask, Masker


def mask(*fields: str, target: str = "/v1/messages", secrets: tuple[str, ...] = ()) -> Mask:
    head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"
    return Masker(secrets).for_request(read_head(head.encode("latin-1")))


NAMES = [
    *("Authorization", "X-Api-Key", "api-key", "x-goog-api-key", "Cookie", "Set-Cookie", "Proxy-Authorization"),
    "ChatGPT-Account-Id", "Authorization ",
]


@pytest.mark.parametrize("name", NAMES)
def test_fields_by_name(name: str) -> None:
    assert mask().fields([(name, "abc"), ("Accept", "x")]) == [(name, "***"), ("Accept", "x")]


CARRIED = [
    ("bearer", "Authorization: Bearer secret-value-1", "secret-value-1"),
    ("basic", "Authorization: Basic c2VjcmV0OnZhbHVl", "c2VjcmV0OnZhbHVl"),
    ("bare", "Authorization: secret-value-1", "secret-value-1"),
    ("key", "x-api-key: secret-value-1", "secret-value-1"),
    ("cookie", "Cookie: a=1; sid=secret-value-1", "secret-value-1"),
    ("a blank before the colon", "Authorization : Bearer secret-value-1", "secret-value-1"),
    ("account", "chatgpt-account-id: account-123", "account-123"),
]


@pytest.mark.parametrize(("field", "secret"), [c[1:] for c in CARRIED], ids=[c[0] for c in CARRIED])
def test_values_that_the_request_carried(field: str, secret: str) -> None:
    assert mask(field).body(f"<{secret}>".encode()) == b"<***>"


def test_written_forms() -> None:
    secret = 'a "quoted"/é+key'
    made = mask(secrets=(secret,))
    assert made.body(json.dumps({"k": secret}).encode()).find(b"quoted") < 0 or made.text(secret) == "***"
    assert made.body(secret.encode()) == b"***"
    assert made.body(b"?k=a%20%22quoted%22%2F%C3%A9%2Bkey") == b"?k=***"
    assert made.body(b'{"k":"a \\"quoted\\"/\xc3\xa9+key"}') == b'{"k":"***"}'


def test_the_longer_secret_goes_first() -> None:
    made = mask(secrets=("secret-one", "secret-one-and-more"))
    assert made.body(b"secret-one-and-more secret-one") == b"*** ***"


def test_short_values_do_not_tear_words_apart() -> None:
    assert mask("x-api-key: test").body(b"a test of testing") == b"a test of testing"


TARGETS = [
    ("/v1/x?key=AIza-secret&alt=sse", "/v1/x?key=***&alt=sse"),
    ("/v1/x?alt=sse&API_KEY=zz", "/v1/x?alt=sse&API_KEY=***"),
    ("/v1/x?access_token=a%20b", "/v1/x?access_token=***"),
    ("/v1/x?monkey=1&beta=true", "/v1/x?monkey=1&beta=true"),
    ("/v1/x", "/v1/x"),
]


@pytest.mark.parametrize(("target", "shown"), TARGETS)
def test_targets(target: str, shown: str) -> None:
    assert mask(target=target).target(target) == shown


def test_a_query_credential_is_found_in_bodies_too() -> None:
    assert mask(target="/x?key=AIza-secret-9").body(b"bad key AIza-secret-9") == b"bad key ***"


def test_nothing_to_do_gives_the_same_object() -> None:
    body = b"x" * 100
    assert mask(secrets=("not in there",)).body(body) is body


def test_a_secret_learned_after_the_exchange_began_is_replaced_too() -> None:
    masker = Masker()
    made = masker.for_request(read_head(b"POST / HTTP/1.1\r\nx-api-key: secret-value-1\r\n\r\n"))
    assert made.body(b"secret-value-1 secret-value-2") == b"*** secret-value-2"
    masker.learn("secret-value-2")
    assert made.body(b"secret-value-1 secret-value-2") == b"*** ***"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_secret_in_json_inside_json_and_in_a_field_name(depth: int) -> None:
    secret = 'quo"ted\\key/+'
    written = secret
    for _ in range(depth):
        written = json.dumps(written)[1:-1]
    made = mask(secrets=(secret,))
    assert made.text(f"<{written}>") == "<***>"
    assert made.fields([(f"Bad {secret}", "1")]) == [("Bad ***", "1")]
