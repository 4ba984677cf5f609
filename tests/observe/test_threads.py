"""Conversations of clients that send no signal: a table of what continues what, over both forms of every dialect."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.dialects.canonical import conversation
from lunaroute.observe.answers import Answers, Place
from lunaroute.observe.heads import read_head
from lunaroute.observe.threads import (
    IDLE_NS,
    MAX_MARKS,
    OPENING_NS,
    Memo,
    Threads,
    Trail,
    answer_marks,
    fingerprint,
    marks_of,
    scope_of,
    trail_of,
)

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
SCOPE = b"s" * 16
LONG = "The function reads the file twice, once for its size and once for its content, which is why it is slow."
SYSTEM = "You are a careful assistant."
Turn = dict[str, Any]
Body = dict[str, Any]


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def model(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def ask(*messages: Turn, system: Any = SYSTEM, **more: Any) -> Body:
    return {"model": "m", "system": system, "messages": list(messages), **more}


def trail(body: Body | bytes, scope: bytes = SCOPE) -> Trail:
    return trail_of(scope, marks_of(body if isinstance(body, bytes) else json.dumps(body).encode(), Memo()))


class Proxy:
    """A client's requests as the observer would seat them."""

    def __init__(self, recall: Callable[[bytes], tuple[str, int, bool] | None] | None = None) -> None:
        self.threads = Threads(recall)
        self.now = WALL
        self.count = 0
        self.stored: dict[bytes, tuple[str, int, bool]] = {}

    def send(self, body: Body, answer: str = "", *, scope: bytes = SCOPE, after: int = SECOND) -> str:
        self.now += after
        self.count += 1
        found = trail(body, scope)
        session = self.threads.find(found, self.now) or f"session-{self.count}"
        tip = self.threads.asked(session, found, self.now)
        if tip is not None:
            self.stored[tip] = (session, self.now, bool(answer))
        if answer:
            reply = json.dumps({"type": "message", "content": [{"type": "text", "text": answer}]}).encode()
            said = conversation("anthropic", b"", reply).answer
            assert said is not None
            self.threads.answered(session, found, answer_marks(said), self.now)
        return session


