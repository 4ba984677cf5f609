"""Any value, at any depth, in any escapes, dialect, stream and cut: in no byte of any file, and all else as it was.

With the real detectors, the real redactor and both stores; only the relay is missing (tests/test_redaction.py has it).
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lunaroute.observe.pii import Redactor, redactor_of
from lunaroute.observe.pii.key import Key
from lunaroute.records import Exchange, Text, ToolCall
from lunaroute.stores import importing, packs, queries
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.readonly import Connection
from lunaroute.stores.sqlite import SqliteStore
from tests.fast.test_texts import CHANCE, escaped
from tests.fast.test_views import anthropic, arguments, called, chat, completion, data_of, responses, texts_of, written
from tests.observe.pii.plain import SETTINGS
from tests.stores.records import BOOT, exchange

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
LINES = ["".join(random.Random(seed).choices(LETTERS, k=64)) for seed in range(6)]
PEM = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *LINES, "-----END RSA PRIVATE KEY-----"])
VALUES = [
    ("email", "anna.schmidt@firma-beispiel.de"),
    ("email", "J.Doe+tag@corp-mail.com"),
    ("ssn", "536-22-8714"),
    ("credit_card", "4111 1111 1111 1111"),
    ("credit_card", "378282246310005"),
    ("phone", "+1 415 555 2671"),
    ("ip", "81.2.69.142"),
    ("ip", "2a00:1450:4001:81b::200e"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("secret", "AKIAQX7HZPL2MN4KJT6W"),
    ("secret", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("secret", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jEmoHbnJAXwLMa1HBzLtbFU"),
    ("secret", PEM),
]
FILL = st.sampled_from(["see", "caf\u00e9", "\U0001f600", '"quoted"', "\\", "{", "}", "<b>", "x = 1;", "100%", "/"])
PARTS = st.lists(st.one_of(FILL, st.sampled_from(VALUES)), min_size=1, max_size=5)
KINDS = [anthropic, arguments, chat, called, responses, completion]


def made(home: Path | None, **more: Any) -> Redactor:
    return redactor_of({**SETTINGS, **more}, home, key="a key for these tests")


TOKENS = made(None).forms


def sides(parts: list[str | tuple[str, str]]) -> tuple[str, str]:
    """What is said, and what is to be left of it. Values stand apart from what is around them."""
    said = [part if isinstance(part, str) else part[1] for part in parts]
    kept = [part if isinstance(part, str) else TOKENS.token(*part) for part in parts]
    return "\n".join(said), "\n".join(kept)


def nested(text: str, depth: int, chance: random.Random) -> str:
    """The text in JSON in strings of JSON."""
    for _ in range(depth):
        text = f'{{"a": "{escaped(text, chance)}", "n": [1, null]}}'
    return text


def unnested(text: str, depth: int) -> str:
    for _ in range(depth):
        value = json.loads(text)
        assert value["n"] == [1, None]
        text = value["a"]
    return text


class Kept:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redactor = made(folder)
        self.sqlite = SqliteStore(folder / "sessions.db", warn=print)
        self.jsonl = JsonlStore(folder / "sessions", warn=print)
        self.sqlite.open()
        self.jsonl.open()
        self.number = 0

    def write(self, one: Exchange) -> Exchange:
        """What is read back of it, from the database; the files tell the same."""
        records = self.redactor.records([one])
        self.sqlite.write(records)
        self.jsonl.write(records)
        with Connection(self.sqlite.path) as db:
            kept = queries.bodies(db, one.id)
        assert kept.trouble is None
        (file,) = self.jsonl.files()
        for back in importing.exchanges_of(file.path):
            if back.id == one.id:
                asked = back.request_body, kept.request_body
                assert asked[0] == asked[1] or json.loads(asked[0]) == json.loads(asked[1]), "line ends became blanks"
                assert back.response_body == kept.response_body
                back.texts = [Text(kind=kind, text=text) for kind, text in kept.texts]
                return back
        raise AssertionError("it is not in the files")

    def everything(self) -> Iterator[tuple[str, bytes]]:
        for file in self.folder.rglob("*"):
            if file.is_file():
                yield file.name, file.read_bytes()
        with sqlite3.connect(f"file:{self.sqlite.path}?mode=ro", uri=True) as connection:
            shelf = packs.shelf(lambda sql, *values: connection.execute(sql, values).fetchone())
            for (row,) in connection.execute("SELECT exchange FROM packs ORDER BY exchange DESC LIMIT 3"):
                whole = shelf.whole(row)
                assert whole is not None
                yield "pack", packs.encode(whole.pack) + b"".join(whole.pieces)
            for (data,) in connection.execute("SELECT data FROM blobs"):
                yield "blob", packs.unfold(data)
        connection.close()

    def left(self) -> list[str]:
        """A value, or two thirds of one, as it is or as JSON writes it."""
        bad = []
        for where, data in self.everything():
            for _, value in VALUES:
                for form in {value, json.dumps(value)[1:-1], value[: len(value) * 2 // 3], value.replace(" ", "")}:
                    if form.encode() in data:
                        bad.append(f"{form} in {where}")
        return bad

    def next(self, **fields: Any) -> Exchange:
        self.number += 1
        return exchange(self.number, **fields)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o700)
    store = Kept(folder)
    yield store
    store.sqlite.close()
    store.jsonl.close()


MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(parts=PARTS, depth=st.integers(0, 3), chance=CHANCE)
def test_requests(kept: Kept, parts: list[str | tuple[str, str]], depth: int, chance: random.Random) -> None:
    said, wanted = sides(parts)
    inner = nested(said, depth, chance)
    value = {
        "model": "m", "system": inner,
        "messages": [{"role": "user", "content": [{"type": "text", "text": inner}]},
                     {"role": "user", "content": inner}],
        "metadata": {"a": [inner, {"b": inner}], "n": 7},
    }  # fmt: skip
    body = written(value, chance).encode()
    back = kept.write(kept.next(request_body=body, texts=[Text(kind="prompt", text=said)], title=said, error=said))
    assert kept.left() == []
    read = json.loads(back.request_body)
    for text in (read["system"], read["messages"][0]["content"][0]["text"], read["messages"][1]["content"],
                 read["metadata"]["a"][0], read["metadata"]["a"][1]["b"]):  # fmt: skip
        assert unnested(text, depth) == wanted
    assert (read["model"], read["metadata"]["n"], read["messages"][0]["role"]) == ("m", 7, "user")
    assert back.texts == [Text(kind="prompt", text=wanted)]
    assert (back.title, back.error) == (wanted, wanted)


@pytest.mark.parametrize("kind", KINDS)
@MANY
@given(
    parts=st.lists(PARTS, min_size=1, max_size=3),
    depth=st.integers(0, 1),
    chance=CHANCE,
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_streams(
    kept: Kept, kind: Any, parts: list[list[str | tuple[str, str]]], depth: int, chance: random.Random, end: str
) -> None:
    texts = [sides(each) for each in parts]
    left = [nested(said, depth, chance) for said, _ in texts]
    events = []
    while any(left):
        index = chance.choice([place for place, text in enumerate(left) if text])
        size = chance.choice([1, 2, 3, 5, 8, 40])
        events.append(kind(index, left[index][:size]))
        left[index] = left[index][size:]
    lines = [
        f"data: {json.dumps(each) if chance.random() < 0.7 else json.dumps(each, ensure_ascii=False)}{end}{end}"
        for each in events
    ]
    if kind is responses:
        whole = {
            "type": "response.completed",
            "response": {"output": [{"content": [{"text": said} for said, _ in texts]}]},
        }
        lines.append(f"data: {json.dumps(whole)}{end}{end}")
    calls = [ToolCall(id=f"c{kept.number}", name="send", arguments=nested(texts[0][0], 1, chance))]
    back = kept.write(kept.next(response_body="".join(lines).encode(), tool_calls=calls))
    assert kept.left() == []
    read = [json.loads(each) for each in data_of(back.response_body)]
    if kind is responses:
        whole = read.pop()
        assert [each["text"] for each in whole["response"]["output"][0]["content"]] == [wanted for _, wanted in texts]
    assert len(read) == len(events)
    assert [unnested(text, depth) for text in texts_of(kind, read)] == [wanted for _, wanted in texts]
    assert re.sub(rb"data: .*", b"", back.response_body) == re.sub(rb"data: .*", b"", "".join(lines).encode())
    assert unnested(back.tool_calls[0].arguments, 1) == texts[0][1]


@MANY
@given(parts=PARTS, chance=CHANCE, cut=st.floats(0.2, 1))
def test_bodies_that_were_cut(
    kept: Kept, parts: list[str | tuple[str, str]], chance: random.Random, cut: float
) -> None:
    said, _ = sides([*parts, "end"])
    body = written({"messages": [{"role": "user", "content": said}], "more": "x" * 40}, chance).encode()
    stream = b"".join(
        f"data: {json.dumps(anthropic(0, said[at : at + 3]))}\n\n".encode() for at in range(0, len(said), 3)
    )
    kept.write(
        kept.next(
            request_body=body[: int(len(body) * cut)], response_body=stream[: int(len(stream) * cut)], truncated=True
        )
    )
    assert kept.left() == []


@MANY
@given(parts=PARTS, place=st.sampled_from(["text/plain", "text/html", "text/csv", "application/json", ""]))
def test_other_bodies(kept: Kept, parts: list[str | tuple[str, str]], place: str) -> None:
    said, wanted = sides(["text:", *parts])
    back = kept.write(
        kept.next(request_body=said.encode(), request_headers=[("Content-Type", place)], response_body=said.encode())
    )
    assert kept.left() == []
    assert back.request_body.decode() == back.response_body.decode() == wanted


def test_the_key_is_the_only_secret_there(kept: Kept) -> None:
    assert Key(None, "a key for these tests").value not in b"".join(data for _, data in kept.everything())
    assert BOOT
