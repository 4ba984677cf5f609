"""Records: every field that reaches a disk, whatever is in it; and what is left where the redactor fails."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.cuts import cut
from lunaroute.observe.pii.forms import FAILED
from lunaroute.records import (
    Attempt,
    Closed,
    Exchange,
    Finding,
    Limit,
    Opened,
    State,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    UsagePart,
)
from tests.observe.pii import plain
from tests.observe.pii.plain import PLANTED, token

MAIL, CARD = "alice.b@corp.com", "4111111111111111"
TOKEN = token("email", MAIL)


def exchange(**more: Any) -> Exchange:
    return Exchange(id="b-1", session_id="s-1", started_at="2026-01-01 00:00:00.000", started_ns=1, **more)


def full(mail: str) -> Exchange:
    """An exchange with a mail address in each of its fields."""
    return exchange(
        sequence=3,
        title=f"About {mail}",
        project=f"/home/{mail}",
        state=State.UPSTREAM_ERROR,
        error=f"no such user {mail}",
        error_kind=mail,
        method=mail,
        target=f"/v1/x/{mail}?user={mail}&{mail}=1",
        reason=mail,
        client=mail,
        client_version=mail,
        model_requested=mail,
        model_used=mail,
        stop_reason=mail,
        response_id=mail,
        cache_miss_reason=mail,
        usage=Usage(input_tokens=7, service_tier=mail, speed=mail, parts=[UsagePart(kind=mail, model=mail)]),
        attempts=[Attempt(number=1, provider="openai", origin="https://x", error=mail)],
        request_headers=[("x-user", mail), (mail, "1")],
        response_headers=[("x-user", mail)],
        request_body=json.dumps({"messages": [{"role": "user", "content": mail}]}).encode(),
        response_body=json.dumps({"content": [{"type": "text", "text": mail}]}).encode(),
        request_decode_error=mail,
        tool_calls=[ToolCall(id=mail, name=mail, kind=mail, arguments=json.dumps({"to": mail}),
                             result=ToolResult(id=mail, text=mail))],
        tool_results=[ToolResult(id=mail, text=mail)],
        texts=[Text(kind="prompt", text=mail), Text(kind="answer", text=f"hi {mail}")],
        limits=[Limit(name=mail, status=mail)],
        request_sha256="00" * 32,
        response_sha256="11" * 32,
        cuts=cut(b"{}"),
        cost_usd=0.5,
    )  # fmt: skip


def test_every_field() -> None:
    given_record = full(MAIL)
    before = msgspec.json.encode(msgspec.structs.replace(given_record, cuts=None))
    made = plain.redactor().exchange(given_record)
    assert msgspec.json.encode(msgspec.structs.replace(given_record, cuts=None)) == before, "the old one is as it was"
    expected = full(TOKEN)
    expected.request_sha256 = expected.response_sha256 = expected.cuts = None
    expected.request_altered = expected.response_altered = True
    expected.found = [
        Finding(place="request", kind="email", name="email", digest=TOKEN[7:-1], count=6),
        Finding(place="response", kind="email", name="email", digest=TOKEN[7:-1], count=2),
    ]
    assert made == expected


def test_every_field_that_there_is_is_looked_at() -> None:
    """A field that somebody adds is looked at without being named here, or fails here."""
    strings = {field.name for field in msgspec.structs.fields(Exchange) if "str" in str(field.type)}
    own = {"id", "session_id", "started_at", "signal", "parent_session_id", "http_version", "provider", "dialect",
           "transport", "kind", "continues", "cost_kind", "price_id", "credential", "request_sha256", "response_sha256",
           "response_decode_error"}  # fmt: skip
    said = full("<mark>")
    for name in strings - own:
        assert "<mark>" in str(getattr(said, name)), f"{name} has no mark"


def test_what_has_nothing_in_it_is_the_same() -> None:
    record = exchange(
        state=State.OK, method="POST", target="/v1/messages?beta=true", request_body=b'{"a":1}', cuts=cut(b'{"a":1}'),
        request_sha256="00" * 32, request_headers=[("user-agent", "claude-cli/2.1.34")], response_body=b"data: x\n\n",
        texts=[Text(kind="prompt", text="hello")], tool_calls=[ToolCall(id="toolu_01", name="Bash")],
    )  # fmt: skip
    made = plain.redactor().exchange(record)
    assert made == record
    assert made.cuts is record.cuts
    assert made.texts is record.texts


def test_the_other_records() -> None:
    redactor = plain.redactor()
    opened = Opened(
        id="b-1", session_id=None, started_at="x", started_ns=1, method="GET", target=f"/a?q={MAIL}", provider="openai"
    )
    closed = Closed(id="b-1", session_id="s", state=State.INTERRUPTED, error=f"of {MAIL}")
    made = redactor.records([opened, closed])
    assert made == [
        msgspec.structs.replace(opened, target=f"/a?q={TOKEN}"), msgspec.structs.replace(closed, error=f"of {TOKEN}"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/messages?beta=true&", "/v1/messages?beta=true&"),
        ("/u/alice.b%40corp.com/x", f"/u/{TOKEN}/x"),
        ("/x?mail=alice.b%40corp.com&ok=%20", f"/x?mail={TOKEN}&ok=%20"),
        ("/x?password=hunter2", f"/x?password={token('secret', 'hunter2')}"),
        ("/x?a=1?b=2#c", "/x?a=1?b=2#c"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_targets(target: str, kept: str) -> None:
    assert plain.redactor().target(target) == kept


def test_a_header_says_by_its_name_what_it_has() -> None:
    made = plain.redactor().fields([("X-Password", "hunter2"), ("X-Ok", "hunter2"), ("a", json.dumps({"to": MAIL}))])
    assert made == [
        ("X-Password", token("secret", "hunter2")), ("X-Ok", "hunter2"), ("a", json.dumps({"to": TOKEN})),
    ]  # fmt: skip


def test_what_comes_again_is_found_again() -> None:
    redactor = plain.redactor()
    for _ in range(3):
        made = redactor.exchange(exchange(state=State.OK, request_headers=[("x", MAIL)], target=f"/{MAIL}"))
        assert [each.count for each in made.found] == [2]
    assert redactor.counts == {("request", "email"): 6}


def test_only_what_has_ended_is_counted() -> None:
    redactor = plain.redactor()
    redactor.exchange(exchange(target=f"/{MAIL}"))
    assert not redactor.counts


def test_names_of_sessions() -> None:
    redactor = plain.redactor()
    assert redactor.session("0199a213-81c0-7800-8aa1-bbab2a035a53") == "0199a213-81c0-7800-8aa1-bbab2a035a53"
    other = redactor.session(CARD)
    assert other.startswith("redacted-") and CARD not in other and other == redactor.session(CARD)
    assert plain.redactor(enabled=False).session("sk-test-a1B2c3D4e5F6g7H8i9").startswith("redacted-")


def test_only_secrets_are_redacted_where_the_rest_is_off() -> None:
    def find(text: bytes, context: bytes = b"") -> list[tuple[int, int, str, str]]:
        kinds = plain.rules(enabled=False).kinds
        return [each for each in plain.find(text, context) if each[2] in kinds]

    redactor = plain.redactor(find, enabled=False, binary="drop")
    secret = "sk-test-a1B2c3D4e5F6g7H8i9"
    made = redactor.exchange(exchange(request_body=f'{{"a":"{MAIL} {secret}","data":"{"A" * 400}"}}'.encode()))
    assert json.loads(made.request_body) == {"a": f"{MAIL} {token('secret', secret)}", "data": "A" * 400}


def test_switched_off_as_a_whole() -> None:
    def never(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
        raise AssertionError("nothing is to be looked for")

    record = full(MAIL)
    assert plain.redactor(never, enabled=False, redact_secrets=False).records([record])[0] is record


# --- faults ---------------------------------------------------------------------------------------------------
def broken(text: bytes, context: bytes) -> list[tuple[int, int, str, str]]:
    raise RuntimeError("a fault")


def test_where_nothing_can_be_looked_through_nothing_is_kept() -> None:
    redactor = plain.redactor(broken)
    made = redactor.record(full(MAIL))
    assert isinstance(made, Exchange)
    assert MAIL not in str(made)
    assert "corp" not in str(made)
    assert made.usage.input_tokens == 7 and made.cost_usd == 0.5 and made.state is State.UPSTREAM_ERROR
    assert made.title == FAILED.decode()
    assert json.loads(made.request_body) == {"messages": [{"role": "user", "content": FAILED.decode()}]}
    assert redactor.failed > 10


@pytest.mark.parametrize("part", ["body", "fields", "target", "_parts", "_any"])
def test_a_fault_of_our_own(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    redactor = plain.redactor()
    monkeypatch.setattr(redactor, part, lambda *given, **more: 1 / 0)
    for record in (
        full(MAIL),
        Opened(id="b-1", session_id=None, started_at="x", started_ns=1, method=MAIL, target=MAIL),
        Closed(id="b-1", session_id="s", state=State.OK, error=MAIL),
    ):
        made = redactor.record(record)
        if part not in ("body", "fields") or isinstance(record, Exchange):
            assert "corp" not in str(made) or (part == "target" and isinstance(record, Closed))
        if isinstance(made, Exchange):
            assert made.request_body == made.response_body == FAILED and made.usage.input_tokens == 7
    assert redactor.failed


VALUES = st.sampled_from([value for _, value in PLANTED])


@given(VALUES, st.sampled_from(["title", "error", "target", "reason", "model_used", "stop_reason", "response_id"]))
def test_no_value_is_left_in_any_field(value: str, field: str) -> None:
    made = plain.redactor().record(exchange(**{field: f"/x {value} y"}))
    assert value not in str(made)


@pytest.mark.parametrize(
    ("body", "error", "kept"),
    [
        (b"\x1f\x8b\x08\0" + bytes(range(128, 256)) * 4, "the gzip data is broken", False),
        (bytes(range(128, 256)) * 4, "the content coding 'x' is unknown", False),
        (b'{"a":"plain"}', "the content coding 'aws-chunked' is unknown", True),
        ('{"a":"caf\u00e9"}'.encode()[:-3], "the gzip data ends early", True),
        (bytes(range(128, 256)), None, True),
    ],
)
def test_what_is_still_coded_cannot_be_looked_through(body: bytes, error: str | None, kept: bool) -> None:
    redactor = plain.redactor(binary="keep")
    made = redactor.exchange(exchange(request_body=body, request_decode_error=error))
    assert made.request_body == (body if kept else FAILED)
    assert redactor.failed == (not kept)


def test_a_text_of_wide_characters_cannot_be_looked_through() -> None:
    redactor = plain.redactor(enabled=False)
    fields = [("Content-Type", "application/json; charset=UTF-16")]
    made = redactor.exchange(exchange(request_body=MAIL.encode("utf-16"), request_headers=fields))
    assert made.request_body == FAILED and redactor.failed == 1
