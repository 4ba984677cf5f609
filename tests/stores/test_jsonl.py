"""The JSONL store: lines as they grow, torn ends, retention, modes, faults."""

from __future__ import annotations

import base64
import errno
import itertools
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunaroute.errors import StoreError
from lunaroute.records import Closed, Exchange, State
from lunaroute.stores import jsonl, lines, reading
from lunaroute.stores.jsonl import JsonlStore
from lunaroute.stores.upkeep import Keep
from tests.stores.records import BOOT, START_NS, exchange, opened

DAY = time.strftime("%Y-%m-%d", time.localtime(START_NS // 10**9))


class Made:
    """A store with what it warned of."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.warnings: list[str] = []
        self.folder = folder
        self.store = JsonlStore(folder, warn=self.warnings.append, **more)
        self.store.open()

    def path(self, session: str = "sess-1") -> Path:
        return self.folder / DAY / f"session_{session}.jsonl"

    def lines(self, session: str = "sess-1") -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path(session).read_bytes().split(b"\n")[:-1]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path / "sessions")
    yield made
    made.store.close()


def test_a_line_when_it_is_asked_and_a_line_when_it_is_answered(made: Made) -> None:
    made.store.write([opened(1)])
    assert not made.path().exists()
    made.store.write([exchange(1, None)])
    assert [(line["seq"], line["type"]) for line in made.lines()] == [(1, "session"), (2, "request")]
    made.store.write([exchange(1)])
    session, asked, answered = made.lines()
    assert (session["id"], session["signal"], session["v"]) == ("sess-1", "thread-id", 1)
    assert (asked["id"], asked["body_form"], asked["body"]) == (f"{BOOT}-1", "json", {"model": "claude-opus-5-5"})
    assert asked["headers"] == [["Host", "x"], ["x-api-key", "***"]]
    assert (answered["seq"], answered["state"], answered["status"]) == (3, "ok", 200)
    assert answered["usage"] == {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_tokens": 3,
        "service_tier": "standard",
    }
    assert (answered["body_form"], answered["body"]) == ("text", "event: message_stop\ndata: {}\n\n")


def test_given_again_writes_nothing(made: Made) -> None:
    for _ in range(3):
        made.store.write([exchange(1)])
    assert [line["type"] for line in made.lines()] == ["session", "request", "response"]


def test_a_request_that_grew_is_told_again(made: Made) -> None:
    made.store.write([exchange(1, None, request_body=b'{"a"')])
    made.store.write([exchange(1, None, request_body=b'{"a":1}')])
    assert [line.get("body") for line in made.lines()[1:]] == ['{"a"', {"a": 1}]


BODIES: list[tuple[str, bytes, str, bytes]] = [
    ("object", b'{"a": 1,"a":2, "n": 1e999}', "json", b'{"a": 1,"a":2, "n": 1e999}'),
    ("array", b"[1]", "json", b"[1]"),
    ("pretty", b'{\n "a": 1\r\n}\n', "json_reflowed", b'{  "a": 1  } '),
    ("number", b"17", "text", b'"17"'),
    ("broken", b'{"a":', "text", b'"{\\"a\\":"'),
    ("trailing", b'{"a":1} x', "text", b'"{\\"a\\":1} x"'),
    ("deep", b"[" * 5000 + b"]" * 5000, "text", b'"' + b"[" * 5000 + b"]" * 5000 + b'"'),
    ("nul", b"a\0b", "text", b'"a\\u0000b"'),
    ("separators", "a\u2028b\x85c".encode(), "text", '"a\u2028b\x85c"'.encode()),
    ("bytes", b"\xff\x00", "base64", b'"' + base64.b64encode(b"\xff\x00") + b'"'),
    ("latin-1 in json", b'{"a":"\xe9"}', "base64", b'"' + base64.b64encode(b'{"a":"\xe9"}') + b'"'),
    ("surrogate", b'{"a":"\\ud800"}', "text", b'"{\\"a\\":\\"\\\\ud800\\"}"'),
]


@pytest.mark.parametrize(("body", "form", "written"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_bodies(body: bytes, form: str, written: bytes) -> None:
    assert lines.body_of(body) == (form, written)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_body_is_one_line_and_comes_back(body: bytes) -> None:
    line = lines.request_line(1, exchange(1, request_body=body))
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    value = json.loads(line)
    form = value.get("body_form")
    if form == "text":
        assert value["body"].encode() == body
    elif form == "base64":
        assert base64.b64decode(value["body"]) == body
    elif form is None:
        assert body == b""


def test_jq_and_grep_while_it_runs(made: Made) -> None:
    """What the README promises: the path, `jq` on every line, `grep -r` for a word in a body."""
    made.store.write([exchange(1, None, request_body=b'{"messages":[{"content":"TypeError: x"}]}')])
    found = subprocess.run(["grep", "-rl", "TypeError", str(made.folder)], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(made.path())]
    if shutil.which("jq"):
        shown = subprocess.run(["jq", "-r", ".type", str(made.path())], capture_output=True, text=True, check=True)
        assert shown.stdout.split() == ["session", "request"]


# --- paths ------------------------------------------------------------------------------------------
def test_the_path_stays_where_the_session_began(tmp_path: Path) -> None:
    first = Made(tmp_path / "sessions")
    first.store.write([exchange(1)])
    first.store.close()
    later = Made(tmp_path / "sessions")
    two_days = 2 * 86400 * 10**9
    later.store.write([exchange(2, started_ns=START_NS + two_days)])
    assert [line["seq"] for line in later.lines()] == [1, 2, 3, 4, 5]
    assert later.store.locate("sess-1", START_NS + two_days) == str(later.path())
    assert [p.name for p in later.folder.iterdir()] == [DAY]
    later.store.close()


def test_many_sessions_need_few_descriptors(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.stores.jsonl.MAX_FILES", 4)
    for number in range(20):
        made.store.write([exchange(number, session_id=f"s{number}")])
    assert len(made.store._files) == 4
    made.store.write([exchange(100, session_id="s0")])
    assert [line["seq"] for line in made.lines("s0")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["000", "077"])
def test_modes(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = Made(tmp_path / "a" / "sessions")
        made.store.write([exchange(1)])
        made.store.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.path().stat().st_mode) == 0o600
    for folder in (made.path().parent, made.folder, made.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_symbolic_link_is_refused(made: Made, tmp_path: Path) -> None:
    made.path().parent.mkdir(mode=0o700)
    made.path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        made.store.write([exchange(1)])
    assert not (tmp_path / "elsewhere").exists()


# --- torn ends --------------------------------------------------------------------------------------
WHOLE = b'{"v":1,"seq":7,"type":"request","id":"x"}\n'
TORN: list[tuple[str, bytes, bytes, int]] = [
    ("empty", b"", b"", 0),
    ("whole", WHOLE, WHOLE, 7),
    ("torn", WHOLE + b'{"v":1,"seq":8,"ty', WHOLE, 7),
    ("torn-utf8", WHOLE + '{"v":1,"x":"é'.encode()[:-1], WHOLE, 7),
    ("nuls", WHOLE + bytes(100), WHOLE, 7),
    ("no-line-end", WHOLE + WHOLE[:-1].replace(b"7", b"8"), WHOLE + WHOLE.replace(b"7", b"8"), 8),
    ("only-torn", b'{"v":1,"se', b"", 0),
    ("long-torn", WHOLE + b'{"x":"' + b"y" * 200_000, WHOLE, 7),
    (
        "long-whole",
        WHOLE[:-2] + b',"x":"' + b"y" * 200_000 + b'"}\n',
        WHOLE[:-2] + b',"x":"' + b"y" * 200_000 + b'"}\n',
        7,
    ),
    ("foreign-lines", b"one\ntwo\n", b"one\ntwo\n", 2),
]


@pytest.mark.parametrize(("found", "left", "seq"), [t[1:] for t in TORN], ids=[t[0] for t in TORN])
def test_repair(tmp_path: Path, found: bytes, left: bytes, seq: int) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(found)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        size = lines.repair(fd)
        assert (path.read_bytes(), size) == (left, len(left))
        assert lines.last_seq(fd, size) == seq
    finally:
        os.close(fd)


def test_every_cut_of_a_file_is_repaired_and_goes_on(tmp_path: Path) -> None:
    one = Made(tmp_path / "a")
    one.store.write([exchange(1), exchange(2)])
    one.store.close()
    whole = one.path().read_bytes()
    for cut in range(0, len(whole), 37):
        one.path().write_bytes(whole[:cut])
        again = Made(tmp_path / "a")
        again.store.write([exchange(3)])
        again.store.close()
        assert [line["seq"] for line in again.lines()] == list(range(1, len(again.lines()) + 1)), cut


def test_a_restarted_observer_does_not_tell_twice(tmp_path: Path) -> None:
    one = Made(tmp_path / "a")
    one.store.write([exchange(1), exchange(2, None, request_body=b"x" * 200_000), exchange(3, None)])
    one.store.close()
    again = Made(tmp_path / "a", replayed=True)
    again.store.write([exchange(1), exchange(2), exchange(3)])
    again.store.close()
    told = [(line["type"], line["id"][-1]) for line in again.lines()[1:]]
    assert told == [
        ("request", "1"),
        ("response", "1"),
        ("request", "2"),
        ("request", "3"),
        ("response", "2"),
        ("response", "3"),
    ]


def test_the_end_of_a_lost_exchange(made: Made) -> None:
    made.store.write([exchange(1, None)])
    made.store.write([Closed(id=f"{BOOT}-1", session_id="sess-1", state=State.TIMEOUT, error="why")] * 2)
    assert [line["type"] for line in made.lines()] == ["session", "request", "response"]
    assert made.lines()[-1]["state"] == "timeout"


# --- faults -----------------------------------------------------------------------------------------
def test_a_short_write_leaves_the_file_as_it_was(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, as it was measured: part of the line is written, the next write says ENOSPC."""
    made.store.write([exchange(1)])
    before = made.path().read_bytes()
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        with pytest.raises(StoreError, match="No space left"):
            made.store.write([exchange(2)])
    assert made.path().read_bytes() == before
    made.store.write([exchange(2)])
    assert [line["seq"] for line in made.lines()] == [1, 2, 3, 4, 5]


def test_an_error_between_two_exchanges_is_made_up_for(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    calls = iter([True, False])

    def failing(fd: int, data: bytes) -> int:
        if next(calls):
            return real(fd, data)
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(StoreError):
            made.store.write([exchange(1), exchange(2, session_id="sess-2")])
    made.store.write([exchange(1), exchange(2, session_id="sess-2")])
    for session in ("sess-1", "sess-2"):
        assert [line["type"] for line in made.lines(session)] == ["session", "request", "response"]


def test_a_file_removed_while_in_use_is_begun_anew(made: Made) -> None:
    made.store.write([exchange(1)])
    made.path().unlink()
    made.store.write([exchange(2)])
    assert [line["seq"] for line in made.lines()] == [1, 2, 3]
    assert len(made.warnings) == 1


def test_a_file_truncated_by_others_is_appended_to(made: Made) -> None:
    made.store.write([exchange(1)])
    os.truncate(made.path(), 0)
    made.store.write([exchange(2)])
    assert [line["type"] for line in made.lines()] == ["request", "response"]


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file"):
        JsonlStore(tmp_path / "file", warn=print).open()


# --- retention --------------------------------------------------------------------------------------
NOW = 1_800_000_000.0


def old_file(folder: Path, day: str, name: str, age_days: float, size: int) -> Path:
    path = folder / day / f"session_{name}.jsonl"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age_days * 86400,) * 2)
    return path


def test_old_files_go_and_empty_days_with_them(tmp_path: Path) -> None:
    made = Made(tmp_path / "s", max_age_days=30)
    gone = old_file(made.folder, "2026-10-01", "a", 31, 10)
    kept = old_file(made.folder, "2026-11-01", "b", 29, 10)
    made.store.tend(NOW)
    assert not gone.exists() and not gone.parent.exists()
    assert kept.exists()
    assert made.store.size() == 10


def test_size_takes_the_oldest_first(tmp_path: Path) -> None:
    made = Made(tmp_path / "s", max_size_mb=1)
    files = [old_file(made.folder, f"2026-11-0{n}", str(n), 10 - n, 400_000) for n in range(1, 6)]
    made.store.tend(NOW)
    assert [f.exists() for f in files] == [False, False, False, True, True]
    assert made.store.removed == 3


def test_both_limits_together_and_none(tmp_path: Path) -> None:
    made = Made(tmp_path / "s", max_age_days=5, max_size_mb=1)
    files = [old_file(made.folder, "2026-11-01", str(n), 9 - n, 300_000) for n in range(8)]
    made.store.tend(NOW)
    assert [f.exists() for f in files] == [False] * 5 + [True] * 3
    free = Made(tmp_path / "t")
    kept = old_file(free.folder, "2020-01-01", "x", 3000, 10)
    free.store.tend(NOW)
    assert kept.exists()


def test_what_is_in_use_or_not_ours_stays(tmp_path: Path) -> None:
    made = Made(tmp_path / "s", max_age_days=1)
    made.store.write([exchange(1)])
    os.utime(made.path(), (0, 0))
    notes = made.folder / DAY / "notes.txt"
    notes.write_text("mine")
    os.utime(notes, (0, 0))
    other = made.folder / "exports"
    other.mkdir()
    made.store.tend(NOW)
    assert made.path().exists() and notes.exists() and other.exists()
    made.store.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_both_kinds_are_retained_alike(tmp_path: Path) -> None:
    """By age and by size, oldest first, whether compressed or not; sizes are those on the disk."""
    made = Made(tmp_path / "s", max_age_days=30, max_size_mb=1)
    files = [old_file(made.folder, "2026-11-01", str(n), age, 300_000) for n, age in enumerate((40, 31, 9, 8, 7, 6, 5))]
    for path in files[1::2]:
        path.rename(path.with_name(path.name + ".zst"))
    made.store.tend(NOW)
    assert names(made.folder) == ["session_4.jsonl", "session_5.jsonl.zst", "session_6.jsonl"]
    assert made.store.size() == 900_000 and not made.store.overfull


def test_what_is_written_between_two_upkeeps_can_ask_for_one(tmp_path: Path) -> None:
    clock = iter(float(n) * 1000 for n in range(100))
    made = Made(tmp_path / "s", max_size_mb=1, clock=lambda: next(clock))
    made.store.tend(NOW)
    for number in range(4):
        assert not made.store.overfull
        made.store.write([exchange(number, session_id=f"s{number}", request_body=os.urandom(220_000))])
    assert made.store.overfull
    made.store.tend(NOW)
    assert not made.store.overfull
    assert 0 < made.store.size() == sum(path.stat().st_size for path in made.folder.rglob("*.jsonl")) <= 1 << 20
    made.store.close()


def test_a_file_with_a_running_exchange_is_not_closed_while_it_is_idle(tmp_path: Path) -> None:
    now = [0.0]
    made = Made(tmp_path / "s", max_age_days=1, clock=lambda: now[0])
    made.store.write([exchange(1), exchange(2, None, session_id="running")])
    for session in ("sess-1", "running"):
        os.utime(made.path(session), (0, 0))
    now[0] = jsonl.IDLE_S + 1
    made.store.tend(NOW)
    assert names(made.folder) == ["session_running.jsonl"]
    now[0] = 90_000.0
    made.store.tend(NOW)
    assert names(made.folder) == []


def test_when_asked_to_prune_files_go_that_rest_for_seconds(tmp_path: Path) -> None:
    now = [0.0]
    made = Made(tmp_path / "s", max_size_mb=1, clock=lambda: now[0])
    for number in range(1, 5):
        body = b'{"n":"' + b"x" * 400_000 + b'"}'
        made.store.write([exchange(number, session_id=f"sess-{number}", request_body=body)])
        os.utime(made.path(f"sess-{number}"), (number, number))
    made.store.write([exchange(5, None, session_id="sess-1")])
    os.utime(made.path("sess-1"), (1, 1))
    now[0] = jsonl.IDLE_PRUNED_S + 1
    made.store.tend(NOW)
    assert len(names(made.folder)) == 4, "by itself upkeep leaves them alone for longer"
    made.store.write([exchange(6, session_id="sess-4")])
    for _ in made.store.tend_steps(NOW, Keep(None, 300_000)):
        pass
    # one has a running exchange, one was just written to
    assert names(made.folder) == ["session_sess-1.jsonl", "session_sess-4.jsonl"]


def test_a_closed_file_remembers_what_it_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lunaroute.stores.jsonl.MAX_FILES", 1)
    made.store.write([exchange(1, None), exchange(2, session_id="other"), exchange(1), exchange(2, session_id="other")])
    assert [line["type"] for line in made.lines()] == ["session", "request", "response"]
    assert [line["type"] for line in made.lines("other")] == ["session", "request", "response"]


def test_what_cannot_be_removed_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path / "s", max_age_days=1)
    stuck, other = (old_file(made.folder, f"2026-11-0{n}", str(n), 10 - n, 10) for n in (1, 2))
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(StoreError, match=r"cannot remove .*session_1"):
        made.store.tend(NOW)
    assert stuck.exists() and not other.exists()
    assert made.store.size() == 10


