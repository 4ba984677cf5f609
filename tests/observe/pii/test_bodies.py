"""Bodies of every form."""

from __future__ import annotations

import json
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.views import apply
from lunaroute.observe.pii.bodies import Bodies
from lunaroute.observe.pii.forms import FAILED
from tests.observe.pii import plain
from tests.observe.pii.plain import PLANTED, token

MAIL = "alice.b@corp.com"
TOKEN = token("email", MAIL)


def bodies(**more: object) -> Bodies:
    return Bodies(plain.rules(**more), plain.texts(**more))


def redacted(body: bytes, kind: str = "", **more: object) -> bytes:
    return apply(body, bodies(**more).edits(body, kind))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f'{{"a":"{MAIL}"}}', "application/json"),
        (f'{{"a":"{MAIL}"}}', "text/html"),
        (f'{{"a":"{MAIL}"}}\n{{"a":"{MAIL}"}}\n', "application/x-ndjson"),
        (f'"{MAIL}"', ""),
        (f"\ufeff{{\"a\":\"{MAIL}\"}}", ""),
        (f"<html>{MAIL}</html>", "text/html"),
        (f"data: {MAIL}\n\n", "text/event-stream"),
        (f": {MAIL}\n\ndata: x\n\n", ""),
        (f'event: a\ndata: {{"a":"{MAIL}"}}\n\n', "application/json"),
        (f"id: {MAIL}\nevent: {MAIL}\nretry: 5\ndata: 1\n\n", "text/event-stream"),
        (f"broken {{ {MAIL}", "application/json"),
        (f"{{ broken {MAIL}", "application/json"),
        (f"From {MAIL} to {MAIL}", ""),
        (f"a,b\n{MAIL},{MAIL}\n", "text/csv"),
    ],
)  # fmt: skip
def test_what_a_body_is_it_says_itself(body: str, kind: str) -> None:
    assert redacted(body.encode(), kind).decode() == body.replace(MAIL, TOKEN)


def test_nothing() -> None:
    assert redacted(b"") == b""


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "user mail", "password", MAIL]), st.sampled_from([MAIL, "x & y", "1+1=2", ""])),
        min_size=1,
        max_size=4,
    )
)
def test_forms(pairs: list[tuple[str, str]]) -> None:
    body = urlencode(pairs).encode()
    made = parse_qsl(
        redacted(body, "application/x-www-form-urlencoded; charset=utf-8").decode(), keep_blank_values=True
    )

    def kept(name: str, value: str) -> str:
        if name == "password" and value:
            return token("secret", value)
        return value.replace(MAIL, TOKEN)

    assert made == [(name.replace(MAIL, TOKEN), kept(name, value)) for name, value in pairs]


def test_parts() -> None:
    lines = [
        "--b-1", 'Content-Disposition: form-data; name="purpose"', "", f"for {MAIL}",
        "--b-1", f'Content-Disposition: form-data; name="file"; filename="{MAIL}.json"',
        "Content-Type: application/json", "", '{"a": "\\u0061lice.b@corp.com", "n": 4111111111111111}',
        "--b-1", 'Content-Disposition: form-data; name="image"; filename="a.png"', "Content-Type: image/png", "",
        "\x89PNG\0\1", "--b-1--", "",
    ]  # fmt: skip
    body = "\r\n".join(lines).encode("latin-1")
    kind = 'multipart/form-data; boundary="b-1"'
    made = redacted(body, kind)
    assert b"corp.com" not in made and b"PNG\0" not in made
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + made)
    assert isinstance(message, EmailMessage)
    first, second, third = message.iter_parts()
    assert first.get_content().strip() == f"for {TOKEN}"
    assert json.loads(second.get_payload(decode=True)) == {"a": TOKEN, "n": token("credit_card", "4111111111111111")}  # type: ignore[arg-type]
    assert second.get_filename() == f"{TOKEN}.json"
    assert third.get_payload().strip().startswith("[BINARY image/png 6 bytes sha256:")  # type: ignore[union-attr]
    assert b"\x89PNG\0\1" in redacted(body, kind, binary="keep")


@pytest.mark.parametrize("body", [b"", b"--b", b"--b--", b"--b\r\n", f"--b\n\n{MAIL}\n--b--".encode(), MAIL.encode()])
def test_odd_parts(body: bytes) -> None:
    assert redacted(body, "multipart/mixed; boundary=b") == body.replace(MAIL.encode(), TOKEN.encode())


def test_parts_in_parts() -> None:
    inner = f"--i\r\n\r\n{MAIL}\r\n--i--"
    body = f"--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n{inner}\r\n--o--\r\n"
    assert redacted(body.encode(), "multipart/mixed; boundary=o").decode() == body.replace(MAIL, TOKEN)


def test_bytes_that_are_no_text_are_left_out_or_looked_through_as_they_are() -> None:
    body = b"\x7fELF\0\0" + MAIL.encode() + b"\0\xff"
    assert redacted(body).startswith(b"[BINARY 24 bytes sha256:")
    assert redacted(body, binary="keep") == body.replace(MAIL.encode(), TOKEN.encode())


def test_a_fault_anywhere_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bodies()
    monkeypatch.setattr(made._texts, "events", lambda body: 1 / 0)
    body = f"data: {MAIL}\n\n".encode()
    assert apply(body, made.edits(body)) == FAILED
    assert made._texts.failures == 1


@pytest.mark.parametrize(
    "kind", ["", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/event-stream"]
)
@given(body=st.binary(max_size=120))
def test_no_bytes_are_too_strange(kind: str, body: bytes) -> None:
    made = bodies()
    apply(body, made.edits(body, kind))
    assert made._texts.failures == 0


@given(
    st.lists(
        st.sampled_from(
            [b"--b", b"\r\n", b"\n", b"--", b"content-type: text/event-stream", b"data: ", MAIL.encode(), b" "]
        ),
        max_size=14,
    )
)
def test_no_parts_are_too_strange(parts: list[bytes]) -> None:
    body = b"".join(parts)
    made = redacted(body, "multipart/mixed; boundary=b")
    assert b"alice.b@corp.com" not in made
    assert all(value.encode() not in made for _, value in PLANTED)
