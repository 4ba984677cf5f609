"""`lunaroute verify`: same, altered, unknown and damaged are told apart, and damage ends with code 1."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lunaroute.cli.app import program
from lunaroute.records import Exchange, Usage
from tests import recorded
from tests.cli.test_sessions import ACTING, hostile_database


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def signed(made: list[Exchange]) -> list[Exchange]:
    for one in made:
        one.request_sha256, one.response_sha256 = digest(one.request_body), digest(one.response_body)
    return made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    gzip = [("content-encoding", "gzip")]
    others = [
        recorded.exchange(11, "b", sequence=1, response_body=b"{}", response_bytes=30, response_headers=gzip,
                          response_sha256=digest(b"gz"), response_altered=True),
        recorded.exchange(12, "b", sequence=2, request_body=b"part", request_bytes=9000, request_altered=True,
                          truncated=True, request_sha256=digest(b"whole")),
        recorded.exchange(13, "b", sequence=3, request_body=b"part", request_bytes=9000, request_altered=True,
                          truncated=True, lost_bytes=8996),
        recorded.exchange(14, "b", sequence=4, request_body=b'{"k":"***"}', request_bytes=20, request_altered=True),
        recorded.exchange(15, "b", sequence=5, request_body=b"old"),
        recorded.exchange(16, "b", sequence=6, state=None, request_body=b"now", usage=Usage()),
    ]  # fmt: skip
    return recorded.write(tmp_path / "sessions.db", [*signed(recorded.tool_loop("a")), *others, recorded.opened(20)])


def run(database: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["verify", *words, "--db", str(database)])
    assert result.exit_code == code, result.output
    return result


def test_what_is_kept_has_the_digest_of_the_wire(database: Path) -> None:
    lines = [line.split("\t") for line in run(database, "a").stdout.splitlines()]
    assert [(line[1], line[3], line[4]) for line in lines] == [
        (n, side, "same") for n in ("1", "2", "3") for side in ("request", "response")
    ]
    first = recorded.tool_loop("a")[0]
    assert lines[0][5:9] == [digest(first.request_body)] * 2 + [str(len(first.request_body))] * 2


@pytest.mark.parametrize(
    ("number", "side", "verdict", "why"),
    [
        (11, "response", "altered", "content coding gzip undone"),
        (12, "request", "altered", "cut at the capture limit"),
        (13, "request", "altered", "8,996 bytes lost on the way"),
        (14, "request", "altered", "masked or redacted"),
        (15, "request", "no digest", "none was recorded"),
        (15, "response", "empty", None),
        (16, "request", "running", "not ended"),
    ],
)
def test_why_it_has_not(database: Path, number: int, side: str, verdict: str, why: str | None) -> None:
    told = json.loads(run(database, f"{recorded.BOOT}-{number}", "--json").stdout)
    found = told["exchanges"][0][side]
    assert found["verdict"] == verdict and (found["why"] is None if why is None else why in found["why"])


def test_all_of_it(database: Path) -> None:
    told = json.loads(run(database, "--json").stdout)
    assert len(told["exchanges"]) == 10 and told["damaged"] == 0 and told["database"] == {"ok": True, "troubles": []}
    assert run(database).stdout.startswith("10 exchanges, two bodies each (4 altered")
    assert "Database: ok." in run(database).stdout
    assert len(json.loads(run(database, "--json", "--until", "2020-01-06T09:31:00+00:00").stdout)["exchanges"]) == 2
    assert "No session" in run(database, "zzz", code=1).stderr


def write(database: Path, sql: str, *values: object) -> None:
    with sqlite3.connect(database) as raw:
        raw.execute(sql, values)
    raw.close()


def test_a_damaged_pack_is_found(database: Path) -> None:
    write(database, "UPDATE packs SET data = substr(data, 1, 50) WHERE exchange = 2")
    result = run(database, code=1)
    assert "4 damaged" in result.stdout  # the third goes on from the second
    assert sum("\tdamaged\t" in line for line in result.stdout.splitlines()) == 4
    run(database, "b")


def test_a_changed_body_is_found(database: Path, tmp_path: Path) -> None:
    one = recorded.exchange(1, request_body=b'{"a":1}', request_sha256=digest(b'{"a":2}'))
    path = recorded.write(tmp_path / "other.db", [one])
    told = json.loads(run(path, "--json", code=1).stdout)
    assert told["damaged"] == 1 and "another digest" in told["exchanges"][0]["request"]["why"]


def test_a_damaged_database_is_found(database: Path) -> None:
    raw = bytearray(database.read_bytes())
    with sqlite3.connect(database) as db:
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'attempts'").fetchone()[0]
        size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    raw[(page - 1) * size + 100 : page * size] = b"\x55" * (size - 100)
    database.write_bytes(raw)
    result = run(database, code=1)
    assert "lunaroute: " in result.stderr and "Traceback" not in result.stderr


def test_hostile_records(tmp_path: Path) -> None:
    path = hostile_database(tmp_path / "db")
    assert not ACTING.search(run(path).stdout.replace("\n", ""))
    assert not ACTING.search(run(path, "hostile-1").stdout.replace("\n", ""))