A, B = user("why is it slow?"), user("make it fast")
HOUR = 3600 * SECOND
# (id, requests with the answer to each and the seconds before it, the number of the session that each must get)
Step = tuple[Body, str, int]
TABLE: list[tuple[str, list[Step], list[int]]] = [
    ("goes-on", [(ask(A), LONG, 1), (ask(A, model(LONG), B), "", 1)], [1, 1]),
    ("goes-on-after-a-restless-night", [(ask(A), LONG, 1), (ask(A, model(LONG), B), "", 23 * 3600)], [1, 1]),
    ("too-late", [(ask(A), LONG, 1), (ask(A, model(LONG), B), "", 25 * 3600)], [1, 2]),
    ("answer-rewritten", [(ask(A), LONG, 1), (ask(A, model("something else"), B), "", 60)], [1, 1]),
    ("answer-rewritten-and-late", [(ask(A), LONG, 1), (ask(A, model("something else"), B), "", 3600)], [1, 2]),
    ("answer-unknown", [(ask(A), "", 1), (ask(A, model(LONG), B), "", 60)], [1, 1]),
    ("retry", [(ask(A), "", 1), (ask(A), "", 5), (ask(A), LONG, 60)], [1, 1, 1]),
    ("retry-too-late", [(ask(A), "", 1), (ask(A), "", 1801)], [1, 2]),
    ("fork", [
        (ask(A), LONG, 1),
        (ask(A, model(LONG), B), "x", 9),
        (ask(A, model(LONG), user("no")), "", 9),
    ], [1, 1, 1]),
    ("fork-of-a-late-turn", [
        (ask(A), LONG, 1),
        (ask(A, model(LONG), B), LONG * 2, 1),
        (ask(A, model(LONG), B, model(LONG * 2), user("on")), "", 1),
        (ask(A, model(LONG), B, model(LONG * 2), user("back")), "", 4 * 3600),
    ], [1, 1, 1, 1]),
    ("same-system-only", [(ask(A), LONG, 1), (ask(B), "", 1)], [1, 2]),
    ("same-question-other-system", [(ask(A), LONG, 1), (ask(A, system="You classify."), "", 1)], [1, 2]),
    ("two-at-once", [
        (ask(A), LONG, 1),
        (ask(B), LONG * 2, 1),
        (ask(A, model(LONG), user("and?")), "", 1),
        (ask(B, model(LONG * 2), user("and?")), "", 1),
    ], [1, 2, 1, 2]),
    ("same-opening-told-apart-by-the-answer", [
        (ask(A), LONG, 1),
        (ask(A), LONG * 2, 2000),
        (ask(A, model(LONG), B), "", 1),
        (ask(A, model(LONG * 2), B), "", 1),
    ], [1, 2, 1, 2]),
    ("system-prompt-with-the-time", [
        (ask(A, system="It is 10:01."), LONG, 1),
        (ask(A, model(LONG), B, system="It is 10:02."), "", 1),
    ], [1, 1]),
    ("history-rewritten-before-the-answer", [
        (ask(user("repo map 1"), A, user("reminder")), LONG, 1),
        (ask(user("repo map 2, longer"), A, model(LONG), B, user("reminder")), "", 1),
    ], [1, 1]),
    ("short-answers-prove-nothing", [
        (ask(user("one, please")), "Done.", 1),
        (ask(user("two, please")), "Done.", 1),
        (ask(user("x"), model("Done."), user("more"), system="other"), "", 1),
    ], [1, 2, 3]),
    ("short-answer-to-a-long-question", [
        (ask(user(LONG), system="at 1"), "Done.", 1),
        (ask(user(LONG), model("Done."), user("more"), system="at 2"), "", 1),
    ], [1, 1]),
    ("few-shot-examples-in-common", [
        (ask(A, model(LONG), user("first")), "", 1),
        (ask(A, model(LONG), user("second")), "", 1),
    ], [1, 2]),
    ("words-put-in-its-mouth", [
        (ask(A, model("{")), LONG, 1),
        (ask(A, model("{" + LONG), B), "", 1),
    ], [1, 1]),
    ("one-shots", [(ask(A), LONG, 1), (ask(A), LONG, 1), (ask(A), "Done.", 1), (ask(A), "", 1)], [1, 2, 3, 4]),
    ("retry-of-a-second", [(ask(A), LONG, 1), (ask(A), "", 1), (ask(A), "", 1), (ask(A), LONG, 1)], [1, 2, 2, 2]),
    ("same-opening-and-short-answers", [
        (ask(A), "Yes.", 1),
        (ask(A), "No.", 1),
        (ask(A, model("Yes."), B), "ok", 1),
        (ask(A, model("No."), B), "ok", 1),
        (ask(A, model("Yes."), B, model("ok"), A), "", 1),
        (ask(A, model("No."), B, model("ok"), A), "", 1),
    ], [1, 2, 1, 2, 1, 2]),
    ("same-opening-and-answer", [
        (ask(A), "Yes.", 1),
        (ask(A), "Yes.", 1),
        (ask(A, model("Yes."), user("one")), "ok", 1),
        (ask(A, model("Yes."), user("two")), "ok", 1),
        (ask(A, model("Yes."), user("one"), model("ok"), B), "ok", 1),
        (ask(A, model("Yes."), user("two"), model("ok"), B), "ok", 1),
        (ask(A, model("Yes."), user("one"), model("ok"), B, model("ok"), A), "", 1),
    ], [1, 2, 2, 1, 2, 1, 2]),
    ("the-same-conversation-twice", [
        *[(ask(A), LONG, 1), (ask(A, model(LONG), B), LONG, 1), (ask(A, model(LONG), B, model(LONG), A), LONG, 1)] * 2
    ], [1, 1, 1, 4, 4, 4]),
    ("asked-again-in-the-middle", [
        (ask(A), LONG, 1),
        (ask(A, model(LONG), B), LONG, 1),
        (ask(A, model(LONG), B), LONG, 1),
    ], [1, 1, 1]),
    ("a-side-question-after-each-turn", [
        (ask(A), LONG, 1),
        (ask(A, model(LONG), user("what next?")), "x", 1),
        (ask(A, model(LONG), B), LONG, 1),
        (ask(A, model(LONG), B, model(LONG), user("what next?")), "x", 1),
        (ask(A, model(LONG), B, model(LONG), A), "x", 1),
        (ask(A, model(LONG), B, model(LONG), A, model("x"), user("what next?")), "x", 1),
    ], [1] * 6),
    ("branches-that-go-on", [
        (ask(A), LONG, 1),
        (ask(A, model(LONG), user("one")), "ok", 1),
        (ask(A, model(LONG), user("two")), "ok", 1),
        (ask(A, model(LONG), user("one"), model("ok"), B), "x", 1),
        (ask(A, model(LONG), user("two"), model("ok"), B), "x", 1),
        (ask(A, model(LONG), user("two"), model("ok"), B, model("x"), A), "x", 1),
        (ask(A, model(LONG), user("three")), "x", 1),
        (ask(A, model(LONG), user("one"), model("ok"), B, model("x"), A), "x", 1),
    ], [1, 1, 1, 1, 5, 5, 7, 1]),
    ("nothing-said", [(ask(), "", 1), (ask(), "", 1)], [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "sessions"), [c[1:] for c in TABLE], ids=[c[0] for c in TABLE])
def test_which_session(steps: list[Step], sessions: list[int]) -> None:
    proxy = Proxy()
    found = [proxy.send(body, answer, after=after * SECOND) for body, answer, after in steps]
    assert found == [f"session-{number}" for number in sessions]


def test_two_users_are_two_even_with_the_same_words() -> None:
    proxy = Proxy()
    one = proxy.send(ask(A), LONG)
    two = proxy.send(ask(A), LONG, scope=b"t" * 16)
    assert one != two
    assert proxy.send(ask(A, model(LONG), B)) == one
    assert proxy.send(ask(A, model(LONG), B), scope=b"t" * 16) == two


def test_a_restart_finds_the_session_by_its_one_hash() -> None:
    before = Proxy()
    session = before.send(ask(A), LONG)
    before.send(ask(A, model(LONG), B), LONG * 2)
    newest = list(before.stored)[-1:]  # a session keeps the hash of its newest request
    known = {tip: before.stored[tip] for tip in newest}
    asked: list[bytes] = []

    def recall(each: bytes) -> tuple[str, int, bool] | None:
        asked.append(each)
        return known.get(each)

    after = Proxy(recall)
    after.count = 100
    assert after.send(ask(A, model(LONG), B, model(LONG * 2), user("on"))) == session
    asked.clear()
    assert after.send(ask(A, model(LONG), B, model(LONG * 2), user("on"), model("x"), user("y"))) == session
    assert asked == []
    assert after.send(ask(user("quite another thing"))) == "session-103"
    assert len(asked) == 1


def test_what_is_recalled_can_be_too_old() -> None:
    tip = trail(ask(A, model("x"), B)).tip
    proxy = Proxy(lambda each: ("old", WALL - IDLE_NS, True) if each == tip else None)
    assert proxy.send(ask(A, model("x"), B)) == "session-1"
    opening = trail(ask(A)).tip
    proxy = Proxy(lambda each: ("old", WALL - OPENING_NS // 2, False) if each == opening else None)
    assert proxy.send(ask(A)) == "old"
    proxy = Proxy(lambda each: ("old", WALL - 1, True) if each == opening else None)
    assert proxy.send(ask(A)) == "session-1", "answered: it is asked anew"


def test_the_store_is_asked_little_however_long_a_history_is() -> None:
    asked: list[bytes] = []
    threads = Threads(asked.append)
    turns = [turn for n in range(200) for turn in (user(f"{n}"), model(f"{n} {LONG}"))]
    assert threads.find(trail(ask(*turns, A)), WALL) is None
    assert 0 < len(asked) <= 9


def test_memory_is_bounded() -> None:
    threads = Threads(known=10)
    for number in range(100):
        threads.asked(f"s{number}", trail(ask(user(f"{number}"))), WALL)
        assert len(threads) <= 10
        threads.find(trail(ask(user("0"), model("x"), B)), WALL)  # what is met stays
    assert threads.find(trail(ask(user("0"), model("x"), B)), WALL) == "s0"
    assert threads.find(trail(ask(user("50"))), WALL) is None


# --- what is the same ---------------------------------------------------------------------------------
CACHE = {"cache_control": {"type": "ephemeral"}}
CALL = {"type": "tool_use", "id": "toolu_01A9kPqRs", "name": "Bash", "input": {"a": 1, "b": 2}}
SAME: list[tuple[str, str, Any, Any]] = [
    ("string-or-block", "messages", user("hi"), {"role": "user", "content": [{"type": "text", "text": "hi"}]}),
    ("cache-control", "messages", user("hi"), {"role": "user", "content": [{"type": "text", "text": "hi", **CACHE}]}),
    ("blanks-at-the-ends", "messages", user("hi"), user(" hi\n")),
    ("key-order", "messages", user("hi"), {"content": "hi", "role": "user"}),
    ("other-keys", "messages", user("hi"), {**user("hi"), "output_config": {"effort": "low"}}),
    ("system-string-or-block", "system", "be good", [{"type": "text", "text": "be good", **CACHE}]),
    (
        "billing-header",
        "system",
        [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.a1f;"}, {"text": "be good"}],
        [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.9e0;"}, {"text": "be good"}],
    ),
    (
        "thinking",
        "messages",
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"text": "hi"}]},
        model("hi"),
    ),
    (
        "tool-arguments-of-a-known-call",
        "messages",
        {"role": "assistant", "content": [CALL]},
        {"role": "assistant", "content": [{**CALL, "input": {"b": 2, "a": 1.0}, **CACHE}]},
    ),
    (
        "tool-arguments-in-another-order",
        "messages",
        {"role": "assistant", "content": [{**CALL, "id": "0"}]},
        {"role": "assistant", "content": [{**CALL, "id": "0", "input": {"b": 2, "a": 1}}]},
    ),
    (
        "tool-result",
        "messages",
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "out"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"text": "out"}]}]},
    ),
    (
        "chat-and-messages",
        "messages",
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_01A9kPqRs", "function": {"name": "Bash"}}]},
        {"role": "assistant", "content": [{**CALL, "id": "call_01A9kPqRs"}]},
    ),
    ("input-item-or-string", "input", "hi", {"type": "message", "role": "user", "content": [{"text": "hi"}]}),
    ("reasoning-is-nothing", "input", {"type": "reasoning", "encrypted_content": "x"}, {"role": "user", "content": ""}),
]  # fmt: skip
DIFFERENT: list[tuple[str, str, Any, Any]] = [
    ("words", "messages", user("hi"), user("ho")),
    ("side", "messages", user("hi"), model("hi")),
    ("inner-blanks", "messages", user("a b"), user("a  b")),
    (
        "call",
        "messages",
        {"role": "assistant", "content": [CALL]},
        {"role": "assistant", "content": [{**CALL, "id": "x" * 20}]},
    ),
    (
        "images",
        "messages",
        {"role": "user", "content": [{"type": "image", "source": {"data": "aa"}}]},
        {"role": "user", "content": [{"type": "image", "source": {"data": "bb"}}]},
    ),
    (
        "results",
        "input",
        {"type": "function_call_output", "call_id": "c", "output": "1"},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("raw", [False, True], ids=["value", "json"])
@pytest.mark.parametrize(("key", "one", "two"), [c[1:] for c in SAME], ids=[c[0] for c in SAME])
def test_what_is_the_same(key: str, one: Any, two: Any, raw: bool) -> None:
    assert fingerprint(key, json.dumps(one).encode() if raw else one) == fingerprint(key, two)


@pytest.mark.parametrize(("key", "one", "two"), [c[1:] for c in DIFFERENT], ids=[c[0] for c in DIFFERENT])
def test_what_is_not(key: str, one: Any, two: Any) -> None:
    assert fingerprint(key, one) != fingerprint(key, two)


CALLED = {"type": "function_call", "call_id": "call_01A9kPqRs", "name": "sh", "arguments": '{"a":1}'}
WORDS = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": LONG}]}
REASONED = {"type": "reasoning", "id": "rs_1", "summary": []}
TOOL = {"id": "call_01A9kPqRs", "type": "function", "function": {"name": "sh", "arguments": '{"a": 1}'}}
ANSWERS: list[tuple[str, Body, list[Turn]]] = [
    (
        "anthropic",
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": LONG}, CALL]},
        [{"role": "assistant", "content": [{"type": "text", "text": LONG}, {**CALL, "input": {"b": 2, "a": 1}}]}],
    ),
    (
        "chat",
        {"choices": [{"message": {"role": "assistant", "content": LONG, "tool_calls": [TOOL]}}]},
        [{"role": "assistant", "content": LONG, "tool_calls": [TOOL]}],
    ),
    ("responses", {"object": "response", "output": [REASONED, WORDS, CALLED]}, [WORDS, CALLED]),
]


@pytest.mark.parametrize(("dialect", "reply", "resent"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_an_answer_is_known_when_it_comes_back(dialect: str, reply: Body, resent: list[Turn]) -> None:
    """Although nothing before it is as it was."""
    key = "input" if dialect == "responses" else "messages"
    threads = Threads()
    first = trail({key: [user("question")]})
    said = conversation(dialect, b"", json.dumps(reply).encode()).answer
    assert said is not None
    assert threads.answered("mine", first, answer_marks(said), WALL) is not None
    later = trail({key: [user("another frame"), user("question"), *resent, user("on")]})
    assert threads.find(later, WALL + SECOND) == "mine"
    assert threads.find(trail({key: [user("question"), user("on")]}), WALL) is None


def test_responses_as_input_items() -> None:
    threads = Threads()
    said = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "You are"}]}
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list files"}]}
    done = {"type": "function_call_output", "call_id": "call_01A9kPqRs", "output": "a b"}
    threads.asked("mine", trail({"input": [said, asked]}), WALL)
    again = trail({"input": [said, asked, REASONED, CALLED, done]})
    assert threads.find(again, WALL) == "mine"
    assert again.places == trail({"input": [said, asked, CALLED, done]}).places


# --- scope --------------------------------------------------------------------------------------------
KEY = b"k" * 32


def scope(*fields: str, client: str | None = "aider", dialect: str = "chat", key: bytes = KEY) -> bytes:
    head = read_head(("POST / HTTP/1.1\r\n" + "".join(f"{f}\r\n" for f in fields)).encode())
    return scope_of(head, client, dialect, key)


def token(subject: str, number: int) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"iss": "i", "sub": subject, "iat": number}).encode()).decode()
    return f"Authorization: Bearer eyJh.{claims.rstrip('=')}.sig{number}"


