"""The scanner as a whole: spans in order and on code points, whatever the bytes; planted values wherever they stand;
who wins where two claim the same; time that grows with the text and not faster.

The formats are in test_pii_formats.py and test_pii_secrets.py, recall and precision in test_pii_corpus.py.
"""

# ruff: noqa: RUF001 (letters and digits of other scripts are what this is about)
from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute._fast.pii import KINDS, NAMES, Scanner
from tests.planted import Values

ALL = Scanner(KINDS)
VALUES = {
    "email": "joe.bloggs@posteo.de",
    "phone": "+1 (415) 555-2671",
    "ssn": "457-55-5462",
    "credit_card": "4242 4242 4242 4242",
    "ip": "2a00:1450:4001:82b::200e",
    "iban": "DE89 3704 0044 0532 0130 00",
    "secret": "AKIAQ3EGTZ7QWRYX5UVB",
}
KEYS = "sk-ant-api03-" + "aZ3_" * 22 + "hV9-qAA"
# what is near to something, and cuts of it
PIECES = st.sampled_from(
    [
        *VALUES.values(), "@", "a@b.co", "::", ":", "1.2.3.4", "+49 30 ", "4242", "-", " ", "\n", "\\n", "eyJ",
        ".eyJ", "sk-", "ghp_", "-----BEGIN RSA PRIVATE KEY-----", "-----END", "password=", '"', "'", "Bearer ",
        "://", "é", "用", "\u200b", "４", "＠", "%40", "0", "key: ",
    ]
)  # fmt: skip


def check(text: bytes, scanner: Scanner = ALL, context: bytes = b"") -> list[tuple[int, int, str, str]]:
    """What is found, after a look at whether the spans are what is promised."""
    got = scanner.find(text, context)
    behind = 0
    for start, end, kind, name in got:
        assert behind <= start < end <= len(text)
        assert kind in KINDS and name in NAMES[kind]
        behind = end
    return got


# --- any bytes --------------------------------------------------------------------------------------
@settings(max_examples=500)
@given(st.binary(max_size=300), st.binary(max_size=40))
def test_any_bytes(text: bytes, context: bytes) -> None:
    check(text, context=context)


@settings(max_examples=500)
@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=20), st.booleans())
def test_any_text_is_cut_between_code_points(pieces: list[str], loose: bool) -> None:
    text = "".join(pieces).encode("utf-8", "surrogatepass")
    scanner = Scanner(KINDS, private_addresses=loose, reserved_domains=loose)
    for start, end, _, _ in check(text, scanner):
        for border in (start, end):
            assert border == len(text) or text[border] & 0xC0 != 0x80


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=12), st.integers(0, 200), st.sets(st.integers(0, 6)))
def test_cut_text_and_any_choice_of_kinds(pieces: list[str], cut: int, chosen: set[int]) -> None:
    kinds = [KINDS[number] for number in chosen]
    text = "".join(pieces).encode()[cut:]
    assert {kind for _, _, kind, _ in check(text, Scanner(kinds))} <= set(kinds)


def test_a_kind_that_is_none() -> None:
    with pytest.raises(ValueError, match="'passport' is none of email, phone"):
        Scanner(["email", "passport"])


def test_text_is_bytes() -> None:
    with pytest.raises(TypeError):
        ALL.find("joe@posteo.de")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ALL.find(b"joe@posteo.de", None)  # type: ignore[arg-type]


def test_text_is_any_buffer_and_need_not_end_with_a_nul() -> None:
    text = b"xx joe@posteo.de yy"
    for cut in (text[3:16], bytearray(text)[3:16], memoryview(text)[3:16]):
        assert ALL.find(cut) == [(0, 13, "email", "email")]


# --- planted values ---------------------------------------------------------------------------------
@settings(max_examples=300)
@given(
    st.sampled_from(sorted(VALUES)),
    st.text(st.sampled_from(" \n\tabcxyz.,;()[]{}\"'é用🙂"), max_size=70),
    st.text(st.sampled_from(" \n\tabcxyz,;)]}\"'é用🙂"), max_size=70),
)
def test_a_value_is_found_at_any_offset(kind: str, before: str, behind: str) -> None:
    value = VALUES[kind]
    text = f"{before} {value} {behind}".encode()
    start = len(f"{before} ".encode())
    assert (start, start + len(value), kind) in [each[:3] for each in check(text)]


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_is_found_at_every_distance_from_the_ends(kind: str) -> None:
    """The end is read by another loop than the rest."""
    value = VALUES[kind].encode()
    for before in range(40):
        for behind in range(10):
            text = b"x " * before + value + b" y" * behind
            assert [each[:3] for each in check(text)] == [(2 * before, 2 * before + len(value), kind)]


