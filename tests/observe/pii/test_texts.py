"""One text: whatever it is written in, what is found is gone, and all else is as it was."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.views import apply
from lunaroute.observe.pii.forms import FAILED
from lunaroute.observe.pii.texts import LIMIT_S, Texts, note, sound
from tests.fast.test_texts import CHANCE, escaped
from tests.observe.pii import plain
from tests.observe.pii.plain import PLANTED, token

WORDS = st.sampled_from(["see ", "\n", "caf\u00e9 ", "\U0001f600", '"', " \\ ", "{", "}", ", ", "x = 1;\t", "100% "])
PLACES = st.lists(st.one_of(WORDS, st.sampled_from(PLANTED)), min_size=1, max_size=6)


def redacted(text: bytes, context: bytes = b"", **more: Any) -> bytes:
    return apply(text, plain.texts(**more).edits(text, context))


def sides(places: list[str | tuple[str, str]]) -> tuple[str, str]:
    """The text with the values, and with what is to stand for them. Values never touch each other."""
    parts = [(each, each) if isinstance(each, str) else (f" {each[1]} ", f" {token(*each)} ") for each in places]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@given(PLACES)
def test_plain_text(places: list[str | tuple[str, str]]) -> None:
    said, kept = sides(places)
    assert redacted(said.encode()).decode() == kept


@given(PLACES, st.integers(0, 3), CHANCE)
def test_json_in_strings_of_json_to_any_depth_in_any_escapes(
    places: list[str | tuple[str, str]], depth: int, chance: random.Random
) -> None:
    said, kept = sides(places)
    text = f'{{"q": "{escaped(said, chance)}", "n": [1, "{escaped(said, chance)}"]}}'
    for _ in range(depth):
        text = f'["{escaped(text, chance)}", null]'
    made = json.loads(redacted(text.encode()))
    for _ in range(depth):
        assert made[1] is None
        made = json.loads(made[0])
    assert made == {"q": kept, "n": [1, kept]}


@given(PLACES, CHANCE)
def test_code_with_escapes(places: list[str | tuple[str, str]], chance: random.Random) -> None:
    """A literal in a text that is no JSON: what is left of it still says the same."""
    said, kept = sides(places)
    text = f'x = "{escaped(said, chance)}"  # a literal'
    made = redacted(text.encode()).decode()
    assert made.startswith('x = "') and made.endswith('"  # a literal')
    assert json.loads(made[4 : -len("  # a literal")]) == kept


def test_the_letter_of_an_escape_is_no_part_of_a_value() -> None:
    mail = token("email", "bob@corp.com")
    assert redacted(rb'print("hello\nbob@corp.com\tbye")') == rb'print("hello\n' + mail.encode() + rb'\tbye")'


def test_percent_escapes_in_a_text() -> None:
    made = redacted(b"GET /?mail=alice.b%40corp.com&x=%31 100%")
    assert made == b"GET /?mail=" + token("email", "alice.b@corp.com").encode() + b"&x=%31 100%"


def test_a_number_in_json_in_a_string() -> None:
    text = json.dumps({"arguments": json.dumps({"card": 4111111111111111, "ok": 12})})
    made = json.loads(json.loads(redacted(text.encode()))["arguments"])
    assert made == {"card": token("credit_card", "4111111111111111"), "ok": 12}


def test_the_name_tells_what_a_text_is_at_any_depth() -> None:
    text = json.dumps({"a": json.dumps({"PassWord": "hunter2"})})
    inner = json.loads(json.loads(redacted(text.encode()))["a"])
    assert inner == {"PassWord": token("secret", "hunter2")}


def test_names_that_apis_give_say_nothing() -> None:
    seen = []

    def note_it(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
        seen.append(context)
        return []

    plain.texts(note_it).edits(b'{"id":"abc","prompt_cache_key":"abc","api_key":"abc"}', b"")
    assert [context for context in seen if context] == [b"api_key"]


@pytest.mark.parametrize("mode", ["mask", "remove", "tokenize", "partial"])
def test_json_stays_json_in_every_mode(mode: str) -> None:
    said = json.dumps([value for _, value in PLANTED] + [{value: {"n": 4111111111111111}} for _, value in PLANTED])
    made = redacted(said.encode(), redaction_mode=mode)
    json.loads(made)
    for _, value in PLANTED:
        assert value.encode() not in made


def test_what_is_invalid_utf8_is_looked_through_all_the_same() -> None:
    text = b"\xff\xfe alice.b@corp.com \xc3("
    assert redacted(text) == b"\xff\xfe " + token("email", "alice.b@corp.com").encode() + b" \xc3("


@given(st.binary(max_size=60))
def test_sound_text_is_as_long(text: bytes) -> None:
    made = sound(text)
    made.decode()
    assert len(made) == len(text)


# --- what stays, and what is added ---------------------------------------------------------------------------
def test_allowed_values_stay_however_they_are_written() -> None:
    text = b"alice.b@corp.com Alice.B@CORP.com x_9@some-site.org 4111111111111111"
    made = redacted(text, allow=["ALICE.b@corp.com", "/4111.*/"])
    assert made == b"alice.b@corp.com Alice.B@CORP.com " + token("email", "x_9@some-site.org").encode() + (
        b" 4111111111111111"
    )


def test_patterns_of_the_configuration() -> None:
    more = {
        "custom_patterns": [
            {"name": "ticket", "pattern": r"TKT-\d{4,}", "mode": "remove"},
            {"name": "Mitarbeiter-Nr", "pattern": "M\u00fc[0-9]{3}", "mode": None},
        ]
    }
    text = "see TKT-12345 of M\u00fc007, alice.b@corp.com".encode()
    made = redacted(text, **more).decode()
    assert made.startswith("see [TICKET] of [MITARBEITER_NR:")
    assert "corp" not in made
    assert "TKT" not in redacted(b'{"a":"\\u0054KT-12345"}', **more).decode()


def test_a_pattern_beside_a_detector_leaves_nothing_of_either() -> None:
    more = {"custom_patterns": [{"name": "host", "pattern": r"corp\.com/\w+", "mode": None}]}
    made = redacted(b"alice.b@corp.com/home x", **more)
    assert made.count(b"[") == 1 and made.endswith(b"] x") and b"home" not in made and b"alice" not in made


def test_our_own_forms_are_not_found_again() -> None:
    text = json.dumps({"password": "[SECRET:a3f8e9d2]", "the_password": "********", "passwords": "[SECRET]"}).encode()
    assert redacted(text) == text
    assert redacted(b'{"password": "[SECRET:a3f8e9d2] x"}') != b'{"password": "[SECRET:a3f8e9d2] x"}'


# --- files -------------------------------------------------------------------------------------------------
PNG = "iVBORw0KGgo" + "A" * 600


def test_files_are_left_out_or_kept() -> None:
    body = json.dumps({"source": {"type": "base64", "media_type": "image/png", "data": PNG}, "text": "hi"}).encode()
    made = json.loads(redacted(body))
    assert made["source"]["data"] == note("", PNG.encode()).decode()
    assert made["source"]["media_type"] == "image/png" and made["text"] == "hi"
    assert redacted(body, binary="keep") == body


def test_addresses_with_a_file_in_them() -> None:
    body = json.dumps({"image_url": {"url": f"data:image/png;base64,{PNG}"}, "text": f"![x](data:;base64,{PNG}) a"})
    made = json.loads(redacted(body.encode()))
    assert made["image_url"]["url"] == note("image/png", PNG.encode()).decode()
    assert made["text"] == f"![x]({note('', PNG.encode()).decode()}) a"


def test_signatures_are_no_files() -> None:
    body = json.dumps({"signature": PNG, "encrypted_content": PNG, "text": "A" * 400}).encode()
    assert redacted(body) == body


# --- faults ------------------------------------------------------------------------------------------------
def test_a_text_that_cannot_be_looked_through_is_not_kept() -> None:
    def broken(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
        if b"bad" in text:
            raise RuntimeError(text)
        return plain.find(text, context)

    texts = plain.texts(broken)
    body = json.dumps({"a": "bad 123-45-6789 \u00e9", "b": "alice.b@corp.com", "c": "fine"}).encode()
    assert json.loads(apply(body, texts.edits(body))) == {
        "a": FAILED.decode(), "b": token("email", "alice.b@corp.com"), "c": "fine"
    }  # fmt: skip
    assert texts.failures == 1


def test_a_text_that_takes_too_long_is_not_kept() -> None:
    now = [0.0]

    def slow(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
        now[0] += LIMIT_S * 3 if b"slow" in text else 0.001
        return []

    rules = plain.rules()
    texts = Texts(rules, slow, plain.texts()._forms, clock=lambda: now[0])
    body = b'{"a":"slow","b":"quick"}'
    assert json.loads(apply(body, texts.edits(body))) == {"a": FAILED.decode(), "b": "quick"}


def test_a_pattern_that_takes_too_long_is_given_up_while_it_runs() -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 0.1
        return now[0]

    rules = plain.rules(custom_patterns=[{"name": "a", "pattern": "a", "mode": None}])
    texts = Texts(rules, lambda text, context: [], plain.texts()._forms, clock=tick)
    text = b"a" * 100_000
    assert apply(text, texts.edits(text)) == FAILED
    assert now[0] < 5


def test_escapes_are_undone_in_an_address_in_json() -> None:
    link = "https://x.io/?m=" + quote("alice.b@corp.com", safe="")
    made = json.loads(redacted(json.dumps({"url": link}).encode()))
    assert made == {"url": f"https://x.io/?m={token('email', 'alice.b@corp.com')}"}


# --- texts that were cut -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("mail alice.b@corp", "mail [CUT]"),
        ("mail alice.b@", "mail [CUT]"),
        ("call +1 415 555", "call [CUT]"),
        ("card 4111 1111 1", "card [CUT]"),
        ("ssn 536-22-8", "ssn [CUT]"),
        ("iban DE89 3704 0", "iban [CUT]"),
        ("ip 81.2.", "ip [CUT]"),
        ("ip 2a00:1450:40", "ip [CUT]"),
        ("key AKIAQX7HZPL2MN", "key [CUT]"),
        ("password = hunt", "[CUT]"),
        ("x -----BEGIN RSA PRIVATE KEY-----\nMIIE", "x [CUT]"),
        ("some words at the end", "some words at the end"),
        ("it was 2024, and", "it was 2024, and"),
        ("", ""),
    ],
)
def test_what_a_text_that_was_cut_may_have_begun_with_goes(text: str, kept: str) -> None:
    raw = text.encode()
    texts = plain.texts()
    assert apply(raw, texts.edits(raw, b"", cut=True)).decode() == kept
    assert apply(raw, texts.edits(raw)).decode() == text
    body = json.dumps({"a": text}).encode()[:-2]
    assert apply(body, texts.edits(body)) == json.dumps({"a": kept}).encode()[:-2], "what ends in the body was cut"


def test_of_a_stream_that_was_cut_only_its_last_text_was() -> None:
    events = b"".join(
        b"data: " + json.dumps({"index": index, "delta": {"text": text}}).encode() + b"\n\n"
        for index, text in ((0, "call 415 "), (1, "mail alice.b@"), (0, "555 2"), (1, "co"))
    )
    texts = plain.texts()
    made = [
        json.loads(line[6:])["delta"]["text"]
        for line in apply(events, texts.events(events, cut=True)).split(b"\n\n")[:-1]
    ]
    assert made == ["call 415 ", "mail [CUT]", "555 2", ""]
    assert texts.events(events) == []