ALICE = "Authorization: Bearer sk-alice-0000000000"
SCOPES: list[tuple[str, bytes, bool]] = [
    ("itself", scope(ALICE), True),
    ("other-headers", scope("accept: */*", ALICE, "x-request-id: 5"), True),
    ("other-key", scope("Authorization: Bearer sk-bob-0000000000"), False),
    ("other-header-of-the-same-value", scope("x-api-key: Bearer sk-alice-0000000000"), False),
    ("other-client", scope(ALICE, client="zed"), False),
    ("no-client", scope(ALICE, client=None), False),
    ("other-dialect", scope(ALICE, dialect="anthropic"), False),
    ("other-secret", scope(ALICE, key=b"x" * 32), False),
    ("access-token-of-the-team", scope(ALICE, "x-lunaroute-token: bob"), False),
]


@pytest.mark.parametrize(("other", "same"), [c[1:] for c in SCOPES], ids=[c[0] for c in SCOPES])
def test_scopes(other: bytes, same: bool) -> None:
    assert (scope(ALICE) == other) is same


def test_a_renewed_login_is_the_same_person() -> None:
    assert scope(token("alice", 1)) == scope(token("alice", 2)) != scope(token("bob", 1))
    account = "chatgpt-account-id: acc-1"
    assert scope(account, "authorization: Bearer a") == scope(account, "authorization: Bearer b")