@pytest.mark.parametrize("seed", range(20))
def test_values_of_any_draw(seed: int) -> None:
    values = Values(seed)
    for draw in (values.email, values.ssn, values.card, values.ip, values.iban, values.secret):
        plant = draw()
        text = f"ssn {plant.value}\n".encode()
        assert (4, 4 + len(plant.value.encode()), plant.kind) in [each[:3] for each in check(text)], plant


# --- two that claim the same ------------------------------------------------------------------------
OVERLAPS = [
    # text; what is found, whole
    ("password=joe@posteo.de1", [("joe@posteo.de1", "secret")]),
    ("postgres://joe:s3cr3tPw9@db.posteo.de/x", [("s3cr3tPw9", "secret")]),
    ("FR76 3000 6000 0112 3456 7890 189", [("FR76 3000 6000 0112 3456 7890 189", "iban")]),
    ("GB29 NWBK 6016 1331 9268 19", [("GB29 NWBK 6016 1331 9268 19", "iban")]),
    ("::ffff:93.184.215.14", [("::ffff:93.184.215.14", "ip")]),
    ("4155552671@posteo.de", [("4155552671@posteo.de", "email")]),
    ("415-555-2671@posteo.de", [("415-555-2671@posteo.de", "email")]),
    ("root@93.184.215.14", [("93.184.215.14", "ip")]),
    ("card 4242 4242 4242 4242 tel 415-555-2671", [("4242 4242 4242 4242", "credit_card"), ("415-555-2671", "phone")]),
]


@pytest.mark.parametrize(("text", "expected"), OVERLAPS, ids=lambda each: each if isinstance(each, str) else "")
def test_one_value_is_one_match(text: str, expected: list[tuple[str, str]]) -> None:
    raw = text.encode()
    assert [(raw[a:b].decode(), kind) for a, b, kind, _ in check(raw)] == expected


@pytest.mark.parametrize("off", KINDS)
def test_a_kind_that_is_off_still_keeps_others_out_of_its_values(off: str) -> None:
    """No phone inside of an IBAN, no SSN inside of a card, also where those are not wanted."""
    scanner = Scanner([kind for kind in KINDS if kind != off])
    for kind, value in VALUES.items():
        got = [each[2] for each in check(f"x {value} y".encode(), scanner)]
        assert got == ([] if kind == off else [kind])


def test_a_mail_address_in_a_secret_is_found_where_secrets_are_not_wanted() -> None:
    text = b"password=joe@posteo.de1 x joe@posteo.de"
    assert [text[a:b] for a, b, _, _ in Scanner(["email"]).find(text)] == [b"joe@posteo.de"]


# --- linear -----------------------------------------------------------------------------------------
HOSTILE = [
    " -u ", "curl -u a:", "--user ", "login a password ", "AKIAQ3EGTZ7QWRYX5UVB,",
    "key='sk-", "api_key='sk-", "token=eyJ", "secret: AKIA", "password=sk-sk-", "://sk-:sk-",
    "1", "1.", "1 ", "1-", "12 34 ", "4242 ", "4242-", "a@", "a@a.", "a.", "@", "(", "((1", "+1", "+", ":", "::",
    "1:", "a:b", "::1", "sk-", "sk-sk-", "ghp_", "eyJ", "eyJeyJ", "eyJ.", "-----BEGIN ",
    "-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----A", "password=", "password='", "key: ",
    "api_key=a", "pass", "token", "Bearer ", "://", "://a:", "://a:b@", "http://a:", "x@x.co ", "\u200b", "1\u200b",
    "４", "＠", "%40", "é@", "DE89", "GB82WEST", "DE89 3704 ", "\\n1", "SG.", "AKIA", "0 0 ", "01 ", ".5.5", "a1b2",
    '"password","', "\\\\\\", "Authorization: ", "AZDO", "+ASt", "Q~", ":AA", "1//0",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_time_is_linear_in_hostile_text(piece: str) -> None:
    """Eight times the text takes about eight times as long (quadratic would be 64), and no byte takes a microsecond."""
    small = (piece * (1 + 40_000 // len(piece))).encode()
    large = small * 8

    def cost(text: bytes) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            ALL.find(text)
            best = min(best, time.thread_time() - start)
        return best

    few, many = cost(small), cost(large)
    assert many < 20 * few + 0.002
    assert many / len(large) < 1e-6


def test_time_is_linear_in_a_mixture_of_it() -> None:
    text = "".join(random.Random(7).choices(HOSTILE, k=100_000)).encode()
    start = time.thread_time()
    check(text)
    assert (time.thread_time() - start) / len(text) < 5e-7
