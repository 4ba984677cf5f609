"""Recording into log files alone: what the commands say, what works, what is not made behind one's back."""

from __future__ import annotations

import json

import zstandard

from tests.conftest import Serve
from tests.fakes import Upstream
from tests.running import Running
from tests.test_record import answers, ask, turn, user
from tests.test_record_corners import reply


def sequences(luna: Running) -> list[int]:
    lines = [line for line in luna.jsonl() if line["type"] == "response"]
    return [line["sequence"] for line in lines]


def test_without_a_database(serve: Serve) -> None:
    with Upstream(answers(reply("one"), reply("two"))) as upstream:
        luna = serve(upstream, {"session_recording": {"sqlite": {"enabled": False}}})
        with_config = ("--config", str(luna.file))
        ask(luna, turn(user("where is the quokka")), **{"x-lunaroute-session": "only"})
        assert luna.stop() == 0
        luna.start()
        ask(luna, turn(user("and the numbat")), **{"x-lunaroute-session": "only"})
        assert luna.stop() == 0
    assert sequences(luna) == [1, 2]
    (file,) = luna.session_files()
    for command in (("sessions", "list"), ("sessions", "show", "only"), ("sessions", "search", "x"), ("stats",),
                    ("sessions", "delete", "only", "--yes"), ("verify",)):  # fmt: skip
        done = luna.lunaroute(*command, *with_config)
        assert done.returncode == 1, (command, done)
        assert "the database is off" in done.stderr and "Nothing has been" not in done.stderr, (command, done)
        assert str(luna.data / "sessions") in done.stderr
    pruned = luna.lunaroute("prune", "--older-than", "1", "--json", *with_config)
    assert (pruned.returncode, json.loads(pruned.stdout)["files"]) == (0, 0), pruned
    assert not list(luna.data.glob("sessions.db*"))

    shown = luna.lunaroute("sessions", "show", str(file), *with_config)
    assert "where is the quokka" in shown.stdout and "two" in shown.stdout, shown
    packed = file.with_name(file.name + ".zst")
    packed.write_bytes(zstandard.compress(file.read_bytes()))
    file.unlink()
    assert luna.lunaroute("sessions", "show", str(packed), *with_config).stdout == shown.stdout
    assert not list(luna.data.glob("sessions.db*"))