@pytest.mark.parametrize("value", ["a.b.c", "a.!!.c", "..", "a.e30.c", f"a.{'x' * 40_000}.c", "a.W10.c"])
def test_what_only_looks_like_a_login(value: str) -> None:
    assert scope(f"authorization: {value}") == scope(f"authorization: {value}") != scope("authorization: other")


# --- hostile ------------------------------------------------------------------------------------------
ODD: list[Any] = [
    *(None, 5, "x", [], {}, [[]], [None], {"role": 5}, {"content": {"text": 5}}, {"type": []}, {"tool_calls": 5}),
    {"content": [5, None, {"type": "tool_use", "id": [], "input": float("inf")}]},
    {"role": "tool", "content": [5]},
    {"content": "\ud800"},
    {"type": "x_call", "arguments": "\ud800"},
    {"type": "function_call_output", "output": [[]]},
]
WORDS = st.sampled_from(["tool_use", "assistant", "text", "x_call", "tool_result", "a", " "])
NAMES = st.sampled_from(["role", "content", "type", "text", "tool_calls", "id", "input"])
values = st.recursive(
    st.none() | st.integers(0, 3) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("key", ["system", "instructions", "messages", "input", "other"])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:24])
def test_odd_elements(key: str, odd: Any) -> None:
    assert trail_of(SCOPE, fingerprint(key, odd)) == trail_of(SCOPE, fingerprint(key, odd))
    body = json.dumps({key: odd}).encode()
    assert trail(body) == trail(body)