# --- compression ------------------------------------------------------------------------------------
def resent(turns: int) -> list[Exchange]:
    """A conversation that sends all that was said with each request."""
    said = [os.urandom(500).hex() for _ in range(turns)]
    return [
        exchange(n, request_body=json.dumps({"messages": said[:n]}).encode(), started_ns=START_NS)
        for n in range(1, turns)
    ]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many steps for a small file."""
    monkeypatch.setattr("lunaroute.stores.packing.PIECE", 4096)
    monkeypatch.setattr("lunaroute.stores.packing._UNSYNCED", 8192)


def resting(tmp_path: Path, records: list[Exchange], **more: Any) -> tuple[Made, bytes]:
    """A store over a folder with one file that has not been touched since."""
    made = Made(tmp_path / "s")
    made.store.write(records)
    made.store.close()
    os.utime(made.path(), (START_NS / 1e9,) * 2)
    content = made.path().read_bytes()
    return Made(tmp_path / "s", compress_after_days=3, **more), content


def test_a_resting_file_is_compressed_and_read_as_before(tmp_path: Path) -> None:
    made, content = resting(tmp_path, resent(60))
    before = os.stat(made.path())
    made.store.tend(START_NS / 1e9 + 2 * 86400)
    assert made.path().exists()
    made.store.tend(NOW)
    small = reading.packed(made.path())
    assert names(made.folder) == [small.name]
    after = os.stat(small)
    assert (after.st_mtime_ns, stat.S_IMODE(after.st_mode)) == (before.st_mtime_ns, 0o600)
    assert after.st_size == made.store.size() < len(content) / 15, "what was resent is there once"
    shown = subprocess.run(["zstd", "-dc", small], capture_output=True, check=True)
    assert shown.stdout == content
    assert len([line for line in reading.read(made.path()) if isinstance(line, reading.Line)]) == 119
    made.store.tend(NOW)
    assert small.read_bytes() and names(made.folder) == [small.name]


def test_a_session_that_goes_on_has_its_file_again(tmp_path: Path) -> None:
    made, content = resting(tmp_path, [exchange(1), exchange(2)])
    made.store.tend(NOW)
    assert made.store.locate("sess-1", time.time_ns()) == str(made.path())
    made.store.write([exchange(3)])
    assert names(made.folder) == [made.path().name]
    assert made.path().read_bytes().startswith(content)
    assert [line["seq"] for line in made.lines()] == list(range(1, 8))
    assert made.store.size() == made.path().stat().st_size
    made.store.tend(NOW)
    assert names(made.folder) == [made.path().name], "it is in use"
    made.store.close()


def test_a_damaged_compressed_file_is_set_aside(tmp_path: Path) -> None:
    made, _ = resting(tmp_path, [exchange(1)])
    made.store.tend(NOW)
    small = reading.packed(made.path())
    small.write_bytes(small.read_bytes()[:-20])
    made.store.write([exchange(2)])
    assert [line["seq"] for line in made.lines()] == [1, 2, 3]
    assert names(made.folder) == [made.path().name, small.name + ".damaged"]
    assert len(made.warnings) == 1
    made.store.close()


@pytest.mark.parametrize("goes_on", [False, True], ids=["then upkeep", "then the session"])
def test_killed_at_any_step(tmp_path: Path, small_pieces: None, goes_on: bool) -> None:
    """One whole copy at any moment, and no second one after the next upkeep."""
    step = 0
    done = False
    held = []  # a killed process tidies nothing up: the iterators are left where they are
    while not done:
        step += 1
        folder = tmp_path / f"{goes_on}-{step}"
        folder.mkdir()
        made, content = resting(folder, resent(15))
        steps = made.store.tend_steps(NOW)
        held.append((made, steps))
        done = sum(1 for _ in itertools.islice(steps, step)) < step
        found = list(reading.numbered(reading.found(made.path())))
        assert b"".join(each[1] + b"\n" for each in found if isinstance(each, tuple)) == content, step
        again = Made(folder / "s", compress_after_days=3)
        if goes_on:
            again.store.write([exchange(999)])
            assert [line["seq"] for line in again.lines()] == list(range(1, 32))
            assert [name for name in names(again.folder) if name.endswith(".jsonl")] == [made.path().name]
        again.store.tend(NOW)
        assert names(again.folder) == [made.path().name if goes_on else made.path().name + ".zst"], step
        assert again.store.size() == sum(path.stat().st_size for path in again.folder.rglob("session_*"))
        again.store.close()
    assert step > 20, "the file was compressed in pieces"


def test_a_session_that_goes_on_in_the_middle(tmp_path: Path, small_pieces: None) -> None:
    """The same process writes between any two steps: nothing is lost, and the file stays plain."""
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        made, content = resting(folder, resent(15))
        steps = made.store.tend_steps(NOW)
        done = sum(1 for _ in itertools.islice(steps, step)) < step
        made.store.write([exchange(999)])
        for _ in steps:
            made.store.write([exchange(999)])
        assert names(made.folder) == [made.path().name], step
        assert made.path().read_bytes().startswith(content)
        assert [line["seq"] for line in made.lines()] == list(range(1, 32))
        assert made.warnings == []
        made.store.close()
        if done:
            return


def test_upkeep_begun_anew_gives_up_the_last(tmp_path: Path, small_pieces: None) -> None:
    made, _ = resting(tmp_path, resent(20))
    first = made.store.tend_steps(NOW)
    for _ in range(6):
        next(first)
    assert any(name.endswith(".part") for name in names(made.folder))
    made.store.tend(NOW)
    assert names(made.folder) == [made.path().name + ".zst"]
    assert list(first) == []


def test_closing_leaves_no_temporary_file(tmp_path: Path, small_pieces: None) -> None:
    made, content = resting(tmp_path, resent(20))
    steps = made.store.tend_steps(NOW)
    for _ in range(6):
        next(steps)
    made.store.close()
    assert names(made.folder) == [made.path().name]
    assert made.path().read_bytes() == content


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_disk_that_takes_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    made, content = resting(tmp_path, resent(20))

    def failing(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(StoreError, match="cannot compress"):
            made.store.tend(NOW)
    assert names(made.folder) == [made.path().name]
    assert made.path().read_bytes() == content
    made.store.tend(NOW)
    small = reading.packed(made.path())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(StoreError, match="cannot unpack"):
            made.store.write([exchange(999)])
    assert names(made.folder) == [small.name]
    made.store.write([exchange(999)])
    assert made.path().read_bytes().startswith(content)
    made.store.close()


def test_compression_makes_room_before_anything_is_removed(tmp_path: Path) -> None:
    made, content = resting(tmp_path, resent(60), max_size_mb=0.1)
    assert len(content) > 104_858
    small = old_file(made.folder, DAY, "newer", 1, 10)
    made.store.tend(NOW)
    assert names(made.folder) == [small.name, made.path().name + ".zst"]
    assert made.store.size() <= 104_857


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    made, _ = resting(tmp_path, [exchange(1)])
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    part = made.path().with_name(made.path().name + ".zst.part")
    part.symlink_to(outside)
    made.store.tend(NOW)
    assert outside.read_bytes() == b"x"
    assert names(made.folder) == [made.path().name + ".zst"]


def test_a_removed_session_can_come_back(tmp_path: Path) -> None:
    made = Made(tmp_path / "s", max_age_days=1)
    made.store.write([exchange(1)])
    made.store.close()
    os.utime(made.path(), (0, 0))
    made.store.tend(NOW)
    made.store.write([exchange(2)])
    assert [line["seq"] for line in made.lines()] == [1, 2, 3]
    made.store.close()
