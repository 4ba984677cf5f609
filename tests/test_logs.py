"""The log: one JSON object a line, nothing that forges a line, no credential, bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lunaroute import logs


@pytest.fixture
def sink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "log"
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    fresh = logs._Sink()
    fresh.fd = fd
    monkeypatch.setattr(logs, "_sink", fresh)
    yield file
    os.close(fd)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_one_object_a_line(sink: Path) -> None:
    logs.get("server").info(
        "ready", port=8081, host="127.0.0.1", ui=None, ok=True, ms=1.5, path=Path("/a"), more=[1, "x"]
    )
    (line,) = lines(sink)
    assert line.pop("time").endswith("Z")
    assert line.pop("pid") == os.getpid()
    assert line == {
        "level": "info",
        "from": "server",
        "message": "ready",
        "port": 8081,
        "host": "127.0.0.1",
        "ui": None,
        "ok": True,
        "ms": 1.5,
        "path": "/a",
        "more": [1, "x"],
    }


@pytest.mark.parametrize("level", logs.LEVELS)
def test_the_level_decides(sink: Path, level: str) -> None:
    logs.configure(level)
    for each in logs.LEVELS:
        logs.event(each, each)
    order = list(logs.LEVELS)
    assert [line["level"] for line in lines(sink)] == order[order.index(level) :]


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[31mred", "\x7f", "\x85\x9b", "\u2028", "é", "\x00", "\ud800"])
def test_nothing_forges_a_line_or_a_terminal(sink: Path, text: str) -> None:
    logs.event("info", text, field=text, **{text: "key"})
    raw = sink.read_bytes()
    assert raw.count(b"\n") == 1 and raw.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert lines(sink)[0]["field"] == text


def test_fields_cannot_replace_the_head_of_a_line(sink: Path) -> None:
    logs.Log("x").event("info", "m", **{"time": "t", "pid": 0})
    (line,) = lines(sink)
    assert (line["time_"], line["pid_"]) == ("t", 0)
    assert line["pid"] == os.getpid()


def test_configured_credentials_are_masked(sink: Path) -> None:
    logs.configure("info", ["sk-canary-1", "sk-canary-1-longer", ""])
    logs.event("info", "key sk-canary-1-longer", a="sk-canary-1", b=["x sk-canary-1 y"], c={"k": "sk-canary-1"})
    assert "canary" not in sink.read_text()


def test_a_field_is_cut_and_objects_are_not_dumped(sink: Path) -> None:
    class Peer:
        def __repr__(self) -> str:
            return "content"

    logs.event("info", "m", long="x" * 5000, peer=Peer(), raw=b"content")
    (line,) = lines(sink)
    assert len(line["long"]) == logs.MAX_FIELD + 3
    assert (line["peer"], line["raw"]) == ("Peer", "bytes")


def test_a_log_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = logs._Sink()
    fresh.fd = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(logs, "_sink", fresh)
    logs.event("error", "no room")
    os.close(fresh.fd)
    logs.event("error", "closed")


def test_a_long_log_file_keeps_its_end(sink: Path) -> None:
    line = b"x" * 1023 + b"\n"
    sink.write_bytes(line * (11 << 10) + b"the last line\n")
    fd = os.open(sink, os.O_WRONLY | os.O_APPEND)
    logs.shorten(fd)
    os.write(fd, b"and on\n")
    os.close(fd)
    raw = sink.read_bytes()
    assert raw.endswith(line + b"the last line\nand on\n")
    assert raw.startswith(line)
    assert len(raw) <= logs.KEEP + 7


def test_a_short_one_and_a_pipe_stay(sink: Path) -> None:
    sink.write_bytes(b"short\n")
    fd = os.open(sink, os.O_WRONLY | os.O_APPEND)
    logs.shorten(fd)
    os.close(fd)
    assert sink.read_bytes() == b"short\n"
    read, write = os.pipe()
    logs.shorten(write)
    os.close(read)
    os.close(write)


def run(script: str) -> list[dict[str, Any]]:
    text = f"from lunaroute import logs\nlogs.start(None)\n{script}"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_uncaught_exception_is_a_line_without_its_text() -> None:
    (line,) = run("def f(): raise ValueError('canary')\nf()")
    assert (line["level"], line["error"]) == ("error", "ValueError")
    assert line["at"] == ["<string>:4 <module>", "<string>:3 f"]
    assert "canary" not in json.dumps(line)


def test_what_libraries_log_comes_without_its_arguments() -> None:
    found = run(
        "import logging\nlogging.getLogger('asyncio').error('bad %r from %s', b'canary', 'peer')\n"
        "logging.getLogger('lib').info('not wanted')\n"
        "try: raise OSError('canary')\nexcept OSError: logging.getLogger('lib').exception('failed')\n"
    )
    assert [(line["from"], line["level"], line["message"]) for line in found] == [
        ("asyncio", "error", "bad %r from %s"),
        ("lib", "error", "failed"),
    ]
    assert found[1]["error"] == "OSError"
    assert "canary" not in json.dumps(found)