@given(st.dictionaries(st.sampled_from(["system", "messages", "input", "instructions"]), values))
def test_any_body_twice_is_one_conversation(body: dict[str, Any]) -> None:
    memo, raw = Memo(200), json.dumps(body).encode()
    first = trail_of(SCOPE, marks_of(raw, memo))
    assert first == trail_of(SCOPE, marks_of(raw, memo)) == trail(raw)
    threads = Threads()
    threads.asked("mine", first, WALL)
    assert threads.find(first, WALL) == ("mine" if first.places else None)


@given(st.binary(max_size=100))
def test_any_bytes(raw: bytes) -> None:
    assert isinstance(trail(raw), Trail)
    assert isinstance(trail(b'{"messages":[' + raw), Trail)


def test_a_body_of_too_many_pieces_is_no_conversation() -> None:
    turns = [user(str(n)) for n in range(MAX_MARKS + 1)]
    assert trail(ask(*turns[:-1], system=None)).places != ()
    assert trail(ask(*turns)).places == ()


def test_the_memo_is_bounded_and_changes_nothing() -> None:
    memo = Memo(room=50_000)
    for number in range(200):
        body = json.dumps(ask(user("x" * 1000 + str(number)), A)).encode()
        assert marks_of(body, memo) == marks_of(body, Memo(0)) == marks_of(body, memo)
        assert memo._held <= 50_000
    assert len(memo._known) > 10


