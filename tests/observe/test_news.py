"""What a request says that its session has not said: tables per dialect, histories that grow, what is remembered."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute._fast.cuts import cut
from lunaroute.observe import news
from lunaroute.observe.news import KNOWN, TEXT_LIMIT, News, Seen
from lunaroute.records import Text

LONG = "This was said before, and it is long enough to be a piece of its own. " * 9


def ask(seen: Seen, dialect: str, value: Any, session: str | None = "s") -> News:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return seen.request(session, dialect, body, cut(body))


def told(found: News) -> list[str]:
    return [text.text for text in found.texts]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]}
RESULT = user([{"type": "tool_result", "tool_use_id": "t1", "content": "a.py", "is_error": False}])
CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
# (dialect, the requests of a session in turn, what is new in each: texts, ids of results)
CASES: dict[str, tuple[str, list[Any], list[tuple[list[str], list[str]]]]] = {
    "anthropic: a history that grows": (
        "anthropic",
        [
            {"messages": [user("one")]},
            {"messages": [user("one"), {"role": "assistant", "content": [block("two")]}, user("three")]},
        ],
        [(["one"], []), (["two", "three"], [])],
    ),
    "anthropic: sent again": ("anthropic", [{"messages": [user("one")]}] * 2, [(["one"], []), ([], [])]),
    "anthropic: the cache mark moves": (
        "anthropic",
        [
            {"messages": [user([block("one", cache_control={"type": "ephemeral"})])]},
            {"messages": [user([block("one")]), user([block("two", cache_control={"type": "ephemeral"})])]},
        ],
        [(["one"], []), (["two"], [])],
    ),
    "anthropic: a list becomes a text": (
        "anthropic",
        [{"messages": [user([block(LONG)])]}, {"messages": [user(LONG)]}],
        [([LONG], []), ([], [])],
    ),
    "anthropic: a result": (
        "anthropic",
        [
            {"messages": [user("one"), USED]},
            {"messages": [user("one"), USED, RESULT]},
            {"messages": [user("one"), USED, RESULT]},
        ],
        [(["one", "Bash\ncommand: ls"], []), (["a.py"], ["t1"]), ([], [])],
    ),
    "anthropic: a result written anew counts once": (
        "anthropic",
        [{"messages": [RESULT]}, {"messages": [user([{**RESULT["content"][0], "cache_control": {}}])]}],
        [(["a.py"], ["t1"]), ([], [])],
    ),
    "anthropic: one message is edited": (
        "anthropic",
        [{"messages": [user("one"), user("two")]}, {"messages": [user("other"), user("two")]}],
        [(["one", "two"], []), (["other"], [])],
    ),
    "anthropic: settings and tools are no news": (
        "anthropic",
        [
            {
                "model": "m",
                "tools": [{"name": "T", "description": LONG}],
                "messages": [user("one")],
                "metadata": {"a": "b"},
            }
        ],
        [(["one"], [])],
    ),
    "chat: a call and its result": (
        "chat",
        [
            {"messages": [user("one")]},
            {"messages": [user("one"), CALLED, {"role": "tool", "tool_call_id": "c1", "content": "done"}]},
        ],
        [(["one"], []), (["f", "done"], ["c1"])],
    ),
    "responses: items": (
        "responses",
        [
            {"input": "one"},
            {"input": [{"type": "function_call_output", "call_id": "c1", "output": "done"}]},
        ],
        [(["one"], []), (["done"], ["c1"])],
    ),
    "another dialect": ("nobody", [{"messages": [user("one")]}], [([], [])]),
    "no JSON": ("anthropic", [b"{", b"", b"\x00\xff", b"[]", b"null"], [([], [])] * 5),
    "odd values": (
        "anthropic",
        [{"messages": [1, None, [], "x", {"content": 5}, {}]}, {"messages": {}}],
        [([], [])] * 2,
    ),
    "cut off in the middle": ("anthropic", [b'{"messages":[{"role":"user","content":"one"},{"role":"us'], [([], [])]),
}


@pytest.mark.parametrize(("dialect", "requests", "expected"), CASES.values(), ids=CASES)
def test_what_is_new(dialect: str, requests: list[Any], expected: list[tuple[list[str], list[str]]]) -> None:
    seen = Seen()
    found = [ask(seen, dialect, request) for request in requests]
    assert [(told(each), [result.id for result in each.results]) for each in found] == expected


def test_an_answer_that_comes_back_is_no_news() -> None:
    seen = Seen()
    ask(seen, "anthropic", {"messages": [user("one")]})
    seen.answer("s", [Text(kind="answer", text="two "), Text(kind="thinking", text="hm")])
    seen.answer("another", [Text(kind="answer", text="three")])
    back = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, block("two")]}
    assert told(ask(seen, "anthropic", {"messages": [user("one"), back, user("three")]})) == ["three"]


def test_sessions_know_nothing_of_each_other() -> None:
    seen = Seen()
    assert told(ask(seen, "anthropic", {"messages": [user("one")]}, "a")) == ["one"]
    assert told(ask(seen, "anthropic", {"messages": [user("one")]}, "b")) == ["one"]
    assert told(ask(seen, "anthropic", {"messages": [user("one")]}, "a")) == []


def test_without_a_session_nothing_is_kept() -> None:
    seen = Seen()
    for _ in range(2):
        assert told(ask(seen, "anthropic", {"messages": [user("one")]}, None)) == ["one"]
    assert not seen._sessions


def test_a_session_that_is_not_remembered_is_recalled() -> None:
    asked: list[str] = []

    def recall(session: str) -> tuple[str, bytes, list[str]] | None:
        asked.append(session)
        body = json.dumps({"messages": [user("one"), user(LONG)]}).encode()
        return ("anthropic", body, ["the answer"]) if session == "s" else None

    seen = Seen(recall)
    back = {"role": "assistant", "content": "the answer"}
    for expected in (["two"], []):
        assert told(ask(seen, "anthropic", {"messages": [user("one"), user(LONG), back, user("two")]})) == expected
    assert told(ask(seen, "anthropic", {"messages": [user("one")]}, "new")) == ["one"]
    assert asked == ["s", "new"]


def test_texts_have_a_bound_within_which_the_newest_come_first() -> None:
    found = ask(Seen(), "anthropic", {"messages": [user("a" * (TEXT_LIMIT - 10)), user("b" * 100), user("c")]})
    assert [(text.text[0], len(text.text)) for text in found.texts] == [("a", TEXT_LIMIT - 101), ("b", 100), ("c", 1)]


def test_what_is_left_for_want_of_room_is_taken_from_a_later_request() -> None:
    seen = Seen()
    history = [user(f"{number} " + chr(97 + number) * (TEXT_LIMIT // 2 - 100)) for number in range(5)]
    whole: set[str] = set()
    for number in range(4):
        history.append(user(f"question {number}"))
        texts = told(ask(seen, "anthropic", {"messages": history}))
        assert texts[-1] == f"question {number}"
        assert sum(map(len, texts)) <= TEXT_LIMIT
        taken = {text for text in texts if len(text) > TEXT_LIMIT // 3}
        assert not taken & whole
        whole |= taken
    assert whole == {message["content"] for message in history[:5]}
    assert told(ask(seen, "anthropic", {"messages": history})) == []


def test_a_prompt_comes_before_whatever_a_tool_said_after_it() -> None:
    result = user([{"type": "tool_result", "tool_use_id": "t1", "content": "r" * (TEXT_LIMIT * 2)}])
    seen = Seen()
    found = ask(seen, "anthropic", {"messages": [user("p" * 300), USED, result]})
    assert [(text.kind, len(text.text)) for text in found.texts] == [("prompt", 300), ("tool_result", TEXT_LIMIT - 300)]
    again = ask(seen, "anthropic", {"messages": [user("p" * 300), USED, result]})
    assert told(again) == ["Bash\ncommand: ls"], "what can never be taken whole is not asked for again"


def test_what_is_kept_in_mind_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "KNOWN", 500)
    seen, chance = Seen(), random.Random(1)
    for number in range(200):
        messages = [user(f"{number} {n}") for n in range(chance.randrange(40))]
        ask(seen, "anthropic", {"messages": messages}, f"s{number}")
        assert seen._held <= 500
        assert seen._held == sum(len(known) for known in seen._sessions.values())
    assert len(seen._sessions) > 3


def test_one_session_alone_has_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forgotten, and says some things once more; the observer does not grow."""
    monkeypatch.setattr(news, "KNOWN", 500)
    seen = Seen()
    for number in range(100):
        found = ask(seen, "anthropic", {"messages": [user(f"{number} {n}") for n in range(20)]})
        assert len(found.texts) == 20
        assert seen._held <= 500
    assert KNOWN > 1000


texts = st.text(min_size=1, max_size=12).filter(str.strip)


@given(st.lists(st.lists(texts, max_size=4), max_size=6))
def test_a_growing_history_tells_each_text_once(turns: list[list[str]]) -> None:
    seen, history, found = Seen(), [], []
    for turn in turns:
        history += [user(text) for text in turn]
        found += told(ask(seen, "anthropic", {"messages": history}))
    assert len(found) == len({text.strip() for text in found})
    assert {text.strip() for text in found} == {text.replace("\0", "\ufffd").strip() for turn in turns for text in turn}


@given(st.binary(max_size=200), st.sampled_from(["anthropic", "chat", "responses"]))
def test_any_bytes(body: bytes, dialect: str) -> None:
    ask(Seen(), dialect, b'{"messages":[' + body + b'],"input":[' + body + b"]}")
    ask(Seen(), dialect, body)
