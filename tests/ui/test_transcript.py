"""Exchanges unfolded into one conversation: nothing twice, nothing lost, results beside their calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunaroute.records import Exchange, State
from lunaroute.stores.rows import Bodies, ExchangeRow
from lunaroute.stores.writing import row_of
from lunaroute.ui.transcript import Entry, Transcript, single, summary, transcript
from tests import recorded
from tests.recorded import ask, assistant, call, exchange, result, stream, text, thinking, user
from tests.ui import hostile


def unfold(exchanges: list[Exchange], before: Exchange | None = None, **how: Any) -> Transcript:
    kept = {one.id: bodies(one) for one in [*exchanges, *([before] if before else [])]}
    return transcript([row(one) for one in exchanges], kept.__getitem__, row(before) if before else None, **how)


def row(one: Exchange) -> ExchangeRow:
    return ExchangeRow(**row_of(one))


def bodies(one: Exchange) -> Bodies:
    return Bodies(
        request_headers=[], response_headers=[], attempts=[], timings={},
        request_body=one.request_body, response_body=one.response_body,
    )  # fmt: skip


def told(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.kind, entry.text or entry.summary) for entry in entries]


def turns(*asked: bytes, answers: list[bytes] | None = None, **fields: Any) -> list[Exchange]:
    answers = answers or [b""] * len(asked)
    return [
        exchange(number, request_body=body, response_body=answer, **fields)
        for number, (body, answer) in enumerate(zip(asked, answers, strict=True), 1)
    ]


def test_a_tool_loop_is_told_once() -> None:
    talk = unfold(recorded.tool_loop())
    assert told(talk.system) == [("context", "You are a coding assistant.")] and talk.tools == ["Bash", "Read"]
    one, two, three = talk.turns
    assert told(one.added) == [("text", "Why does `make test` fail in **this** folder?")]
    assert told(one.answer) == [
        ("thinking", "I should look at the folder first."),
        ("text", "Let me look."),
        ("tool_call", "ls -la"),
    ]
    assert two.added == [] and three.added == []  # the results are beside their calls
    first, second = one.answer[2].result, two.answer[0].result
    assert first is not None and first.text.startswith("total 4") and not first.is_error
    assert second is not None and second.is_error
    assert three.answer[0].text.startswith("The file is **empty**")
    assert not any(turn.replaced or turn.note or turn.error for turn in talk.turns)


def test_a_later_window_does_not_tell_the_former_again() -> None:
    _, two, three = recorded.tool_loop()
    talk = unfold([three], before=two)
    assert [kind for kind, _ in told(talk.turns[0].added)] == ["tool_result"]  # its call is in the window before
    assert talk.turns[0].answer[0].text.startswith("The file is")
    assert told(talk.system) == [("context", "You are a coding assistant.")]


def test_the_same_words_twice_are_two_messages() -> None:
    first = [user("go on")]
    second = [*first, assistant(text("done")), user("go on")]
    third = [*second, assistant(text("done")), user("go on")]
    talk = unfold(turns(ask(first), ask(second), ask(third), answers=[stream(text("done"))] * 3))
    assert [told(turn.added) for turn in talk.turns] == [[("text", "go on")]] * 3


def test_rewritten_forms_of_the_same_history_are_not_new() -> None:
    marked = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
    plain = {"role": "user", "content": "hi"}
    answered = assistant(thinking("signed"), text("hello "))
    talk = unfold(turns(ask([marked]), ask([plain, answered, user("more")]), answers=[stream(text("hello"))] * 2))
    assert told(talk.turns[1].added) == [("text", "more")]
    assert talk.turns[1].replaced == 0


def test_a_retry_adds_nothing() -> None:
    body = ask([user("hi")])
    busy = b'{"type":"error","error":{"type":"overloaded_error","message":"Busy"}}'
    talk = unfold(turns(body, body, answers=[busy, b""]))
    assert talk.turns[0].error == "overloaded_error: Busy"
    assert talk.turns[1].added == []


def test_a_compaction_is_said() -> None:
    history = [user("one"), assistant(text("two")), user("three"), assistant(text("four")), user("five"), user("six")]
    short = [user("This is the summary of the conversation so far.")]
    after = unfold(turns(ask(history), ask(short), ask([*short, user("next")]))).turns
    assert after[1].replaced == 6 and told(after[1].added) == [("text", short[0]["content"][0]["text"])]
    assert after[2].replaced == 0 and told(after[2].added) == [("text", "next")]


def test_a_websocket_sends_only_what_is_new() -> None:
    def create(*items: dict[str, Any], **more: Any) -> bytes:
        return json.dumps({"type": "response.create", "model": "m", "input": list(items), **more}).encode()

    def said(role: str, words: str) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": words}]}

    def done(words: str) -> bytes:
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": words}]}
        return recorded.sse({"type": "response.completed", "response": {"status": "completed", "output": [item]}})

    again = create(said("developer", "rules"), said("user", "yes"), said("assistant", "ok"), said("user", "yes"))
    talk = unfold(
        turns(
            create(said("developer", "rules"), said("user", "yes")),
            create(said("user", "yes"), previous_response_id="resp_1"),
            again,
            answers=[done("ok"), done("fine"), done("again")],
            dialect="responses",
            transport="websocket",
        )
    )
    assert [told(turn.added) for turn in talk.turns] == [
        [("context", "rules"), ("text", "yes")],
        [("text", "yes")],
        [],
    ]
    assert [told(turn.answer) for turn in talk.turns] == [[("text", "ok")], [("text", "fine")], [("text", "again")]]


def test_requests_beside_the_conversation_are_set_apart() -> None:
    title = exchange(1, kind="title", request_body=ask([user("a title please")]),
                     response_body=stream(text('{"title": "A walk"}')))  # fmt: skip
    broken = exchange(2, kind="count", state=State.UPSTREAM_ERROR, request_body=ask([user("x")]),
                      response_body=b'{"type":"error","error":{"type":"api_error","message":"no"}}')  # fmt: skip
    talk = unfold([title, broken, exchange(3, kind="models"), exchange(4, request_body=ask([user("hi")]))])
    assert [turn.side for turn in talk.turns] == [True, True, True, False]
    assert talk.turns[0].answer[0].text == "A walk" and talk.turns[1].error == "api_error: no"
    assert told(talk.turns[3].added) == [("text", "hi")]


def test_what_the_client_adds_is_context() -> None:
    reminder = "<system-reminder>\nUse tabs.\n</system-reminder>\n"
    body = ask([user(reminder), {"role": "system", "content": "env"}, user("a <b>bold</b> question")])
    added = unfold(turns(body)).turns[0].added
    assert [(entry.kind, entry.name) for entry in added] == [
        ("context", "system-reminder"),
        ("context", "system"),
        ("text", None),
    ]


def test_a_running_exchange_replaces_nothing() -> None:
    *before, last = recorded.tool_loop()
    running = exchange(9, state=None)
    talk = unfold([*before, running, last])
    assert [turn.replaced for turn in talk.turns] == [0, 0, 0, 0]
    assert talk.turns[2].added == [] and talk.turns[2].answer == []


def test_long_text_is_cut_and_knows_it() -> None:
    entry = unfold(turns(ask([user("x" * 5000)])), text_limit=100).turns[0].added[0]
    assert entry.cut and entry.length == 5000 and len(entry.text) == 100


def test_a_page_unfolds_only_so_many_bytes() -> None:
    talk = unfold(recorded.tool_loop(), bytes_limit=100)
    assert talk.turns[0].answer and talk.turns[1].answer == [] and "open the exchange" in (talk.turns[1].note or "")


def test_one_exchange_by_itself_has_its_whole_history() -> None:
    last = recorded.tool_loop()[2]
    added = single(row(last), bodies(last)).turns[0].added
    assert [entry.kind for entry in added] == ["text", "thinking", "text", "tool_call", "tool_call"]
    assert added[3].result is not None and added[4].result is not None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ('{"description": "List", "command": "ls\\n -la"}', "ls -la"),
        ('{"command": ["bash", "-lc", "ls"]}', "bash -lc ls"),
        ('{"file_path": "/a", "limit": 3}', "/a"),
        ('{"pattern": "x", "path": "/a"}', "x"),
        ('{"n": 1, "odd": "words"}', "words"),
        ('{"n": 1}', ""),
        ("[1, 2]", "[1, 2]"),
        ("console.log(1)", "console.log(1)"),
        ('{"comm', '{"comm'),
        ("[" * 100_000, "[" * 159 + "…"),
        ("", ""),
        (None, ""),
    ],
)
def test_summary(arguments: str | None, line: str) -> None:
    assert summary(arguments) == line


def test_hostile_exchanges_unfold() -> None:
    talk = unfold(hostile.exchanges() + hostile.plain_exchanges())
    assert len(talk.turns) == 2 * len(hostile.STRINGS)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=4),
    st.sampled_from(["anthropic", "chat", "responses", "other", ""]),
)
def test_any_bytes_unfold(pairs: list[tuple[bytes, bytes]], dialect: str) -> None:
    made = [exchange(n, request_body=a, response_body=b, dialect=dialect) for n, (a, b) in enumerate(pairs, 1)]
    assert len(unfold(made).turns) == len(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]), st.booleans()), max_size=8))
def test_every_question_and_answer_of_a_growing_talk_is_told_once(steps: list[tuple[str, str, bool]]) -> None:
    history: list[dict[str, Any]] = []
    made, expected = [], []
    for number, (question, answer, tool) in enumerate(steps, 1):
        history = [*history, user(question)]
        blocks = [text(answer), *([call(f"id{number}", "Bash", command=question)] if tool else [])]
        made.append(exchange(number, request_body=ask(history), response_body=stream(*blocks)))
        history = [*history, assistant(*blocks), *([result(f"id{number}", answer)] if tool else [])]
        expected.append(question)
    talk = unfold(made)
    assert [[entry.text for entry in turn.added] for turn in talk.turns] == [[question] for question in expected]
    assert [turn.answer[0].text for turn in talk.turns] == [answer for _, answer, _ in steps]
    calls = [entry for turn in talk.turns[:-1] for entry in turn.answer if entry.kind == "tool_call"]
    assert all(entry.result is not None for entry in calls)
