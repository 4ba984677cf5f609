"""The way back: what was written as lines is the same exchange again, and damage costs only what it hit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.records import (
    Attempt,
    Closed,
    Exchange,
    Finding,
    Limit,
    Record,
    Split,
    State,
    Text,
    Timings,
    ToolCall,
    ToolResult,
    Usage,
    UsagePart,
)
from lunaroute.stores import importing, lines
from lunaroute.stores.importing import UNENDED, exchanges_of
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.reading import Trouble
from lunaroute.stores.sqlite import SqliteStore
from tests.stores.records import BOOT, exchange, opened

words = st.text(max_size=12) | st.sampled_from(["", "a\0b", "\u2028", "\U0001f319", '"\\', "x" * 300])
counts = st.none() | st.integers(0, (1 << 62) - 1)
floats = st.none() | st.floats(0, 1e9, allow_nan=False)
flags = st.none() | st.booleans()
bodies = (
    st.binary(max_size=40)
    | st.text(max_size=40).map(str.encode)
    | st.sampled_from(
        [
            b"",
            b'{"a":1,"a":2}',
            b'{"n":123456789012345678901234567890e999}',
            b'{"lone":"\\ud800"}',
            b' {"x": [1, 2 ]} ',
            b'{"body":1,"body_form":"json","text":"' + b"x" * 300 + b'"}',
            b"\xff\xfe\x00",
            b"data: {}\n\n",
            b"[" * 3000,
        ]
    )
)
idents = st.text("abcXYZ019_-", min_size=1, max_size=20)
maybe = st.none() | words
results = st.builds(ToolResult, id=words, text=words, result_bytes=st.integers(0, 9), success=flags, seen_ns=counts)
calls = st.builds(
    ToolCall, id=words, name=words, kind=st.sampled_from(["function", "server"]), arguments=words,
    arguments_bytes=st.integers(0, 9), called_ns=counts, result=st.none() | results,
)  # fmt: skip
usages = st.builds(
    Usage, input_tokens=counts, output_tokens=counts, cache_write_1h_tokens=counts, audio_tokens=counts,
    service_tier=maybe, partial=st.booleans(),
    parts=st.lists(st.builds(UsagePart, kind=words, model=maybe, output_tokens=counts), max_size=2),
)  # fmt: skip
asked_texts = st.builds(Text, kind=st.sampled_from(["prompt", "tool_result"]), text=words)
said_texts = st.builds(Text, kind=st.sampled_from(["answer", "thinking", "tool_call", "later"]), text=words)
exchanges = st.builds(
    Exchange,
    id=idents.map(lambda ident: f"{BOOT}-{ident}"), session_id=idents, sequence=st.integers(0, 1 << 40),
    started_at=st.just("2023-11-14 22:13:21.000"), started_ns=st.integers(0, 1 << 61), signal=maybe,
    parent_session_id=maybe, title=maybe, project=maybe, state=st.sampled_from(State), error=maybe, method=words,
    target=words, http_version=words, status=st.none() | st.integers(100, 599), reason=maybe, provider=maybe,
    dialect=maybe, client=maybe, client_version=maybe, transport=words, kind=words, model_requested=maybe,
    model_used=maybe, stream=st.booleans(), stop_reason=maybe, response_id=maybe, usage=usages,
    attempts=st.lists(st.builds(Attempt, number=st.integers(1, 9), provider=words, origin=words, sent=st.booleans(),
                                tls_ms=floats, error=maybe), max_size=2),
    timings=st.builds(Timings, done=floats, first_body=floats), overhead_ms=floats,
    request_headers=st.lists(st.tuples(words, words), max_size=3),
    response_headers=st.lists(st.tuples(words, words), max_size=3),
    request_body=bodies, response_body=bodies, request_bytes=st.integers(0, 99), response_bytes=st.integers(0, 99),
    request_decode_error=st.none() | st.text(min_size=1, max_size=9),
    response_decode_error=st.none() | st.text(min_size=1, max_size=9),
    truncated=st.booleans(), lost_bytes=st.integers(0, 99), tool_calls=st.lists(calls, max_size=3),
    tool_results=st.lists(results, max_size=3),
    texts=st.lists(asked_texts | said_texts, max_size=4),
    limits=st.lists(st.builds(Limit, name=words, used=floats, resets_ns=counts, status=maybe), max_size=2),
    split=st.none() | st.builds(Split, wait_ms=floats, after_ms=floats), cost_usd=floats, cost_kind=maybe,
    found=st.lists(st.builds(Finding, place=st.sampled_from(["request", "response"]), kind=words, name=words,
                             digest=words, count=st.integers(1, 9)), max_size=2),
    request_sha256=maybe, response_sha256=maybe, request_altered=st.booleans(),
    response_altered=st.booleans(),
)  # fmt: skip


def written(path: Path, *records: Record) -> Path:
    """The file of a session, as the store writes it."""
    store = JsonlStore(path, warn=print)
    store.open()
    store.write(list(records))
    store.close()
    return path


def reflowed(exchange: Exchange) -> Exchange:
    """What a body with line ends between its tokens becomes: said so, and blanks instead of them."""
    for name in ("request", "response"):
        body: bytes = getattr(exchange, f"{name}_body")
        if body and lines.body_of(body)[0] == "json_reflowed":
            setattr(exchange, f"{name}_body", body.replace(b"\r", b" ").replace(b"\n", b" "))
            setattr(exchange, f"{name}_altered", True)
    return exchange


@given(exchanges)
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, given: Exchange) -> None:
    """Every field of the record, whatever is in it."""
    path = tmp_path_factory.mktemp("x") / f"session_{given.session_id}.jsonl"
    told = [lines.session_line(1, given), lines.request_line(2, given), lines.response_line(3, given)]
    path.write_bytes(b"".join(told))
    troubles: list[Trouble] = []
    (back,) = exchanges_of(path, troubles.append)
    assert troubles == []
    assert back == reflowed(given)


def test_no_field_is_forgotten() -> None:
    """Each field of an exchange is in its lines by its own name or one of these; a new one must be put there, too."""
    line = json.loads(lines.request_line(1, FULL)) | json.loads(lines.response_line(2, FULL))
    renamed = {"model_requested", "model_used", "request_body", "response_body", "request_headers", "response_headers"}
    renamed |= {"request_bytes", "response_bytes", "request_decode_error", "response_decode_error"}
    assert set(Exchange.__struct_fields__) - set(line) == renamed | {"thread", "cuts"}  # of one process or database


FULL = exchange(
    1, parent_session_id="p", title="t", project="/p", error="e", stop_reason="s", response_id="r", overhead_ms=1.0,
    client_version="1", reason="OK", tool_calls=[ToolCall(id="t", name="n")], tool_results=[ToolResult(id="t")],
    texts=[Text(kind="answer", text="x")], limits=[Limit(name="l")], split=Split(), cost_usd=1.0, cost_kind="api",
    found=[Finding(place="request", kind="email", name="email", digest="d")], error_kind="k", cache_miss_reason="m",
    continues="c", credential="d", price_id="i",
    request_sha256="a", response_sha256="b", request_altered=True, response_altered=True,
)  # fmt: skip


def test_a_lone_surrogate_becomes_what_a_store_can_keep(tmp_path: Path) -> None:
    written(tmp_path, exchange(1, title="a\ud800", texts=[Text(kind="answer", text="\udfff")]))
    (back,) = exchanges_of(tmp_path)
    assert (back.title, back.texts) == ("a\ufffd", [Text(kind="answer", text="\ufffd")])


# --- what a file may lack -----------------------------------------------------------------------------
def told(folder: Path) -> tuple[list[tuple[str, str | None, str | None]], list[str]]:
    troubles: list[Trouble] = []
    found = [(each.id.rpartition("-")[2], each.state, each.error) for each in exchanges_of(folder, troubles.append)]
    return found, [trouble.reason for trouble in troubles]


CLOSED = Closed(id=f"{BOOT}-1", session_id="sess-1", state=State.TIMEOUT, error="why")
ENDS: list[tuple[str, list[Record], list[tuple[str, str, str | None]]]] = [
    ("whole", [exchange(1)], [("1", "ok", None)]),
    ("no answer", [exchange(1, None)], [("1", "interrupted", UNENDED)]),
    ("one of two", [exchange(1, None), exchange(2)], [("2", "ok", None), ("1", "interrupted", UNENDED)]),
    ("told again", [exchange(1, None), exchange(1, None), exchange(1)], [("1", "ok", None)]),
    ("closed", [exchange(1, None), CLOSED], [("1", "timeout", "why")]),
    ("nothing", [opened(1)], []),
]


@pytest.mark.parametrize(("records", "found"), [e[1:] for e in ENDS], ids=[e[0] for e in ENDS])
def test_ends(tmp_path: Path, records: list[Record], found: list[Any]) -> None:
    assert told(written(tmp_path / "s", *records)) == (found, [])


SESSION, ASKED, ANSWERED = (
    lines.session_line(1, exchange(1)),
    lines.request_line(2, exchange(1)),
    lines.response_line(3, exchange(1)),
)
LACKING: list[tuple[str, bytes, list[tuple[str, str]], list[str]]] = [
    ("session line", ASKED + ANSWERED, [("1", "ok")], []),
    ("request", SESSION + ANSWERED, [("1", "ok")], ["the request of this answer is missing"]),
    ("request torn", ASKED[:40] + b"\n" + ANSWERED, [("1", "ok")], ["it is not one JSON object", "the request of"]),
    ("answered twice", ASKED + ANSWERED + ASKED + ANSWERED, [("1", "ok")], []),
    ("state", ASKED + ANSWERED.replace(b'"state":"ok",', b""), [("1", "interrupted")], ["it does not say how"]),
    ("start", ANSWERED.replace(b'"started_ns"', b'"other"'), [], ["the request of", "when it began is not known"]),
    ("id", ASKED.replace(BOOT.encode(), b"../../x"), [], ["its id, or its session's, is none of ours"]),
    ("session id", ASKED.replace(b"sess-1", b"../x"), [], ["its id, or its session's, is none of ours"]),
    (
        "text outside",
        ASKED + ANSWERED.replace(b'"lost_bytes"', b'"texts":[{"kind":"answer","response_at":[9,999]}],"lost_bytes"'),
        [("1", "ok")],
        ["a text is not where the line says"],
    ),
]


@pytest.mark.parametrize(("content", "found", "reasons"), [c[1:] for c in LACKING], ids=[c[0] for c in LACKING])
def test_what_is_lacking(tmp_path: Path, content: bytes, found: list[Any], reasons: list[str]) -> None:
    (tmp_path / "session_sess-1.jsonl").write_bytes(content)
    got, troubles = told(tmp_path)
    assert [each[:2] for each in got] == found
    assert [trouble[: len(reason)] for trouble, reason in zip(troubles, reasons, strict=True)] == reasons


def test_lines_of_the_first_release(tmp_path: Path) -> None:
    """Before the later fields there were these; they are read for ever."""
    old = {"v": 1, "type": "request", "id": f"{BOOT}-1", "session_id": "s", "sequence": 1, "method": "POST", "seq": 2}
    old |= {"started_at": "2026-11-25 09:53:20.962", "model": "m", "body_form": "json_reflowed", "body": {"a": 1}}
    end = {"v": 1, "type": "response", "id": f"{BOOT}-1", "seq": 3, "state": "ok", "model": "m2", "usage": {}}
    (tmp_path / "session_s.jsonl").write_text("\n".join(map(json.dumps, (old, end))))
    (back,) = exchanges_of(tmp_path)
    assert (back.started_ns, back.started_at) == (1795600400962000000, "2026-11-25 09:53:20.962")
    assert (back.model_requested, back.model_used, back.request_body) == ("m", "m2", b'{"a": 1}')
    assert (back.request_altered, back.response_altered) == (True, False)


# --- files ------------------------------------------------------------------------------------------
def test_which_files(tmp_path: Path) -> None:
    (tmp_path / "2026-11-02").mkdir()
    for name in ("session_b.jsonl", "session_a.jsonl.zst", "session_b.jsonl.zst", "notes.jsonl", "session_c.part"):
        (tmp_path / "2026-11-02" / name).touch()
    (tmp_path / "2026-11-01").mkdir()
    (tmp_path / "2026-11-01" / "session_z.jsonl").touch()
    found = importing.files_of(tmp_path)
    assert [(path.name, importing.session_of(path)) for path in found] == [
        ("session_z.jsonl", "z"),
        ("session_a.jsonl.zst", "a"),
        ("session_b.jsonl", "b"),
    ]
    assert importing.files_of([found[1], tmp_path / "2026-11-01"]) == [found[1], found[0]]


def test_an_import_may_be_repeated(tmp_path: Path) -> None:
    """Into the database that recorded the sessions, into a new one, and once more after compression."""
    folder = written(tmp_path / "s", *[exchange(n, session_id=f"s{n % 3}") for n in range(1, 10)], exchange(10, None))
    store = SqliteStore(tmp_path / "new.db", warn=print)
    store.open()
    sums = []
    for _ in range(3):
        store.write(list(exchanges_of(folder)))
        with store._transaction() as connection:
            asking = "SELECT session_id, requests, input_tokens FROM sessions ORDER BY 1"
            sums.append(connection.execute(asking).fetchall())
        for path in importing.files_of(folder):
            if path.suffix == ".jsonl":
                path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
                path.unlink()
    store.close()
    assert sums == [[("s0", 3, 30), ("s1", 3, 30), ("s2", 3, 30), ("sess-1", 1, None)]] * 3


@given(st.sampled_from([SESSION, ASKED, ANSWERED]), st.data())
def test_no_value_anywhere_breaks_a_store(
    tmp_path_factory: pytest.TempPathFactory, line: bytes, data: st.DataObject
) -> None:
    value = json.loads(line)
    key = data.draw(st.sampled_from(sorted(set(value) - {"v", "type"})))
    odd = st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats() | st.text(max_size=9)
    value[key] = data.draw(odd | st.lists(odd, max_size=2) | st.dictionaries(st.text(max_size=4), odd, max_size=2))
    folder = tmp_path_factory.mktemp("x")
    others = [each for each in (SESSION, ASKED, ANSWERED) if each != line]
    (folder / "session_sess-1.jsonl").write_bytes(json.dumps(value).encode() + b"\n" + b"".join(others))
    store = SqliteStore(folder / "x.db", warn=print)
    store.open()
    store.write(list(exchanges_of(folder)))
    store.close()