# --- answers by id ------------------------------------------------------------------------------------
def test_answers_are_found_by_their_id_within_their_scope() -> None:
    answers = Answers()
    answers.told(b"a", "resp_1", Place("x-1", "s1"))
    answers.told(b"b", "resp_1", Place("y-1", "s2"))
    assert answers.find(b"a", "resp_1") == Place("x-1", "s1")
    assert answers.find(b"b", "resp_1") == Place("y-1", "s2")
    assert answers.find(b"c", "resp_1") is None
    answers.told(b"a", "resp_1", Place("x-9", "s1"))
    assert answers.find(b"a", "resp_1") == Place("x-9", "s1")
    answers.told(b"a", None, Place("x-2", "s1"))
    assert answers.find(b"a", None) is None
    assert len(answers) == 2


def test_answers_of_an_earlier_time_are_asked_for_and_memory_is_bounded() -> None:
    answers = Answers({"resp_0": Place("old-1", "s0")}.get, known=3)
    for number in range(1, 10):
        answers.told(b"a", f"resp_{number}", Place(f"x-{number}", "s"))
    assert len(answers) == 3
    assert answers.find(b"a", "resp_0") == Place("old-1", "s0")
    assert answers.find(b"a", "resp_1") is None
    assert answers.find(b"a", "resp_9") == Place("x-9", "s")
